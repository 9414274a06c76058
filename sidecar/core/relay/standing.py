"""What a relay's client thinks of a relay: points for what it did, which fade."""

import math

# All guesses: a relay that gave a place and carries connections is worth some refusals, and one that lied nothing.
GRANTED = 1.0  # a place, or its renewal
KEPT = 1.0  # an hour that a place was held
CARRIED = 0.5  # a connection that came in through it and was what it said
REFUSED = -1.0  # full, or not willing
SILENT = -2.0  # not reached, or no answer
LOST = -2.0  # a place that ended before its time
_MOST = 10.0
_TRUSTED = -5.0  # below it a relay is not asked for a place, unless it is configured
_HALF_LIFE = 6 * 3600.0  # seconds
_LATENCY = 2.0  # points that a second of round trip costs
_SLOWEST = 2.0  # seconds; beyond it is all the same


class RelayStanding:
    """Points from -10 to 10, halved every six hours; a stranger has 0. Times are monotonic seconds.

    Bounded, so that neither a long good life pays for a lie, nor one bad hour is held against a relay for ever.
    """

    __slots__ = ("_at", "_points")

    def __init__(self) -> None:
        self._points = 0.0
        self._at = 0.0

    def points(self, now: float) -> float:
        """What is left of them now."""
        return self._points * math.exp2(-max(0.0, now - self._at) / _HALF_LIFE)

    def add(self, points: float, now: float) -> None:
        """Something happened that is worth so much."""
        self._points = max(-_MOST, min(_MOST, self.points(now) + points))
        self._at = now

    def lied(self, now: float) -> None:
        """It broke the protocol, or showed what is not true: whatever it has done before is worth nothing."""
        self._points, self._at = -_MOST, now

    def trusted(self, now: float) -> bool:
        """Whether to ask it for a place."""
        return self.points(now) > _TRUSTED

    def worth(self, now: float, latency: float | None) -> float:
        """By what to choose among relays, the greatest first; `latency`: seconds of a round trip, where it is known."""
        return self.points(now) - _LATENCY * min(_SLOWEST, 0.0 if latency is None else latency)
