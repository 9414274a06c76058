"""Two sets of runs side by side: what differs, and whether so few seeds can tell."""

import json
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from ..core.classes import NamedTuple
from ..core.errors import InvalidArgument
from .report import Run
from .writing import RECORDS

# Student's t, two-sided 95 %, by degrees of freedom from 1 on; beyond, that of the normal distribution is near enough.
_T95 = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
    2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip


class Estimate(NamedTuple):
    """The mean of several runs, and how far the true one may be from it, with a confidence of 95 %."""

    mean: float
    half_width: float | None
    """None for a single run, which says nothing of it."""


class ComparedNumber(NamedTuple):
    """One figure of both sets; None where a run has no such thing."""

    name: str
    unit: str
    one: Estimate | None
    other: Estimate | None

    @property
    def ratio(self) -> float | None:
        """The other's mean as a multiple of the one's."""
        return self.other.mean / self.one.mean if self.one and self.other and self.one.mean else None

    @property
    def apart(self) -> bool | None:
        """Whether the difference is more than chance among seeds; None where there are too few to say."""
        if not self.one or not self.other or self.one.half_width is None or self.other.half_width is None:
            return None
        return abs(self.one.mean - self.other.mean) > math.hypot(self.one.half_width, self.other.half_width)


def load_runs(folder: Path) -> list[Run]:
    """The reports in a folder, or in those right below it. Raises OSError, InvalidArgument."""
    files = [folder / RECORDS] if (folder / RECORDS).exists() else sorted(folder.glob(f"*/{RECORDS}"))
    if not files:
        raise InvalidArgument(
            f"{folder}: no {RECORDS} in it or in the folders below: name what `sidecar sim run` wrote"
        )
    return [_load(file) for file in files]


def _load(file: Path) -> Run:
    try:
        run = [json.loads(line) for line in file.read_text().splitlines()]
        kinds = [record["record"] for record in run]
    except (ValueError, TypeError, KeyError):
        raise InvalidArgument(f"{file} is no report of a simulation, or damaged") from None
    if kinds[:1] != ["run"]:
        raise InvalidArgument(f"{file} is no report of a simulation: it does not begin with a run")
    return run


def first_number(kind: str, *keys: str) -> Callable[[Run], float | None]:
    """Reads a number of the first record of a kind; None where there is none."""

    def read(run: Run) -> float | None:
        value = next((record for record in run if record["record"] == kind), None)
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else None
        return value if isinstance(value, int | float) else None

    return read


def _sent(service: str) -> Callable[[Run], float | None]:
    def read(run: Run) -> float | None:
        found = [record for record in run if record["record"] == "bytes" and record["service"] == service]
        return found[0]["per_node_second"] if found else None

    return read


_FIGURES: tuple[tuple[str, str, Callable[[Run], float | None]], ...] = (
    ("deliveries missed", "", first_number("deliveries", "missed")),
    ("delay, p50", "ms", first_number("deliveries", "delay", "p50")),
    ("delay, p99", "ms", first_number("deliveries", "delay", "p99")),
    ("last receiver, p50", "ms", first_number("deliveries", "last_receiver", "p50")),
    ("last receiver, p99", "ms", first_number("deliveries", "last_receiver", "p99")),
    ("delay p99 / shortest path", "", first_number("limit", "ratio", "p99")),
    ("copies for each delivery", "", first_number("copies", "per_delivery")),
    ("gossip sent by a node", "B/s", _sent("gossip")),
    ("DHT sent by a node", "B/s", _sent("dht")),
    ("mesh links, p50", "", first_number("mesh", "p50")),
    ("connections, p50", "", first_number("connections", "p50")),
    ("connections, p99", "", first_number("connections", "p99")),
    ("DHT questions a node", "", first_number("dht", "questions_per_node")),
)


def compare(ones: Sequence[Run], others: Sequence[Run]) -> list[ComparedNumber]:
    """Every figure that either has."""
    rows = [
        ComparedNumber(name, unit, _estimate(ones, unit, read), _estimate(others, unit, read))
        for name, unit, read in _FIGURES
    ]
    return [row for row in rows if row.one or row.other]


def _estimate(runs: Sequence[Run], unit: str, read: Callable[[Run], float | None]) -> Estimate | None:
    return estimated([value * (1000 if unit == "ms" else 1) for value in map(read, runs) if value is not None])


def estimated(values: Sequence[float]) -> Estimate | None:
    """What values of several runs say of the true mean; None where there are none."""
    if not values:
        return None
    count, mean = len(values), math.fsum(values) / len(values)
    if count == 1:
        return Estimate(mean, None)
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (count - 1))
    t = _T95[count - 2] if count - 2 < len(_T95) else 1.96
    return Estimate(mean, t * deviation / math.sqrt(count))


def told(
    names: tuple[str, str], sets: tuple[Sequence[Run], Sequence[Run]], rows: Sequence[ComparedNumber]
) -> Iterator[str]:
    """The comparison for people."""
    yield from sets_told(names, sets)
    yield ""
    yield f"{'':26}{'A':>20}{'B':>20}{'B / A':>9}"
    for row in rows:
        ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
        chance = "   may be chance" if row.apart is False and row.one != row.other else ""
        one, other = number_words(row.one, row.unit), number_words(row.other, row.unit)
        yield f"{row.name:26}{one:>20}{other:>20}{ratio:>9}{chance}".rstrip()
    if any(row.apart is None for row in rows):
        yield ""
        yield "One run cannot tell chance from difference: put runs with several seeds below each folder."


def sets_told(names: tuple[str, str], sets: tuple[Sequence[Run], Sequence[Run]]) -> Iterator[str]:
    """A line for each set: what it is."""
    for letter, name, runs in zip("AB", names, sets, strict=True):
        scenarios = ", ".join(dict.fromkeys(str(run[0]["scenario"]) for run in runs))
        seeds = ", ".join(str(run[0]["seed"]) for run in runs)
        broken = sum(not run[0]["whole"] for run in runs)
        yield f"{letter}: {name}: {scenarios}, seed {seeds}" + (f"; {broken} broken off" if broken else "")


def number_words(estimate: Estimate | None, unit: str) -> str:
    """An estimate for people, with how far it may be off; `-` where there is none."""
    if estimate is None:
        return "-"
    digits = 0 if unit in ("ms", "B/s") else 2
    width = "" if estimate.half_width is None else f" +- {estimate.half_width:.{digits}f}"
    return f"{estimate.mean:.{digits}f}{width}{' ' + unit if unit else ''}"
