"""What an operation of the node tells before it ends."""

from collections import deque
from typing import Any

from ...core.errors import SidecarError
from ...core.override import override
from .outlet import Outlet


class OperationNews(Outlet):
    """What one such operation has told and its reader has not taken."""

    def __init__(self, *, newest: bool = False) -> None:
        """`newest`: only the last news counts. Else all are kept; the node bounds how many an operation has."""
        super().__init__()
        self._news: deque[Any] = deque(maxlen=1 if newest else None)

    def push(self, news: object) -> None:
        """The operation tells something."""
        self._news.append(news)
        self.ready.set()

    def complete(self, result: object) -> None:
        """The operation ended."""
        if isinstance(result, SidecarError):
            self.end(result)
        else:
            self.finish()

    @override
    def take(self) -> Any:
        return self._news.popleft() if self._news else self.nothing()
