"""Who makes the call that is being answered."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol

from ..faults import PermissionDenied, Unauthenticated
from .tokens import Token


class Caller(Protocol):
    """Somebody who may call."""

    name: str

    def require(self, scope: str) -> None:
        """Raises PermissionDenied."""


class Everyone:
    """Who came without a token where none is asked for: allowed everything."""

    name = ""

    def require(self, scope: str) -> None:
        pass


class Holder:
    """Who came with a token."""

    def __init__(self, token: Token) -> None:
        self.token = token
        self.name = token.name
        self._calls: dict[asyncio.Task[object], None] = {}
        self._ended = ""

    def require(self, scope: str) -> None:
        if not self.token.allows(scope):
            raise PermissionDenied(f"the token {self.name} does not allow {scope}", scope)

    @property
    def busy(self) -> bool:
        return bool(self._calls)

    def end(self, reason: str) -> None:
        """The token is no more: its calls end as UNAUTHENTICATED."""
        self._ended = reason
        for task in self._calls:
            task.cancel()

    @contextmanager
    def calling(self) -> Iterator[None]:
        """While a call of this token is answered. Raises Unauthenticated when the token ends meanwhile."""
        task = asyncio.current_task()
        assert task is not None, "calls are tasks"
        self._calls[task] = None
        try:
            yield
        except asyncio.CancelledError:
            if not self._ended:
                raise
            task.uncancel()
            raise Unauthenticated(self._ended) from None
        finally:
            del self._calls[task]


EVERYONE = Everyone()
_CALLER: ContextVar[Caller | None] = ContextVar("caller", default=None)


def present() -> Caller:
    """The caller of the call that this task answers. Raises Unauthenticated where nobody looked who it is."""
    caller = _CALLER.get()
    if caller is None:
        raise Unauthenticated("nobody has looked at who calls")
    return caller


def introduce(caller: Caller) -> None:
    """From here on this task answers that caller."""
    _CALLER.set(caller)


def who() -> str:
    """The caller of the call that this task answers, as the audit log names it."""
    name = present().name
    return f"token:{name}" if name else "api"


def require(scope: str) -> None:
    """Raises PermissionDenied where the caller may not do this."""
    present().require(scope)
