"""One timer for a machine that keeps its own deadlines."""

import asyncio
import math
from collections.abc import Callable
from time import monotonic

_FAR = 5.0  # seconds; a guess: every connection has a deadline of its keep-alive, which wakes this process for nothing


class Alarm:
    """Calls `handle(now)` when `next_deadline()` is due.

    Deadlines mostly move away (every byte received postpones a keep-alive), so that a timer already set for an earlier
    moment is left alone: it looks again when it fires. That saves a cancelled timer per read.

    Moments are those of `time.monotonic` here and in the whole package: the loops' timers count from the same zero, but
    uvloop's own `time()` stands still within a turn and knows whole milliseconds only, in which a ping on loopback
    takes no time.
    """

    __slots__ = ("_due", "_handle", "_loop", "_next_deadline", "_timer")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        next_deadline: Callable[[], float | None],
        handle: Callable[[float], None],
    ) -> None:
        self._loop = loop
        self._next_deadline = next_deadline
        self._handle = handle
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0

    def arm(self) -> None:
        """Look at the deadline again; call it whenever the machine was used."""
        due = self._next_deadline()
        if due is None:
            return
        if self._timer is not None:
            if self._due <= due:
                return
            self._timer.cancel()
        self._due = due
        self._timer = self._loop.call_at(self._instant(due), self._fire)

    def _instant(self, due: float) -> float:
        """When to look: what is far away may wait for the next whole second, as all else that may (`core.beat`)."""
        return due if due - monotonic() < _FAR else math.ceil(due)

    def cancel(self) -> None:
        """Handle nothing any more, until it is armed again."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _fire(self) -> None:
        self._timer = None
        # uvloop fires up to half a millisecond early; the machine must still find its deadline passed.
        now = max(self._due, monotonic())
        due = self._next_deadline()
        if due is not None and due <= now:
            self._handle(now)
        self.arm()
