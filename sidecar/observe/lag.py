"""How late the event loop is: what every peer and every app waits for when something holds it up."""

import asyncio
from collections.abc import Callable

from ..core.beat import next_beat
from ..core.histogram import Histogram

_INTERVAL = 1.0  # seconds; each look wakes the process, which at rest does little else
BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class LoopLag:
    """Sets a timer again and again, and counts by how much it is late."""

    def __init__(self, interval: float = _INTERVAL, also: Callable[[], None] | None = None) -> None:
        """`also` is called each time, since the process is awake then."""
        self.delays = Histogram(BOUNDS)
        self._interval = interval
        self._also = also
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0

    def start(self) -> None:
        """Begin, on the running loop."""
        loop = asyncio.get_running_loop()
        self._due = next_beat(loop.time(), self._interval)
        self._timer = loop.call_at(self._due, self._look, loop)

    def stop(self) -> None:
        """Measure no more; what was counted stays."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        self.delays.observe(max(0.0, loop.time() - self._due))  # uvloop's timers may be half a millisecond early
        if self._also is not None:
            self._also()
        self.start()
