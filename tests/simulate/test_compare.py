"""Runs side by side."""

import json
from pathlib import Path
from typing import Any

import pytest

from sidecar.cli import main
from sidecar.simulate.compare import ComparedNumber, Estimate, compare


def report(seed: int, p50: float, copies: float | None = None) -> list[dict[str, Any]]:
    return [
        {"record": "run", "scenario": "made-up", "seed": seed, "whole": True},
        {"record": "deliveries", "missed": 0, "delay": {"p50": p50, "p99": None}},
        {"record": "copies", "per_delivery": copies},
    ]


def write(folder: Path, records: list[dict[str, Any]]) -> None:
    folder.mkdir(parents=True)
    (folder / "report.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))


def row(rows: list[ComparedNumber], name: str) -> ComparedNumber:
    return next(each for each in rows if each.name == name)


def test_a_mean_has_a_width_that_several_seeds_give_it() -> None:
    rows = compare([report(1, 0.010, 4.0)], [report(seed, 0.020 + seed / 1000) for seed in (1, 2, 3)])
    delay = row(rows, "delay, p50")
    assert delay.one == Estimate(10.0, None)
    assert delay.other is not None
    assert delay.other.mean == pytest.approx(22.0)
    assert delay.other.half_width == pytest.approx(4.303 * 1.0 / 3**0.5)
    assert (delay.ratio, delay.apart) == (pytest.approx(2.2), None)
    copies = row(rows, "copies for each delivery")
    assert (copies.one, copies.other, copies.ratio) == (Estimate(4.0, None), None, None)
    assert "delay, p99" not in [each.name for each in rows]  # neither has any


def test_what_may_be_chance_is_not_told_apart() -> None:
    one = [report(seed, 0.020 + seed / 1000) for seed in (1, 2, 3)]
    near = [report(seed, 0.021 + seed / 1000) for seed in (1, 2, 3)]
    far = [report(seed, 0.080 + seed / 1000) for seed in (1, 2, 3)]
    assert row(compare(one, near), "delay, p50").apart is False
    assert row(compare(one, far), "delay, p50").apart is True


def test_the_command_finds_reports_below_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "a", report(1, 0.020, 8.0))
    for seed in (1, 2):
        write(tmp_path / "b" / str(seed), report(seed, 0.040, 4.0))
    assert main(["sim", "compare", str(tmp_path / "a"), str(tmp_path / "b")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == [f"A: {tmp_path}/a: made-up, seed 1", f"B: {tmp_path}/b: made-up, seed 1, 2"]
    assert [line.split() for line in lines if line.startswith("copies")] == [
        ["copies", "for", "each", "delivery", "8.00", "4.00", "+-", "0.00", "0.50"]
    ]
    assert lines[-1].startswith("One run cannot tell chance from difference")
    assert main(["sim", "compare", str(tmp_path / "a"), str(tmp_path / "b"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [each["ratio"] for each in told["figures"] if each["name"] == "delay, p50"] == [pytest.approx(2.0)]


def test_what_is_no_report_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "a", report(1, 0.020))
    write(tmp_path / "b", [{"record": "message"}])
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "report.jsonl").write_text("[1]\n")
    monkeypatch.chdir(tmp_path)
    for other, said in (
        ("b", "b/report.jsonl is no report of a simulation: it does not begin with a run"),
        ("c", "c/report.jsonl is no report of a simulation, or damaged"),
        ("d", "d: no report.jsonl in it or in the folders below: name what `sidecar sim run` wrote"),
    ):
        assert main(["sim", "compare", "a", other]) == 1
        assert said in capsys.readouterr().err
    assert main(["sim", "compare", "a"]) == 2
    assert "`sidecar sim compare` takes two folders, not 1" in capsys.readouterr().err
    assert main(["sim", "run", "a", "b"]) == 2
    assert "`sidecar sim run` takes one scenario, not 2" in capsys.readouterr().err
