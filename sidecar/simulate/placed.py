"""A network that has been there for long: who is connected to whom, and what routing tables hold."""

import random
from bisect import bisect_left
from collections.abc import Sequence

from ..core import events
from ..core.kademlia.keyspace import KEY_BITS, place
from ..core.types import PeerId
from ..sim import SimPeer

_ENTRANCE = 2 / 3  # of an entrance's low water that is taken: so that it has room for those who join later


class PlacedNetwork:
    """What each node of a joined network knows, and the connections between them.

    A node's table holds its true neighbours, and of each part of the keyspace farther away as many nodes as a bucket
    takes, drawn from all that are there. It is connected to nodes of its table, until it has the `target_peers` that
    it wants, and among these as many of its own choice as it wants; or more, for others choose it too. As each has been
    met by most others, an entrance has more, but not so many that it would send some away.
    """

    def __init__(self, peers: Sequence[SimPeer], rng: random.Random) -> None:
        """`peers`: all of them, not started yet."""
        self._rng = rng
        self._order = sorted((place(peer.identity.peer_id), peer.index, peer) for peer in peers)
        self._places = [where for where, _, _ in self._order]
        self._tables = {peer.index: self._table(peer) for peer in peers}
        self.links: list[tuple[SimPeer, SimPeer]] = []
        """(dialler, target), each pair once."""
        self._linked: dict[int, dict[int, SimPeer]] = {peer.index: {} for peer in peers}
        self._chosen = dict.fromkeys(self._linked, 0)
        self._link_entrances(peers)
        for peer in rng.sample(list(peers), len(peers)):
            self._link(peer)

    def restored(self, peer: SimPeer) -> events.MeshRestored:
        """What to tell the node, once it is started, before its connections are opened."""
        contacts = [(other.identity.peer_id, (other.address,)) for other in self._tables[peer.index]]
        return events.MeshRestored(contacts, [other.identity.peer_id for other in self._linked[peer.index].values()])

    def _table(self, peer: SimPeer) -> list[SimPeer]:
        """The nodes of its buckets, the farthest bucket first."""
        k = peer.config.kademlia.k
        where = place(peer.identity.peer_id)
        table: list[SimPeer] = []
        for prefix in range(KEY_BITS):
            # Those that share just so many bits are next to each other in the order of places.
            bits = KEY_BITS - prefix - 1
            first = (where >> bits ^ 1) << bits
            begin, end = bisect_left(self._places, first), bisect_left(self._places, first + (1 << bits))
            drawn = range(begin, end) if end - begin <= k else self._rng.sample(range(begin, end), k)
            table += (self._order[number][2] for number in drawn if self._order[number][2].config.dht_server)
            mine = where >> bits << bits
            if bisect_left(self._places, mine + (1 << bits)) - bisect_left(self._places, mine) == 1:
                break  # nobody shares more
        return table

    def _link_entrances(self, peers: Sequence[SimPeer]) -> None:
        """Connect nodes to their bootstrap peers, as far as these keep them."""
        by_id: dict[PeerId | None, SimPeer] = {peer.identity.peer_id: peer for peer in peers}
        wishes = [(peer, by_id.get(address.peer_id)) for peer in peers for address in peer.config.bootstrap]
        for peer, entrance in self._rng.sample(wishes, len(wishes)):
            if entrance is not None and entrance is not peer:
                most = entrance.config.low_water if entrance.config.high_water else len(peers)
                if len(self._linked[entrance.index]) < most * _ENTRANCE:
                    self._connect(peer, entrance)

    def _link(self, peer: SimPeer) -> None:
        linked, config = self._linked[peer.index], peer.config
        missing = max(config.target_peers - len(linked), config.outbound - self._chosen[peer.index])
        others = [other for other in self._tables[peer.index] if other.index not in linked]
        for other in self._rng.sample(others, min(max(0, missing), len(others))):
            self._connect(peer, other)

    def _connect(self, dialler: SimPeer, target: SimPeer) -> None:
        if target.index not in self._linked[dialler.index]:
            self._chosen[dialler.index] += 1
            self._linked[dialler.index][target.index] = target
            self._linked[target.index][dialler.index] = dialler
            self.links.append((dialler, target))
