"""Byte streams in the node: protocols that apps speak, on streams whose bytes nobody looks into."""

from collections import deque
from typing import assert_never

from .. import events, streams
from ..buffer import Buffers
from ..errors import InvalidArgument, ResourceExhausted, SidecarError
from ..override import override
from ..types import PeerId
from .dialling import Dialling
from .identify import IdentifyService
from .operations import Operations
from .service import Service
from .statistics import StreamsStatistics
from .switch import Peer, PeerConnection, SimpleHandler, Stream, Switch

_MAX_OPENING = 128  # streams in negotiation on one connection; peers bear 256 unanswered ones (specs yamux)
_RESERVED = ("/sidecar/", "/multistream/", "/noise", "/yamux/", "/tls/")  # peers take their meaning from these


class _Asked:
    """A stream that an app has asked for."""

    __slots__ = ("connection", "op", "protocols")

    def __init__(self, op: int, connection: PeerConnection, protocols: tuple[str, ...]) -> None:
        self.op = op
        self.connection = connection
        self.protocols = protocols


class _Raw:
    """State of an open stream."""

    __slots__ = ("full", "held")

    def __init__(self) -> None:
        self.full = False  # the app was told to wait
        self.held: list[bytes] | None = None  # what came before the peer was identified; bounded by the window


class StreamsService(SimpleHandler, Service[streams.AppInput]):
    """Opens and accepts streams for apps."""

    name = "apps"
    lasting = True

    def __init__(self, switch: Switch, dialling: Dialling, operations: Operations, identify: IdentifyService) -> None:
        self._switch = switch
        self._dialling = dialling
        self._operations = operations
        self._identify = identify
        self._streams: dict[int, Stream] = {}
        self._accepted: tuple[str, ...] = ()
        self._opening: dict[int, int] = {}  # connection -> streams in negotiation
        self._queued: dict[int, deque[_Asked]] = {}  # connection -> what waits for a place; each is an open operation
        self._early: dict[PeerId, list[Stream]] = {}  # of peers that are not identified yet

    # ------------------------------------------------------------ the apps

    @override
    def handle(self, arrived: streams.AppInput, now: float) -> None:
        match arrived:
            case streams.BytesConsumed(number, size):
                self._switch.emit(events.Acknowledge(number, size))  # also for one that is done but not read out
            case streams.BytesWritten(number, data):
                self._write(number, data)
            case streams.WriteEnded(number):
                stream = self._streams.get(number)
                if stream is not None:
                    self._switch.close_write(stream)
                    self._forget_if_done(stream)
            case streams.StreamAbandoned(number):
                stream = self._streams.pop(number, None)
                if stream is None or not self._switch.reset(stream):
                    self._switch.emit(events.ResetStream(number))  # done, but not read out
            case streams.StreamRequested(op):
                if self._operations.begin(op):
                    self._open(arrived, now)
            case streams.ProtocolsAccepted(protocols):
                self._accept(protocols, now)
            case _:
                assert_never(arrived)

    def _write(self, number: int, data: bytes) -> None:
        stream = self._streams.get(number)
        if stream is None or stream.write_closed:
            return
        self._switch.write(stream, data)
        raw = stream.state
        if isinstance(raw, _Raw) and not raw.full and stream.out.size > self._switch.config.stream_buffer:
            raw.full = True
            self._switch.emit(streams.WritableChanged(number, False))

    def _accept(self, protocols: tuple[str, ...], now: float) -> None:
        switch = self._switch
        wanted = tuple(dict.fromkeys(protocols))
        for protocol in wanted:
            owner = switch.handlers.get(protocol)
            if (owner is not None and owner is not self) or protocol.startswith(_RESERVED):
                raise InvalidArgument(f"{protocol!r} belongs to the sidecar itself")
        size = sum(len(protocol.encode()) for protocol in wanted)
        if len(wanted) > streams.MAX_PROTOCOLS or size > streams.MAX_PROTOCOL_BYTES:
            raise ResourceExhausted(
                f"{len(wanted)} protocols of {size} bytes accepted by apps, "
                f"at most {streams.MAX_PROTOCOLS} of {streams.MAX_PROTOCOL_BYTES} bytes"
            )
        if wanted == self._accepted:
            return
        for protocol in self._accepted:
            switch.unregister(protocol)
        for protocol in wanted:
            switch.register(protocol, self)
        self._accepted = wanted
        self._identify.advertise(now)

    # ------------------------------------------------------------ opening

    def _open(self, asked: streams.StreamRequested, now: float) -> None:
        def reached(peer: Peer | SidecarError, now: float) -> None:
            if isinstance(peer, SidecarError):
                self._operations.complete(asked.op, peer)
            else:
                self._queue(_Asked(asked.op, peer.best, asked.protocols))

        self._dialling.reach(asked.peer, (), reached, now, search=True, passing=True)

    def _queue(self, asked: _Asked) -> None:
        """Negotiate now or when others are done: a burst must not run into the peer's bounds."""
        self._queued.setdefault(asked.connection.number, deque()).append(asked)
        self._open_next(asked.connection)

    def _open_next(self, connection: PeerConnection) -> None:
        number = connection.number
        queue = self._queued.get(number)
        while queue and self._opening.get(number, 0) < _MAX_OPENING:
            asked = queue.popleft()
            if asked.op in self._operations:
                self._opening[number] = self._opening.get(number, 0) + 1
                self._switch.open_stream(connection, asked.protocols, self, asked)
        if not queue:
            self._queued.pop(number, None)

    def _opened_or_not(self, asked: _Asked) -> None:
        number = asked.connection.number
        self._opening[number] -= 1
        if not self._opening[number]:
            del self._opening[number]
        self._open_next(asked.connection)

    # ------------------------------------------------------------ streams

    @override
    def opened(self, stream: Stream, now: float) -> None:
        asked, raw = stream.state, _Raw()
        if isinstance(asked, _Asked) and asked.op not in self._operations:  # cancelled meanwhile
            self._switch.reset(stream)
            self._opened_or_not(asked)
            return
        number = stream.number
        stream.state = raw
        self._streams[number] = stream
        self._switch.emit(events.Defer(number))
        if isinstance(asked, _Asked):
            self._operations.complete(asked.op, streams.StreamMade(number, stream.peer.id, stream.protocol))
            self._opened_or_not(asked)
        elif stream.peer.ready:
            self._switch.emit(streams.StreamArrived(number, stream.peer.id, stream.protocol))
        else:
            raw.held = []
            self._early.setdefault(stream.peer.id, []).append(stream)

    @override
    def failed(self, state: object, error: SidecarError, now: float) -> None:
        if not isinstance(state, _Asked):
            return
        self._operations.complete(state.op, error)
        if state.connection.number not in self._switch.connections:
            for asked in self._queued.pop(state.connection.number, ()):
                self._operations.complete(asked.op, error)
        self._opened_or_not(state)

    @override
    def received(self, stream: Stream, data: bytes, now: float) -> None:
        raw = stream.state
        if isinstance(raw, _Raw) and raw.held is not None:
            raw.held.append(data)
        else:
            self._switch.emit(streams.BytesArrived(stream.number, data))

    @override
    def ended(self, stream: Stream, now: float) -> None:
        if not _held(stream):
            self._switch.emit(streams.ReadEnded(stream.number))
            self._forget_if_done(stream)

    @override
    def closed(self, stream: Stream, error: SidecarError, now: float) -> None:
        if self._streams.pop(stream.number, None) is None:
            return
        if _held(stream):
            early = self._early[stream.peer.id]
            early.remove(stream)
            if not early:
                del self._early[stream.peer.id]
        else:
            self._switch.emit(streams.StreamLost(stream.number, error))

    @override
    def take(self, stream: Stream, limit: int) -> Buffers:
        taken = stream.out.take(limit)
        left, raw = stream.out.size, stream.state
        assert isinstance(raw, _Raw), "only open streams are woken"
        if (raw.full and left * 2 <= self._switch.config.stream_buffer) or (stream.write_closed and not left):
            self._switch.turn.put(lambda now: self._tell_taken(stream, raw))
        return taken

    def _tell_taken(self, stream: Stream, raw: _Raw) -> None:
        """The driver took what the app should hear of."""
        if stream.number in self._streams:
            if raw.full and stream.out.size * 2 <= self._switch.config.stream_buffer:
                raw.full = False
                self._switch.emit(streams.WritableChanged(stream.number, True))
            self._forget_if_done(stream)

    def _forget_if_done(self, stream: Stream) -> None:
        done = stream.read_ended and stream.write_closed and not stream.out and not _held(stream)
        if done and self._streams.pop(stream.number, None) is not None:
            self._switch.emit(streams.StreamDone(stream.number))

    # ------------------------------------------------------------ peers come and go

    @override
    def peer_ready(self, peer: Peer, now: float) -> None:
        for stream in self._early.pop(peer.id, ()):
            raw = stream.state
            if not isinstance(raw, _Raw) or raw.held is None:
                continue
            held, raw.held = raw.held, None
            self._switch.emit(streams.StreamArrived(stream.number, peer.id, stream.protocol))
            for data in held:
                self._switch.emit(streams.BytesArrived(stream.number, data))
            if stream.read_ended:
                self._switch.emit(streams.ReadEnded(stream.number))

    def statistics(self) -> StreamsStatistics:
        """How many streams apps have now, and how many protocols they accept."""
        return StreamsStatistics(len(self._streams), len(self._accepted))


def _held(stream: Stream) -> bool:
    return isinstance(stream.state, _Raw) and stream.state.held is not None
