"""Watchers: of peers, event by event, and of readiness, where only the newest counts."""

from collections import deque

from ...core.errors import SidecarError
from ...core.events import PeerChanged
from .wakeup import Wakeup

_BATCH = 256  # events a response; bounds its size


class Watcher:
    """What every watcher has: something wakes it, something ends it."""

    def __init__(self) -> None:
        self.ready = Wakeup()
        self._end: SidecarError | None = None

    def end(self, error: SidecarError) -> None:
        self._end = self._end or error
        self.ready.set()

    def check(self) -> None:
        """Raises the error with which the stream ends."""
        if self._end is not None:
            raise self._end


class PeerWatcher(Watcher):
    """A bounded queue of peer events. When it overflows they are lost, and the present state is to be told anew."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self._limit = limit
        self._events: deque[PeerChanged] = deque()
        self._missed = 0

    def push(self, change: PeerChanged) -> None:
        if self._missed or len(self._events) >= self._limit:
            self._missed += len(self._events) + 1
            self._events.clear()
        else:
            self._events.append(change)
        self.ready.set()

    @property
    def lagging(self) -> bool:
        """Whether events were lost, so that the present state is to be told anew."""
        return self._missed > 0

    def restart(self) -> int:
        """Begin with the present state, to be read in this same turn; returns how many events were lost before."""
        missed, self._missed = self._missed, 0
        self._events.clear()
        return missed

    def take(self) -> list[PeerChanged]:
        """The next events, in order."""
        return [self._events.popleft() for _ in range(min(_BATCH, len(self._events)))]
