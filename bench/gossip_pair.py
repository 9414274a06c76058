"""Two sidecars that gossip with each other, and what a message costs them."""

import contextlib
import time
from collections.abc import AsyncIterator
from typing import Self

from bench.apps import Node, multiple
from bench.ours import SidecarSubject

KINDS = {"unsigned": False, "signed": True}
"""What pairs are measured with: names, and whether messages are signed."""
_SIZE, _WINDOW = 100, 1024  # bytes; messages on the way


class GossipPair(SidecarSubject):
    """Two sidecars that gossip with each other, of which only the sidecars are measured, not their apps."""

    def __init__(self, sender: Node, receiver: Node) -> None:
        super().__init__("Python")
        self.sender, self.receiver = sender, receiver
        self.count = _WINDOW

    @classmethod
    @contextlib.asynccontextmanager
    async def started(cls, signed: bool, *flags: str) -> AsyncIterator[Self]:
        async with SidecarSubject("Python", *flags).pair() as (sender, receiver):
            pair = cls(sender, receiver)
            await pair.subscribe(sender, receiver, signed, _WINDOW // 4)
            await pair.flood(sender, receiver, _SIZE, _WINDOW, _WINDOW)  # waits for the subscription to be known
            yield pair

    async def settle(self, seconds: float) -> float:
        """Warm up; then as many messages as take about so long. Returns the rate."""
        for count in (4 * _WINDOW, 16 * _WINDOW):
            rate = await self.flood(self.sender, self.receiver, _SIZE, count, _WINDOW)
        self.count = multiple(rate * seconds, _WINDOW)
        return rate

    async def measure(self) -> tuple[float, float]:
        """CPU for a message, and the rate."""
        pids = (self.sender.pid, self.receiver.pid)
        before = cpu_ns(*pids)
        rate = await self.flood(self.sender, self.receiver, _SIZE, self.count, _WINDOW)
        return (cpu_ns(*pids) - before) / self.count / 1e3, rate


def cpu_ns(*pids: int) -> int:
    """The CPU time of processes to the nanosecond; `bench.measure` reads ticks of 10 ms, too coarse for a percent."""
    # What clock_getcpuclockid(3) returns on Linux for a process.
    return sum(time.clock_gettime_ns((~pid << 3) | 2) for pid in pids)
