"""Which numbered messages of a link still wait for what becomes of them."""

from bisect import bisect_right
from collections.abc import Iterator
from operator import attrgetter

from ..classes import NamedTuple
from .operation import Operation

_first = attrgetter("first")


class LedgerEntry:
    """Consecutive messages `first` to `end` (exclusive) that entered together and wait until `deadline`.

    `operation` and `index` are the sender's: the batch that they belong to, and the index of `first` in it.
    """

    __slots__ = ("cost", "deadline", "end", "first", "index", "open", "operation")

    def __init__(
        self, first: int, end: int, cost: int, deadline: float, operation: Operation | None = None, index: int = 0
    ) -> None:
        self.first = first
        self.end = end
        self.cost = cost
        self.deadline = deadline
        self.operation = operation
        self.index = index
        self.open = [(first, end)]  # what still waits, in order

    def close(self, first: int, end: int) -> list[tuple[int, int]]:
        """Close what is open of `first` to `end`; returns that."""
        spans = self.open
        if len(spans) == 1 and first <= spans[0][0] and spans[0][1] <= end:
            self.open = []  # the common case: all of it at once
            return spans
        begin = stop = max(bisect_right(spans, (first, end)) - 1, 0)
        closed: list[tuple[int, int]] = []
        rest: list[tuple[int, int]] = []
        while stop < len(spans) and spans[stop][0] < end:
            low, high = spans[stop]
            stop += 1
            start, last = max(low, first), min(high, end)
            if start >= last:
                rest.append((low, high))
                continue
            closed.append((start, last))
            if low < start:
                rest.append((low, start))
            if last < high:
                rest.append((last, high))
        spans[begin:stop] = rest
        return closed


class Settled(NamedTuple):
    """What `Ledger.settle` closed: pieces of entries, how many messages these are, the cost of the entries now done."""

    pieces: list[tuple[LedgerEntry, int, int]]
    closed: int
    cost: int


class Ledger:
    """Entries in the order of their numbers, which is that of their deadlines too."""

    __slots__ = ("_entries", "cost")

    def __init__(self) -> None:
        self._entries: list[LedgerEntry] = []
        self.cost = 0  # of all entries that are not done

    def add(self, entry: LedgerEntry) -> None:
        """Its numbers follow those of the entry before."""
        self._entries.append(entry)
        self.cost += entry.cost

    def settle(self, first: int, end: int) -> Settled:
        """Close what is open of the numbers `first` to `end` (exclusive)."""
        entries = self._entries
        begin = stop = max(bisect_right(entries, first, key=_first) - 1, 0)
        pieces: list[tuple[LedgerEntry, int, int]] = []
        left: list[LedgerEntry] = []
        closed = cost = 0
        while stop < len(entries) and entries[stop].first < end:
            entry = entries[stop]
            stop += 1
            for low, high in entry.close(first, end):
                pieces.append((entry, low, high))
                closed += high - low
            if entry.open:
                left.append(entry)
            else:
                cost += entry.cost
        entries[begin:stop] = left
        self.cost -= cost
        return Settled(pieces, closed, cost)

    def __iter__(self) -> Iterator[LedgerEntry]:
        return iter(self._entries)

    def __bool__(self) -> bool:
        return bool(self._entries)
