"""The lookups under way: their queries, time-outs, bounds and results."""

from collections import deque
from collections.abc import Sequence
from itertools import islice

from ..classes import NamedTuple
from ..errors import DeadlineExceeded, NotSupported, ProtocolError, QueueFull, SidecarError
from ..histogram import Histogram
from ..parameters.kademlia import KademliaConfig
from ..types import PeerId
from .events import (
    Addresses,
    CancelQuery,
    KademliaEffect,
    LookupCompleted,
    PeerAddresses,
    PeersNamed,
    QueryAnswered,
    SendQuery,
)
from .hearsay import sift
from .lookup import Candidate, Lookup
from .messages import MessageType, decode_answer, encode_find_node, own_addresses
from .table import RoutingTable, note_failure

# How lookups end: found what they were for before they had walked to the end; walked to the closest peers; nobody
# answered; their time was over; who asked went away; too many waited already.
OUTCOMES = ("found", "walked", "unanswered", "timed_out", "cancelled", "refused")
DURATIONS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)  # seconds
HOPS = (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0)
_TELLERS = 64  # a guess: more than one lookup asks
QUERIES = (1.0, 2.0, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0)


class _Query(NamedTuple):
    lookup: Lookup
    peer: PeerId
    deadline: float
    """It has failed."""
    patience: float
    """The lookup asks somebody else in its place."""


class _Running:
    """A lookup, the request that it sends everywhere, when it began and when it must end."""

    __slots__ = ("begun", "deadline", "frame", "queries")

    def __init__(self, frame: bytes, begun: float, deadline: float) -> None:
        self.frame = frame
        self.begun = begun
        self.deadline = deadline
        self.queries: dict[int, None] = {}


class LookupPool:
    """Runs at most `max_lookups` requested lookups at a time, and beside them the router's own.

    At most `max_queued_lookups` wait. Effects are appended to the list that each method is given.
    """

    __slots__ = (
        "_config",
        "_local",
        "_prompt",
        "_queries",
        "_running",
        "_table",
        "_waiting",
        "durations",
        "failed",
        "hops",
        "outcomes",
        "queries",
        "refused_addresses",
        "sent",
        "tellers",
    )

    def __init__(self, config: KademliaConfig, local: PeerId, table: RoutingTable) -> None:
        self._config = config
        self._local = local
        self._table = table
        self._running: dict[Lookup, _Running] = {}  # in the order of their deadlines
        self._waiting: deque[Lookup] = deque()
        self._queries: dict[int, _Query] = {}  # likewise
        self._prompt: dict[int, None] = {}  # those of them that are not slow yet
        self.sent = 0  # all queries ever, those of deliveries as well; numbers them too
        self.failed = 0
        self.refused_addresses = 0  # that answers named and that are not believed
        self.tellers: dict[PeerId, float] = {}  # who has named our own neighbours, and when last, in this order
        self.outcomes = dict.fromkeys(OUTCOMES, 0)  # of lookups that ended, or were not begun
        self.durations = Histogram(DURATIONS)
        self.hops = Histogram(HOPS)  # as `LookupCompleted` has them, of lookups that somebody answered
        self.queries = Histogram(QUERIES)  # of each lookup

    @property
    def running(self) -> int:
        """Lookups that run, the router's own included."""
        return len(self._running)

    @property
    def waiting(self) -> int:
        """Requested lookups that wait for one to end."""
        return len(self._waiting)

    @property
    def in_flight(self) -> int:
        """Queries that were sent and not answered yet, of all lookups."""
        return len(self._queries)

    def number(self) -> int:
        """The number of a new query."""
        self.sent += 1
        return self.sent

    def is_running(self, lookup: Lookup) -> bool:
        """Whether the lookup has begun and not ended."""
        return lookup in self._running

    # ---------------------------------------------------------------- beginning and ending

    def request(self, lookup: Lookup, now: float, effects: list[KademliaEffect]) -> None:
        """Begin a lookup that somebody asked for, or let it wait its turn. Raises QueueFull."""
        if len(self._running) < self._config.max_lookups:
            self.begin(lookup, now, effects)
        elif len(self._waiting) < self._config.max_queued_lookups:
            self._waiting.append(lookup)
        else:
            self.outcomes["refused"] += 1
            raise QueueFull(f"{self.running} lookups are running and {self.waiting} waiting, and no more may")

    def begin(self, lookup: Lookup, now: float, effects: list[KademliaEffect]) -> None:
        """Begin a lookup at once."""
        bucket = self._table.bucket_of(lookup.place)
        if bucket is not None:
            bucket.refreshed = now
        known = self._table.closest(lookup.place, self._config.k) if not lookup.via else ()
        lookup.begin(lookup.via or ((contact.peer, contact.addresses) for contact in known))
        frame = encode_find_node(lookup.key) if lookup.search is None else lookup.search.frame
        self._running[lookup] = _Running(frame, now, now + self._config.lookup_timeout)
        self._advance(lookup, now, effects)

    def widen(
        self, lookup: Lookup, peer: PeerId, addresses: Addresses, now: float, effects: list[KademliaEffect]
    ) -> None:
        """Let a lookup that runs begin with one more peer, where it has use for that."""
        if lookup.widen(peer, addresses):
            self._advance(lookup, now, effects)

    def begin_waiting(self, now: float, effects: list[KademliaEffect]) -> None:
        """Give the places of lookups that ended to those that wait; once a turn, at its end."""
        while self._waiting and len(self._running) < self._config.max_lookups:
            self.begin(self._waiting.popleft(), now, effects)

    def cancel(self, op: int, now: float, effects: list[KademliaEffect]) -> None:
        """End a requested lookup without a result."""
        for lookup in self._running:
            if lookup.op == op:
                self._end(lookup, "cancelled", now, effects)
                return
        waiting = len(self._waiting)
        self._waiting = deque(lookup for lookup in self._waiting if lookup.op != op)
        self.outcomes["cancelled"] += waiting - len(self._waiting)

    def identified(self, peer: PeerId, addresses: Addresses, now: float, effects: list[KademliaEffect]) -> None:
        """A peer is connected: whoever looks for it need not go on."""
        for lookup in [lookup for lookup in self._running if lookup.target == peer]:
            candidate = lookup.get(peer)
            found = addresses or (candidate.addresses if candidate else ())
            self._complete(lookup, "found", found, now, effects)

    # ---------------------------------------------------------------- answers

    def answered(self, event: QueryAnswered, now: float, effects: list[KademliaEffect]) -> None:
        """The answer to a query; one to a query that is no more is ignored."""
        number, frame, teller, network = event
        query = self._take(number)
        if query is None:
            return
        search = query.lookup.search
        try:
            answer = decode_answer(frame, MessageType.FIND_NODE if search is None else search.kind, self._config)
        except ProtocolError:
            self.failed += 1
            self._table.remove(query.peer)
            query.lookup.failed(query.peer)
            self._advance(query.lookup, now, effects)
            return
        self._table.seen(query.peer, now)
        if query.lookup.key == self._local:
            self.tellers.pop(query.peer, None)
            self.tellers[query.peer] = now
            if len(self.tellers) > _TELLERS:
                del self.tellers[next(iter(self.tellers))]
        closer, refused = sift(answer.closer, teller)
        providers, refused_providers = sift(answer.providers, teller)
        answer = answer._replace(closer=closer, providers=providers)
        refused += refused_providers
        self.refused_addresses += refused
        # Without addresses a peer is of use only where we know some.
        useful = [peer for peer in answer.closer if peer[0] != self._local and (peer[1] or self._table.get(peer[0]))]
        learned = tuple(peer for peer in useful + answer.providers if peer[1])
        if learned or refused:
            effects.append(PeersNamed(learned, query.peer, refused, teller))
        if query.lookup.via:
            useful = [peer for peer in useful if self._table.get(peer[0]) is None]
        if not query.lookup.answered(query.peer, useful, network):
            self._advance(query.lookup, now, effects)
            return
        candidate = query.lookup.get(query.peer)
        if search is None or candidate is None:
            self._settle(query, now, effects)
        elif search.answered((query.peer, self._addresses(candidate)), answer, effects):
            self._complete(query.lookup, "found", None, now, effects)
        else:
            self._settle(query, now, effects)

    def query_failed(self, number: int, error: SidecarError, now: float, effects: list[KademliaEffect]) -> None:
        """A query came to nothing."""
        query = self._take(number)
        if query is None:
            return
        self.failed += 1
        note_failure(self._table, query.peer, error, refusable=query.lookup.search is not None)
        query.lookup.failed(query.peer)
        if isinstance(error, NotSupported):  # it is there, though it is no server
            self._settle(query, now, effects)
        else:
            self._advance(query.lookup, now, effects)

    def next_deadline(self) -> float | None:
        """When the first query or lookup times out, in monotonic seconds."""
        firsts = [query.deadline for query in islice(self._queries.values(), 1)]
        firsts += [self._queries[number].patience for number in islice(self._prompt, 1)]
        firsts += [running.deadline for running in islice(self._running.values(), 1)]
        return min(firsts, default=None)

    def handle_deadline(self, now: float, effects: list[KademliaEffect]) -> None:
        """Give up the queries and lookups whose time is over, and ask others in place of those who are slow."""
        for number in [number for number, query in self._queries.items() if query.deadline <= now]:
            if number in self._queries:  # the end of its lookup may have taken it along
                effects.append(CancelQuery(number))
                error = DeadlineExceeded(f"no answer within {self._config.query_timeout} s")
                self.query_failed(number, error, now, effects)
        while self._prompt:
            number = next(iter(self._prompt))
            query = self._queries[number]
            if query.patience > now:
                break
            del self._prompt[number]
            query.lookup.slow(query.peer)
            self._advance(query.lookup, now, effects)
        for lookup in [lookup for lookup, running in self._running.items() if running.deadline <= now]:
            if lookup in self._running:
                self._complete(lookup, "timed_out", None, now, effects)

    # ---------------------------------------------------------------- inside

    def _take(self, number: int) -> _Query | None:
        query = self._queries.pop(number, None)
        self._prompt.pop(number, None)
        if query is not None:
            del self._running[query.lookup].queries[number]
        return query

    def _settle(self, query: _Query, now: float, effects: list[KademliaEffect]) -> None:
        """Go on, or end when the one that was looked for has been reached."""
        if query.peer == query.lookup.target:
            candidate = query.lookup.get(query.peer)
            self._complete(query.lookup, "found", self._addresses(candidate) if candidate else (), now, effects)
        else:
            self._advance(query.lookup, now, effects)

    def _advance(self, lookup: Lookup, now: float, effects: list[KademliaEffect]) -> None:
        running = self._running[lookup]
        for candidate in lookup.next_queries():
            number = self.number()
            patience = now + min(self._config.slow_after, self._config.query_timeout)
            self._queries[number] = _Query(lookup, candidate.peer, now + self._config.query_timeout, patience)
            self._prompt[number] = None
            running.queries[number] = None
            effects.append(SendQuery(number, candidate.peer, self._addresses(candidate), running.frame))
        if lookup.finished:
            self._complete(lookup, "walked" if lookup.closest() else "unanswered", None, now, effects)

    def _complete(
        self, lookup: Lookup, outcome: str, found: Addresses | None, now: float, effects: list[KademliaEffect]
    ) -> None:
        """End a lookup with its result; where the target was not reached, with what others say of it."""
        self._end(lookup, outcome, now, effects)
        if lookup.op is not None:
            closest = lookup.closest()
            if lookup.search is not None:
                reached = [(other.peer, self._addresses(other)) for other in lookup.reached()]
                lookup.search.ended(reached, now, effects)
                return
            if found is None and lookup.target is not None:
                candidate = lookup.get(lookup.target)
                found = candidate.addresses if candidate else None
            result: tuple[PeerAddresses, ...] = tuple((other.peer, self._addresses(other)) for other in closest)
            effects.append(LookupCompleted(lookup.op, result, found, _hops(closest), lookup.queried, lookup.failures))

    def _end(self, lookup: Lookup, outcome: str, now: float, effects: list[KademliaEffect]) -> None:
        running = self._running.pop(lookup)
        self.outcomes[outcome] += 1
        self.durations.observe(now - running.begun)
        self.queries.observe(lookup.queried)
        if closest := lookup.closest():
            self.hops.observe(_hops(closest))
        for number in running.queries:
            del self._queries[number]
            self._prompt.pop(number, None)
            effects.append(CancelQuery(number))

    def _addresses(self, candidate: Candidate) -> Addresses:
        """What the peer says of itself, then what others say of it."""
        contact = self._table.get(candidate.peer)
        if contact is None or contact.addresses == candidate.addresses:
            return candidate.addresses
        return own_addresses(candidate.peer, contact.addresses + candidate.addresses, self._config.max_addresses)


def _hops(closest: Sequence[Candidate]) -> int:
    """The longest chain of answers that led to one of them."""
    return max((candidate.depth for candidate in closest), default=0)
