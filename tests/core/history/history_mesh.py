"""Nodes that backfill from each other on virtual time, with stores in memory; and peers that follow a script."""

import heapq
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from sidecar.core import history
from sidecar.core.buffer import FrameDecoder
from sidecar.core.errors import Closed
from sidecar.core.gossip import HistoryRepeated
from sidecar.core.history import HistoryRouter, key_of
from sidecar.core.history.messages import Frame, decode, encode
from sidecar.core.parameters import HistoryConfig
from sidecar.core.types import PeerId
from sidecar.sim import MemoryHistory

TOPIC = "news"
CONFIG = HistoryConfig(topics=("*",), settle=0.0)
LATENCY = 0.01


def peer_id(number: int) -> PeerId:
    return PeerId.from_public_key(b"\x08\x01\x12\x20" + bytes([number]) * 32)


def message(number: int) -> bytes:
    """What stands for a gossip message: valid, and its own id."""
    return b"ok %d" % number


class Party:
    """One end of links in the mesh."""

    peer: PeerId

    def accepted(self, link: int, peer: PeerId) -> None: ...
    def arrived(self, link: int, data: bytes) -> None: ...
    def closed(self, link: int) -> None: ...


class Mesh:
    """The clock, and links that take `LATENCY`; each end of one has a number of its own."""

    def __init__(self, chunk: int = 0) -> None:
        """`chunk`: the bytes that arrive at once; 0: as they were written."""
        self.now = 100_000.0
        self.parties: dict[PeerId, Party] = {}
        self.sent = 0  # bytes
        self._chunk = chunk
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._number = 0
        self._ends: dict[int, tuple[Party, int]] = {}  # the other end of each

    def later(self, delay: float, action: Callable[[], None]) -> None:
        self._number += 1
        heapq.heappush(self._queue, (self.now + delay, self._number, action))

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while True:
            dues = {node: node.router.next_deadline() for node in self.nodes}
            due = min((due for due in dues.values() if due is not None), default=end + 1)
            first = self._queue[0][0] if self._queue else end + 1
            if min(due, first) > end:
                self.now = end
                return
            self.now = max(self.now, min(due, first))
            if first <= due:
                heapq.heappop(self._queue)[2]()
            else:
                for node, when in dues.items():
                    if when is not None and when <= self.now:
                        node.carry_out(node.router.handle_deadline(self.now))

    @property
    def nodes(self) -> "list[MeshNode]":
        return [party for party in self.parties.values() if isinstance(party, MeshNode)]

    def open(self, opener: Party, peer: PeerId) -> int | None:
        """A link's number at the opener; None where nobody is there."""
        other = self.parties.get(peer)
        if other is None:
            return None
        self._number += 2
        near, far = self._number, self._number - 1
        self._ends[near], self._ends[far] = (other, far), (opener, near)
        self.later(LATENCY, lambda: other.accepted(far, opener.peer))
        return near

    def send(self, link: int, data: bytes) -> None:
        if link not in self._ends:
            return
        other, far = self._ends[link]
        self.sent += len(data)
        size = self._chunk or len(data)
        pieces = [data[start : start + size] for start in range(0, len(data), size)]

        def arrive() -> None:
            for piece in pieces:
                other.arrived(far, piece)

        self.later(LATENCY, arrive)

    def close(self, link: int) -> None:
        end = self._ends.pop(link, None)
        if end is not None:
            self.later(LATENCY, lambda: end[0].closed(end[1]))

    def connect(self, *parties: Party) -> None:
        """Have all of them in each other's topic."""
        for party in parties:
            for other in parties:
                if other is not party and isinstance(party, MeshNode):
                    party.feed(history.HistoryPeerCame(other.peer, TOPIC))

    def part(self, one: Party, other: Party) -> None:
        for party, peer in ((one, other.peer), (other, one.peer)):
            if isinstance(party, MeshNode):
                party.feed(history.HistoryPeerLeft(peer))


class MeshNode(Party):
    """A whole node of backfill. Gossip is a function here: a message is valid if it begins with `ok`."""

    def __init__(self, mesh: Mesh, number: int, config: HistoryConfig = CONFIG, messages: Iterable[int] = ()) -> None:
        self.mesh = mesh
        self.peer = peer_id(number)
        self.config = config
        self.store = MemoryHistory(config)
        self.scores: dict[PeerId, float] = {}
        self.charged: dict[PeerId, float] = {}
        self.violations: list[tuple[PeerId, str]] = []
        self.loads = 0  # questions to the store
        self.unanswered: list[history.StoreEffect] | None = None  # a list: the store is slow, and they wait here
        self.refuses: Callable[[bytes], bool] = lambda raw: False  # what a rule of this node ignores
        self.history_delivered: list[bytes] = []
        self.router = HistoryRouter(
            config, now=mesh.now, rng=random.Random(number), eligible=lambda peer: self.scores.get(peer, 0) >= 0
        )
        mesh.parties[self.peer] = self
        self.keep(messages)
        self.feed(history.HistoryTopicKept(TOPIC))

    def keep(self, messages: Iterable[int], age: float = 10.0) -> None:
        """Have these messages stored, as if gossip had brought them."""
        for number in messages:
            self._store(message(number), age)

    def _store(self, raw: bytes, age: float) -> None:
        self.store.store(HistoryRepeated(TOPIC, [], [raw], [age], raw), self.mesh.now)

    @property
    def has(self) -> set[bytes]:
        return set(self.store.seen(TOPIC))

    def feed(self, arrived: history.HistoryInput) -> None:
        self.carry_out(self.router.handle(arrived, self.mesh.now))

    def carry_out(self, effects: Sequence[history.HistoryEffect]) -> None:
        for peer, points in self.router.take_charges().items():
            self.charged[peer] = self.charged.get(peer, 0.0) + points
        for effect in effects:
            match effect:
                case history.OpenHistoryLink(session, peer):
                    self._open(session, peer)
                case history.SendHistoryFrame(link, data):
                    self.mesh.send(link, data)
                case history.CloseHistoryLink(link) | history.ResetHistoryLink(link):
                    self.mesh.close(link)
                case history.HistoryViolated(peer, link, error):
                    self.violations.append((peer, str(error)))
                    if link is not None:
                        self.mesh.close(link)
                case history.BringHistory():
                    self._judge(effect)
                case _:
                    self.loads += 1
                    if self.unanswered is None:
                        self.answer(effect)
                    else:
                        self.unanswered.append(effect)

    def answer(self, asked: history.StoreEffect) -> None:
        """What the store says, a moment later."""
        answer = self.store.answer(asked, self.mesh.now)
        self.mesh.later(0.001, lambda: self.feed(answer))

    def _open(self, session: int, peer: PeerId) -> None:
        link = self.mesh.open(self, peer)
        if link is None:
            failed = history.HistoryLinkFailed(session, Closed(f"{peer} is not there"))
            self.mesh.later(LATENCY, lambda: self.feed(failed))
            return
        self.mesh.later(2 * LATENCY, lambda: self.feed(history.HistoryLinkOpened(session, link)))

    def _judge(self, brought: history.BringHistory) -> None:
        accepted = 0
        unwanted = []
        invalid = None
        for raw, age, key in zip(brought.raws, brought.ages, brought.keys, strict=True):
            if not raw.startswith(b"ok ") or key_of(raw) != key:
                invalid = "forged"
            elif self.refuses(raw):
                unwanted.append(key)
            else:
                accepted += 1
                self.history_delivered.append(raw)
                self._store(raw, age)
        judged = history.BroughtJudged(brought.number, accepted, unwanted, invalid)
        self.mesh.later(0.0, lambda: self.feed(judged))

    # ------------------------------------------------------------ links

    def accepted(self, link: int, peer: PeerId) -> None:
        self.feed(history.HistoryLinkAccepted(peer, link))

    def arrived(self, link: int, data: bytes) -> None:
        self.feed(history.HistoryDataReceived(link, data))

    def closed(self, link: int) -> None:
        self.feed(history.HistoryLinkClosed(link))

    # ------------------------------------------------------------ looking

    @property
    def view(self) -> history.HistoryView:
        (view,) = self.router.views(0.0)
        return view

    @property
    def idle(self) -> bool:
        """Whether no session is left."""
        counts = self.router.statistics()
        return not counts.asking and not counts.serving and not self.router._shared.sessions


class ScriptedPeer(Party):
    """Whatever its functions say; every frame that arrives is in `heard`."""

    def __init__(self, mesh: Mesh, number: int) -> None:
        self.mesh = mesh
        self.peer = peer_id(number)
        self.heard: list[Frame] = []
        self.sessions = 0  # links that others opened
        self.ended: list[int] = []
        self.says: Callable[[Frame], Sequence[Frame] | None] = lambda frame: ()
        """What it answers; None: it closes the link."""
        self._decoders: dict[int, FrameDecoder] = {}
        mesh.parties[self.peer] = self

    def accepted(self, link: int, peer: PeerId) -> None:
        self.sessions += 1
        self._decoders[link] = FrameDecoder(1 << 24)

    def arrived(self, link: int, data: bytes) -> None:
        for body in self._decoders[link].receive(data):
            frame = decode(body)
            self.heard.append(frame)
            answers = self.says(frame)
            if answers is None:
                self.mesh.close(link)
                return
            for answer in answers:
                self.mesh.send(link, encode(answer))

    def closed(self, link: int) -> None:
        self.ended.append(link)

    def ask(self, node: MeshNode, *frames: Frame) -> int:
        """Open a link to a node and say these."""
        link = self.mesh.open(self, node.peer)
        assert link is not None
        self._decoders[link] = FrameDecoder(1 << 24)
        self.say(link, *frames)
        return link

    def say(self, link: int, *frames: Frame) -> None:
        for frame in frames:
            self.mesh.send(link, encode(frame))


def configured(**changes: object) -> HistoryConfig:
    return replace(CONFIG, **changes)  # type: ignore[arg-type]
