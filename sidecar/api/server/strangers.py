"""Methods that are open to everybody, and the bound on their streams."""

import functools
from typing import Any

from ...core.errors import ResourceExhausted
from ..common.call import Call, Handler

MAX_STRANGERS = 256  # a guess: more than anybody who watches the health of one sidecar has


class Strangers:
    """The streams that take no token: only so many are open at once, or strangers could take every call there is."""

    def __init__(self) -> None:
        self._open = 0

    def bounded(self, handler: Handler) -> Handler:
        """Wrap a method that streams."""

        @functools.wraps(handler)
        async def bounded(request: Any, call: Call) -> Any:
            if self._open >= MAX_STRANGERS:
                raise ResourceExhausted(f"{self._open} such streams are open, at most that many")
            self._open += 1
            try:
                return await handler(request, call)
            finally:
                self._open -= 1

        return bounded
