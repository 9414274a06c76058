"""Virtual time: what is due next happens next, and no time passes in between."""

import heapq
from collections.abc import Callable
from typing import Any


class Clock:
    """A queue of things to do; things due at one moment happen in the order in which they were set."""

    def __init__(self) -> None:
        self.now = 0.0
        self.steps = 0
        self.stopped = False
        """Set by whoever wants `run_until` to return before its time, between two things."""
        self._number = 0
        self._queue: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []

    def at(self, when: float, action: Callable[..., None], about: tuple[Any, ...] = ()) -> None:
        """Do `action(*about)` at the moment `when`, or now if that has passed."""
        self._number += 1
        heapq.heappush(self._queue, (when if when > self.now else self.now, self._number, action, about))

    def step(self) -> bool:
        """Do the next thing; False when there is none."""
        if not self._queue:
            return False
        self.now, _, action, about = heapq.heappop(self._queue)
        self.steps += 1
        action(*about)
        return True

    def run_until(self, when: float, most: int | None = None) -> None:
        """Do all that is due up to `when`, and make that the present; or return after `most` steps before it."""
        queue, pop = self._queue, heapq.heappop
        last = None if most is None else self.steps + most
        while queue and queue[0][0] <= when:  # as `step`; a call for each of a run's millions of steps shows
            if self.stopped or self.steps == last:
                return
            self.now, _, action, about = pop(queue)
            self.steps += 1
            action(*about)
        self.now = max(self.now, when)
