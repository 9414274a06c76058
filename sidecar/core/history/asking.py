"""What this node asks of a peer: which messages it lacks, and then these."""

import enum
from collections.abc import Callable
from itertools import islice

from ..classes import NamedTuple
from ..errors import ProtocolError, SidecarError
from ..parameters.history import MAX_KEYS_TOLD
from ..types import PeerId
from . import reconcile
from .events import (
    BringHistory,
    BroughtJudged,
    FindHistoryKeys,
    HistoryBodiesLoaded,
    HistoryKeysFound,
    Key,
    Link,
    OpenHistoryLink,
)
from .messages import Bodies, Done, Frame, Nudge, Open, Opened, Reason, Reconcile, SessionRefused, TravellingBody, Want
from .shared import BackfillShared, LoadedKeys, Session, milliseconds

_UNJUDGED = 4  # windows of bodies that gossip may have before more are asked for: apps may take their time
_FRAME_MORE = 4096  # bytes that a frame has beside the largest message
_MAX_MORE = 1 << 20  # and its length, where the largest message is smaller
_MAX_SKIPPED = 65 << 20  # bytes of a frame that is passed over: others may take larger messages than this node
_WITNESS = 16  # who lacks more than one in so many messages has not been there: that it lacks none of them says nothing


class End(enum.Enum):
    """What came of a session; the values are those of the statistics."""

    AGREED = "agreed"  # the peer has nothing that this node lacks
    BROUGHT = "brought"  # it had, and has sent all of it
    PARTIAL = "partial"  # some is still missing: the time was over, or the peer did not send what it had said
    REFUSED = "refused"
    FAILED = "failed"  # no stream, too slow, or the disk refuses
    VIOLATED = "violated"


class SessionOutcome(NamedTuple):
    """How a session ended. `oldest`: the age at its begin back to which it compared; `retry_after`: seconds."""

    end: End
    peer: PeerId
    began: float
    newest: float
    oldest: float
    more: bool = False  # the peer may have older messages
    witness: bool = True  # its set tells something
    brought: int = 0
    idle: bool = False  # it took its time and brought nothing
    retry_after: float = 0.0
    stranger: bool = False  # the topic has no history there


class _Stage(enum.Enum):
    """What the session waits for; the disk beside."""

    LINK = enum.auto()
    KEYS = enum.auto()  # of this node
    OPENED = enum.auto()
    KEYS_AGAIN = enum.auto()  # as far as both sides go back
    COMPARING = enum.auto()
    FINDING = enum.auto()  # which of the differences came meanwhile
    BODIES = enum.auto()
    HELD = enum.auto()  # until gossip has judged what was brought
    CLOSING = enum.auto()  # the same, at the end


Over = Callable[[SessionOutcome], None]
Bring = Callable[["AskingSession", BringHistory], None]


class AskingSession(Session):
    """The asking end. `over` is told how it ended, once."""

    def __init__(
        self, shared: BackfillShared, peer: PeerId, topic: str, newest: float, bring: Bring, over: Over
    ) -> None:
        """`newest`: the age from which on it compares, seconds; what is younger is let be."""
        config = shared.config
        super().__init__(
            shared, peer, max(shared.max_rpc, _MAX_MORE) + _FRAME_MORE, config.patience, 2 * config.session
        )
        self._decoder.max_skipped = _MAX_SKIPPED
        self.topic = topic
        self.began = shared.now
        self.brought = 0
        self._bring = bring
        self._over = over
        self._stage = _Stage.LINK
        self._newest = newest
        self._oldest = config.max_age
        self._more = False
        self._keys = reconcile.KeySet(())
        self._rounds = 0
        self._have: dict[Key, None] = {}
        self._need: dict[Key, None] = {}  # not looked at yet
        self._chunk: list[Key] = []  # being looked up
        self._asked: list[Key] = []  # by the last Want
        self._wanted: dict[Key, None] = {}  # of the chunk, not answered
        self._lacked = 0  # keys that were really lacking
        self._gone = 0
        self._unjudged: dict[int, int] = {}  # batches, and their bytes
        self._end = End.FAILED
        self._stranger = False
        self._retry_after = 0.0
        shared.effects.append(OpenHistoryLink(self.number, peer))

    # ------------------------------------------------------------ the begin

    def link_opened(self, link: Link) -> None:
        """The stream is there."""
        self.attach(link)
        self._stage = _Stage.KEYS
        self._expect()
        self._load_keys(self.topic, self._newest, self._oldest)

    def _on_keys(self, loaded: LoadedKeys) -> None:
        if self._stage not in (_Stage.KEYS, _Stage.KEYS_AGAIN):
            return
        self._keys = loaded.keys
        if self._stage is _Stage.KEYS_AGAIN:
            self._compare()
            return
        # This node may have older ones, and the peer too.
        self._more = milliseconds(loaded.oldest) < milliseconds(self._oldest)
        self._oldest = milliseconds(loaded.oldest) / 1000
        if milliseconds(self._oldest) <= milliseconds(self._newest):
            self._compare_nothing()
            return
        self._stage = _Stage.OPENED
        self._send(Open(self.topic, milliseconds(self._newest), milliseconds(self._oldest)))

    def _on_frame(self, frame: Frame) -> None:
        match frame:
            case Opened(oldest) if self._stage is _Stage.OPENED:
                self._on_opened(oldest)
            case SessionRefused(reason, retry_after):
                self._stranger = reason is Reason.TOPIC
                self._retry_after = retry_after / 1000
                self._end = End.REFUSED if self._stage is _Stage.OPENED else End.PARTIAL
                self.end()
            case Reconcile(message) if self._stage is _Stage.COMPARING:
                self._on_reconcile(message)
            case Bodies(bodies, settled) if self._stage is _Stage.BODIES:
                self._on_bodies(list(bodies), settled)
            case _:
                raise ProtocolError(f"{type(frame).__name__} out of place")

    def _on_opened(self, oldest: int) -> None:
        if oldest > milliseconds(self._oldest):
            raise ProtocolError(f"a session back to {oldest} ms, asked were {milliseconds(self._oldest)}")
        if oldest <= milliseconds(self._newest):
            self._compare_nothing()
        elif oldest < milliseconds(self._oldest):
            self._oldest, self._more = oldest / 1000, True
            self._stage = _Stage.KEYS_AGAIN
            self._load_keys(self.topic, self._newest, self._oldest)
        else:
            self._compare()

    def _compare_nothing(self) -> None:
        """One side does not go back so far: what is older is not known to be there, nor to be missing."""
        self._oldest, self._more = self._newest, False
        self._finish(End.AGREED)

    # ------------------------------------------------------------ which are missing

    def _compare(self) -> None:
        self._stage = _Stage.COMPARING
        self._send(Reconcile(reconcile.opening(self._keys)))

    def _on_reconcile(self, message: bytes) -> None:
        self._rounds += 1
        if self._rounds > self._shared.config.max_rounds:
            raise ProtocolError(f"{self._rounds} messages of one reconciliation")
        answer, have, need = reconcile.compare(self._keys, message)
        self._have.update(dict.fromkeys(have))
        self._need.update(dict.fromkeys(need))
        if len(self._need) > self._shared.config.max_keys:
            raise ProtocolError(f"{len(self._need)} keys in one session, at most {self._shared.config.max_keys}")
        if answer is not None:
            self._send(Reconcile(answer))
        else:
            self._find_next()

    def _find_next(self) -> None:
        """Look up the next of the differences: gossip may have brought them, or they are outside of the ages."""
        if not self._need or self._shared.now >= self.began + self._shared.config.session:
            partial = bool(self._need) or self._gone
            self._finish(End.PARTIAL if partial else End.BROUGHT if self._lacked else End.AGREED)
            return
        self._chunk = list(islice(self._need, MAX_KEYS_TOLD))
        for key in self._chunk:
            del self._need[key]
        self._stage = _Stage.FINDING
        self._shared.effects.append(FindHistoryKeys(self.number, self.topic, self._chunk))

    def keys_found(self, found: HistoryKeysFound) -> None:
        """The store answers."""
        if self._stage is not _Stage.FINDING:
            return
        self._expect()
        if found.failed:
            self._on_disk_failed()
            return
        stored = dict.fromkeys(found.keys)
        unwanted = self._shared.unwanted
        self._wanted = {key: None for key in self._chunk if key not in stored and key not in unwanted}
        self._lacked += len(self._wanted)
        self._want()

    # ------------------------------------------------------------ bodies

    def _want(self) -> None:
        if not self._wanted:
            self._find_next()
        elif self._shared.now >= self.began + self._shared.config.session:
            self._finish(End.PARTIAL)
        elif sum(self._unjudged.values()) > _UNJUDGED * self._shared.config.window:
            self._stage = _Stage.HELD
            self._expect(0.5)  # before the other side gives up
        else:
            self._stage = _Stage.BODIES
            self._asked = list(self._wanted)
            self._send(Want(self._asked))

    def _on_bodies(self, bodies: list[TravellingBody], settled: int) -> None:
        if settled > len(self._asked):
            raise ProtocolError(f"{settled} of {len(self._asked)} keys are answered")
        raws: list[bytes] = []
        ages: list[float] = []
        keys: list[Key] = []
        for raw, age, place in bodies:
            key = self._asked[place] if place < len(self._asked) else None
            if key is None or key not in self._wanted:
                raise ProtocolError("a message that was not asked for")
            del self._wanted[key]
            if age <= milliseconds(self._shared.config.max_age):
                raws.append(raw)
                ages.append(age / 1000)
                keys.append(key)
        if raws:
            number = self._shared.number()
            self._unjudged[number] = sum(map(len, raws))
            self._bring(self, BringHistory(number, self.peer, self.topic, raws, ages, keys))
        if settled:
            for key in self._asked[:settled]:
                if key in self._wanted:
                    del self._wanted[key]
                    self._gone += 1
                    self._shared.counts.gone += 1
            self._want()

    def judged(self, judged: BroughtJudged) -> None:
        """Gossip has judged a batch of it, but for what apps are still asked about."""
        self.brought += judged.accepted
        if judged.invalid is not None:
            self.violated(ProtocolError(f"a message of {self.topic!r} that is not valid: {judged.invalid}"))
            return
        self._unjudged.pop(judged.number, None)
        if self._stage is _Stage.HELD:
            if sum(self._unjudged.values()) <= _UNJUDGED * self._shared.config.window // 2:
                self._expect()
                self._want()
        elif self._stage is _Stage.CLOSING and not self._unjudged:
            self.end()

    def bodies_loaded(self, loaded: HistoryBodiesLoaded) -> None:
        """Nothing was asked for."""

    # ------------------------------------------------------------ the end

    def _finish(self, end: End) -> None:
        """Nothing more is asked of the peer; what it sent may still have to be judged."""
        self._end = end
        self._send(Done(len(self._have), list(islice(self._have, MAX_KEYS_TOLD))))
        self.close_link()
        if self._unjudged:
            self._stage = _Stage.CLOSING
            self._expect()
        else:
            self.end()

    def link_failed(self, error: SidecarError) -> None:
        """There is no stream."""
        self.end()

    def _on_disk_failed(self) -> None:
        self.end()

    def _on_link_closed(self) -> None:
        self.end()

    def _on_violated(self) -> None:
        self._end = End.VIOLATED

    def _on_overdue(self) -> None:
        """It is the other side that is slow, or this node itself: it has to check what came."""
        if self._stage is _Stage.HELD:
            self._finish(End.PARTIAL)
        elif self._stage is _Stage.CLOSING and self._shared.now < self._last:
            self._expect()
        else:
            self.end()

    def _on_end(self) -> None:
        now, config = self._shared.now, self._shared.config
        self._shared.counts.asked[self._end.value] += 1
        keys, have = len(self._keys), len(self._have)
        self._keys = reconcile.KeySet(())  # gossip may have batches of it for long
        for table in (self._have, self._need, self._wanted):
            table.clear()
        witness = have * _WITNESS <= max(_WITNESS, keys)
        # Not who waits for this node.
        idle = not self.brought and not self._unjudged and (self._gone > 0 or now >= self.began + config.patience)
        more = self._more and self._end in (End.AGREED, End.BROUGHT)
        self._over(
            SessionOutcome(
                self._end, self.peer, self.began, self._newest, self._oldest, more, witness, self.brought, idle,
                self._retry_after, self._stranger,
            )
        )  # fmt: skip


class NudgingSession(Session):
    """Tells a peer that this node has got something of some topics."""

    def __init__(self, shared: BackfillShared, peer: PeerId, topics: list[str]) -> None:
        super().__init__(shared, peer, 0, shared.config.patience, shared.config.patience)
        self._topics = topics
        shared.effects.append(OpenHistoryLink(self.number, peer))

    def link_opened(self, link: Link) -> None:
        """The stream is there."""
        self.attach(link)
        self._send(Nudge(self._topics))
        self._shared.counts.nudges_sent += 1
        self.close_link()
        self.end()

    def link_failed(self, error: SidecarError) -> None:
        """There is no stream: it asks later anyway."""
        self.end()

    def _on_frame(self, frame: Frame) -> None:
        raise ProtocolError(f"{type(frame).__name__} out of place")

    def _on_keys(self, loaded: LoadedKeys) -> None:
        pass

    def keys_found(self, found: HistoryKeysFound) -> None:
        """Nothing was asked for."""

    def bodies_loaded(self, loaded: HistoryBodiesLoaded) -> None:
        """Nothing was asked for."""

    def _on_disk_failed(self) -> None:
        pass

    def _on_link_closed(self) -> None:
        self.end()

    def _on_violated(self) -> None:
        pass

    def _on_overdue(self) -> None:
        self.end()

    def _on_end(self) -> None:
        pass
