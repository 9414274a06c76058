"""What was observed, counted by how much it was."""

from bisect import bisect_left
from collections.abc import Sequence


class Histogram:
    """Counts observations by upper bounds; what is over the last one has a count of its own."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        """`bounds`: ascending."""
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count one; a bound counts what is equal to it."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value
