"""What a process has started, by name, so that all of it ends in order."""

import contextlib
import inspect
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

_Part = TypeVar("_Part")
_log = logging.getLogger(__name__)


class Parts:
    """Ends what was started, the last first. DEBUG lines tell of each part, so that one that hangs is found."""

    def __init__(self) -> None:
        self._stack = contextlib.AsyncExitStack()

    def started(self, name: str, part: _Part, end: Callable[[_Part], Awaitable[None] | None]) -> _Part:
        """There is one more part, which is returned; `end` of it ends it."""
        _log.debug("started: %s", name)
        self._stack.push_async_callback(_end, name, part, end)
        return part

    async def end(self) -> None:
        """End all parts, whatever one of them raises; it is raised when all have ended."""
        await self._stack.aclose()


async def _end(name: str, part: _Part, end: Callable[[_Part], Awaitable[None] | None]) -> None:
    _log.debug("ending: %s", name)
    ended = end(part)
    if inspect.isawaitable(ended):
        await ended
