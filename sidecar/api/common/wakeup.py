"""Waking the one task that waits for a queue."""

import asyncio


class Wakeup:
    """Set by whoever adds something, awaited by the one task that takes it; setting twice wakes once."""

    __slots__ = ("_loop", "_set", "_waiter")

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None  # asking for it is a system call until Python 3.12
        self._set = False
        self._waiter: asyncio.Future[None] | None = None

    def set(self) -> None:
        """There is something."""
        self._set = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def wait(self) -> None:
        """Return once it is set, and clear it."""
        while not self._set:
            loop = self._loop = self._loop or asyncio.get_running_loop()
            self._waiter = loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        self._set = False
