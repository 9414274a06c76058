"""Pictures as SVG: curves, bars and dots on axes with units, drawn by matplotlib (extra `sim`), which only this loads.

Equal arguments give equal text, under any PYTHONHASHSEED and however matplotlib is configured. Colours are CSS
variables, so that a page can have a light and a dark look; a picture that stands alone has the light one.
"""

import contextlib
import enum
import io
import logging
import re
import warnings
from collections.abc import Container, Iterator, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import quoteattr

from ..core.classes import NamedTuple
from ..process.printable import escaped

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = ("#0d8075", "#c2610a", "#2f6fd0", "#8a4fbf", "#b3261e", "#8b98a5")
"""Of series; in a page the variables `--series-1` and on."""
_INK, _FAINT, _GRID = "#16202b", "#5b6875", "#dde3e9"
_VARIABLES = {_INK: "--ink", _FAINT: "--faint", _GRID: "--grid"} | {
    colour: f"--series-{number}" for number, colour in enumerate(COLOURS, 1)
}
_SIZE = (5.0, 3.1)  # inches, of 72 units each: text can be read even where a telephone shows it in 340 pixels
_MOST_LABEL = 40  # characters
_FONT = "system-ui, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif"


class Form(enum.Enum):
    """How a series is drawn."""

    LINE = "line"
    DASHED = "dashed"
    THIN = "thin"
    """A line that is one of several for the same thing."""
    BARS = "bars"
    """Beside the bars of the other series."""
    DOTS = "dots"


class Axis(NamedTuple):
    """One direction of a picture."""

    label: str
    """What it shows and its unit: `delay (ms)`."""
    log: bool = False
    least: float | None = None
    """Where it begins; None: where the series do."""
    most: float | None = None
    names: Sequence[str] = ()
    """What stands at 0, 1, 2, ... in place of numbers."""
    column: float = 1.0
    """How far apart the places of bars are; those of all series at one place have room in it."""


class Series(NamedTuple):
    """Points that belong together."""

    label: str
    """In the legend; empty: it is not there."""
    points: Sequence[tuple[float, float]]
    form: Form = Form.LINE
    colour: int | None = None
    """Which of `COLOURS`, from 0 on; None: that of the series' place."""
    notes: Sequence[str] = ()
    """A few words beside each point."""


def lacking() -> str | None:
    """What nothing can be drawn without: `it needs pip install ...`; None: all is there."""
    return None if find_spec("matplotlib") else "it needs pip install 'p2p-sidecar[sim]'"


def draw(name: str, about: str, x: Axis, y: Axis, series: Sequence[Series]) -> str:
    """An SVG element, without anything before it. Raises ImportError without the extra: ask `lacking` first.

    `name`: a word that no other picture of a page has. `about`: a sentence for those who do not see it.
    """
    import matplotlib
    from matplotlib.figure import Figure

    settings: Any = {key: value for key, value in matplotlib.rcParamsDefault.items() if key != "backend"}
    with _quiet(), matplotlib.rc_context(settings | _style(name)):
        figure = Figure(_SIZE, layout="constrained")
        axes = figure.subplots()
        legend = _plot(axes, series, x.column)
        _arrange(axes, x, y, whole=any(each.form is Form.BARS for each in series))
        if len(legend) > 1:
            columns = 1 + (max(len(text) for _, text in legend) < 24) + (sum(len(text) for _, text in legend) < 44)
            handles, labels = zip(*legend, strict=True)
            figure.legend(handles, labels, loc="outside upper left", ncols=min(len(legend), columns))
        written = io.StringIO()
        figure.savefig(written, format="svg", metadata={"Date": None})
    return _cleaned(written.getvalue(), about)


def _plot(axes: "Axes", series: Sequence[Series], column: float) -> list[tuple[Any, str]]:
    """Draw the series; returns what the legend shows."""
    legend = []
    bars = sum(each.form is Form.BARS for each in series)
    width = 0.9 * column / max(1, bars)
    shifts = iter((number - (bars - 1) / 2) * width for number in range(bars))
    for number, each in enumerate(series):
        colour = COLOURS[(number if each.colour is None else each.colour) % len(COLOURS)]
        across, up = [point[0] for point in each.points], [point[1] for point in each.points]
        drawn: Any
        match each.form:
            case Form.BARS:
                shift = next(shifts)
                drawn = axes.bar([value + shift for value in across], up, width * 0.9, color=colour)
            case Form.DOTS:
                (drawn,) = axes.plot(across, up, "o", color=colour, markersize=5)
            case Form.LINE:
                (drawn,) = axes.plot(across, up, color=colour, linewidth=2)
            case Form.DASHED:
                (drawn,) = axes.plot(across, up, color=colour, linewidth=1.5, linestyle="--")
            case Form.THIN:
                (drawn,) = axes.plot(across, up, color=colour, linewidth=1.2, alpha=0.8)
        for point, note in zip(each.points, each.notes, strict=False):
            axes.annotate(_label(note), point, (5, 4), textcoords="offset points", fontsize=10, color=_FAINT)
        if each.label:
            legend.append((drawn, _label(each.label)))
    return legend


def _arrange(axes: "Axes", x: Axis, y: Axis, *, whole: bool) -> None:
    """`whole`: only whole numbers stand at the axis across."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

    axes.grid(axis="y")
    axes.set(xlabel=_label(x.label), ylabel=_label(y.label))
    for axis, wanted, scale in ((axes.xaxis, x, axes.set_xscale), (axes.yaxis, y, axes.set_yscale)):
        if wanted.names:
            axis.set_ticks(range(len(wanted.names)), [_label(name) for name in wanted.names])
            continue
        if wanted.log:
            scale("log")
            low, high = axis.get_data_interval()
            axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high < 100 * low else (1.0,)))
            axis.set_minor_locator(NullLocator())
        else:
            integer = whole and axis is axes.xaxis
            axis.set_major_locator(MaxNLocator(8 if integer else 6, steps=[1, 2, 5, 10], integer=integer))
        axis.set_major_formatter(FuncFormatter(lambda value, place: f"{value:,.10g}"))
    axes.set_xlim(x.least, x.most)
    axes.set_ylim(y.least, y.most)


def _label(text: str) -> str:
    """A text of others as it can stand in a picture."""
    text = escaped(text)
    return text if len(text) <= _MOST_LABEL else text[: _MOST_LABEL - 1] + "…"


def _style(name: str) -> dict[str, Any]:
    return {
        "svg.hashsalt": name,  # of which the names of parts are made, otherwise at random
        "svg.fonttype": "none",  # texts stay texts, to be found and copied
        "text.parse_math": False,  # a $ is a $
        "font.size": 12,
        "text.color": _INK,
        "axes.labelcolor": _FAINT,
        "axes.edgecolor": _GRID,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.spines.left": False,
        "axes.axisbelow": True,
        "axes.unicode_minus": False,
        "axes.facecolor": "none",
        "figure.facecolor": "none",
        "grid.color": _GRID,
        "grid.linewidth": 0.8,
        "xtick.color": _GRID,
        "xtick.labelcolor": _INK,
        "xtick.labelsize": 11,
        "ytick.color": _GRID,
        "ytick.labelcolor": _INK,
        "ytick.labelsize": 11,
        "ytick.major.size": 0,
        "legend.frameon": False,
        "legend.fontsize": 11,
        "legend.handlelength": 1.4,
        "legend.columnspacing": 1.2,
        "legend.borderpad": 0.1,
    }


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without complaints of letters that its own font lacks, or of its folder: the reader's font shows the text."""
    log = logging.getLogger("matplotlib")
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(before)


def _cleaned(svg: str, about: str) -> str:
    """One element that any page can hold."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>\s*|<style.*?</style>\s*", "", svg, flags=re.DOTALL)
    view = re.search(r'viewBox="[^"]*"', svg)
    assert view is not None
    head = f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" {view[0]}'
    head += f' role="img" aria-label={quoteattr(escaped(about))} style="stroke-linejoin: round">'
    body = svg[svg.index(">") + 1 :].rstrip()
    used = set(re.findall(r'(?:href="|url\()#(\w+)', body))  # only asked, never iterated
    return head + re.sub(r"<[^>]*>", lambda tag: _tag(tag[0], used), body) + "\n"


def _tag(tag: str, used: Container[str]) -> str:
    """Colours become variables, the font the reader's; names that nothing refers to could be twice in a page."""
    tag = re.sub(r' id="([^"]*)"', lambda found: found[0] if found[1] in used else "", tag)
    tag = re.sub(r'font-family: [^;"]*', f"font-family: {_FONT}", tag)
    return re.sub(r"#[0-9a-f]{6}\b", lambda found: _coloured(found[0]), tag)


def _coloured(colour: str) -> str:
    return f"var({_VARIABLES[colour]}, {colour})" if colour in _VARIABLES else colour
