"""What reports look like: pictures of one run, or of sets of runs beside each other, made of their records alone."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

from ..core.classes import NamedTuple
from .page import Figure
from .pictures import COLOURS, Axis, Form, Series, draw
from .report import Record, Run

_COLUMNS = 30  # a picture has at most about so many columns
_FEW = 6  # and room for so many at least
_BEYOND = 1.5  # a curve's last hundredth is cut off where it goes further, as a multiple of the others' way
_MOMENTS = 120  # of which a picture has dots at most
_BAD, _LAST = len(COLOURS) - 2, len(COLOURS) - 1
_SHARES = Axis("share (%)", least=0.0, most=100.0)


class RunSet(NamedTuple):
    """Runs that are alike but for their seeds."""

    label: str
    """In legends; empty where there is nothing beside it."""
    runs: Sequence[Run]


def of_kind(run: Run, kind: str) -> list[Record]:
    """The records of a kind."""
    return [record for record in run if record["record"] == kind]


def first(run: Run, kind: str) -> Record | None:
    """The first record of a kind."""
    return next((record for record in run if record["record"] == kind), None)


# ---------------------------------------------------------------- delays


def delay_figure(run: Run, caption: str) -> list[Figure]:
    """The delays of a run: of all deliveries, of the last receivers, and those of the shortest paths."""
    forms = (
        ("delay", "all deliveries", Form.LINE, 0),
        ("last_receiver", "last receiver", Form.LINE, 1),
        ("shortest_path", "shortest path", Form.DASHED, _LAST),
    )
    found = [(curve, label, form, colour) for of, label, form, colour in forms if (curve := _curve(run, of))]
    if not found:
        return []
    unit, axis = _times([curve for curve, *_ in found])
    series = [Series(label, _scaled(curve, unit), form, colour) for curve, label, form, colour in found]
    return [_figure("delay", "How long messages took", caption, axis, _SHARES, series)]


def delay_curves(sets: Sequence[RunSet], of: str, title: str, caption: str) -> list[Figure]:
    """One kind of delay of all sets, a curve for each run."""
    found = [
        (number, each.label, [c for run in each.runs if (c := _curve(run, of))]) for number, each in enumerate(sets)
    ]
    curves = [curve for *_, some in found for curve in some]
    if not curves:
        return []
    unit, axis = _times(curves)
    series = [
        Series(label if not place else "", _scaled(curve, unit), Form.THIN if len(some) > 1 else Form.LINE, number)
        for number, label, some in found
        for place, curve in enumerate(some)
    ]
    return [_figure(of, title, caption, axis, _SHARES, series)]


def moments_figure(run: Run, caption: str) -> list[Figure]:
    """Delays of messages by when they were published; where these are many, of what was published at about one time."""
    messages = [record for record in of_kind(run, "message") if record["max"] is not None]
    if len(messages) < 2:
        return []
    begun, ended = messages[0]["at"], max(record["at"] for record in messages)
    some = max((ended - begun) / _MOMENTS, 1e-9)
    together: dict[int, list[Record]] = {}
    for record in messages:
        together.setdefault(int((record["at"] - begun) / some), []).append(record)
    unit, name = _unit(max(record["max"] for record in messages))
    half, last, missed = [], [], []
    for place, those in sorted(together.items()):
        at = those[0]["at"] if len(those) == 1 else begun + (place + 0.5) * some
        half.append((at, sorted(record["p50"] for record in those)[len(those) // 2] * unit))
        last.append((at, max(record["max"] for record in those) * unit))
        if any(record["missed"] for record in those):
            missed.append(last[-1])
    series = [Series("last receiver", last, Form.DOTS, 1), Series("half of all", half, Form.DOTS, 0)]
    series += [Series("missed by some", missed, Form.DOTS, _BAD)] if missed else []
    axes = Axis("published at (s)"), Axis(f"delay ({name})", least=0.0)
    return [_figure("moments", "Delays over time", caption, *axes, series)]


def _curve(run: Run, of: str) -> list[tuple[float, float]]:
    """Seconds, and how many percent are not above them."""
    record = next((record for record in of_kind(run, "curve") if record["of"] == of), None)
    return list(zip(record["values"], record["percent"], strict=True)) if record else []


def _times(curves: Sequence[Sequence[tuple[float, float]]]) -> tuple[float, Axis]:
    """What makes seconds the axis' unit, and the axis: long enough for 99 %, and for all if that is not much more."""
    nearly = max(value for curve in curves for value, percent in curve if percent <= 99)
    last = max(curve[-1][0] for curve in curves)
    most = last if last <= _BEYOND * nearly else nearly * _BEYOND
    unit, name = _unit(most)
    return unit, Axis(f"delay ({name})", least=0.0, most=most * unit * 1.02 or None)


def _unit(most: float) -> tuple[float, str]:
    """What makes delays of up to `most` seconds the unit of the axis, and its name."""
    return (1000.0, "ms") if most < 10 else (1.0, "s")


def _scaled(curve: Sequence[tuple[float, float]], unit: float) -> list[tuple[float, float]]:
    return [(value * unit, percent) for value, percent in curve]


# ---------------------------------------------------------------- how often what was


def spread_figure(
    sets: Sequence[RunSet], kind: str, title: str, caption: str, *, across: str, of: str, width: float = 1.0
) -> list[Figure]:
    """Of all records of a kind, the shares of their `histogram`: of what (`of`), by what (`across`).

    `width`: how wide a column of the histogram is; its values are whole multiples of it.
    """
    counted = [_pooled(each.runs, kind) for each in sets]
    values = [value for each in counted for value in each]
    if not values:
        return []
    least = min(values)
    there = round((max(values) - least) / width) + 1
    joined = max(1, math.ceil(there / _COLUMNS))  # so many columns of the histogram make one of the picture
    column = width * joined
    middle = 0.0 if column == 1 else column / 2
    series = []
    for each, counts in zip(sets, counted, strict=True):
        shares: Counter[int] = Counter()
        for value, count in counts.items():
            shares[int(round((value - least) / width) // joined)] += count
        whole = counts.total()
        points = [(least + place * column + middle, 100 * n / whole) for place, n in sorted(shares.items())]
        series.append(Series(each.label, points, Form.BARS))
    columns = math.ceil(there / joined)
    beside = max(0.0, (_FEW - columns) / 2) * column  # so that few columns are no wide blocks
    ends = least + middle - 0.7 * column - beside, least + middle + (columns - 0.3) * column + beside
    return [
        _figure(
            kind,
            title,
            caption,
            Axis(across, least=ends[0], most=ends[1], column=column),
            Axis(f"share of {of} (%)", least=0.0),
            series,
        )
    ]


def bounded_figure(sets: Sequence[RunSet], key: str, title: str, caption: str, *, across: str, of: str) -> list[Figure]:
    """What the record of the DHT has counted by upper bounds."""
    counted: list[Counter[float]] = []
    for each in sets:
        records = [record for run in each.runs if (record := first(run, "dht")) is not None]
        counted.append(Counter())
        for record in records:
            counted[-1].update({math.inf if bound is None else bound: n for bound, n in record.get(key, ())})
    bounds = sorted({bound for each in counted for bound in each})
    used = [bound for bound in bounds if any(each[bound] for each in counted)]
    if not used:
        return []
    bounds = bounds[: bounds.index(used[-1]) + 1]
    names = [_between(before, bound) for before, bound in zip([0.0, *bounds], bounds, strict=False)]
    series = [
        Series(
            each.label, [(place, 100 * n[bound] / (n.total() or 1)) for place, bound in enumerate(bounds)], Form.BARS
        )
        for each, n in zip(sets, counted, strict=True)
    ]
    axes = Axis(across, names=names), Axis(f"share of {of} (%)", least=0.0)
    return [_figure(f"dht_{key}", title, caption, *axes, series)]


def _between(before: float, bound: float) -> str:
    if bound == math.inf:
        return f"> {before:g}"
    return f"{bound:g}" if bound - before <= 1 else f"{before + 1:g}-{bound:g}"


def _pooled(runs: Iterable[Run], kind: str) -> Counter[float]:
    counts: Counter[float] = Counter()
    for run in runs:
        for record in of_kind(run, kind):
            counts.update(dict(record.get("histogram", ())))
    return counts


# ---------------------------------------------------------------- bytes


def bytes_figure(run: Run, caption: str) -> list[Figure]:
    """What a node has sent, by service: until the first message, and from then on."""
    records, nodes = of_kind(run, "bytes"), run[0]["nodes"] - run[0]["hostile"]
    records = sorted(records, key=lambda record: (-record["sent"], record["service"]))
    early = [record["sent_before_first_message"] / nodes for record in records]
    late = [(record["sent"] - record["sent_before_first_message"]) / nodes for record in records]
    if not any(early + late):
        return []
    series = {"until the first message": early, "from then on": late} if any(early) else {"": late}
    title = "What a node sent, by service"
    return [
        _services("bytes", title, caption, "sent by a node", "B", [record["service"] for record in records], series)
    ]


def rate_figure(sets: Sequence[RunSet], caption: str) -> list[Figure]:
    """What a node sends in a second, by service, in the mean of each set's runs."""
    sent: list[dict[str, list[float]]] = []
    for each in sets:
        sent.append({})
        for record in (record for run in each.runs for record in of_kind(run, "bytes")):
            sent[-1].setdefault(record["service"], []).append(record["per_node_second"] or 0.0)
    means = [
        {service: math.fsum(rates) / len(each.runs) for service, rates in own.items()}
        for each, own in zip(sets, sent, strict=True)
    ]
    most = Counter({service: max(own.get(service, 0.0) for own in means) for own in means for service in own})
    services = [service for service, _ in most.most_common()]
    if not any(most.values()):
        return []
    series = {
        each.label: [own.get(service, 0.0) for service in services] for each, own in zip(sets, means, strict=True)
    }
    return [_services("bytes", "What a node sends, by service", caption, "sent by a node", "B/s", services, series)]


def _services(
    name: str,
    title: str,
    caption: str,
    what: str,
    unit: str,
    services: Sequence[str],
    series: Mapping[str, Sequence[float]],
) -> Figure:
    most = max(value for values in series.values() for value in values)
    factor, prefix = next(
        (factor, prefix) for factor, prefix in ((2**20, "Mi"), (2**10, "Ki"), (1, "")) if most >= factor or factor == 1
    )
    drawn = [
        Series(label, [(place, value / factor) for place, value in enumerate(values)], Form.BARS)
        for label, values in series.items()
    ]
    return _figure(name, title, caption, Axis("", names=services), Axis(f"{what} ({prefix}{unit})", least=0.0), drawn)


# ---------------------------------------------------------------- cost


def cpu_figure(points: Sequence[tuple[float, float]], caption: str) -> list[Figure]:
    """CPU for each virtual second, of points (virtual seconds, CPU seconds until then)."""
    rates = [
        ((before[0] + after[0]) / 2, (after[1] - before[1]) / (after[0] - before[0]))
        for before, after in pairwise([(0.0, 0.0), *points])
        if after[0] > before[0]
    ]
    if len(rates) < 2:
        return []
    axes = Axis("virtual time (s)", least=0.0), Axis("CPU for a virtual second (s)", least=0.0)
    return [_figure("cpu", "Processor time", caption, *axes, [Series("", rates)])]


def _figure(name: str, title: str, caption: str, x: Axis, y: Axis, series: Sequence[Series]) -> Figure:
    return Figure(title, draw(name, f"{title}. {caption}", x, y, series), caption)
