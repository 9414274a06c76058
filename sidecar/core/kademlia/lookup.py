"""One iterative lookup: who was heard of, who was asked, who is next (specs kad-dht, "Peer routing").

Knows nothing of time or messages, so that its tests need no network.
"""

import enum
from bisect import bisect_left, insort
from collections.abc import Iterable
from operator import attrgetter

from ..parameters.kademlia import KademliaConfig
from ..types import PeerId
from .events import Addresses, PeerAddresses
from .keyspace import place
from .searches import Search

_by_distance = attrgetter("distance")


class CandidateState(enum.Enum):
    """What became of a candidate."""

    HEARD = "heard"
    WAITING = "waiting"
    SLOW = "slow"
    ANSWERED = "answered"
    FAILED = "failed"


class Candidate:
    """A peer that the lookup heard of. `depth`: answers that led to it, itself included."""

    __slots__ = ("addresses", "depth", "distance", "peer", "state")

    def __init__(self, peer: PeerId, distance: int, addresses: Addresses, depth: int) -> None:
        self.peer = peer
        self.distance = distance
        self.addresses = addresses
        self.depth = depth
        self.state = CandidateState.HEARD


class Lookup:
    """The walk toward one key.

    Ends when the k closest candidates that have not failed have all answered, when nobody is left to ask, or when
    `max_queries` are spent; it does not wait for slow ones where k others have answered. Keeps at most `max_candidates`
    that were not asked yet, the closest ones, and those asked.
    """

    __slots__ = (
        "_asked",
        "_candidates",
        "_config",
        "_failed",
        "_max_queries",
        "_order",
        "_slow",
        "_waiting",
        "key",
        "op",
        "place",
        "search",
        "target",
        "via",
    )

    def __init__(
        self,
        config: KademliaConfig,
        key: bytes,
        *,
        op: int | None = None,
        target: PeerId | None = None,
        search: Search | None = None,
        via: tuple[PeerAddresses, ...] = (),
        max_queries: int | None = None,
    ) -> None:
        """Begin with nobody heard of; `offer` brings candidates.

        `search`: what it asks for, where that is more than the closest peers.
        `via`: whom it begins with instead of those known; it then asks only strangers beside them.
        `max_queries`: whom it asks in all; None: as the configuration has it.
        """
        self._config = config
        self._max_queries = config.max_queries if max_queries is None else max_queries
        self.op = op
        self.search = search
        self.via = via
        self.key = key
        self.place = place(key)
        self.target = target
        self._candidates: dict[PeerId, Candidate] = {}
        self._order: list[Candidate] = []  # by distance, without those that failed
        self._asked = self._failed = self._slow = self._waiting = 0

    @property
    def queried(self) -> int:
        """Queries begun."""
        return self._asked

    @property
    def failures(self) -> int:
        """Candidates that were asked and have not answered, or not in time."""
        return self._failed

    def get(self, peer: PeerId) -> Candidate | None:
        """A candidate; None for who was not heard of, or made room for closer ones."""
        return self._candidates.get(peer)

    def offer(self, peer: PeerId, addresses: Addresses, depth: int = 1) -> None:
        """Take note of a peer. The target is tried again when somebody knows another address of it."""
        known = self._candidates.get(peer)
        if known is not None:
            if addresses == known.addresses:
                return
            new = tuple(address for address in addresses if address not in known.addresses)
            if new and peer == self.target and known.state is CandidateState.FAILED:
                known.addresses = (new + known.addresses)[: self._config.max_addresses]  # the old ones have just failed
                known.state = CandidateState.HEARD
                known.depth = depth
                insort(self._order, known, key=_by_distance)
            else:
                known.addresses = (known.addresses + new)[: self._config.max_addresses]
            return
        candidate = Candidate(peer, place(peer) ^ self.place, addresses[: self._config.max_addresses], depth)
        insort(self._order, candidate, key=_by_distance)
        self._candidates[peer] = candidate
        if len(self._order) - (self._asked - self._failed) > self._config.max_candidates:
            self._drop_farthest()

    def _drop_farthest(self) -> None:
        for index in range(len(self._order) - 1, -1, -1):
            if self._order[index].state is CandidateState.HEARD:
                del self._candidates[self._order.pop(index).peer]
                return

    def next_queries(self) -> list[Candidate]:
        """The candidates to ask now, marked as waiting; at most alpha are under way, or k with those that are slow."""
        config = self._config
        open_ones = max(config.alpha, config.k) - self._waiting - self._slow
        room = min(config.alpha - self._waiting, open_ones, self._max_queries - self._asked)
        heard = [candidate for candidate in self._order[: self._config.k] if candidate.state is CandidateState.HEARD]
        chosen = heard[: max(room, 0)]
        for candidate in chosen:
            candidate.state = CandidateState.WAITING
        self._waiting += len(chosen)
        self._asked += len(chosen)
        return chosen

    def answered(self, peer: PeerId, closer: Iterable[PeerAddresses]) -> None:
        """A candidate answered with the peers closest to the key that it knows."""
        candidate = self._candidates[peer]
        if candidate.state is CandidateState.SLOW:
            self._failed -= 1
            self._slow -= 1
            insort(self._order, candidate, key=_by_distance)
        else:
            self._waiting -= 1
        candidate.state = CandidateState.ANSWERED
        for other, addresses in closer:
            self.offer(other, addresses, candidate.depth + 1)

    def slow(self, peer: PeerId) -> None:
        """A candidate takes its time: others are asked in its place. An answer counts as long as the walk goes on."""
        candidate = self._candidates[peer]
        if candidate.state is CandidateState.WAITING:
            self._give_up(candidate, CandidateState.SLOW)
            self._slow += 1

    def failed(self, peer: PeerId) -> None:
        """A candidate did not answer."""
        candidate = self._candidates[peer]
        if candidate.state is CandidateState.SLOW:
            candidate.state = CandidateState.FAILED
            self._slow -= 1
        else:
            self._give_up(candidate, CandidateState.FAILED)

    def _give_up(self, candidate: Candidate, state: CandidateState) -> None:
        candidate.state = state
        self._waiting -= 1
        self._failed += 1
        del self._order[bisect_left(self._order, candidate.distance, key=_by_distance)]

    @property
    def finished(self) -> bool:
        """Whether nothing that may still come belongs to the result."""
        unsettled = [c.state for c in self._order[: self._config.k] if c.state is not CandidateState.ANSWERED]
        if CandidateState.WAITING in unsettled or (unsettled and self._asked < self._max_queries):
            return False
        return not self._slow or len(self.closest()) >= self._config.k  # where few answer, each of them is waited for

    def closest(self) -> list[Candidate]:
        """At most k candidates that answered, closest first."""
        return [candidate for candidate in self._order if candidate.state is CandidateState.ANSWERED][: self._config.k]
