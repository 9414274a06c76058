"""How much memory a run takes, and how much there is."""

import math
import os
from pathlib import Path

from .scenario import Scenario

# Measured, in bytes, with the runs in docs/simulation.md, "What it takes".
_PROGRAM = 70_000_000
# Of a node among ten, and as much more with each tenfold, for it meets more of them:
_JOINED = 280_000  # at the moment when most have just joined
_PLACED = 140_000
_REMEMBERED = 300  # of each message, by each node: its id, and what becomes of it
_HELD = 6.0  # seconds for which a node holds the payload of a message


def needed_memory(scenario: Scenario) -> float:
    """Bytes that a run of the scenario takes, about: at the moment when it is most."""
    placed = sum(kind.count for kind in scenario.kinds if scenario.warm and kind.is_placed)
    messages = sum(
        each.count * _REMEMBERED + min(each.count, each.rate * _HELD) * each.size for each in scenario.publications
    )
    nodes = placed * _PLACED + (scenario.nodes - placed) * _JOINED
    return _PROGRAM + nodes * max(1.0, math.log10(max(1, scenario.nodes))) + scenario.nodes * messages


def fitting_nodes(scenario: Scenario, memory: float) -> int:
    """With how many nodes the same would fit into so many bytes."""
    each = (needed_memory(scenario) - _PROGRAM) / scenario.nodes
    return max(0, int((memory - _PROGRAM) / each))


def available_memory() -> float:
    """Bytes of memory that are free for the asking."""
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return float(line.split()[1]) * 1024
    except OSError:
        pass
    return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
