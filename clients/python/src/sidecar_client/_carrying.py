"""Byte streams that share a call: it stays open, and each stream has a number and windows of its own on it.

The first stream opens the call, where the sidecar has it and calls are kept. What streams write while a request is
being written goes in the next one. The task that reads always reads on: how much may wait here is the streams' windows.
"""

import asyncio
from collections import deque
from typing import Any, Protocol
from weakref import WeakValueDictionary

from . import _raw, _rpc
from ._frames import CAUTIOUS
from ._link import Link
from .bulk import varint
from .errors import Closed, NotSupported, SidecarError, from_status

_CARRY = "CarryStreams"
_WINDOW = 262_144  # bytes of a direction of a stream that may be under way at first, as the schema says
_WIDE = 1 << 20  # the same of a stream by which much comes: the sidecar waits less, and is told less often
_MAX_WIDE = 64  # streams at once that may have so much waiting here
_PIECE = 65_536  # bytes of one stream before others have their turn
_FRAMES = b"\x0a"  # tag of CarryStreamsRequest.frames
# Tags of OutgoingFrame: stream, open, token, data; whole fields: close_write, reset.
_STREAM, _OPEN, _TOKEN, _DATA, _CLOSE_WRITE, _WINDOW_TAG, _RESET = (
    b"\x08",
    b"\x12",
    b"\x1a",
    b"\x22",
    b"\x28\x01",
    b"\x30",
    b"\x38\x01",
)

Piece = tuple[Any, bytes, bool]  # an OpenedStream or None, data, whether nothing follows


def opening(request: bytes) -> bytes:
    """What opens a stream, of the encoded fields of an OpenStreamRequest."""
    return _OPEN + varint(len(request)) + request  # peer_id and protocols have the same numbers in StreamOpening


def attaching(token: str) -> bytes:
    """What takes up a stream."""
    encoded = token.encode()
    return _TOKEN + varint(len(encoded)) + encoded


class Carried:
    """One stream of the call."""

    def __init__(self, carrying: "Carrying", number: int) -> None:
        self._carrying = carrying
        self._number = number
        self._head = _STREAM + varint(number)
        self._arrived: deque[Piece] = deque()
        self._window = _WINDOW  # bytes that the sidecar may have on the way to here
        self._taken = 0  # bytes that were read, and the sidecar was not told so
        self._room = _WINDOW  # bytes that may be written
        self._over = False  # nothing follows what has arrived
        self.old = False
        """Whether the call was there before it."""
        self.lost = False
        """Whether the call has ended before it."""
        self._error: SidecarError | None = None
        self._reader: asyncio.Future[None] | None = None
        self._writers: list[asyncio.Future[None]] = []
        self._ends: list[asyncio.Future[None]] = []

    def begin(self, first: bytes) -> None:
        """Say the first thing of it; empty where that only takes up a stream that was announced."""
        self._carrying.put(self._head + first)

    async def read(self) -> Piece | None:
        """The next piece; None when it ended in order. Raises SidecarError."""
        while not self._arrived:
            if self._error is not None:
                raise self._error.again()
            if self._over:
                return None
            self._reader = asyncio.get_running_loop().create_future()
            try:
                await self._reader
            finally:
                self._reader = None
        piece = self._arrived.popleft()
        self._taken += len(piece[1])
        if self._taken >= self._window // 2 and not self._over and not piece[2]:
            more, self._taken = self._taken, 0
            if self._window < _WIDE and self._carrying.widen(self._number):
                more += _WIDE - self._window
                self._window = _WIDE
            self._carrying.put(self._head + _WINDOW_TAG + varint(more))
        return piece

    async def write(self, data: memoryview, size: int) -> None:
        """Send bytes, at most so many in one piece. Raises SidecarError."""
        most = min(size, _PIECE)
        try:
            while data:
                self.check()
                piece = data[: min(most, self._room)]
                if piece:
                    self._room -= len(piece)
                    self._carrying.put(b"".join((self._head, _DATA, varint(len(piece)), piece)))
                    data = data[len(piece) :]
                else:
                    waiting = asyncio.get_running_loop().create_future()
                    self._writers.append(waiting)
                    await waiting
        except asyncio.CancelledError:
            self.reset()  # nobody could know how much of it has left
            raise

    async def close_write(self) -> None:
        """End our direction. Raises SidecarError."""
        self.check()
        self._carrying.put(self._head + _CLOSE_WRITE)

    def check(self) -> None:
        """Raises what it has ended with."""
        if self._error is not None:
            raise self._error.again()
        if self._over:
            raise Closed("the stream has ended")

    async def settled(self) -> None:
        """Return when it is over, however it ended."""
        if not self._over:
            ended = asyncio.get_running_loop().create_future()
            self._ends.append(ended)
            await ended

    def reset(self) -> None:
        """End it at once, unless it is over."""
        if not self._over:
            self._arrived.clear()
            self._carrying.forget(self._number)
            self._carrying.put(self._head + _RESET)
            self.end(Closed("the stream was given up here"))

    # ------------------------------------------------------------ for the call

    def came(self, frame: Any) -> bool:
        """What the sidecar says of it; whether it is over."""
        data = frame.data
        opened = frame.opened if frame.HasField("opened") else None
        if data or frame.end or opened is not None:
            self._arrived.append((opened, data, frame.end))
            self._wake()
        if frame.window:
            self._room += frame.window
            self._let_write()
        if frame.status:
            self.end(from_status(frame.status))
        elif frame.done:
            self.end(None)
        return self._over

    def end(self, error: SidecarError | None) -> None:
        """It is over, in order where there is no error."""
        self._over, self._error = True, error
        self._wake()
        self._let_write()
        ends, self._ends = self._ends, []
        for ended in ends:
            if not ended.done():
                ended.set_result(None)

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    def _let_write(self) -> None:
        writers, self._writers = self._writers, []
        for waiting in writers:
            if not waiting.done():
                waiting.set_result(None)


class Announced(Protocol):
    """What is told of streams that peers open."""

    def announce(self, carried: Carried, peer_id: str, protocol: str) -> None:
        """There is another. Its first frame takes it up."""


class Carrying:
    """The shared call of a client: there is one while a stream was opened since the last one ended."""

    def __init__(self, link: Link, carry: Any) -> None:
        self._link = link
        self._carry = carry
        self._next = 1  # the number of the next stream
        self._open: dict[int, Carried] = {}
        self._wide: set[int] = set()  # the numbers of those with a wide window
        self._queue: deque[bytes] = deque()  # frames that are not written; bounded by the streams' windows
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._call: Any = None
        self._ready: asyncio.Future[SidecarError | None] | None = None  # whether the call is in force, or why not
        self._key = ""  # what AcceptStreams names the call by; empty where the sidecar announces nothing on it
        self._acceptors: WeakValueDictionary[int, Announced] = WeakValueDictionary()
        self._last = 0  # the number of the last of those
        self._leaving = False  # the client is not used any more

    async def stream(self) -> Carried | None:
        """Another stream of the call; None where there is none to share. Raises SidecarError."""
        found, old = await self._find()
        if not found:
            return None
        carried = self._add(self._next)
        carried.old = old
        self._next += 1
        return carried

    async def accept(self, announced: "Announced") -> tuple[str, int]:
        """Tell of streams that peers open: how AcceptStreams names this call, and the acceptor's number.

        Empty and 0 where the sidecar does not announce them here.
        """
        try:
            await self._find()
        except SidecarError:
            return "", 0  # the other call is told the same
        if not self._key:
            return "", 0
        self._last += 1
        self._acceptors[self._last] = announced
        return self._key, self._last

    def accept_no_more(self, number: int) -> None:
        """The acceptor with that number has ended; the sidecar resets what has not been taken up."""
        self._acceptors.pop(number, None)
        self._changed.set()

    async def _find(self) -> tuple[bool, bool]:
        """Whether there is a call to share, and whether it was there before. Raises SidecarError."""
        link = self._link
        if not link.keeps or link.lacks(_CARRY):
            return False, False
        if self._task is None or self._ready is None:
            self._ready = asyncio.get_running_loop().create_future()
            self._task = asyncio.create_task(self._run(self._ready), name="sidecar byte streams")
        old = self._ready.done()
        if not old:
            await asyncio.wait((self._ready,))
        failure = self._ready.result()
        if isinstance(failure, NotSupported):
            return False, False
        if failure is not None:
            raise failure.again()
        return True, old

    def _add(self, number: int) -> Carried:
        carried = self._open[number] = Carried(self, number)
        return carried

    def put(self, frame: bytes) -> None:
        """Write a frame, after those before it."""
        self._queue.append(b"".join((_FRAMES, varint(len(frame)), frame)))
        self._changed.set()

    def widen(self, number: int) -> bool:
        """Whether one more stream may have a wide window, until it is forgotten."""
        wide = self._wide
        if len(wide) >= _MAX_WIDE or number not in self._open:
            return False
        wide.add(number)
        return True

    def forget(self, number: int) -> None:
        """Nobody wants to hear of a stream any more."""
        self._open.pop(number, None)
        self._wide.discard(number)
        self._changed.set()

    async def close(self) -> None:
        """End the call, and with it all streams."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))

    def let_go(self) -> None:
        """The client is not used any more, and nobody has closed it: end the call once no stream uses it."""
        self._leaving = True
        if self._task is not None:
            self._task.get_loop().call_soon_threadsafe(self._changed.set)

    # ------------------------------------------------------------ the call

    async def _run(self, ready: "asyncio.Future[SidecarError | None]") -> None:
        """One call, to its end."""
        self._queue.clear()
        call = self._call = self._carry()
        reader = asyncio.create_task(self._read(call), name="sidecar bytes")
        failure: SidecarError = Closed("this client has been closed")
        try:
            try:
                await self._begin(call, ready)
                await self._write(call, reader)
            except _raw.ended():
                pass  # the reader learns why
            if not self._leaving:
                await asyncio.wait((reader,))
            if reader.done():
                failure = reader.result()
        finally:
            self._key = ""
            self._task = self._call = None  # gRPC keeps the connection of a call that somebody holds
            call.cancel()
            reader.cancel()
            if isinstance(failure, NotSupported):
                self._link.lacking(_CARRY)
            if not ready.done():
                ready.set_result(failure)
            left, self._open = self._open, {}
            self._wide.clear()
            for carried in left.values():
                carried.lost = True
                carried.end(failure)

    async def _begin(self, call: Any, ready: "asyncio.Future[SidecarError | None]") -> None:
        """Wait until the call is in force, or has ended."""
        metadata = await call.initial_metadata()
        self._link.note(metadata)
        if metadata is not None and metadata.get("sidecar-stream") is not None and not ready.done():
            self._key = str(metadata.get("sidecar-carrier") or "")
            ready.set_result(None)

    async def _write(self, call: Any, reader: "asyncio.Task[SidecarError]") -> None:
        reader.add_done_callback(lambda _: self._changed.set())
        queue = self._queue
        first = True
        while not reader.done() and (not self._leaving or self._open or self._acceptors or queue):
            if not queue:
                self._changed.clear()
                await self._changed.wait()
                continue
            most = (self._link.frames or CAUTIOUS).size
            parts = [queue.popleft()]
            size = len(parts[0])
            while queue and size + len(queue[0]) <= most:
                parts.append(queue.popleft())
                size += len(parts[-1])
            await _raw.write(call, parts[0] if len(parts) == 1 else b"".join(parts), first=first)
            first = False

    def _came(self, frame: Any) -> None:
        carried = self._open.get(frame.stream)
        acceptor = self._acceptors.get(frame.acceptor) if frame.acceptor and carried is None else None
        if acceptor is not None:
            carried = self._add(frame.stream)
        if carried is not None and carried.came(frame):
            self.forget(frame.stream)
        if acceptor is not None and carried is not None:
            acceptor.announce(carried, frame.opened.peer_id, frame.opened.protocol)

    async def _read(self, call: Any) -> SidecarError:
        """Hand out what comes until the call ends; why it did."""
        try:
            while response := await call.read():
                for frame in response.frames:
                    self._came(frame)
        except _rpc.failures() as error:
            return self._link.error(error)
        except asyncio.CancelledError:
            self._link.check_ours()
            raise
        return Closed("the sidecar ended the call of the byte streams")
