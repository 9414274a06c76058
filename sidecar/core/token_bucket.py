"""How often something may happen."""


class TokenBucket:
    """Lets things through at a rate, and some at once."""

    __slots__ = ("_burst", "_level", "_rate", "at")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        """`rate`: a second."""
        self._rate = rate
        self._burst = burst
        self._level = burst
        self.at = now

    def take(self, now: float) -> bool:
        """Let one through, if there is room."""
        self._fill(now)
        if self._level < 1:
            return False
        self._level -= 1
        return True

    def spend(self, amount: float, now: float) -> None:
        """Let so many through in any case: what there is no room for is owed."""
        self._fill(now)
        self._level -= amount

    def owes(self, now: float) -> float:
        """For how many seconds nothing more is to be let through, after `spend`."""
        self._fill(now)
        return max(0.0, -self._level / self._rate)

    def _fill(self, now: float) -> None:
        self._level = min(self._burst, self._level + (now - self.at) * self._rate)
        self.at = now
