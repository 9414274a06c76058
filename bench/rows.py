"""The rows of the benchmark, what a subject must offer to be measured, and how figures become a table."""

import statistics
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Protocol

MANY = 32  # in flight
# Gossip messages without acknowledgement: enough to keep both sides busy, and to fit into every queue on the way.
WINDOW_MESSAGES = 1024
_WINDOW_BYTES = 4 << 20


def window_of(size: int) -> int:
    """How many gossip messages of so many bytes may be on the way."""
    return max(16, min(WINDOW_MESSAGES, _WINDOW_BYTES // size))


@dataclass(frozen=True, slots=True)
class Cell:
    """One measurement; what does not apply is None.

    `rate` a second, `cpu_us` of all processes for each message or request, times in ms, memory in MB
    (10^6 bytes), throughput in MB a second, `core` CPU as a share of one core.
    """

    rate: float | None = None
    cpu_us: float | None = None
    p50_ms: float | None = None
    p99_ms: float | None = None
    ms: float | None = None
    mb: float | None = None
    mb_s: float | None = None
    core: float | None = None

    def __str__(self) -> str:
        parts = []
        if self.rate is not None:
            parts.append(f"{_number(self.rate)}/s")
        if self.cpu_us is not None:
            parts.append(f"{_number(self.cpu_us)} µs")
        if self.p50_ms is not None and self.p99_ms is not None:
            parts.append(f"{_number(self.p50_ms)} / {_number(self.p99_ms)} ms")
        if self.ms is not None:
            parts.append(f"{_number(self.ms)} ms")
        if self.mb_s is not None:
            parts.append(f"{_number(self.mb_s)} MB/s")
        if self.mb is not None:
            parts.append(f"{_number(self.mb)} MB")
        if self.core is not None:
            parts.append(f"{self.core:.2%}")
        return ", ".join(parts)


Results = Mapping[tuple[str, str], Sequence[Cell | str | None]]
"""Cells by a row's title and a subject's name, one a round; None does not apply, text is what failed."""


class Subject(Protocol):
    """An implementation that can be measured: two nodes of it on loopback, each in its own process.

    Each method measures for about `seconds`, after warming up, with processes of its own that end with it.
    """

    name: str

    async def gossip(self, size: int, signed: bool, seconds: float, window: int = ...) -> Cell | None: ...
    async def bundled(self, size: int, seconds: float) -> Cell | None: ...
    async def latency(self, size: int, rate: float, seconds: float) -> Cell: ...
    async def receipts(self, size: int, in_flight: int, seconds: float) -> Cell | None: ...
    async def requests(self, size: int, in_flight: int, seconds: float) -> Cell | None: ...
    async def echo(self, size: int, in_flight: int, seconds: float) -> Cell: ...
    async def bulk(self, both: bool, seconds: float) -> Cell: ...
    async def new_streams(self, seconds: float) -> Cell: ...
    async def idle_streams(self, count: int) -> Cell | None: ...
    async def connections(self, seconds: float) -> Cell: ...
    async def memory(self) -> Cell: ...
    async def start(self) -> Cell: ...
    async def idle(self, connections: int, seconds: float) -> Cell | None: ...


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table: its title, and how one cell of it is measured.

    `apps`: it depends on the language of the apps. `once`: one round is enough, since it takes long.
    """

    title: str
    measure: Callable[[Subject, float], Awaitable[Cell | None]]
    apps: bool = True
    once: bool = False


LATENCY = "one-way latency of signed gossip, 1 KiB at 200/s: p50 / p99"
SIGNED, UNSIGNED = "signed gossip 100 B: messages, CPU each", "unsigned gossip 100 B"
BUNDLED = "signed gossip 100 B, in bundles"
REQUEST = "request and response, 100 B, one at a time"
REQUESTS = "requests and responses, 100 B, many in flight"
ECHO = "echo on one open stream, 100 B, one at a time"
ECHOES = "echoes on one open stream, 100 B, many in flight"
BYTES = "bytes on one stream"
NEW_STREAM = "a new stream for each echo of 100 B, one at a time"
CONNECT = "connect, handshake, close"
MEMORY, START = "idle resident memory of a node", "start of the process to ready"
IDLE = "idle node with 20 connections: CPU, of one core"

ROWS: tuple[Row, ...] = (
    Row(SIGNED, lambda s, t: s.gossip(100, True, t)),
    Row(BUNDLED, lambda s, t: s.bundled(100, t)),
    Row("signed gossip 1 KiB", lambda s, t: s.gossip(1024, True, t)),
    Row("signed gossip 64 KiB", lambda s, t: s.gossip(65536, True, t)),
    Row(UNSIGNED, lambda s, t: s.gossip(100, False, t)),
    Row("signed gossip 100 B, at most 32 on the way", lambda s, t: s.gossip(100, True, t, MANY)),
    Row("unsigned gossip 100 B, at most 32 on the way", lambda s, t: s.gossip(100, False, t, MANY)),
    Row(LATENCY, lambda s, t: s.latency(1024, 200, t)),
    Row("direct message with receipt, 100 B, one at a time", lambda s, t: s.receipts(100, 1, t)),
    Row("direct messages with receipts, 100 B, many in flight", lambda s, t: s.receipts(100, MANY, t)),
    Row(REQUEST, lambda s, t: s.requests(100, 1, t)),
    Row(REQUESTS, lambda s, t: s.requests(100, MANY, t)),
    Row(ECHO, lambda s, t: s.echo(100, 1, t)),
    Row(ECHOES, lambda s, t: s.echo(100, MANY, t)),
    Row(BYTES, lambda s, t: s.bulk(False, t)),
    Row("bytes on two streams, one each way", lambda s, t: s.bulk(True, t)),
    Row(NEW_STREAM, lambda s, t: s.new_streams(t)),
    Row("memory of 500 idle streams, both ends", lambda s, t: s.idle_streams(500)),
    Row(CONNECT, lambda s, t: s.connections(t)),
    Row(MEMORY, lambda s, t: s.memory(), apps=False),
    Row(START, lambda s, t: s.start(), apps=False),
    Row(IDLE, lambda s, t: s.idle(20, 20 * t), apps=False, once=True),
)


def _number(value: float) -> str:
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def median(cells: Sequence[Cell]) -> Cell:
    """The median of each figure by itself."""
    values = {}
    for field in fields(Cell):
        known = [value for cell in cells if (value := getattr(cell, field.name)) is not None]
        values[field.name] = statistics.median(known) if known else None
    return Cell(**values)


def spread(cells: Sequence[Cell]) -> str:
    """The lowest and highest rate or throughput, where there is one; it tells how far the machine can be trusted."""
    rates = [rate for cell in cells if (rate := cell.rate or cell.mb_s) is not None]
    if len(rates) < 2:
        return ""
    return f" [{_number(min(rates))} - {_number(max(rates))}]"


def markdown(names: Sequence[str], results: Results, rows: Sequence[Row], ratio: tuple[str, str] | None = None) -> str:
    """Draw a table of some rows.

    `names`: of the subjects, one column each. `ratio`: of two subjects, whose rates or throughputs are compared in a
    column of its own: how many times the second's the first reaches.
    """
    titles = [*names, *([f"{ratio[0]} / {ratio[1]}"] if ratio else [])]
    lines = [f"| | {' | '.join(titles)} |", f"|---|{'---|' * len(titles)}"]
    for row in rows:
        columns = []
        for name in names:
            outcomes = results.get((row.title, name), ())
            cells = _cells(outcomes)
            failed = sum(isinstance(outcome, str) for outcome in outcomes)
            text = f"{median(cells)}{spread(cells)}" if cells else "-"
            columns.append(f"{text} ({failed} of {len(outcomes)} rounds failed)" if failed else text)
        if ratio:
            columns.append(_ratio(*(found(results, row.title, name) for name in ratio)))
        lines.append(f"| {row.title} | {' | '.join(columns)} |")
    return "\n".join(lines)


def _cells(outcomes: Sequence[Cell | str | None]) -> list[Cell]:
    return [outcome for outcome in outcomes if isinstance(outcome, Cell)]


def found(results: Results, title: str, name: str) -> Cell | None:
    """The medians of a row and a subject, where there are any."""
    cells = _cells(results.get((title, name), ()))
    return median(cells) if cells else None


def _ratio(ours: Cell | None, theirs: Cell | None) -> str:
    if ours is None or theirs is None:
        return "-"
    for mine, other in ((ours.rate, theirs.rate), (ours.mb_s, theirs.mb_s)):
        if mine and other:
            return f"{mine / other:.2f}"
    for mine, other in ((ours.mb, theirs.mb), (ours.ms, theirs.ms)):
        if mine and other:
            return f"{mine / other:.1f}"
    if ours.p50_ms and ours.p99_ms and theirs.p50_ms and theirs.p99_ms:
        return f"{ours.p50_ms / theirs.p50_ms:.2f} / {ours.p99_ms / theirs.p99_ms:.2f}"
    return "-"
