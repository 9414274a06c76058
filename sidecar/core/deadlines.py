"""Things to do later, for machines that own no clock: a heap of deadlines with cancelling."""

import heapq
from collections.abc import Callable

_MANY = 64  # cancelled deadlines that are worth clearing away


class Deadline:
    """One thing to do at a time; `cancel()` makes it nothing."""

    __slots__ = ("_owner", "action")

    def __init__(self, owner: "Deadlines", action: Callable[[float], None]) -> None:
        self._owner = owner
        self.action: Callable[[float], None] | None = action

    def cancel(self) -> None:
        """Never run the action; nothing where it has run or was cancelled."""
        if self.action is not None:
            self.action = None
            self._owner._cancelled()


class Deadlines:
    """Deadlines in order of time; equal ones in the order in which they were set."""

    __slots__ = ("_dead", "_heap", "_number")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Deadline]] = []
        self._number = 0
        self._dead = 0

    def at(self, when: float, action: Callable[[float], None]) -> Deadline:
        """Call `action(now)` once `when` (monotonic seconds) has come."""
        deadline = Deadline(self, action)
        self._number += 1
        heapq.heappush(self._heap, (when, self._number, deadline))
        return deadline

    def next(self) -> float | None:
        """When the next action is due, or None."""
        heap = self._heap
        while heap and heap[0][2].action is None:
            heapq.heappop(heap)
            self._dead -= 1
        return heap[0][0] if heap else None

    def run(self, now: float) -> None:
        """Do all that is due. What an action sets for `now` itself is done in the same call."""
        while (due := self.next()) is not None and due <= now:
            deadline = heapq.heappop(self._heap)[2]
            action, deadline.action = deadline.action, None
            if action is not None:
                action(now)

    def _cancelled(self) -> None:
        """Cancelled ones leave the heap when they are the larger part of it, so that it stays as large as its use."""
        self._dead += 1
        if self._dead > _MANY and self._dead * 2 > len(self._heap):
            self._heap = [entry for entry in self._heap if entry[2].action is not None]
            heapq.heapify(self._heap)
            self._dead = 0

    def __len__(self) -> int:
        """How many are held, cancelled ones included."""
        return len(self._heap)
