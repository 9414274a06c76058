"""Virtual time: what is due next happens next, and no time passes in between."""

import heapq
from collections.abc import Callable
from typing import Any

_SLOTS = 256  # in a second: a guess: of what thousands of nodes do, some hundred things are due in each
_Entry = tuple[float, int, Callable[..., None], tuple[Any, ...]]


class Clock:
    """A queue of things to do; things due at one moment happen in the order in which they were set.

    Only what is due in the slot of time that has come is kept in order; what is due later is laid aside by its slot.
    One queue of all that thousands of nodes have to do took a twelfth of a simulation's time.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self.steps = 0
        self.stopped = False
        """Set by whoever wants `run_until` to return before its time, between two things."""
        self._number = 0
        self._soon: list[_Entry] = []  # a heap: all that is due in the slot that has come, and before it
        self._slot = 0
        self._later: dict[int, list[_Entry]] = {}
        self._slots: list[int] = []  # a heap: those in which something is due later

    def at(self, when: float, action: Callable[..., None], about: tuple[Any, ...] = ()) -> None:
        """Do `action(*about)` at the moment `when`, or now if that has passed."""
        self._number += 1
        entry = (when if when > self.now else self.now, self._number, action, about)
        slot = int(when * _SLOTS)
        if slot <= self._slot:
            heapq.heappush(self._soon, entry)
        elif slot in self._later:
            self._later[slot].append(entry)
        else:
            self._later[slot] = [entry]
            heapq.heappush(self._slots, slot)

    def _next(self) -> list[_Entry]:
        """What is due soonest, as a heap; empty when nothing is."""
        if not self._soon and self._slots:
            self._slot = heapq.heappop(self._slots)
            self._soon = self._later.pop(self._slot)
            heapq.heapify(self._soon)
        return self._soon

    def step(self) -> bool:
        """Do the next thing; False when there is none."""
        soon = self._next()
        if not soon:
            return False
        self.now, _, action, about = heapq.heappop(soon)
        self.steps += 1
        action(*about)
        return True

    def run_until(self, when: float, most: int | None = None) -> None:
        """Do all that is due up to `when`, and make that the present; or return after `most` steps before it."""
        soon, pop = self._next(), heapq.heappop
        last = None if most is None else self.steps + most
        while soon and soon[0][0] <= when:  # as `step`; a call for each of a run's millions of steps shows
            if self.stopped or self.steps == last:
                return
            self.now, _, action, about = pop(soon)
            self.steps += 1
            action(*about)
            if not soon:
                soon = self._next()
        self.now = max(self.now, when)
