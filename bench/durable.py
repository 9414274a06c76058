"""What durable messages cost: stored in batches, stored one at a time, and settled by the app at the other end.

    python -m bench.durable [--rounds 5] [--seconds 2]

Two sidecars and their apps, in Python, on this machine's disk. STORED is answered after an fsync, so beside each round
stands how long the disk takes for one: a write of 4 KiB and fdatasync, by itself. One that waits for each answer cannot
be faster than that. Messages have 100 B. The machine should be idle otherwise.
"""

import argparse
import asyncio
import contextlib
import os
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import NamedTuple

import sidecar_client
from sidecar_client import Client, Durable, SendOutcome

from bench.gossip_pair import cpu_ns
from bench.sidecars import Sidecar, start_sidecar

_PROTOCOL = "/bench/durable"
_DATA = b"x" * 100
_BATCH = 10_000  # messages of one call
_SYNCS = 200
_FLAGS = ("--durable-outbox", "1 GiB", "--durable-outbox-per-peer", "1 GiB", "--durable-inbox", "1 GiB",
          "--durable-inbox-per-peer", "1 GiB")  # fmt: skip


class Rate(NamedTuple):
    """Messages a second, and the CPU of both sidecars for each in microseconds."""

    rate: float
    cpu: float


def fsync_seconds(folder: Path) -> float:
    """The median time of a write of 4 KiB and its fdatasync."""
    found = []
    with tempfile.TemporaryFile(dir=folder) as file:
        for _ in range(_SYNCS):
            started = time.perf_counter()
            os.pwrite(file.fileno(), bytes(4096), 0)
            os.fdatasync(file.fileno())
            found.append(time.perf_counter() - started)
    return statistics.median(found)


class _Pair:
    """A sidecar that sends, one that receives, and a client of each."""

    def __init__(self, sender: Sidecar, receiver: Sidecar, client: Client, far: Client, to: str) -> None:
        self.seconds = 0.0  # for which one round stores
        self.open = 0  # messages that are not settled
        self.pids = (sender.pid, receiver.pid)
        self.folder = sender.socket.parent
        self.client, self.far, self.to = client, far, to

    async def measured(self, play: Callable[[], Awaitable[int]]) -> Rate:
        before, started = cpu_ns(*self.pids), time.monotonic()
        count = await play()
        took = time.monotonic() - started
        return Rate(count / took, (cpu_ns(*self.pids) - before) / count / 1e3)

    async def batches(self) -> int:
        """Store by `send_many` for some seconds."""
        ends, count = time.monotonic() + self.seconds, 0
        while time.monotonic() < ends:
            receipts = await self.client.send_many(self.to, _PROTOCOL, [_DATA] * _BATCH, durable=Durable())
            stored = sum(each.count for each in receipts if each.outcome is SendOutcome.STORED)
            if stored != _BATCH:
                raise RuntimeError(f"{stored} of {_BATCH} were stored: {receipts}")
            count += stored
        self.open += count
        return count

    async def singles(self) -> int:
        """Store one after the other, each awaited."""
        ends, count = time.monotonic() + self.seconds, 0
        while time.monotonic() < ends:
            receipt = await self.client.send(self.to, _PROTOCOL, _DATA, durable=Durable())
            if receipt.outcome is not SendOutcome.STORED:
                raise RuntimeError(f"not stored: {receipt}")
            count += 1
        self.open += count
        return count

    async def settled(self) -> int:
        """Receive and acknowledge all that waits."""
        count = self.open
        async with self.far.receive_durable(_PROTOCOL, max_open=1024) as messages, asyncio.TaskGroup() as settling:
            async for message in messages:
                settling.create_task(message.acknowledge())
                self.open -= 1
                if not self.open:
                    break
        return count


@contextlib.asynccontextmanager
async def _started() -> AsyncIterator[_Pair]:
    async with contextlib.AsyncExitStack() as stack:
        sender, receiver = [await start_sidecar(stack, *_FLAGS) for _ in range(2)]
        client, far = [
            await stack.enter_async_context(sidecar_client.connect(f"unix:{each.socket}"))
            for each in (sender, receiver)
        ]
        about = await far.info()
        async with far.receive_durable(_PROTOCOL):
            pass  # from now on messages of it are taken here
        await client.connect_peer(about.peer_id, addresses=about.listening_addresses)
        yield _Pair(sender, receiver, client, far, about.peer_id)


async def run(rounds: int, seconds: float) -> str:
    """The table. Each round measures the disk and the three kinds of work, one after the other."""
    syncs: list[float] = []
    async with _started() as pair:
        works = {
            "stored, one at a time": pair.singles,
            "stored, in batches": pair.batches,
            "received and settled": pair.settled,
        }
        found: dict[str, list[Rate]] = {name: [] for name in works}
        for turn in range(rounds + 1):
            pair.seconds = seconds if turn else 0.1  # the first warms up
            sync = fsync_seconds(pair.folder)
            rates = {name: await pair.measured(work) for name, work in works.items()}
            if turn:
                syncs.append(sync)
                for name, rate in rates.items():
                    found[name].append(rate)
    sync = statistics.median(syncs)
    lines = [f"one fsync: {sync * 1e3:.2f} ms, so that at most {1 / sync:,.0f} a second can be awaited one at a time"]
    for name, rates in found.items():
        rate, cpu = (statistics.median(each[place] for each in rates) for place in (0, 1))
        lowest, highest = min(each.rate for each in rates), max(each.rate for each in rates)
        lines.append(f"{name:24}{rate:10,.0f}/s [{lowest:,.0f} - {highest:,.0f}]{cpu:10.1f} us of both sidecars")
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each kind of storing in a round")
    options = parser.parse_args()
    print(asyncio.run(run(options.rounds, options.seconds)))
