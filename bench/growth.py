"""What the cost of a message becomes as something grows, and by which power: so that a worse exponent is seen.

    python -m bench.growth [--seconds 2] [--rounds 1] [--series topics,size] [--p2pd PATH]

Each series is measured for a few sizes of what grows. The cost is the CPU of both nodes and their apps for each message
or request. The exponent is the slope of the cost over what grows, both as logarithms: 0 where it does not matter, 1
where it costs in proportion; the first is that of the line through all, the second that of the last step, where what
is constant counts least. `make bench-growth` prints the table.
"""

import argparse
import asyncio
import contextlib
import math
import statistics
import subprocess
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from bench import page
from bench.apps import PATIENCE, AppSubject, Node, prepare, spawn_module
from bench.ours import SidecarSubject
from bench.p2pd import DaemonSubject
from bench.rows import MANY, Cell
from bench.run import app_subjects

_ROOM = (
    "--api-max-topics",
    "8192",
    "--limits-connections-per-address",
    "1000",
    "--limits-connections-per-network",
    "1000",
)


@dataclass(frozen=True, slots=True)
class Series:
    """Something that grows: its name, through which numbers, and how the cost is measured."""

    name: str
    title: str
    sizes: Sequence[int]
    measure: Callable[[AppSubject, int, float], Awaitable[Cell | None]]


async def crowded(subject: AppSubject, others: int, seconds: float) -> Cell | None:
    """Echoes on one stream while the receiver is connected to so many others, which have nothing to say."""
    if not isinstance(subject, SidecarSubject):
        return None  # the others are sidecars, and made to stay with sidecars

    class Crowded(SidecarSubject):
        async def crowd(self, stack: contextlib.AsyncExitStack, receiver: Node) -> None:
            command = ("bench.idle_peers", receiver.addresses[0], str(others), "lone")
            helper = await spawn_module(*command, stderr=subprocess.DEVNULL)
            assert helper.stdin is not None
            assert helper.stdout is not None
            stack.push_async_callback(helper.wait)
            stack.callback(helper.stdin.close)
            async with asyncio.timeout(PATIENCE + others):
                if (await helper.stdout.readline()).strip() != b"Ready":
                    raise RuntimeError("the other sidecars did not become ready")

    return await Crowded(subject.language, *_ROOM).echo(100, MANY, seconds)


SERIES: tuple[Series, ...] = (
    Series(
        "size",
        "signed gossip, bytes of a message",
        (100, 1 << 10, 16 << 10, 64 << 10, 256 << 10, 1000 << 10),
        lambda subject, size, seconds: subject.gossip(size, True, seconds),
    ),
    Series(
        "subscribers",
        "unsigned gossip 100 B, subscriptions of the receiving app",
        (1, 10, 100),
        lambda subject, count, seconds: subject.gossip(100, False, seconds, subscribers=count),
    ),
    Series(
        "topics",
        "signed gossip 100 B, topics that both apps are subscribed to",
        (1, 100, 1000, 5000),
        lambda subject, count, seconds: subject.gossip(100, True, seconds, idle_topics=count - 1),
    ),
    Series("connections", "echoes on one stream, connections of the receiving node", (10, 100, 300), crowded),
)


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Of the line through points, both sides as logarithms, by least squares."""
    return statistics.linear_regression(*zip(*[(math.log(x), math.log(y)) for x, y in points], strict=True)).slope


def line(title: str, name: str, sizes: Sequence[int], costs: Sequence[float | str | None]) -> str:
    """A row of the table: costs in microseconds, None where a subject cannot, a text for what failed."""
    known = [(size, cost) for size, cost in zip(sizes, costs, strict=True) if isinstance(cost, float) and cost > 0]
    shown = [f"{cost:,.1f} µs" if isinstance(cost, float) else cost or "-" for cost in costs]
    cells = [f"{size:,}: {cost}" for size, cost in zip(sizes, shown, strict=True)]
    exponents = f"{slope(known):.2f}, {slope(known[-2:]):.2f}" if len(known) > 1 else "-"
    return f"| {title} | {name} | {'; '.join(cells)} | {exponents} |"


async def measure(
    subjects: Sequence[AppSubject], series: Sequence[Series], rounds: int, seconds: float
) -> dict[tuple[str, str], list[float | str | None]]:
    """The medians of each series' costs for each subject, by name and subject."""
    found: dict[tuple[str, str], list[float | str | None]] = {}
    for one in series:
        for size in one.sizes:
            for subject in subjects:
                costs: list[float] = []
                outcome: float | str | None = None
                for _ in range(rounds):
                    try:
                        cell = await one.measure(subject, size, seconds)
                    except Exception as error:  # noqa: BLE001  a failure is a result, the others go on
                        outcome = f"{type(error).__name__}: {error}"
                    else:
                        costs += [cell.cpu_us] if cell is not None and cell.cpu_us is not None else []
                outcome = statistics.median(costs) if costs else outcome
                found.setdefault((one.name, subject.name), []).append(outcome)
                print(f"{one.name} {size}  {subject.name}: {outcome}", file=sys.stderr, flush=True)
    return found


def main() -> None:
    """Measure as the command line says, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement, about")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--series", default=",".join(one.name for one in SERIES))
    parser.add_argument(
        "--p2pd", default="", metavar="PATH", help="the program of go-libp2p-daemon, to be measured too"
    )
    options = parser.parse_args()
    prepare("Go")
    subjects: list[AppSubject] = [SidecarSubject("Go", *_ROOM)]
    subjects += [subject for subject in app_subjects(options.p2pd) if isinstance(subject, DaemonSubject)]
    series = [one for one in SERIES if one.name in options.series.split(",")]
    found = asyncio.run(measure(subjects, series, options.rounds, options.seconds))
    print("| what grows | | CPU for each | exponent: of all, of the last step |")
    print("|---|---|---|---|")
    for one in series:
        for subject in subjects:
            print(line(one.title, subject.name, one.sizes, found[one.name, subject.name]))
    print(f"\n{page.facts('bench.growth')}")


if __name__ == "__main__":
    main()
