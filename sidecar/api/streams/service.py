"""`sidecar.v1.StreamService`."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ...core.errors import SidecarError
from ...core.override import override
from ..common import values
from ..common.bounds import check_room
from ..common.call import Call, carrying, opening
from ..common.outlet import Outlet, converse, pour
from ..common.status import status_details
from ..common.vacated import vacated
from ..guard import caller
from ..service import ApiService, Handlers, ServiceContext
from ..statistics import ByteStreamsStatistics
from . import convert, encode
from .byte_streams import Acceptor, ByteStream, ByteStreams
from .carrying import MAX_OFFERED, StreamCarrier

_MAX_ACCEPTED = 64
_RESPONSE_BYTES = 256 * 1024  # of data in one response, about


class StreamService(ApiService):
    """Byte streams; every method as its schema says."""

    def __init__(self, context: ServiceContext) -> None:
        """Streams are told of by the node and begun through its operations."""
        self._context = context
        self._streams = ByteStreams(context.feed, context.operations, context.config)

    @override
    def effects(self) -> Handlers:
        return self._streams.effects()

    def statistics(self) -> ByteStreamsStatistics:
        """Sizes as they are, and what was refused since the start."""
        return self._streams.statistics()

    async def open_stream(self, requests: AsyncIterator[convert.OpenStreamRequest], call: Call) -> None:
        """Open a stream to a peer; its bytes both ways."""
        first = await anext(requests, None)
        peer = self._context.other_peer(first.peer_id if first is not None else "")
        offered = first.protocols if first is not None else ()
        protocols = values.names(offered, MAX_OFFERED, values.MAX_PROTOCOL, "protocols")

        def check(request: convert.OpenStreamRequest) -> None:
            if request.peer_id or request.protocols:
                raise values.invalid("peer_id", "only the first request names peer and protocols")

        async with self._streams.opening(peer, protocols) as stream:
            await self._carry(stream, first, requests, check, call)

    async def attach_stream(self, requests: AsyncIterator[convert.AttachStreamRequest], call: Call) -> None:
        """Take up a stream that a peer has opened; its bytes both ways."""
        first = await anext(requests, None)

        def check(request: convert.AttachStreamRequest) -> None:
            if request.token:
                raise values.invalid("token", "only the first request has it")

        token = first.token if first is not None else ""
        protocol = self._streams.protocol(token)
        if protocol is not None:
            caller.require(f"stream:{protocol}")
        with self._streams.attaching(token) as stream:
            await self._carry(stream, first, requests, check, call)

    async def carry_streams(self, requests: AsyncIterator[convert.CarryStreamsRequest], call: Call) -> None:
        """Many streams of one app, opened or taken up; the bytes of each both ways."""
        carrier = StreamCarrier(self._context, self._streams)
        with self._context.lifetime.stream(carrier), self._streams.announcing(carrier) as key:
            await call.begin(carrying(self._context.config.max_request_bytes, key))
            try:
                await converse(requests, carrier, carrier.consume, call.write)
            finally:
                carrier.close()

    async def accept_streams(self, request: convert.AcceptStreamsRequest, call: Call) -> None:
        """The streams that peers open by some protocols."""
        protocols = values.names(request.protocols, _MAX_ACCEPTED, values.MAX_PROTOCOL, "protocols")
        acceptor = Acceptor(protocols, request.carrier, request.acceptor)
        await vacated(acceptor.protocols, self._streams.protocols)
        with self.accepting(acceptor):
            await call.begin(opening(self._context.config.max_request_bytes))
            await pour(acceptor, lambda fresh: call.write(convert.incoming(fresh)))

    @contextmanager
    def accepting(self, acceptor: Acceptor) -> Iterator[None]:
        """While an app accepts byte streams. Raises AlreadyExists, ResourceExhausted, InvalidArgument."""
        limit = self._context.config.max_receivers
        check_room(len(self._streams.acceptors()), limit, "calls that accept streams")
        with self._context.lifetime.stream(acceptor), self._streams.accepting(acceptor):
            yield

    async def _carry(
        self,
        stream: ByteStream,
        first: Any,
        requests: AsyncIterator[Any],
        check: Callable[[Any], None],
        call: Call,
    ) -> None:
        """Move bytes both ways until the stream is over."""
        outlet = _StreamOutlet(self._streams, stream, status_in_response=first.status_in_response)

        async def consume(request: Any) -> None:
            check(request)
            await outlet.send(request)

        with self._context.lifetime.stream(outlet):
            await call.begin(opening(self._context.config.max_request_bytes))
            if first.data or first.close_write or first.reset:
                await outlet.send(first)
            await converse(requests, outlet, consume, call.write)


class _StreamOutlet(Outlet):
    """What one call writes: what came for its app, as much at once as has come while the last response was written."""

    def __init__(self, streams: ByteStreams, stream: ByteStream, *, status_in_response: bool) -> None:
        super().__init__()
        self._streams = streams
        self._stream = stream
        self._status_in_response = status_in_response
        self._status_told = False
        self._head = convert.opened(stream.peer, stream.protocol)
        self._written = 0  # bytes of the last response
        self._end_told = False
        stream.ready = self.ready  # what comes wakes it

    async def send(self, request: Any) -> None:
        """Carry out a request; returns when the next one may be read."""
        if request.reset:
            self._streams.reset(self._stream)
            return
        self._streams.write(self._stream, request.data, end=request.close_write)
        await self._stream.room()

    @override
    def take(self) -> bytes | None:
        # The last response has been taken when this is called, by the app as far as we can see.
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
        return encode.ended_with(status_details(error))

    @override
    def end(self, error: SidecarError) -> None:
        self._finished = True
        self._stream.end(error)
