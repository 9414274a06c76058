"""`sidecar.v1.DirectService`."""

import asyncio
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence

from ...core.direct import RequestCancelled, RequestCompleted, RequestMade, SendCompleted, SendOutcome, SendRequested
from ...core.errors import SidecarError, TooLarge
from ...core.traceparent import wellformed
from ...core.types import PeerId
from ..backend import Backend
from ..common import values
from ..common.bounds import Bounds
from ..common.calls import vacated
from ..common.converse import MAX_BATCH, converse
from ..common.receipts import Range, Receipts
from ..common.status import OPEN, Context, opening
from ..common.window import Window
from ..guard import caller
from ..peers.service import other_peer
from . import convert as convert
from .asking import WITHDRAWN, Asker
from .inbox import Receiver
from .serving import Server

_MAX_PROTOCOLS = 64
_SERVE_BYTES = 1 << 20
_OVERHEAD = 64  # bytes that a message counts beside its own, as in the direct router

Sent = tuple[SendOutcome, str]  # with words where there is more to say
Send = Callable[[PeerId, str, Sequence[bytes], Sequence[str]], Awaitable[list[Sent]]]
_ARRIVED = (SendOutcome.DELIVERED, SendOutcome.TIMED_OUT, SendOutcome.UNKNOWN)  # or may have


class DirectService:
    """Direct messages and requests; every method as its schema says."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._ids: Window[Sent] = Window(backend.config.request_ids, lambda sent: sent[0] in _ARRIVED, withdraws=False)

    # ------------------------------------------------------------ sending

    async def send(self, request: convert.SendRequest, context: Context) -> object:
        peer = other_peer(self._backend, request.peer_id)
        protocol = values.name(request.protocol, values.MAX_PROTOCOL, "protocol")
        ids = [values.request_id(request.request_id)]
        outcome, detail = (await self._send(peer, protocol, [request.data], ids))[0]
        if outcome is SendOutcome.TOO_LARGE:
            raise TooLarge(f"message of {len(request.data)} bytes: {detail}")
        return convert.sent(outcome, detail)

    async def _send(self, peer: PeerId, protocol: str, messages: Sequence[bytes], ids: Sequence[str]) -> list[Sent]:
        """Send messages of which some have ids; every message's outcome."""

        async def send(indexes: list[int]) -> list[Sent]:
            chosen = [messages[index] for index in indexes]
            completed: SendCompleted = await self._backend.operation(
                lambda op: SendRequested(op, peer, protocol, chosen), cancel=None
            )
            return [sent for _, count, sent in _ranges(completed) for _ in range(count)]

        who = caller.who()
        return await self._ids.once([(who, peer, protocol, name) if name else None for name in ids], send)

    async def send_many(self, requests: AsyncIterator[convert.SendManyRequest], context: Context) -> None:
        await context.send_initial_metadata(opening(self._backend.config.max_request_bytes))
        sender = _Sender(self._backend, self._send)
        with self._backend.stream(sender.receipts):
            try:
                await converse(requests, sender.receipts, sender.consume, context, self._backend.refusing)
            finally:
                sender.close()

    # ------------------------------------------------------------ receiving

    async def receive(self, request: convert.ReceiveRequest, context: Context) -> None:
        backend, config = self._backend, self._backend.config
        protocols = values.names(request.protocols, _MAX_PROTOCOLS, values.MAX_PROTOCOL, "protocols")
        most = min(request.queue_messages or config.receive_queue_messages, config.receive_queue_messages)
        receiver = Receiver(protocols, Bounds(most, config.receive_queue_bytes))
        with backend.receiving(receiver):
            await context.send_initial_metadata(OPEN)
            while True:
                batch = receiver.take()
                if batch:
                    await _write(context, batch, lambda: backend.inbox.handled(receiver.written()))
                else:
                    await receiver.ready.wait()

    # ------------------------------------------------------------ requests

    async def request(self, request: convert.RequestRequest, context: Context) -> object:
        peer = other_peer(self._backend, request.peer_id)
        protocol = values.name(request.protocol, values.MAX_PROTOCOL, "protocol")
        left = context.time_remaining()
        deadline = self._backend.now() + (self._backend.config.request_timeout if left is None else left)
        span = self._backend.tracer.asking(
            peer, protocol, values.traceparent(request.traceparent) or _trace_of(context)
        )
        answer: bytes | SidecarError = WITHDRAWN
        try:
            completed: RequestCompleted = await self._backend.operation(
                lambda op: RequestMade(op, peer, protocol, request.data, deadline, span.context),
                cancel=RequestCancelled,
            )
            answer = completed.answer
        finally:
            span.end(answer if isinstance(answer, SidecarError) else None)
        if isinstance(answer, SidecarError):
            raise answer
        return convert.response(answer)

    async def request_many(self, requests: AsyncIterator[convert.RequestManyRequest], context: Context) -> None:
        asker = Asker(self._backend)
        with self._backend.stream(asker):
            await context.send_initial_metadata(opening(self._backend.config.max_request_bytes))
            try:
                await converse(requests, asker, asker.consume, context, self._backend.refusing)
            finally:
                asker.close()

    async def serve(self, requests: AsyncIterator[convert.ServeRequest], context: Context) -> None:
        backend, config = self._backend, self._backend.config
        first = await anext(requests, None)
        given = first.protocols if first is not None else ()
        protocols = values.names(given, _MAX_PROTOCOLS, values.MAX_PROTOCOL, "protocols")
        server = Server(protocols, Bounds(config.serve_queue_requests, config.serve_queue_bytes))

        async def consume(request: convert.ServeRequest) -> None:
            if request.protocols:
                raise values.invalid("protocols", "only the stream's first message names them")
            for token, answer in convert.answers(request):
                backend.desk.answer(server, token, answer)

        await vacated(protocols, backend.desk.protocols)
        with backend.serving(server):
            await context.send_initial_metadata(opening(config.max_request_bytes))
            await converse(requests, _Requests(backend, server), consume, context)


def _trace_of(context: Context) -> str:
    """The caller's place in a trace, as OpenTelemetry's gRPC clients tell it; what is malformed there is nothing."""
    for key, value in context.invocation_metadata() or ():
        if key == "traceparent" and isinstance(value, str) and wellformed(value):
            return value
    return ""


class _Requests:
    """A serving app's outlet."""

    def __init__(self, backend: Backend, server: Server) -> None:
        self._backend = backend
        self._server = server
        self._finished = False
        self.ready = server.ready

    def take(self) -> object:
        arrived, withdrawn, rejected = self._server.take(_SERVE_BYTES)
        if arrived or withdrawn or rejected:
            return convert.requests(arrived, withdrawn, rejected, self._backend.now())
        return None if self._finished else b""

    def finish(self) -> None:
        """The app answers no more."""
        self._finished = True
        self.ready.set()

    def end(self, error: SidecarError) -> None:
        self._server.end(error)


async def _write(context: Context, batch: bytes, written: Callable[[], None]) -> None:
    """Write, and say so: also where the call is cancelled meanwhile, for an app may read its message and go at once."""
    writing = asyncio.ensure_future(context.write(batch))
    try:
        await asyncio.shield(writing)
    except asyncio.CancelledError:
        await asyncio.wait((writing,))  # gRPC fails the writes of a call that is over
        if writing.cancelled() or writing.exception() is not None:
            raise
        written()
        raise
    written()


class _Sender:
    """One SendMany stream: batches go out as they come, receipts come as they become known."""

    def __init__(self, backend: Backend, send: Send) -> None:
        self._backend = backend
        self._send = send
        self._peer: PeerId | None = None
        self._protocol = ""
        self._tasks: set[asyncio.Task[None]] = set()  # a batch with ids each, bounded by the window
        window = Bounds(backend.config.send_window, backend.config.send_window_bytes)
        self.receipts: Receipts[Sent] = Receipts(window, _encode)

    async def consume(self, request: convert.SendManyRequest) -> None:
        """Send a batch; returns when the next one may be read."""
        if request.peer_id:
            self._peer = other_peer(self._backend, request.peer_id)
        if request.protocol:
            self._protocol = values.name(request.protocol, values.MAX_PROTOCOL, "protocol")
        if not request.messages:
            return
        values.bounded(len(request.messages), MAX_BATCH, "messages")
        peer = self._peer if self._peer is not None else other_peer(self._backend, "")
        protocol = values.name(self._protocol, values.MAX_PROTOCOL, "protocol")
        messages = [message.data for message in request.messages]
        ids = [message.request_id for message in request.messages]
        checked = [values.request_id(text) for text in ids] if any(ids) else []
        size = sum(map(len, messages)) + _OVERHEAD * len(messages)
        first = self.receipts.asked(len(messages), size)
        if checked:
            named = self._send_named(first, size, peer, protocol, messages, checked)
            task = asyncio.create_task(named, name="api sending with ids")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        else:
            self._backend.start(
                lambda op: SendRequested(op, peer, protocol, messages), functools.partial(self._completed, first, size)
            )
        await self.receipts.room()

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()

    def _completed(self, first: int, size: int, completed: SendCompleted) -> None:
        for start, count, sent in _ranges(completed):
            self.receipts.answered(first + start, count, sent)
        self.receipts.settled(size)

    async def _send_named(
        self, first: int, size: int, peer: PeerId, protocol: str, messages: list[bytes], ids: list[str]
    ) -> None:
        try:
            for index, sent in enumerate(await self._send(peer, protocol, messages, ids)):
                self.receipts.answered(first + index, 1, sent)
            self.receipts.settled(size)
        except SidecarError as error:
            self.receipts.end(error)


def _ranges(completed: SendCompleted) -> Iterator[tuple[int, int, Sent]]:
    """What became of a batch; the error's words go with what was not delivered."""
    detail = str(completed.error) if completed.error else ""
    for first, count, outcome in completed.outcomes:
        yield first, count, (outcome, "" if outcome is SendOutcome.DELIVERED else detail)


def _encode(ranges: list[Range[Sent]]) -> bytes:
    return convert.receipts((part.first, part.count, part.outcome) for part in ranges)
