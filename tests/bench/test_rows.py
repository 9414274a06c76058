"""The benchmark's table, and what it reads of processes."""

import asyncio
import os
import subprocess
import sys

import pytest

from bench.figures import percentiles
from bench.measure import CpuMeter, family, resident_mb
from bench.peers import subjects
from bench.rows import ROWS, Cell, markdown, median, spread
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
    )
    lines = table.splitlines()
    assert lines[0] == "| | ours | theirs |"
    assert lines[2] == f"| {first.title} | 12,346/s, 6.54 µs (1 of 2 rounds failed) | - |"
    assert lines[3] == f"| {second.title} | - | - (1 of 1 rounds failed) |"


def test_larger_messages_than_rust_takes_do_not_apply() -> None:
    peers = {subject.name: subject for subject in subjects()}
    assert list(peers) == ["go-libp2p", "js-libp2p", "rust-libp2p"]
    assert asyncio.run(peers["rust-libp2p"].gossip(65_536, True, 1.0)) is None


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
    rows = [row for row in ROWS if "resident memory" in row.title]
    results = asyncio.run(measure([Subject("weak", taken), Subject("strong", taken)], rows, rounds=2, seconds=1))
    assert taken == ["weak", "strong", "weak", "strong"]
    assert results[rows[0].title, "weak"] == ["RuntimeError: out of breath"] * 2
    assert results[rows[0].title, "strong"] == [Cell(mb=2), Cell(mb=4)]
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
