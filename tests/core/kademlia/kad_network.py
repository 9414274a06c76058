"""An in-memory network of routers on virtual time: encoded frames, latencies, connections that end when idle."""

import hashlib
import heapq
import random
from collections.abc import Callable

from sidecar.core.errors import NotSupported, Unreachable
from sidecar.core.kademlia import (
    CancelQuery,
    KademliaConfig,
    KademliaEffect,
    KademliaInput,
    KademliaRouter,
    LookupCompleted,
    LookupFailed,
    LookupRequested,
    PeerDisconnected,
    PeerIdentified,
    Probe,
    ProbeFailed,
    ProbeSucceeded,
    ProvidersCompleted,
    ProvidersFound,
    QueryAnswered,
    QueryFailed,
    RefuseRequest,
    RequestReceived,
    Respond,
    SendQuery,
    StoreCompleted,
    ValueCompleted,
)
from sidecar.core.multiaddr import Multiaddr
from sidecar.core.types import PeerId

IDLE = 5.0  # seconds after which a connection without queries is closed
DIAL_FAILS_AFTER = 1.0


def peer(number: int) -> PeerId:
    return PeerId(b"\x12\x20" + hashlib.sha256(b"peer %d" % number).digest())


def address(number: int) -> Multiaddr:
    return Multiaddr.tcp(f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}", 4001)


class Network:
    def __init__(self, seed: int, config: KademliaConfig) -> None:
        self.rng = random.Random(seed)
        self.config = config
        self.now = 0.0
        self.routers: dict[PeerId, KademliaRouter] = {}
        self.addresses: dict[PeerId, Multiaddr] = {}
        self.clients: dict[PeerId, None] = {}
        self.results: dict[int, KademliaEffect] = {}
        self.found: dict[int, dict[PeerId, tuple[Multiaddr, ...]]] = {}
        self._links: dict[tuple[PeerId, PeerId], float] = {}  # both directions -> last use
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._timers: dict[PeerId, float] = {}
        self._tokens: dict[int, tuple[PeerId, int]] = {}
        self._cancelled: dict[tuple[PeerId, int], None] = {}
        self._count = 0

    def add(self, number: int, *, server: bool = True) -> PeerId:
        new = peer(number)
        self.addresses[new] = address(number)
        self.routers[new] = KademliaRouter(self.config, new, rng=random.Random(self.rng.random()))
        if not server:
            self.clients[new] = None
        return new

    def kill(self, dead: PeerId) -> None:
        del self.routers[dead]
        for one, other in [link for link in self._links if dead in link]:
            del self._links[one, other]
            if one in self.routers:
                self.feed(one, PeerDisconnected(dead))

    def lookup(self, asker: PeerId, key: bytes, target: PeerId | None = None) -> int:
        self._count += 1
        op = self._count
        self.feed(asker, LookupRequested(op, key, target))
        return op

    def ask(self, asker: PeerId, make: Callable[[int], KademliaInput]) -> int:
        """Feed what `make` builds around an operation's number; what comes of it will be in `results` and `found`."""
        self._count += 1
        op = self._count
        self.feed(asker, make(op))
        return op

    def connect(self, one: PeerId, other: PeerId) -> None:
        if (one, other) not in self._links:
            for here, there in ((one, other), (other, one)):
                self._links[here, there] = self.now
                self.feed(here, PeerIdentified(there, (self.addresses[there],), there not in self.clients))
            self.at(IDLE, lambda: self._expire(one, other))
        self._links[one, other] = self._links[other, one] = self.now

    def _expire(self, one: PeerId, other: PeerId) -> None:
        used = self._links.get((one, other))
        if used is None:
            return
        if used + IDLE > self.now:
            self.at(used + IDLE - self.now, lambda: self._expire(one, other))
            return
        for here, there in ((one, other), (other, one)):
            del self._links[here, there]
            self.feed(here, PeerDisconnected(there))

    def at(self, delay: float, call: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._events, (self.now + delay, self._count, call))

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while self._events and self._events[0][0] <= end:
            self.now, _, call = heapq.heappop(self._events)
            call()
        self.now = end

    def feed(self, to: PeerId, event: KademliaInput) -> None:
        router = self.routers.get(to)
        if router is not None:
            self._carry_out(to, router.handle(event, self.now))

    def _timer(self, owner: PeerId, due: float) -> None:
        router = self.routers.get(owner)
        if router is not None and self._timers.get(owner) == due:
            del self._timers[owner]
            self._carry_out(owner, router.handle_deadline(self.now))

    def _carry_out(self, owner: PeerId, effects: list) -> None:
        for effect in effects:
            match effect:
                case SendQuery():
                    self._send(owner, effect)
                case CancelQuery(query):
                    self._cancelled[owner, query] = None
                case Respond(token, frame):
                    asker, query = self._tokens.pop(token)
                    self._answer(asker, QueryAnswered(query, frame or b""))
                case RefuseRequest(token, error):
                    asker, query = self._tokens.pop(token)
                    self._answer(asker, QueryFailed(query, error))
                case Probe(target, addresses):
                    self._probe(owner, target, addresses)
                case ProvidersFound(op, peers):
                    self.found.setdefault(op, {}).update(peers)
                case LookupCompleted() | LookupFailed() | StoreCompleted() | ValueCompleted() | ProvidersCompleted():
                    self.results[effect.op] = effect
        due = self.routers[owner].next_deadline() if owner in self.routers else None
        if due is not None and (owner not in self._timers or due < self._timers[owner]):
            self._timers[owner] = due
            self.at(max(due - self.now, 0.0), lambda: self._timer(owner, due))

    def _reachable(self, target: PeerId, addresses: tuple[Multiaddr, ...]) -> bool:
        return target in self.routers and self.addresses[target] in addresses

    def _send(self, owner: PeerId, query: SendQuery) -> None:
        def arrive() -> None:
            if (owner, query.query) in self._cancelled or owner not in self.routers:
                return
            if (owner, query.peer) not in self._links and not self._reachable(query.peer, query.addresses):
                self.at(DIAL_FAILS_AFTER, lambda: self._deliver(owner, QueryFailed(query.query, Unreachable("dead"))))
                return
            self.connect(owner, query.peer)
            if query.peer in self.clients:
                self._answer(owner, QueryFailed(query.query, NotSupported("a client")))
                return
            self._count += 1
            self._tokens[self._count] = (owner, query.query)
            self.feed(query.peer, RequestReceived(self._count, owner, query.frame))

        self.at(self.rng.uniform(0.01, 0.1), arrive)

    def _answer(self, asker: PeerId, event: QueryAnswered | QueryFailed) -> None:
        self.at(self.rng.uniform(0.01, 0.1), lambda: self._deliver(asker, event))

    def _deliver(self, asker: PeerId, event: QueryAnswered | QueryFailed) -> None:
        if self._cancelled.pop((asker, event.query), self) is self:
            self.feed(asker, event)

    def _probe(self, owner: PeerId, target: PeerId, addresses: tuple[Multiaddr, ...]) -> None:
        def ping() -> None:
            if owner in self.routers and self._reachable(target, addresses):
                self.connect(owner, target)
                self.feed(owner, ProbeSucceeded(target))
            else:
                self.feed(owner, ProbeFailed(target))

        self.at(self.rng.uniform(0.02, 0.2), ping)
