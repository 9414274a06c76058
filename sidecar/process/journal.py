"""What the log said lately, kept for those who watch it from elsewhere."""

from collections import deque
from collections.abc import Callable, Mapping
from threading import Lock

from ..core.classes import NamedTuple

_LIMIT = 1000  # records


class JournalEntry(NamedTuple):
    """A record of the log. `time` is in Unix seconds, `severity` in small letters, `part` as lines name it."""

    time: float
    severity: str
    part: str
    message: str
    fields: Mapping[str, str]


class Journal:
    """The newest entries, at most `limit`. Entries come from any thread; each has a number, and readers a position."""

    def __init__(self, limit: int = _LIMIT) -> None:
        self._entries: deque[JournalEntry] = deque(maxlen=limit)
        self._total = 0  # entries ever: the number of the next
        self._watchers: dict[Callable[[], None], None] = {}
        self._lock = Lock()

    def append(self, entry: JournalEntry) -> None:
        """Add an entry, which pushes out the oldest where `limit` is reached, and tell those who watch."""
        with self._lock:
            self._entries.append(entry)
            self._total += 1
            watchers = list(self._watchers)
        for told in watchers:
            told()

    def since(self, position: int, most: int) -> tuple[list[JournalEntry], int, int]:
        """At most so many entries from `position` on, the position behind them, and how many were missed before."""
        with self._lock:
            oldest = self._total - len(self._entries)
            start = max(position, oldest)
            first = start - oldest
            entries = [self._entries[index] for index in range(first, min(first + most, len(self._entries)))]
        return entries, start + len(entries), max(0, oldest - position)

    @property
    def oldest(self) -> int:
        """The position of the oldest entry."""
        return self._total - len(self._entries)

    def watch(self, told: Callable[[], None]) -> None:
        """Call `told` after each entry, on the entry's own thread, until `unwatch`."""
        with self._lock:
            self._watchers[told] = None

    def unwatch(self, told: Callable[[], None]) -> None:
        """Call `told` no more."""
        with self._lock:
            self._watchers.pop(told, None)
