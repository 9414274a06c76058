"""What is measured of a client library, and how figures become tables."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Cell:
    """One measurement: `rate` a second, CPU of the client's and the server's process for each in us, times in ms."""

    rate: float
    client_us: float
    server_us: float
    p50_ms: float | None = None
    p99_ms: float | None = None

    def __str__(self) -> str:
        text = f"{number(self.rate)}/s, {number(self.client_us)} + {number(self.server_us)} µs"
        if self.p50_ms is not None and self.p99_ms is not None:
            text += f", {number(self.p50_ms)} / {number(self.p99_ms)} ms"
        return text


@dataclass(frozen=True, slots=True)
class Way:
    """A column: one way of doing what the row is about."""

    title: str
    order: Mapping[str, Any]
    floor: str = ""  # the column that it is compared with


@dataclass(frozen=True, slots=True)
class Row:
    """A line of a table."""

    title: str
    op: str
    place: str  # feeder or sidecar
    ways: tuple[Way, ...]
    order: Mapping[str, Any] = field(default_factory=dict)
    first: int = 1000  # how many to begin with, to learn how many a measurement takes

    @property
    def name(self) -> str:
        return f"{self.place}, {self.title}"


_STUB, _BATCHED = "stub, one by one", "stub, in batches"
_ONCE, _CLIENT = "stub", "client"
SIZES = ((100, "100 B"), (65_536, "64 KiB"))
_BATCH = {100: 1000, 65_536: 16}  # messages that the feeder puts into a response
_FRAME = {100: 1000, 65_536: 4}  # messages that the stub writes in a request: 256 KiB at most, as the clients do
_MANY = {100: 1000, 65_536: 64}
HISTORY = {100: 200_000, 65_536: 2_000}
IN_FLIGHT = 64


def _subscribe(size: int, place: str) -> tuple[Way, ...]:
    def topic(batch: int) -> dict[str, str]:
        return {"topic": f"feed/{size}/{batch}"} if place == "feeder" else {}

    ways = (
        Way(_BATCHED, {"via": "stub", **topic(_BATCH[size])}),
        Way("client, batches", {"via": "batches", **topic(_BATCH[size])}, floor=_BATCHED),
        Way("client, messages", {"via": "messages", **topic(_BATCH[size])}, floor=_BATCHED),
    )
    if place == "sidecar":
        return ways  # it batches by itself
    return (Way(_STUB, {"via": "stub", **topic(1)}), *ways)


def _publish(size: int) -> tuple[Way, ...]:
    return (
        Way(_STUB, {"via": "stub", "batch": 1, "many": 1}),
        Way(_BATCHED, {"via": "stub", "batch": _FRAME[size], "many": 1}),
        Way("client, publish_many", {"via": "publish_many", "batch": 0, "many": 1}, floor=_BATCHED),
        Way("client, publish", {"via": "publish", "batch": 0, "many": _MANY[size]}, floor=_BATCHED),
    )


_ASK = (Way(_ONCE, {"via": "stub"}), Way(_CLIENT, {"via": "client"}, floor=_ONCE))

TABLES: dict[str, tuple[Row, ...]] = {
    "Subscribe": tuple(
        Row(text, "subscribe", place, _subscribe(size, place), {"size": size}, _BATCH[size] * 2)
        for place in ("feeder", "sidecar")
        for size, text in SIZES
    ),
    "Publish": tuple(
        Row(text, "publish", place, _publish(size), {"size": size, "topic": "bench"}, _FRAME[size] * 16)
        for place in ("feeder", "sidecar")
        for size, text in SIZES
    ),
    "Request, 100 B": tuple(
        Row(text, "request", place, _ASK, {"size": 100, "many": many}, 50 * many)
        for place in ("feeder", "sidecar")
        for many, text in ((IN_FLIGHT, f"{IN_FLIGHT} in flight"), (1, "one at a time"))
    ),
}

Results = Mapping[tuple[str, str, str, str], Sequence[Cell | str]]  # by names of table, language, row and way


def table(name: str, languages: Sequence[str], results: Results) -> str:
    """One table: a line for each language and row, with each way's median and its ratio to the floor."""
    titles = list(dict.fromkeys(way.title for row in TABLES[name] for way in row.ways))
    heads = ["", "", "", *titles]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for row in TABLES[name]:
        for language in languages:
            cells = []
            for title in titles:
                way = next((way for way in row.ways if way.title == title), None)
                outcomes = results.get((name, language, row.name, title), [])
                text = _shown(outcomes) if way is not None else "-"
                if way is not None and way.floor:
                    text += _ratio(results.get((name, language, row.name, way.floor), []), outcomes)
                cells.append(text)
            lines.append("| " + " | ".join((row.place, row.title, language, *cells)) + " |")
    return "\n".join(lines)


def _shown(outcomes: Sequence[Cell | str]) -> str:
    cells = [outcome for outcome in outcomes if isinstance(outcome, Cell)]
    failed = f" ({len(outcomes) - len(cells)} of {len(outcomes)} rounds failed)" if len(cells) < len(outcomes) else ""
    return f"{median(cells)}{failed}" if cells else f"-{failed}"


def median(cells: Sequence[Cell]) -> Cell:
    """The median, figure by figure."""

    def of(values: Sequence[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return statistics.median(known) if known else None

    return Cell(
        statistics.median(cell.rate for cell in cells),
        statistics.median(cell.client_us for cell in cells),
        statistics.median(cell.server_us for cell in cells),
        of([cell.p50_ms for cell in cells]),
        of([cell.p99_ms for cell in cells]),
    )


def _ratio(floor: Sequence[Cell | str], outcomes: Sequence[Cell | str]) -> str:
    """How many times as long as by the floor, the median of the rounds: both are taken one after the other in each."""
    ratios = [
        below.rate / cell.rate
        for below, cell in zip(floor, outcomes, strict=False)
        if isinstance(below, Cell) and isinstance(cell, Cell)
    ]
    return f", **{statistics.median(ratios):.2f}x**" if ratios else ""


def number(value: float) -> str:
    """Three digits at least, none that mean nothing."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"
