"""The instants at which this process does what may wait a little: together, so that it wakes up once for all of it.

At rest most of the cost is waking up. So looks that come again and again, each by a timer of its own, are due at whole
multiples of their intervals on the one clock that they share, as round_jiffies() has it in the Linux kernel.
"""

import math

_EARLY = 1e-6  # seconds before a beat that count as the beat: clocks and multiples are inexact


def next_beat(now: float, interval: float) -> float:
    """The first multiple of `interval` after `now`, both in seconds of one clock; `now` where the interval is 0."""
    return (math.floor((now + _EARLY) / interval) + 1) * interval if interval else now
