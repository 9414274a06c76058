"""A time that is measured again and again, and how much it varies."""


class Smoothed:
    """Mean and mean deviation in seconds, smoothed as the round trips of TCP are (RFC 6298)."""

    __slots__ = ("_deviation", "_value")

    def __init__(self) -> None:
        self._value = self._deviation = -1.0  # nothing measured

    def note(self, seconds: float) -> None:
        """Take one more measurement in."""
        if self._value < 0:
            self._value, self._deviation = seconds, seconds / 2
        else:
            self._deviation += (abs(seconds - self._value) - self._deviation) / 4
            self._value += (seconds - self._value) / 8

    def bound(self, unknown: float) -> float:
        """What it hardly ever exceeds: four mean deviations above the mean; `unknown` before the first measurement."""
        return self._value + 4 * self._deviation if self._value >= 0 else unknown
