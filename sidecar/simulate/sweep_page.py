"""The page of a sweep: each combination as a dot, delay against bandwidth, the front as a line, and all as a table."""

from collections.abc import Sequence

from .page import Figure, document, figures, section, table
from .pictures import Axis, Form, Series, draw
from .sweep import BANDWIDTH, P99, Combination, front, sweep_rows

_NUMBERED = 40  # dots that can bear a number each
_LEAD = (
    "A dot is a combination of settings, with its number in the table: the further left, the less its nodes send, the "
    "lower, the sooner messages arrive. The front is what none of the others beats in one without losing in the other."
)


def sweep_page(name: str, found: Sequence[Combination], planned: int) -> str:
    """HTML. Raises ImportError where `pictures.lacking`."""
    head, *rows = sweep_rows(found)
    played = f"{len(found)} of {planned}" if len(found) != planned else str(planned)
    parts = [
        section("Delay against bandwidth", figures(_figures(found)), lead=_LEAD),
        section("All combinations", table(head, rows), lead="Behind +- is how far the true mean may be (95 %)."),
    ]
    title = f"{name}: combinations"
    return document(title, [f"{played} combinations were played."], _result(found), parts, bad=len(found) != planned)


def _result(found: Sequence[Combination]) -> str:
    best = front(found)
    if not best:
        return "No combination delivered every message."
    cheapest, fastest = best[0], best[-1]
    if cheapest is fastest:
        return f"The cheapest is the fastest as well: {_words(cheapest)}."
    return f"The cheapest of the front: {_words(cheapest)}. The fastest: {_words(fastest)}."


def _words(each: Combination) -> str:
    settings = ", ".join(setting.text for setting in each.settings)
    x, y = _point(each)
    return f"{settings} ({x:.1f} KiB/s a node, p99 {y:.0f} ms)"


def _point(each: Combination) -> tuple[float, float]:
    """KiB that a node sends a second, and the delay, p99, in milliseconds."""
    return each.figures[BANDWIDTH].mean / 1024, each.figures[P99].mean * 1000


def _figures(found: Sequence[Combination]) -> list[Figure]:
    drawable = [each for each in found if P99 in each.figures and BANDWIDTH in each.figures]
    if not drawable:
        return []
    best = front(found)
    series = [
        Series(label, [_point(each) for each in some], Form.DOTS, colour, notes)
        for label, some, colour in (
            ("on the front", best, 0),
            ("beaten", [each for each in drawable if each.complete and each not in best], 5),
            ("missed messages", [each for each in drawable if not each.complete], 4),
        )
        if some
        for notes in [[str(each.number) for each in some] if len(found) <= _NUMBERED else []]
    ]
    if len(best) > 1:
        series.append(Series("", [_point(each) for each in best], Form.LINE, 0))
    title, caption = "Delay and bandwidth", "The mean of the seeds of each combination. The axes do not begin at 0."
    axes = Axis("sent by a node (KiB/s)"), Axis("delay, p99 (ms)")
    return [Figure(title, draw("front", f"{title}. {caption}", *axes, series), caption)]
