"""Measures every client library against its language's bare stub in interleaved rounds, and writes the tables.

`python -m bench.clients.run` (or `make bench-clients`) takes some minutes and writes `docs/benchmarks-clients.md`. The
machine should be idle.
"""

import argparse
import contextlib
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench import page
from bench.clients import parts
from bench.clients.processes import LANGUAGES, Agent, Unavailable, agent, feeder, sidecars
from bench.clients.rows import HISTORY, IN_FLIGHT, TABLES, Cell, Results, Row, Way, table
from bench.measure import CpuMeter


class Place:
    """Where something is measured: a server's target and process, and what orders there need."""

    def __init__(self, target: str, pid: int, peer_id: str) -> None:
        self.target = target
        self.pid = pid
        self.peer_id = peer_id  # whom to ask
        self.cursors: dict[int, str] = {}  # of a topic with messages of that size, before the first

    def order(self, row: Row, way: Way) -> dict[str, object]:
        """What the agent is told, but for the count."""
        fields = {"target": self.target, **row.order, **way.order}
        if row.op == "subscribe":
            size = int(fields.pop("size"))
            topic = fields.get("topic", f"history/{size}")
            per_pass = HISTORY[size] if size in self.cursors else 0
            fields |= {"topic": topic, "cursor": self.cursors.get(size, ""), "per_pass": per_pass}
        elif row.op == "request":
            fields["peer_id"] = self.peer_id
        return fields


def one(worker: Agent, place: Place, row: Row, way: Way, seconds: float) -> Cell:
    """One measurement of about so many seconds, after warming up."""
    order = place.order(row, way)
    answer = worker.order(row.op, count=row.first, **order)
    count = row.first
    while answer["seconds"] < seconds / 4:  # as long as the first ones say little
        count = max(2 * count, min(10 * count, round(count / max(answer["seconds"], 1e-4) * seconds / 4)))
        answer = worker.order(row.op, count=count, **order)
    count = max(row.first, round(count / answer["seconds"] * seconds))
    with CpuMeter([worker.pid]) as client, CpuMeter([place.pid]) as server:
        answer = worker.order(row.op, count=count, **order)
    return Cell(
        rate=count / answer["seconds"],
        client_us=client.microseconds_per(count),
        server_us=server.microseconds_per(count),
        p50_ms=answer.get("p50_ms"),
        p99_ms=answer.get("p99_ms"),
    )


def measure(
    workers: dict[str, Agent], places: dict[str, Place], tables: Sequence[str], rounds: int, seconds: float
) -> Results:
    """Everything, `rounds` times; what is compared follows each other directly."""
    results: dict[tuple[str, str, str, str], list[Cell | str]] = {}
    for number in range(rounds):
        for name in tables:
            for row in TABLES[name]:
                for language, worker in workers.items():
                    for way in row.ways:
                        outcome: Cell | str
                        try:
                            outcome = one(worker, places[row.place], row, way, seconds)
                        except RuntimeError as error:
                            outcome = str(error)
                        results.setdefault((name, language, row.name, way.title), []).append(outcome)
                        what = f"{number + 1}  {name}, {row.name}  {language}  {way.title}"
                        print(f"{what}: {outcome}", file=sys.stderr, flush=True)
    return results


def report(languages: Sequence[str], results: Results, tables: Sequence[str], settings: str, costs: parts.Costs) -> str:
    """The page: the tables, how they were taken, on what."""
    sections = "\n\n".join(f"## {name}\n\n{table(name, languages, results)}" for name in tables)
    waiting, value, step = (f"{cost:.2g}" for cost in costs)
    return f"""# Benchmarks of the client libraries

Made by `make bench-clients`; do not edit by hand.

One client, one server, one machine, over a Unix socket. In each cell: a second, CPU (user and system) of the client's
+ the server's process for each message or request, for requests also how long one takes (50th / 99th percentile), and
in bold how many times as long the client takes as the bare generated stub in the column that it is compared with: the
one in batches, for requests the other one. {settings} Ratios are medians of the rounds' ratios.

The stub is used as an app without the client would use it, with its gRPC library's defaults. The *feeder* is a small
server in Go that answers with as little work as can be, 1,000 messages of 100 B or 16 of 64 KiB in a response, so
that the stub and the client are what is measured. The *sidecar* gives messages out of its history to a subscriber, on
an unsigned topic; what is published there has no peers to go to; requests go through two sidecars to an app in Python
at the other one. `publish` is called by 1,000 tasks at once (64 KiB: 64), each awaiting its receipts, {IN_FLIGHT}
requests are in flight where it says so.

What stands in the way where the client takes over 1.5 times as long: single messages of 100 B. Each that is published
by itself has a caller who waits for its own receipt: a goroutine and a channel in Go, a promise and a turn of the
loop in JavaScript, a future and a switch of tasks in Python. The latter take {waiting} µs with nothing around them.
Each that is read by itself in Python is a value made beside protobuf's own, {value} µs, and a step of an asynchronous
generator, {step} µs; other ways of `async for` take twice that. `publish_many` and `batches` do without.

{sections}

{page.facts("bench.clients.run")}
"""


def main() -> None:
    """Measure as the command line says, and write or print the page."""
    parser = argparse.ArgumentParser(prog="python -m bench.clients.run", description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.5, help="of each measurement")
    parser.add_argument("--tables", default="", help="only tables whose name has this text")
    parser.add_argument("--languages", default=",".join(LANGUAGES), help=f"some of {', '.join(LANGUAGES)}")
    parser.add_argument("--print", action="store_true", help="print the page instead of writing it")
    options = parser.parse_args()
    tables = [name for name in TABLES if options.tables.lower() in name.lower()]
    with contextlib.ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-clients-")))
        workers: dict[str, Agent] = {}
        for language in options.languages.split(","):
            try:
                workers[language] = stack.enter_context(agent(language))
            except Unavailable as missing:
                print(f"{language} is left out: {missing}", file=sys.stderr)
        pid = stack.enter_context(feeder(home / "feeder.sock"))
        places = {"feeder": Place(f"unix:{home / 'feeder.sock'}", pid, "feeder")}
        first, second = stack.enter_context(sidecars(home))
        helper = stack.enter_context(agent("Python"))
        peer_id = helper.order("serve", target=f"unix:{second.socket}")["peer_id"]
        sidecar = places["sidecar"] = Place(f"unix:{first.socket}", first.popen.pid, peer_id)
        for size, count in HISTORY.items():
            topic = f"history/{size}"
            answer = helper.order("fill", target=sidecar.target, topic=topic, size=size, count=count)
            sidecar.cursors[size] = answer["cursor"]
        results = measure(workers, places, tables, options.rounds, options.seconds)
    settings = f"Medians of {options.rounds} interleaved rounds of about {options.seconds:g} s each."
    page.publish(
        report(list(workers), results, tables, settings, parts.costs()),
        "benchmarks-clients.md",
        only_print=options.print,
    )


if __name__ == "__main__":
    main()
