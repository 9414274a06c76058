"""How much work each peer may cause: who is over its budget is read no further for a while, who goes on is sent away.

Peers of one address, and of one network, have a budget together as well, for ids cost nothing.

Counted is what brings nobody anything: empty and malformed messages, entries beyond a bound, changes that are taken
back at once, answers to what is senseless. Payloads count nothing: what a fast publisher sends is slowed by the windows
of its streams alone. Questions of the DHT and new streams count too, since each costs much; they only slow a peer down.
"""

from collections.abc import Iterable
from dataclasses import replace

from .. import events
from ..errors import WorkExceeded
from ..events import LogLevel
from ..networks import AddressKey, Grouping, Network
from ..override import override
from ..parameters import WorkConfig
from ..types import PeerId
from .config import ConfigurationChanged
from .service import Follower, Service
from .statistics import WorkStatistics
from .switch import Peer, PeerConnection, PeerTable
from .turn import Turn

_FORGIVEN = 0.25  # seconds of slowness forgiven in each second of another kind: who is slow less than a fifth stays
_MAX_HOLD_OFF = 3600.0  # seconds that a peer is kept away at most; one that was not for so long begins anew; a guess


class _Meter:
    """What one peer has caused."""

    __slots__ = ("at", "backlogged", "kinds", "level", "needless", "over", "resume_at", "slow", "times", "until")

    def __init__(self, now: float) -> None:
        self.level = 0.0  # points not worked off
        self.at = now  # as of
        self.over = False  # above its budget
        self.backlogged = False  # much of it waits to be served
        self.resume_at = 0.0
        self.slow = 0.0  # seconds of being over, for needless work, less what is forgiven
        self.kinds: dict[str, float] = {}  # points since it owed nothing last
        self.needless = 0.0  # the part of these that was to nobody's benefit
        self.until = 0.0  # refused until then
        self.times = 0  # that it was sent away


class _Shared:
    """What the peers of one address or network have caused together."""

    __slots__ = ("at", "level", "peers", "times")

    def __init__(self, now: float, times: float) -> None:
        self.level = 0.0  # points not worked off
        self.at = now  # as of
        self.peers = 0  # connected
        self.times = times  # the budgets that they have together


class Workload(Service[events.WorkCaused], Follower[ConfigurationChanged]):
    """Keeps the meters of all peers, and tells the driver whom to read."""

    def __init__(self, config: WorkConfig, turn: Turn, table: PeerTable, exempt: Iterable[Network]) -> None:
        """`exempt`: networks whose peers have nothing in common."""
        self._grouping = Grouping(exempt)
        self._shared: dict[tuple[str, AddressKey], _Shared] = {}
        self._of: dict[PeerId, tuple[tuple[str, AddressKey], ...]] = {}  # connected peers: what they share
        self._config = config
        self._turn = turn
        self._table = table
        self._meters: dict[PeerId, _Meter] = {}
        self._counts = WorkStatistics()

    @override
    def handle(self, arrived: events.WorkCaused, now: float) -> None:
        connection = self._table.connections.get(arrived.connection)
        if connection is not None:
            self.charge(connection.peer.id, "frames", arrived.points, now)

    @override
    def followed(self, arrived: ConfigurationChanged, now: float) -> None:
        self._config = arrived.config.work

    def charge(self, peer: PeerId, kind: str, points: float, now: float, *, needless: bool = True) -> None:
        """A peer caused work of a kind. `needless`: to nobody's benefit, so that who goes on with it is sent away."""
        self._counts.points[kind] = self._counts.points.get(kind, 0.0) + points
        config, meter = self._config, self._meter(peer, now)
        self._work_off(meter, now)
        meter.level = min(meter.level + points, config.burst + config.excess)
        meter.kinds[kind] = meter.kinds.get(kind, 0.0) + points
        meter.needless += points if needless else 0.0
        if peer in self._of:
            self._share(peer, meter, points, now)
        if meter.level <= config.burst:
            return
        pause = (meter.level - config.burst + config.relief) / config.rate
        if not meter.over:
            self._pause(peer, meter, now, pause)
        longer = max(0.0, now + pause - max(meter.resume_at, now))
        meter.slow += longer * meter.needless / sum(meter.kinds.values())
        meter.resume_at = now + pause
        if meter.slow > config.patience:
            over = f"over the budget of {config.rate:g} points a second for {meter.slow:.0f} s"
            self._send_away(peer, meter, f"needless work, mostly {_most(meter)}: {over}", now)

    def _share(self, peer: PeerId, meter: _Meter, points: float, now: float) -> None:
        """Count it for its address and network; where these are over their budgets, the peer waits with the others."""
        config = self._config
        for key in self._of[peer]:
            shared = self._shared[key]
            shared.level = max(0.0, shared.level - (now - shared.at) * config.rate * shared.times)
            shared.at = now
            most = (config.burst + config.excess) * shared.times
            shared.level = min(shared.level + points, most)
            if shared.level <= config.burst * shared.times:
                continue
            pause = (shared.level / shared.times - config.burst + config.relief) / config.rate
            meter.resume_at = max(meter.resume_at, now + pause)
            if not meter.over:
                meter.over = True
                self._counts.shared_pauses += 1
                self._turn.note(
                    LogLevel.WARNING,
                    peer,
                    "one of %d peers of one %s that is over its budget of work, mostly %s: not read for %.1f s",
                    shared.peers,
                    key[0],
                    _most(meter),
                    pause,
                )
                self._tell(peer, meter, meter.backlogged)
                self._turn.deadlines.at(meter.resume_at, lambda now: self._resume(peer, meter, now))

    def hold(self, peer: PeerId, backlogged: bool, now: float) -> None:
        """So much of a peer waits to be served that no more is to be read, or no more than that."""
        meter = self._meter(peer, now)
        if meter.backlogged is not backlogged:
            before = meter.over or meter.backlogged
            meter.backlogged = backlogged
            self._tell(peer, meter, before)

    def connection_opened(self, connection: PeerConnection, now: float) -> None:
        """Another connection of a peer is read no more than the others."""
        if connection.peer.id not in self._of:
            self._join(connection, now)
        meter = self._meters.get(connection.peer.id)
        if meter is not None and (meter.over or meter.backlogged):
            self._turn.emit(events.PauseReading(connection.number))

    def peer_lost(self, peer: Peer, now: float) -> None:
        """Nothing of it waits any more. What it owes is remembered."""
        for key in self._of.pop(peer.id, ()):
            self._shared[key].peers -= 1
            if not self._shared[key].peers and self._worked_off(self._shared[key], now):
                del self._shared[key]
        meter = self._meters.get(peer.id)
        if meter is not None:
            meter.backlogged = False

    def refuse(self, peer: PeerId, now: float) -> WorkExceeded | None:
        """Why a peer that was sent away may not come back yet; None when it may."""
        meter = self._meters.get(peer)
        if meter is None or now >= meter.until:
            return None
        self._counts.refused += 1
        left = meter.until - now
        return WorkExceeded(f"the peer was sent away and is refused for {left:.0f} s more")

    def statistics(self) -> WorkStatistics:
        """A copy of the counters, and how many are not read now."""
        paused = sum(meter.over or meter.backlogged for meter in self._meters.values())
        return replace(self._counts, paused_peers=paused, points=dict(self._counts.points))

    # ------------------------------------------------------------

    def _meter(self, peer: PeerId, now: float) -> _Meter:
        meter = self._meters.get(peer)
        if meter is None:
            if len(self._meters) >= self._config.max_peers:
                self._forget_one(now)
            meter = self._meters[peer] = _Meter(now)
        return meter

    def _join(self, connection: PeerConnection, now: float) -> None:
        group = self._grouping.of(connection.remote)
        if group is None:
            return
        keys = (("address", group.address), ("network", group.network))
        for key, times in zip(keys, (self._config.per_address, self._config.per_network), strict=True):
            if key not in self._shared and len(self._shared) >= self._config.max_peers:
                self._forget_shared(now)
            self._shared.setdefault(key, _Shared(now, times)).peers += 1
        self._of[connection.peer.id] = keys

    def _forget_shared(self, now: float) -> None:
        """Those that have no peer here: who was over its budget has paid by being away, or does when it is back."""
        for key in [key for key, shared in self._shared.items() if not shared.peers]:
            del self._shared[key]

    def _worked_off(self, shared: _Shared, now: float) -> bool:
        return shared.level <= (now - shared.at) * self._config.rate * shared.times

    def _forget_one(self, now: float) -> None:
        """The oldest of those that are not connected."""
        for peer, meter in self._meters.items():
            if peer not in self._table.peers and now >= meter.until:
                del self._meters[peer]
                return
        del self._meters[next(iter(self._meters))]

    def _work_off(self, meter: _Meter, now: float) -> None:
        passed = now - meter.at
        meter.at = now
        meter.level = max(0.0, meter.level - passed * self._config.rate)
        if not meter.over:
            meter.slow = max(0.0, meter.slow - passed * _FORGIVEN)
            if not meter.level:
                meter.kinds.clear()
                meter.needless = 0.0

    def _pause(self, peer: PeerId, meter: _Meter, now: float, pause: float) -> None:
        before = meter.backlogged
        meter.over = True
        self._counts.pauses += 1
        self._turn.note(
            LogLevel.WARNING, peer, "over its budget of work, mostly %s: not read for %.1f s", _most(meter), pause
        )
        self._tell(peer, meter, before)
        self._turn.deadlines.at(now + pause, lambda now: self._resume(peer, meter, now))

    def _resume(self, peer: PeerId, meter: _Meter, now: float) -> None:
        if not meter.over or self._meters.get(peer) is not meter:
            return
        if now < meter.resume_at:  # it was charged for what it had sent already
            self._turn.deadlines.at(meter.resume_at, lambda now: self._resume(peer, meter, now))
            return
        self._work_off(meter, now)
        meter.over = False
        self._tell(peer, meter, True)

    def _tell(self, peer: PeerId, meter: _Meter, before: bool) -> None:
        paused = meter.over or meter.backlogged
        present = self._table.peers.get(peer)
        if paused is not before and present is not None:
            effect = events.PauseReading if paused else events.ResumeReading
            for connection in present.connections:
                self._turn.emit(effect(connection.number))

    def send_away(self, peer: PeerId, reason: str, now: float) -> None:
        """Close a peer's connections for a reason, and refuse it for a while, as for needless work."""
        self._send_away(peer, self._meter(peer, now), reason, now)

    def _send_away(self, peer: PeerId, meter: _Meter, reason: str, now: float) -> None:
        meter.slow = 0.0
        if now < meter.until:  # for another reason, a moment ago: its connections are being closed
            return
        if now - meter.until >= _MAX_HOLD_OFF:  # it has behaved for long
            meter.times = 0
        hold_off = min(self._config.hold_off * 2**meter.times, _MAX_HOLD_OFF)
        error = WorkExceeded(f"{reason}; refused for {hold_off:g} s")
        meter.times = min(meter.times + 1, 16)
        meter.until = now + hold_off
        present = self._table.peers.get(peer)
        if present is not None:
            self._counts.sent_away += 1
            self._turn.note(LogLevel.WARNING, peer, "sent away: %s", error)
            for connection in present.connections:
                self._turn.emit(events.CloseConnection(connection.number, error))


def _most(meter: _Meter) -> str:
    """The kind of work that counts most."""
    return max(meter.kinds, key=lambda kind: meter.kinds[kind])
