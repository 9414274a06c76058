"""`sidecar.v1.DirectService`."""

import asyncio
import functools
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager

from ...core.direct import (
    MessagesReceived,
    ProtocolsChanged,
    RequestArrived,
    RequestCancelled,
    RequestCompleted,
    RequestMade,
    RequestWithdrawn,
    SendCompleted,
    SendOutcome,
    SendRequested,
)
from ...core.errors import SidecarError, TooLarge
from ...core.override import override
from ...core.traceparent import wellformed
from ...core.types import PeerId
from ...process.spans import Tracer
from ..common import values
from ..common.bounds import Bounds, check_room
from ..common.call import OPEN, Call, opening
from ..common.calls import vacated
from ..common.outlet import MAX_BATCH, converse, pour
from ..common.receipts import Range, Receipts
from ..common.status import reason
from ..common.window import Window
from ..guard import caller
from ..service import ApiService, Handlers, ServiceContext
from ..statistics import OutcomesStatistics, ReceiversStatistics
from . import convert
from .asking import WITHDRAWN, Asker
from .inbox import Inbox, ReceiveStream
from .serving import Desk, ServeStream, ToldServer

_MAX_PROTOCOLS = 64
_ANSWERED = "ANSWERED"  # of a request
_OVERHEAD = 64  # bytes that a message counts beside its own, as in the direct router

Sent = tuple[SendOutcome, str]  # with words where there is more to say
Send = Callable[[PeerId, str, Sequence[bytes], Sequence[str]], Awaitable[list[Sent]]]
_ARRIVED = (SendOutcome.DELIVERED, SendOutcome.TIMED_OUT, SendOutcome.UNKNOWN)  # or may have


class DirectService(ApiService):
    """Direct messages and requests; every method as its schema says."""

    def __init__(self, context: ServiceContext, tracer: Tracer) -> None:
        """`tracer`: of the requests that apps make and are given."""
        self._context = context
        self._operations = context.operations
        self._tracer = tracer
        self.inbox = Inbox(context.feed)
        self.desk = Desk(context.feed, context.lifetime, tracer)
        self._ids: Window[Sent] = Window(context.config.request_ids, lambda sent: sent[0] in _ARRIVED, withdraws=False)
        self._receipts: Counter[SendOutcome] = Counter(dict.fromkeys(SendOutcome, 0))
        self._answers: Counter[str] = Counter({_ANSWERED: 0})  # or the reason why there was none

    @override
    def effects(self) -> Handlers:
        return {
            SendCompleted: self._sent,
            RequestCompleted: self._answered,
            MessagesReceived: self.inbox.deliver,
            RequestArrived: self.desk.arrived,
            RequestWithdrawn: self.desk.withdrawn,
        }

    def receivers(self) -> ReceiversStatistics:
        """The streams toward apps, and what became of messages for them."""
        inbox = self.inbox
        return ReceiversStatistics(len(inbox.receivers()), inbox.missed, inbox.refused, len(self.desk.servers()))

    def outcomes(self) -> OutcomesStatistics:
        """What became of what apps here sent and asked."""
        return OutcomesStatistics(
            receipts={outcome.name.lower(): count for outcome, count in self._receipts.items()},
            answers={reason.lower(): count for reason, count in self._answers.items()},
        )

    # ------------------------------------------------------------ sending

    async def send(self, request: convert.SendRequest, call: Call) -> object:
        """Send one message; its outcome."""
        peer = self._context.other_peer(request.peer_id)
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
            completed: SendCompleted = await self._operations.run(
                lambda op: SendRequested(op, peer, protocol, chosen), cancel=None
            )
            return [sent for _, count, sent in _ranges(completed) for _ in range(count)]

        who = caller.who()
        return await self._ids.once([(who, peer, protocol, name) if name else None for name in ids], send)

    async def send_many(self, requests: AsyncIterator[convert.SendManyRequest], call: Call) -> None:
        """Send batches; the outcomes as ranges."""
        await call.begin(opening(self._context.config.max_request_bytes))
        sender = _Sender(self._context, self._send)
        lifetime = self._context.lifetime
        with lifetime.stream(sender.receipts):
            try:
                await converse(requests, sender.receipts, sender.consume, call.write, lifetime.refusing)
            finally:
                sender.close()

    # ------------------------------------------------------------ receiving

    async def receive(self, request: convert.ReceiveRequest, call: Call) -> None:
        """What peers send by some protocols."""
        config = self._context.config
        protocols = values.names(request.protocols, _MAX_PROTOCOLS, values.MAX_PROTOCOL, "protocols")
        most = min(request.queue_messages or config.receive_queue_messages, config.receive_queue_messages)
        receiver = ReceiveStream(protocols, Bounds(most, config.receive_queue_bytes))
        with self.receiving(receiver):
            await call.begin(OPEN)
            written = functools.partial(self._written, receiver)
            await pour(receiver, functools.partial(_write, call, written))

    @contextmanager
    def receiving(self, receiver: ReceiveStream) -> Iterator[None]:
        """While an app receives. Raises ResourceExhausted."""
        check_room(len(self.inbox.receivers()), self._context.config.max_receivers, "receive streams")
        with self._context.lifetime.stream(receiver):
            self.inbox.add(receiver)
            try:
                self._tell_protocols()
                yield
            finally:
                self.inbox.remove(receiver)
                self._tell_protocols()

    def _written(self, receiver: ReceiveStream) -> None:
        self.inbox.handled(receiver.written())

    # ------------------------------------------------------------ requests

    async def request(self, request: convert.RequestRequest, call: Call) -> object:
        """Ask a peer; its answer."""
        peer = self._context.other_peer(request.peer_id)
        protocol = values.name(request.protocol, values.MAX_PROTOCOL, "protocol")
        left = call.time_left()
        deadline = self._context.now() + (self._context.config.request_timeout if left is None else left)
        span = self._tracer.asking(peer, protocol, values.traceparent(request.traceparent) or _trace_of(call))
        answer: bytes | SidecarError = WITHDRAWN
        try:
            completed: RequestCompleted = await self._operations.run(
                lambda op: RequestMade(op, peer, protocol, request.data, deadline, span.context),
                cancel=RequestCancelled,
            )
            answer = completed.answer
        finally:
            span.end(answer if isinstance(answer, SidecarError) else None)
        if isinstance(answer, SidecarError):
            raise answer
        return convert.response(answer)

    async def request_many(self, requests: AsyncIterator[convert.RequestManyRequest], call: Call) -> None:
        """Ask a peer many things at once; the results as they become known."""
        asker = Asker(self._context, self._tracer)
        lifetime = self._context.lifetime
        with lifetime.stream(asker):
            await call.begin(opening(self._context.config.max_request_bytes))
            try:
                await converse(requests, asker, asker.consume, call.write, lifetime.refusing)
            finally:
                asker.close()

    async def serve(self, requests: AsyncIterator[convert.ServeRequest], call: Call) -> None:
        """The requests of peers by some protocols, which the app answers."""
        config = self._context.config
        first = await anext(requests, None)
        given = first.protocols if first is not None else ()
        protocols = values.names(given, _MAX_PROTOCOLS, values.MAX_PROTOCOL, "protocols")
        server = ServeStream(protocols, Bounds(config.serve_queue_requests, config.serve_queue_bytes))

        async def consume(request: convert.ServeRequest) -> None:
            if request.protocols:
                raise values.invalid("protocols", "only the stream's first message names them")
            for token, answer in convert.answers(request):
                self.desk.answer(server, token, answer)

        await vacated(protocols, self.desk.protocols)

        def write(told: ToldServer) -> Awaitable[None]:
            return call.write(convert.requests(*told, self._context.now()))

        with self.serving(server):
            await call.begin(opening(config.max_request_bytes))
            await converse(requests, server, consume, write)

    @contextmanager
    def serving(self, server: ServeStream) -> Iterator[None]:
        """While an app serves. Raises AlreadyExists, ResourceExhausted."""
        check_room(len(self.desk.servers()), self._context.config.max_receivers, "serve streams")
        with self._context.lifetime.stream(server):
            self.desk.add(server)
            try:
                self._tell_protocols()
                yield
            finally:
                self.desk.remove(server)
                self._tell_protocols()

    def _tell_protocols(self) -> None:
        self._context.feed(ProtocolsChanged(self.inbox.protocols(), self.desk.protocols()))

    # ------------------------------------------------------------ the node's news

    def _sent(self, effect: SendCompleted) -> None:
        for part in effect.outcomes:
            self._receipts[part.outcome] += part.count
        self._operations.completed(effect)

    def _answered(self, effect: RequestCompleted) -> None:
        answer = effect.answer
        self._answers[_ANSWERED if isinstance(answer, bytes) else reason(answer)] += 1
        self._operations.completed(effect)


def _trace_of(call: Call) -> str:
    """The caller's place in a trace, as OpenTelemetry's gRPC clients tell it; what is malformed there is nothing."""
    for key, value in call.metadata:
        if key == "traceparent" and isinstance(value, str) and wellformed(value):
            return value
    return ""


async def _write(call: Call, written: Callable[[], None], batch: bytes) -> None:
    """Write, and say so: also where the call is cancelled meanwhile, for an app may read its message and go at once."""
    writing = asyncio.ensure_future(call.write(batch))
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

    def __init__(self, context: ServiceContext, send: Send) -> None:
        self._context = context
        self._send = send
        self._peer: PeerId | None = None
        self._protocol = ""
        self._tasks: set[asyncio.Task[None]] = set()  # a batch with ids each, bounded by the window
        window = Bounds(context.config.send_window, context.config.send_window_bytes)
        self.receipts: Receipts[Sent] = Receipts(window, _encode)

    async def consume(self, request: convert.SendManyRequest) -> None:
        """Send a batch; returns when the next one may be read."""
        if request.peer_id:
            self._peer = self._context.other_peer(request.peer_id)
        if request.protocol:
            self._protocol = values.name(request.protocol, values.MAX_PROTOCOL, "protocol")
        if not request.messages:
            return
        values.bounded(len(request.messages), MAX_BATCH, "messages")
        peer = self._peer if self._peer is not None else self._context.other_peer("")
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
            self._context.operations.start(
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
