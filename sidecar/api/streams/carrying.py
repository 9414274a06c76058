"""Many byte streams of one call: each opened, heard and ended by itself, under a number that the app has chosen."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from ...core.errors import InvalidArgument, SidecarError
from ...core.override import override
from ...core.types import PeerId
from ..common import values
from ..common.outlet import MAX_BATCH, Outlet
from ..common.status import status_details
from ..common.wakeup import Wakeup
from ..guard import caller
from ..service import ServiceContext
from . import convert, encode
from .byte_streams import ByteStream, ByteStreams

WINDOW = 262_144  # bytes of one direction of a stream that may be under way; the schema says so
MAX_OFFERED = 16  # protocols; half of what one negotiation takes
_MAX_ENDS = 1024  # streams whose failure the app has not been told; beyond, it is read no further
_RESPONSE_BYTES = 262_144  # of data in one response, about
_TURN_BYTES = 65_536  # of one stream before another has its turn


class _Carried:
    """One stream of the call. As what wakes the reader of a `ByteStream`, it gets its turn to be written."""

    __slots__ = (
        "closed",
        "end_told",
        "head",
        "held",
        "number",
        "op",
        "owed",
        "room",
        "stream",
        "turns",
        "window",
    )

    def __init__(self, number: int, turns: Callable[["_Carried"], None]) -> None:
        self.number = number
        self.turns = turns
        self.stream: ByteStream | None = None  # once it is open
        self.op = 0  # while it is being opened
        self.head = b""  # what is to be said before anything else: that it is open
        self.held: list[bytes] = []  # what the app has sent for a stream that is being opened
        self.closed = False  # the app has ended its direction
        self.room = WINDOW  # bytes that the app may send
        self.owed = 0  # bytes of it that the node has, and the app has not been told so
        self.window = WINDOW  # bytes that may be sent to the app
        self.end_told = False

    def set(self) -> None:
        """There may be something to say of it."""
        self.turns(self)


class StreamCarrier(Outlet):
    """One CarryStreams call."""

    def __init__(self, context: ServiceContext, streams: ByteStreams) -> None:
        """No stream is there at first."""
        super().__init__()
        self._context = context
        self._streams = streams
        self._caller = caller.present()
        self._open: dict[int, _Carried] = {}
        self._turns: dict[int, _Carried] = {}  # those of which there may be something to say, in order
        self._ends: list[bytes] = []  # frames: how others have ended
        self._told = Wakeup()  # the ends have been written
        self._written: list[tuple[ByteStream, int]] = []  # bytes of the last response
        self._holds: list[AbstractContextManager[None]] = []  # places in quotas: for all open streams but one
        self._begun = False  # whether there has ever been a stream

    # ------------------------------------------------------------ what the app says

    async def consume(self, request: convert.CarryStreamsRequest) -> None:
        """Carry out what the app says. Raises InvalidField where that is no stream's fault but the call's."""
        values.bounded(len(request.frames), MAX_BATCH, "frames")
        for index, frame in enumerate(request.frames):
            while len(self._ends) >= _MAX_ENDS:
                await self._told.wait()
            number = frame.stream
            if frame.HasField("open") or frame.token:
                if not number or number in self._open:
                    what = "is 0" if not number else "is that of another stream"
                    raise values.invalid(f"frames[{index}].stream", f"the number of a new stream {what}")
                self._begin(number, frame)
            carried = self._open.get(number)
            if carried is not None:
                self._heed(carried, frame)

    def _begin(self, number: int, frame: Any) -> None:
        """Open a stream, or take one up; it fails by itself."""
        carried = _Carried(number, self._has_turn)
        try:
            self._context.lifetime.check_accepting()
            if frame.token:
                protocol = self._streams.protocol(frame.token)
                if protocol is not None:
                    caller.require(f"stream:{protocol}")
            else:
                peer = self._context.other_peer(frame.open.peer_id, "open.peer_id")
                offered = frame.open.protocols
                protocols = values.names(offered, MAX_OFFERED, values.MAX_PROTOCOL, "open.protocols")
                for protocol in protocols:
                    caller.require(f"stream:{protocol}")
            self._hold()
        except SidecarError as error:
            self._say_failed(number, error)
            return
        self._open[number] = carried
        try:
            if frame.token:
                self._made(carried, self._streams.take_up(frame.token))
            else:
                self._ask(carried, peer, protocols)
        except SidecarError as error:
            self._fail(carried, error)

    def _ask(self, carried: _Carried, peer: PeerId, protocols: tuple[str, ...]) -> None:
        def made(result: ByteStream | SidecarError) -> None:
            carried.op = 0
            if self._open.get(carried.number) is not carried:
                if isinstance(result, ByteStream):
                    self._streams.abandon(result)
            elif isinstance(result, ByteStream):
                self._made(carried, result)
            else:
                self._fail(carried, result)

        op = self._streams.open(peer, protocols, made)
        if carried.stream is None:
            carried.op = op

    def _made(self, carried: _Carried, stream: ByteStream) -> None:
        carried.stream = stream
        carried.head = convert.opened_frame(stream.peer, stream.protocol)
        stream.ready = carried
        held, carried.held = carried.held, []
        if held or carried.closed:
            self._streams.write(stream, b"".join(held), end=carried.closed)
            carried.owed += sum(map(len, held))
        carried.set()

    def _heed(self, carried: _Carried, frame: Any) -> None:
        data = frame.data
        if frame.window:
            carried.window += frame.window
            carried.set()
        if data or frame.close_write:
            if carried.closed:
                pass  # as the node passes over what comes behind the end
            elif len(data) > carried.room:
                self._fail(carried, _too_much(len(data), carried.room))
            else:
                carried.room -= len(data)
                carried.closed = frame.close_write
                stream = carried.stream
                if stream is None:
                    if data:
                        carried.held.append(data)
                else:
                    self._streams.write(stream, data, end=carried.closed)
                    carried.owed += len(data)
                    if carried.owed >= WINDOW // 2:
                        carried.set()
        if frame.reset:
            self._forget(carried)

    def close(self) -> None:
        """The call is over: so are its streams."""
        for carried in list(self._open.values()):
            self._forget(carried)
        while self._holds:
            self._holds.pop().__exit__(None, None, None)

    # ------------------------------------------------------------ how streams end

    def _fail(self, carried: _Carried, error: SidecarError) -> None:
        self._forget(carried)
        self._say_failed(carried.number, error)

    def _say_failed(self, number: int, error: SidecarError) -> None:
        self._ends.append(encode.failed(number, status_details(error)))
        self.ready.set()

    def _forget(self, carried: _Carried) -> None:
        """It is over here; what is left of it is reset."""
        if self._open.get(carried.number) is not carried:
            return
        del self._open[carried.number]
        self._turns.pop(carried.number, None)
        if carried.stream is not None:
            self._streams.abandon(carried.stream)
        elif carried.op:
            self._streams.cancel(carried.op)
        self._streams.leave()
        if self._holds:
            self._holds.pop().__exit__(None, None, None)
        self.ready.set()  # it may have been what the end waited for

    def _hold(self) -> None:
        """A place for another stream, in the bound and in quotas. Raises ResourceExhausted, QuotaExceeded."""
        if self._begun:
            self._caller.count_call()
        if self._open:
            hold = self._caller.holding_stream()
            hold.__enter__()
            self._holds.append(hold)
        try:
            self._streams.enter()
        except SidecarError:
            if self._open:
                self._holds.pop().__exit__(None, None, None)
            raise
        self._begun = True

    # ------------------------------------------------------------ what the app hears

    def _has_turn(self, carried: _Carried) -> None:
        if self._open.get(carried.number) is carried:
            self._turns[carried.number] = carried
            self.ready.set()

    @override
    def take(self) -> bytes | None:
        # The last response has been taken when this is called, by the app as far as we can see.
        for stream, size in self._written:
            self._streams.consumed(stream, size)
        self._written.clear()
        parts, self._ends = self._ends, []
        self._told.set()
        size = 0
        turns = self._turns
        while turns and size < _RESPONSE_BYTES:
            carried = turns.pop(next(iter(turns)))
            size += self._say(carried, parts)
        if turns:
            self.ready.set()
        if parts:
            return b"".join(parts)
        # What has arrived is delivered before an end, as far as the app takes it.
        return self.nothing(expected=self._finished and bool(self._open))

    @override
    def check(self) -> None:
        if self._end is not None and not any(c.stream is not None and c.stream.arrived for c in self._open.values()):
            super().check()

    @override
    def end(self, error: SidecarError) -> None:
        for carried in self._open.values():
            if carried.stream is not None:
                carried.stream.end(error)
        super().end(error)

    def _say(self, carried: _Carried, parts: list[bytes]) -> int:
        """Add the frame of a stream whose turn it is; the bytes of data in it."""
        stream = carried.stream
        if stream is None:
            return 0
        pieces: list[bytes] = []
        size = 0
        arrived = stream.arrived
        most = min(carried.window, _TURN_BYTES)
        while arrived and size < most:
            data = arrived.popleft()
            if size + len(data) > most:
                arrived.appendleft(data[most - size :])
                data = data[: most - size]
            pieces.append(data)
            size += len(data)
        if size:
            carried.window -= size
            self._written.append((stream, size))
            if arrived and carried.window:
                self._turns[carried.number] = carried  # behind all others
        granted = 0
        if stream.writable and carried.owed >= WINDOW // 2:
            granted, carried.owed = carried.owed, 0
            carried.room += granted
        behind = not arrived
        end = behind and stream.ended and not carried.end_told
        carried.end_told = carried.end_told or end
        over = behind and (stream.over or stream.error is not None)
        failed = stream.error if over else None
        head, carried.head = carried.head, b""
        if head or pieces or granted or end or over:
            status = b"" if failed is None else status_details(failed)
            parts.append(
                encode.stream_frame(
                    carried.number, head, pieces, size, end=end, window=granted, done=over and not status, status=status
                )
            )
        if over:
            self._forget(carried)
        return size


def _too_much(size: int, room: int) -> InvalidArgument:
    return InvalidArgument(f"{size} bytes for a stream that {room} more may be sent to")
