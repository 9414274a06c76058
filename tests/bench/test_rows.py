"""The benchmark's table, and what it reads of processes."""

import asyncio
import os
import subprocess
import sys

import pytest

from bench import goals, rows
from bench.figures import percentiles
from bench.measure import CpuMeter, family, resident_mb
from bench.peers import subjects
from bench.rows import ROWS, Cell, Row, markdown, median, spread
from bench.run import measure


def test_medians_are_taken_figure_by_figure() -> None:
    cells = [Cell(rate=100, cpu_us=7), Cell(rate=300, cpu_us=5), Cell(rate=200)]
    assert median(cells) == Cell(rate=200, cpu_us=6)
    assert spread(cells) == " [100 - 300]"
    assert spread(cells[:1]) == ""


def test_a_table_says_what_failed_and_what_does_not_apply() -> None:
    first, second = ROWS[0], ROWS[1]
    table = markdown(
        ["ours", "theirs"],
        {
            (first.title, "ours"): [Cell(rate=12345.6, cpu_us=6.54), "lost 3 of 10"],
            (first.title, "theirs"): [None],
            (second.title, "theirs"): ["crashed"],
        },
        ROWS[:2],
    )
    lines = table.splitlines()
    assert lines[0] == "| | ours | theirs |"
    assert lines[2] == f"| {first.title} | 12,346/s, 6.54 µs (1 of 2 rounds failed) | - |"
    assert lines[3] == f"| {second.title} | - | - (1 of 1 rounds failed) |"


def test_a_table_compares_what_can_be_compared() -> None:
    wanted = [rows.SIGNED, rows.LATENCY, rows.BYTES, rows.MEMORY, rows.REQUEST]
    ours = [Cell(rate=300, cpu_us=1), Cell(p50_ms=2, p99_ms=3), Cell(mb_s=50), Cell(mb=60), Cell(rate=1)]
    theirs = [Cell(rate=100, cpu_us=9), Cell(p50_ms=1, p99_ms=2), Cell(mb_s=100), Cell(mb=20), None]
    results: dict[tuple[str, str], list[Cell | str | None]] = {}
    for title, mine, other in zip(wanted, ours, theirs, strict=True):
        results[title, "ours"], results[title, "theirs"] = [mine], [other]
    lines = markdown(["ours"], results, [row for row in ROWS if row.title in wanted], ("ours", "theirs")).splitlines()
    assert lines[0] == "| | ours | ours / theirs |"
    ratios = {line.split(" | ")[0].removeprefix("| "): line.split(" | ")[-1].removesuffix(" |") for line in lines[2:]}
    assert ratios == {
        rows.SIGNED: "3.00",
        rows.LATENCY: "2.00 / 1.50",
        rows.BYTES: "0.50",
        rows.MEMORY: "3.0",
        rows.REQUEST: "-",
    }


def test_goals_say_what_was_reached() -> None:
    results = {
        (rows.LATENCY, "sidecar"): [Cell(p50_ms=1.0, p99_ms=4.0)],
        (rows.LATENCY, "p2pd"): [Cell(p50_ms=1.5, p99_ms=2.0)],
        (rows.REQUEST, "sidecar"): [Cell(rate=500)],
        (rows.ECHO, "sidecar"): [Cell(rate=700)],
        (rows.ECHO, "p2pd"): [Cell(rate=1000)],
        (rows.UNSIGNED, "sidecar"): [Cell(rate=1000)],
        (rows.UNSIGNED, "go-libp2p"): [Cell(rate=200)],
        (rows.UNSIGNED, "rust-libp2p"): [Cell(rate=600), Cell(rate=800), Cell(rate=700)],
        (rows.SIGNED, "sidecar"): [Cell(rate=1000)],
        (rows.CONNECT, "sidecar"): [Cell(rate=1000)],
        (rows.CONNECT, "p2pd"): ["it broke"],
        (rows.BUNDLED, "sidecar"): [Cell(rate=149_999), Cell(rate=150_001)],
        (rows.IDLE, "sidecar"): [Cell(core=0.0009)],
        (rows.MEMORY, "sidecar"): [Cell(mb=66)],
    }
    lines = goals.markdown(results).splitlines()
    assert lines[2:] == [
        "| one-way latency, p50 | 1 x p2pd | 1.50 x | reached |",
        "| one-way latency, p99 | 1 x p2pd | 0.50 x | not reached |",
        "| request one at a time, beside an echo | 0.5 x p2pd | 0.50 x | reached |",
        "| echo on an open stream, one at a time | 0.8 x p2pd | 0.70 x | not reached |",
        "| unsigned gossip 100 B | 2 x the best of the others | 1.43 x | not reached |",
        "| signed gossip 100 B in bundles | 150,000/s | 150,000/s | reached |",
        "| idle, 20 connections | at most 0.10% of a core | 0.09% of a core | reached |",
        "| idle memory | at most 55 MB | 66 MB | not reached |",
    ]


def test_larger_messages_than_rust_takes_do_not_apply() -> None:
    peers = {subject.name: subject for subject in subjects()}
    assert list(peers) == ["go-libp2p", "js-libp2p", "rust-libp2p"]
    assert asyncio.run(peers["rust-libp2p"].gossip(65_536, True, 1.0)) is None


def test_rows_that_take_long_are_measured_once_and_those_without_apps_for_one_language() -> None:
    taken: list[str] = []
    subjects = [Subject("strong", taken), Subject("strong, Python", taken)]
    wanted = [Row("once", lambda s, t: s.memory(), apps=False, once=True), Row("always", lambda s, t: s.memory())]
    results = asyncio.run(measure(subjects, wanted, rounds=2, seconds=1))
    assert {key: len(cells) for key, cells in results.items()} == {
        ("once", "strong"): 1,
        ("always", "strong"): 2,
        ("always", "strong, Python"): 2,
    }


def test_percentiles() -> None:
    assert percentiles(list(range(200, 0, -1))) == {"p50": 101, "p99": 199}
    assert percentiles([3.0]) == {"p50": 3.0, "p99": 3.0}


class Subject:
    """Answers each measurement with the order in which it was taken."""

    def __init__(self, name: str, taken: list[str]) -> None:
        self.name = name
        self._taken = taken

    async def memory(self) -> Cell:
        self._taken.append(self.name)
        if self.name == "weak":
            raise RuntimeError("out of breath")
        return Cell(mb=float(len(self._taken)))


def test_rounds_are_interleaved_and_go_on_past_a_failure(capsys: pytest.CaptureFixture[str]) -> None:
    taken: list[str] = []
    wanted = [row for row in ROWS if "resident memory" in row.title]
    results = asyncio.run(measure([Subject("weak", taken), Subject("strong", taken)], wanted, rounds=2, seconds=1))
    assert taken == ["weak", "strong", "weak", "strong"]
    assert results[wanted[0].title, "weak"] == ["RuntimeError: out of breath"] * 2
    assert results[wanted[0].title, "strong"] == [Cell(mb=2), Cell(mb=4)]
    assert "out of breath" in capsys.readouterr().err


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="reads /proc, which Linux has")
def test_descendants_are_counted() -> None:
    burn = "import os, sys; os.fork() or sum(range(20_000_000)); print(flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", burn], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        with CpuMeter([process.pid]) as meter:
            process.stdout.readline()
            process.stdout.readline()
        assert len(family([process.pid])) == 2
        assert resident_mb([process.pid]) > resident_mb([]) == 0
        assert meter.seconds > 0
        assert meter.microseconds_per(10) == pytest.approx(meter.seconds * 1e5)
        process.stdin.close()
