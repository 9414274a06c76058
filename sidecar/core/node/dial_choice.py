"""Which addresses of a peer are dialled.

Private ones only where both sides can mean the same network, and none through a relay that does wrong while there is
another one.
"""

from collections.abc import Iterator

from ..multiaddr import Multiaddr
from ..networks import Network, Scope, local_network
from ..peers import BookEntry, KnownAddress, Origin
from ..relay import RelayStandings
from ..types import PeerId
from .switch import Switch

# These say what is true here: who runs this node, its app, and the link that it is on.
_OF_HERE = (Origin.BOOTSTRAP, Origin.APP, Origin.LOCAL)


class DialChoice:
    """Leaves out private addresses that lead somewhere else from here than where they were told.

    192.168.1.7 is another host in each home. Such an address is dialled where it has worked, where somebody here gave
    it, or where this node has an address or a connection in the same private range: then it may be the same network.
    """

    __slots__ = ("_relays", "_switch", "left_out")

    def __init__(self, switch: Switch, relays: RelayStandings) -> None:
        self._switch = switch
        self._relays = relays
        self.left_out = 0
        """Addresses not dialled, counted since the start."""

    def choose(self, peer: PeerId, entry: BookEntry, now: float) -> tuple[KnownAddress, ...]:
        """The addresses of a peer that may be dialled, in the order in which to try them."""
        known = self._by_good_relays(peer, entry.known(), now)
        if not any(_is_private(note) for note in known):
            return known
        here = dict.fromkeys(self._networks())
        chosen = tuple(note for note in known if not _is_private(note) or local_network(note.address.ip or "") in here)
        self.left_out += len(known) - len(chosen)
        return chosen

    def _by_good_relays(self, peer: PeerId, known: tuple[KnownAddress, ...], now: float) -> tuple[KnownAddress, ...]:
        """Leave out what is behind relays that did wrong, to others or to this peer of late, unless all of it is."""
        if not len(self._relays):
            return known
        bad = [note for note in known if note.origin not in _OF_HERE and self._does_wrong(note, peer, now)]
        if not bad or len(bad) == sum(note.address.is_relayed for note in known):
            return known
        self.left_out += len(bad)
        return tuple(note for note in known if note not in bad)

    def _does_wrong(self, note: KnownAddress, peer: PeerId, now: float) -> bool:
        relay = note.address.relay
        standing = self._relays.known(relay.peer_id) if relay is not None and relay.peer_id is not None else None
        return standing is not None and (standing.blamed(peer, now) or not standing.trusted(now))

    def _networks(self) -> Iterator[Network]:
        """The private ranges that this node is in, or that lead somewhere."""
        yield from _ranges(self._switch.listening)
        for connection in self._switch.connections.values():
            yield from _ranges((connection.remote, connection.local))


def _is_private(note: KnownAddress) -> bool:
    """Whether an address means something in some networks alone, and nothing says that this is one of them."""
    if note.origin in _OF_HERE or note.succeeded_at is not None or note.address.ip is None:
        return False
    return Scope.LOOPBACK < Scope.of(note.address) < Scope.PUBLIC


def _ranges(addresses: tuple[Multiaddr, ...]) -> Iterator[Network]:
    for address in addresses:
        found = local_network(address.ip) if address.ip is not None else None
        if found is not None:
            yield found
