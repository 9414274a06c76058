"""Combinations of settings beside each other: what each costs and brings, and which no other one beats in both."""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ..core.classes import NamedTuple
from ..core.errors import ConfigError
from .compare import Estimate, estimated, first_number
from .report import Record, Run
from .settings import Assignment, shown

MAX_RUNS = 1000  # of a sweep; a guess: a day of two cores for a hundred nodes
Settings = tuple[Assignment, ...]


def sent(run: Run) -> float | None:
    """Bytes of payload that a node sent in a second, of all services together."""
    rates = [record["per_node_second"] for record in run if record["record"] == "bytes"]
    return math.fsum(rates) if rates and None not in rates else None


MISSED = "missed"
P99, BANDWIDTH, COPIES = "delay_p99", "bytes_per_node_second", "copies"
_FIGURES: dict[str, tuple[str, str, Callable[[Run], float | None]]] = {
    "delay_p50": ("delay p50", "ms", first_number("deliveries", "delay", "p50")),
    P99: ("delay p99", "ms", first_number("deliveries", "delay", "p99")),
    "last_receiver_p99": ("last one p99", "ms", first_number("deliveries", "last_receiver", "p99")),
    COPIES: ("copies", "", first_number("copies", "per_delivery")),
    BANDWIDTH: ("sent", "B/s", sent),
    MISSED: ("missed", "", first_number("deliveries", "missed")),
}


class Combination(NamedTuple):
    """What came of one combination of settings, over the seeds that were played to their end."""

    number: int
    settings: Settings
    seeds: tuple[int, ...]
    figures: dict[str, Estimate]
    """By name; times in seconds. None is there that the runs do not have, such as delays where nothing arrived."""
    values: dict[str, tuple[float, ...]]
    """The same of each seed."""

    @property
    def complete(self) -> bool:
        """Whether every delivery that was owed arrived, with all seeds."""
        return bool(self.values.get(MISSED)) and not any(self.values[MISSED])


def combinations(ranges: Sequence[tuple[str, Sequence[Any]]], seeds: int) -> list[Settings]:
    """The cross product, the last key's values changing fastest. Raises ConfigError where that are too many runs."""
    count = math.prod(len(values) for _, values in ranges)
    if count * seeds > MAX_RUNS:
        each = f" with {seeds} seeds each" if seeds > 1 else ""
        raise ConfigError(f"--set: {_many(count)}{each} would be {count * seeds} runs; at most {MAX_RUNS} are played")
    return list(itertools.product(*([Assignment(key, value) for value in values] for key, values in ranges)))


def _many(count: int) -> str:
    return f"{count} combination{'' if count == 1 else 's'}"


def combined(number: int, settings: Settings, runs: Sequence[Run]) -> Combination:
    """What the runs say; those that were broken off say nothing."""
    whole = [run for run in runs if run[0]["whole"]]
    values: dict[str, tuple[float, ...]] = {}
    for name, (_, _, read) in _FIGURES.items():
        found = tuple(value for run in whole if (value := read(run)) is not None)
        if found:
            values[name] = found
    figures = {name: estimate for name, found in values.items() if (estimate := estimated(found)) is not None}
    return Combination(number, settings, tuple(run[0]["seed"] for run in whole), figures, values)


def front(found: Sequence[Combination]) -> list[Combination]:
    """Those that none of the others beats by a shorter delay (p99) without sending more; they missed no message."""
    able = [each for each in found if each.complete and P99 in each.figures and BANDWIDTH in each.figures]
    able.sort(key=lambda each: (each.figures[BANDWIDTH].mean, each.figures[P99].mean, each.number))
    best: list[Combination] = []
    for each in able:
        if not best or each.figures[P99].mean < best[-1].figures[P99].mean:
            best.append(each)
    return best


# ---------------------------------------------------------------- telling


def sweep_records(name: str, found: Sequence[Combination], planned: int) -> Iterator[Record]:
    """The sweep for programs: of how many combinations something is known, and all of these."""
    best = front(found)
    yield {"record": "sweep", "scenario": name, "combinations": planned, "played": len(found)}
    for each in found:
        yield {**combination_record(each), "front": each in best}


def combination_record(found: Combination) -> Record:
    """One combination for programs."""
    return {
        "record": "combination",
        "number": found.number,
        "settings": dict(found.settings),
        "seeds": list(found.seeds),
        **{name: _rounded(estimate) for name, estimate in found.figures.items()},
    }


def _rounded(estimate: Estimate) -> Record:
    width = estimate.half_width
    return {"mean": round(estimate.mean, 6), "half_width": None if width is None else round(width, 6)}


def sweep_rows(found: Sequence[Combination]) -> list[list[str]]:
    """Rows of cells, the first one the heads: settings, figures, and `front` behind those that are on it."""
    best = front(found)
    keys = list(dict.fromkeys(setting.key for each in found for setting in each.settings))
    rows = [["", *keys, *(head for head, _, _ in _FIGURES.values()), ""]]
    for each in found:
        chosen = dict(each.settings)
        cells = [_cell(each.figures.get(name), unit) for name, (_, unit, _) in _FIGURES.items()]
        values = [shown(chosen[key]) if key in chosen else "" for key in keys]
        rows.append([str(each.number), *values, *cells, "front" if each in best else ""])
    return rows


def sweep_told(name: str, found: Sequence[Combination], planned: int) -> Iterator[str]:
    """The sweep for people."""
    seeds = max((len(each.seeds) for each in found), default=0)
    of = "" if len(found) == planned else f"{len(found)} of "
    yield f"{name}: {of}{_many(planned)}, {seeds} {'seed' if seeds == 1 else 'seeds'} each"
    yield ""
    if found:
        rows = sweep_rows(found)
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        for row in rows:
            cells = (cell.rjust(width) for cell, width in zip(row[:-1], widths, strict=False))
            yield ("  ".join(cells) + "  " + row[-1]).rstrip()
        yield ""
        yield "front: none of the others is faster (delay p99) without sending more. Who missed messages is not on it."


def figure_words(found: Combination, name: str) -> tuple[str, str, str]:
    """What a figure is called, its mean, and the worst of the seeds."""
    head, unit, _ = _FIGURES[name]
    worst = Estimate(max(found.values[name]), None) if name in found.values else None
    return head, _cell(found.figures.get(name), unit), _cell(worst, unit)


def _cell(estimate: Estimate | None, unit: str) -> str:
    if estimate is None:
        return "-"
    factor, digits = (1000.0, 0) if unit == "ms" else (1.0, 0 if unit else 2)
    width = "" if not estimate.half_width else f" +- {estimate.half_width * factor:.{digits}f}"
    if not unit and estimate.mean == round(estimate.mean) and not width:
        digits = 0
    return f"{estimate.mean * factor:.{digits}f}{width}{' ' + unit if unit else ''}"
