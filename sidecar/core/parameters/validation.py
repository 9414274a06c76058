"""How apps judge the messages of a topic: the numbers, and what becomes of what nobody judges."""

import enum

from ..classes import NamedTuple


class Fallback(enum.Enum):
    """What becomes of a message for which no app gives a verdict in time, or while no app gives any."""

    ACCEPT = "accept"  # it is passed on
    IGNORE = "ignore"  # it is not
    HOLD = "hold"  # it waits, without a deadline, as long as there is room


class ValidationSettings(NamedTuple):
    """How long messages of a topic wait for the verdicts of apps, what becomes of them then, and how many may wait."""

    timeout: float = 1.0  # seconds; a guess
    fallback: Fallback = Fallback.IGNORE  # who wants verdicts does not want what has none
    max_waiting: int = 4096  # a guess
