"""The ends of circuits: streams through a relay that become connections of their own (specs relay/circuit-v2).

A circuit is opened as the driver's dialler asks (`CircuitWanted`), or accepted from a relay that this node has a place
with. From then on its bytes are those of a connection that the driver makes over it, as it makes one over a socket:
admitted, gated, secured, bounded and counted in the same way. Who is at the far end the handshake shows, not the relay.

A circuit that this node asked for and that comes to nothing tells against its relay. It may be the fault of the peer
behind it, so one peer counts little. Those that others open count for nothing: whoever wants can open bad ones.
"""

from collections import OrderedDict
from typing import Protocol, assert_never

from .. import events
from ..buffer import Buffers
from ..deadlines import Deadline
from ..errors import (
    Closed,
    DeadlineExceeded,
    NotSupported,
    ProtocolError,
    Refused,
    ResourceExhausted,
    SidecarError,
    Unreachable,
)
from ..events import LogLevel
from ..gate import Gate
from ..multiaddr import Multiaddr
from ..networks import Scope, split_address
from ..override import override
from ..peers import Origin
from ..relay import (
    HOP,
    STOP,
    CircuitFault,
    CircuitLimit,
    FirstFrame,
    Hop,
    HopType,
    RelayStandings,
    RelayStatus,
    Stop,
    StopType,
    decode_hop,
    decode_stop,
    encode_hop,
    encode_stop,
)
from ..relay.standing import CARRIED
from ..types import PeerId
from .dialling import Dialling
from .service import Service
from .statistics import CircuitStatistics
from .switch import Peer, SimpleHandler, Stream, Switch

_STRANGER = 20.0  # points of work for a circuit from who is no relay of this node's; a guess
_PATIENCE = 10.0  # seconds without an answer after which a relay is silent, though whoever asked gives up; a guess
_SOON = 10.0  # seconds within which a secured circuit that is cut was not given in earnest; a guess
_ALL = 0.9  # of what a relay lets through, after which an end is its limit; a guess
_MAX_TRIALS = 128  # circuits that are watched for faults; a guess, more than a node has through others as a rule


class Places(Protocol):
    """Who knows with which relays this node has a place; see `RelayClient`."""

    def holds(self, relay: PeerId) -> bool:
        """Whether it has one with this relay."""


class _Wanted:
    """A circuit that the driver asked for and has not got."""

    __slots__ = ("asked_at", "deadline", "frame", "stream", "wanted")

    def __init__(self, wanted: events.CircuitWanted) -> None:
        self.wanted = wanted
        self.asked_at: float | None = None  # when the relay was told
        self.frame = FirstFrame()
        self.stream: Stream | None = None
        self.deadline: Deadline | None = None


class _Offered:
    """A circuit that a relay offers, whose first message has not come."""

    __slots__ = ("frame",)

    def __init__(self) -> None:
        self.frame = FirstFrame()


class _Carrying:
    """A stream over which the driver has a connection. `own`: bytes in its buffer that are not that connection's."""

    __slots__ = ("inbound", "own")

    def __init__(self, inbound: bool, own: int) -> None:
        self.inbound = inbound
        self.own = own


class _Trial:
    """A circuit that a relay gave this node, until it is known what it was worth."""

    __slots__ = ("behind", "came", "ended", "left", "limit", "relay", "secured_at")

    def __init__(self, relay: PeerId, behind: PeerId, limit: CircuitLimit | None) -> None:
        self.relay = relay
        self.behind = behind
        self.limit = limit or CircuitLimit()
        self.came = 0  # bytes
        self.left = 0
        self.secured_at: float | None = None
        self.ended = False  # by the other side

    def at_limit(self, lived: float) -> bool:
        """Whether all has gone through that the relay lets through, or most of it."""
        data, duration = self.limit.data, self.limit.duration
        return bool(data and max(self.came, self.left) >= data * _ALL) or bool(duration and lived >= duration * _ALL)


class Circuits(SimpleHandler, Service[events.CircuitInput]):
    """Opens, accepts and carries circuits at this end."""

    name = "circuit"
    lasting = True

    def __init__(
        self, switch: Switch, dialling: Dialling, gate: Gate, places: Places, standings: RelayStandings
    ) -> None:
        self._switch = switch
        self._standings = standings
        self._dialling = dialling
        self._gate = gate
        self._places = places
        self._config = switch.config.relay
        self._wanted: dict[int, _Wanted] = {}
        self._carried: dict[int, Stream] = {}
        self._trials: OrderedDict[int, _Trial] = OrderedDict()  # by the carrying stream
        self._counts = CircuitStatistics()
        switch.register(STOP, self)

    @override
    def handle(self, arrived: events.CircuitInput, now: float) -> None:
        match arrived:
            case events.CircuitWanted():
                self._on_wanted(arrived, now)
            case events.CircuitUnwanted(attempt):
                self._give_up(attempt, now)
            case events.CircuitWritten(number, data):
                stream = self._carried.get(number)
                if stream is not None and not stream.write_closed:
                    for piece in data:
                        stream.out.push(bytes(piece))
                    trial = self._trials.get(number)
                    if trial is not None:
                        trial.left += sum(map(len, data))
                    self._switch.wake(stream)
            case events.CircuitRead(number, size):
                self._switch.emit(events.Acknowledge(number, size))  # also of one that is done but not read out
            case events.CircuitFinished(number):
                stream = self._carried.get(number)
                if stream is not None:
                    self._switch.close_write(stream)
                    self._forget_if_done(stream)
            case events.CircuitCut(number):
                self._trials.pop(number, None)
                stream = self._carried.pop(number, None)
                if stream is not None:
                    self._switch.reset(stream)
            case events.CircuitSecured(number):
                self._on_secured(number, now)
            case events.CircuitOver(number, error):
                trial = self._trials.pop(number, None)
                if trial is not None:
                    self._on_over(trial, error, now)
            case _:
                assert_never(arrived)

    def statistics(self) -> CircuitStatistics:
        """Counted since the start, and what there is now."""
        counts = self._counts
        inbound = self._inbound()
        return CircuitStatistics(
            open_inbound=inbound,
            open_outbound=len(self._carried) - inbound,
            opened_inbound=counts.opened_inbound,
            opened_outbound=counts.opened_outbound,
            refused=dict(counts.refused),
            failed=dict(counts.failed),
            faults=dict(counts.faults),
        )

    def _inbound(self) -> int:
        return sum(isinstance(one.state, _Carrying) and one.state.inbound for one in self._carried.values())

    # ------------------------------------------------------------ what relays are worth

    def _on_secured(self, number: int, now: float) -> None:
        trial = self._trials.get(number)
        if trial is not None:
            trial.secured_at = now
            self._standings.of(trial.relay, now).add(CARRIED, now)

    def _on_over(self, trial: _Trial, error: SidecarError | None, now: float) -> None:
        fault = CircuitFault.of(error, trial.ended)
        if trial.secured_at is not None:  # what comes over a connection that is open is the peer's
            lived = now - trial.secured_at
            cut = fault is CircuitFault.DROPPED and error is not None and not trial.at_limit(lived)
            fault = fault if cut and lived < _SOON else None
        self._blame(trial.relay, trial.behind, fault, now)

    def _blame(self, relay: PeerId, behind: PeerId, fault: CircuitFault | None, now: float) -> None:
        if fault is None:
            return
        self._counts.faults[fault] = self._counts.faults.get(fault, 0) + 1
        self._switch.note(LogLevel.INFO, relay, "a circuit of this relay to %s came to nothing (%s)", behind, fault)
        self._standings.of(relay, now).blame(fault, behind, now)

    # ------------------------------------------------------------ as the driver asks

    def _on_wanted(self, asked: events.CircuitWanted, now: float) -> None:
        if len(self._wanted) >= self._config.max_wanted:
            error = ResourceExhausted(f"{len(self._wanted)} circuits are being opened, at most that many")
            self._fail(asked.attempt, error)
            return
        wanted = self._wanted[asked.attempt] = _Wanted(asked)

        def overdue(now: float) -> None:
            self._failed(wanted, DeadlineExceeded(f"no circuit within {self._config.connect_timeout:g} s"), now)

        def reached(result: Peer | SidecarError, now: float) -> None:
            if self._wanted.get(asked.attempt) is not wanted:
                return
            if isinstance(result, SidecarError):
                self._failed(wanted, Unreachable(f"the relay {asked.relay} is not reached: {result}"), now)
                return
            direct = result.direct
            if direct is None:  # specs: no circuit over a circuit
                error = Unreachable(f"the relay {asked.relay} is reached only through another relay")
                self._failed(wanted, error, now)
            else:
                wanted.asked_at = now
                self._switch.open_stream(direct, (HOP,), self, wanted)

        wanted.deadline = self._switch.deadlines.at(now + self._config.connect_timeout, overdue)
        # Where an app insists, it has named the address.
        origin = Origin.APP if asked.force else Origin.RELAY
        self._dialling.reach(
            asked.relay, (asked.address,), reached, now, insist=asked.force, passing=True, origin=origin
        )

    def _give_up(self, attempt: int, now: float) -> None:
        wanted = self._wanted.pop(attempt, None)
        if wanted is not None:
            self._drop(wanted)
            if wanted.asked_at is not None and now - wanted.asked_at >= _PATIENCE:
                self._blame(wanted.wanted.relay, wanted.wanted.peer, CircuitFault.SILENT, now)

    def _failed(self, wanted: _Wanted, error: SidecarError, now: float) -> None:
        asked = wanted.wanted
        if self._wanted.pop(asked.attempt, None) is wanted:
            self._drop(wanted)
            if wanted.asked_at is not None:
                self._blame(asked.relay, asked.peer, CircuitFault.of(error, ended=True), now)
            self._fail(asked.attempt, error)

    def _drop(self, wanted: _Wanted) -> None:
        if wanted.deadline is not None:
            wanted.deadline.cancel()
        if wanted.stream is not None:
            self._switch.reset(wanted.stream)

    def _fail(self, attempt: int, error: SidecarError) -> None:
        kind = type(error).__name__
        self._counts.failed[kind] = self._counts.failed.get(kind, 0) + 1
        self._switch.emit(events.CircuitFailed(attempt, error))

    def _answered(self, stream: Stream, wanted: _Wanted, data: bytes, now: float) -> None:
        read = self._first(stream, wanted.frame, data)
        if read is None:
            return
        frame, rest = read
        answer, asked = decode_hop(frame), wanted.wanted
        if answer.type is not HopType.STATUS:
            raise ProtocolError("relay: another message than the answer")
        if answer.status != RelayStatus.OK:
            self._failed(wanted, Refused(f"the relay {asked.relay} refuses a circuit: {words(answer.status)}"), now)
            return
        del self._wanted[asked.attempt]
        if wanted.deadline is not None:
            wanted.deadline.cancel()
        self._counts.opened_outbound += 1
        limited = answer.limit is not None
        self._trials[stream.number] = _Trial(asked.relay, asked.peer, answer.limit)
        if len(self._trials) > _MAX_TRIALS:
            self._trials.popitem(last=False)
        remote = circuit_address(asked.address, asked.relay)
        near = _seen_here(stream, answer.addresses)
        self._carry(stream, asked.peer, remote, asked.attempt, limited, near, rest)

    def _first(self, stream: Stream, frame: FirstFrame, data: bytes) -> tuple[bytes, bytes] | None:
        """The first message once it is whole, and what came behind it, which is not consumed yet."""
        read = frame.receive(data)
        rest = b"" if read is None else read[1]
        self._switch.emit(events.Acknowledge(stream.number, len(data) - len(rest)))
        return read

    def _carry(
        self,
        stream: Stream,
        peer: PeerId,
        remote: Multiaddr,
        attempt: int | None,
        limited: bool,
        near: bool,
        rest: bytes,
    ) -> None:
        """From now on the stream's bytes are those of a connection; `rest` came already."""
        stream.state = _Carrying(attempt is None, len(stream.out))
        self._carried[stream.number] = stream
        local = stream.connection.local
        self._switch.emit(events.CircuitOpened(stream.number, peer, remote, local, attempt, limited, near))
        if rest:
            self._switch.emit(events.CircuitReceived(stream.number, rest))

    # ------------------------------------------------------------ as relays ask

    def _on_offer(self, stream: Stream, offered: _Offered, data: bytes, now: float) -> None:
        read = self._first(stream, offered.frame, data)
        if read is None:
            return
        frame, rest = read
        asked = decode_stop(frame)
        relay = stream.peer.id
        if asked.type is not StopType.CONNECT or asked.peer is None:
            self._refuse(stream, RelayStatus.UNEXPECTED_MESSAGE, "no_connect", rest)
        elif stream.connection.relayed or not self._places.holds(relay):
            self._switch.charge(relay, "circuit", _STRANGER, now)
            self._refuse(stream, RelayStatus.PERMISSION_DENIED, "stranger", rest)
        elif asked.peer in (self._switch.local, relay) or self._gate.refuse_peer(asked.peer) is not None:
            self._refuse(stream, RelayStatus.PERMISSION_DENIED, "peer", rest)
        elif self._inbound() >= self._config.max_inbound:
            self._refuse(stream, RelayStatus.RESOURCE_LIMIT_EXCEEDED, "full", rest)
        else:
            if stream.deadline is not None:
                stream.deadline.cancel()
            self._counts.opened_inbound += 1
            self._switch.write(stream, encode_stop(Stop(StopType.STATUS, status=RelayStatus.OK)))
            remote = circuit_address(stream.connection.remote, relay)
            near = _seen_here(stream, asked.addresses)
            self._carry(stream, asked.peer, remote, None, asked.limit is not None, near, rest)

    def _refuse(self, stream: Stream, status: RelayStatus, reason: str, rest: bytes) -> None:
        self._switch.emit(events.Acknowledge(stream.number, len(rest)))
        self._counts.refused[reason] = self._counts.refused.get(reason, 0) + 1
        text = "a circuit that the relay brings is refused (%s)"
        self._switch.note(LogLevel.DEBUG, stream.peer.id, text, status.name)
        self._switch.write(stream, encode_stop(Stop(StopType.STATUS, status=status)))
        self._switch.close_write(stream)

    # ------------------------------------------------------------ streams

    @override
    def opened(self, stream: Stream, now: float) -> None:
        wanted = stream.state
        if not isinstance(wanted, _Wanted):  # theirs
            stream.state = _Offered()
            self._switch.emit(events.Defer(stream.number))
            self._switch.expire(stream, now)
            return
        if self._wanted.get(wanted.wanted.attempt) is not wanted:
            self._switch.reset(stream)
            return
        wanted.stream = stream
        self._switch.emit(events.Defer(stream.number))
        self._switch.write(stream, encode_hop(Hop(HopType.CONNECT, peer=wanted.wanted.peer)))

    @override
    def failed(self, state: object, error: SidecarError, now: float) -> None:
        if isinstance(state, _Wanted):
            if isinstance(error, NotSupported):
                error = NotSupported(f"{state.wanted.relay} is no relay: {error}")
            self._failed(state, error, now)

    @override
    def received(self, stream: Stream, data: bytes, now: float) -> None:
        match stream.state:
            case _Carrying():
                trial = self._trials.get(stream.number)
                if trial is not None:
                    trial.came += len(data)
                self._switch.emit(events.CircuitReceived(stream.number, data))
            case _Wanted() as wanted:
                self._answered(stream, wanted, data, now)
            case _Offered() as offered if not offered.frame.done:
                self._on_offer(stream, offered, data, now)
            case _:  # refused: what follows is of no interest
                self._switch.emit(events.Acknowledge(stream.number, len(data)))

    @override
    def ended(self, stream: Stream, now: float) -> None:
        match stream.state:
            case _Carrying():
                trial = self._trials.get(stream.number)
                if trial is not None:
                    trial.ended = True
                self._switch.emit(events.CircuitEnded(stream.number))
                self._forget_if_done(stream)
            case _Wanted() as wanted:
                self._failed(wanted, Closed("the relay ended the stream without an answer"), now)
            case _Offered():
                self._switch.close_write(stream)

    @override
    def closed(self, stream: Stream, error: SidecarError, now: float) -> None:
        if isinstance(stream.state, _Wanted):
            stream.state.stream = None
            self._failed(stream.state, error, now)
        elif self._carried.pop(stream.number, None) is not None:
            trial = self._trials.get(stream.number)
            if trial is not None:
                trial.ended = True
            self._switch.emit(events.CircuitLost(stream.number, error))

    @override
    def take(self, stream: Stream, limit: int) -> Buffers:
        taken = stream.out.take(limit)
        carrying = stream.state
        if isinstance(carrying, _Carrying):
            size = sum(map(len, taken))
            own = min(size, carrying.own)
            carrying.own -= own
            if size > own:
                self._switch.emit(events.CircuitTaken(stream.number, size - own))
            if stream.write_closed:
                self._switch.turn.put(lambda now: self._forget_if_done(stream))
        return taken

    def _forget_if_done(self, stream: Stream) -> None:
        if stream.read_ended and stream.write_closed and not stream.out:
            self._carried.pop(stream.number, None)


def _seen_here(stream: Stream, addresses: tuple[Multiaddr, ...]) -> bool:
    """Whether a relay sees the other end at the public address at which it sees this node, as it has said itself."""
    info = stream.peer.info
    own = info.observed_address if info is not None else None
    if own is None or own.ip is None or own.is_relayed or Scope.of(own) is not Scope.PUBLIC:
        return False
    here = split_address(own.ip)
    return any(each.ip is not None and not each.is_relayed and split_address(each.ip) == here for each in addresses)


def circuit_address(relay_address: Multiaddr, relay: PeerId) -> Multiaddr:
    """Where whoever has a place with the relay is reached: without the peer's own id."""
    return Multiaddr.from_text(f"{relay_address.with_peer(relay)}/p2p-circuit")


def words(status: int) -> str:
    """What a status says, for a sentence."""
    try:
        return RelayStatus(status).words
    except ValueError:
        return f"status {status}"
