"""A connection's socket: what calls write goes out, and what it brings goes to them."""

import asyncio
from collections.abc import Callable
from typing import cast

from .binding import Violation
from .connection import ClientConnection

_CHUNK = 262_144  # bytes given to the socket at once
LOST = "the connection was lost"


class ClientTransport(asyncio.Protocol):
    """One connection to a sidecar."""

    def __init__(self, lost: "Callable[[], Callable[[ClientTransport], None] | None]") -> None:
        """`lost`: gives whoever is to be told when it takes no further calls."""
        self.machine = ClientConnection()
        self._loop = loop = asyncio.get_running_loop()
        self.greeted: asyncio.Future[None] = loop.create_future()
        """Whether the server has shown that it speaks HTTP/2; an OSError says why it has not."""
        self.gone: asyncio.Future[None] = loop.create_future()
        """The socket is closed."""
        self._lost = lost
        self._transport: asyncio.Transport | None = None
        self._reason = LOST
        self._flushing = False
        self._paused = False  # the socket takes no more
        self._closing = False
        self._draining: dict[int, list[tuple[int, asyncio.Future[None]]]] = {}

    # ------------------------------------------------------------ the socket

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is there."""
        self._transport = cast(asyncio.Transport, transport)
        self._flush()

    def data_received(self, data: bytes) -> None:
        """Tell the calls."""
        machine = self.machine
        try:
            machine.receive_data(data)
        except Violation as error:
            self._break(str(error))
            return
        if machine.greeted and not self.greeted.done():
            self.greeted.set_result(None)
        if self._draining:
            self._look_who_is_drained()
        if machine.leaving:
            self._tell()
        if machine.wants_write or machine.over or machine.broken:
            self.flush_turn()

    def eof_received(self) -> bool:
        """The server says nothing more: the end."""
        return False

    def connection_lost(self, error: Exception | None) -> None:
        """Tell the calls, and whoever waits for it."""
        self._transport = None
        if error is not None and self._reason is LOST:
            self._reason = str(error) or LOST
        if not self.greeted.done():
            self.greeted.set_exception(error if isinstance(error, OSError) else ConnectionError(self._reason))
            self.greeted.exception()  # perhaps nobody asks
        self._lose()
        if not self.gone.done():
            self.gone.set_result(None)

    def _tell(self) -> None:
        lost = self._lost()
        if lost is not None:
            lost(self)

    def _lose(self) -> None:
        if not self.machine.failed:
            self.machine.lose(self._reason)
            for waiting in self._draining.values():
                _wake(waiting)
            self._tell()

    def _break(self, reason: str) -> None:
        self._reason = f"the server broke HTTP/2: {reason}"
        if self._transport is not None:
            self._transport.abort()
        self._lose()

    def pause_writing(self) -> None:
        """The socket takes no more."""
        self._paused = True

    def resume_writing(self) -> None:
        """It does again."""
        self._paused = False
        self._flush()

    # ------------------------------------------------------------ out

    def flush_soon(self) -> None:
        """Send what the machine has: at once for a call that is alone, for nothing else can join its write."""
        if self.machine.calls == 1 and not self._flushing:
            self._flush()
        else:
            self.flush_turn()

    def flush_turn(self) -> None:
        """Send what the machine has, behind what else happens in this turn: one write for all of it."""
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._on_turn)

    def _on_turn(self) -> None:
        self._flushing = False
        self._flush()

    def _flush(self) -> None:
        transport = self._transport
        machine = self.machine
        if transport is None or self._closing or machine.failed:
            return
        while not self._paused:
            try:
                data = machine.data_to_send(_CHUNK)
            except Violation as error:
                self._break(str(error))
                return
            if not data:
                break
            transport.write(data)
        if self._draining:
            self._look_who_is_drained()
        if machine.broken:
            self._break("it ended amid calls")
        elif machine.over and not self._paused:
            self._closing = True
            transport.close()

    def _look_who_is_drained(self) -> None:
        for stream, waiting in self._draining.items():
            left = self.machine.waiting(stream)
            for at_most, waiter in waiting:
                if left <= at_most and not waiter.done():
                    waiter.set_result(None)

    async def drained(self, stream: int, at_most: int) -> None:
        """Return when no more bytes of the stream wait than these, or it has ended."""
        if self.machine.waiting(stream) <= at_most:
            return  # they went out at once
        waiter = self._loop.create_future()
        entry = (at_most, waiter)
        self._draining.setdefault(stream, []).append(entry)
        try:
            await waiter
        finally:
            waiting = self._draining[stream]
            waiting.remove(entry)
            if not waiting:
                del self._draining[stream]

    # ------------------------------------------------------------ the end

    def leave(self) -> None:
        """Close it once what waits is out; no call of it is open."""
        self.machine.end()
        self._flush()

    def abort(self) -> None:
        """Close it now."""
        if self._transport is not None:
            self._transport.abort()


def _wake(waiting: list[tuple[int, asyncio.Future[None]]]) -> None:
    for _, waiter in waiting:
        if not waiter.done():
            waiter.set_result(None)
