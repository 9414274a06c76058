"""Bytes that wait in this process for sockets to take them, over all connections."""

import asyncio
from time import monotonic

from ..core.errors import ResourceExhausted
from .connection import Connection


class Backlog:
    """Keeps the sum below its bound, and has connections looked at that may have stalled."""

    __slots__ = ("_interval", "_limit", "_loop", "_relief", "_timer", "_waiting", "total")

    def __init__(self, loop: asyncio.AbstractEventLoop, limit: int, interval: float) -> None:
        """`limit`: bytes in all. `interval`: seconds between looks at the connections that bytes wait for."""
        self._loop = loop
        self._interval = interval
        self._limit = limit
        self._waiting: dict[Connection, None] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._relief: asyncio.Handle | None = None
        self.total = 0

    def account(self, connection: Connection, change: int) -> None:
        """What waits for `connection` has changed, and its `buffered` with it."""
        self.total += change
        if not connection.buffered:
            self._waiting.pop(connection, None)
            return
        self._waiting[connection] = None
        if self._timer is None:
            self._timer = self._loop.call_later(self._interval, self._look)
        if self.total > self._limit and self._relief is None:
            self._relief = self._loop.call_soon(self._relieve)

    def close(self) -> None:
        """Look at nothing any more."""
        for handle in (self._timer, self._relief):
            if handle is not None:
                handle.cancel()

    def _look(self) -> None:
        self._timer = None
        self._measure()
        if self._waiting and self._timer is None:
            self._timer = self._loop.call_later(self._interval, self._look)

    def _measure(self) -> None:
        now = monotonic()
        for connection in list(self._waiting):
            connection.check(now)

    def _relieve(self) -> None:
        self._relief = None
        self._measure()  # nobody has told us what the kernel took since the last write
        while self.total > self._limit and self._waiting:
            worst = max(self._waiting, key=lambda connection: connection.buffered)
            waits = f"{self.total} bytes wait in all, at most {self._limit}"
            worst.abort(ResourceExhausted(f"{waits}; {worst.buffered} of them here"))
