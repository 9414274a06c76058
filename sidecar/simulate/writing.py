"""The files of a report: records for programs, a summary and a page for people, and apart from these what it cost."""

import json
from collections.abc import Sequence
from pathlib import Path

from ..core.classes import NamedTuple
from .pictures import lacking
from .report import Record
from .run_page import run_page
from .summary import summary

RECORDS, SUMMARY, PAGE, COST = "report.jsonl", "summary.txt", "report.html", "cost.json"


class Cost(NamedTuple):
    """What the run took of this machine; it differs from run to run."""

    wall_seconds: float
    cpu_seconds: float
    peak_memory_bytes: int
    cpu_over_time: Sequence[tuple[float, float]] = ()
    """Virtual seconds, and the CPU seconds that it took until then."""


def write(folder: Path, report: Sequence[Record], cost: Cost) -> None:
    """Write all of it into a folder; the page only where there is what draws it. Raises OSError."""
    taken = costs(report, cost)
    (folder / RECORDS).write_text("".join(json.dumps(record) + "\n" for record in report))
    (folder / SUMMARY).write_text("\n".join(summary(report)) + "\n")
    fields = (f"  {json.dumps(name)}: {json.dumps(value)}" for name, value in taken.items())
    (folder / COST).write_text("{\n" + ",\n".join(fields) + "\n}\n")
    if lacking() is None:
        (folder / PAGE).write_text(run_page(report, taken), encoding="utf-8")
    else:
        (folder / PAGE).unlink(missing_ok=True)  # of another run


def costs(report: Sequence[Record], cost: Cost) -> Record:
    """What the run took of this machine, and what that makes for a node-second and a copy."""
    run = report[0]
    copies = next(record["copies"] for record in report if record["record"] == "copies")
    return {
        **cost._asdict(),
        "cpu_per_node_second": cost.cpu_seconds / run["node_seconds"] if run["node_seconds"] else None,
        "cpu_per_copy": cost.cpu_seconds / copies if copies else None,
        "memory_per_node_bytes": cost.peak_memory_bytes / run["nodes"],
    }
