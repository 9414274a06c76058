"""What the sidecar is to reach beside others, in one run, and whether it did."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench import rows
from bench.rows import Cell, Results, found

_OURS, _DAEMON, _RUST = "sidecar", "p2pd", "rust-libp2p"
_Ratio = Callable[[Cell, Cell], float | None]


def _rate(ours: Cell, theirs: Cell) -> float | None:
    mine, other = ours.rate or ours.mb_s, theirs.rate or theirs.mb_s
    return mine / other if mine and other else None


def _p50(ours: Cell, theirs: Cell) -> float | None:
    return theirs.p50_ms / ours.p50_ms if ours.p50_ms and theirs.p50_ms else None


def _p99(ours: Cell, theirs: Cell) -> float | None:
    return theirs.p99_ms / ours.p99_ms if ours.p99_ms and theirs.p99_ms else None


@dataclass(frozen=True, slots=True)
class _Beside:
    """At least so many times what another reaches; of times, at most that part of them."""

    title: str
    row: str
    least: float
    others: Sequence[str] = (_DAEMON,)
    their_row: str = ""
    ratio: _Ratio = _rate

    def line(self, results: Results) -> str | None:
        ours = found(results, self.row, _OURS)
        theirs = [cell for name in self.others if (cell := found(results, self.their_row or self.row, name))]
        ratios = [ratio for cell in theirs if ours and (ratio := self.ratio(ours, cell)) is not None]
        if not ratios or len(theirs) < len(self.others) == 1:
            return None
        lowest = min(ratios)
        of = "p2pd" if self.others == (_DAEMON,) else _RUST if self.others == (_RUST,) else "the best of the others"
        return _line(self.title, f"{self.least:g} x {of}", f"{lowest:.2f} x", lowest >= self.least)


@dataclass(frozen=True, slots=True)
class _Bound:
    """At most so much of something; `least`: at least so much."""

    title: str
    row: str
    bound: float
    field: str
    shown: Callable[[float], str]
    least: bool = False

    def line(self, results: Results) -> str | None:
        ours = found(results, self.row, _OURS)
        value = getattr(ours, self.field) if ours else None
        if value is None:
            return None
        reached = value >= self.bound if self.least else value <= self.bound
        wanted = self.shown(self.bound) if self.least else f"at most {self.shown(self.bound)}"
        return _line(self.title, wanted, self.shown(value), reached)


GOALS: tuple[_Beside | _Bound, ...] = (
    _Beside("one-way latency, p50", rows.LATENCY, 1, ratio=_p50),
    _Beside("one-way latency, p99", rows.LATENCY, 1, ratio=_p99),
    _Beside("request one at a time, beside an echo", rows.REQUEST, 0.5, their_row=rows.ECHO),
    _Beside("requests in flight, beside echoes", rows.REQUESTS, 0.5, their_row=rows.ECHOES),
    _Beside("echo on an open stream, one at a time", rows.ECHO, 0.8),
    _Beside("new stream for each echo", rows.NEW_STREAM, 1.5),
    _Beside("bytes on one stream", rows.BYTES, 1.1),
    _Beside("connect, handshake, close", rows.CONNECT, 1),
    _Beside("signed gossip 100 B", rows.SIGNED, 1, others=(_RUST,)),
    _Beside("unsigned gossip 100 B", rows.UNSIGNED, 2, others=(_DAEMON, "go-libp2p", "js-libp2p", _RUST)),
    _Bound("signed gossip 100 B in bundles", rows.BUNDLED, 150_000, "rate", "{:,.0f}/s".format, least=True),
    _Bound("idle, 20 connections", rows.IDLE, 0.001, "core", "{:.2%} of a core".format),
    _Bound("start", rows.START, 300, "ms", "{:.0f} ms".format),
    _Bound("idle memory", rows.MEMORY, 55, "mb", "{:.0f} MB".format),
)


def markdown(results: Results) -> str:
    """The goals whose rows were measured, and what came of them."""
    lines = [line for goal in GOALS if (line := goal.line(results))]
    return "\n".join(["| goal | at least | now | |", "|---|---|---|---|", *lines])


def _line(title: str, wanted: str, now: str, reached: bool) -> str:
    return f"| {title} | {wanted} | {now} | {'reached' if reached else 'not reached'} |"
