"""What a run of the check has found: its table, its pictures, and its part of docs/propagation.md."""

import os
import textwrap
from collections.abc import Sequence
from typing import NamedTuple

from bench import page as pages
from bench.probes.live import Delay, Live
from bench.probes.plan import Plan, quantile
from sidecar.simulate.pictures import Axis, Form, Series, draw

BEGIN = "<!-- written by make probe-check: begin -->"
END = "<!-- written by make probe-check: end -->"
OF_TRUTH, OF_SIMULATION = 0.10, 0.20
"""How far the p50 and p99 of a probe may be from those of the apps, and those of a simulation from both."""
_SHARES = (0.5, 0.99)
_CURVE = 200  # points
_WIDTH = 136  # characters of a line


class Comparison(NamedTuple):
    """Of one figure with another: as a share of the other, 0.02 is 2 % more."""

    what: str
    bound: float
    of: tuple[float, float]
    """For each of p50 and p99."""

    @property
    def holds(self) -> bool:
        """Whether both are near enough."""
        return all(abs(off) <= self.bound for off in self.of)


def compare(live: Live, simulated: Sequence[Sequence[Delay]]) -> list[Comparison]:
    apps, probes = _seconds(live.apps), _seconds(live.probes)
    virtual = [delay for run in simulated for delay in _seconds(run)]

    def off(one: Sequence[float], other: Sequence[float]) -> tuple[float, float]:
        p50, p99 = (quantile(one, share) / quantile(other, share) - 1 for share in _SHARES)
        return p50, p99

    return [
        Comparison("probe, of apps", OF_TRUTH, off(probes, apps)),
        Comparison("probe, of its own messages on the wire", OF_TRUTH, off(probes, _seconds(live.wire))),
        Comparison("simulation, of probe", OF_SIMULATION, off(virtual, probes)),
        Comparison("simulation, of apps", OF_SIMULATION, off(virtual, apps)),
    ]


def section(plan: Plan, live: Live, simulated: Sequence[Sequence[Delay]], facts: str) -> str:
    """The part of the page, without its marks."""
    wrong = sorted(abs(both.told - both.true) for both in live.same)
    load = ", ".join(f"{load:.1f}" for load in live.load)
    lines = [
        _about(plan, len(simulated)),
        "",
        "| | deliveries | p50 | p99 | p50 of the rounds | p99 of the rounds |",
        "|---|---|---|---|---|---|",
        _row("apps: from `Publish` until another app has it", [live.apps]),
        _row("the probe's own messages, by traces of the wire", [live.wire]),
        _row("what the probe says", [live.probes]),
        _row("simulation", simulated),
        "",
        "| off by | p50 | p99 | wanted |",
        "|---|---|---|---|",
        *(
            f"| {each.what} | {each.of[0]:+.1%} | {each.of[1]:+.1%} | {each.bound:.0%}{_missed(each)} |"
            for each in compare(live, simulated)
        ),
        "",
        "![What share of deliveries took at most how long: apps, probe, simulation](images/propagation-delays.svg)",
        "",
        "![For each publisher and receiver, the median told over the true one](images/propagation-pairs.svg)",
        "",
        _filled(
            f"Each of {len(live.same):,} answers was compared with the trace of that message at that node: half of",
            f"them are off by {_ms(quantile(wrong, 0.5))} ms at most, 99 % by {_ms(quantile(wrong, 0.99))} ms.",
            f"{live.unanswered:,} answers and {live.missed:,} deliveries to apps did not come.",
            f"Before {live.rewired} of the rounds there were other connections than before the first.",
        ),
        "",
        facts,
        f"- load of the machine, after each round: {load}; the check ran at nice {os.getpriority(os.PRIO_PROCESS, 0)}",
    ]
    return "\n".join(lines) + "\n"


def _about(plan: Plan, seeds: int) -> str:
    return _filled(
        f"{plan.nodes} sidecars, processes of their own, each in a network namespace of its own and connected to",
        f"{2 * len(plan.steps)} others. Between any two {plan.least * 1000:g} to {plan.most * 1000:g} ms one way, the",
        f"same in both directions. In each of {plan.rounds} rounds another one publishes: {plan.messages} messages of",
        f"an app, then as many of a probe, all of {plan.size} bytes, one every {plan.interval:g} s. Simulated, with",
        f"{seeds} seeds: the same nodes, the connections that the sidecars said they had, the same delays, publishers",
        "and messages of apps.",
    )


def _missed(comparison: Comparison) -> str:
    return "" if comparison.holds else ": missed"


def _filled(*parts: str) -> str:
    """A paragraph."""
    return textwrap.fill(" ".join(parts), _WIDTH, break_on_hyphens=False)


def pictures(live: Live, simulated: Sequence[Sequence[Delay]]) -> dict[str, str]:
    """SVG documents by their names."""
    virtual = [delay for run in simulated for delay in run]
    curves = [
        Series("apps (true)", _curve(_seconds(live.apps))),
        Series("probe", _curve(_seconds(live.probes)), Form.DASHED),
        Series("simulation", _curve(_seconds(virtual)), Form.DASHED),
    ]
    delays = draw(
        "propagation-delays",
        "Cumulative distributions of delays: apps, probe and simulation",
        Axis("delay (ms)", least=0),
        Axis("share of deliveries (%)", least=0, most=100),
        curves,
    )
    true, told, expected = _medians(live.apps), _medians(live.probes), _medians(virtual)
    most = max(true.values())
    both = Axis("true median (ms)", least=0), Axis("median told (ms)", least=0)
    dots = [
        Series("equal", [(0, 0), (most, most)], Form.THIN, 5),
        Series("probe", [(true[pair], told[pair]) for pair in true if pair in told], Form.DOTS, 1),
        Series("simulation", [(true[pair], expected[pair]) for pair in true if pair in expected], Form.DOTS, 2),
    ]
    pairs = draw("propagation-pairs", "The medians of each publisher and receiver, over the true ones", *both, dots)
    return {"propagation-delays.svg": _alone(delays), "propagation-pairs.svg": _alone(pairs)}


def replaced(page: str, part: str) -> str:
    """The page with this part between its marks. Raises ValueError where it has none."""
    return pages.replaced(page, BEGIN, END, part)


def _row(name: str, runs: Sequence[Sequence[Delay]]) -> str:
    every = [delay for run in runs for delay in run]

    def spread(share: float) -> str:
        rounds: dict[tuple[int, int], list[float]] = {}
        for number, run in enumerate(runs):
            for delay in run:
                rounds.setdefault((number, delay.round), []).append(delay.seconds)
        figures = [quantile(delays, share) for delays in rounds.values()]
        return f"{_ms(min(figures))} to {_ms(max(figures))}"

    figures = [_ms(quantile(_seconds(every), share)) for share in _SHARES]
    spreads = [spread(share) for share in _SHARES]
    return f"| {name} | {len(every):,} | {' | '.join(f'{text} ms' for text in (*figures, *spreads))} |"


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.3g}" if seconds < 0.1 else f"{seconds * 1000:.0f}"


def _seconds(delays: Sequence[Delay]) -> list[float]:
    return [delay.seconds for delay in delays]


def _curve(delays: Sequence[float]) -> list[tuple[float, float]]:
    """Milliseconds and the share, in percent, that took at most so long."""
    ordered = sorted(delays)
    places = sorted({round(step * (len(ordered) - 1) / _CURVE) for step in range(_CURVE + 1)})
    return [(ordered[place] * 1000, 100 * (place + 1) / len(ordered)) for place in places]


def _medians(delays: Sequence[Delay]) -> dict[tuple[int, int], float]:
    """In milliseconds, by round, which has one publisher, and receiver."""
    found: dict[tuple[int, int], list[float]] = {}
    for in_round, receiver, seconds in delays:
        found.setdefault((in_round, receiver), []).append(seconds * 1000)
    return {pair: quantile(values, 0.5) for pair, values in found.items()}


def _alone(svg: str) -> str:
    """A document that is read on any background."""
    head, close, rest = svg.partition(">")
    return f'{head}{close}<rect width="100%" height="100%" fill="#ffffff"/>{rest}'
