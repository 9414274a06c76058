"""Which addresses of a peer are dialled: private ones only where both sides can mean the same network."""

from collections.abc import Iterator

from ..multiaddr import Multiaddr
from ..networks import Network, Scope, local_network
from ..peers import BookEntry, KnownAddress, Origin
from .switch import Switch

# These say what is true here: who runs this node, its app, and the link that it is on.
_OF_HERE = (Origin.BOOTSTRAP, Origin.APP, Origin.LOCAL)


class DialChoice:
    """Leaves out private addresses that lead somewhere else from here than where they were told.

    192.168.1.7 is another host in each home. Such an address is dialled where it has worked, where somebody here gave
    it, or where this node has an address or a connection in the same private range: then it may be the same network.
    """

    __slots__ = ("_switch", "left_out")

    def __init__(self, switch: Switch) -> None:
        self._switch = switch
        self.left_out = 0
        """Addresses not dialled, counted since the start."""

    def choose(self, entry: BookEntry) -> tuple[KnownAddress, ...]:
        """The addresses of a peer that may be dialled, in the order in which to try them."""
        known = entry.known()
        if not any(_is_private(note) for note in known):
            return known
        here = dict.fromkeys(self._networks())
        chosen = tuple(note for note in known if not _is_private(note) or local_network(note.address.ip or "") in here)
        self.left_out += len(known) - len(chosen)
        return chosen

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
