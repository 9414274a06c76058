"""Writes docs/metrics.md from what a small mesh tells: `python -m tests.observe.reference`, or `make metrics`."""

import re
import tempfile
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from .small_mesh import SmallMesh

FILE = Path(__file__).parents[2] / "docs" / "metrics.md"
_CHAPTERS = {
    "The node": r"sidecar(_info|_ready|_readiness_.*|_log_.*|_event_loop_.*|_internal_errors|_operations|_statistic)?",
    "Peers and connections": r"sidecar_(peers|connections|dials|handshakes|network|streams?|bans|gate|trim)(_.*)?",
    "Gossip": r"sidecar_gossip_.*",
    "DHT": r"sidecar_dht_.*",
    "Direct messages": r"sidecar_direct_.*",
    "Topic history": r"sidecar_(history|backfill)_.*",
    "Queues": r"sidecar_queue_.*",
    "Apps": r"sidecar_(api|byte|audit)_.*",
    "Process": r"(process|python)_.*",
    "Others": r".*",
}

Row = tuple[str, str, str, str]


def rows(pages: list[str]) -> list[Row]:
    """Name, kind, labels and meaning of every metric."""
    found: dict[str, tuple[str, str, dict[str, dict[str, None]]]] = {}
    for text in pages:
        for family in text_string_to_metric_families(text):
            name = f"{family.name}_total" if family.type == "counter" else family.name
            _, _, labels = found.setdefault(name, (family.type, family.documentation, {}))
            for sample in family.samples:
                for label, value in sample.labels.items():
                    if label != "le":
                        labels.setdefault(label, {})[value] = None
    return [(name, kind, ", ".join(sorted(labels)), doc) for name, (kind, doc, labels) in found.items()]


def reference(found: list[Row]) -> str:
    """The page."""
    lines = [
        "# Metrics",
        "",
        "Made by `make metrics` from what a small mesh tells; do not edit by hand. Counters begin with the process.",
        "The values of labels are few and fixed, but for `topic`: those over `metrics.topics` are counted as `other`.",
    ]
    left = list(found)
    for title, pattern in _CHAPTERS.items():
        chapter = [row for row in left if re.fullmatch(pattern, row[0])]
        left = [row for row in left if row not in chapter]
        if chapter:
            lines += ["", f"## {title}", "", "| metric | kind | labels | meaning |", "|---|---|---|---|"]
            lines += [f"| `{name}` | {kind} | {labels} | {doc} |" for name, kind, labels, doc in chapter]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        mesh = SmallMesh(Path(place))
        try:
            FILE.write_text(reference(rows(mesh.scraped())))
        finally:
            mesh.close()
