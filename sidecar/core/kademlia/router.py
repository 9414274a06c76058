"""The Kademlia router: answers requests, runs lookups, keeps the routing table alive."""

import random
from collections.abc import Iterable, Iterator
from dataclasses import field
from typing import assert_never

from ..classes import NamedTuple, dataclass
from ..errors import InvalidArgument, ProtocolError, ResourceExhausted, SelfDial
from ..histogram import Histogram
from ..parameters.kademlia import KademliaConfig, Namespace
from ..statistics import Statistics
from ..types import PeerId
from . import messages
from .content import REFUSALS, Content
from .events import (
    BootstrapRequested,
    KademliaEffect,
    KademliaInput,
    LookupCancelled,
    LookupCompleted,
    LookupFailed,
    LookupRequested,
    PeerAddresses,
    PeerDisconnected,
    PeerForgotten,
    PeerIdentified,
    Probe,
    ProbeFailed,
    ProbeSucceeded,
    ProvideEnded,
    ProvideRequested,
    ProvidersRequested,
    PutRequested,
    QueryAnswered,
    QueryFailed,
    RefuseRequest,
    RequestReceived,
    Respond,
    TableRestored,
    ValueRequested,
)
from .hearsay import told_by_itself
from .keyspace import place
from .lookup import Lookup
from .pool import LookupPool
from .refresh import RefreshSchedule
from .table import Bucket, Contact, RoutingTable


@dataclass(slots=True)
class KademliaStatistics(Statistics):
    """How the router is doing; `lookups` to `refused_requests` count from its beginning."""

    prefix = "dht_"

    peers: int = 0  # in the routing table
    replacements: int = 0  # connected servers for which it has no place
    crowded: int = 0  # connected servers of whose networks there are enough in the table
    clients: int = 0  # connected peers that are no servers
    running_lookups: int = 0
    waiting_lookups: int = 0
    queries_in_flight: int = 0
    lookups: int = 0
    outcomes: dict[str, int] = field(default_factory=dict, metadata={"each": "lookups"})  # of these
    queries: int = 0
    failed_queries: int = 0
    refused_addresses: int = 0  # that answers named and that are not believed
    requests: int = 0
    refused_requests: int = 0
    records: int = 0  # kept here
    record_bytes: int = 0
    providers: int = 0  # kept here, of all keys


class BucketView(NamedTuple):
    """A bucket: the length of the prefix that its peers share with us, its peers, and how many wait beside it."""

    prefix: int
    peers: tuple[PeerId, ...]
    replacements: int


class KademliaRouter:
    """A node machine: `handle(input, now) -> effects`, one timer. Events and the driver's duties are in `events`.

    It serves whatever request it is given: a node in client mode does not offer the protocol, so that none comes.
    """

    def __init__(self, config: KademliaConfig, local: PeerId, *, rng: random.Random, epoch: float = 0.0) -> None:
        """`local`: this node's id. `epoch`: the wall clock's seconds since 1970 when the monotonic one stood at 0."""
        self._config = config
        self._local = local
        self._table = RoutingTable(config, local)
        self._pool = LookupPool(config, local, self._table)
        self._schedule = RefreshSchedule(config, local, self._table, rng)
        self._content = Content(config, local, self._table, self._pool, rng, epoch)
        self._refreshing: Lookup | None = None
        self._clients: dict[bytes, Contact] = {}  # connected, no servers
        self._probes: dict[PeerId, float] = {}  # deadlines, in their order
        self._requests = self._refused = 0
        self._due: float | None = None  # as of the end of the last turn: it is asked for far more often than it moves

    # ---------------------------------------------------------------- the one door

    def handle(self, event: KademliaInput, now: float) -> list[KademliaEffect]:
        """Take one input; returns what is to be done about it."""
        effects: list[KademliaEffect] = []
        match event:
            case RequestReceived():
                self._on_request(event, now, effects)
            case QueryAnswered():
                if not self._content.deliveries.answered(event.query, event.frame, now, effects):
                    self._pool.answered(event, now, effects)
            case QueryFailed(query, error):
                if not self._content.deliveries.query_failed(query, error, now, effects):
                    self._pool.query_failed(query, error, now, effects)
            case PeerIdentified():
                self._on_identified(event, now, effects)
            case PeerDisconnected(peer):
                self._clients.pop(peer, None)
                self._table.disconnected(peer, now)
            case PeerForgotten(peer):
                self._clients.pop(peer, None)
                self._probes.pop(peer, None)
                self._table.remove(peer)
            case ProbeSucceeded(peer):
                self._probes.pop(peer, None)
                self._table.seen(peer, now)
            case ProbeFailed(peer):
                if self._probes.pop(peer, None) is not None:
                    self._on_probe_failed(peer, now, effects)
            case LookupRequested():
                self._on_lookup(event, now, effects)
            case BootstrapRequested():
                self._schedule.begin()
            case TableRestored(contacts):
                for peer, addresses in contacts:
                    self._table.restore(peer, addresses, now)
                self._schedule.restored(now)
            case LookupCancelled(op):
                self._pool.cancel(op, now, effects)
                self._content.deliveries.cancel(op, effects)
            case PutRequested():
                self._content.put(event, now, effects)
            case ValueRequested():
                self._content.find_value(event, now, effects)
            case ProvideRequested():
                self._content.provide(event, now, effects)
            case ProvideEnded(key):
                self._content.provide_no_more(key)
            case ProvidersRequested():
                self._content.find_providers(event, now, effects)
            case _:
                assert_never(event)
        self._end_turn(now, effects)
        return effects

    def next_deadline(self) -> float | None:
        """When `handle_deadline` is due, in monotonic seconds."""
        return self._due

    def handle_deadline(self, now: float) -> list[KademliaEffect]:
        """Give up what waited too long, and refresh when it is time."""
        effects: list[KademliaEffect] = []
        self._pool.handle_deadline(now, effects)
        self._content.handle_deadline(now, effects)
        for peer in [peer for peer, deadline in self._probes.items() if deadline <= now]:
            del self._probes[peer]
            self._on_probe_failed(peer, now, effects)
        if self._schedule.handle_deadline(now):
            for bucket in self._table.buckets():
                self._probe(self._table.suspect(bucket, now), now, effects)
        self._end_turn(now, effects)
        return effects

    # ---------------------------------------------------------------- views

    def __len__(self) -> int:
        """Peers in the routing table."""
        return len(self._table)

    def closest(self, key: bytes, count: int) -> list[PeerAddresses]:
        """The peers closest to a key among those known here, without asking anybody."""
        return [(contact.peer, contact.addresses) for contact in self._table.closest(place(key), count)]

    def network_size(self) -> int:
        """About how many servers there are in all, this node included."""
        return self._table.network_size()

    def has_place(self, peer: PeerId) -> bool:
        """Whether the peer is in one of the buckets."""
        bucket = self._table.bucket_of(place(peer))
        return bucket is not None and peer in bucket.entries

    def namespace(self, key: bytes) -> Namespace:
        """The namespace of a record's key. Raises InvalidArgument where it has no rule."""
        return self._content.validators.namespace(key)

    def buckets(self) -> list[BucketView]:
        """The routing table, farthest bucket first."""
        return [BucketView(b.prefix, tuple(b.entries), len(b.replacements)) for b in self._table.buckets()]

    def told_by(self, peer: PeerId, since: float) -> bool:
        """Whether the peer has named our own neighbours since this time; of the last some dozens that have."""
        return self._pool.tellers.get(peer, float("-inf")) >= since

    @property
    def size(self) -> int:
        """Peers in the routing table."""
        return len(self._table)

    def durations(self) -> Histogram:
        """How long lookups took; to be read only."""
        return self._pool.durations

    def hops(self) -> Histogram:
        """How many answers led to the farthest of those that lookups found; to be read only."""
        return self._pool.hops

    def queries(self) -> Histogram:
        """How many peers each lookup asked; to be read only."""
        return self._pool.queries

    def statistics(self) -> KademliaStatistics:
        """Counters since the start, and what is there now."""
        return KademliaStatistics(
            peers=self.size,
            replacements=sum(len(bucket.replacements) for bucket in self._table.buckets()),
            crowded=self._table.crowded,
            clients=len(self._clients),
            running_lookups=self._pool.running,
            waiting_lookups=self._pool.waiting,
            queries_in_flight=self._pool.in_flight + self._content.deliveries.in_flight,
            lookups=sum(self._pool.outcomes.values()),
            outcomes=dict(self._pool.outcomes),
            queries=self._pool.sent,
            failed_queries=self._pool.failed + self._content.deliveries.failed,
            refused_addresses=self._pool.refused_addresses,
            requests=self._requests,
            refused_requests=self._refused,
            records=len(self._content.values),
            record_bytes=self._content.values.size,
            providers=len(self._content.providers),
        )

    # ---------------------------------------------------------------- peers

    def _on_identified(self, event: PeerIdentified, now: float, effects: list[KademliaEffect]) -> None:
        peer = event.peer
        if peer == self._local:
            return
        addresses = messages.own_addresses(peer, event.addresses, self._config.max_addresses)
        self._clients.pop(peer, None)
        if event.server:
            self._probe(self._table.connected(peer, addresses, now, event.network), now, effects)
            own = self._refreshing
            if own is not None and self._is_own(own) and self._pool.is_running(own):
                # Whoever joins through several peers begins with all of them, however late their connections are.
                self._pool.widen(own, peer, addresses, now, effects)
        else:
            self._table.remove(peer)
            self._clients[peer] = Contact(peer, addresses, now)
            if len(self._clients) > self._config.max_clients:
                del self._clients[next(iter(self._clients))]
        self._pool.identified(peer, addresses, now, effects)

    def _probe(self, contact: Contact | None, now: float, effects: list[KademliaEffect]) -> None:
        if contact is not None:
            self._probes.pop(contact.peer, None)  # one that began anew has its place at the end
            self._probes[contact.peer] = now + self._config.probe_timeout
            effects.append(Probe(contact.peer, contact.addresses))

    def _on_probe_failed(self, peer: PeerId, now: float, effects: list[KademliaEffect]) -> None:
        self._table.remove(peer)
        bucket: Bucket | None = self._table.bucket_of(place(peer))
        if bucket is not None and bucket.replacements:  # where one died, its neighbour in age may have too
            self._probe(self._table.suspect(bucket, now), now, effects)

    # ---------------------------------------------------------------- requests

    def _on_request(self, event: RequestReceived, now: float, effects: list[KademliaEffect]) -> None:
        self._requests += 1
        self._table.seen(event.peer, now)
        try:
            effects.append(Respond(event.token, self._answer(event, now)))
        except REFUSALS as error:
            self._refused += 1
            effects.append(RefuseRequest(event.token, error))

    def _answer(self, event: RequestReceived, now: float) -> bytes | None:
        """Raises what `REFUSALS` names."""
        asker = event.peer
        request = messages.decode_request(event.frame, self._config)
        if request.providers:
            told = (told_by_itself(*provider, event.teller) for provider in request.providers)
            request = request._replace(providers=tuple(told))
        match request.type:
            case messages.MessageType.FIND_NODE:
                return self._answer_find_node(asker, request.key)
            case messages.MessageType.PING:  # deprecated; "implementations may still handle" it
                return messages.PING_ANSWER
            case messages.MessageType():
                return self._content.answer(event, request, lambda: self._closer(asker, request.key), now)
            case _:
                raise ProtocolError(f"DHT request of unknown type {request.type}")

    def _closer(self, asker: PeerId, key: bytes) -> Iterator[bytes]:
        """The k closest servers as fields of an answer, without the asker, as go-libp2p-kad-dht and rust-libp2p do."""
        contacts = self._table.closest(place(key), self._config.k, exclude=asker, failing=False)
        return self._encoded(contacts)

    def _encoded(self, contacts: Iterable[Contact]) -> Iterator[bytes]:
        return (contact.encoded(self._config.max_answered_addresses) for contact in contacts if contact.addresses)

    def _answer_find_node(self, asker: PeerId, key: bytes) -> bytes:
        """The k closest servers, as `_closer` has them.

        The peer whose id the key is comes first where its addresses are known, even when it is no server or its last
        query failed: go-libp2p-kad-dht's FIND_NODE answers so, that any peer can be found.
        """
        if not key:
            raise ProtocolError("FIND_NODE with an empty key")
        config = self._config
        contacts = self._table.closest(place(key), config.k, exclude=asker, failing=False)
        target = self._clients.get(key) or self._table.get(PeerId(key))
        if target is not None and key != asker and target not in contacts[:1]:
            contacts.insert(0, target)
        return messages.encode_closer_peers(self._encoded(contacts), config.max_answer)

    # ---------------------------------------------------------------- lookups

    def _on_lookup(self, event: LookupRequested, now: float, effects: list[KademliaEffect]) -> None:
        target = event.target
        if target == self._local:
            effects.append(LookupFailed(event.op, SelfDial("the peer looked for is this node itself")))
            return
        if not 0 < len(event.key) <= self._config.max_key:
            error = InvalidArgument(f"key of {len(event.key)} bytes, from 1 to {self._config.max_key}")
            effects.append(LookupFailed(event.op, error))
            return
        known = None if target is None else self._clients.get(target) or self._table.get(target)
        if known is not None and known.connected:
            effects.append(LookupCompleted(event.op, (), known.addresses, 0, 0, 0))
            return
        key = event.key if target is None else bytes(target)
        try:
            lookup = Lookup(self._config, key, op=event.op, target=target, via=event.via, max_queries=event.max_queries)
            self._pool.request(lookup, now, effects)
        except ResourceExhausted as refusal:
            effects.append(LookupFailed(event.op, refusal))

    def _is_own(self, lookup: Lookup) -> bool:
        """Whether it is a whole lookup of our own id."""
        return not lookup.via and lookup.key == self._local

    # ---------------------------------------------------------------- the end of a turn

    def _end_turn(self, now: float, effects: list[KademliaEffect]) -> None:
        self._pool.begin_waiting(now, effects)
        self._schedule.update(now)
        while self._refreshing is None or not self._pool.is_running(self._refreshing):
            due = self._schedule.next(now)
            if due is None:
                self._refreshing = None
                break
            self._refreshing = Lookup(self._config, due.key, via=due.via, max_queries=due.max_queries)
            self._pool.begin(self._refreshing, now, effects)
        deadlines = (
            self._pool.next_deadline(),
            self._content.next_deadline(),
            self._schedule.due,
            next(iter(self._probes.values()), None),
        )
        self._due = min((deadline for deadline in deadlines if deadline is not None), default=None)
