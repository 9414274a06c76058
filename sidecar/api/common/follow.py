"""Operations of the node that tell something before they end."""

import asyncio
from collections import deque
from typing import Any

from ...core.errors import SidecarError


class Follower:
    """What one such operation has told and its reader has not taken.

    `newest`: only the last news counts. Else all are kept; the node bounds how many an operation has.
    """

    def __init__(self, *, newest: bool = False) -> None:
        self._news: deque[Any] = deque(maxlen=1 if newest else None)
        self._ready = asyncio.Event()
        self._error: SidecarError | None = None
        self._done = False

    def push(self, news: object) -> None:
        """The operation tells something."""
        self._news.append(news)
        self._ready.set()

    def complete(self, result: object) -> None:
        """The operation ended."""
        self._done = True
        self._error = result if isinstance(result, SidecarError) else None
        self._ready.set()

    def end(self, error: SidecarError) -> None:
        """Give what is there, then raise the error."""
        self.complete(error)

    @property
    def done(self) -> bool:
        return self._done

    async def next(self) -> Any:
        """The next news; None after the last. Raises the error that the operation ended with."""
        while not self._news:
            if self._error is not None:
                raise self._error
            if self._done:
                return None
            self._ready.clear()
            await self._ready.wait()
        return self._news.popleft()
