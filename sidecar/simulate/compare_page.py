"""The page of two sets of runs: what differs in a sentence and a table, and the curves of both in the same pictures."""

from collections.abc import Iterator, Sequence

from ..core.errors import InvalidArgument
from .compare import ComparedNumber, number_words, sets_told
from .drawing import RunSet, bounded_figure, delay_curves, rate_figure, spread_figure
from .page import Figure, document, figures, section, table
from .report import COLUMN, Run

_SHORT = 16  # characters of a name that a legend has room for


def compare_page(
    names: tuple[str, str], sets: tuple[Sequence[Run], Sequence[Run]], rows: Sequence[ComparedNumber]
) -> str:
    """HTML; equal reports give equal pages. `rows`: of `compare`, of the same sets.

    Raises InvalidArgument where a report is damaged, ImportError where `pictures.lacking`.
    """
    short = all(0 < len(name) <= _SHORT for name in names) and names[0] != names[1]
    labels = names if short else ("A", "B")
    both = [RunSet(label, runs) for label, runs in zip(labels, sets, strict=True)]
    try:
        drawn = list(_figures(both))
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise InvalidArgument(f"one of the reports of {names[0]} and {names[1]} is damaged: {error!r}") from None
    parts = [
        section("Pictures", figures(drawn)),
        section("All figures", table(("", *labels, "B / A", ""), _rows(rows)), lead=_CONFIDENCE),
    ]
    return document(f"{names[0]} and {names[1]}", sets_told(names, sets), _result(labels, rows), parts)


_CONFIDENCE = (
    "Behind +- is how far the true mean may be, with a confidence of 95 %. What does not exceed that may be chance; "
    "one run alone cannot tell."
)


def _result(labels: Sequence[str], rows: Sequence[ComparedNumber]) -> str:
    """The three figures that say most, as far as both have them, and what was missed."""
    said = []
    for name, what in (
        ("delay, p99", "99 % of deliveries take at most"),
        ("copies for each delivery", "copies for each delivery:"),
        ("gossip sent by a node", "gossip sent by a node:"),
    ):
        row = next((row for row in rows if row.name == name), None)
        if row is not None and row.one is not None and row.other is not None:
            one, other = (number_words(each._replace(half_width=None), row.unit) for each in (row.one, row.other))
            chance = ", which may be chance" if row.apart is False else ""
            said.append(f"{what} {other} with {labels[1]}, {one} with {labels[0]}{chance}")
    missed = next((row for row in rows if row.name == "deliveries missed"), None)
    for label, each in zip(labels, (missed.one, missed.other) if missed is not None else (), strict=False):
        if each is not None and each.mean:
            said.append(f"{label} misses {each.mean:.10g} deliveries")
    text = "; ".join(said) or "Neither has published a message"
    alone = " One run alone cannot tell difference from chance." if any(row.apart is None for row in rows) else ""
    return f"{text[0].upper()}{text[1:]}.{alone}"


def _rows(rows: Sequence[ComparedNumber]) -> Iterator[Sequence[str]]:
    for row in rows:
        ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
        chance = "may be chance" if row.apart is False and row.one != row.other else ""
        yield row.name, number_words(row.one, row.unit), number_words(row.other, row.unit), ratio, chance


def _figures(both: Sequence[RunSet]) -> Iterator[Figure]:
    each = "A curve is a run. " if any(len(one.runs) > 1 for one in both) else ""
    yield from delay_curves(both, "delay", "How long messages took", f"{each}Of all deliveries.")
    caption = f"{each}Of each message's last receiver."
    yield from delay_curves(both, "last_receiver", "Until the last one had it", caption)
    caption = f"{each}What no protocol can beat on the connections of the run."
    yield from delay_curves(both, "shortest_path", "Shortest paths", caption)
    caption = "How often a message was sent until a node had it."
    yield from spread_figure(both, "hops", "Hops", caption, across="hops", of="deliveries")
    caption = "How many copies of a message a node got, in its mean."
    yield from spread_figure(both, "copies", "Copies", caption, across="copies of a message", of="nodes", width=COLUMN)
    yield from rate_figure(both, "Payload that a node sends, in the mean of whole runs.")
    caption = "Links of a node in a topic's mesh at the end."
    yield from spread_figure(both, "mesh", "Mesh", caption, across="mesh links", of="nodes")
    caption = "Connections of a node at the end."
    yield from spread_figure(both, "connections", "Connections", caption, across="connections", of="nodes")
    caption = "The longest chain of answers that led to one of the peers found."
    yield from bounded_figure(both, "hops", "Hops of lookups", caption, across="hops", of="lookups")
    caption = "How many peers a lookup asked."
    yield from bounded_figure(
        both, "questions_per_lookup", "Questions of lookups", caption, across="questions", of="lookups"
    )
