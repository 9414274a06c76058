"""Requests of an app that asks many at once: out as they come, results back as they become known."""

from collections import deque
from functools import partial

from ...core.direct import RequestCancelled, RequestCompleted, RequestMade, RequestsMade
from ...core.errors import Closed, QueueFull, SidecarError
from ...core.override import override
from ...core.types import PeerId
from ...process.spans import Span, Tracer
from ..common import values
from ..common.bounds import BATCH_BYTES
from ..common.outlet import MAX_BATCH, Outlet
from ..common.status import status_details
from ..common.wakeup import Wakeup
from ..guard import caller
from ..service import ServiceContext
from . import convert, encode

_WINDOW = 1024  # open requests; as many as the direct protocol has on its way to one peer
_MAX_TIMEOUT = 86_400.0
WITHDRAWN = Closed("the app waits no longer")


class Asker(Outlet):
    """One RequestMany stream: the requests that have no result, and the results that the app has not been told."""

    def __init__(self, context: ServiceContext, tracer: Tracer) -> None:
        """`tracer`: of each request."""
        super().__init__()
        self._context = context
        self._tracer = tracer
        self._drained = Wakeup()  # there may be room again
        self._peer: PeerId | SidecarError = values.invalid("peer_id", "the first requests must name a peer")
        self._protocol: str | SidecarError = values.invalid("protocol", "the first requests must name a protocol")
        self._open: dict[int, tuple[int, Span]] = {}  # the caller's number -> the operation's
        self._results: deque[bytes] = deque()
        self._unwritten = 0  # bytes of results

    async def consume(self, request: convert.RequestManyRequest) -> None:
        """Make requests; returns when further ones may be read. Raises InvalidField for a number that is in use."""
        for number in request.withdrawn:
            opened = self._open.pop(number, None)
            if opened is not None:
                self._cancel(*opened)
        values.bounded(len(request.requests), MAX_BATCH, "requests")
        self._choose(request)
        made: dict[int, RequestMade] = {}  # by the caller's number: what one frame brings is one input of the node
        for index, outgoing in enumerate(request.requests):
            if outgoing.id in self._open:
                raise values.invalid(f"requests[{index}].id", f"{outgoing.id} still waits for its result")
            asked = self._asked(outgoing)
            if asked is not None:
                made[outgoing.id] = asked
            while len(self._open) >= _WINDOW or self._unwritten >= self._context.config.send_window_bytes:
                self._make(made)
                await self._drained.wait()
        self._make(made)

    def close(self) -> None:
        """The app is gone; nobody waits for the open requests."""
        left, self._open = self._open, {}
        for op, span in left.values():
            self._cancel(op, span)

    def _cancel(self, op: int, span: Span) -> None:
        span.end(WITHDRAWN)
        self._context.operations.cancel(op, RequestCancelled)

    @override
    def take(self) -> bytes | None:
        parts: list[bytes] = []
        size = 0
        while self._results and (not parts or size + len(self._results[0]) <= BATCH_BYTES):
            parts.append(self._results.popleft())
            size += len(parts[-1])
        if parts:
            self._unwritten -= size
            self._drained.set()
            return b"".join(parts)
        return self.nothing(expected=bool(self._open))

    def _choose(self, request: convert.RequestManyRequest) -> None:
        """Note whom to ask; a malformed name is what its requests end with."""
        if request.peer_id:
            try:
                self._peer = self._context.other_peer(request.peer_id)
            except SidecarError as error:
                self._peer = error
        if request.protocol:
            try:
                caller.require(f"request:{request.protocol}")
                self._protocol = values.name(request.protocol, values.MAX_PROTOCOL, "protocol")
            except SidecarError as error:
                self._protocol = error

    def _asked(self, outgoing: convert.OutgoingRequest) -> RequestMade | None:
        """The request, which is open now and yet to be made; None where its result is an error already."""
        number, peer, protocol = outgoing.id, self._peer, self._protocol
        try:
            if isinstance(peer, SidecarError):
                raise peer
            if isinstance(protocol, SidecarError):
                raise protocol
            timeout = self._context.config.request_timeout
            if outgoing.HasField("timeout"):
                timeout = values.seconds(outgoing.timeout, _MAX_TIMEOUT, "timeout")
            deadline = self._context.now() + timeout
            trace = values.traceparent(outgoing.traceparent)
        except SidecarError as error:
            self._tell(number, error)
            return None
        op = self._context.operations.begin(partial(self._completed, number))
        span = self._tracer.asking(peer, protocol, trace)
        self._open[number] = op, span
        return RequestMade(op, peer, protocol, outgoing.data, deadline, span.context)

    def _make(self, made: dict[int, RequestMade]) -> None:
        """Make these requests, in one turn of the node."""
        if not made:
            return
        asked = tuple(made.values())
        numbers = tuple(made)
        made.clear()
        try:
            self._context.operations.begun(
                [request.op for request in asked], asked[0] if len(asked) == 1 else RequestsMade(asked)
            )
        except Closed:
            raise
        except SidecarError as error:
            for number in numbers:
                self._tell(number, error)

    def _completed(self, number: int, completed: RequestCompleted) -> None:
        self._tell(number, completed.answer)
        self._drained.set()

    def _tell(self, number: int, answer: bytes | SidecarError) -> None:
        opened = self._open.pop(number, None)
        if opened is not None:
            opened[1].end(answer if isinstance(answer, SidecarError) else None)
        room = self._context.config.send_window_bytes - self._unwritten
        if not isinstance(answer, SidecarError) and self._results and len(answer) > room:
            answer = QueueFull("the app that asked does not read its results")
        if isinstance(answer, SidecarError):
            result = encode.failed(number, status_details(answer))
        else:
            result = encode.answered(number, answer)
        self._results.append(result)
        self._unwritten += len(result)
        self.ready.set()
