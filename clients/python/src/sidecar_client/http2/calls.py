"""Calls of this engine, with the methods of grpc.aio's that the client uses.

Unlike there, cancelling who reads or writes does not end the call, and loses nothing.
"""

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterable, Callable, Generator, Iterable
from typing import Any, Protocol, Self

from .._failure import CallFailed, Metadata, OwnCall, UnwrittenError
from ..codes import Code
from .binding import Headers
from .connection import ClientConnection
from .metadata import decoded, unquoted

EOF = None
"""What reading gives behind the last message; like gRPC's own it is false, and messages are true."""

_HIGH_WATER = 65_536  # bytes of a call that wait for the socket, from which on its writer waits too
_OWN = frozenset(
    (b":status", b"content-type", b"grpc-status", b"grpc-message", b"grpc-encoding", b"grpc-accept-encoding")
)


class Carrier(Protocol):
    """A connection with a socket below."""

    machine: ClientConnection

    def flush_soon(self) -> None:
        """Send what the machine has: at once for a call that is alone."""

    def flush_turn(self) -> None:
        """Send what the machine has, at the end of the loop's turn."""

    async def drained(self, stream: int, at_most: int) -> None:
        """Return when no more bytes of the stream wait than these, or it has ended."""


class Place(Protocol):
    """Where calls begin."""

    thread: int

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """Whose thread `thread` is."""

    def start(self, call: "Call") -> None:
        """Begin it, now or once there is a connection."""

    def forget(self, call: "Call") -> None:
        """It has ended; it is not to begin any more."""


class Call(OwnCall):
    """What all kinds have in common. Everything happens on the event loop's thread, but for `cancel`."""

    __slots__ = (
        "_carrier",
        "_closed",
        "_code",
        "_details",
        "_feeding",
        "_head",
        "_machine",
        "_messages",
        "_parse",
        "_place",
        "_reached",
        "_stopped",
        "_stream",
        "_timer",
        "_trailers",
        "_unsent",
        "_waiters",
        "again",
        "headers",
        "request",
    )
    _answers_once = False

    def __init__(
        self,
        place: Place,
        headers: Headers,
        request: bytes | None,
        timeout: float | None,
        parse: Callable[[bytes], Any] | None,
    ) -> None:
        """`request`: its only one; None: `write` gives them."""
        self.headers = headers
        self.request = request
        self.again = request is not None
        """Whether it may begin anew where the server has not seen it."""
        self._place = place
        self._parse = parse
        self._carrier: Carrier | None = None
        self._machine: ClientConnection | None = None
        self._stream = 0
        self._unsent: deque[bytes] = deque()  # written before it had a connection
        self._closed = False  # for writing
        self._messages: deque[bytes] = deque()
        self._head: Headers | None = None
        self._trailers: Headers = ()
        self._code: Code | None = None  # once it is over
        self._details = ""
        self._reached = True
        self._stopped = False  # cancelled here
        self._waiters: list[asyncio.Future[None]] = []
        self._feeding: asyncio.Task[None] | None = None
        self._timer = None if timeout is None else place.loop.call_later(max(timeout, 0.0), self._expire)
        place.start(self)

    # ------------------------------------------------------------ what its connection tells

    def begin(self, carrier: Carrier) -> None:
        """Send it. Raises Violation."""
        machine = carrier.machine
        self._stream = machine.begin(self, self.headers, self.request)
        self._carrier, self._machine = carrier, machine
        while self._unsent:
            machine.send(self._stream, self._unsent.popleft())
        if self._closed and self.request is None:
            machine.finish(self._stream)
        carrier.flush_soon()
        if self._waiters:
            self._wake()

    def began(self, headers: Headers) -> None:
        """The response's head."""
        self._head = headers
        if self._waiters:
            self._wake()

    def came(self, messages: list[bytes]) -> None:
        """Messages, in order."""
        self._messages += messages
        if self._waiters and not self._answers_once:
            self._wake()

    def ended(self, headers: Headers) -> None:
        """What the call ended with."""
        self._trailers = headers
        code, message = -1, ""
        for name, value in headers:
            if name == b"grpc-status":
                code = int(value) if value.isdigit() and len(value) < 3 else 2
            elif name == b"grpc-message":
                message = unquoted(value)
        if code < 0:
            self._end(Code.UNKNOWN, "the server ended the call without a status")
        else:
            self._end(Code(code) if code <= Code.UNAUTHENTICATED else Code.UNKNOWN, message)

    def failed(self, code: Code, message: str, reached: bool) -> None:
        """The call ended without a status; one that the server has not seen begins anew, once."""
        if not reached and self.again and not self._messages:
            self.again = False
            self._carrier = self._machine = None
            self._head = None
            self._place.start(self)
            return
        self._reached = reached
        self._end(code, message)

    def _end(self, code: Code, details: str) -> None:
        self._code = code
        self._details = details
        self.request = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._place.forget(self)
        if self._feeding is not None:
            self._feeding.cancel()
        if self._waiters:
            self._wake()

    def _expire(self) -> None:
        self._give_up(Code.DEADLINE_EXCEEDED, "Deadline Exceeded")

    def _give_up(self, code: Code, details: str) -> None:
        """End it here."""
        if self._code is not None:
            return
        self._reached = self._machine is not None
        self._messages.clear()
        machine, carrier = self._machine, self._carrier
        if machine is not None and carrier is not None:
            machine.cancel(self._stream)
            carrier.flush_turn()
        self._end(code, details)

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def _news(self) -> None:
        """Wait until something has happened."""
        waiter = self._place.loop.create_future()
        self._waiters.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter in self._waiters:
                self._waiters.remove(waiter)
            raise

    # ------------------------------------------------------------ what the client uses

    def done(self) -> bool:
        """Whether it is over."""
        return self._code is not None

    def cancelled(self) -> bool:
        """Whether it was cancelled here."""
        return self._stopped

    def cancel(self) -> bool:
        """End it; False where it is over already. From any thread."""
        if self._code is not None:
            return False
        if threading.get_ident() != self._place.thread:  # whoever collects garbage
            self._place.loop.call_soon_threadsafe(self.cancel)
            return True
        self._stopped = True
        self._give_up(Code.CANCELLED, "Locally cancelled by application!")
        return True

    async def initial_metadata(self) -> dict[str, str | bytes]:
        """What the server said before its first response; empty where it said nothing before the end."""
        while self._head is None and self._code is None:
            await self._news()
        return dict(reversed(_metadata(self._head or ())))  # the first of a name counts

    async def trailing_metadata(self) -> Metadata:
        """What came with the status."""
        await self.code()
        return _metadata(self._trailers)

    async def code(self) -> Code:
        """The status, once it is over."""
        while self._code is None:
            await self._news()
        return self._code

    async def details(self) -> str:
        """The text of the status, once it is over."""
        await self.code()
        return self._details

    def _succeeded(self) -> bool:
        return self._code is Code.OK

    def _failure(self) -> BaseException:
        """What reading it raises once it has failed."""
        if self._stopped:
            return asyncio.CancelledError()
        assert self._code is not None
        return CallFailed(self._code, self._details, _metadata(self._trailers), reached=self._reached)

    def _parsed(self, message: bytes) -> Any:
        return message if self._parse is None else self._parse(message)

    # ------------------------------------------------------------ writing

    async def write(self, message: bytes) -> None:
        """Send a message; returns when there is room for more. Raises UnwrittenError, CallFailed."""
        while self._machine is None and self._code is None and self._unsent:
            await self._news()  # one waits already for a connection
        if self._code is not None:
            raise UnwrittenError
        if self._machine is None:
            self._unsent.append(message)
            while self._unsent and self._code is None:
                await self._news()
            if self._unsent:
                raise UnwrittenError
        else:
            self._machine.send(self._stream, message)
            assert self._carrier is not None
            self._carrier.flush_soon()
        machine, carrier = self._machine, self._carrier
        if machine is None or carrier is None or machine.waiting(self._stream) <= _HIGH_WATER:
            return
        await carrier.drained(self._stream, _HIGH_WATER)
        if self.done() and not self._succeeded():
            raise self._failure()

    async def done_writing(self) -> None:
        """Nothing follows what was written."""
        if self._closed or self._code is not None:
            return
        self._closed = True
        if self._machine is not None and self._carrier is not None:
            self._machine.finish(self._stream)
            self._carrier.flush_soon()

    def feed(self, requests: Iterable[Any] | AsyncIterable[Any], serialize: Callable[[Any], bytes] | None) -> None:
        """Write what comes of these."""
        self._feeding = self._place.loop.create_task(self._feed(requests, serialize), name="sidecar call's requests")

    async def _feed(self, requests: Any, serialize: Callable[[Any], bytes] | None) -> None:
        try:
            if isinstance(requests, AsyncIterable):
                async for request in requests:
                    await self.write(request if serialize is None else serialize(request))
            else:
                for request in requests:
                    await self.write(request if serialize is None else serialize(request))
            await self.done_writing()
        except (UnwrittenError, CallFailed):
            pass  # reading tells why
        except Exception as error:  # noqa: BLE001 - the iterator is the app's
            self._give_up(Code.UNKNOWN, f"the requests failed: {error!r}")


class SingleCall(Call):
    """A call with one response. Await it."""

    __slots__ = ()
    _answers_once = True

    def __await__(self) -> Generator[Any, None, Any]:
        try:
            while self._code is None:
                waiter = self._place.loop.create_future()
                self._waiters.append(waiter)
                yield from waiter
        except asyncio.CancelledError:
            self.cancel()
            raise
        if self._code is not Code.OK:
            raise self._failure()
        if len(self._messages) != 1:
            count = len(self._messages)
            raise CallFailed(Code.UNIMPLEMENTED, f"the server answered with {count} messages, and one was to come")
        return self._parsed(self._messages[0])


class StreamingCall(Call):
    """A call with any number of responses: read them, or iterate."""

    __slots__ = ()

    async def read(self) -> Any:
        """The next response; EOF behind the last one. Raises CallFailed."""
        while not self._messages:
            if self._code is not None:
                if self._code is Code.OK:
                    return EOF
                raise self._failure()
            await self._news()
        message = self._messages.popleft()
        if self._code is None and self._machine is not None and self._machine.taken(self._stream, len(message)):
            assert self._carrier is not None
            self._carrier.flush_turn()
        return self._parsed(message)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        response = await self.read()
        if response is EOF:
            raise StopAsyncIteration
        return response


def _metadata(headers: Headers) -> list[tuple[str, str | bytes]]:
    """Headers as metadata, without what is HTTP/2's and gRPC's own."""
    found: list[tuple[str, str | bytes]] = []
    for name, value in headers:
        if name in _OWN:
            continue
        key = name.decode("latin-1")
        if name.endswith(b"-bin"):
            try:
                found.extend((key, binary) for binary in decoded(value))
            except ValueError:
                continue  # a server's mistake; the status and its text are enough
        else:
            found.append((key, value.decode("latin-1")))
    return found
