"""What all sessions of backfill share, and what the two ends of one have in common."""

import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

from ..buffer import FrameDecoder
from ..deadlines import Deadline, Deadlines
from ..errors import ProtocolError, SidecarError
from ..parameters.history import HistoryConfig
from ..types import PeerId
from .events import (
    CloseHistoryLink,
    HistoryBodiesLoaded,
    HistoryEffect,
    HistoryKeysFound,
    HistoryKeysLoaded,
    HistoryViolated,
    Key,
    Link,
    LoadHistoryKeys,
    ResetHistoryLink,
    SendHistoryFrame,
)
from .messages import Frame, decode, encode
from .reconcile import KeySet
from .statistics import BackfillStatistics

_FRESH = 1.0  # seconds for which a loaded set of keys serves other sessions too
_UNWANTED = 1 << 16  # keys of messages that are refused here, some 130 bytes each; a guess
_VAIN = 4  # doublings of the time in which calls of a peer count once
_MAX_VAIN = 4096  # peers of which that is remembered; a guess
_SETS = 4  # loaded sets that are kept at a time

Eligible = Callable[[PeerId], bool]
"""Whether a peer's score is good enough to be asked, and to be answered."""


class LoadedKeys:
    """The keys of a topic between two ages, as they were when they were loaded."""

    __slots__ = ("at", "keys", "newest", "oldest", "topic", "wanted")

    def __init__(self, asked: LoadHistoryKeys, loaded: HistoryKeysLoaded, now: float) -> None:
        self.topic = asked.topic
        self.newest = asked.newest
        self.wanted = asked.oldest
        self.oldest = min(loaded.oldest, asked.oldest)
        self.keys = KeySet(loaded.keys)
        self.at = now


class BackfillShared:
    """What all sessions of one node share."""

    def __init__(self, config: HistoryConfig, now: float, rng: random.Random, eligible: Eligible, max_rpc: int) -> None:
        self.config = config
        self.now = now
        self.rng = rng
        self.eligible = eligible
        self.max_rpc = max_rpc
        self.deadlines = Deadlines()
        self.effects: list[HistoryEffect] = []
        self.counts = BackfillStatistics()
        self.sessions: dict[int, Session] = {}
        self.links: dict[Link, Session] = {}
        self._charged: dict[PeerId, float] = {}
        self._number = 0
        self._loaded: list[LoadedKeys] = []
        self.unwanted: dict[Key, None] = {}
        """Messages that this node's rules or apps refuse, in the order of their coming: as good as stored."""

        self.vain: dict[PeerId, int] = {}
        """How often in a row a peer called in vain."""

    def call_over(self, peer: PeerId, *, vain: bool) -> None:
        """A peer that called was asked: whether it had something."""
        times = self.vain.pop(peer, 0)
        if vain:
            self.vain[peer] = min(times + 1, _VAIN)
            if len(self.vain) > _MAX_VAIN:
                del self.vain[next(iter(self.vain))]

    def refuse(self, keys: Sequence[Key]) -> None:
        """Remember that messages are not wanted."""
        self.unwanted.update(dict.fromkeys(keys))
        while len(self.unwanted) > _UNWANTED:
            del self.unwanted[next(iter(self.unwanted))]

    def number(self) -> int:
        """A number for a new session."""
        self._number += 1
        return self._number

    def charge(self, peer: PeerId, points: float) -> None:
        """Count work that brought nobody anything against the peer's budget."""
        self._charged[peer] = self._charged.get(peer, 0.0) + points

    def take_charges(self) -> dict[PeerId, float]:
        """What was counted since the last call."""
        charged, self._charged = self._charged, {}
        return charged

    def reset(self, link: Link) -> None:
        """End a stream at once."""
        self.effects.append(ResetHistoryLink(link))

    # ------------------------------------------------------------ sets of keys

    def keep(self, loaded: LoadedKeys) -> None:
        """Keep a set for sessions that begin within a moment."""
        self._loaded = [*self._loaded[1 - _SETS :], loaded]
        self.deadlines.at(self.now + _FRESH, lambda now: self._drop(loaded))

    def _drop(self, loaded: LoadedKeys) -> None:
        self._loaded = [each for each in self._loaded if each is not loaded]

    def kept(self, topic: str, newest: float, oldest: float) -> LoadedKeys | None:
        """A set that was loaded a moment ago."""
        for each in self._loaded:
            if (each.topic, each.newest, each.wanted) == (topic, newest, oldest):
                return each
        return None

    def changed(self, topic: str) -> None:
        """The topic has more than what was loaded."""
        self._loaded = [each for each in self._loaded if each.topic != topic]


class Session(ABC):
    """One end of a session. It is in the tables of `BackfillShared` until `end`."""

    def __init__(self, shared: BackfillShared, peer: PeerId, max_frame: int, patience: float, most: float) -> None:
        """`patience`: for each frame of the other side, and for the disk. `most`: for the whole session; seconds."""
        self.peer = peer
        self.number = shared.number()
        self.over = False
        self._shared = shared
        self._link: Link | None = None
        self._decoder = FrameDecoder(max_frame)
        self._patience = patience
        self._last = shared.now + most
        self._watch: Deadline | None = None
        self._loading: LoadHistoryKeys | None = None
        shared.sessions[self.number] = self
        self._expect()

    # ------------------------------------------------------------ the link

    def attach(self, link: Link) -> None:
        """It has a stream now."""
        self._link = link
        self._shared.links[link] = self

    def receive(self, data: bytes) -> None:
        """Take bytes of the other side."""
        frames, error = self._decoder.cut(data)
        try:
            for body in frames:
                if self.over or self._link is None:
                    return
                self._expect()
                self._on_frame(decode(body))
        except ProtocolError as violation:
            error = violation
        if error is not None and not self.over:
            self.violated(error)

    def link_closed(self) -> None:
        """The stream has ended."""
        self._detach()
        if not self.over:
            self._on_link_closed()

    def violated(self, error: SidecarError) -> None:
        """End since the peer broke the protocol."""
        self._shared.effects.append(HistoryViolated(self.peer, self._link, error))
        self._detach()
        self._on_violated()
        self.end()

    def _send(self, frame: Frame) -> None:
        if self._link is not None:
            self._shared.effects.append(SendHistoryFrame(self._link, encode(frame)))

    def close_link(self) -> None:
        """End the stream in order."""
        if self._link is not None:
            self._shared.effects.append(CloseHistoryLink(self._link))
            self._detach()

    def reset_link(self) -> None:
        """End the stream at once."""
        if self._link is not None:
            self._shared.effects.append(ResetHistoryLink(self._link))
            self._detach()

    def _detach(self) -> None:
        if self._link is not None:
            self._shared.links.pop(self._link, None)
            self._link = None

    def end(self) -> None:
        """The session is no more; a stream that it still has is reset."""
        if self.over:
            return
        self.over = True
        self.reset_link()
        if self._watch is not None:
            self._watch.cancel()
        self._shared.sessions.pop(self.number, None)
        self._on_end()

    # ------------------------------------------------------------ time

    def _expect(self, share: float = 1.0) -> None:
        """The other side, or the disk, has its time again, or a part of it."""
        if self._watch is not None:
            self._watch.cancel()
        due = min(self._shared.now + self._patience * share, self._last)
        self._watch = self._shared.deadlines.at(due, self._overdue)

    def _overdue(self, now: float) -> None:
        if not self.over:
            self._on_overdue()

    # ------------------------------------------------------------ the store

    def _load_keys(self, topic: str, newest: float, oldest: float) -> None:
        """Have the keys loaded, unless they were a moment ago; `_on_keys` gets them."""
        kept = self._shared.kept(topic, newest, oldest)
        if kept is not None:
            self._on_keys(kept)
            return
        self._loading = LoadHistoryKeys(self.number, topic, newest, oldest, self._shared.config.max_keys)
        self._shared.effects.append(self._loading)

    def keys_loaded(self, loaded: HistoryKeysLoaded) -> None:
        """The store answers."""
        asked, self._loading = self._loading, None
        if asked is None:
            return
        self._expect()
        if loaded.failed:
            self._on_disk_failed()
            return
        keys = LoadedKeys(asked, loaded, self._shared.now)
        self._shared.keep(keys)
        self._on_keys(keys)

    # ------------------------------------------------------------ for the two ends

    @abstractmethod
    def _on_frame(self, frame: Frame) -> None:
        """Serve a frame. Raises ProtocolError."""

    @abstractmethod
    def _on_keys(self, loaded: LoadedKeys) -> None:
        """The keys are there."""

    @abstractmethod
    def keys_found(self, found: HistoryKeysFound) -> None:
        """The store answers."""

    @abstractmethod
    def bodies_loaded(self, loaded: HistoryBodiesLoaded) -> None:
        """The store answers."""

    @abstractmethod
    def _on_disk_failed(self) -> None:
        """The disk refuses."""

    @abstractmethod
    def _on_link_closed(self) -> None:
        """The stream has ended before the session has."""

    @abstractmethod
    def _on_violated(self) -> None:
        """The peer broke the protocol; `end` follows."""

    @abstractmethod
    def _on_overdue(self) -> None:
        """Nothing came for too long, or all took too long."""

    @abstractmethod
    def _on_end(self) -> None:
        """It is over, whatever the reason."""


def milliseconds(seconds: float) -> int:
    """An age as it travels."""
    return max(0, round(seconds * 1000))
