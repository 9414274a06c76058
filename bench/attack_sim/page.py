"""The part of docs/defence.md that says how the attacks went."""

import textwrap
from collections.abc import Sequence

from bench import page as pages
from bench.attack_sim.plan import Outcome

BEGIN = "<!-- written by make attack-sim: begin -->"
END = "<!-- written by make attack-sim: end -->"
_WIDTH = 136  # characters of a line


def section(outcomes: Sequence[Outcome], facts: str, *, whole: bool) -> str:
    """The part of the page, without its marks."""
    cpu = sum(each.cpu for each in outcomes)
    size = "of the published number of nodes" if whole else "of a twenty-fifth of the published number of nodes"
    about = (
        f"{len(outcomes)} runs {size}, {cpu / 60:.0f} minutes of CPU. Delays are of messages published during the "
        "attack. *mesh*: the share of honest nodes' mesh links that lead to hostile ones at the end; *seen through*: "
        "the share of hostile peers, as their honest neighbours see them, with a score below 0. *open*: with all "
        "limits of connections raised; where there is no such row, no limit came into play. CPU is of the whole run."
    )
    lines = [
        *textwrap.wrap(about, _WIDTH),
        "",
        "| attack | nodes, hostile ones | scores | delivered | p50 | p99 | last | mesh | seen through | CPU |",
        "|---|---|---|---|---|---|---|---|---|---|",
        *map(_row, outcomes),
        "",
        facts,
        "",
    ]
    return "\n".join(lines)


def _row(each: Outcome) -> str:
    scores = ("on" if each.variant.scored else "off") + (", open" if each.variant.raised else "")
    cells = (
        each.attack, f"{each.nodes}, {each.hostile}", scores, _delivered(each), _time(each.p50), _time(each.p99),
        _time(each.last), _share(each.mesh), _share(_seen_through(each)), f"{each.cpu:.0f} s",
    )  # fmt: skip
    return f"| {' | '.join(cells)} |"


def line(each: Outcome) -> str:
    """An outcome in a line."""
    return (
        f"{each.attack:20} {each.variant.name:15} {_delivered(each):>8} p50 {_time(each.p50)}, p99 {_time(each.p99)}, "
        f"last {_time(each.last)}; mesh {_share(each.mesh)}, connections {_share(each.connections)}, "
        f"bounded {each.bounded}, seen through {_share(_seen_through(each))}; "
        f"{each.cpu:.0f} s of CPU, {each.memory / 1e6:.0f} MB"
    )


def replaced(page: str, part: str) -> str:
    """The page with this part between its marks. Raises ValueError where it has none."""
    return pages.replaced(page, BEGIN, END, part)


def _seen_through(each: Outcome) -> float | None:
    standing = each.records[0]["standing"] if each.records else {}
    total = sum(standing.values())
    return 1 - standing["good"] / total if total and each.variant.scored else None


def _delivered(each: Outcome) -> str:
    return "100 %" if not each.missed else f"{1 - each.missed / each.owed:.2%}".replace("%", " %")


def _time(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.2f} s"


def _share(share: float | None) -> str:
    return "" if share is None else f"{share:.0%}".replace("%", " %")
