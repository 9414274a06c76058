"""`sidecar.v1.StreamService`."""

from collections.abc import AsyncIterator, Callable
from typing import Any

from ...core.errors import SidecarError
from ..backend import Backend
from ..common import encode, values
from ..common.calls import vacated
from ..common.converse import converse
from ..common.status import OPEN, Context, status_details
from ..guard import caller
from ..peers.service import other_peer
from . import convert as convert
from .byte_streams import Acceptor, ByteStream

_MAX_OFFERED = 16  # protocols; half of what one negotiation takes
_MAX_ACCEPTED = 64
_RESPONSE_BYTES = 256 * 1024  # of data in one response, about


class StreamService:
    """Byte streams; every method as its schema says."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def open_stream(self, requests: AsyncIterator[convert.OpenStreamRequest], context: Context) -> None:
        first = await anext(requests, None)
        peer = other_peer(self._backend, first.peer_id if first is not None else "")
        offered = first.protocols if first is not None else ()
        protocols = values.names(offered, _MAX_OFFERED, values.MAX_PROTOCOL, "protocols")

        def check(request: convert.OpenStreamRequest) -> None:
            if request.peer_id or request.protocols:
                raise values.invalid("peer_id", "only the first request names peer and protocols")

        async with self._backend.streams.opening(peer, protocols) as stream:
            await self._carry(stream, first, requests, check, context)

    async def attach_stream(self, requests: AsyncIterator[convert.AttachStreamRequest], context: Context) -> None:
        first = await anext(requests, None)

        def check(request: convert.AttachStreamRequest) -> None:
            if request.token:
                raise values.invalid("token", "only the first request has it")

        token = first.token if first is not None else ""
        protocol = self._backend.streams.protocol(token)
        if protocol is not None:
            caller.require(f"stream:{protocol}")
        with self._backend.streams.attaching(token) as stream:
            await self._carry(stream, first, requests, check, context)

    async def accept_streams(self, request: convert.AcceptStreamsRequest, context: Context) -> None:
        acceptor = Acceptor(values.names(request.protocols, _MAX_ACCEPTED, values.MAX_PROTOCOL, "protocols"))
        await vacated(acceptor.protocols, self._backend.streams.protocols)
        with self._backend.accepting(acceptor):
            await context.send_initial_metadata(OPEN)
            while True:
                fresh = acceptor.take()
                if fresh:
                    await context.write(convert.incoming(fresh))
                else:
                    await acceptor.ready.wait()

    async def _carry(
        self,
        stream: ByteStream,
        first: Any,
        requests: AsyncIterator[Any],
        check: Callable[[Any], None],
        context: Context,
    ) -> None:
        """Move bytes both ways until the stream is over."""
        outlet = _Outlet(self._backend, stream, status_in_response=first.status_in_response)

        async def consume(request: Any) -> None:
            check(request)
            await outlet.send(request)

        with self._backend.stream(outlet):
            if first.data or first.close_write or first.reset:
                await outlet.send(first)
            await converse(requests, outlet, consume, context)


class _Outlet:
    """What one call writes: what came for its app, as much at once as has come while the last response was written."""

    def __init__(self, backend: Backend, stream: ByteStream, *, status_in_response: bool) -> None:
        self._streams = backend.streams
        self._stream = stream
        self._status_in_response = status_in_response
        self._status_told = False
        self._finished = False  # the app says no more, or must not
        self._head = convert.opened(stream.peer, stream.protocol)
        self._written = 0  # bytes of the last response
        self._end_told = False
        self.ready = stream.ready

    async def send(self, request: Any) -> None:
        """Carry out a request; returns when the next one may be read."""
        if request.reset:
            self._streams.reset(self._stream)
            return
        self._streams.write(self._stream, request.data, end=request.close_write)
        await self._stream.room()

    def take(self) -> bytes | None:
        """The next response. gRPC has taken the last one when this is called, and so, as far as we can see, the app."""
        stream = self._stream
        if self._written:
            self._streams.consumed(stream, self._written)
            self._written = 0
        arrived = stream.arrived
        if not arrived and not self._head and not (stream.ended and not self._end_told):
            if stream.error is not None:
                return self._failed(stream.error)
            return None if stream.over else b""
        pieces: list[bytes] = []
        size = 0
        while arrived and size < _RESPONSE_BYTES:
            data = arrived.popleft()
            pieces.append(data)
            size += len(data)
        head, self._head = self._head, b""
        self._written = size
        self._end_told = end = stream.ended and not arrived
        return encode.stream_bytes(head, pieces, size, end)

    def _failed(self, error: SidecarError) -> bytes | None:
        """How to go on with a stream that has ended with an error, behind all that had arrived."""
        if not self._status_in_response:
            raise error
        if self._status_told:
            # Not before the requests end: a request that meets an ended call would cost the app what it has not read.
            return None if self._finished else b""
        self._status_told = True
        return encode.field(4, status_details(error))

    def finish(self) -> None:
        """The app says no more. That is no end of its direction unless it said so: it may be gone."""
        self._finished = True
        self.ready.set()

    def end(self, error: SidecarError) -> None:
        self._finished = True
        self._stream.end(error)
