"""Sweeps: the cross product, the front, and the command."""

import contextlib
import json
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from sidecar.cli import main
from sidecar.commands.sim_runs import Job, RunCounter
from sidecar.core.errors import ConfigError
from sidecar.simulate.report import Run
from sidecar.simulate.settings import Assignment
from sidecar.simulate.sweep import MAX_RUNS, Combination, combinations, combined, front, sweep_records, sweep_told
from sidecar.simulate.sweep_page import sweep_page

SCENARIO = """\
duration = 12
settled = 1
[nodes.plain]
count = 4
topics = ["t"]
[[publish]]
topic = "t"
publishers = 4
count = 8
rate = 4
start = 9
"""


def run(p99: float | None, sent: float, missed: int = 0, *, seed: int = 1, whole: bool = True) -> Run:
    times = {"p50": p99, "p99": p99}
    return [
        {"record": "run", "seed": seed, "whole": whole, "settings": {}},
        {"record": "deliveries", "missed": missed, "delay": times, "last_receiver": times},
        {"record": "copies", "per_delivery": 2.5},
        {"record": "bytes", "service": "dht", "per_node_second": 0.0},
        {"record": "bytes", "service": "gossip", "per_node_second": sent},
    ]


def of(*values: tuple[float | None, float] | tuple[float | None, float, int]) -> list[Combination]:
    return [
        combined(number, (Assignment("gossip.degree", number),), [run(*value)])
        for number, value in enumerate(values, 1)
    ]


def numbers(found: Sequence[Combination]) -> list[int]:
    return [each.number for each in found]


def test_all_combinations() -> None:
    found = combinations([("gossip.degree", [4, 6]), ("gossip.flood_peers", [8, 16, 32])], 2)
    assert [[setting.value for setting in each] for each in found] == [
        [4, 8],
        [4, 16],
        [4, 32],
        [6, 8],
        [6, 16],
        [6, 32],
    ]
    many = [("gossip.degree", list(range(MAX_RUNS // 2)))]
    assert len(combinations(many, 2)) == MAX_RUNS // 2
    with pytest.raises(ConfigError, match="500 combinations with 3 seeds each would be 1500 runs; at most 1000"):
        combinations(many, 3)


@pytest.mark.parametrize(
    ("values", "best"),
    [
        ([(0.1, 100.0)], [1]),
        ([(0.1, 100.0), (0.2, 50.0), (0.3, 60.0)], [2, 1]),
        ([(0.1, 100.0), (0.1, 90.0)], [2]),
        ([(0.1, 100.0), (0.1, 100.0)], [1]),
        ([(0.1, 100.0), (0.2, 100.0)], [1]),
        ([(0.1, 100.0, 1), (0.2, 200.0)], [2]),
        ([(None, 100.0), (0.2, 200.0)], [2]),
        ([], []),
    ],
)
def test_the_front_is_what_nothing_else_beats(values: Any, best: list[int]) -> None:
    assert numbers(front(of(*values))) == best


def test_seeds_are_taken_together_and_broken_runs_left_out() -> None:
    runs = [run(0.1, 10.0, seed=1), run(0.2, 20.0, seed=2), run(9.0, 9.0, 9, seed=3, whole=False)]
    found = combined(1, (Assignment("gossip.degree", 4),), runs)
    assert found.seeds == (1, 2)
    assert found.values["delay_p99"] == (0.1, 0.2)
    assert found.figures["delay_p99"].mean == pytest.approx(0.15)
    assert found.figures["bytes_per_node_second"].mean == 15.0
    assert found.complete
    assert not combined(1, (), [run(0.1, 1.0), run(0.1, 1.0, 1)]).complete
    assert not combined(1, (), []).complete


def test_it_is_told_to_people_and_programs() -> None:
    found = of((0.1, 100.0), (0.2, 50.0, 3))
    told = list(sweep_told("s", found, 3))
    assert told[0] == "s: 2 of 3 combinations, 1 seed each"
    assert told[2].split() == [
        *("gossip.degree", "delay", "p50", "delay", "p99", "last", "one", "p99", "copies", "sent", "missed"),
    ]
    assert told[3].split() == ["1", "1", "100", "ms", "100", "ms", "100", "ms", "2.50", "100", "B/s", "0", "front"]
    assert told[4].split() == ["2", "2", "200", "ms", "200", "ms", "200", "ms", "2.50", "50", "B/s", "3"]
    records = list(sweep_records("s", found, 3))
    assert records[0] == {"record": "sweep", "scenario": "s", "combinations": 3, "played": 2}
    assert [(each["number"], each["settings"], each["front"]) for each in records[1:]] == [
        (1, {"gossip.degree": 1}, True),
        (2, {"gossip.degree": 2}, False),
    ]
    assert records[2]["delay_p99"] == {"mean": 0.2, "half_width": None}


def test_the_page_shows_the_front() -> None:
    found = of((0.1, 2048.0), (0.2, 1024.0), (0.3, 3072.0), (0.4, 512.0, 1))
    page = sweep_page("s <b>", found, 5)
    assert "The cheapest of the front: gossip.degree=2 (1.0 KiB/s a node, p99 200 ms). The fastest: " in page
    assert "4 of 5 combinations were played." in page
    assert "s &lt;b&gt;: combinations" in page
    for label in ("on the front", "beaten", "missed messages"):
        assert f">{label}<" in page
    assert page.count("<tr>") == 5
    assert sweep_page("s", found, 5) == sweep_page("s", found, 5)


def test_a_page_of_nothing() -> None:
    assert "No combination delivered every message." in sweep_page("s", [], 2)
    assert "<svg" not in sweep_page("s", of((None, 10.0)), 1)


def test_the_command_plays_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, out = tmp_path / "s.toml", tmp_path / "out"
    file.write_text(SCENARIO)
    words = ["--set", "gossip.flood_publish=true,false", "--seed", "3", "--out", str(out)]
    assert main(["sim", "sweep", str(file), *words, "--quiet"]) == 0
    told = capsys.readouterr()
    assert told.err == ""
    assert told.out.splitlines()[0] == "s: 2 combinations, 1 seed each"
    records = [json.loads(line) for line in (out / "sweep.jsonl").read_text().splitlines()]
    assert [record["settings"] for record in records[1:]] == [
        {"gossip.flood_publish": True},
        {"gossip.flood_publish": False},
    ]
    assert [record["missed"]["mean"] for record in records[1:]] == [0, 0]
    assert (out / "sweep.html").read_text().startswith("<!doctype html>")
    report = json.loads((out / "2" / "3" / "report.jsonl").read_text().splitlines()[0])
    assert (report["seed"], report["settings"]) == (3, {"gossip.flood_publish": False})


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ((), 2, "`sidecar sim sweep` needs what to vary, such as --set gossip.degree=4,6,8"),
        (("--set", "gossip.degree=4,1000"), 2, "--set gossip.degree=1000: "),
        (("--set", "gossip.degree=4", "--seeds", "0"), 2, "--seeds 0: allowed: a whole number from 1 on"),
        (
            ("--set", "gossip.degree=4", "--seeds", "1001"),
            2,
            "--set: 1 combination with 1001 seeds each would",
        ),
    ],
)
def test_the_command_tells_what_is_wrong_before_it_plays(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: Sequence[str], code: int, said: str
) -> None:
    file, out = tmp_path / "s.toml", tmp_path / "out"
    file.write_text(SCENARIO)
    assert main(["sim", "sweep", str(file), *words, "--out", str(out)]) == code
    assert said in capsys.readouterr().err
    assert not out.exists()


def test_run_takes_one_value_of_each_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "s.toml"
    file.write_text(SCENARIO)
    assert main(["sim", "run", str(file), "--set", "gossip.degree=4,6"]) == 2
    assert "`run` takes one value; `sidecar sim sweep` plays several" in capsys.readouterr().err


def test_ctrl_c_keeps_the_combinations_that_were_played(tmp_path: Path) -> None:
    file, out = tmp_path / "s.toml", tmp_path / "out"
    file.write_text(SCENARIO.replace("duration = 12", "duration = 13"))
    # The second combination would take for ever, and both are begun at once or one after the other.
    words = ["--set", "duration=13,80000", "--out", str(out)]
    command = [sys.executable, "-m", "sidecar", "sim", "sweep", str(file), *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        while not ((out / "1/1/report.jsonl").exists() and (out / "2/1").exists()):
            with contextlib.suppress(subprocess.TimeoutExpired):
                pytest.fail(f"ended by itself with {process.wait(0.1)}")
        process.send_signal(signal.SIGINT)
        told, complaint = process.communicate(timeout=60)
    assert process.returncode == 130, complaint
    assert complaint.endswith("sidecar: broken off; 1 of 2 combinations were played\n")
    assert told.startswith("s: 1 of 2 combinations, 1 seed each\n")
    records = [json.loads(line) for line in (out / "sweep.jsonl").read_text().splitlines()]
    assert [record["settings"] for record in records[1:]] == [{"duration": 13}]


def test_progress_says_how_much_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    said: list[str] = []
    counted = RunCounter(4, said.append)
    for moment in (103.0, 120.0, 121.0, 122.0):
        now[0] = moment
        counted.one(Job(Path("s.toml"), 1, Path("out")))
    bounded = RunCounter(2, said.append, at_most=True)
    now[0] = 132.0
    bounded.one(Job(Path("s.toml"), 1, Path("out")))
    assert said.pop() == "1 of at most 2 runs, 10 s; at most about 10 s are left"
    assert said == ["2 of 4 runs, 20 s; about 20 s are left", "4 of 4 runs, 22 s; about 0 s are left"]
