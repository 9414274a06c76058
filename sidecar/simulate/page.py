"""One HTML page that needs nothing else: no script, no font, no picture from elsewhere, and all texts escaped."""

import html
from collections.abc import Iterable, Sequence
from pathlib import Path

from ..core.classes import NamedTuple
from ..process.printable import escaped

_STYLE = Path(__file__).with_name("page.css")


class Tile(NamedTuple):
    """One figure, large."""

    value: str
    label: str


class Figure(NamedTuple):
    """A picture and what it shows, in words."""

    title: str
    svg: str
    """Of `pictures.draw`."""
    caption: str


def document(title: str, lead: Iterable[str], result: str, parts: Iterable[str], *, bad: bool = False) -> str:
    """The page. `result`: the sentence to read first, `bad` where it is no good. `parts`: from the functions below."""
    leads = "".join(f'<p class="lead">{_text(line)}</p>\n' for line in lead)
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{_text(title)}</title>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        # Even if a text came through unescaped, it could ask nobody for anything.
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        f"<style>\n{_STYLE.read_text()}</style>\n</head>\n<body>\n<header>\n<h1>{_text(title)}</h1>\n{leads}"
        f'<p class="result{" bad" if bad else ""}">{_text(result)}</p>\n</header>\n<main>\n'
        + "".join(parts)
        + "</main>\n</body>\n</html>\n"
    )


def tiles(chosen: Sequence[Tile]) -> str:
    """Figures beside each other."""
    shown = (f"<div><b>{_text(tile.value)}</b><span>{_text(tile.label)}</span></div>\n" for tile in chosen)
    return f'<div class="tiles">\n{"".join(shown)}</div>\n' if chosen else ""


def figures(chosen: Sequence[Figure]) -> str:
    """Pictures beside each other, as many as there is room for."""
    shown = (
        f"<figure>\n<h3>{_text(each.title)}</h3>\n{each.svg}<figcaption>{_text(each.caption)}</figcaption>\n</figure>\n"
        for each in chosen
    )
    return f'<div class="figures">\n{"".join(shown)}</div>\n' if chosen else ""


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; the first column says what a row is about, the others are figures."""
    titles = "".join(f'<th scope="col">{_text(cell)}</th>' for cell in head)
    lines = (
        f'<tr><th scope="row">{_text(row[0])}</th>' + "".join(f"<td>{_text(cell)}</td>" for cell in row[1:]) + "</tr>\n"
        for row in rows
    )
    body = f"<thead><tr>{titles}</tr></thead>\n<tbody>\n{''.join(lines)}</tbody>"
    return f'<div class="table" tabindex="0"><table>\n{body}</table></div>\n'


def lines(told: Iterable[str]) -> str:
    """Lines as a terminal shows them."""
    shown = "\n".join(html.escape(escaped(line)) for line in told)
    return f'<pre tabindex="0">{shown}</pre>\n'


def section(title: str, *parts: str, name: str = "", lead: str = "") -> str:
    """Parts below a title of their own. `name`: by which an address leads there."""
    own = f' id="{name}"' if name else ""
    said = f"<p>{_text(lead)}</p>\n" if lead else ""
    return f"<section{own}>\n<h2>{_text(title)}</h2>\n{said}{''.join(parts)}</section>\n"


def _text(text: str) -> str:
    """A text of others, in one line."""
    return html.escape(escaped(" ".join(text.split())))
