"""How often a hole is punched between two home routers: many tries, each of a connection that was not there before.

Several sidecars run in each of two homes. A try connects one of the first home with one of the second, through the
relay; it has succeeded once both say that they are connected directly, and their apps have an answer of each other.
Then they part. Each try is of a pair that has not met before: those who have know each other's holes, which stay open
for a while, and need no relay.
"""

from collections.abc import Callable
from math import isqrt
from pathlib import Path
from typing import NamedTuple

from bench.reach.kinds import KINDS, Kind
from bench.reach.nodes import Fleet, Node
from bench.reach.places import Internet
from bench.reach.play import punch
from bench.reach.rules import PORTS

HOME = next(kind for kind in KINDS if kind.name == "home")
WANTED = 0.95  # of the tries
_MANY = {"limits-connections-per-address": "1000", "relay-server-reservations-per-address": "1000"}


class Tries(NamedTuple):
    """What came of them."""

    kind: Kind
    nodes: int
    """Of each home."""
    seconds: list[float]
    """Of those that succeeded: from the call until both were connected directly."""
    vain: list[str]
    """Why the others did not."""

    @property
    def made(self) -> int:
        return len(self.seconds) + len(self.vain)

    @property
    def holds(self) -> bool:
        """Whether enough have succeeded."""
        return len(self.seconds) >= WANTED * self.made


def nodes_for(tries: int) -> int:
    """How many sidecars there must be in each home."""
    return isqrt(tries - 1) + 1


async def punches(internet: Internet, tries: int, home: Path, say: Callable[[str], None]) -> Tries:
    """Punch so often. Raises LabFailed."""
    nodes = nodes_for(tries)
    sides = [
        [Node(f"home {name}, sidecar {port}", internet.place(HOME, number).homes[0], port) for port in PORTS[:nodes]]
        for number, name in enumerate("AB")
    ]
    result = Tries(HOME, nodes, [], [])
    async with Fleet(internet, home) as fleet:
        await fleet.start([node for side in sides for node in side], {}, _MANY)
        say(f"{2 * nodes} sidecars have their places with the relay")
        for number in range(tries):
            one, other = _pair(number, sides)
            dialler, answering = (one, other) if number % 2 == 0 else (other, one)
            took = await punch(fleet, dialler, answering)
            if isinstance(took, str):
                result.vain.append(took)
                say(f"try {number + 1}, {dialler.title} to {answering.title}: {took}")
            else:
                result.seconds.append(took)
            await fleet.part(dialler, answering)
            if (number + 1) % 10 == 0:
                say(f"{len(result.seconds)} of {number + 1} holes are punched")
    return result


def _pair(number: int, sides: list[list[Node]]) -> tuple[Node, Node]:
    """Every one of the first side with every one of the second."""
    first, second = sides
    row, turn = divmod(number, len(first))
    return first[turn], second[(turn + row) % len(second)]
