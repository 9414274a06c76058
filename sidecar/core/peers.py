"""The address book: what is known of peers, connected or not, within bounds."""

import enum
from collections.abc import Iterable, Sequence

from .multiaddr import Multiaddr
from .networks import Scope
from .types import PeerId


class Origin(enum.Enum):
    """From where a peer was heard of first."""

    BOOTSTRAP = "bootstrap"
    LOCAL = "local"
    """It says so on the local network."""
    MEMORY = "memory"
    """An earlier run."""
    MET = "met"
    """It connected, or an app named it."""
    DHT = "dht"
    """An answer of another peer."""
    EXCHANGE = "exchange"
    """Another peer, which pruned us from a mesh."""


class BookEntry:
    """What is known of one peer: its addresses, best first, and how the last attempts at it went."""

    __slots__ = (
        "addresses", "brief", "failed_at", "failures", "good", "origin", "proven", "retry_at", "teller", "told",
    )  # fmt: skip

    def __init__(self, origin: Origin, teller: PeerId | None) -> None:
        self.origin = origin
        self.teller = teller  # who named it first; None: no other peer did
        self.addresses: tuple[Multiaddr, ...] = ()
        self.told: dict[Multiaddr, Scope] = {}  # those with names that strangers told: where these may lead at least
        self.proven: Multiaddr | None = None  # where it was reached last
        self.failures = 0
        self.brief = 0  # connections in a row that it ended soon
        self.good = False  # a connection to it has worked
        self.retry_at = 0.0  # monotonic seconds; not dialled unasked before then
        self.failed_at: float | None = None  # the last attempt, where it is this failure that `retry_at` is set for


class AddressBook:
    """Peers and their addresses, at most `max_peers` of them with `max_addresses` each.

    When it is full the entry that was touched longest ago makes room, those never connected first. At most a
    quarter are peers that one peer named and that were never connected, so that nobody fills it with what it made up.
    """

    def __init__(self, max_peers: int, max_addresses: int) -> None:
        self.max_peers = max_peers
        self.max_addresses = max_addresses
        self._entries: dict[PeerId, BookEntry] = {}
        self._named: dict[PeerId, dict[PeerId, None]] = {}  # by who named them first: those never connected

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, peer: PeerId) -> bool:
        return peer in self._entries

    def peers(self) -> Iterable[PeerId]:
        """All peers, the one touched longest ago first."""
        return self._entries.keys()

    def get(self, peer: PeerId) -> BookEntry | None:
        """What is known of a peer, if anything is; looking does not count as touching."""
        return self._entries.get(peer)

    def addresses(self, peer: PeerId) -> tuple[Multiaddr, ...]:
        """The addresses of a peer; none where it is not known."""
        entry = self._entries.get(peer)
        return entry.addresses if entry else ()

    def learn(
        self,
        peer: PeerId,
        addresses: Sequence[Multiaddr],
        *,
        replace: bool = False,
        origin: Origin = Origin.MET,
        teller: PeerId | None = None,
        reach: Scope = Scope.LOOPBACK,
    ) -> bool:
        """Put addresses first in the entry, or make them the whole of it. Returns whether that changed anything.

        An address that names another peer at its end is left out. `origin`, `teller`: from where they are, and which
        peer has told them. What others tell goes behind what is known already. `reach`: from where whoever tells them
        can be reached. Names among them are not to lead anywhere narrower, unless somebody nearer tells them too.
        """
        clean = []
        for address in addresses[: self.max_addresses]:
            named = address.peer_id
            if named is None:
                clean.append(address)
            elif named == peer:
                clean.append(address.without_peer())
        if not clean:
            return False
        entry = self._entries.pop(peer, None)
        if entry is None:
            if teller is not None:
                others = self._named.get(teller, {})
                if len(others) >= max(1, self.max_peers // 4):
                    self.forget(next(iter(others)))
                self._named.setdefault(teller, {})[peer] = None
            if len(self._entries) >= self.max_peers:
                self._evict()
            entry = BookEntry(origin, teller)
        self._entries[peer] = entry
        _note_names(entry, clean, reach)
        if not replace and tuple(clean) == entry.addresses:  # as a rule, and many times a second while lookups run
            return False
        if not replace:
            clean = [*entry.addresses, *clean] if teller is not None else [*clean, *entry.addresses]
        merged = tuple(dict.fromkeys(clean))[: self.max_addresses]
        changed = merged != entry.addresses
        entry.addresses = merged
        if entry.told:
            entry.told = {address: scope for address, scope in entry.told.items() if address in merged}
        return changed

    def forget(self, peer: PeerId) -> None:
        """Know nothing of the peer any more."""
        entry = self._entries.pop(peer, None)
        if entry is not None:
            self._no_hearsay(peer, entry)

    def _no_hearsay(self, peer: PeerId, entry: BookEntry) -> None:
        named = self._named.get(entry.teller) if entry.teller is not None else None
        if named is not None and entry.teller is not None:
            named.pop(peer, None)
            if not named:
                del self._named[entry.teller]

    def connected(self, peer: PeerId, address: Multiaddr | None) -> None:
        """A connection worked; `address` is the one that was dialled, if it was."""
        if address is not None:
            self.learn(peer, (address,))
        entry = self._entries.get(peer)
        if entry is not None:
            entry.good, entry.failures, entry.retry_at = True, 0, 0.0
            if address is not None:
                entry.proven = address.without_peer()
            self._no_hearsay(peer, entry)

    def failed(self, peer: PeerId, now: float, base: float, limit: float) -> None:
        """An attempt failed: the next unasked one waits, `base` seconds doubled a failure up to `limit`."""
        entry = self._entries.get(peer)
        if entry is not None:
            entry.failures += 1
            entry.failed_at = now
            entry.retry_at = now + min(limit, base * 2 ** min(entry.failures - 1, 16))

    def ended(
        self, peer: PeerId, now: float, lived: float, base: float, limit: float, *, in_order: bool = True
    ) -> None:
        """A connection has ended after `lived` seconds; `in_order`: the peer has closed it, and did not just vanish.

        A peer that does so again and again after less than `limit` seconds has no place for us: it is left alone as if
        it had failed. One that stayed longer, however it ended, begins anew.
        """
        entry = self._entries.get(peer)
        if entry is not None:
            if lived >= limit:
                entry.brief = 0
            elif in_order:
                entry.brief += 1
                entry.failed_at = None
                pause = min(limit, base * 2 ** min(entry.brief - 1, 16))
                entry.retry_at = max(entry.retry_at, now + pause)

    def _evict(self) -> None:
        strangers = (peer for peer, entry in self._entries.items() if not entry.good)
        self.forget(next(strangers, next(iter(self._entries))))


def _note_names(entry: BookEntry, addresses: Iterable[Multiaddr], reach: Scope) -> None:
    """Note how near the names among addresses may lead, before they enter the entry."""
    for address in addresses:
        if address.ip is not None:
            continue
        if reach is Scope.LOOPBACK:
            entry.told.pop(address, None)
        elif address in entry.told or address not in entry.addresses:
            entry.told[address] = min(reach, entry.told.get(address, reach))
