"""Whom to connect to next: from here and there, so that no one party chooses a node's peers.

Who dials us may be anybody, as often as he likes. So some connections are those that this node opens itself, and each
of them comes from another origin than the last: a bootstrap peer, the memory of an earlier run, the DHT, peer exchange.
Within an origin it is the turn of another peer that named some, and of another network.
"""

from collections.abc import Sequence

from ..networks import AddressGroup, Grouping
from ..peers import BookEntry, Origin
from ..types import Direction, PeerId
from .switch import Switch


class OutboundChoice:
    """Chooses among the peers of the address book."""

    __slots__ = ("_before", "_last", "_look_at", "_pause", "_switch")

    def __init__(self, switch: Switch) -> None:
        self._switch = switch
        self._last: Origin | None = None
        self._look_at = 0.0
        self._pause = 0.0
        self._before = 0  # connections of our own at the last look

    def is_time(self, now: float) -> bool:
        """Whether to look for more of them although there are peers enough; counts as a look where it is.

        Less and less often while nothing comes of it: most nodes that others dial know nobody else who lives.
        """
        if now < self._look_at:
            return False
        config, count = self._switch.config, self.count()
        if count > self._before or not self._pause:
            self._pause = config.upkeep_interval
        else:
            self._pause = min(2 * self._pause, max(config.redial_limit, config.upkeep_interval))
        self._before = count
        self._look_at = now + self._pause
        return True

    def count(self) -> int:
        """Connected peers whose connection this node opened."""
        return sum(
            peer.best.direction is Direction.OUTBOUND for peer in self._switch.peers.values() if peer.connections
        )

    def choose(self, eligible: Sequence[PeerId], count: int) -> list[PeerId]:
        """At most `count` of the peers, in the order in which they are to be dialled."""
        rng, book = self._switch.rng, self._switch.book
        origins: dict[Origin, dict[PeerId | None, list[PeerId]]] = {}
        for peer in rng.sample(eligible, len(eligible)):
            entry = book.get(peer)
            if entry is not None:
                origins.setdefault(entry.origin, {}).setdefault(entry.teller, []).append(peer)
        taken = self._networks()
        chosen: list[PeerId] = []
        order = [origin for origin in Origin if origin in origins]
        if self._last in order:  # it is the others' turn first
            at = order.index(self._last) + 1
            order = order[at:] + order[:at]
        while order and len(chosen) < count:
            origin = order.pop(0)
            tellers = origins[origin]
            teller = next(iter(tellers))
            peers = tellers.pop(teller)
            position = next((i for i, peer in enumerate(peers) if self._network(book.get(peer)) not in taken), 0)
            peer = peers.pop(position)
            taken[self._network(book.get(peer))] = None
            taken.pop(None, None)
            chosen.append(peer)
            self._last = origin
            if peers:
                tellers[teller] = peers  # behind the others that named some
            if tellers:
                order.append(origin)
        return chosen

    def _networks(self) -> "dict[tuple[int, int] | None, None]":
        """Where the peers are that this node dialled."""
        grouping = Grouping(self._switch.config.exempt_networks)
        groups = (
            grouping.of(peer.best.remote)
            for peer in self._switch.peers.values()
            if peer.connections and peer.best.direction is Direction.OUTBOUND
        )
        return {group.network: None for group in groups if group is not None}

    def _network(self, entry: BookEntry | None) -> tuple[int, int] | None:
        """Where a peer is said to be."""
        address = None if entry is None else entry.proven or next(iter(entry.addresses), None)
        group = None if address is None else AddressGroup.of_multiaddr(address)
        return None if group is None else group.network
