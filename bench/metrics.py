"""What metrics cost: the sidecars' CPU for each gossiped message with them and without, and memory, in one run.

`python -m bench.metrics` (or `make bench-metrics`) takes some minutes and writes `docs/benchmarks-metrics.md`. Two
pairs of sidecars gossip in turns: one without metrics, one with, scraped every second while it does. Processes differ
a little from each other by themselves, so pairs are started anew several times. The machine should be idle.
"""

import argparse
import asyncio
import contextlib
import datetime
import os
import platform
import statistics
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

from bench.apps import Node
from bench.gossip_pair import KINDS, GossipPair
from bench.measure import resident_mb
from bench.page import processor
from bench.sidecars import Sidecar, start_sidecar

_TARGET = Path(__file__).parents[1] / "docs" / "benchmarks-metrics.md"
_METRICS = ("--metrics", "127.0.0.1:0")
_SETTLE_SECONDS = 2.0
_SCRAPE_SECONDS = 1.0


class Round(NamedTuple):
    """The sidecars' CPU for a message in microseconds, and messages a second: without metrics, then with."""

    off_cpu: float
    on_cpu: float
    off_rate: float
    on_rate: float


class _Pair(GossipPair):
    """One that may be scraped."""

    @contextlib.asynccontextmanager
    async def scraped(self) -> AsyncIterator[None]:
        """Scrape both every second meanwhile, the first time after half a second."""
        task = asyncio.create_task(_scrape(_page(self.sender), _page(self.receiver)))
        try:
            yield
        finally:
            if task.done():
                task.result()  # it ends only by an error
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


def _page(sidecar: Node) -> tuple[str, int]:
    assert isinstance(sidecar, Sidecar)
    url = next(line.split()[-1] for line in sidecar.said if line.startswith("metrics"))
    host, _, port = url.removeprefix("http://").removesuffix("/metrics").rpartition(":")
    return host, int(port)


async def scrape(host: str, port: int) -> bytes:
    """A page of metrics, as Prometheus asks for it."""
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\nAccept: application/openmetrics-text;version=1.0.0\r\n\r\n")
    page = await reader.read()
    writer.close()
    await writer.wait_closed()
    if not page.startswith(b"HTTP/1.1 200") or not page.endswith(b"# EOF\n"):
        raise RuntimeError(f"no metrics but {page[:100]!r}")
    return page


async def _scrape(*pages: tuple[str, int]) -> None:
    await asyncio.sleep(_SCRAPE_SECONDS / 2)
    while True:
        for page in pages:
            await scrape(*page)
        await asyncio.sleep(_SCRAPE_SECONDS)


async def rounds(signed: bool, pairs: int, number: int, seconds: float) -> list[Round]:
    """Interleaved rounds; which of the two begins changes from one to the next."""
    found = []
    for started in range(pairs):
        async with _Pair.started(signed) as off, _Pair.started(signed, *_METRICS) as on:
            for pair in (off, on):
                await pair.settle(seconds)
            on.count = off.count
            for turn in range(number):
                costs: dict[_Pair, tuple[float, float]] = {}
                for pair in (off, on) if (started + turn) % 2 else (on, off):
                    if pair is on:
                        async with on.scraped():
                            costs[on] = await on.measure()
                    else:
                        costs[off] = await off.measure()
                found.append(Round(costs[off][0], costs[on][0], costs[off][1], costs[on][1]))
                print(f"{'signed' if signed else 'unsigned'}: {found[-1]}", file=sys.stderr, flush=True)
    return found


async def memory(number: int) -> dict[str, list[float]]:
    """Resident memory of an idle sidecar in MB: without metrics, with them before the first scrape, and after ten."""
    found: dict[str, list[float]] = {"off": [], "on, not scraped": [], "on, scraped": []}
    for _ in range(number):
        async with contextlib.AsyncExitStack() as stack:
            off, on = await start_sidecar(stack), await start_sidecar(stack, *_METRICS)
            await asyncio.sleep(_SETTLE_SECONDS)
            found["off"].append(resident_mb([off.pid]))
            found["on, not scraped"].append(resident_mb([on.pid]))
            for _ in range(10):
                await scrape(*_page(on))
            found["on, scraped"].append(resident_mb([on.pid]))
    return found


def _spread(values: list[float], digits: int) -> str:
    """Median, and the quartiles in brackets."""
    if len(values) == 1:
        return f"{values[0]:.{digits}f}"
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def markdown(gossip: dict[str, list[Round]], resident: dict[str, list[float]], seconds: float) -> str:
    """The page."""
    count = len(next(iter(gossip.values())))
    lines = [
        "# What metrics cost",
        "",
        "Made by `make bench-metrics`; do not edit by hand.",
        "",
        "Two pairs of sidecars gossip messages of 100 B from app to app in turns, one pair without metrics, one with",
        "`metrics.listen` and scraped every second. CPU is that of the two sidecars for each message.",
        f"Medians, with quartiles in brackets, of {count} interleaved rounds of about {seconds:g} s each. Ratios are",
        "those of the rounds, with metrics / without; their spread is the machine's.",
        "",
        "| topic | CPU without | CPU with | ratio of CPU | ratio of messages a second |",
        "|---|---|---|---|---|",
    ]
    for kind, found in gossip.items():
        cells = [
            kind,
            f"{_spread([one.off_cpu for one in found], 2)} µs",
            f"{_spread([one.on_cpu for one in found], 2)} µs",
            f"**{_spread([one.on_cpu / one.off_cpu for one in found], 3)}**",
            _spread([one.on_rate / one.off_rate for one in found], 3),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "| idle sidecar, metrics | resident memory |", "|---|---|"]
    lines += [f"| {name} | {_spread(values, 1)} MB |" for name, values in resident.items()]
    python = platform.python_version()
    about = f"{processor()}, {os.cpu_count()} cores, Linux {platform.release().split('-')[0]}, Python {python}"
    lines += ["", f"Measured on {datetime.date.today()}: {about}."]
    return "\n".join(lines) + "\n"


async def run(pairs: int, number: int, seconds: float) -> str:
    gossip = {kind: await rounds(signed, pairs, number, seconds) for kind, signed in KINDS.items()}
    return markdown(gossip, await memory(pairs), seconds)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=3, help="how often sidecars are started anew")
    parser.add_argument("--rounds", type=int, default=8, help="with each of them")
    parser.add_argument("--seconds", type=float, default=1.0, help="for each side of a round")
    options = parser.parse_args()
    page = asyncio.run(run(options.pairs, options.rounds, options.seconds))
    _TARGET.write_text(page)
    print(page)
