"""Dialling: reaching peers, settling on one connection each, and keeping enough of them."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Protocol, assert_never

from .. import events
from ..errors import (
    Closed,
    DialBackoff,
    NoAddresses,
    PeerBanned,
    ResourceExhausted,
    SelfDial,
    SidecarError,
)
from ..events import LogLevel, Path, PeerChange, PeerView
from ..gate import Gate
from ..multiaddr import Multiaddr
from ..networks import Scope
from ..override import override
from ..parameters import NodeConfig
from ..peers import BookEntry, KnownAddress, Origin
from ..relay import RelayStandings
from ..types import Direction, PeerId
from .config import ConfigurationChanged
from .dial_budget import DialBudget
from .dial_choice import DialChoice
from .entrances import Entrances, pause_at_the_door
from .outbound import OutboundChoice
from .service import Follower, Service
from .statistics import DialBudgetStatistics
from .switch import Peer, PeerConnection, Switch, direction_kept, gone

Reached = Callable[[Peer | SidecarError, float], None]
Visited = Callable[[PeerConnection | SidecarError, float], None]
Found = Callable[[tuple[Multiaddr, ...], float], None]

_ALONE = 0.25  # of the longest wait between dials is waited by a node that has no peers; a guess
_OWN_AT_ONCE = 2  # peers sought at a time where all that lacks is connections of our own choice; a guess
_MISLED = 20.0  # points for who named a peer where too many dials have led nowhere; a guess
_NOT_DIALLED = (ResourceExhausted, DialBackoff, PeerBanned)  # errors before the first packet: nobody was bothered
_AT_ONCE = 2  # dials of one peer: a second one for addresses that an app gives meanwhile; a guess
_FIRST_KNOWN = 10  # peers of an earlier run that are tried at once; as many as a Kademlia lookup asks


DiallingInput = (
    events.ConnectionOpened
    | events.ConnectionClosed
    | events.DialFailed
    | events.Resolved
    | events.AddressesChanged
    | events.PeersFound
    | events.MeshRestored
)


class HoldOff(Protocol):
    """Who keeps peers away for a while; see `Workload`."""

    def refuse(self, peer: PeerId, now: float) -> SidecarError | None:
        """Why a peer is kept away at this time; None where it is not."""


class Pings(Protocol):
    """Who can tell whether a connection is alive; see `PingService`."""

    def ping(
        self, connection: PeerConnection, now: float, answer: Callable[[float | SidecarError, float], None]
    ) -> None:
        """Ping over this connection; `answer` gets the round trip in seconds, or what went wrong, and `now`."""


class PeerRouting(Protocol):
    """Who finds the addresses of peers; see `KademliaService`."""

    def find(self, peer: PeerId, then: Found, now: float) -> object:
        """Look for a peer; `then` gets its addresses, none where nobody knows it."""


class Dialling(Service[DiallingInput], Follower[ConfigurationChanged]):
    """Dials on behalf of services and apps; keeps the table of peers, and tells the services who comes and goes."""

    def __init__(
        self,
        switch: Switch,
        gate: Gate,
        hold_off: HoldOff,
        pings: Pings,
        routing: Callable[[], PeerRouting],
        score: Callable[[PeerId], events.ScoreView | None],
        services: Sequence[Service[Any]],
        relays: RelayStandings,
    ) -> None:
        """`routing` gives who finds peers, which itself dials; `services` are told of peers, in this order.

        `score`: what is thought of a peer in gossip. `relays`: and of relays.
        """
        self._switch = switch
        self._gate = gate
        self._hold_off = hold_off
        self._pings = pings
        self._routing = routing
        self._score = score
        self._services = services
        self._started = False
        self._dials: dict[int, PeerId | None] = {}
        self._dialling: dict[PeerId, dict[int, tuple[Multiaddr, ...]]] = {}  # by the number of the dial, what it tries
        self._anonymous: dict[int, Reached] = {}  # dials of an address whose peer is not known
        self._visits: dict[int, Visited] = {}  # dials apart from the mesh
        self._waiting: dict[PeerId, list[Reached]] = {}
        self._searching: dict[PeerId, None] = {}
        self._wanted: dict[PeerId, None] = {}  # of those waited for: by somebody who wants more than one exchange
        self._number = 0
        self._bootstrap = _bootstrap(switch.config, switch.local)
        self._bootstrap_peers = dict(self._bootstrap)  # asked of every peer again and again
        self.entrances = Entrances(switch, self._knock)
        self._budget = DialBudget(switch.config.exempt_networks)
        self._outbound = OutboundChoice(switch)
        self._choice = DialChoice(switch, relays)
        self.last_error: SidecarError | None = None  # of the last dial that failed, for readiness

    @override
    def handle(self, arrived: DiallingInput, now: float) -> None:
        match arrived:
            case events.ConnectionOpened():
                self._on_opened(arrived, now)
            case events.ConnectionClosed():
                self._on_closed(arrived, now)
            case events.DialFailed():
                self._on_dial_failed(arrived, now)
            case events.Resolved():
                self.entrances.on_resolved(arrived, now)
            case events.AddressesChanged(listening, announced):
                self._switch.readdress(listening, announced)
                if not self._started:
                    self._started = True
                    self._start(now)
            case events.PeersFound(peers):
                self._on_found(peers, now)
            case events.MeshRestored():
                self._wanted.update(dict.fromkeys(arrived.links))
            case _:
                assert_never(arrived)

    def followed(self, arrived: ConfigurationChanged, now: float) -> None:
        """The configuration has changed; the next upkeep, which is never far, goes by it."""
        self._bootstrap = _bootstrap(self._switch.config, self._switch.local)
        self._bootstrap_peers = dict(self._bootstrap)
        for peer, address in self._bootstrap:
            self._switch.book.learn(peer, (address,), origin=Origin.BOOTSTRAP)
        self.entrances.configured()

    # ------------------------------------------------------------ reaching

    def reach(
        self,
        peer: PeerId,
        addresses: Sequence[Multiaddr],
        then: Reached,
        now: float,
        *,
        search: bool = False,
        insist: bool = False,
        passing: bool = False,
        vouched: bool = False,
        origin: Origin = Origin.MET,
    ) -> None:
        """Have a usable connection to the peer, now or soon: `then` gets the Peer, or why not.

        `addresses` are tried with those known already; `search` asks the DHT when there are none or none answers;
        `insist` dials although an attempt has failed a moment ago; `passing` wants the connection for one exchange.
        `vouched`: the addresses are those of an app or of the operator, not of other peers. `origin`: from where they
        are.
        """
        switch = self._switch
        if peer == switch.local:
            then(SelfDial("the peer asked for is this node itself"), now)
            return
        refusal = self._gate.refuse_peer(peer) or self._hold_off.refuse(peer, now)
        if refusal is not None:
            then(refusal, now)
            return
        present = switch.peers.get(peer)
        if present is not None:
            present.wanted = present.wanted or not passing
            if present.ready:
                then(present, now)
                return
        elif not passing:
            self._wanted[peer] = None
        waiting = self._waiting.setdefault(peer, [])
        if len(waiting) >= switch.config.max_operations:
            then(ResourceExhausted(f"{len(waiting)} operations wait for {peer} already"), now)
            return
        waiting.append(then)
        if addresses:
            switch.book.learn(peer, addresses, origin=origin, reach=Scope.LOOPBACK if vouched else Scope.PUBLIC)
        if search:
            self._searching.setdefault(peer)
        if present is not None:
            return
        under_way = self._dialling.get(peer)
        if under_way is None:
            self._dial(peer, now, insist=insist)
        elif insist and len(under_way) < _AT_ONCE:
            self._dial_too(peer, addresses, under_way)

    def _dial_too(
        self, peer: PeerId, addresses: Sequence[Multiaddr], under_way: dict[int, tuple[Multiaddr, ...]]
    ) -> None:
        """Try the addresses that are not being tried: they need not wait until the others have failed."""
        tried = dict.fromkeys(each for dial in under_way.values() for each in dial)
        named = (each.without_peer() for each in addresses if each.peer_id in (None, peer))
        given = tuple(each for each in dict.fromkeys(named) if each not in tried)
        entry = self._switch.book.get(peer)
        if given and entry is not None:
            self._emit_dial(peer, given, insist=True, told=_told(entry, given))

    def reach_anyone(self, addresses: Sequence[Multiaddr], then: Reached, now: float, *, insist: bool = False) -> None:
        """Connect to whoever answers at the addresses; `insist` as in `reach`."""
        self._number += 1
        self._dials[self._number] = None
        self._anonymous[self._number] = then
        self._switch.emit(events.Dial(self._number, None, tuple(addresses), insist))

    def _knock(self, addresses: Sequence[Multiaddr], then: Reached, now: float) -> None:
        """`reach_anyone` of a bootstrap address; who has no peers goes by its own pause, not by the driver's."""
        self.reach_anyone(addresses, then, now, insist=not self._switch.peers)

    def dial_directly(
        self,
        peer: PeerId,
        addresses: Sequence[Multiaddr],
        then: Reached,
        now: float,
        *,
        within: float,
        punch: Direction | None = None,
    ) -> None:
        """Dial a peer that is connected already, at these addresses alone. `within`, `punch`: as in `Dial`."""
        self._number += 1
        self._dials[self._number] = None
        self._anonymous[self._number] = then
        force = punch is not None
        self._switch.emit(events.Dial(self._number, peer, tuple(addresses), force, punch=punch, within=within))

    def visit(self, peer: PeerId, address: Multiaddr, reach: Scope, then: Visited) -> None:
        """Connect to a peer at just this address, apart from the mesh (`Dial.apart`); `then` gets the connection.

        That is the caller's, who closes it. A name may lead nowhere narrower than `reach`.
        """
        self._number += 1
        self._visits[self._number] = then
        told = ((address, reach),) if address.ip is None else ()
        self._switch.emit(events.Dial(self._number, peer, (address,), force=True, told=told, apart=True))

    def _visiting(self, opened: events.ConnectionOpened, then: Visited, now: float) -> None:
        """A dial apart has arrived: its connection is in no peer's list, and no service hears of it."""
        connection = PeerConnection(opened, Peer(opened.peer, opened.public_key, now), now)
        self._switch.connections[opened.connection] = connection
        then(connection, now)

    def _dial(self, peer: PeerId, now: float, *, insist: bool = False) -> None:
        switch = self._switch
        entry, trusted = switch.book.get(peer), self.protects(peer)
        if entry is None or not (entry.addresses or entry.given):
            self._search_or_fail(peer, NoAddresses(f"no address of {peer} is known"), now)
            return
        known = self._choice.choose(peer, entry, now)
        if not known:
            switch.book.failed(peer, now, switch.config.redial_base, switch.config.redial_limit)
            elsewhere = f"{entry.addresses[0]} is an address of a private network that this node is not in"
            self._search_or_fail(peer, NoAddresses(elsewhere), now)
            return
        addresses = tuple(note.address for note in known)
        if not insist and not trusted:
            addresses = self._budget.affordable(addresses, entry.proven, now)
            if not addresses:
                self._hold_back(peer, entry, now)
                return
            self._budget.began(self._number + 1, addresses, entry.proven, now)
        tried = tuple(note for note in known if note.succeeded_at is not None or note.failed_at is not None)
        self._emit_dial(peer, addresses, insist=insist, trusted=trusted, told=_told(entry, addresses), known=tried)

    def _emit_dial(
        self,
        peer: PeerId,
        addresses: tuple[Multiaddr, ...],
        *,
        insist: bool,
        trusted: bool = False,
        told: tuple[tuple[Multiaddr, Scope], ...] = (),
        known: tuple[KnownAddress, ...] = (),
    ) -> None:
        self._number += 1
        self._dials[self._number] = peer
        self._dialling.setdefault(peer, {})[self._number] = addresses
        self._switch.emit(events.Dial(self._number, peer, addresses, insist, trusted, told, known=known))

    def _hold_back(self, peer: PeerId, entry: BookEntry, now: float) -> None:
        """Too many dials of the peer's addresses, or beside them, have led nowhere; who named it made us do that."""
        switch, config = self._switch, self._switch.config
        self._budget.statistics.dials_held_back += 1
        if entry.teller is not None:
            switch.charge(entry.teller, "hearsay", _MISLED, now)
        switch.book.failed(peer, now, config.redial_base, config.redial_limit)
        switch.note(
            LogLevel.INFO,
            peer,
            "not dialled at %s, named by %s: too many dials there have led nowhere",
            entry.addresses[0],
            entry.teller or "itself",
        )
        error = DialBackoff(f"too many dials at {entry.addresses[0]} or beside it have led nowhere")
        self._search_or_fail(peer, error, now)

    def _search_or_fail(self, peer: PeerId, error: SidecarError, now: float) -> None:
        """Known addresses lead nowhere: ask the DHT once, where somebody wants that."""
        if peer not in self._searching:
            self._answer(peer, error, now)
            return
        del self._searching[peer]
        before = self._switch.book.addresses(peer)

        def found(addresses: tuple[Multiaddr, ...], now: float) -> None:
            if peer in self._dialling or peer not in self._waiting:
                return
            self._switch.book.learn(peer, addresses, origin=Origin.DHT, reach=Scope.PUBLIC)
            if set(self._switch.book.addresses(peer)) - set(before):
                self._dial(peer, now, insist=True)
            elif before:
                self._answer(peer, error, now)
            else:
                self._answer(peer, NoAddresses(f"{peer} is neither known here nor found in the DHT"), now)

        self._routing().find(peer, found, now)

    def sought(self) -> list[PeerId]:
        """The peers that somebody wants to reach."""
        return list(self._waiting)

    def give_up(self, peer: PeerId, error: SidecarError, now: float) -> None:
        """Whoever wants to reach the peer is told at once; a dial under way comes to nothing."""
        if self.is_bootstrap(peer):
            self.last_error = error
        self._answer(peer, error, now)

    def _answer(self, peer: PeerId, result: Peer | SidecarError, now: float) -> None:
        self._searching.pop(peer, None)
        self._wanted.pop(peer, None)
        for then in self._waiting.pop(peer, ()):
            then(result, now)

    # ------------------------------------------------------------ what the driver reports

    def _on_opened(self, opened: events.ConnectionOpened, now: float) -> None:
        switch = self._switch
        visited = None if opened.dial is None else self._visits.pop(opened.dial, None)
        if visited is not None:
            self._visiting(opened, visited, now)
            return
        asked = self._dials.get(opened.dial) if opened.dial is not None else None
        then = self._dial_over(opened.dial, now)
        if asked is not None:
            switch.book.tried(asked, opened.failed, now)
        if opened.peer == switch.local:
            error = SelfDial("the far end has this node's own key: itself, or a second node with the same identity")
            switch.note(LogLevel.WARNING, None, "%s (%s)", error, opened.remote)
            switch.emit(events.CloseConnection(opened.connection, error))
            if then:
                then(error, now)
            return
        host = None if opened.remote.is_relayed else opened.remote.ip
        refusal: SidecarError | None = self._gate.refuse_peer(opened.peer)
        if refusal is None and host:
            refusal = self._gate.refuse_address(host)
        # Banned while it was being negotiated, else the driver has seen to it; or sent away a while ago.
        refusal = refusal or self._hold_off.refuse(opened.peer, now)
        if refusal is not None:
            switch.emit(events.CloseConnection(opened.connection, refusal))
            if then:
                then(refusal, now)
            elif opened.dial is not None and opened.peer not in switch.peers:
                self._answer(opened.peer, refusal, now)
            return
        peer = switch.peers.get(opened.peer)
        if peer is None:
            peer = switch.peers[opened.peer] = Peer(opened.peer, opened.public_key, now)
        peer.wanted |= then is not None or peer.id in self._wanted
        connection = PeerConnection(opened, peer, now)
        switch.connections[opened.connection] = connection
        peer.connections.append(connection)
        dialled = opened.remote if opened.direction is Direction.OUTBOUND else None
        switch.book.connected(opened.peer, dialled, now)
        if len(peer.connections) == 1:
            switch.emit(events.PeerChanged(PeerChange.CONNECTED, self.view(opened.peer)))
        else:
            self._settle(peer, now)
        if then is not None:
            if peer.ready:
                then(peer, now)
            else:
                self._waiting.setdefault(opened.peer, []).append(then)
        self._connected(connection, now)

    def _on_closed(self, closed: events.ConnectionClosed, now: float) -> None:
        switch = self._switch
        connection = switch.connections.pop(closed.connection, None)
        if connection is None:
            return
        peer = connection.peer
        if connection not in peer.connections:  # a visit of ours
            switch.drop_streams(connection, gone(closed.error), now)
            return
        was_limited, path = peer.limited, _path(peer.best)
        peer.connections.remove(connection)
        # Whoever asks for a peer without connections while its streams end waits for what is said below.
        was_ready, peer.ready = peer.ready, peer.ready and bool(peer.connections)
        connection.ended_in_order = closed.error is None
        switch.drop_streams(connection, gone(closed.error), now)
        peer.ready = was_ready
        if peer.connections:
            if not peer.ready:
                self._connected(peer.best, now)
            elif all(left.draining for left in peer.connections):
                peer.connections[-1].draining = False
                self.updated(peer, now)
            elif peer.limited and not was_limited:
                self.updated(peer, now)
            if peer.ready and _path(peer.best) is not path:
                switch.emit(events.PeerChanged(PeerChange.UPDATED, self.view(peer.id)))
            return
        del switch.peers[peer.id]
        view = self.view(peer.id, peer)
        switch.emit(events.PeerChanged(PeerChange.DISCONNECTED, view, closed.error))
        if peer.ready:
            config, lived = switch.config, now - peer.since
            peer.sent_away = closed.error is None
            switch.book.ended(peer.id, now, lived, config.redial_base, config.redial_limit, in_order=peer.sent_away)
            for service in self._services:
                service.peer_gone(peer, now)
            if peer.wanted and peer.sent_away and connection.direction is Direction.INBOUND:
                # It had dialled us for a question, and cannot know what we want of it.
                switch.deadlines.at(now + config.redial_base, lambda now: self.reach(peer.id, (), _ignore, now))
        if peer.id in self._waiting and peer.id not in self._dialling:
            self._answer(peer.id, closed.error or Closed("the peer closed the connection"), now)
        for service in self._services:
            service.peer_lost(peer, now)

    def _connected(self, connection: PeerConnection, now: float) -> None:
        for service in self._services:
            service.connection_opened(connection, now)

    def _on_dial_failed(self, failed: events.DialFailed, now: float) -> None:
        switch = self._switch
        visited = self._visits.pop(failed.dial, None)
        if visited is not None:
            visited(failed.error, now)
            return
        peer = self._dials.get(failed.dial)
        then = self._dial_over(failed.dial, now, in_vain=not isinstance(failed.error, _NOT_DIALLED))
        self.last_error = failed.error
        if then is not None:
            then(failed.error, now)
        if peer is None:
            return
        switch.note(LogLevel.DEBUG, peer, "dial failed: %s", failed.error)
        switch.book.tried(peer, failed.failed, now)
        if failed.failed:
            self.keep_addresses(peer)
        switch.book.failed(peer, now, switch.config.redial_base, switch.config.redial_limit)
        present = switch.peers.get(peer)
        if present is None and peer not in self._dialling:
            self._search_or_fail(peer, failed.error, now)

    def _dial_over(self, dial: int | None, now: float, *, in_vain: bool = False) -> Reached | None:
        if dial is None:
            return None
        peer = self._dials.pop(dial, None)
        if peer is not None and dial in (under_way := self._dialling.get(peer, {})):
            del under_way[dial]
            if not under_way:
                del self._dialling[peer]
        self._budget.over(dial, in_vain, now)
        return self._anonymous.pop(dial, None)

    # ------------------------------------------------------------ verdicts of identify

    def arrived(self, peer: Peer, now: float) -> None:
        """The peer is identified and may be used."""
        self._answer(peer.id, peer, now)
        for service in self._services:
            service.peer_ready(peer, now)

    def updated(self, peer: Peer, now: float) -> None:
        """Tell the services that a peer says something new of itself."""
        for service in self._services:
            service.peer_updated(peer, now)

    def refused(self, peer: Peer, error: SidecarError, now: float) -> None:
        """The peer does not belong here: those who wait for it are told, and it is not sought again for long."""
        self.last_error = error
        config = self._switch.config
        self._switch.book.failed(peer.id, now, config.redial_limit, config.redial_limit)
        self._answer(peer.id, error, now)
        if peer.ready:
            peer.ready = False
            for service in self._services:
                service.peer_gone(peer, now)

    # ------------------------------------------------------------ one connection a peer

    def _settle(self, peer: Peer, now: float) -> None:
        """Two connections to one peer: keep one, once it is seen to be alive; a direct one rather than a relayed one.

        Dialled from both sides at once, both keep that of the smaller peer id; a second one from the same side means
        that its dialler has lost the first.
        """
        new, old = peer.connections[-1], peer.best
        if new.direction is Direction.INBOUND and peer.id in self._switch.asked_back and not old.relayed:
            new.visit = True  # rust-libp2p dials back with the key that it has
            self._drain(new, now)
            return
        if new.relayed is not old.relayed:  # a direct one is better, whoever has opened it
            kept = old if new.relayed else new
        elif new.direction is old.direction:
            kept = new
        else:
            kept = old if old.direction is direction_kept(self._switch.local, peer.id) else new

        def answered(result: float | SidecarError, now: float) -> None:
            if kept not in peer.connections:
                return
            if isinstance(result, SidecarError):
                self._switch.close_connection(kept, result)
                return
            before = _path(peer.best)
            for other in list(peer.connections):
                if other is not kept and not other.draining:
                    self._drain(other, now)
            kept.draining = False
            if peer.ready:
                self.updated(peer, now)
                if _path(peer.best) is not before:
                    self._switch.emit(events.PeerChanged(PeerChange.UPDATED, self.view(peer.id)))

        self._pings.ping(kept, now, answered)

    def _drain(self, connection: PeerConnection, now: float) -> None:
        """Let the streams of a surplus connection finish, then close it."""
        switch = self._switch
        connection.draining = True

        def overdue(now: float) -> None:
            if connection.number not in switch.connections or not connection.draining:
                return
            if any(stream.handler.needed(stream) for stream in connection.streams.values()):
                switch.deadlines.at(now + switch.config.settle_timeout, overdue)  # it goes with the last of them
            else:
                switch.close_connection(connection, None)

        switch.deadlines.at(now + switch.config.settle_timeout, overdue)

    # ------------------------------------------------------------ enough connections

    def _start(self, now: float) -> None:
        """Seek the first peers: those of an earlier run, else (or a moment later) the bootstrap peers."""
        config, book = self._switch.config, self._switch.book
        for peer, address in self._bootstrap:
            book.learn(peer, (address,), origin=Origin.BOOTSTRAP)
        known = [peer for peer, addresses in config.known_peers if peer != self._switch.local]
        for peer, addresses in config.known_peers:
            # Who has told a name is not remembered: it may lead as near as the addresses of the peer without names.
            near = min((Scope.of(note.address) for note in addresses), default=Scope.PUBLIC)
            book.remember(peer, addresses, near)
        for peer in known[:_FIRST_KNOWN]:
            self.reach(peer, (), _ignore, now)
        first = now if not known else now + config.redial_base
        self._switch.deadlines.at(first, self._upkeep)

    def _on_found(self, peers: Sequence[tuple[PeerId, tuple[Multiaddr, ...]]], now: float) -> None:
        """Peers of the local network: sought at once, as far as peers are missing, and else kept in mind."""
        book = self._switch.book
        for peer, addresses in peers:
            if peer != self._switch.local:
                book.learn(peer, addresses, origin=Origin.LOCAL, reach=Scope.LINK)
                if self.missing() > 0 and self.may_dial(peer, now):
                    self.reach(peer, (), _ignore, now)

    def is_bootstrap(self, peer: PeerId) -> bool:
        """Whether this node joins the mesh through the peer, as configured."""
        return peer in self._bootstrap_peers or self.entrances.lead_to(peer)

    def protects(self, peer: PeerId) -> bool:
        """Whether a peer's connections are never trimmed."""
        return self._gate.protects(peer) or self.is_bootstrap(peer)

    def _upkeep(self, now: float) -> None:
        """Dial some of those who are missing."""
        switch = self._switch
        config, book = switch.config, switch.book
        pause = config.upkeep_interval if switch.peers else config.redial_base
        switch.deadlines.at(now + pause * (0.75 + switch.rng.random() / 2), self._upkeep)
        for service in self._services:
            service.upkeep(now)
        missing = self.missing()
        few = self._missing_of_all() > 0
        self.entrances.seek(now, enough=not few and bool(switch.peers))
        if missing <= 0 or not (few or self._outbound.is_time(now)):
            return
        eligible = [peer for peer in book.peers() if self.may_dial(peer, now)]
        for peer in self._outbound.choose(eligible, missing if few else min(missing, _OWN_AT_ONCE)):
            # Who has no peers goes by its own pause at bootstrap peers, not by the driver's.
            self.reach(peer, (), _ignore, now, insist=not switch.peers and self.is_bootstrap(peer))

    def keep_addresses(self, peer: PeerId) -> None:
        """Have what is known of a peer's addresses kept over a restart, where a connection to it has worked."""
        entry = self._switch.book.get(peer)
        if entry is not None and (entry.good or any(note.succeeded_at is not None for note in entry.notes.values())):
            self._switch.emit(events.AddressesKnown(peer, entry.known()))

    def statistics(self) -> DialBudgetStatistics:
        """Dials that were not made, counted since the start."""
        return replace(self._budget.statistics, addresses_left_out=self._choice.left_out)

    def bootstrap(self) -> tuple[tuple[PeerId, Multiaddr], ...]:
        """The bootstrap addresses that name a peer other than this node, with that."""
        return self._bootstrap

    def alone(self) -> bool:
        """Whether this node is the first: its bootstrap addresses lead to nobody but itself."""
        return not self._bootstrap and (not self.entrances or self.entrances.only_ourselves())

    def missing(self) -> int:
        """How many more peers to seek: those sought already count as present.

        Those that dialled us are not enough, however many there are: some are to be of our own choice.
        """
        own = self._switch.config.outbound
        return max(self._missing_of_all(), own - self._outbound.count() - self._sought())

    def _missing_of_all(self) -> int:
        return self._switch.config.target_peers - len(self._switch.peers) - self._sought()

    def _sought(self) -> int:
        searched = sum(peer not in self._dialling for peer in self._searching)
        return len(self._dials) + searched

    def may_dial(self, peer: PeerId, now: float) -> bool:
        """Whether a peer that is known and not connected may be tried unasked now."""
        entry = self._switch.book.get(peer)
        return (
            entry is not None
            and (entry.retry_at <= now or self._tries_sooner(peer, entry, now))
            and peer != self._switch.local
            and peer not in self._switch.peers
            and peer not in self._dialling
            and not self._gate.refuses_peer(peer)
        )

    def _tries_sooner(self, peer: PeerId, entry: BookEntry, now: float) -> bool:
        """Whether a node that has no peers now tries one before its time; not one that let us in and sent us away."""
        if self._switch.peers or entry.failed_at is None:
            return False
        config = self._switch.config
        pause = max(config.redial_base, config.redial_limit * _ALONE)
        return now - entry.failed_at >= (pause_at_the_door(config) if self.is_bootstrap(peer) else pause)

    # ------------------------------------------------------------ views

    def view(self, peer_id: PeerId, peer: Peer | None = None, *, in_full: bool = False) -> PeerView:
        """A snapshot of what is known of a peer; `in_full`: with what is known of its addresses."""
        entry = self._switch.book.get(peer_id) if in_full else None
        present = self._switch.peers.get(peer_id)
        peer = present or peer
        info = peer.info if peer else None
        best = present.best if present and present.connections else None
        return PeerView(
            peer=peer_id,
            connected=best is not None,
            direction=best.direction if best else None,
            addresses=self._switch.book.addresses(peer_id),
            remote=best.remote if best else None,
            protocols=info.protocols if info else (),
            agent=(info.agent or "") if info else "",
            protocol_version=(info.protocol_version or "") if info else "",
            identified=info is not None,
            latency=peer.latency if peer else None,
            connected_since=present.since if present else None,
            connections=len(present.connections) if present else 0,
            protected=self.protects(peer_id),
            score=self._score(peer_id),
            path=_path(best) if best else None,
            path_since=best.opened_at if best else None,
            known=entry.known() if entry is not None else (),
        )


def _path(connection: PeerConnection) -> Path:
    if not connection.relayed:
        return Path.DIRECT
    return Path.RELAYED_LIMITED if connection.limited else Path.RELAYED


def _told(entry: BookEntry, addresses: tuple[Multiaddr, ...]) -> tuple[tuple[Multiaddr, Scope], ...]:
    """Those with names that strangers told, and how near these may lead."""
    return tuple((each, entry.told[each]) for each in addresses if each in entry.told)


def _ignore(result: Peer | SidecarError, now: float) -> None:
    """For peers sought for their own sake."""


def _bootstrap(config: NodeConfig, local: PeerId) -> tuple[tuple[PeerId, Multiaddr], ...]:
    """The bootstrap addresses that name another peer: one list may serve all nodes, those in it among them."""
    pairs = ((address.peer_id, address) for address in config.bootstrap)
    return tuple((peer, address) for peer, address in pairs if peer is not None and peer != local)
