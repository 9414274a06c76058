"""The rows that scenes leave in docs/durability.md."""

import datetime
from collections.abc import Iterable, Sequence

from bench import page
from bench.chaos.scene import Found, Scene

BEGIN, END = "<!-- make chaos: begin -->", "<!-- make chaos: end -->"
_HEAD = "| scene | fault, and what must hold | seen | held | played by |\n|---|---|---|---|---|"


def row(scene: Scene, found: Found, command: str, seconds: float) -> str:
    """A line of the table."""
    held = "yes" if not found.faults else f"**no: {len(found.faults)} faults**, such as: {found.faults[0]}"
    date = f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}"
    return f"| `{scene.name}` | {scene.fault} | {found.seen} | {held} | `{command}`, {seconds:.0f} s, {date} |"


def merged(part: str, rows: Iterable[str], order: Sequence[str]) -> str:
    """The table with new rows in place of those of the same scenes; other rows stay as they are."""
    known = {}
    for line in [*part.splitlines(), *rows]:
        name = line.partition("|")[2].partition("|")[0].strip().strip("`")
        if name in order:
            known[name] = line
    return "\n".join([_HEAD, *(known[name] for name in order if name in known)])


def write(rows: Iterable[str], order: Sequence[str]) -> None:
    """Put rows into docs/durability.md."""
    path = page.DOCS / "durability.md"
    text = path.read_text(encoding="utf-8")
    part = text.partition(BEGIN)[2].partition(END)[0]
    machine = "\n".join(page.facts("bench.chaos").splitlines()[2:])  # each row has its command and date
    table = f"{merged(part, rows, order)}\n\n{machine}"
    path.write_text(page.replaced(text, BEGIN, END, table), encoding="utf-8")
