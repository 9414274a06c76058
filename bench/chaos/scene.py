"""What a scene of chaos is: a fault, what is played under it, and what came of it."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is played."""

    seed: int = 1
    short: bool = False
    """Seconds in place of minutes: what the tests play."""
    rounds: int = 20
    messages: int = 10_000
    kills: int = 6
    """These three are of the scene `kill`."""


@dataclass(frozen=True, slots=True)
class Found:
    """What came of it."""

    seen: str
    """The figures, as a cell of the table."""
    faults: Sequence[str] = ()
    """What was promised and did not hold, a sentence each."""


class Skipped(Exception):
    """This machine cannot play the scene; a sentence."""


class Scene(NamedTuple):
    """A row of the table. `play` is given an empty folder, and leaves no process behind. It raises Skipped."""

    name: str
    fault: str
    play: Callable[[Path, Plan], Awaitable[Found]]
