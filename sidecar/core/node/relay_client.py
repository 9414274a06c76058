"""Places with relays: asked for, renewed before they end, and announced as addresses of this node.

With all relays of the configuration, and with some of those found in the mesh where that is wanted.
"""

from collections.abc import Callable
from typing import Never

from .. import kademlia
from ..deadlines import Deadline
from ..errors import Closed, DeadlineExceeded, ProtocolError, Refused, SidecarError, Unreachable
from ..events import LogLevel
from ..multiaddr import Multiaddr
from ..networks import Scope
from ..override import override
from ..peers import Origin
from ..relay import (
    HOP,
    FirstFrame,
    Hop,
    HopType,
    RelayStanding,
    RelayStandings,
    RelayStatus,
    Reservation,
    check_voucher,
    decode_hop,
    encode_hop,
)
from ..relay.standing import CARRIED, GRANTED, KEPT, LOST, REFUSED, SILENT
from ..types import Direction, PeerId
from .circuits import circuit_address, words
from .dialling import Dialling
from .identify import IdentifyService
from .kademlia import Ended, KademliaService
from .rendezvous import rendezvous_key
from .service import Service
from .switch import Peer, PeerConnection, SimpleHandler, Stream, Switch

RELAY_NAME = "/libp2p/relay"  # under which relays advertise themselves in the DHT, as go-libp2p's once did
_MAX_ADDRESSES = 4  # of one relay, announced; a guess: a relay lies or has two, of each version of IP one
_RENEW = 0.75  # of a place's time, after which it is renewed; a guess
_SHORTEST, _LONGEST = 10.0, 86_400.0  # seconds that a place is taken to last: clocks may be wrong, the relay's or ours
# Seconds after which it is renewed at the latest: by a clock that is behind, a place seems to last longer than it does.
# Three quarters of the hour that go-libp2p's relays and ours give.
_RENEW_WITHIN = 2700.0
_LONGEST_PAUSE = 3600.0


class _Relay:
    """A relay that this node has a place with, or wants one."""

    __slots__ = (
        "addresses",
        "announced",
        "asking",
        "configured",
        "deadline",
        "failures",
        "granted_at",
        "peer",
        "retry_at",
        "until",
    )

    def __init__(self, peer: PeerId, configured: bool) -> None:
        self.peer = peer
        self.configured = configured
        self.addresses: tuple[Multiaddr, ...] = ()
        self.announced: tuple[Multiaddr, ...] = ()
        self.until: float | None = None  # monotonic seconds; None: no place
        self.granted_at = 0.0  # or renewed
        self.asking = False
        self.failures = 0  # in a row
        self.retry_at = 0.0
        self.deadline: Deadline | None = None


class _Asked:
    """A question for a place, on a stream of its own."""

    __slots__ = ("deadline", "frame", "over", "relay", "stream")

    def __init__(self, relay: _Relay) -> None:
        self.relay = relay
        self.frame = FirstFrame()
        self.stream: Stream | None = None
        self.deadline: Deadline | None = None
        self.over = False


class RelayClient(SimpleHandler, Service[Never]):
    """Keeps places with relays."""

    name = "relay"

    def __init__(
        self,
        switch: Switch,
        dialling: Dialling,
        identify: IdentifyService,
        kademlia: KademliaService,
        standings: RelayStandings,
        epoch: float,
        unreachable: Callable[[], bool],
    ) -> None:
        """`epoch`: what the wall clock showed, in seconds since 1970, when monotonic time was 0.

        `unreachable`: whether others were found not to reach this node.
        """
        self._switch = switch
        self._dialling = dialling
        self._identify = identify
        self._kademlia = kademlia
        self._standings = standings
        self._epoch = epoch
        self._unreachable = unreachable
        self._config = switch.config.relay
        self._relays: dict[PeerId, _Relay] = {}
        self._search_at = 0.0
        self._searching = False
        self.granted = 0
        """Places since the start, renewals included."""
        self.lost = 0
        """Places since the start that ended before they were given up."""
        self.failures: dict[str, int] = {}
        """Questions in vain since the start, by why."""
        for address in self._config.relays:
            peer = address.peer_id
            if peer is not None and peer != switch.local:
                relay = self._relays.setdefault(peer, _Relay(peer, True))
                relay.addresses = (*relay.addresses, address)

    def holds(self, relay: PeerId) -> bool:
        """Whether this node has a place with the relay."""
        found = self._relays.get(relay)
        return found is not None and found.until is not None

    @property
    def places(self) -> int:
        """How many it has."""
        return sum(relay.until is not None for relay in self._relays.values())

    @property
    def wanted(self) -> int:
        """How many it is to have."""
        configured = sum(relay.configured for relay in self._relays.values())
        return max(configured, self._config.reservations) if self._finds else configured

    @property
    def _finds(self) -> bool:
        """Whether to look for relays in the mesh now."""
        return self._config.find or (self._config.find_unreachable and self._unreachable())

    # ------------------------------------------------------------ which relays

    @override
    def upkeep(self, now: float) -> None:
        """Ask those of which a place is wanted, and look for more where there are too few."""
        self._leave_bad_ones(now)
        if self._finds:
            self._look_around(now)
        else:
            self._give_back(now)
        for relay in sorted(self._relays.values(), key=lambda relay: self._order(relay, now)):
            if self._is_time(relay, now):
                self._seek(relay, now)
        if self._lacks() > 0 and now >= self._search_at and not self._searching:
            self._search(now)

    def _look_around(self, now: float) -> None:
        """Peers that came while no relay was looked for."""
        for peer in self._switch.peers.values():
            if self._lacks() > 0 and peer.id not in self._relays and _is_relay(peer):
                self._candidate(peer.id, (), now)

    def _leave_bad_ones(self, now: float) -> None:
        """A relay that does wrong is no good place to be found at; who configured it knows better."""
        for relay in self._relays.values():
            if not relay.configured and relay.until is not None and not self._of(relay, now).trusted(now):
                text = "the place with this relay is given up: circuits that it gave came to nothing"
                self._switch.note(LogLevel.WARNING, relay.peer, text)
                self._free(relay, now)

    def _give_back(self, now: float) -> None:
        """Others reach this node again: the places that were looked for are not needed any more."""
        for relay in self._relays.values():
            if not relay.configured and relay.until is not None:
                self._switch.note(LogLevel.INFO, relay.peer, "the place with this relay is given up: it is not needed")
                self._free(relay, now)

    def _of(self, relay: _Relay, now: float) -> RelayStanding:
        return self._standings.of(relay.peer, now)

    def _order(self, relay: _Relay, now: float) -> tuple[bool, float]:
        """Those of the configuration, then the others, the best first."""
        present = self._switch.peers.get(relay.peer)
        return not relay.configured, -self._of(relay, now).worth(now, present.latency if present is not None else None)

    def _lacks(self) -> int:
        """How many more places with relays of the mesh are wanted: those asked for count as held."""
        found = sum(relay.until is not None or relay.asking for relay in self._relays.values())
        return self._config.reservations - found if self._finds else 0

    def _is_time(self, relay: _Relay, now: float) -> bool:
        """Whether to ask the relay for a place now."""
        idle = relay.until is None and not relay.asking and relay.retry_at <= now
        return idle and (relay.configured or (self._lacks() > 0 and self._of(relay, now).trusted(now)))

    @override
    def peer_ready(self, peer: Peer, now: float) -> None:
        relay = self._relays.get(peer.id)
        if relay is None and self._finds and _is_relay(peer):
            relay = self._candidate(peer.id, (), now)
        if relay is None or not self._is_time(relay, now):
            return
        if relay.configured or self._of(relay, now).points(now) >= 0:
            self._seek(relay, now)  # one that has done badly waits whether there is a better one

    peer_updated = peer_ready

    def _candidate(self, peer: PeerId, addresses: tuple[Multiaddr, ...], now: float) -> _Relay | None:
        if peer == self._switch.local:
            return None
        relay = self._relays.get(peer)
        if relay is None:
            if len(self._relays) >= self._config.max_candidates + len(self._config.relays):
                # The one that did worst goes, unless all did better than one of which nothing is known.
                idle = [one for one in self._relays.values() if self._idle(one)]
                worst = min(idle, key=lambda one: self._of(one, now).points(now), default=None)
                if worst is None or self._of(worst, now).points(now) > 0:
                    return None
                del self._relays[worst.peer]
            relay = self._relays[peer] = _Relay(peer, False)
        relay.addresses = addresses or relay.addresses
        return relay

    def _idle(self, relay: _Relay) -> bool:
        return not relay.configured and not relay.asking and relay.until is None

    def _search(self, now: float) -> None:
        """Ask the DHT who is a relay."""
        self._searching = True
        self._search_at = now + self._config.search_pause

        def told(result: Ended | kademlia.ProvidersFound, now: float) -> None:
            if isinstance(result, kademlia.ProvidersFound):
                for peer, addresses in result.peers:
                    self._candidate(peer, addresses, now)
            else:
                self._searching = False

        key, limit = rendezvous_key(RELAY_NAME), self._config.max_candidates
        self._kademlia.ask(lambda walk: kademlia.ProvidersRequested(walk, key, limit), told, now)

    # ------------------------------------------------------------ one relay

    def _seek(self, relay: _Relay, now: float) -> None:
        relay.asking = True
        asked = _Asked(relay)

        def reached(result: Peer | SidecarError, now: float) -> None:
            if isinstance(result, SidecarError):
                self._failed(asked, result, now)
            elif (direct := result.direct) is None:  # specs: no place over a circuit
                self._failed(asked, Unreachable("the relay is reached only through another one"), now)
            else:
                self._switch.open_stream(direct, (HOP,), self, asked)
                late = DeadlineExceeded(f"no answer within {self._config.reserve_timeout:g} s")
                when = now + self._config.reserve_timeout
                asked.deadline = self._switch.deadlines.at(when, lambda now: self._failed(asked, late, now))

        origin = Origin.BOOTSTRAP if relay.configured else Origin.DHT
        self._dialling.reach(relay.peer, relay.addresses, reached, now, vouched=relay.configured, origin=origin)

    def _over(self, asked: _Asked) -> bool:
        """Whether it was over before; it is now."""
        before, asked.over = asked.over, True
        if not before:
            asked.relay.asking = False
            if asked.deadline is not None:
                asked.deadline.cancel()
        return before

    def _failed(self, asked: _Asked, error: SidecarError, now: float) -> None:
        if self._over(asked):
            return
        if asked.stream is not None:
            self._switch.reset(asked.stream)
        relay = asked.relay
        relay.failures += 1
        config = self._switch.config
        lied, refused = isinstance(error, ProtocolError), isinstance(error, Refused | ProtocolError)
        if lied:
            self._of(relay, now).lied(now)
        else:
            self._of(relay, now).add(REFUSED if refused else SILENT, now)
        base = self._config.refused_pause if refused else config.redial_base
        limit = _LONGEST_PAUSE if refused else config.redial_limit
        pause = min(limit, base * 2 ** min(relay.failures - 1, 16))
        relay.retry_at = now + pause * (0.75 + self._switch.rng.random() / 2)
        kind = type(error).__name__
        self.failures[kind] = self.failures.get(kind, 0) + 1
        if relay.until is None or relay.until <= now:
            self._lost(relay, now)
            level = LogLevel.WARNING if relay.configured else LogLevel.INFO
            self._switch.note(level, relay.peer, "no place with this relay: %s", error)
        else:  # a renewal: the place is there until its time is over
            self._renew_at(relay, min(relay.retry_at, relay.until))

    def _granted(self, asked: _Asked, answer: Hop, now: float) -> None:
        relay, stream = asked.relay, asked.stream
        place = answer.reservation
        assert stream is not None, "it brought the answer"
        if place is None:
            raise ProtocolError("relay: a place without its reservation")
        left = place.expire - (self._epoch + now)
        if left <= -_LONGEST:  # else the clocks differ: the place was given just now
            raise ProtocolError(f"relay: a place that ended {-left:.0f} s ago, by this node's clock")
        if place.voucher:
            check_voucher(place.voucher, relay.peer, self._switch.local)
        self._over(asked)
        self.granted += 1
        relay.failures = 0
        if relay.until is None:
            self._switch.keep(relay.peer, True)
            self._switch.note(LogLevel.INFO, relay.peer, "this node can be reached through this relay")
        self._of(relay, now).add(GRANTED, now)
        self._count_time(relay, now)
        relay.granted_at = now
        relay.until = now + min(max(left, _SHORTEST), _LONGEST)
        self._renew_at(relay, now + min((relay.until - now) * _RENEW, _RENEW_WITHIN))
        self._announce(relay, self._addresses(stream, relay, place), now)

    def _addresses(self, stream: Stream, relay: _Relay, place: Reservation) -> tuple[Multiaddr, ...]:
        """Where others reach the relay: where this node reached it, and what the relay says of itself."""
        remote = stream.connection.remote
        proven = (remote.without_peer(),) if stream.connection.direction is Direction.OUTBOUND else ()
        teller = Scope.of_teller(remote)
        told = (
            address.without_peer()
            for address in place.addresses
            if address.peer_id in (None, relay.peer) and address.endpoint() is not None and Scope.of(address) >= teller
        )
        every = tuple(dict.fromkeys((*proven, *told)))[:_MAX_ADDRESSES]
        return tuple(circuit_address(address, relay.peer) for address in every)

    def _renew_at(self, relay: _Relay, when: float) -> None:
        if relay.deadline is not None:
            relay.deadline.cancel()

        def due(now: float) -> None:
            relay.deadline = None
            if relay.until is not None and relay.until <= now:
                self._lost(relay, now)
            elif not relay.asking:
                self._seek(relay, now)

        relay.deadline = self._switch.deadlines.at(when, due)

    def _lost(self, relay: _Relay, now: float) -> None:
        """The place is no more."""
        if relay.deadline is not None:
            relay.deadline.cancel()
            relay.deadline = None
        if relay.until is not None:
            self.lost += 1
            self._of(relay, now).add(LOST, now)
            self._free(relay, now)

    def _free(self, relay: _Relay, now: float) -> None:
        """It is not held any more, for whatever reason."""
        if relay.deadline is not None:
            relay.deadline.cancel()
            relay.deadline = None
        self._count_time(relay, now)
        relay.until = None
        self._switch.keep(relay.peer, False)
        self._announce(relay, (), now)

    def _count_time(self, relay: _Relay, now: float) -> None:
        """That a place was held, since it was last given."""
        if relay.until is not None:
            self._of(relay, now).add(KEPT * (now - relay.granted_at) / 3600, now)

    def _announce(self, relay: _Relay, addresses: tuple[Multiaddr, ...], now: float) -> None:
        if addresses == relay.announced:
            return
        relay.announced = addresses
        every = (address for one in self._relays.values() for address in one.announced)
        self._switch.relayed = tuple(dict.fromkeys(every))
        self._identify.advertise(now)

    # ------------------------------------------------------------ streams and peers

    @override
    def connection_opened(self, connection: PeerConnection, now: float) -> None:
        through = connection.remote.relay if connection.relayed else None
        if connection.direction is Direction.INBOUND and through is not None and through.peer_id is not None:
            relay = self._relays.get(through.peer_id)
            if relay is not None:
                self._of(relay, now).add(CARRIED, now)

    @override
    def opened(self, stream: Stream, now: float) -> None:
        asked = stream.state
        assert isinstance(asked, _Asked), "this side only asks"
        if asked.over:
            self._switch.reset(stream)
            return
        asked.stream = stream
        self._switch.write(stream, encode_hop(Hop(HopType.RESERVE)))

    @override
    def received(self, stream: Stream, data: bytes, now: float) -> None:
        asked = stream.state
        if not isinstance(asked, _Asked) or asked.over:
            return
        read = asked.frame.receive(data)
        if read is None:
            return
        answer = decode_hop(read[0])
        if answer.type is not HopType.STATUS:
            raise ProtocolError("relay: another message than the answer")
        if answer.status != RelayStatus.OK:
            self._failed(asked, Refused(f"the relay refuses: {words(answer.status)}"), now)
            return
        self._granted(asked, answer, now)
        self._switch.close_write(stream)
        self._switch.expire(stream, now)

    @override
    def ended(self, stream: Stream, now: float) -> None:
        if isinstance(stream.state, _Asked):
            self._failed(stream.state, Closed("the relay ended the stream without an answer"), now)
        self._switch.close_write(stream)

    @override
    def closed(self, stream: Stream, error: SidecarError, now: float) -> None:
        if isinstance(stream.state, _Asked):
            stream.state.stream = None
            self._failed(stream.state, error, now)

    @override
    def failed(self, state: object, error: SidecarError, now: float) -> None:
        if isinstance(state, _Asked):
            self._failed(state, error, now)

    @override
    def peer_lost(self, peer: Peer, now: float) -> None:
        relay = self._relays.get(peer.id)
        if relay is not None and relay.until is not None:
            self._lost(relay, now)
            pause = self._switch.config.redial_base * (0.75 + self._switch.rng.random() / 2)
            relay.retry_at = now + pause
            self._switch.deadlines.at(now + pause, lambda now: self._again(relay, now))

    def _again(self, relay: _Relay, now: float) -> None:
        if self._relays.get(relay.peer) is relay and self._is_time(relay, now):
            self._seek(relay, now)


def _is_relay(peer: Peer) -> bool:
    """Whether a peer can be asked for a place: over a circuit none is given."""
    return peer.speaks(HOP) and peer.direct is not None
