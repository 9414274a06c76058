"""Figures and texts for people."""

import math
import unicodedata


def number(value: float | None) -> str:
    """`0`, `7`, `1,234`, `56.7 k`, `1.2 M`; `-` where it is not known."""
    if value is None:
        return "-"
    if 0 < abs(value) < 10 and value != int(value):
        return f"{value:.1f}"
    if abs(value) < 9_999.5:
        return f"{value:,.0f}"
    return _scaled(value, 1000, ("", " k", " M", " G", " T"))


def count(value: float, things: str) -> str:
    """`1 peer`, `12 peers`: what is counted is named in the plural, by an s."""
    return f"{number(value)} {things[:-1] if value == 1 else things}"


def size(value: float | None) -> str:
    """Bytes: `0 B`, `812 B`, `1.5 KiB`."""
    return "-" if value is None else _scaled(value, 1024, (" B", " KiB", " MiB", " GiB", " TiB"))


def delay(seconds: float | None) -> str:
    """A short time: `0.42 ms`, `12 ms`, `1.3 s`."""
    if seconds is None:
        return "-"
    if seconds < 0.9995:
        milliseconds = seconds * 1000
        return f"{milliseconds:.2f} ms" if milliseconds < 1 else f"{milliseconds:.3g} ms"
    return f"{seconds:.3g} s"


def percent(share: float) -> str:
    """A part of a whole: `99 %`, `97.3 %`. Never 100 of what is less."""
    tenths = math.floor(share * 1000 + 1e-6)
    return f"{tenths / 10:g} %"


def age(seconds: float) -> str:
    """A long time in its largest unit: `8 s`, `3 min`, `2 h`, `4 d`."""
    whole = max(0, int(seconds))
    for name, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if whole >= length:
            return f"{whole // length} {name}"
    return f"{whole} s"


def fit(text: str, width: int) -> str:
    """A text made as wide as this many columns: filled up, or cut with an ellipsis."""
    used = 0
    for index, character in enumerate(text):
        step = _columns(character)
        if used + step > width:
            return _cut(text[:index], used, width)
        used += step
    return text + " " * (width - used)


def _cut(text: str, used: int, width: int) -> str:
    if not width:
        return ""
    while used > width - 1:
        used -= _columns(text[-1])
        text = text[:-1]
    return text + "…" + " " * (width - used - 1)


def _columns(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def _scaled(value: float, step: int, units: tuple[str, ...]) -> str:
    place = 0
    while abs(value) >= step - 0.5 and place < len(units) - 1:
        value /= step
        place += 1
    return f"{value:.0f}{units[place]}" if not place or abs(value) >= 99.95 else f"{value:.1f}{units[place]}"
