"""A connection's socket: what it brings goes to the machine, each call gets a task, and what they answer goes out."""

import asyncio
import logging
from collections.abc import Mapping
from typing import Any, Protocol, cast

from ....core.classes import NamedTuple
from ....core.errors import SidecarError
from ....core.override import override
from ...common.call import Handler
from ...common.status import Code
from ...guard.gate import TokenGate
from ..schema import Method
from .call import CallEnded, CallerGone, Http2Call, Requests
from .connection import CallBegan, CallGone, ConnectionFailed, MessagesCame, ServerConnection
from .heads import RequestHead

HANDSHAKE = 10.0  # seconds until the first frame has come, as many as TLS gets before; a guess
_CHUNK = 262_144  # bytes given to the socket at once: what uvloop's reads bring at most
_UNREAD = 262_144  # bytes taken from an app that does not read itself: enough for it to cancel its calls
# Seconds in which the answer to a PING may join another write. Go's client sends one with each message that it gets, to
# measure the way: answered by itself, it would cost a request a third write, and the app another wake-up. A guess.
_PONG = 0.002
_SMALL = 4096  # bytes of a read, with which no window can have become worth telling
_log = logging.getLogger("sidecar.api.http2")
_refusals = logging.getLogger("sidecar.api.guard.gate")


class Route(NamedTuple):
    """A method, what answers it, and whether the gate looks at its callers."""

    method: Method
    handler: Handler
    guarded: bool


class Host(Protocol):
    """The server, as its connections know it."""

    routes: Mapping[bytes, Route]
    gate: TokenGate
    max_message: int
    max_calls: int
    open_calls: int


class Place(Protocol):
    """Where it connected."""

    def opened(self, connection: "ApiProtocol") -> None:
        """It is there."""

    def lost(self, connection: "ApiProtocol") -> None:
        """It is not any more."""


class ApiProtocol(asyncio.Protocol):
    """One connection of an app."""

    def __init__(self, host: Host, place: Place, peer: str) -> None:
        """`peer`: as gRPC names where it comes from."""
        self._host = host
        self._place = place
        self.peer = peer
        self.loop = asyncio.get_running_loop()
        """Kept for its calls: asking for it is a system call until Python 3.12."""
        self.heard = self.loop.time()
        """When it was heard from last, by the loop's clock."""
        self.machine = ServerConnection(host.max_message, host.max_calls, self.heard)
        self._transport: asyncio.Transport | None = None
        self._calls: dict[int, Http2Call] = {}
        self._new: list[Http2Call] = []  # begun in this turn: most have ended before a timer would be worth its while
        self._flushing = False
        self._paused = False  # the socket takes no more
        self._unread = 0  # bytes that came since
        self._deaf = False  # so many that no more are read
        self._draining: dict[int, list[tuple[int, asyncio.Future[None]]]] = {}
        self._impatience: asyncio.TimerHandle | None = None
        self._closing = False
        self._pong: asyncio.TimerHandle | None = None  # while the answer to a PING waits for company

    # ------------------------------------------------------------ the socket

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but name
        self._place.opened(self)
        self._impatience = self.loop.call_later(HANDSHAKE, self.abort)
        self._flush()

    @override
    def data_received(self, data: bytes) -> None:
        now = self.heard = self.loop.time()
        calls = self._calls
        for event in self.machine.receive_data(data, now):
            kind = type(event)
            if kind is CallBegan:
                self._begin(event.stream, event.head, now)  # type: ignore[union-attr]
            elif kind is MessagesCame:
                call = calls.get(event.stream)  # type: ignore[union-attr]
                if call is not None:
                    call.came(event.messages, event.ended)  # type: ignore[union-attr]
            elif kind is CallGone:
                call = calls.get(event.stream)  # type: ignore[union-attr]
                if call is not None:
                    self._lose(call)
                self._wake(event.stream)  # type: ignore[union-attr]
            else:
                assert isinstance(event, ConnectionFailed)
                self._fail(event.reason)
        if self._impatience is not None and self.machine.greeted:
            self._impatience.cancel()
            self._impatience = None
        if self._paused:
            self._unread += len(data)
            if self._unread > _UNREAD and not self._deaf and self._transport is not None:
                self._deaf = True
                self._transport.pause_reading()
        if self._new:
            self.loop.call_soon(self._arm)
        if self.machine.pinged and calls and len(data) < _SMALL:
            if self._pong is None:
                self._pong = self.loop.call_later(_PONG, self._flush)
        else:
            self.flush_turn()

    @override
    def eof_received(self) -> bool:
        return False  # an app that has shut down its side reads no answers

    @override
    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self._closing = True
        for timer in (self._impatience, self._pong):
            if timer is not None:
                timer.cancel()
        for call in self._calls.values():
            self._lose(call)
        for stream in list(self._draining):
            self._wake(stream)
        self._place.lost(self)

    @override
    def pause_writing(self) -> None:
        self._paused = True
        self._unread = 0

    @override
    def resume_writing(self) -> None:
        self._paused = False
        if self._deaf and self._transport is not None:
            self._deaf = False
            self._transport.resume_reading()
        self._flush()

    def abort(self) -> None:
        """Close it now, whatever waits."""
        if self._transport is not None:
            self._transport.abort()

    def _fail(self, reason: str) -> None:
        _log.warning("closed an API connection from %s: %s", self.peer, reason)
        for call in self._calls.values():
            self._lose(call)

    def _lose(self, call: Http2Call) -> None:
        if not call.gone:
            call.gone = True
            call.cancel()

    # ------------------------------------------------------------ out

    def flush_soon(self) -> None:
        """Send what the machine has: at once for a call that is alone, for nothing else can join its write."""
        if len(self._calls) == 1:
            self._flush()
        else:
            self.flush_turn()

    def flush_turn(self) -> None:
        """Send what the machine has, behind what else happens in this turn: one write for all of it."""
        if not self._flushing:
            self._flushing = True
            self.loop.call_soon(self._on_turn)

    def _on_turn(self) -> None:
        self._flushing = False
        self._flush()

    def _flush(self) -> None:
        if self._pong is not None:
            self._pong.cancel()
            self._pong = None
        transport = self._transport
        if transport is None or self._closing:
            return
        machine = self.machine
        while not self._paused:
            data = machine.data_to_send(_CHUNK)
            if not data:
                break
            transport.write(data)
        if self._draining:
            for stream, waiting in list(self._draining.items()):
                left = machine.waiting(stream)
                for at_most, waiter in waiting:
                    if left <= at_most and not waiter.done():
                        waiter.set_result(None)
        if machine.over and not self._paused:
            self._closing = True
            transport.close()

    async def drained(self, stream: int, at_most: int) -> None:
        """Return when no more bytes of the stream wait than these, or it has ended."""
        if self.machine.waiting(stream) <= at_most:
            return  # they went out at once
        waiter = self.loop.create_future()
        entry = (at_most, waiter)
        self._draining.setdefault(stream, []).append(entry)
        try:
            await waiter
        finally:
            waiting = self._draining[stream]
            waiting.remove(entry)
            if not waiting:
                del self._draining[stream]

    def _wake(self, stream: int) -> None:
        for _, waiter in self._draining.get(stream, ()):
            if not waiter.done():
                waiter.set_result(None)

    # ------------------------------------------------------------ calls

    def _begin(self, stream: int, head: RequestHead, now: float) -> None:
        host = self._host
        call = Http2Call(self, stream, head, now)
        route = host.routes.get(head.path)
        if route is None:
            call.end(Code.UNIMPLEMENTED, f"there is no method {head.path[:256].decode('latin-1')}")
            return
        if host.open_calls >= host.max_calls:
            call.end(Code.RESOURCE_EXHAUSTED, f"{host.open_calls} calls are open, at most that many")
            return
        host.open_calls += 1
        self._calls[stream] = call
        if call.deadline is not None:
            self._new.append(call)
        call.task = self.loop.create_task(self._answer(stream, call, route), name=route.method.name)

    def _arm(self) -> None:
        for call in self._new:
            if call.deadline is not None and call.task is not None and not call.task.done():
                call.timer = self.loop.call_at(call.deadline, call.expire)
        self._new.clear()

    async def _answer(self, stream: int, call: Http2Call, route: Route) -> None:
        host = self._host
        method = route.method
        try:
            call.check()
            if route.guarded:
                await self._admit(call)
            request: Any
            if method.client_streaming:
                request = Requests(call, method.parse)
            else:
                message = await call.message()
                if message is None:
                    call.end(Code.UNIMPLEMENTED, f"{method.name} takes one request, and none came")
                    return
                request = method.parse(message)
            response = await route.handler(request, call)
            if call.gone:
                return
            if method.server_streaming:
                call.succeed()
            else:
                call.answer(response)
            await call.drained()
        except (CallEnded, CallerGone):
            pass
        except asyncio.CancelledError:
            if call.gone:
                return
            if call.expired:
                call.end(Code.DEADLINE_EXCEEDED, "the call's deadline has passed")
            elif call.stopped:
                call.end(Code.UNAVAILABLE, "the sidecar is stopping")
            else:
                call.abandon()
        except Exception:  # noqa: BLE001 - a task boundary: `answered` has taken what services raise
            _log.exception("answering %s failed", method.name)
            call.end(Code.INTERNAL, "internal error; the sidecar's log has it")
        finally:
            host.open_calls -= 1
            del self._calls[stream]
            if call.timer is not None:
                call.timer.cancel()

    async def _admit(self, call: Http2Call) -> None:
        """Let the gate look who calls, before the first message is read. Raises CallEnded."""
        try:
            self._host.gate.admit(call.metadata)
        except SidecarError as error:
            _refusals.warning("refused a call from %s: %s", self.peer, error)
            await call.fail(error)

    # ------------------------------------------------------------ the end

    def end(self) -> None:
        """Take no further calls, and close once those that are open have ended."""
        self.machine.end()
        self.flush_turn()

    def stop(self) -> None:
        """End the calls that are open."""
        for call in list(self._calls.values()):
            if not call.gone:
                call.stopped = True
                call.cancel()

    def ask(self) -> None:
        """Ask for a sign of life."""
        self.machine.ping()
        self.flush_turn()
