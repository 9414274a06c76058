"""What a run has found, as parts of docs/reach.md."""

from collections.abc import Mapping, Sequence

from bench.reach.kinds import Behaviour, Kind, Pair, Way, must
from bench.reach.play import Outcome
from bench.reach.punches import WANTED, Tries
from bench.reach.rules import PORTS

TABLE = "<!-- written by make reach: begin -->", "<!-- written by make reach: end -->"
TRIES = "<!-- written by make reach TRIES=...: begin -->", "<!-- written by make reach TRIES=...: end -->"
MAX_NODES = len(PORTS) - 1  # of a home: one port is for probes


def table_part(seen: Mapping[Kind, Behaviour], outcomes: Sequence[Outcome], facts: str) -> str:
    """The kinds of places, and the pairs."""
    lines = [
        "### The places",
        "",
        "| place | how it is built | mapping | filtering | hairpin | UDP |",
        "|---|---|---|---|---|---|",
        *(_place(kind, behaviour) for kind, behaviour in seen.items()),
        "",
        "### The pairs",
        "",
        f"| pair | {' | '.join(Way)} |",
        f"|---|{'---|' * len(Way)}",
        *_rows(outcomes),
        "",
        _sum(outcomes),
        "",
        facts,
    ]
    return "\n".join(lines) + "\n"


def _place(kind: Kind, behaviour: Behaviour) -> str:
    yes = {True: "yes", False: "no"}
    hairpin, udp = yes[behaviour.hairpin], yes[behaviour.udp]
    return f"| {kind.title} | {kind.built} | {behaviour.mapping} | {behaviour.filtering} | {hairpin} | {udp} |"


def _rows(outcomes: Sequence[Outcome]) -> list[str]:
    found: dict[Pair, dict[Way, Outcome]] = {}
    for outcome in outcomes:
        found.setdefault(outcome.pair, {})[outcome.way] = outcome
    return [
        f"| {pair.title} | {' | '.join(_cell(pair, way, ways.get(way)) for way in Way)} |"
        for pair, ways in found.items()
    ]


def _cell(pair: Pair, way: Way, outcome: Outcome | None) -> str:
    if outcome is None or outcome.connected is None:
        return "not available here"
    if outcome.holds:
        return f"{outcome.seconds:.1f} s" if outcome.connected else "no"
    return "**no, but must**" if must(pair, way) else f"**{outcome.seconds:.1f} s, but cannot**"


def _sum(outcomes: Sequence[Outcome]) -> str:
    tried = [outcome for outcome in outcomes if outcome.connected is not None]
    due = [outcome for outcome in tried if must(outcome.pair, outcome.way)]
    done = sum(outcome.connected is True for outcome in due)
    others = len(tried) - len(due)
    kept = sum(outcome.connected is False for outcome in tried) - (len(due) - done)
    return f"Of {len(due)} that must connect, {done} did; of {others} that the NATs forbid, {kept} did not."


def tries_part(tries: Tries, facts: str) -> str:
    """How many holes were punched."""
    times = sorted(tries.seconds)
    lines = [
        f"**{len(tries.seconds)} of {tries.made}** tries between two places of the kind “{tries.kind.title}” ended in "
        f"a direct connection;",
        f"at least {WANTED:.0%} must. {tries.nodes} sidecars ran in each home, and no two of them met twice.",
    ]
    if times:
        lines.append(
            f"From the call to the direct connection: half of them took at most {_quantile(times, 0.5):.2f} s, 95 % "
            f"{_quantile(times, 0.95):.2f} s, the slowest {times[-1]:.2f} s."
        )
    lines += ["", *(f"- in vain: {why}" for why in tries.vain), *([""] if tries.vain else []), facts]
    return "\n".join(lines) + "\n"


def _quantile(ordered: Sequence[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
