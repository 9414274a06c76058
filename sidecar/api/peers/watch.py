"""Those who watch the peers: the present ones first, then change by change."""

from collections import deque
from collections.abc import Callable
from typing import Any

from ...core.events import PeerChanged, PeerView
from ...core.override import override
from ..common.outlet import Outlet
from . import convert

_BATCH = 256  # peers or events a response; bounds its size


class PeerWatcher(Outlet):
    """A bounded queue of peer events. When it overflows they are lost, and the present state is told anew."""

    def __init__(self, limit: int, present: Callable[[], list[PeerView]], epoch_ns: int) -> None:
        """`limit`: events that wait. `present`: the connected peers as of now. `epoch_ns`: as the services have it."""
        super().__init__()
        self._limit = limit
        self._look = present
        self._epoch_ns = epoch_ns
        self._present: list[PeerView] | None = None  # what is still to be told of it
        self._stale = True  # so that it is to be told from the beginning
        self._missed = 0
        self._events: deque[PeerChanged] = deque()

    def push(self, change: PeerChanged) -> None:
        """A peer has changed."""
        if self._missed or len(self._events) >= self._limit:
            self._missed += len(self._events) + 1
            self._events.clear()
            self._stale = True
        else:
            self._events.append(change)
        self.ready.set()

    @override
    def take(self) -> Any:
        missed = 0
        if self._present is None and self._stale:
            self._stale = False
            missed, self._missed = self._missed, 0
            self._events.clear()
            self._present = self._look()
        if self._present is not None:
            part, rest = self._present[:_BATCH], self._present[_BATCH:]
            self._present = rest or None
            return convert.present(part, self._epoch_ns, missed=missed, last=not rest)
        if not self._events:
            return self.nothing()
        events = [self._events.popleft() for _ in range(min(_BATCH, len(self._events)))]
        return convert.changes(events, self._epoch_ns)
