"""The attacks that are simulated: their scenarios, how they are played, and what is written of them."""

import json
from pathlib import Path
from typing import Any

import pytest

from bench.attack_sim import page
from bench.attack_sim.plan import DEFAULTS, OPEN, Variant, attacks, full, outcome
from sidecar.simulate import reading
from sidecar.simulate.reading import load_scenario
from sidecar.simulate.scenario import Scenario
from sidecar.simulate.settings import Assignment, read_settings

SCORED, UNSCORED = DEFAULTS


def load(file: Path, settings: list[str]) -> Scenario:
    return load_scenario(file, [Assignment(key, values[0]) for key, values in read_settings(settings)])


@pytest.mark.parametrize("file", attacks(None), ids=lambda file: str(file.stem))
def test_each_can_be_played_small_and_in_full(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "available_memory", lambda: 1e12)
    small = load(file, [])
    assert small.honest == 40
    large = load(file, [*full(file)])
    assert large.honest == pytest.approx(1000, abs=30)
    hostile = [
        (kind, other) for kind, other in zip(small.kinds, large.kinds, strict=True) if kind.hostility is not None
    ]
    assert bool(hostile) is (file.stem != "baseline")
    for kind, other in hostile:
        assert kind.hostility is not None
        assert other.hostility is not None
        around_one = kind.hostility.connections == 1
        assert other.count == (kind.count if around_one else 25 * kind.count)
        assert other.hostility.connections == (1 if around_one else 100)


@pytest.mark.parametrize("variant", [*DEFAULTS, *OPEN], ids=lambda variant: str(variant.name))
def test_the_ways_of_playing_it(variant: Variant) -> None:
    (file,) = attacks("eclipse-one")
    for kind in load(file, [*variant.settings]).kinds:
        if kind.hostility is None:
            assert kind.config.gossip.score.enabled is variant.scored
            assert (kind.bounds.max_per_address > 64) is variant.raised
            assert (kind.config.high_water == 0) is variant.raised


def test_a_name_that_there_is_not() -> None:
    assert [file.stem for file in attacks("covert-flash,baseline")] == ["covert-flash", "baseline"]
    with pytest.raises(ValueError, match="there is no attack 'x'; there are baseline, at-dawn"):
        attacks("x")


def report(folder: Path, missed: int = 0, last: float = 0.5) -> Path:
    """Of an attack of which the second `[[publish]]` is the one that counts."""

    def deliveries(publish: int | str, missed: int, last: float) -> dict[str, Any]:
        delay = {"p50": 0.04, "p90": 0.05, "p99": 0.1, "max": last}
        return {
            "record": "deliveries", "publish": publish, "owed": 100, "received": 100 - missed, "missed": missed,
            "delay": delay,
        }  # fmt: skip

    standing = {"good": 30, "no_mesh": 10, "no_gossip": 0, "no_publish": 0, "graylisted": 0}
    records = [
        {"record": "run", "nodes": 200, "hostile": 160},
        deliveries("all", 9, 9.0),
        deliveries(1, 9, 9.0),
        deliveries(2, missed, last),
        {"record": "connections", "to_hostile": 0.5, "trimmed": 2},
        {"record": "mesh", "to_hostile": 0.25},
        {"record": "hostile", "at": "all", "standing": standing, "refused": {"address": 3, "rate": 1}},
    ]
    folder.mkdir()
    (folder / "report.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    (folder / "cost.json").write_text(json.dumps({"cpu_seconds": 12.3, "peak_memory_bytes": 5e8}))
    return folder


def test_what_counts_is_what_was_published_during_the_attack(tmp_path: Path) -> None:
    (file,) = attacks("eclipse-network")
    found = outcome(report(tmp_path / "one"), file, SCORED)
    assert (found.attack, found.owed, found.missed, found.last, found.bounded) == ("eclipse-network", 100, 0, 0.5, 6)
    assert found.holds
    assert not outcome(report(tmp_path / "two", missed=1), file, SCORED).holds
    assert not outcome(report(tmp_path / "three", last=6.1), file, SCORED).holds


def test_the_part_of_the_page(tmp_path: Path) -> None:
    (file,) = attacks("eclipse-network")
    outcomes = [
        outcome(report(tmp_path / "one"), file, SCORED),
        outcome(report(tmp_path / "two", missed=1, last=7.0), file, UNSCORED),
    ]
    part = page.section(outcomes, "- facts", whole=False)
    rows = [line for line in part.splitlines() if line.startswith("| eclipse")]
    assert rows == [
        "| eclipse-network | 200, 160 | on | 100 % | 40 ms | 100 ms | 500 ms | 25 % | 25 % | 12 s |",
        "| eclipse-network | 200, 160 | off | 99.00 % | 40 ms | 100 ms | 7.00 s | 25 % |  | 12 s |",
    ]
    whole = page.replaced(f"before\n{page.BEGIN}\nold\n{page.END}\nbehind\n", part)
    assert whole.startswith(f"before\n{page.BEGIN}\n\n2 runs")
    assert whole.endswith(f"- facts\n\n{page.END}\nbehind\n")
    with pytest.raises(ValueError, match="the page has no"):
        page.replaced("nothing", part)


def test_the_page_has_a_place_for_it() -> None:
    text = (Path(__file__).parents[2] / "docs" / "defence.md").read_text(encoding="utf-8")
    assert page.BEGIN in page.replaced(text, "part")
