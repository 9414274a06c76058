"""The Python client's engines beside each other: the same orders to two agents in turn, with a sidecar of its own kind.

`python -m bench.clients.engines` takes some minutes and prints a table. CPU times and their
ratios mean something on a busy machine too, rates do not.
"""

import argparse
import contextlib
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from bench.clients.processes import Agent, agent, sidecars
from bench.clients.rows import Cell, number
from bench.measure import CpuMeter

_ENGINES = ("grpcio", "http2")
_SIZES = {100: 200_000, 65_536: 2_000}  # of messages in a topic's history -> how many
# What is measured: title -> an order, and how many to begin with.
_ROWS: dict[str, tuple[dict[str, Any], int]] = {
    "a unary call, one at a time": ({"op": "unary", "many": 1}, 200),
    "unary calls, 64 in flight": ({"op": "unary", "many": 64}, 2000),
    "a request on the open stream, one at a time": ({"op": "request", "via": "client", "size": 100, "many": 1}, 200),
    "requests on the open stream, 64 in flight": ({"op": "request", "via": "client", "size": 100, "many": 64}, 2000),
    "`publish`, one at a time": ({"op": "publish", "via": "publish", "size": 100, "many": 1}, 200),
    "`publish`, 1,000 tasks": ({"op": "publish", "via": "publish", "size": 100, "many": 1000}, 20_000),
    "`publish_many`, 100 B": ({"op": "publish", "via": "publish_many", "size": 100, "many": 1}, 100_000),
    "`publish_many`, 64 KiB": ({"op": "publish", "via": "publish_many", "size": 65_536, "many": 1}, 500),
    "`subscribe`, batches of 100 B": ({"op": "subscribe", "via": "batches", "size": 100}, 100_000),
    "`subscribe`, messages of 100 B": ({"op": "subscribe", "via": "messages", "size": 100}, 100_000),
    "`subscribe`, batches of 64 KiB": ({"op": "subscribe", "via": "batches", "size": 65_536}, 1000),
    "a byte stream, 64 KiB there and back": ({"op": "stream", "size": 65_536}, 200),
    "a byte stream, opened for 1 KiB": ({"op": "stream", "size": 1024, "each": True}, 50),
}


class Bench:
    """Two sidecars, an app at the second, and an agent of each engine at the first."""

    def __init__(self, stack: contextlib.ExitStack, seconds: float) -> None:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-engines-")))
        first, second = stack.enter_context(sidecars(home))
        self._seconds = seconds
        self._server = first.popen.pid
        self._agents: dict[str, Agent] = {
            engine: stack.enter_context(agent("Python", SIDECAR_CLIENT_ENGINE=engine)) for engine in _ENGINES
        }
        helper = stack.enter_context(agent("Python"))
        place = {"target": f"unix:{first.socket}"}
        peer = {**place, "peer_id": helper.order("serve", target=f"unix:{second.socket}")["peer_id"]}
        helper.order("echo", target=f"unix:{second.socket}")
        self._places: dict[str, dict[str, Any]] = {"unary": place, "request": peer, "stream": peer}
        self._places["publish"] = {**place, "topic": "bench", "batch": 0}
        self._cursors = {
            size: helper.order("fill", **place, topic=f"history/{size}", size=size, count=count)["cursor"]
            for size, count in _SIZES.items()
        }
        self._places["subscribe"] = place
        self._counts: dict[str, int] = {}  # the same for both

    def measure(self, title: str, engine: str) -> Cell:
        """One row by one engine, as many times as take `seconds` of CPU: so a busy machine measures the same."""
        order, first = _ROWS[title]
        fields = {**self._places[order["op"]], **order}
        each = fields.pop("each", False)
        if order["op"] == "subscribe":
            size = fields.pop("size")
            fields |= {"topic": f"history/{size}", "cursor": self._cursors[size], "per_pass": _SIZES[size]}
        worker = self._agents[engine]

        def make(count: int) -> Cell:
            with CpuMeter([worker.pid]) as client, CpuMeter([self._server]) as server:
                if each:
                    taken = sum(float(worker.order(**fields, count=1)["seconds"]) for _ in range(count))
                else:
                    taken = float(worker.order(**fields, count=count)["seconds"])
            return Cell(count / taken, client.microseconds_per(count), server.microseconds_per(count))

        found = make(first)
        if title not in self._counts:
            self._counts[title] = max(first, round(self._seconds * 1e6 / max(found.client_us, 0.1)))
        return make(self._counts[title])


def main() -> None:
    """Measure as the command line says, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.clients.engines", description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="CPU of each measurement")
    parser.add_argument("--rows", default="", help="only rows whose title has this text")
    options = parser.parse_args()
    titles = [title for title in _ROWS if options.rows in title]
    cells: dict[tuple[str, str], list[Cell]] = {}
    with contextlib.ExitStack() as stack:
        bench = Bench(stack, options.seconds)
        for turn in range(options.rounds):
            for title in titles:
                for engine in _ENGINES if turn % 2 else reversed(_ENGINES):
                    cells.setdefault((title, engine), []).append(bench.measure(title, engine))
                    print(f"{turn + 1}  {title}  {engine}: {cells[title, engine][-1]}", file=sys.stderr, flush=True)
    print("| | grpcio: a second, client's CPU | http2 | a second, x | client's CPU, x | sidecar's CPU, x |")
    print("|---|---|---|---|---|---|")
    for title in titles:
        pairs = list(zip(cells[title, "grpcio"], cells[title, "http2"], strict=True))
        shown = (
            f"{number(median(cell.rate for cell in found))}/s, {number(median(cell.client_us for cell in found))} µs"
            for found in zip(*pairs, strict=True)
        )
        ratios = (
            median(new.rate / old.rate for old, new in pairs),
            median(new.client_us / max(old.client_us, 1e-9) for old, new in pairs),
            median(new.server_us / max(old.server_us, 1e-9) for old, new in pairs),
        )
        print("| " + " | ".join((title, *shown, *(f"{ratio:.2f}" for ratio in ratios))) + " |")


if __name__ == "__main__":
    main()
