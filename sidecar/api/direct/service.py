"""`sidecar.v1.DirectService`."""

import asyncio
import functools
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TypeVar

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
from ..common.outlet import Outlet, converse, pour
from ..common.status import reason
from ..common.vacated import vacated
from ..common.window import Window
from ..guard import caller
from ..mail import Mail
from ..service import ApiService, Handlers, ServiceContext
from ..statistics import OutcomesStatistics, ReceiversStatistics
from . import convert
from .asking import WITHDRAWN, Asker
from .convert import Sent
from .durable import DurableMessages
from .inbox import Inbox, ReceiveStream
from .sending import Sender, ranges
from .serving import Desk, ServeStream, ToldServer

Stream = TypeVar("Stream", bound=Outlet)

_MAX_PROTOCOLS = 64
_ANSWERED = "ANSWERED"  # of a request

_ARRIVED = (SendOutcome.DELIVERED, SendOutcome.TIMED_OUT, SendOutcome.UNKNOWN)  # or may have


class DirectService(ApiService):
    """Direct messages and requests; every method as its schema says."""

    def __init__(self, context: ServiceContext, tracer: Tracer, mail: Mail | None) -> None:
        """`tracer`: of the requests that apps make and are given. `mail`: None where nothing is kept."""
        self._context = context
        self._durable = DurableMessages(context, mail)
        self._operations = context.operations
        self._tracer = tracer
        self.inbox = Inbox(context.feed)
        self.desk = Desk(context.feed, context.lifetime, tracer)
        self._ids: Window[Sent] = Window(
            context.config.request_ids, lambda sent: sent.outcome in _ARRIVED, withdraws=False
        )
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
        if request.HasField("durable"):
            sent = (await self._keep(peer, protocol, [request.data], ids, request.durable))[0]
        else:
            sent = (await self._send(peer, protocol, [request.data], ids))[0]
        if sent.outcome is SendOutcome.TOO_LARGE:
            raise TooLarge(f"message of {len(request.data)} bytes: {sent.detail}")
        return convert.sent(sent)

    async def _keep(
        self, peer: PeerId, protocol: str, messages: Sequence[bytes], ids: Sequence[str], how: convert.Durable
    ) -> list[Sent]:
        """Keep durable messages; every message's outcome, its place with the sequence as its offset."""
        sent = await self._durable.keep(peer, protocol, messages, ids if any(ids) else (), how)
        self._receipts.update(each.outcome for each in sent)
        return sent

    async def _send(self, peer: PeerId, protocol: str, messages: Sequence[bytes], ids: Sequence[str]) -> list[Sent]:
        """Send messages of which some have ids; every message's outcome."""

        async def send(indexes: list[int]) -> list[Sent]:
            chosen = [messages[index] for index in indexes]
            completed: SendCompleted = await self._operations.run(
                lambda op: SendRequested(op, peer, protocol, chosen), cancel=None
            )
            return [sent for _, count, sent in ranges(completed) for _ in range(count)]

        who = caller.who()
        return await self._ids.once([(who, peer, protocol, name) if name else None for name in ids], send)

    async def send_many(self, requests: AsyncIterator[convert.SendManyRequest], call: Call) -> None:
        """Send batches; the outcomes as ranges."""
        await call.begin(opening(self._context.config.max_request_bytes))
        sender = Sender(self._context, self._send, self._keep)
        lifetime = self._context.lifetime
        with lifetime.stream(sender.receipts, asking=True):
            try:
                await converse(requests, sender.receipts, sender.consume, call.write, lifetime.refusing)
            finally:
                sender.close()

    # ------------------------------------------------------------ receiving

    async def receive(self, request: convert.ReceiveRequest, call: Call) -> None:
        """What peers send by some protocols."""
        config = self._context.config
        protocols = values.names(request.protocols, _MAX_PROTOCOLS, values.MAX_PROTOCOL, "protocols")
        if request.HasField("durable"):
            await self._durable.receive(protocols, request.durable, call)
            return
        most = min(request.queue_messages or config.receive_queue_messages, config.receive_queue_messages)
        receiver = ReceiveStream(protocols, Bounds(most, config.receive_queue_bytes))
        with self.receiving(receiver):
            await call.begin(OPEN)
            written = functools.partial(self._written, receiver)
            await pour(receiver, functools.partial(_write, call, written))

    def receiving(self, receiver: ReceiveStream) -> AbstractContextManager[None]:
        """While an app receives. Raises ResourceExhausted."""
        inbox = self.inbox
        return self._open(receiver, len(inbox.receivers()), "receive streams", inbox.add, inbox.remove)

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
        with lifetime.stream(asker, asking=True):
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
            self.desk.answer(server, convert.answers(request))

        def write(told: ToldServer) -> Awaitable[None]:
            return call.write(convert.requests(*told, self._context.now()))

        await vacated(protocols, self.desk.protocols)
        with self.serving(server):
            await call.begin(opening(config.max_request_bytes))
            await converse(requests, server, consume, write)

    def serving(self, server: ServeStream) -> AbstractContextManager[None]:
        """While an app serves. Raises AlreadyExists, ResourceExhausted."""
        desk = self.desk
        return self._open(server, len(desk.servers()), "serve streams", desk.add, desk.remove)

    @contextmanager
    def _open(
        self, stream: Stream, present: int, what: str, add: Callable[[Stream], None], remove: Callable[[Stream], None]
    ) -> Iterator[None]:
        check_room(present, self._context.config.max_receivers, what)
        with self._context.lifetime.stream(stream):
            add(stream)
            try:
                self._tell_protocols()
                yield
            finally:
                remove(stream)
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
