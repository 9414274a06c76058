"""The gate: whether a peer or an address may be connected with, either way.

What counts, in this order: a ban; the deny list; the allow list, where it names anybody. Peers and addresses are judged
each by their own: who has an address that is refused is refused, whoever it is, and the other way round.
"""

import heapq
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable
from datetime import UTC, datetime
from operator import itemgetter

from ..classes import NamedTuple, dataclass
from ..errors import PeerBanned, ResourceExhausted
from ..networks import Network, NetworkTable, split_address
from ..types import PeerId

Subject = PeerId | Network
_Order = tuple[int, bytes]

_SET_BACK = 5.0  # seconds by which a clock may be put right without being taken for one that was wrong; a guess
_IN_NO_NETWORK = "in no network of the allow list (gate.allow_networks)"
_MAX_ENDED = 10_000  # bans that have ended by this clock and come back if it was wrong; a guess
_STALE = 64  # entries of the heap that are no more in force and not worth a sweep


class Ban(NamedTuple):
    """A decision that a peer, an address or a network is not to be connected with. Times are wall-clock seconds."""

    subject: Subject
    reason: str
    created: float
    expires: float | None  # None: until it is lifted

    def __str__(self) -> str:
        until = f" until {_moment(self.expires)}" if self.expires is not None else ""
        return f"banned{until}" + (f": {self.reason}" if self.reason else "")


class BanView(NamedTuple):
    """A ban and what came of it; `configured` ones are deny lists' entries, which say neither when nor why."""

    ban: Ban
    refused: int  # connections and dials since the start
    configured: bool


@dataclass(frozen=True, slots=True)
class GateLists:
    """What the configuration says of peers and networks. An empty allow list allows everybody."""

    allow_peers: tuple[PeerId, ...] = ()
    deny_peers: tuple[PeerId, ...] = ()
    allow_networks: tuple[Network, ...] = ()
    deny_networks: tuple[Network, ...] = ()
    protected: tuple[PeerId, ...] = ()
    """Peers whose connections are never closed for their number."""


class _Entry:
    """A ban, or an entry of a deny list, and how often it counted."""

    __slots__ = ("ban", "configured", "refused")

    def __init__(self, ban: Ban, *, configured: bool = False) -> None:
        self.ban = ban
        self.configured = configured
        self.refused = 0

    def __str__(self) -> str:
        return "on the deny list of the configuration" if self.configured else str(self.ban)


class Gate:
    """Bans, lists, and protected peers. A look-up costs the same however many there are.

    It has no clock: bans are in force until `advance` is told of a time that is past their end.
    """

    def __init__(
        self,
        lists: GateLists | None = None,
        bans: Iterable[Ban] = (),
        protected: Iterable[PeerId] = (),
        *,
        wall: float = 0.0,
        max_bans: int = 100_000,
        max_protected: int = 10_000,
    ) -> None:
        """`wall`: the wall clock in seconds. `bans` that have expired by then come into force if it is set back."""
        self.max_bans = max_bans
        self.max_protected = max_protected
        self.refused_peers = 0  # since the start
        self.refused_addresses = 0
        self._newest = 0.0  # when the newest ban was made
        self._ended: dict[Subject, Ban] = {}  # in the order in which they did
        self._latest = wall  # of what the wall clock has shown since it was last put right
        self._peers: dict[PeerId, _Entry] = {}
        self._networks: NetworkTable[_Entry] = NetworkTable()
        self._order: list[tuple[_Order, Subject]] = []  # of all bans, for pages
        self._ends: list[tuple[float, int, Subject]] = []  # a heap; may have entries that count no more
        self._number = 0
        self._moved: dict[Subject, Ban] = {}
        self._protected: dict[PeerId, None] = dict.fromkeys(protected)
        self.configure(lists or GateLists())
        for ban in bans:
            self._put(ban)
        self.advance(wall)

    # ------------------------------------------------------------ changes

    def configure(self, lists: GateLists) -> None:
        """Put other lists in the place of those there were."""
        self.lists = lists
        self._allow_peers = dict.fromkeys(lists.allow_peers)
        self._always_protected = dict.fromkeys(lists.protected)
        self._deny_peers = {peer: _denied(peer) for peer in lists.deny_peers}
        self._allow_networks: NetworkTable[Network] = NetworkTable()
        for network in lists.allow_networks:
            self._allow_networks.put(network, network)
        self._deny_networks: NetworkTable[_Entry] = NetworkTable()
        for network in lists.deny_networks:
            self._deny_networks.put(network, _denied(network))

    def add(self, *bans: Ban) -> None:
        """Ban, or ban anew: the newest reason and end count. All or, with ResourceExhausted, none."""
        new = sum(self.get(ban.subject) is None for ban in bans)
        if new and len(self._order) + new > self.max_bans:
            raise ResourceExhausted(f"{len(self._order)} bans, at most {self.max_bans} (gate.max_bans)")
        for ban in bans:
            self._put(ban)

    def lift(self, subject: Subject) -> Ban | None:
        """End a ban; None where there is none of exactly this peer or network."""
        self._ended.pop(subject, None)
        entry = self._peers.pop(subject, None) if isinstance(subject, PeerId) else self._networks.remove(subject)
        if entry is None:
            return None
        del self._order[bisect_left(self._order, _order(subject), key=itemgetter(0))]
        return entry.ban

    def protect(self, peer: PeerId, protected: bool) -> bool:
        """Protect a peer or protect it no more; False when nothing changed. Raises ResourceExhausted."""
        if protected is (peer in self._protected):
            return False
        if not protected:
            del self._protected[peer]
        elif len(self._protected) >= self.max_protected:
            raise ResourceExhausted(f"{len(self._protected)} protected peers, at most {self.max_protected}")
        else:
            self._protected[peer] = None
        return True

    def is_due(self, wall: float) -> bool:
        """Whether `advance` has something to do."""
        self._latest = max(self._latest, wall)
        if self._ends and self._ends[0][0] <= wall:
            return True
        return wall < max(self._newest, self._latest if self._ended else 0.0) - _SET_BACK

    def advance(self, wall: float) -> list[Ban]:
        """The wall clock shows `wall`: end the bans whose time is over, and return them.

        A clock that was set back would make bans longer than they were meant: those from its future begin now. And
        those that it had ended too early are in force again.
        """
        if wall < self._newest - _SET_BACK:
            self._put_right(wall)
        if wall < self._latest - _SET_BACK:
            self._latest = wall
            # Made before, and ended too early; one that was made under the wrong clock as well has had its time.
            early = [ended for ended in self._ended.values() if ended.created <= wall < (ended.expires or wall)]
            for ended in early[: self.max_bans - len(self._order)]:
                self._put(ended)
        self._latest = max(self._latest, wall)
        over: list[Ban] = []
        while self._ends and self._ends[0][0] <= wall:
            end, _, subject = heapq.heappop(self._ends)
            ban = self.get(subject)
            if ban is not None and ban.expires == end:
                over.append(ban)
                self.lift(subject)
                self._ended[subject] = ban
                if len(self._ended) > _MAX_ENDED:
                    del self._ended[next(iter(self._ended))]
        return over

    def take_moved(self) -> tuple[Ban, ...]:
        """The bans whose times `advance` has changed since the last call: to be kept as they are now."""
        moved, self._moved = self._moved, {}
        return tuple(ban for subject, ban in moved.items() if self.get(subject) == ban)

    def _put(self, ban: Ban) -> None:
        subject, self._newest = ban.subject, max(self._newest, ban.created)
        self._ended.pop(subject, None)
        known = self._peers.get(subject) if isinstance(subject, PeerId) else self._networks.get(subject)
        if known is not None:
            known.ban = ban
        else:
            insort(self._order, (_order(subject), subject))
            if isinstance(subject, PeerId):
                self._peers[subject] = _Entry(ban)
            else:
                self._networks.put(subject, _Entry(ban))
        if ban.expires is not None:
            self._number += 1
            heapq.heappush(self._ends, (ban.expires, self._number, subject))
            if len(self._ends) > 2 * len(self._order) + _STALE:
                self._sweep()

    def _sweep(self) -> None:
        """Throw out what the heap has of bans that were made anew or lifted."""
        self._ends = []
        for _, subject in self._order:
            ban = self.get(subject)
            if ban is not None and ban.expires is not None:
                self._number += 1
                self._ends.append((ban.expires, self._number, subject))
        heapq.heapify(self._ends)

    def _put_right(self, wall: float) -> None:
        for _, subject in list(self._order):
            ban = self.get(subject)
            if ban is not None and ban.created > wall:
                end = ban.expires
                right = ban._replace(created=wall, expires=end and min(end, wall + end - ban.created))
                self._put(right)
                self._moved[subject] = right
        self._newest = wall

    # ------------------------------------------------------------ verdicts

    def refuse_peer(self, peer: PeerId) -> PeerBanned | None:
        """Why a peer is not to be connected with, counted as an attempt; None when it may be."""
        found = self._judge_peer(peer)
        if found is None:
            return None
        self.refused_peers += 1
        if isinstance(found, _Entry):
            found.refused += 1
        return PeerBanned(f"{peer} is {found}")

    def refuses_peer(self, peer: PeerId) -> bool:
        """The same as a question."""
        return self._judge_peer(peer) is not None

    def _judge_peer(self, peer: PeerId) -> "_Entry | str | None":
        """What refuses a peer: an entry, or words about the allow list."""
        entry = self._peers.get(peer) or self._deny_peers.get(peer)
        if entry is None and self._allow_peers and peer not in self._allow_peers:
            return "not on the allow list (gate.allow_peers)"
        return entry

    def refuse_address(self, host: str) -> PeerBanned | None:
        """Why an IP address is not to be connected with, counted as an attempt; None when it may be."""
        found = self._judge_address(host)
        if found is None:
            return None
        self.refused_addresses += 1
        if isinstance(found, _Entry):
            found.refused += 1
        return PeerBanned(_about(host, found))

    def refuses_address(self, host: str) -> bool:
        """The same as a question."""
        return self._judge_address(host) is not None

    def _judge_address(self, host: str) -> "_Entry | str | None":
        """What refuses an address: an entry, or words about the allow list."""
        if not (self._networks or self._deny_networks or self._allow_networks):
            return None
        try:
            version, number = split_address(host)
        except ValueError:  # not of the Internet: nothing that networks could be about
            return None
        entry = self._networks.find(version, number) or self._deny_networks.find(version, number)
        if entry is not None:
            return entry
        if self._allow_networks and self._allow_networks.find(version, number) is None:
            return _IN_NO_NETWORK
        return None

    def protects(self, peer: PeerId) -> bool:
        """Whether trimming passes the peer over: an app protects it, or the configuration does."""
        return peer in self._protected or peer in self._always_protected

    # ------------------------------------------------------------ views

    def get(self, subject: Subject) -> Ban | None:
        """The ban of exactly this peer or network."""
        entry = self._peers.get(subject) if isinstance(subject, PeerId) else self._networks.get(subject)
        return entry.ban if entry is not None else None

    def still_refuses(self, subject: Subject) -> str | None:
        """What refuses a peer, or the whole of a network, besides a ban of its own; a sentence, or None."""
        if isinstance(subject, PeerId):
            found = self._judge_peer(subject)
            return f"{subject} is {found}" if found is not None else None
        entry = self._networks.around(subject) or self._deny_networks.around(subject)
        if entry is not None:
            return _about(str(subject), entry)
        if self._allow_networks and self._allow_networks.around(subject) is None:
            return _about(str(subject), _IN_NO_NETWORK)
        return None

    def bans(self, after: Subject | None, count: int) -> list[BanView]:
        """At most `count` bans, in the order of their subjects, behind that of `after`."""
        start = 0 if after is None else bisect_right(self._order, _order(after), key=itemgetter(0))
        return [self._view(subject) for _, subject in self._order[start : start + count]]

    def denied(self) -> list[BanView]:
        """The entries of the deny lists, peers first."""
        entries = [*self._deny_peers.values(), *self._deny_networks]
        return [BanView(entry.ban, entry.refused, True) for entry in entries]

    def protected(self) -> tuple[PeerId, ...]:
        """All protected peers, those of the configuration first."""
        return tuple({**self._always_protected, **self._protected})

    @property
    def size(self) -> int:
        """Bans in force."""
        return len(self._order)

    def _view(self, subject: Subject) -> BanView:
        entry = self._peers[subject] if isinstance(subject, PeerId) else self._networks.get(subject)
        assert entry is not None, "the order names what is there"
        return BanView(entry.ban, entry.refused, False)


def _denied(subject: Subject) -> _Entry:
    return _Entry(Ban(subject, "", 0.0, None), configured=True)


def _about(host: str, found: _Entry | str) -> str:
    if isinstance(found, str) or str(found.ban.subject) == host:
        return f"{host} is {found}"
    return f"{host} is in {found.ban.subject}, which is {found}"


def _order(subject: Subject) -> _Order:
    """Peers first, by id; then networks, IPv4 first, by address and length."""
    if isinstance(subject, PeerId):
        return 0, bytes(subject)
    return subject.version, subject.first.to_bytes(16, "big") + bytes((subject.prefix,))


def _moment(wall: float) -> str:
    try:
        return datetime.fromtimestamp(wall, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (OverflowError, ValueError, OSError):
        return "the end of time"
