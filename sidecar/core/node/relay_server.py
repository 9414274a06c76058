"""This node as a relay: gives places, and joins two streams into a circuit (specs relay/circuit-v2).

Everything is bounded: places by peer, address and network, circuits by peer and in all, and each circuit by time and
bytes. What a slow reader leaves waits with whoever sends: a byte is consumed when it has left at the other side.
"""

from typing import Never

from .. import events, kademlia
from ..buffer import Buffers
from ..deadlines import Deadline
from ..errors import Closed, DeadlineExceeded, NotSupported, ProtocolError, SidecarError
from ..events import LogLevel
from ..multiaddr import Multiaddr
from ..networks import Grouping, Scope, split_address
from ..override import override
from ..relay import (
    HOP,
    STOP,
    CircuitLimit,
    FirstFrame,
    Hop,
    HopType,
    RelayBook,
    RelayStatus,
    Reservation,
    Stop,
    StopType,
    decode_hop,
    decode_stop,
    encode_hop,
    encode_stop,
    make_voucher,
)
from ..types import PeerId
from .kademlia import Ended, KademliaService
from .relay_client import RELAY_NAME, RelayClient
from .rendezvous import rendezvous_key
from .service import Service
from .statistics import RelayStatistics
from .switch import Peer, PeerConnection, SimpleHandler, Stream, Switch

_WORK = 60.0  # points that a request counts: a voucher's signature and two streams are some 300 us
_BYTES = 1 / 2048  # points for each relayed byte; a guess: as decrypting and encrypting it costs
_ADVERTISE = 1800.0  # seconds from one announcement of the relay in the DHT to the next; a guess
_MAX_ADDRESSES = 8  # told with a place; a guess


class _Request:
    """A stream on which somebody asks for something; its first message has not come, or is being answered."""

    __slots__ = ("answered", "circuit", "frame", "held")

    def __init__(self) -> None:
        self.frame = FirstFrame()
        self.circuit: _Circuit | None = None
        self.held = b""  # what came behind the message: the circuit's first bytes
        self.answered = False


class _Circuit:
    """Two peers that are being joined, or are."""

    __slots__ = ("deadline", "frame", "halves", "open", "over", "source", "stop", "stream", "target")

    def __init__(self, source: PeerId, target: PeerId, stream: Stream) -> None:
        self.source = source
        self.target = target
        self.stream = stream  # of the source
        self.stop: Stream | None = None  # to the target
        self.frame = FirstFrame()
        self.halves: tuple[_Half, ...] = ()
        self.deadline: Deadline | None = None
        self.open = False
        self.over = False


class _Half:
    """A stream of an open circuit, and where its bytes go."""

    __slots__ = ("circuit", "ended", "other", "own", "received")

    def __init__(self, circuit: _Circuit, other: Stream, own: int) -> None:
        self.circuit = circuit
        self.other = other
        self.own = own  # bytes in this stream's buffer that are this relay's, not the other side's
        self.received = 0
        self.ended = False


class RelayServer(SimpleHandler, Service[Never]):
    """Serves as a relay, where that is configured."""

    name = "relay"
    lasting = True

    def __init__(self, switch: Switch, kademlia: KademliaService, client: RelayClient, epoch: float) -> None:
        """`epoch`: what the wall clock showed, in seconds since 1970, when monotonic time was 0."""
        self._switch = switch
        self._kademlia = kademlia
        self._client = client
        self._epoch = epoch
        self._config = config = switch.config.relay
        self._book = RelayBook(config)
        self._grouping = Grouping(switch.config.exempt_networks)
        self._kept: dict[PeerId, None] = {}
        self._advertise_at = 0.0
        self._counts = RelayStatistics()
        if config.server:
            switch.register(HOP, self)

    def statistics(self) -> RelayStatistics:
        """Of both roles: counted since the start, and what there is now."""
        counts, client = self._counts, self._client
        return RelayStatistics(
            places=client.places,
            places_wanted=client.wanted,
            places_lost=client.lost,
            places_granted=client.granted,
            places_failed=dict(client.failures),
            reservations=len(self._book),
            reservations_granted=counts.reservations_granted,
            circuits=self._book.circuits,
            circuits_opened=counts.circuits_opened,
            requests_refused=dict(counts.requests_refused),
            circuits_ended=dict(counts.circuits_ended),
            relayed_bytes=counts.relayed_bytes,
        )

    # ------------------------------------------------------------ time and peers

    @override
    def upkeep(self, now: float) -> None:
        """Free places whose time is over, and tell the DHT of this relay now and then."""
        for peer in self._book.expire(now):
            self._unkeep(peer)
        if self._config.server and now >= self._advertise_at and self._kademlia.router.size:
            self._advertise_at = now + _ADVERTISE
            key, addresses = rendezvous_key(RELAY_NAME), self._switch.advertised()

            def told(result: Ended | kademlia.ProvidersFound, now: float) -> None:
                if not isinstance(result, kademlia.StoreCompleted) or not result.stored:
                    self._advertise_at = now + self._config.search_pause

            self._kademlia.ask(lambda walk: kademlia.ProvideRequested(walk, key, addresses), told, now)

    @override
    def peer_lost(self, peer: Peer, now: float) -> None:
        self._book.lost(peer.id)
        self._unkeep(peer.id)

    def _unkeep(self, peer: PeerId) -> None:
        if peer in self._kept:
            del self._kept[peer]
            self._switch.keep(peer, False)

    # ------------------------------------------------------------ requests

    @override
    def opened(self, stream: Stream, now: float) -> None:
        if isinstance(stream.state, _Circuit):
            self._stop_opened(stream, stream.state)
            return
        stream.state = _Request()
        self._switch.charge(stream.peer.id, "relay", _WORK, now)
        self._switch.emit(events.Defer(stream.number))
        self._switch.expire(stream, now)

    def _on_request(self, stream: Stream, request: _Request, data: bytes, now: float) -> None:
        if request.frame.done:
            if request.answered:
                self._switch.emit(events.Acknowledge(stream.number, len(data)))
            else:
                request.held += data  # at most a window: nothing of it is consumed
            return
        read = request.frame.receive(data)
        rest = b"" if read is None else read[1]
        self._switch.emit(events.Acknowledge(stream.number, len(data) - len(rest)))
        if read is None:
            return
        request.held = rest
        try:
            asked = decode_hop(read[0])
        except ProtocolError:
            self._refuse(stream, RelayStatus.MALFORMED_MESSAGE)
            return
        if stream.connection.relayed:  # specs: neither over a circuit
            self._refuse(stream, RelayStatus.PERMISSION_DENIED)
        elif asked.type is HopType.RESERVE:
            self._reserve(stream, now)
        elif asked.type is not HopType.CONNECT:
            self._refuse(stream, RelayStatus.UNEXPECTED_MESSAGE)
        elif asked.peer is None:
            self._refuse(stream, RelayStatus.MALFORMED_MESSAGE)
        else:
            self._connect(stream, request, asked.peer, now)

    def _refuse(self, stream: Stream, status: RelayStatus) -> None:
        name = status.name.lower()
        self._counts.requests_refused[name] = self._counts.requests_refused.get(name, 0) + 1
        self._switch.note(LogLevel.DEBUG, stream.peer.id, "relay: refused: %s", status.name)
        self._answer(stream, Hop(HopType.STATUS, status=status))

    def _answer(self, stream: Stream, answer: Hop) -> None:
        """Say the last word on a request."""
        request = stream.state
        if isinstance(request, _Request):
            request.answered = True
            self._switch.emit(events.Acknowledge(stream.number, len(request.held)))
            request.held = b""
        self._switch.write(stream, encode_hop(answer))
        self._switch.close_write(stream)

    def _reserve(self, stream: Stream, now: float) -> None:
        peer = stream.peer.id
        status = self._book.reserve(peer, self._grouping.of(stream.connection.remote), now)
        if status is not RelayStatus.OK:
            self._unkeep(peer)
            self._refuse(stream, status)
            return
        if peer not in self._kept:
            self._kept[peer] = None
            self._switch.keep(peer, True)
        self._counts.reservations_granted += 1
        expire = int(self._epoch + now + self._config.reservation_ttl)
        switch = self._switch
        own = (*switch.announced, *(() if switch.announced else switch.listening))[:_MAX_ADDRESSES]
        addresses = tuple(address.with_peer(switch.local) for address in own)
        place = Reservation(expire, addresses, make_voucher(switch.identity, peer, expire))
        self._answer(stream, Hop(HopType.STATUS, reservation=place, limit=self._limit(), status=RelayStatus.OK))

    def _limit(self) -> CircuitLimit | None:
        config = self._config
        return CircuitLimit(int(config.circuit_duration), config.circuit_data) if config.limited else None

    # ------------------------------------------------------------ joining two peers

    def _connect(self, stream: Stream, request: _Request, target: PeerId, now: float) -> None:
        source = stream.peer.id
        present = self._switch.peers.get(target)
        direct = present.direct if present is not None else None
        if target == source or direct is None:
            self._refuse(stream, RelayStatus.NO_RESERVATION)
            return
        status = self._book.open(source, target, now)
        if status is not RelayStatus.OK:
            self._refuse(stream, status)
            return
        if stream.deadline is not None:
            stream.deadline.cancel()
        circuit = _Circuit(source, target, stream)
        request.circuit = circuit
        self._switch.open_stream(direct, (STOP,), self, circuit)

        def overdue(now: float) -> None:
            error = DeadlineExceeded(f"no answer within {self._config.connect_timeout:g} s")
            self._not_joined(circuit, RelayStatus.CONNECTION_FAILED, error)

        circuit.deadline = self._switch.deadlines.at(now + self._config.connect_timeout, overdue)

    def _not_joined(self, circuit: _Circuit, status: RelayStatus, error: SidecarError) -> None:
        """The target does not take the circuit."""
        if not self._finish(circuit, None):
            return
        self._switch.note(LogLevel.DEBUG, circuit.target, "relay: takes no circuit: %s", error)
        if circuit.stop is not None:
            self._switch.reset(circuit.stop)
        self._refuse(circuit.stream, status)

    def _stop_opened(self, stream: Stream, circuit: _Circuit) -> None:
        if circuit.over:
            self._switch.reset(stream)
            return
        circuit.stop = stream
        self._switch.emit(events.Defer(stream.number))
        seen = _seen_beside(circuit.stream.connection, stream.connection)
        self._switch.write(stream, encode_stop(Stop(StopType.CONNECT, circuit.source, self._limit(), addresses=seen)))

    def _on_stop_answer(self, stream: Stream, circuit: _Circuit, data: bytes, now: float) -> None:
        read = None if circuit.frame.done else circuit.frame.receive(data)
        rest = b"" if read is None else read[1]
        self._switch.emit(events.Acknowledge(stream.number, len(data) - len(rest)))
        if read is None or circuit.over:
            return
        answer = decode_stop(read[0])
        if answer.type is not StopType.STATUS or answer.status != RelayStatus.OK:
            refused = RelayStatus.CONNECTION_FAILED
            if answer.status in (RelayStatus.PERMISSION_DENIED, RelayStatus.RESOURCE_LIMIT_EXCEEDED):
                refused = RelayStatus(answer.status)
            self._not_joined(circuit, refused, ProtocolError(f"it answers with status {answer.status}"))
            return
        self._join(circuit, stream, rest, now)

    def _join(self, circuit: _Circuit, stop: Stream, rest: bytes, now: float) -> None:
        source, request = circuit.stream, circuit.stream.state
        held = request.held if isinstance(request, _Request) else b""
        seen = _seen_beside(stop.connection, source.connection)
        answer = Hop(
            HopType.STATUS,
            peer=circuit.target if seen else None,
            limit=self._limit(),
            status=RelayStatus.OK,
            addresses=seen,
        )
        self._switch.write(source, encode_hop(answer))
        circuit.open = True
        self._counts.circuits_opened += 1
        circuit.halves = (
            _Half(circuit, stop, len(source.out)),
            _Half(circuit, source, len(stop.out)),
        )
        source.state, stop.state = circuit.halves
        if circuit.deadline is not None:
            circuit.deadline.cancel()
            circuit.deadline = None
        if self._config.circuit_duration:
            when = now + self._config.circuit_duration
            circuit.deadline = self._switch.deadlines.at(when, lambda now: self._cut(circuit, "time"))
        for stream, half, data in zip((source, stop), circuit.halves, (held, rest), strict=True):
            if data:
                self._forward(stream, half, data, now)
            if stream.read_ended:
                self._half_ended(stream, half)

    # ------------------------------------------------------------ bytes

    def _forward(self, stream: Stream, half: _Half, data: bytes, now: float) -> None:
        circuit, limit = half.circuit, self._config.circuit_data
        half.received += len(data)
        if limit and half.received > limit:
            self._cut(circuit, "data")
            return
        self._counts.relayed_bytes += len(data)
        self._switch.charge(stream.peer.id, "relay", len(data) * _BYTES, now, needless=False)
        self._switch.write(half.other, data)

    @override
    def take(self, stream: Stream, limit: int) -> Buffers:
        taken = stream.out.take(limit)
        half = stream.state
        if isinstance(half, _Half):
            size = sum(map(len, taken))
            own = min(size, half.own)
            half.own -= own
            if size > own:  # it has left here, so whoever sent it may send as much again
                self._switch.emit(events.Acknowledge(half.other.number, size - own))
        return taken

    def _half_ended(self, stream: Stream, half: _Half) -> None:
        half.ended = True
        self._switch.close_write(half.other)
        if all(each.ended for each in half.circuit.halves):
            self._finish(half.circuit, "order")

    def _cut(self, circuit: _Circuit, reason: str) -> None:
        if self._finish(circuit, reason):
            for stream in (circuit.stream, circuit.stop):
                if stream is not None:
                    self._switch.reset(stream)

    def _finish(self, circuit: _Circuit, reason: str | None) -> bool:
        """Count the circuit no more; False where it was over. `reason`: of the end of one that was open."""
        if circuit.over:
            return False
        circuit.over = True
        if circuit.deadline is not None:
            circuit.deadline.cancel()
        self._book.close(circuit.source, circuit.target)
        if circuit.open and reason is not None:
            self._counts.circuits_ended[reason] = self._counts.circuits_ended.get(reason, 0) + 1
        return True

    # ------------------------------------------------------------ streams

    @override
    def received(self, stream: Stream, data: bytes, now: float) -> None:
        match stream.state:
            case _Half() as half:
                self._forward(stream, half, data, now)
            case _Request() as request:
                self._on_request(stream, request, data, now)
            case _Circuit() as circuit:
                self._on_stop_answer(stream, circuit, data, now)

    @override
    def ended(self, stream: Stream, now: float) -> None:
        match stream.state:
            case _Half() as half:
                self._half_ended(stream, half)
            case _Request() as request if not request.frame.done:
                self._switch.close_write(stream)
            case _Circuit() as circuit:
                self._not_joined(circuit, RelayStatus.CONNECTION_FAILED, Closed("it ended the stream"))

    @override
    def closed(self, stream: Stream, error: SidecarError, now: float) -> None:
        match stream.state:
            case _Half(circuit=circuit):
                self._cut(circuit, "lost")
            case _Circuit() as circuit:
                circuit.stop = None
                self._not_joined(circuit, RelayStatus.CONNECTION_FAILED, error)
            case _Request() as request if request.circuit is not None:
                self._cut(request.circuit, "lost")

    @override
    def failed(self, state: object, error: SidecarError, now: float) -> None:
        if isinstance(state, _Circuit):
            status = RelayStatus.PERMISSION_DENIED if isinstance(error, NotSupported) else RelayStatus.CONNECTION_FAILED
            self._not_joined(state, status, error)


def _seen_beside(one: PeerConnection, other: PeerConnection) -> tuple[Multiaddr, ...]:
    """Where this relay sees one end of a circuit, for the other end: told only where both are at one public address.

    So each learns that the other may be in its own network, and no address but its own.
    """
    if one.relayed or other.relayed or one.remote.ip is None or other.remote.ip is None:
        return ()
    if Scope.of(one.remote) is not Scope.PUBLIC or split_address(one.remote.ip) != split_address(other.remote.ip):
        return ()
    return (one.remote.without_peer(),)
