"""What peers are given: sessions that others began, within the budgets of each and of all."""

from collections import Counter
from collections.abc import Callable, Sequence

from ..deadlines import Deadline
from ..errors import ProtocolError
from ..parameters.history import KEY, MAX_KEYS_TOLD, MAX_RECONCILE
from ..token_bucket import TokenBucket
from ..types import PeerId
from . import reconcile
from .events import FindHistoryKeys, HistoryBodiesLoaded, HistoryBody, HistoryKeysFound, Key, Link, LoadHistoryBodies
from .messages import Bodies, Done, Frame, Nudge, Open, Opened, Reason, Reconcile, SessionRefused, TravellingBody, Want
from .shared import BackfillShared, LoadedKeys, Session, milliseconds

_MAX_FRAME = max(MAX_RECONCILE, MAX_KEYS_TOLD * KEY) + 1024  # that an asking side writes
_FRAME = 1 << 16  # bytes of bodies in a frame, unless one is larger
_BODY = 16  # bytes that each has beside its own
_LINKS = 4  # streams of one peer at a time
_SESSIONS_RATE, _SESSIONS_BURST = 2.0, 16.0  # of one peer, a second and at once; a guess
_KEYS_RATE, _KEYS_BURST = 250_000.0, 1_000_000.0  # loaded for all, a second and at once; a guess: a third of a core
_INSTANT = 0.001  # seconds that are no pause: a rest so short that the clock cannot show it would never end
_RETRY = 1.0  # seconds until a peer that was refused may come again
_LATER = 600.0  # the same where the topic has no history
_NEEDLESS = 20.0  # points of work for what is refused: some 100 us
_MAX_BUCKETS = 4096  # peers whose rates are kept; those that have none yet owe nothing

Offered = Callable[[PeerId, str], None]
Nudged = Callable[[PeerId, Sequence[str]], None]


class BackfillServer:
    """Who is served what now, and how much of it."""

    def __init__(self, shared: BackfillShared, offered: Offered, nudged: Nudged) -> None:
        """`offered`: a peer has messages of a topic that this node lacks. `nudged`: it says that it may have."""
        self.topics: dict[str, None] = {}
        self.offered = offered
        self.nudged = nudged
        self._shared = shared
        self._served: dict[tuple[PeerId, str], ServingSession] = {}
        self._links: Counter[PeerId] = Counter()
        self._all = TokenBucket(shared.config.serving_rate, shared.config.serving_rate, shared.now)
        self._keys = TokenBucket(_KEYS_RATE, _KEYS_BURST, shared.now)
        self._bytes: dict[PeerId, TokenBucket] = {}
        self._begun: dict[PeerId, TokenBucket] = {}

    def __len__(self) -> int:
        return len(self._served)

    def accept(self, peer: PeerId, link: Link) -> None:
        """A peer has opened a stream."""
        self._links[peer] += 1
        session = ServingSession(self._shared, self, peer, link)
        if self._links[peer] > _LINKS:
            session.violated(ProtocolError(f"{self._links[peer]} streams at a time, at most {_LINKS}"))

    def begin(self, session: "ServingSession", topic: str) -> Reason | None:
        """Give a session its place, or say why there is none."""
        config, peer = self._shared.config, session.peer
        if topic not in self.topics:
            return Reason.TOPIC
        begun = self._begun.get(peer) or self._bucket(self._begun, peer, _SESSIONS_RATE, _SESSIONS_BURST)
        if (
            len(self._served) >= config.serving
            or (peer, topic) in self._served
            or not self._shared.eligible(peer)
            or self._keys.owes(self._shared.now) > 0
            or not begun.take(self._shared.now)
        ):
            return Reason.BUSY
        self._served[peer, topic] = session
        self._shared.counts.served += 1
        return None

    def left(self, session: "ServingSession", topic: str | None) -> None:
        """A session is over."""
        self._links[session.peer] -= 1
        if not self._links[session.peer]:
            del self._links[session.peer]
        if topic is not None and self._served.get((session.peer, topic)) is session:
            del self._served[session.peer, topic]

    def leave_topic(self, topic: str) -> None:
        """The topic has no history here any more."""
        self.topics.pop(topic, None)
        for (_, served), session in list(self._served.items()):
            if served == topic:
                session.end()

    def spend(self, peer: PeerId, size: int) -> None:
        """Count bytes that go to a peer."""
        now, rate = self._shared.now, self._shared.config.serving_rate_per_peer
        self._all.spend(size, now)
        (self._bytes.get(peer) or self._bucket(self._bytes, peer, rate, rate)).spend(size, now)

    def loaded(self, keys: int) -> None:
        """Count keys that were loaded for others: not what was there from a moment ago."""
        self._keys.spend(keys, self._shared.now)

    def rest(self, peer: PeerId) -> float:
        """For how long nothing more is to go to a peer; seconds."""
        now, own = self._shared.now, self._bytes.get(peer)
        return max(self._all.owes(now), own.owes(now) if own is not None else 0.0)

    def _bucket(self, buckets: dict[PeerId, TokenBucket], peer: PeerId, rate: float, burst: float) -> TokenBucket:
        if len(buckets) >= _MAX_BUCKETS:
            del buckets[next(iter(buckets))]
        made = buckets[peer] = TokenBucket(rate, burst, self._shared.now)
        return made


class ServingSession(Session):
    """The asked end: it answers, and keeps nothing of the other side but what it asked last."""

    def __init__(self, shared: BackfillShared, server: BackfillServer, peer: PeerId, link: Link) -> None:
        config = shared.config
        super().__init__(shared, peer, _MAX_FRAME, config.patience, 2 * config.session)
        self._server = server
        self._topic: str | None = None
        self._keys: reconcile.KeySet | None = None
        self._rounds = 0
        self._wanted: list[Key] = []
        self._rest: Deadline | None = None
        self._done = False
        self._offered: dict[Key, None] = {}
        self.attach(link)

    def _on_frame(self, frame: Frame) -> None:
        match frame:
            case Nudge(topics) if self._topic is None:
                self.close_link()
                self._server.nudged(self.peer, topics)
                self.end()
            case Open() if self._topic is None:
                self._on_open(frame)
            case Reconcile(message) if self._keys is not None:
                self._rounds += 1
                if self._rounds > self._shared.config.max_rounds:
                    raise ProtocolError(f"{self._rounds} messages of one reconciliation")
                self._send(Reconcile(reconcile.answer(self._keys, message)))
            case Want(keys) if self._keys is not None and not self._wanted:
                self._wanted = list(keys)
                self._load()
            case Done(lacking, keys) if self._topic is not None and not self._wanted:
                self._on_done(lacking, keys)
            case _:
                raise ProtocolError(f"{type(frame).__name__} out of place")

    def _on_open(self, asked: Open) -> None:
        reason = self._server.begin(self, asked.topic)
        if reason is not None:
            self._refuse(reason)
            return
        self._topic = asked.topic
        oldest = min(asked.oldest / 1000, self._shared.config.max_age)
        if oldest <= asked.newest / 1000:
            self._send(Opened(asked.newest))
            return
        self._load_keys(asked.topic, asked.newest / 1000, oldest)

    def _refuse(self, reason: Reason) -> None:
        self._shared.counts.refused[reason.name.lower()] += 1
        self._shared.charge(self.peer, _NEEDLESS)
        retry = _LATER if reason is Reason.TOPIC else _RETRY * self._shared.rng.uniform(0.5, 1.5)
        self._send(SessionRefused(reason, milliseconds(retry)))
        self.close_link()
        self.end()

    def _on_keys(self, loaded: LoadedKeys) -> None:
        if loaded.at == self._shared.now:
            self._server.loaded(len(loaded.keys))
        self._keys = loaded.keys
        self._send(Opened(min(milliseconds(loaded.oldest), milliseconds(loaded.wanted))))

    # ------------------------------------------------------------ bodies

    def _load(self) -> None:
        """Load what is wanted, once the budgets allow it."""
        pause = self._server.rest(self.peer)
        if pause > _INSTANT:
            self._rest = self._shared.deadlines.at(self._shared.now + pause, self._rested)
            self._expect()
            return
        assert self._topic is not None
        config = self._shared.config
        self._shared.effects.append(LoadHistoryBodies(self.number, self._topic, self._wanted, config.window))

    def _rested(self, now: float) -> None:
        self._rest = None
        if not self.over:
            self._load()

    def bodies_loaded(self, loaded: HistoryBodiesLoaded) -> None:
        """Write them, and how far the answer goes."""
        if not self._wanted:
            return
        self._expect()
        if loaded.failed:
            self._on_disk_failed()
            return
        settled = len(self._wanted) - len(loaded.left)
        if settled <= 0:  # a store that has no room for a single one: then it is as if it had gone
            settled = len(self._wanted)
        places = {key: place for place, key in enumerate(self._wanted)}
        self._wanted = []
        counts = self._shared.counts
        for bodies in _parts(loaded.bodies):
            self._send(Bodies([TravellingBody(raw, milliseconds(age), places[key]) for key, raw, age in bodies]))
            size = sum(len(body.raw) + _BODY for body in bodies)
            self._server.spend(self.peer, size)
            counts.sent += len(bodies)
            counts.sent_bytes += size
        self._send(Bodies((), settled))

    # ------------------------------------------------------------ the end

    def _on_done(self, lacking: int, keys: Sequence[Key]) -> None:
        self.close_link()
        self._done = True
        if lacking and keys:
            assert self._topic is not None
            self._offered = dict.fromkeys(keys)
            self._shared.effects.append(FindHistoryKeys(self.number, self._topic, keys))
        else:
            self.end()

    def keys_found(self, found: HistoryKeysFound) -> None:
        """What the other side offers may have come meanwhile."""
        if not self._done or self._topic is None:
            return
        topic = self._topic
        lacking = not found.failed and len(dict.fromkeys(found.keys).keys() & self._offered.keys()) < len(self._offered)
        self.end()
        if lacking:
            self._server.offered(self.peer, topic)

    def _on_disk_failed(self) -> None:
        self._refuse(Reason.DISK)

    def _on_link_closed(self) -> None:
        self.end()

    def _on_violated(self) -> None:
        pass

    def _on_overdue(self) -> None:
        if self._rest is not None and self._shared.now < self._last:
            self._expect()  # it waits for its budget, and not for the other side
            return
        self.end()

    def _on_end(self) -> None:
        if self._rest is not None:
            self._rest.cancel()
        self._server.left(self, self._topic)


def _parts(bodies: Sequence[HistoryBody]) -> list[list[HistoryBody]]:
    """The bodies of one frame each."""
    parts: list[list[HistoryBody]] = []
    size = _FRAME
    for body in bodies:
        weight = len(body.raw) + _BODY
        if size + weight > _FRAME:
            parts.append([])
            size = 0
        parts[-1].append(body)
        size += weight
    return parts
