"""What a check found."""

import enum

from ..core.classes import NamedTuple


class Level(enum.Enum):
    """How bad it is."""

    OK = "ok"
    SKIPPED = "skipped"  # it could not be looked at, for the reason said
    WARNING = "warning"  # works, or may work, but not as well as it could
    PROBLEM = "problem"  # does not work


class Finding(NamedTuple):
    """One result of one check."""

    check: str
    level: Level
    message: str
    """What was found, a sentence with the numbers in it."""
    remedy: str = ""
    """What to do about it; empty when it is fine."""


def ok(check: str, message: str) -> Finding:
    """All is well; `message` says what was seen."""
    return Finding(check, Level.OK, message)


def skipped(check: str, message: str) -> Finding:
    """The check could not be made; `message` says why."""
    return Finding(check, Level.SKIPPED, message)


def warning(check: str, message: str, remedy: str) -> Finding:
    """It works, but not as well or as safely as it might; `remedy` is a sentence."""
    return Finding(check, Level.WARNING, message, remedy)


def problem(check: str, message: str, remedy: str) -> Finding:
    """It does not work; `remedy` is a sentence that says what to do."""
    return Finding(check, Level.PROBLEM, message, remedy)
