"""Whether the receivers of a topic get messages in the time that is wanted."""

from collections import deque

from ..classes import NamedTuple


class Judged(NamedTuple):
    """The receivers of one message: that had it in time, that had it late, and that owed an answer and gave none."""

    in_time: int
    late: int
    silent: int


class ProbeObjective:
    """Looks at the last messages together; nothing is said before there are so many."""

    def __init__(self, share: float, window: int) -> None:
        """`share`: of the receivers, that are to have a message in time. `window`: messages."""
        self._wanted = share
        self._last: deque[Judged] = deque(maxlen=window)
        self.missed = False
        """Whether too few had them in time."""

    @property
    def share(self) -> float:
        """Of the receivers of the last messages, those that had them in time; 1 while there are too few messages."""
        receivers = self.receivers
        if len(self._last) < (self._last.maxlen or 0) or not receivers:
            return 1.0
        return sum(judged.in_time for judged in self._last) / receivers

    @property
    def receivers(self) -> int:
        """Of the last messages, all that were judged."""
        return sum(sum(judged) for judged in self._last)

    def judge(self, judged: Judged) -> bool:
        """Add a message; whether `missed` has changed by it."""
        self._last.append(judged)
        missed = self.share < self._wanted
        changed = missed is not self.missed
        self.missed = missed
        return changed
