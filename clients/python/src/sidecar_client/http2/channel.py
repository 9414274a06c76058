"""The client's own engine: what stubs are made of, on asyncio and HTTP/2. It takes the package `ngh2`.

It keeps one connection, made when a call wants it, and made again after it was lost, with pauses as gRPC makes them: a
call in a pause fails at once with what was wrong last. Messages are never compressed.
"""

import asyncio
import contextlib
import os
import random
import socket
import ssl
import threading
import weakref
from collections.abc import AsyncIterable, Callable, Iterable
from typing import Any
from urllib.parse import unquote_to_bytes

from .. import _fork
from .._failure import Metadata
from ..codes import Code
from .binding import Headers, Violation
from .calls import Call, SingleCall, StreamingCall
from .metadata import encoded
from .transport import ClientTransport

_ATTEMPT = 1.0  # seconds until the server has greeted: on a machine under load a sidecar takes a while
_FIRST_PAUSE, _LAST_PAUSE, _GROWTH = 0.05, 1.0, 1.6  # seconds between attempts; the growth is gRPC's
_FAREWELL = 0.5  # seconds for what waits to go out when it is closed
_ANOTHER_ADDRESS = 0.25  # seconds until a host's next address is tried beside the one before (RFC 8305, section 5)
_SOCKET = "unix:"

Serialize = Callable[[Any], bytes] | None
Parse = Callable[[bytes], Any] | None


class Http2Channel:
    """The way to a sidecar."""

    def __init__(self, address: str, context: ssl.SSLContext | None) -> None:
        """`address`: as gRPC takes it: `unix:PATH` with escapes, or `HOST:PORT`. `context`: for TLS."""
        self._address = address
        self._context = context
        self._authority = b"localhost" if address.startswith(_SOCKET) else address.encode()
        self._connection: ClientTransport | None = None
        self._leaving: dict[ClientTransport, None] = {}  # those with calls that are to end there
        self._calls: dict[Call, None] = {}
        self._waiting: dict[Call, None] = {}  # of those: for a connection
        self._attempt: asyncio.Task[None] | None = None
        self._pause = _FIRST_PAUSE
        self._rests_until = 0.0  # by the loop's clock
        self._trouble = ""
        self._loop: asyncio.AbstractEventLoop | None = None
        self.thread = 0
        """That of the event loop."""
        self._closed = False
        self._changed: list[asyncio.Future[None]] = []

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """That of the first call."""
        assert self._loop is not None, "there was a call"
        return self._loop

    # ------------------------------------------------------------ what stubs ask for, generated ones too

    @property
    def methods(self) -> Any:
        """What stubs are made of."""
        return self

    def unary_unary(
        self, path: str, request_serializer: Serialize = None, response_deserializer: Parse = None, **_: Any
    ) -> Any:
        """One request, one response: call it, and await what it gives."""
        return self._method(SingleCall, path, request_serializer, response_deserializer)

    def unary_stream(
        self, path: str, request_serializer: Serialize = None, response_deserializer: Parse = None, **_: Any
    ) -> Any:
        """One request, many responses."""
        return self._method(StreamingCall, path, request_serializer, response_deserializer)

    def stream_unary(
        self, path: str, request_serializer: Serialize = None, response_deserializer: Parse = None, **_: Any
    ) -> Any:
        """Many requests, one response."""
        return self._feeding(SingleCall, path, request_serializer, response_deserializer)

    def stream_stream(
        self, path: str, request_serializer: Serialize = None, response_deserializer: Parse = None, **_: Any
    ) -> Any:
        """Many requests, many responses: write them, or give an iterable."""
        return self._feeding(StreamingCall, path, request_serializer, response_deserializer)

    def _method(self, kind: type[Call], path: str, serialize: Serialize, parse: Parse) -> Any:
        head = self._head(path)

        def call(request: Any, *, timeout: float | None = None, metadata: Metadata = ()) -> Call:
            self._bind()
            encoded_request = request if serialize is None else serialize(request)
            return kind(self, _headers(head, timeout, metadata), encoded_request, timeout, parse)

        return call

    def _feeding(self, kind: type[Call], path: str, serialize: Serialize, parse: Parse) -> Any:
        head = self._head(path)

        def call(
            requests: Iterable[Any] | AsyncIterable[Any] | None = None,
            *,
            timeout: float | None = None,
            metadata: Metadata = (),
        ) -> Call:
            self._bind()
            made = kind(self, _headers(head, timeout, metadata), None, timeout, parse)
            if requests is not None:
                made.feed(requests, serialize)
            return made

        return call

    def _head(self, path: str) -> Headers:
        return (
            (b":method", b"POST"),
            (b":scheme", b"http" if self._context is None else b"https"),
            (b":path", path.encode()),
            (b":authority", self._authority),
            (b"te", b"trailers"),
            (b"content-type", b"application/grpc"),
            (b"user-agent", b"sidecar-client-python"),
        )

    def _bind(self) -> None:
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            self.thread = threading.get_ident()

    # ------------------------------------------------------------ where calls begin

    def start(self, call: Call) -> None:
        """Begin it on the connection, or once there is one."""
        self._calls[call] = None
        connection = self._connection
        if connection is not None and connection.machine.can_begin:
            self._begin(call, connection)
        elif self._closed:
            call.cancel()
        elif self._attempt is None and self.loop.time() < self._rests_until:
            self._refuse(call)
        else:
            self._waiting[call] = None
            if self._attempt is None:
                self._attempt = self.loop.create_task(self._connect(), name="sidecar connecting")

    def _begin(self, call: Call, connection: ClientTransport) -> None:
        try:
            call.begin(connection)
        except Violation as error:  # it has just ended, or the metadata are none
            call.failed(Code.INTERNAL, f"the call cannot begin: {error}", reached=False)

    def _refuse(self, call: Call) -> None:
        call.again = False
        call.failed(Code.UNAVAILABLE, f"failed to connect to all addresses; last error: {self._trouble}", reached=False)

    def forget(self, call: Call) -> None:
        """It has ended."""
        self._calls.pop(call, None)
        self._waiting.pop(call, None)

    # ------------------------------------------------------------ the connection

    async def _connect(self) -> None:
        """One attempt, and what becomes of the calls that wait for it."""
        connection: ClientTransport | None = None
        try:
            async with asyncio.timeout(_ATTEMPT):
                connection = await self._dial()
                await connection.greeted
            trouble = "" if connection.machine.can_begin else "the server ended the connection at once"
        except asyncio.CancelledError:
            if connection is not None:
                connection.abort()
            raise
        except TimeoutError:
            trouble = "connection attempt timed out" + (" before receiving SETTINGS frame" if connection else "")
        except (OSError, UnicodeError) as error:
            trouble = _words(error)
        finally:
            self._attempt = None
        if trouble or connection is None:
            if connection is not None:
                connection.abort()
            self._trouble = f"{self._address}: {trouble}"
            self._rests_until = self.loop.time() + self._pause * random.uniform(0.8, 1.0)
            self._pause = min(self._pause * _GROWTH, _LAST_PAUSE)
            for call in list(self._waiting):
                self._waiting.pop(call, None)
                self._refuse(call)
            return
        self._pause = _FIRST_PAUSE
        self._connection = connection
        while self._waiting:
            call = next(iter(self._waiting))
            del self._waiting[call]
            if connection.machine.can_begin:
                self._begin(call, connection)
            else:
                self.start(call)

    async def _dial(self) -> ClientTransport:
        lost = weakref.WeakMethod(self._on_lost)  # an open connection is not to hold what nobody uses

        def make() -> ClientTransport:
            return ClientTransport(lost)

        loop = self.loop
        if self._address.startswith(_SOCKET):
            path = os.fsdecode(unquote_to_bytes(self._address.removeprefix(_SOCKET)))
            _, made = await loop.create_unix_connection(make, path)
            return made
        host, _, port = self._address.rpartition(":")
        host = host.strip("[]")
        more: dict[str, Any] = {}
        if isinstance(loop, asyncio.BaseEventLoop):  # uvloop's tries one address after the other
            more["happy_eyeballs_delay"] = _ANOTHER_ADDRESS
        if self._context is not None:
            more["ssl"] = self._context
            more["server_hostname"] = host
        transport, made = await loop.create_connection(make, host, int(port), **more)
        secured = transport.get_extra_info("ssl_object")
        if secured is not None and secured.selected_alpn_protocol() != "h2":
            transport.abort()
            raise ConnectionError("the server speaks TLS, but not HTTP/2 in it")
        return made

    def _on_lost(self, connection: ClientTransport) -> None:
        """A connection takes no further calls; those that it has may go on."""
        if connection.machine.calls and not connection.machine.failed:
            self._leaving[connection] = None
        else:
            self._leaving.pop(connection, None)
        if self._connection is connection:
            self._connection = None
            changed, self._changed = self._changed, []
            for waiter in changed:
                if not waiter.done():
                    waiter.set_result(None)

    async def until_lost(self) -> None:
        """Return when the present connection takes no further calls, at once where there is none."""
        if self._connection is not None:
            waiter = self.loop.create_future()
            self._changed.append(waiter)
            await waiter

    # ------------------------------------------------------------ the end

    async def close(self) -> None:
        """Cancel all calls and close the connection."""
        self._closed = True
        if self._loop is None:
            return
        for call in list(self._calls):
            call.cancel()
        if self._attempt is not None:
            self._attempt.cancel()
            await asyncio.wait((self._attempt,))
        connections = self._connections()
        for connection in connections:
            connection.leave()
        if connections:
            _, slow = await asyncio.wait([connection.gone for connection in connections], timeout=_FAREWELL)
            if slow:
                for connection in connections:
                    connection.abort()
                await asyncio.wait(slow)

    def __del__(self) -> None:
        # Nobody uses it any more, no call either, and nobody has closed it. Any thread may be here.
        if _fork.parent:
            _fork.keep(*self._connections())
        elif self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed already
                for connection in self._connections():
                    self._loop.call_soon_threadsafe(connection.leave)

    def _connections(self) -> list[ClientTransport]:
        present = [] if self._connection is None else [self._connection]
        return [*present, *(other for other in self._leaving if other is not self._connection)]


def _headers(head: Headers, timeout: float | None, metadata: Metadata) -> Headers:
    if timeout is not None:
        head = (*head, (b"grpc-timeout", _timeout(timeout)))
    return head + encoded(metadata) if metadata else head


def _timeout(seconds: float) -> bytes:
    """As much as eight digits can say (`grpc/doc/PROTOCOL-HTTP2.md`, "Timeout"), never less than was asked for."""
    for unit, size in ((b"u", 1e-6), (b"m", 1e-3), (b"S", 1.0), (b"M", 60.0)):
        if seconds < 99_999_999 * size:
            return b"%d%s" % (max(0, -int(-seconds // size)), unit)
    return b"99999999H"


def _words(error: Exception) -> str:
    """What was wrong, for a person."""
    if isinstance(error, socket.gaierror | ssl.SSLError) or not isinstance(error, OSError) or not error.errno:
        return str(error) or type(error).__name__
    return os.strerror(error.errno)
