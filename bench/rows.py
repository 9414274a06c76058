"""The rows of the benchmark, what a subject must offer to be measured, and how figures become a table."""

import statistics
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Protocol

MANY = 32  # in flight


@dataclass(frozen=True, slots=True)
class Cell:
    """One measurement; what does not apply is None.

    `rate` a second, `cpu_us` of all processes for each message or request, times in ms, memory in MB
    (10^6 bytes), throughput in MB a second.
    """

    rate: float | None = None
    cpu_us: float | None = None
    p50_ms: float | None = None
    p99_ms: float | None = None
    ms: float | None = None
    mb: float | None = None
    mb_s: float | None = None

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
        return ", ".join(parts)


class Subject(Protocol):
    """An implementation that can be measured: two nodes of it on loopback, each in its own process.

    Each method measures for about `seconds`, after warming up, with processes of its own that end with it.
    """

    name: str

    async def gossip(self, size: int, signed: bool, seconds: float) -> Cell | None: ...
    async def latency(self, size: int, rate: float, seconds: float) -> Cell: ...
    async def receipts(self, size: int, in_flight: int, seconds: float) -> Cell | None: ...
    async def requests(self, size: int, in_flight: int, seconds: float) -> Cell: ...
    async def bulk(self, both: bool, seconds: float) -> Cell: ...
    async def new_streams(self, seconds: float) -> Cell: ...
    async def idle_streams(self, count: int) -> Cell: ...
    async def connections(self, seconds: float) -> Cell: ...
    async def memory(self) -> Cell: ...
    async def start(self) -> Cell: ...


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table: its title, and how one cell of it is measured."""

    title: str
    measure: Callable[[Subject, float], Awaitable[Cell | None]]


ROWS: tuple[Row, ...] = (
    Row("signed gossip 100 B: messages, CPU each", lambda s, t: s.gossip(100, True, t)),
    Row("signed gossip 1 KiB", lambda s, t: s.gossip(1024, True, t)),
    Row("signed gossip 64 KiB", lambda s, t: s.gossip(65536, True, t)),
    Row("unsigned gossip 100 B", lambda s, t: s.gossip(100, False, t)),
    Row("one-way latency of signed gossip, 1 KiB at 200/s: p50 / p99", lambda s, t: s.latency(1024, 200, t)),
    Row("direct message with receipt, 100 B, one at a time", lambda s, t: s.receipts(100, 1, t)),
    Row("direct messages with receipts, 100 B, many in flight", lambda s, t: s.receipts(100, MANY, t)),
    Row("request and response, 100 B, one at a time", lambda s, t: s.requests(100, 1, t)),
    Row("requests and responses, 100 B, many in flight", lambda s, t: s.requests(100, MANY, t)),
    Row("bytes on one stream", lambda s, t: s.bulk(False, t)),
    Row("bytes on two streams, one each way", lambda s, t: s.bulk(True, t)),
    Row("a new stream for each echo of 100 B, one at a time", lambda s, t: s.new_streams(t)),
    Row("memory of 500 idle streams, both ends", lambda s, t: s.idle_streams(500)),
    Row("connect, handshake, close", lambda s, t: s.connections(t)),
    Row("idle resident memory of a node", lambda s, t: s.memory()),
    Row("start of the process to ready", lambda s, t: s.start()),
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


def markdown(names: Sequence[str], results: Mapping[tuple[str, str], Sequence[Cell | str | None]]) -> str:
    """Draw the table.

    Args:
        names: of the subjects, one column each.
        results: cells by row title and subject, one a round; None does not apply, text is what failed.
    """
    lines = [f"| | {' | '.join(names)} |", f"|---|{'---|' * len(names)}"]
    for row in ROWS:
        columns = []
        for name in names:
            outcomes = results.get((row.title, name), ())
            cells = [outcome for outcome in outcomes if isinstance(outcome, Cell)]
            failed = sum(isinstance(outcome, str) for outcome in outcomes)
            text = f"{median(cells)}{spread(cells)}" if cells else "-"
            columns.append(f"{text} ({failed} of {len(outcomes)} rounds failed)" if failed else text)
        lines.append(f"| {row.title} | {' | '.join(columns)} |")
    return "\n".join(lines)
