"""What of a topic is gone: ranges of cursors' counters, so that who comes back learns how many messages it missed."""

import struct
from collections import deque

MAX_RANGES = 1024  # remembered; of what is older, nobody knows how many there were
_BEFORE = struct.Struct(">Q")
_RANGE = struct.Struct(">QQ?")  # first and last counter, local


class Lost:
    """Messages that were there and are not any more."""

    def __init__(self, before: int = 0) -> None:
        """`before`: of what lies below this counter nothing is known."""
        self.unknown_before = before
        self._ranges: deque[tuple[int, int, bool]] = deque()

    def add(self, first: int, last: int, local: bool) -> None:
        """Messages with these counters are gone; `local`: they were published here."""
        ranges = self._ranges
        if ranges and ranges[-1][1] + 1 == first and ranges[-1][2] == local:
            ranges[-1] = (ranges[-1][0], last, local)
            return
        ranges.append((first, last, local))
        if len(ranges) > MAX_RANGES:
            self.unknown_before = max(self.unknown_before, ranges.popleft()[1])

    def merge(self, later: "Lost") -> None:
        """Add what is gone besides."""
        self.unknown_before = max(self.unknown_before, later.unknown_before)
        for each in later._ranges:
            self.add(*each)

    def count(self, after: int, until: int | None = None, *, skip_local: bool = False) -> int | None:
        """How many with counters above `after`, up to `until`, are gone; None where that is not known."""
        if after < self.unknown_before:
            return None
        return sum(
            max(0, (last if until is None else min(last, until)) - max(first, after + 1) + 1)
            for first, last, local in self._ranges
            if last > after and not (skip_local and local)
        )

    def dump(self) -> bytes:
        """As it is kept."""
        return b"".join((_BEFORE.pack(self.unknown_before), *(_RANGE.pack(*each) for each in self._ranges)))

    @classmethod
    def load(cls, data: bytes) -> "Lost":
        """As it was kept."""
        lost = cls(_BEFORE.unpack_from(data)[0])
        lost._ranges.extend(_RANGE.iter_unpack(data[_BEFORE.size :]))
        return lost
