"""What is measured: how many nodes, who is connected to whom, how far apart, and how much is sent."""

import random
from collections.abc import Sequence
from typing import NamedTuple

TOPIC = "probes"
MARK = b"truth"  # what an app's message begins with; its number follows
NUMBER = 4  # bytes of it
SETTINGS = {"peers.target": "0", "dht.mode": "client", "gossip.degree": "6", "gossip.degree_low": "6"}
"""Of every node, real or simulated: only the connections that are given, none sought; and all of them in the mesh."""


class Plan(NamedTuple):
    """Seconds and bytes."""

    nodes: int = 20
    steps: tuple[int, ...] = (1, 4, 9)
    """Node n is connected to n + each of these: each has twice as many connections, and messages take several hops."""
    least: float = 0.05
    most: float = 0.15
    """One way between two nodes: drawn evenly for each pair, the same in both directions."""
    rounds: int = 10
    """Each with another publisher."""
    messages: int = 100
    """Of apps in each round, and as many of probes."""
    interval: float = 0.5
    size: int = 512
    """Bytes of every payload."""
    seed: int = 1

    def delays(self) -> list[list[float]]:
        """One way from each to each."""
        rng = random.Random(f"{self.seed}/delays")
        delays = [[0.0] * self.nodes for _ in range(self.nodes)]
        for one in range(self.nodes):
            for other in range(one + 1, self.nodes):
                delays[one][other] = delays[other][one] = rng.uniform(self.least, self.most)
        return delays

    def pairs(self) -> list[tuple[int, int]]:
        """Who connects to whom."""
        return [(node, (node + step) % self.nodes) for step in self.steps for node in range(self.nodes)]

    def publishers(self) -> list[int]:
        """Of each round; as different as can be."""
        order = random.Random(f"{self.seed}/publishers").sample(range(self.nodes), self.nodes)
        return [order[number % self.nodes] for number in range(self.rounds)]

    def payload(self, number: int) -> bytes:
        """Of an app's message."""
        return (MARK + number.to_bytes(NUMBER, "big")).ljust(self.size, b".")


def number_of(payload: bytes) -> int | None:
    """Which message of an app this is."""
    return int.from_bytes(payload[len(MARK) :][:NUMBER], "big") if payload.startswith(MARK) else None


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that so large a share does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
