"""The benchmark of the client libraries: its tables, and its Python agent against a real sidecar."""

import os
from pathlib import Path
from typing import Any

import pytest

from bench.clients.parts import Costs
from bench.clients.processes import Agent, agent
from bench.clients.rows import HISTORY, TABLES, Cell, Row, median, number, table
from bench.clients.run import Place, measure, report
from tests.e2e.processes import running


def test_medians_are_taken_figure_by_figure() -> None:
    cells = [Cell(100, 7, 1), Cell(300, 5, 2, 1.0, 9.0), Cell(200, 9, 6, 3.0, 4.0)]
    assert median(cells) == Cell(200, 7, 2, 2.0, 6.5)
    assert str(median(cells)) == "200/s, 7 + 2 µs, 2 / 6.5 ms"
    assert [number(value) for value in (1234567.8, 100, 99.94, 0.05678)] == ["1,234,568", "100", "99.9", "0.0568"]


def test_a_table_compares_each_round_with_its_own_floor() -> None:
    row = TABLES["Request, 100 B"][0]
    stub = [Cell(100, 1, 1), Cell(1000, 1, 1), "broken", Cell(100, 1, 1)]
    client = [Cell(50, 1, 1), Cell(250, 1, 1), Cell(1, 1, 1), Cell(100, 1, 1)]
    name = "Request, 100 B"
    results = {(name, "Python", row.name, "stub"): stub, (name, "Python", row.name, "client"): client}
    lines = table(name, ["Python"], results).splitlines()
    assert lines[0] == "|  |  |  | stub | client |"
    assert lines[2] == (
        "| feeder | 64 in flight | Python | 100/s, 1 + 1 µs (1 of 4 rounds failed) | 75/s, 1 + 1 µs, **2.00x** |"
    )
    assert lines[3].endswith("| one at a time | Python | - | - |")


class Scripted(Agent):
    """An agent that needs a second for 1000 of whatever it is told."""

    def __init__(self) -> None:
        self.orders: list[dict[str, Any]] = []

    @property
    def pid(self) -> int:
        return os.getpid()

    def order(self, op: str, **fields: Any) -> dict[str, Any]:
        self.orders.append({"op": op, **fields})
        if fields["via"] == "messages":
            raise RuntimeError("it broke")
        return {"seconds": fields["count"] / 1000}


def test_everything_is_measured_in_every_round_and_failures_are_told() -> None:
    worker = Scripted()
    places = {name: Place(f"unix:{name}", os.getpid(), "12D3") for name in ("feeder", "sidecar")}
    places["sidecar"].cursors = dict.fromkeys(HISTORY, "AAAA")
    results = measure({"Go": worker}, places, list(TABLES), rounds=2, seconds=2.0)
    wanted = {(name, "Go", row.name, way.title) for name, rows in TABLES.items() for row in rows for way in row.ways}
    assert set(results) == wanted
    for (_, _, _, way), outcomes in results.items():
        if way == "client, messages":
            assert outcomes == ["it broke"] * 2
        else:
            assert [round(outcome.rate) for outcome in outcomes if isinstance(outcome, Cell)] == [1000, 1000]
    page = report(["Go"], results, list(TABLES), "Some settings.", Costs(1.25, 0.5, 0.0625))
    assert page.count("(2 of 2 rounds failed)") == 4
    passes = {order["per_pass"] for order in worker.orders if order["op"] == "subscribe"}
    assert passes == {0, *HISTORY.values()}


@pytest.fixture(scope="module")
def sidecar(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with running(tmp_path_factory.mktemp("bench")) as process:
        process.line("Ready after")
        yield process


def test_the_agent_does_as_it_is_told(sidecar: Any, tmp_path: Path) -> None:
    place = Place(f"unix:{sidecar.socket}", sidecar.popen.pid, "nobody")
    with agent("Python") as worker:
        place.cursors[100] = worker.order("fill", target=place.target, topic="history/100", size=100, count=500)[
            "cursor"
        ]
        for row in (TABLES["Subscribe"][2], TABLES["Publish"][2]):
            assert (row.place, row.title) == ("sidecar", "100 B")
            for way in row.ways:
                order = place.order(row, way)
                if row.op == "subscribe":
                    order["per_pass"] = 500
                answer = worker.order(row.op, count=1200, **order)
                assert answer["seconds"] > 0
                assert answer.get("bytes", 120_000) >= 120_000
        asked: Row = TABLES["Request, 100 B"][2]
        order = place.order(asked, asked.ways[1])
        with pytest.raises(RuntimeError, match="InvalidPeerId"):
            worker.order("request", count=1, **order)
