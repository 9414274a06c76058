"""Byte streams: any libp2p protocol, spoken by the app."""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self

from . import _checks, _fork, _raw, _rpc
from ._carrying import Carried, Carrying, Piece, attaching
from ._frames import CAUTIOUS
from ._link import Link
from ._stream import Stream
from ._waiting import DroppedError, Interruptible, Items, Pending
from .bulk import varint
from .codes import Code
from .errors import Closed, SidecarError
from .v1 import stream_pb2

_DATA = b"\x1a"  # tag of field 3, `data`, of OpenStreamRequest and AttachStreamRequest
_CLOSE_WRITE = b"\x20\x01"  # field 4
_LINGER = 5.0  # seconds

NewCall = Callable[[], Any]


class _OwnCall:
    """A stream with a call of its own, where there is none to share."""

    def __init__(self, link: Link, new_call: NewCall) -> None:
        self._link = link
        self._call = new_call()
        self._error: SidecarError | None = None

    async def begin(self, first: bytes) -> None:
        """Say the first thing of it."""
        await self._send(first, first=True)

    async def read(self) -> Piece | None:
        """The next piece; None when the call ended in order. Raises SidecarError."""
        try:
            response = await self._call.read()
        except _rpc.failures() as error:
            self._error = self._link.error(error)
            raise self._error from None
        if not response:
            return None
        opened = None
        if response.HasField("opened"):
            self._link.note(await self._call.initial_metadata())  # it has come before this
            opened = response.opened
        return opened, response.data, response.end

    async def write(self, data: memoryview, size: int) -> None:
        """Send bytes, at most so many in one piece. Raises SidecarError."""
        for start in range(0, len(data), size):
            piece = data[start : start + size]
            await self._send(b"".join((_DATA, varint(len(piece)), piece)))

    async def close_write(self) -> None:
        """End our direction. Raises SidecarError."""
        await self._send(_CLOSE_WRITE)  # the requests need no end beside that: one operation less

    async def settled(self) -> None:
        """Return when it is over, however it ended."""
        await self._call.code()

    def reset(self) -> None:
        """End it at once, unless it is over."""
        self._call.cancel()

    async def _send(self, request: bytes, *, first: bool = False) -> None:
        try:
            await _raw.write(self._call, request, first=first)
        except _raw.ended():
            raise await self._reason() from None
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if self._call.cancelled() and task is not None and not task.cancelling():
                raise Closed("the stream was given up here") from None
            raise

    async def _reason(self) -> SidecarError:
        """Why the call ended."""
        if self._error is not None:
            return self._error
        call = self._call
        if _rpc.number(await call.code()) is Code.OK:
            return Closed("the stream has ended")
        if call.cancelled():
            return Closed("the stream was given up here")
        return self._link.error(await _rpc.failure(call))


class ByteStream:
    """Bytes to and from an app at a peer, in order. Use it with `async with`.

    `async with` returns once the stream is open. Leaving the block in order ends our direction, if `close_write` has
    not, and gives the peer up to 5 s to end its own, so that nothing written is lost; leaving it by an exception resets
    the stream. One task may read and another write. Cancelling who reads, as a time-out does, loses nothing; a write
    that is cancelled resets the stream, since nobody could know how much of it has left.

    What a method raises: StreamReset when the peer reset the stream, Closed when the connection was lost or the stream
    was given up here, SidecarUnavailable when the sidecar is gone. What had arrived before can still be read.
    """

    def __init__(self, link: Link, carrying: Carrying, new_call: NewCall, first: bytes, shared: bytes) -> None:
        """`first`: what the first request of a call of its own says; `shared`: what does the same on a shared one."""
        self._link = link
        self._carrying = carrying
        self._new_call = new_call
        self._first = first
        self._shared = shared
        self._way: Carried | _OwnCall | None = None
        self._there = False  # it has been announced, and waits to be taken up
        self._chunks: deque[bytes] = deque()
        self._size = 0
        self._ended = False  # the peer said that nothing follows
        self._write_closed = False
        self._given_up = False
        self._error: SidecarError | None = None  # that of the call, once reading has come to it
        self._reading = asyncio.Lock()
        self._pending = Pending()
        self.peer_id = ""
        """The peer, as the connection proves it."""
        self.protocol = ""
        """The protocol that both sides speak."""

    # ------------------------------------------------------------ life

    async def __aenter__(self) -> Self:
        await self._open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None or self._error is not None or self._given_up:
            self.reset()
            return
        try:
            async with asyncio.timeout(_LINGER):
                await self.close_write()
                while await self._fill():
                    self._chunks.clear()
                    self._size = 0
                if self._way is not None:
                    await self._way.settled()  # once all has left
        except TimeoutError:
            pass
        finally:
            self.reset()

    def __del__(self) -> None:
        """Nobody holds it any more: gRPC would keep its call open."""
        with contextlib.suppress(RuntimeError):  # the loop has been closed already, and with it the call
            self.reset()

    async def _open(self) -> None:
        try:
            while not await self._try_open():
                pass
        except BaseException:
            self.reset()
            raise

    def take_up(self, carried: Carried, peer_id: str, protocol: str) -> None:
        """It is a stream that has been announced on the shared call, and is open."""
        self._way = carried
        self._there = True
        self.peer_id, self.protocol = peer_id, protocol

    async def _try_open(self) -> bool:
        """Open it; False where a shared call had ended, of which nobody knew: with it the stream is gone, if it was."""
        self._link.check_open()
        if self._there and isinstance(self._way, Carried):
            self._there = False
            self._way.begin(b"")
            return True
        self._given_up = False
        carried = await self._carrying.stream()
        if carried is None:
            own = self._way = _OwnCall(self._link, self._new_call)
            await own.begin(self._first)
        else:
            self._way = carried
            carried.begin(self._shared)
        if self.protocol:
            return True
        try:
            await self._read()
        except SidecarError as error:
            if carried is None or not carried.lost or not carried.old or not self._link.lost(error):
                raise
            self._error = None
            return False
        return True

    async def aclose(self) -> None:
        """End it in order, as leaving its block does."""
        await self.__aexit__(None, None, None)

    def reset(self) -> None:
        """End the stream at once, in both directions, unless it is over. What is on its way may be lost."""
        self._given_up = True
        if _fork.parent:
            _fork.keep(self._way, self._pending)
            return
        self._pending.drop()
        if self._way is not None:
            self._way.reset()

    # ------------------------------------------------------------ reading

    @property
    def at_end(self) -> bool:
        """Whether the peer has ended its direction and everything has been read."""
        return self._ended and not self._chunks

    async def read(self, size: int = -1) -> bytes:
        """At most `size` bytes, as soon as there are some; below 0: all until the peer's end. Empty at the end."""
        if size < 0:
            while await self._fill(self._size + 1):
                pass
            return self._take(self._size)
        return self._take(size) if size and await self._fill() else b""

    async def readexactly(self, size: int) -> bytes:
        """`size` bytes. Raises asyncio.IncompleteReadError when the peer ends before, with what there was."""
        while self._size < size:
            if not await self._fill(self._size + 1):
                raise asyncio.IncompleteReadError(self._take(self._size), size)
        return self._take(size)

    def __aiter__(self) -> Items[bytes]:
        """Pieces as they come, up to the peer's end. They are read as `read` does: both may be mixed."""
        return Items(self._piece)

    async def _piece(self) -> bytes:
        if not await self._fill():
            raise StopAsyncIteration
        return self._take(self._size)

    async def _fill(self, size: int = 1) -> bool:
        """Have so many bytes at hand; False when the peer ends before."""
        async with self._reading:
            while self._size < size and not self._ended:
                await self._read()
        return self._size >= size

    def _take(self, size: int) -> bytes:
        parts = []
        while size > 0 and self._chunks:
            chunk = self._chunks.popleft()
            if len(chunk) > size:
                self._chunks.appendleft(chunk[size:])
                chunk = chunk[:size]
            parts.append(chunk)
            size -= len(chunk)
            self._size -= len(chunk)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def _read(self) -> None:
        """The next response. Raises SidecarError."""
        if self._error is not None:
            raise self._error
        way = self._opened()
        try:
            piece = await (way.read() if isinstance(way, Carried) else self._pending.result(way.read))
        except SidecarError as error:
            raise self._failed(error) from None
        except DroppedError:
            raise self._failed(Closed("the stream was given up here")) from None
        if piece is None:
            raise self._failed(Closed("the sidecar ended the stream"))
        opened, data, self._ended = piece
        if opened is not None:
            self.peer_id, self.protocol = opened.peer_id, opened.protocol
        if data:
            self._chunks.append(data)
            self._size += len(data)

    def _opened(self) -> Carried | _OwnCall:
        """The way of its bytes. Raises Closed, and FailedPrecondition in a process that was forked."""
        if self._way is None:
            raise Closed("the stream has not been opened: use it with `async with`")
        if _fork.parent:
            _fork.check()
        return self._way

    def _failed(self, error: SidecarError) -> SidecarError:
        self._error = error
        return error

    # ------------------------------------------------------------ writing

    async def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send bytes; returns when there is room for more. Raises SidecarError once the stream is over."""
        if self._write_closed:
            raise ValueError("this direction of the stream is closed")
        view = memoryview(data)
        view = view.cast("B") if view.c_contiguous else memoryview(bytes(view))  # of items of any size
        way = self._opened()
        if view:
            try:
                await way.write(view, (self._link.frames or CAUTIOUS).size)
            except SidecarError as error:
                raise self._failed(error) from None

    async def close_write(self) -> None:
        """End our direction: the peer reads what was written, then the end. Reading goes on. Twice does nothing."""
        if not self._write_closed:
            self._write_closed = True
            way = self._opened()
            try:
                await way.close_write()
            except SidecarError as error:
                raise self._failed(error) from None


class StreamAcceptor(Stream[stream_pb2.AcceptStreamsResponse]):
    """Streams that peers open: iterate over it inside `async with`, and use each stream with `async with`.

    Those of one peer come in the order in which they were opened. It outlives the sidecar's restarts, as subscriptions
    do. Iterating may be broken off and taken up again.
    """

    def __init__(
        self,
        link: Link,
        protocols: Sequence[str],
        accept: Callable[[Any], Any],
        attach: NewCall,
        carrying: Carrying,
    ) -> None:
        super().__init__(link, f"accepting {', '.join(protocols)}")
        self._carrying = carrying  # before what may raise: closing needs it
        self._waiting: deque[stream_pb2.IncomingStream] = deque()  # told, and not handed out
        self._announced: deque[tuple[Carried, str, str]] = deque()  # on the shared call; with peer and protocol
        self._number = 0  # of this acceptor there
        self._reading: Interruptible = Interruptible()
        self._request = _checks.request(stream_pb2.AcceptStreamsRequest, protocols=protocols)
        self._accept = accept
        self._attach = attach

    async def _prepare(self) -> None:
        self._request.carrier, self._number = await self._carrying.accept(self)
        self._request.acceptor = self._number

    def _open(self) -> Any:
        return self._accept(self._request)

    def announce(self, carried: Carried, peer_id: str, protocol: str) -> None:
        """A peer has opened a stream, which is announced on the shared call."""
        self._announced.append((carried, peer_id, protocol))
        self._reading.interrupt()

    def __aiter__(self) -> Items[ByteStream]:
        return Items(self._stream)

    async def _stream(self) -> ByteStream:
        while not self._waiting:
            while self._announced:
                carried, peer_id, protocol = self._announced.popleft()
                if not carried.lost:  # with the sidecar; accepting goes on
                    stream = ByteStream(self._link, self._carrying, self._attach, b"", b"")
                    stream.take_up(carried, peer_id, protocol)
                    return stream
            with contextlib.suppress(InterruptedError):
                self._waiting.extend((await self._next()).streams)
        incoming = self._waiting.popleft()
        first = stream_pb2.AttachStreamRequest(token=incoming.token).SerializeToString()
        stream = ByteStream(self._link, self._carrying, self._attach, first, attaching(incoming.token))
        stream.peer_id, stream.protocol = incoming.peer_id, incoming.protocol
        return stream

    def close(self) -> None:
        """End the stream; those that nobody has taken up are reset by the sidecar."""
        super().close()
        self._waiting.clear()
        if not _fork.parent:
            self._announced.clear()
            self._carrying.accept_no_more(self._number)
