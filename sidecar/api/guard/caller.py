"""Who makes the call that is being answered."""

import asyncio
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from time import monotonic
from types import TracebackType
from typing import Protocol

from ..common.faults import PermissionDenied, Unauthenticated
from .quota import Meter
from .tokens import Token

_MAX_KNOWN = 4096  # scopes found allowed, remembered for each token; patterns are slower to look through


class Caller(Protocol):
    """Somebody who may call."""

    name: str

    def require(self, scope: str) -> None:
        """Raises PermissionDenied."""

    def count_call(self) -> None:
        """Something begins that counts as a call. Raises QuotaExceeded."""

    def holding_stream(self) -> AbstractContextManager[None]:
        """While something is open that counts as a streaming call. Raises QuotaExceeded."""


class Everyone:
    """Who came without a token where none is asked for: allowed everything."""

    name = ""

    def require(self, scope: str) -> None:
        """Nothing is refused."""

    def count_call(self) -> None:
        """Nothing is counted."""

    def holding_stream(self) -> AbstractContextManager[None]:
        """Nothing is counted."""
        return nullcontext()


class Holder:
    """Who came with a token."""

    def __init__(self, token: Token, now: float = 0.0, deadline: float | None = None) -> None:
        """`now`: monotonic seconds. `deadline`: when it expires, in seconds of a clock that nobody sets."""
        self.token = token
        self.name = token.name
        self.meter = Meter(token.name, token.quotas, now)
        self._deadline = deadline
        self._known: dict[str, None] = {}
        self._calls: dict[asyncio.Task[object], None] = {}
        self._ended = ""

    def require(self, scope: str) -> None:
        """Raises PermissionDenied where the token does not allow this."""
        if scope in self._known:
            return
        if not self.token.allows(scope):
            raise PermissionDenied(f"the token {self.name} does not allow {scope}", scope)
        if len(self._known) >= _MAX_KNOWN:
            self._known.clear()
        self._known[scope] = None

    def count_call(self) -> None:
        """Something begins that counts as a call. Raises QuotaExceeded."""
        self.meter.call(monotonic())

    @contextmanager
    def holding_stream(self) -> Iterator[None]:
        """While something is open that counts as a streaming call. Raises QuotaExceeded."""
        with self.meter.holding("open_calls", 1), self.meter.holding("streams", 1):
            yield

    def expired(self, wall: float, now: float) -> bool:
        """By either clock: the wall clock may be set back, the other does not know how it was set at the start."""
        return self.token.expired(wall) or (self._deadline is not None and now >= self._deadline)

    @property
    def busy(self) -> bool:
        """Whether calls of it are open."""
        return bool(self._calls)

    def end(self, reason: str) -> None:
        """The token is no more: its calls end as UNAUTHENTICATED."""
        self._ended = reason
        for task in self._calls:
            task.cancel()

    def calling(self) -> "_Calling":
        """While a call of this token is answered. Raises Unauthenticated when the token ends meanwhile."""
        return _Calling(self)


class _Calling:
    """A class, since each call has one, and a generator costs it a microsecond more."""

    __slots__ = ("_holder", "_task")

    def __init__(self, holder: Holder) -> None:
        self._holder = holder
        task = asyncio.current_task()
        assert task is not None, "calls are tasks"
        self._task = task

    def __enter__(self) -> None:
        self._holder._calls[self._task] = None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        del self._holder._calls[self._task]
        if isinstance(error, asyncio.CancelledError) and self._holder._ended:
            self._task.uncancel()
            raise Unauthenticated(self._holder._ended) from None


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
