"""One iterative lookup: who was heard of, who was asked, who is next (specs kad-dht, "Peer routing").

Knows nothing of time or messages, so that its tests need no network.
"""

import enum
from bisect import bisect_left, insort
from collections.abc import Iterable
from itertools import islice
from operator import attrgetter

from ..networks import AddressGroup, AddressKey
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

    __slots__ = ("addresses", "depth", "distance", "named_on", "path", "peer", "state")

    def __init__(self, peer: PeerId, distance: int, addresses: Addresses, depth: int) -> None:
        self.peer = peer
        self.distance = distance
        self.addresses = addresses
        self.depth = depth
        self.state = CandidateState.HEARD
        self.named_on = 0  # the paths on which it was named, a bit for each
        self.path = 0  # on which it was asked: what it answers belongs to that one


class Lookup:
    """The walk toward one key.

    Ends when the k closest candidates that have not failed have all answered, when nobody is left to ask, or when
    `max_queries` are spent; it does not wait for slow ones where k others have answered. Keeps at most `max_candidates`
    that were not asked yet, the closest ones, and those asked.

    It takes several paths, which share those that it begins with (Baumgart and Mies, "S/Kademlia", 4.4). Nobody is
    asked on two, and what an answer names belongs to the path on which it was asked. Each path goes on until its own
    closest candidates have answered. So who names only his own misleads one path.

    Of one network, at most `max_network_answers` candidates count: those that are over this are taken for failed.
    """

    __slots__ = (
        "_asked",
        "_candidates",
        "_config",
        "_failed",
        "_full",
        "_max_queries",
        "_networks",
        "_order",
        "_paths",
        "_per_path",
        "_roots",
        "_slow",
        "_turn",
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
        self._roots = 0  # peers that it began with
        self._candidates: dict[PeerId, Candidate] = {}
        self._order: list[Candidate] = []  # by distance, without those that failed
        self._asked = self._failed = self._slow = self._waiting = 0
        self._paths = 1 if via else config.paths
        self._per_path = -(-config.k // self._paths)  # closest candidates of a path that must have answered
        self._turn = 0  # the path that comes first next
        self._networks: dict[AddressKey, int] = {}  # candidates of each that answered
        self._full: dict[AddressKey, None] = {}  # networks of which no more count

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

    def begin(self, known: Iterable[PeerAddresses]) -> None:
        """Take note of those that it begins with, the closest first; the paths share them."""
        for peer, addresses in known:
            self._begin_with(peer, addresses)

    def widen(self, peer: PeerId, addresses: Addresses) -> bool:
        """Begin with one more peer where some paths have nobody to begin with yet; False where all have.

        Whom the walk itself has led to is none to begin with.
        """
        known = self._candidates.get(peer)
        if self._roots >= self._paths or (known is not None and known.state is not CandidateState.HEARD):
            return False
        self._begin_with(peer, addresses)
        return True

    def _begin_with(self, peer: PeerId, addresses: Addresses) -> None:
        self.offer(peer, addresses, path=self._roots % self._paths)
        self._roots += 1

    def offer(self, peer: PeerId, addresses: Addresses, depth: int = 1, *, path: int = 0) -> None:
        """Take note of a peer. The target is tried again when somebody knows another address of it."""
        known = self._candidates.get(peer)
        if known is not None:
            known.named_on |= 1 << path
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
        candidate.named_on = 1 << path
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
        """The candidates to ask now, marked as waiting; at most alpha are under way, or k with those that are slow.

        Each path has its share of them; what is left goes to whoever is closest.
        """
        config = self._config
        open_ones = max(config.alpha, config.k) - self._waiting - self._slow
        room = min(config.alpha - self._waiting, open_ones, self._max_queries - self._asked)
        chosen: list[Candidate] = []
        if room <= 0:
            return chosen
        order = self._counting()
        if self._paths > 1:
            share = config.alpha // self._paths
            for _ in range(self._paths):
                path, self._turn = self._turn, (self._turn + 1) % self._paths
                top = self._top(order, path)
                asked = sum(one.state is CandidateState.WAITING and one.path == path for one in top)
                heard = [one for one in top if one.state is CandidateState.HEARD]
                for candidate in heard[: max(0, min(share - asked, room - len(chosen)))]:
                    candidate.path = path
                    candidate.state = CandidateState.WAITING
                    chosen.append(candidate)
        for candidate in order[: config.k]:
            if len(chosen) >= room:
                break
            if candidate.state is CandidateState.HEARD:
                candidate.path = self._path_of(candidate)
                candidate.state = CandidateState.WAITING
                chosen.append(candidate)
        self._waiting += len(chosen)
        self._asked += len(chosen)
        return chosen

    def _counting(self) -> list[Candidate]:
        """Those that have not failed, closest first, without those not asked whose networks have answered enough."""
        if not self._full:
            return self._order
        return [one for one in self._order if one.state is not CandidateState.HEARD or not self._crowded(one)]

    def _crowded(self, candidate: Candidate) -> bool:
        """Whether it is said to be nowhere but in networks of which no more count."""
        if candidate.peer == self.target or not candidate.addresses:
            return False
        groups = map(AddressGroup.of_multiaddr, candidate.addresses)
        return all(group is not None and group.network in self._full for group in groups)

    def _top(self, order: list[Candidate], path: int) -> list[Candidate]:
        """The closest candidates of a path."""
        return list(islice((one for one in order if one.named_on >> path & 1), self._per_path))

    def _path_of(self, candidate: Candidate) -> int:
        """One of the paths on which it was named: the first in turn."""
        for step in range(self._paths):
            path = (self._turn + step) % self._paths
            if candidate.named_on >> path & 1:
                return path
        return 0

    def answered(self, peer: PeerId, closer: Iterable[PeerAddresses], network: AddressKey | None = None) -> bool:
        """A candidate answered with the peers closest to the key that it knows; False where it does not count.

        `network`: where it is, as the connection shows; None: not to be counted.
        """
        if network is not None and peer != self.target:
            if network in self._full:
                self.failed(peer)
                return False
            self._networks[network] = self._networks.get(network, 0) + 1
            if self._networks[network] >= self._config.max_network_answers:
                self._full[network] = None
        candidate = self._candidates[peer]
        if candidate.state is CandidateState.SLOW:
            self._failed -= 1
            self._slow -= 1
            insort(self._order, candidate, key=_by_distance)
        else:
            self._waiting -= 1
        candidate.state = CandidateState.ANSWERED
        for other, addresses in closer:
            self.offer(other, addresses, candidate.depth + 1, path=candidate.path)
        return True

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
        order = self._counting()
        within = dict.fromkeys(order[: self._config.k])
        if self._paths > 1:
            for path in range(self._paths):
                within.update(dict.fromkeys(self._top(order, path)))
        unsettled = [one.state for one in within if one.state is not CandidateState.ANSWERED]
        if CandidateState.WAITING in unsettled or (unsettled and self._asked < self._max_queries):
            return False
        return not self._slow or len(self.closest()) >= self._config.k  # where few answer, each of them is waited for

    def reached(self) -> list[Candidate]:
        """Those of `closest`, and of each path that led to few of them the closest that answered there.

        In an honest network all paths lead to the same peers. Where one leads elsewhere, somebody misleads the others.
        """
        closest = dict.fromkeys(self.closest())
        found = dict(closest)
        answered = [one for one in self._order if one.state is CandidateState.ANSWERED]
        for path in range(self._paths):
            top = self._top(answered, path)
            if 2 * sum(one in closest for one in top) < len(top):
                found.update(dict.fromkeys(top))
        return list(found)

    def closest(self) -> list[Candidate]:
        """At most k candidates that answered, closest first."""
        return [candidate for candidate in self._order if candidate.state is CandidateState.ANSWERED][: self._config.k]
