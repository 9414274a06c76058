"""A call of this engine, as the services know it."""

import asyncio
from collections import deque
from typing import Any, NoReturn, Protocol

from sidecar_client.http2.metadata import encoded

from ....core.errors import SidecarError
from ...common.call import Metadata
from ...common.status import Code, code, status_details
from ..schema import serialize
from .connection import ServerConnection
from .heads import RequestHead, trailers

_HIGH_WATER = 65_536  # bytes of a stream that wait for the app, from which on its writer waits too


class CallEnded(Exception):
    """The call has its status, and its handler is to return."""


class CallerGone(Exception):
    """Nobody is there to be written to."""


class CallCarrier(Protocol):
    """What brings calls: a connection to an app, with a socket below."""

    machine: ServerConnection
    peer: str
    loop: asyncio.AbstractEventLoop

    def flush_soon(self) -> None:
        """Send what the machine has, together with what others have in this turn."""

    def flush_turn(self) -> None:
        """Send what the machine has, at the end of the loop's turn."""

    async def drained(self, stream: int, at_most: int) -> None:
        """Return when no more bytes of the stream wait than these, or it has ended."""


class Http2Call:
    """One call while it is answered. Everything happens on the event loop's thread."""

    __slots__ = (
        "_arrived",
        "_carrier",
        "_ended",
        "_head",
        "_machine",
        "_messages",
        "_stream",
        "deadline",
        "expired",
        "gone",
        "peer",
        "running",
        "stopped",
        "task",
        "timer",
    )

    def __init__(self, carrier: CallCarrier, stream: int, head: RequestHead, now: float) -> None:
        self._carrier = carrier
        self._machine = carrier.machine
        self._stream = stream
        self._head = head
        self._messages: deque[bytes] = deque()
        self._ended = False  # no further messages come
        self._arrived: asyncio.Future[None] | None = None  # while somebody waits for one
        self.peer = carrier.peer
        """As gRPC names it: `unix:`, `ipv4:127.0.0.1:40312`."""
        self.deadline = None if head.timeout is None else now + head.timeout
        """Of the loop's clock."""
        self.timer: asyncio.TimerHandle | None = None
        self.task: asyncio.Task[None] | None = None
        self.running = False
        """Whether the task has begun: one that is cancelled before never does."""
        self.expired = False
        """Whether its deadline has passed."""
        self.gone = False
        """Whether nobody waits for it any more."""
        self.stopped = False
        """Whether the server has ended it."""

    # ------------------------------------------------------------ what services use

    @property
    def metadata(self) -> Metadata:
        """What the app has sent beside its request."""
        return self._head.metadata

    def time_left(self) -> float | None:
        """Seconds until the app's deadline, 0 when it has passed."""
        if self.deadline is None:
            return None
        if self.expired:  # timers may fire a little early
            return 0.0
        return max(self.deadline - self._carrier.loop.time(), 0.0)

    async def begin(self, metadata: Metadata) -> None:
        """Send the response's head now."""
        if self.gone:
            raise CallerGone
        self._machine.begin(self._stream, encoded(metadata))
        self._carrier.flush_soon()

    async def write(self, response: Any) -> None:
        """Send a response; returns when there is room for the next."""
        if self.gone:
            raise CallerGone
        waiting = self._machine.send(self._stream, serialize(response))
        self._carrier.flush_soon()
        if waiting > _HIGH_WATER:
            await self._carrier.drained(self._stream, _HIGH_WATER)

    def over(self) -> bool:
        """Whether nobody waits for its status."""
        return self.gone

    def lost(self, error: Exception) -> bool:
        """Whether it says that nobody is there to be written to."""
        return isinstance(error, CallerGone)

    async def fail(self, error: SidecarError) -> NoReturn:
        """End it with the error's status and details. Raises CallEnded."""
        self.end(code(error), str(error), status_details(error))
        raise CallEnded

    # ------------------------------------------------------------ what answers it

    def cancel(self) -> None:
        """Its handler is to end."""
        if self.task is not None and self.running:
            self.task.cancel()

    def expire(self) -> None:
        """Its deadline has passed."""
        self.timer = None
        self.expired = True
        self.cancel()

    def check(self) -> None:
        """Raises CancelledError where it was over before its task began."""
        self.running = True
        if self.gone or self.stopped:
            raise asyncio.CancelledError

    def end(self, code: Code, message: str = "", details: bytes = b"") -> None:
        """Give it its status."""
        self._machine.finish(self._stream, trailers(code, message, details))
        self._carrier.flush_soon()

    def answer(self, response: Any) -> None:
        """Send the only response, and that all is well."""
        self._machine.send(self._stream, serialize(response))
        self.succeed()

    def succeed(self) -> None:
        """All responses have been sent."""
        self._machine.finish(self._stream)
        self._carrier.flush_soon()

    def abandon(self) -> None:
        """End it at once without a status."""
        self._machine.cancel(self._stream)
        self._carrier.flush_soon()

    async def drained(self) -> None:
        """Return when the app has taken what waits for it, but for what every call may leave behind."""
        if self._machine.waiting(self._stream) > _HIGH_WATER:
            await self._carrier.drained(self._stream, _HIGH_WATER)

    # ------------------------------------------------------------ its messages

    def came(self, messages: list[bytes], ended: bool) -> None:
        """The connection has brought some."""
        self._messages.extend(messages)
        self._ended = self._ended or ended
        if self._arrived is not None and not self._arrived.done():
            self._arrived.set_result(None)

    async def message(self) -> bytes | None:
        """The next; None when all were taken and the app has said that there are no more."""
        messages = self._messages
        while not messages:
            if self._ended:
                return None
            self._arrived = self._carrier.loop.create_future()
            try:
                await self._arrived
            finally:
                self._arrived = None
        message = messages.popleft()
        if self._machine.taken(self._stream, len(message)):
            self._carrier.flush_turn()
        return message


class Requests:
    """The messages of a call whose app streams, parsed."""

    __slots__ = ("_call", "_parse")

    def __init__(self, call: Http2Call, parse: Any) -> None:
        self._call = call
        self._parse = parse

    def __aiter__(self) -> "Requests":
        return self

    async def __anext__(self) -> Any:
        message = await self._call.message()
        if message is None:
            raise StopAsyncIteration
        return self._parse(message)
