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

WINDOW = 262_144  # bytes of one direction of a stream that may be under way at first; the schema says so
WIDE = 1 << 20  # the same of a stream by which much comes: its app waits less, and is told less often
MAX_OFFERED = 16  # protocols; half of what one negotiation takes
_EARLY = 65_536  # bytes of a stream of a peer that are sent before the app takes it up
_FIRST_ANNOUNCED = 1 << 32  # the number of the first stream that is announced
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
        "span",
        "stream",
        "token",
        "turns",
        "window",
    )

    def __init__(self, number: int, turns: Callable[["_Carried"], None]) -> None:
        self.number = number
        self.turns = turns
        self.stream: ByteStream | None = None  # once it is open
        self.op = 0  # while it is being opened
        self.token = ""  # while it waits to be taken up, and has no place
        self.head = b""  # what is to be said before anything else: that it is open
        self.held: list[bytes] = []  # what the app has sent for a stream that is being opened
        self.closed = False  # the app has ended its direction
        self.span = WINDOW  # bytes of the app that may be under way
        self.room = WINDOW  # bytes that the app may send, of these
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
        self._placed = 0  # streams that have a place
        self._begun = False  # whether there has ever been one
        self._next = _FIRST_ANNOUNCED

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
            if carried is not None and carried.token and not frame.reset:
                self._take_up(carried)
            if carried is not None and self._open.get(number) is carried:
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

    def announce(self, token: str, stream: ByteStream, acceptor: int) -> None:
        """A peer has opened a stream that waits to be taken up."""
        while self._next in self._open:
            self._next += 1
        carried = _Carried(self._next, self._has_turn)
        self._next += 1
        carried.token = token
        carried.window = _EARLY
        self._open[carried.number] = carried
        self._made(carried, stream, acceptor)

    def _take_up(self, carried: _Carried) -> None:
        """The app takes up a stream that was announced, unless that fails; then so does the stream."""
        try:
            self._context.lifetime.check_accepting()
            protocol = self._streams.protocol(carried.token)
            if protocol is not None:
                caller.require(f"stream:{protocol}")
            self._hold()
        except SidecarError as error:
            self._fail(carried, error)
            return
        token, carried.token = carried.token, ""
        self._streams.dismiss(token)
        carried.window += WINDOW - _EARLY
        carried.set()

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

    def _made(self, carried: _Carried, stream: ByteStream, acceptor: int = 0) -> None:
        carried.stream = stream
        carried.head = convert.opened_frame(stream.peer, stream.protocol, acceptor)
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
                    if carried.owed >= carried.span // 2:
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
        if carried.span == WIDE:
            self._streams.narrow()
        if carried.stream is not None:
            self._streams.abandon(carried.stream)
        elif carried.op:
            self._streams.cancel(carried.op)
        if carried.token:
            self._streams.dismiss(carried.token)
        else:
            self._placed -= 1
            self._streams.leave()
            if self._holds:
                self._holds.pop().__exit__(None, None, None)
        self.ready.set()  # it may have been what the end waited for

    def _hold(self) -> None:
        """A place for another stream, in the bound and in quotas. Raises ResourceExhausted, QuotaExceeded."""
        if self._begun:
            self._caller.count_call()
        if self._placed:
            hold = self._caller.holding_stream()
            hold.__enter__()
            self._holds.append(hold)
        try:
            self._streams.enter()
        except SidecarError:
            if self._placed:
                self._holds.pop().__exit__(None, None, None)
            raise
        self._placed += 1
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
            size += self._say(carried, parts, _TURN_BYTES if turns else _RESPONSE_BYTES - size)
        if turns:
            self.ready.set()
        if parts:
            return b"".join(parts)
        # What has arrived is delivered before an end, as far as the app takes it.
        return self.nothing(expected=self._finished and self._placed > 0)

    @override
    def check(self) -> None:
        if self._end is None:
            return
        held = (carried.stream for carried in self._open.values() if not carried.token)
        if not any(stream is not None and stream.arrived for stream in held):
            super().check()

    @override
    def end(self, error: SidecarError) -> None:
        for carried in self._open.values():
            if carried.stream is not None:
                carried.stream.end(error)
        super().end(error)

    def _say(self, carried: _Carried, parts: list[bytes], most: int) -> int:
        """Add the frame of a stream whose turn it is, with at most so many bytes of data; how many there are."""
        stream = carried.stream
        if stream is None:
            return 0
        pieces: list[bytes] = []
        size = 0
        arrived = stream.arrived
        most = min(carried.window, most)
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
        if stream.writable and carried.owed >= carried.span // 2:
            granted, carried.owed = carried.owed, 0
            if carried.span < WIDE and self._streams.widen():
                carried.span = WIDE
                granted += WIDE - WINDOW
            carried.room += granted
        behind = not arrived
        end = behind and stream.ended and not carried.end_told
        carried.end_told = carried.end_told or end
        over = behind and (stream.over or stream.error is not None)
        failed = stream.error if over else None
        head, carried.head = carried.head, b""
        if head or pieces or granted or end or over:
            status = b"" if failed is None else status_details(failed)
            parts += encode.stream_frame(
                carried.number, head, pieces, size, end=end, window=granted, done=over and not status, status=status
            )
        if over:
            self._forget(carried)
        return size


def _too_much(size: int, room: int) -> InvalidArgument:
    return InvalidArgument(f"{size} bytes for a stream that {room} more may be sent to")
