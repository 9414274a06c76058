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
        self._level = min(self._burst, self._level + (now - self.at) * self._rate)
        self.at = now
        if self._level < 1:
            return False
        self._level -= 1
        return True
