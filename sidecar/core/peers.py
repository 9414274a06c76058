"""The address book: what is known of peers, connected or not, within bounds."""

import enum
from collections.abc import Iterable, Sequence

from .classes import NamedTuple
from .multiaddr import Multiaddr
from .networks import Scope
from .types import PeerId


class Origin(enum.Enum):
    """From where a peer, or one of its addresses, was heard of."""

    BOOTSTRAP = "bootstrap"
    """The configuration."""
    LOCAL = "mdns"
    """It says so on the local network."""
    MEMORY = "memory"
    """An earlier run, which did not say more."""
    MET = "connection"
    """A connection: it came, or was reached there."""
    DHT = "dht"
    """An answer of another peer."""
    EXCHANGE = "px"
    """Another peer, which pruned us from a mesh."""
    APP = "app"
    RECORD = "record"
    """Its own signed record, by identify."""
    IDENTIFY = "identify"
    """Its own word, unsigned."""
    RELAY = "relay"
    """An address through a relay names it as that."""


# Who knows best where a peer is comes first. An address that several tell has the first of these.
_BEST_KNOWN = (
    Origin.BOOTSTRAP,
    Origin.APP,
    Origin.LOCAL,
    Origin.RECORD,
    Origin.IDENTIFY,
    Origin.MET,
    Origin.EXCHANGE,
    Origin.RELAY,
    Origin.DHT,
    Origin.MEMORY,
)
_RANK = {origin: rank for rank, origin in enumerate(_BEST_KNOWN)}
_OF_ITSELF = (Origin.APP, Origin.RECORD, Origin.IDENTIFY, Origin.RELAY)  # say where a peer is, not how it was found
_MAX_LOCAL = 4  # addresses of a peer that the local network tells; a guess
_MAX_GIVEN = 4  # addresses of a peer kept though it does not tell them; a guess


class KnownAddress(NamedTuple):
    """An address of a peer: who told it, and when it worked and failed last, in monotonic seconds; None: never.

    Times of an earlier run may be below 0.
    """

    address: Multiaddr
    origin: Origin
    succeeded_at: float | None = None
    failed_at: float | None = None

    @property
    def failing(self) -> bool:
        """Whether the last attempt there came to nothing."""
        return self.failed_at is not None and (self.succeeded_at is None or self.failed_at > self.succeeded_at)

    @property
    def order(self) -> tuple[int, float]:
        """By what to try addresses: where it worked last, then new ones, those that worked once, those that never did.

        Among those that worked, the latest first.
        """
        latest = 0.0 if self.succeeded_at is None else -self.succeeded_at
        if self.succeeded_at is None:
            return (3 if self.failing else 1), latest
        return (2 if self.failing else 0), latest


class BookEntry:
    """What is known of one peer: its addresses, best first, and how the last attempts at it went."""

    __slots__ = (
        "addresses",
        "brief",
        "failed_at",
        "failures",
        "given",
        "good",
        "notes",
        "origin",
        "proven",
        "retry_at",
        "teller",
        "told",
    )

    def __init__(self, origin: Origin, teller: PeerId | None) -> None:
        self.origin = origin
        self.teller = teller  # who named it first; None: no other peer did
        self.addresses: tuple[Multiaddr, ...] = ()
        # Of the configuration, or of an app and proven: kept whatever the peer tells, and told nobody.
        self.given: tuple[Multiaddr, ...] = ()
        self.notes: dict[Multiaddr, KnownAddress] = {}  # of addresses with another origin than the peer, or tried
        self.told: dict[Multiaddr, Scope] = {}  # those with names that strangers told: where these may lead at least
        self.proven: Multiaddr | None = None  # where it was reached last
        self.failures = 0
        self.brief = 0  # connections in a row that it ended soon
        self.good = False  # a connection to it has worked
        self.retry_at = 0.0  # monotonic seconds; not dialled unasked before then
        self.failed_at: float | None = None  # the last attempt, where it is this failure that `retry_at` is set for

    def note(self, address: Multiaddr) -> KnownAddress:
        """What is known of one of its addresses."""
        return self.notes.get(address) or KnownAddress(address, self.origin)

    def claimed(self, address: Multiaddr) -> bool:
        """Whether an address was told on the local network, and the peer not seen there."""
        note = self.note(address)
        return note.origin is Origin.LOCAL and note.succeeded_at is None

    def known(self) -> tuple[KnownAddress, ...]:
        """All its addresses in the order in which to try them; those through relays last."""
        addresses = dict.fromkeys((*self.addresses, *self.given))
        return tuple(sorted(map(self.note, addresses), key=lambda note: (note.address.is_relayed, *note.order)))


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
            entry = BookEntry(Origin.MET if origin in _OF_ITSELF else origin, teller)
        self._entries[peer] = entry
        _note_names(entry, clean, reach)
        _note_origin(entry, clean, origin)
        if not replace and tuple(clean) == entry.addresses:  # as a rule, and many times a second while lookups run
            return False
        if origin is Origin.LOCAL:  # anybody on the link can say it of anybody, again and again
            clean = clean[:_MAX_LOCAL]
            kept = [one for one in entry.addresses if not entry.claimed(one) and one not in clean]
            clean = [*kept[: self.max_addresses - len(clean)], *clean] if entry.good else [*clean, *kept]
        elif not replace:
            clean = [*entry.addresses, *clean] if teller is not None else [*clean, *entry.addresses]
        merged = tuple(dict.fromkeys(clean))[: self.max_addresses]
        changed = merged != entry.addresses
        entry.addresses = merged
        if entry.told:
            entry.told = {address: scope for address, scope in entry.told.items() if address in merged}
        _forget_notes(entry)
        return changed

    def remember(self, peer: PeerId, known: Sequence[KnownAddress], reach: Scope) -> None:
        """Learn what an earlier run knew of a peer's addresses; `reach` as in `learn`."""
        known = [note for note in known[: self.max_addresses] if note.address.peer_id is None]
        self.learn(peer, [note.address for note in known], origin=Origin.MEMORY, reach=reach)
        entry = self._entries.get(peer)
        if entry is not None:
            for note in known:
                if note.origin is Origin.BOOTSTRAP:  # says the configuration of that run
                    note = note._replace(origin=Origin.MEMORY)
                if _RANK[entry.note(note.address).origin] >= _RANK[note.origin]:
                    entry.notes[note.address] = note
                else:  # the configuration has it, too
                    entry.notes[note.address] = note._replace(origin=entry.note(note.address).origin)
            _forget_notes(entry)

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

    def connected(self, peer: PeerId, address: Multiaddr | None, now: float) -> None:
        """A connection worked; `address` is the one that was dialled, if it was."""
        if address is not None:
            self.learn(peer, (address,))
        entry = self._entries.get(peer)
        if entry is not None:
            entry.good, entry.failures, entry.retry_at = True, 0, 0.0
            if address is not None:
                entry.proven = address.without_peer()
                note = entry.notes[entry.proven] = entry.note(entry.proven)._replace(succeeded_at=now)
                if note.origin is Origin.APP:
                    _give(entry, entry.proven)
            self._no_hearsay(peer, entry)

    def failed(self, peer: PeerId, now: float, base: float, limit: float) -> None:
        """An attempt failed: the next unasked one waits, `base` seconds doubled a failure up to `limit`."""
        entry = self._entries.get(peer)
        if entry is not None:
            entry.failures += 1
            entry.failed_at = now
            entry.retry_at = now + min(limit, base * 2 ** min(entry.failures - 1, 16))

    def tried(self, peer: PeerId, addresses: Iterable[Multiaddr], now: float) -> None:
        """Nobody, or somebody else, was found at these addresses of the peer."""
        entry = self._entries.get(peer)
        if entry is not None:
            for address in addresses:
                if address in entry.addresses or address in entry.given:
                    entry.notes[address] = entry.note(address)._replace(failed_at=now)

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
        elif address in entry.told or (address not in entry.addresses and address not in entry.given):
            entry.told[address] = min(reach, entry.told.get(address, reach))


def _note_origin(entry: BookEntry, addresses: Iterable[Multiaddr], origin: Origin) -> None:
    """Note who tells these addresses, before they enter the entry."""
    for address in addresses:
        if address not in entry.notes and address not in entry.addresses:
            if origin is not entry.origin:
                entry.notes[address] = KnownAddress(address, origin)
        elif _RANK[origin] < _RANK[(note := entry.note(address)).origin]:
            entry.notes[address] = note._replace(origin=origin)
        if origin is Origin.BOOTSTRAP:
            _give(entry, address)


def _give(entry: BookEntry, address: Multiaddr) -> None:
    """Keep it whatever the peer tells; the configuration's before those of apps."""
    if address not in entry.given:
        given = sorted((address, *entry.given), key=lambda one: _RANK[entry.note(one).origin])
        entry.given = tuple(given[:_MAX_GIVEN])


def _forget_notes(entry: BookEntry) -> None:
    """Keep notes of no more addresses than there are."""
    if len(entry.notes) > len(entry.addresses):
        kept = dict.fromkeys((*entry.addresses, *entry.given))
        entry.notes = {address: note for address, note in entry.notes.items() if address in kept}
