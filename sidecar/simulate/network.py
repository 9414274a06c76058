"""Reads `[network]` of a scenario: latencies as drawn, of regions, or of a table of round trips, and bandwidth."""

import csv
import importlib.resources
import io
import random
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ..config.files import read_regular
from ..config.kinds import choice, path, share, size
from ..config.tables import Table
from ..core.errors import ConfigError
from ..sim import LinkModel
from .scenario import SimulatedNetwork
from .values import LATENCY, REGION, SOME_TIME, TIME

KEYS = (
    "latency", "low", "high", "mean", "deviation", "regions", "round_trips", "file", "within", "spread", "uplink",
    "downlink", "loss", "dial_timeout", "dead_after",
)  # fmt: skip
MAX_REGIONS = 256
_MAX_FILE = 4 << 20
_FILE = path("a path, from the folder of the scenario on")
_WITHIN = 0.002  # seconds; what is published of Azure: "less than 2 ms" between zones of a region
_PUBLISHED = ("azure",)  # those in the folder `published`
_LATENCIES = {
    "uniform": ("low", "high"),
    "normal": ("mean", "deviation"),
    "matrix": ("regions", "round_trips", "spread"),
    "csv": ("file", "within", "spread"),
    "azure": ("regions", "within", "spread"),
}
Trips = tuple[tuple[float, ...], ...]


def read_network(table: Table, folder: Path) -> SimulatedNetwork:
    """Check the table; `folder` is the scenario's. Raises ConfigError."""
    model = table.take("latency", choice(*_LATENCIES), "uniform")
    for name in dict.fromkeys(name for names in _LATENCIES.values() for name in names):
        if name in table and name not in _LATENCIES[model]:
            able = " or ".join(f'latency = "{other}"' for other, names in _LATENCIES.items() if name in names)
            raise table.complaint(name, f'it belongs to {able}, and the latency here is "{model}"')
    links = _links(table, model)
    match model:
        case "matrix":
            regions, trips = _written(table)
        case "csv":
            regions, trips = _own(table, folder)
        case "azure":
            regions, trips = _published(table, model)
        case _:
            return SimulatedNetwork(links)
    return SimulatedNetwork(links, regions, trips, table.take("spread", share(), 0.1))


def _links(table: Table, model: str) -> LinkModel:
    plain = LinkModel()
    low = table.take("low", LATENCY, plain.latency[0])
    high = table.take("high", LATENCY, max(low, plain.latency[1]))
    if low > high:
        raise table.complaint("low", f"{low:g} s is more than high ({high:g} s)")
    between = None
    if model == "normal":
        mean = table.take("mean", LATENCY, required=True)
        deviation = table.take("deviation", TIME, required=True)
        low, high = mean, mean

        def between(rng: random.Random, one: int, other: int) -> float:
            return max(0.0001, rng.gauss(mean, deviation))

    loss = table.take("loss", share(), 0.0)
    if loss > 0.5:
        raise table.complaint("loss", f"{loss:g} is more than TCP lives with: allowed: 0 to 0.5")
    return LinkModel(
        latency=(low, high),
        between=between,
        uplink=float(table.take("uplink", size(1024, 2**40), 0)),
        downlink=float(table.take("downlink", size(1024, 2**40), 0)),
        loss=loss,
        dial_timeout=table.take("dial_timeout", SOME_TIME, plain.dial_timeout),
        dead_after=table.take("dead_after", SOME_TIME, plain.dead_after),
    )


# ---------------------------------------------------------------- round trips


def _written(table: Table) -> tuple[tuple[str, ...], Trips]:
    """A matrix within the scenario."""
    regions = table.words("regions", REGION)
    if not regions:
        raise ConfigError(f'{table.place()}: {table.shown} lacks regions: latency = "matrix" needs their names')
    rows = table.raw("round_trips", None)
    if not isinstance(rows, list) or [len(row) if isinstance(row, list) else 0 for row in rows] != [len(regions)] * len(
        regions
    ):
        raise table.complaint("round_trips", f"it is a list of {len(regions)} lists of {len(regions)} times each")
    try:
        return regions, tuple(tuple(LATENCY.read(value) for value in row) for row in rows)
    except ValueError as error:
        raise table.complaint("round_trips", f"{error}; allowed: {LATENCY.allowed}") from None


def _own(table: Table, folder: Path) -> tuple[tuple[str, ...], Trips]:
    """A file beside the scenario."""
    named: Any = table.take("file", _FILE, required=True)
    if named is None:
        raise table.complaint("file", f"it is empty; allowed: {_FILE.allowed}")
    file = folder / named
    try:
        text = read_regular(file, _MAX_FILE).decode("utf-8-sig")
    except OSError as error:
        raise table.complaint("file", f"{file} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise table.complaint("file", f"{file} is not UTF-8") from None
    return read_round_trips(text, str(file), table.take("within", LATENCY, _WITHIN))


def _published(table: Table, name: str) -> tuple[tuple[str, ...], Trips]:
    """Some regions, or all, of a table that is shipped."""
    text = importlib.resources.files(__package__).joinpath("published", f"{name}.csv").read_text()
    regions, trips = read_round_trips(text, name, table.take("within", LATENCY, _WITHIN))
    chosen = table.words("regions", REGION) or regions
    for region in chosen:
        if region not in regions:
            raise table.complaint("regions", f"{region!r} is none of them; there are {', '.join(regions)}")
    places = [regions.index(region) for region in chosen]
    return chosen, tuple(tuple(trips[row][column] for column in places) for row in places)


def read_round_trips(text: str, name: str, within: float) -> tuple[tuple[str, ...], Trips]:
    """A table of round trips as CSV: the regions, and seconds from the row's region to the column's.

    The first line has the regions behind a first cell of any text, each other one a region and its round trips in
    milliseconds. An empty cell of a region to itself is `within`. Lines that begin with `#` say nothing. `name` is how
    errors call the file. Raises ConfigError.
    """
    rows = _rows(text, name)
    number, head = next(rows, (1, []))
    regions = _regions(head[1:], f"{name}:{number}")
    found: dict[str, tuple[float, ...]] = {}
    for number, (region, *cells) in rows:
        place = f"{name}:{number}"
        if region not in regions:
            raise ConfigError(f"{place}: {region!r} is none of the regions of the first line")
        if region in found:
            raise ConfigError(f"{place}: a second line of {region!r}")
        if len(cells) != len(regions):
            raise ConfigError(
                f"{place}: {len(cells)} round trips from {region!r}, and there are {len(regions)} regions"
            )
        found[region] = tuple(
            _trip(cell, within if region == to else None, f"{place}: from {region!r} to {to!r}")
            for cell, to in zip(cells, regions, strict=True)
        )
    lacking = [region for region in regions if region not in found]
    if lacking:
        raise ConfigError(f"{name}: there is no line of {lacking[0]!r}")
    return regions, tuple(found[region] for region in regions)


def _rows(text: str, name: str) -> Iterator[tuple[int, list[str]]]:
    """The lines that say something, each with its number."""
    reader = csv.reader(_without_comments(text), strict=True)
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield reader.line_num, [cell.strip() for cell in cells]
    except csv.Error as error:
        raise ConfigError(f"{name}:{reader.line_num} is not CSV: {error}") from None


def _without_comments(text: str) -> Iterable[str]:
    return ("\n" if line.startswith("#") else line for line in io.StringIO(text))


def _regions(names: list[str], place: str) -> tuple[str, ...]:
    if not names:
        raise ConfigError(f"{place}: the first line names no regions: it is a word, and then each region")
    if len(names) > MAX_REGIONS:
        raise ConfigError(f"{place}: {len(names)} regions, at most {MAX_REGIONS}")
    for position, region in enumerate(names):
        try:
            REGION.read(region)
        except ValueError as error:
            raise ConfigError(f"{place}: {region!r} as a region: {error}; allowed: {REGION.allowed}") from None
        if region in names[:position]:
            raise ConfigError(f"{place}: {region!r} is there twice")
    return tuple(names)


def _trip(cell: str, empty: float | None, place: str) -> float:
    if not cell and empty is not None:
        return empty
    try:
        return float(LATENCY.read(float(cell) / 1000))
    except ValueError:
        least, most = LATENCY.ends or (0.0, 0.0)
        raise ConfigError(
            f"{place}: {cell!r} is no round trip; allowed: milliseconds from {least * 1000:g} to {most * 1000:g}"
        ) from None
