"""The search for parameters: on made-up networks of which the best is known, and the command on real runs."""

import json
import tomllib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from sidecar.cli import main
from sidecar.commands import sim_tune
from sidecar.config import configured
from sidecar.core.parameters import GossipConfig
from sidecar.simulate import tune
from sidecar.simulate.report import Run
from sidecar.simulate.settings import Assignment
from sidecar.simulate.sweep import Settings, combined
from sidecar.simulate.tune import (
    CHECKED,
    SPACE,
    Limits,
    ParameterSearch,
    Tuned,
    configured_keys,
    over,
    tune_records,
    tune_told,
)

BASE = {key: value for key, value in configured_keys(GossipConfig()).items() if key in SPACE}

Figures = tuple[float, float, float, int]
"""Delay p99, copies, bytes a second, missed."""
World = Callable[[dict[str, Any], int], Figures]


def plain(values: dict[str, Any], seed: int) -> Figures:
    """More links are faster and dearer; lazy ones spare copies; the other keys cost."""
    degree, eager = values["gossip.degree"], values["gossip.eager_share"]
    copies = degree * (1.0 - eager)
    sent = 1000 * copies + 100 * values["gossip.flood_peers"] + 500 / values["gossip.heartbeat_interval"]
    return 2.0 / degree + eager, copies, sent, 0


def reports(settings: Settings, seeds: Sequence[int], world: World) -> list[Run]:
    found: list[Run] = []
    for seed in seeds:
        p99, copies, sent, missed = world({**BASE, **dict(settings)}, seed)
        times = {"p50": p99 / 2, "p99": p99}
        found.append(
            [
                {"record": "run", "seed": seed, "whole": True},
                {"record": "deliveries", "missed": missed, "delay": times, "last_receiver": times},
                {"record": "copies", "per_delivery": copies},
                {"record": "bytes", "service": "gossip", "per_node_second": sent},
            ]
        )
    return found


def searched(limits: Limits, world: World, seeds: int = 5) -> tuple[ParameterSearch, Tuned]:
    search, number = ParameterSearch(limits, BASE), 0

    def play(batches: Iterator[list[Settings]]) -> None:
        nonlocal number
        for batch in batches:
            for settings in batch:
                number += 1
                search.searched(combined(number, settings, reports(settings, [1], world)))

    play(search.batches())
    while (candidate := search.candidate()) is not None:
        number += 1
        search.checked(combined(number, candidate, reports(candidate, range(1, seeds + 1), world)))
        if search.flattered:
            play(search.refined())
    assert len(search._checked) <= CHECKED
    assert number - len(search._checked) <= search.most
    return search, search.result()


def test_the_cheapest_that_holds_is_found() -> None:
    _, tuned = searched(Limits(p99=0.54), plain)
    assert tuned.best is not None
    assert dict(tuned.best.settings) == {  # what is not here is as the scenario has it
        "gossip.degree": 4,
        "gossip.eager_share": 0.02,
        "gossip.flood_peers": 4,
        "gossip.heartbeat_interval": 2.0,
    }
    assert tuned.best.seeds == (1, 2, 3, 4, 5)
    assert over(tuned.best, Limits(p99=0.52)) == {"delay_p99": pytest.approx(0.0)}


def test_what_the_scenario_has_may_be_the_best() -> None:
    def flat(values: dict[str, Any], seed: int) -> Figures:
        return 0.1, 2.0, 100.0, 0

    search, tuned = searched(Limits(p99=0.2), flat)
    assert tuned.best is not None
    assert tuned.best.settings == ()
    sizes = [len(values) for values in SPACE.values()]
    assert len(list(search.played())) == sizes[0] * sizes[1] + sum(size - 1 for size in sizes[2:]) + 1


def test_what_holds_with_one_seed_only_is_passed_over() -> None:
    def lucky(values: dict[str, Any], seed: int) -> Figures:
        p99, copies, sent, _ = plain(values, seed)
        return p99 + (1.0 if seed > 2 else 0.0), copies, sent, 0

    _, tuned = searched(Limits(p99=0.55), lucky)
    assert tuned.best is None
    assert tuned.nearest is not None

    assert len(tuned.nearest.seeds) == 5


def test_what_the_seed_of_the_search_flatters_is_given_room() -> None:
    def noisy(values: dict[str, Any], seed: int) -> Figures:
        p99, copies, sent, _ = plain(values, seed)
        return p99 * (1.0 + 0.1 * (seed - 1)), copies, sent, 0

    search, tuned = searched(Limits(p99=0.8), noisy)
    assert tuned.best is not None
    assert max(tuned.best.values["delay_p99"]) <= 0.8
    assert len(search._checked) == 2  # the first one tells how much room is needed
    assert dict(tuned.best.settings) == {  # with the default of gossip.eager_share
        "gossip.degree": 4,
        "gossip.flood_peers": 4,
        "gossip.heartbeat_interval": 2.0,
    }


def test_missed_messages_hold_never() -> None:
    def lossy(values: dict[str, Any], seed: int) -> Figures:
        p99, copies, sent, _ = plain(values, seed)
        return p99, copies, sent, int(values["gossip.degree"] < 6)

    _, tuned = searched(Limits(p99=1.0), lossy)
    assert tuned.best is not None
    assert dict(tuned.best.settings).get("gossip.degree", 6) == 6


def test_where_nothing_holds_it_is_told_what_fails_and_what_is_nearest() -> None:
    limits = Limits(p99=0.3, copies=2.0)
    search, tuned = searched(limits, plain)
    assert tuned.best is None
    assert tuned.nearest is not None
    above = over(tuned.nearest, limits)
    assert max(above.values()) > 0
    told = list(tune_told("s", limits, search, {"gossip.degree": 5}))
    assert "Nothing holds. This comes nearest, with 5 seeds:" in told
    assert [line.split()[0] for line in told if "<- this fails" in line] == [
        {"delay_p99": "delay", "copies": "copies"}[name] for name, share in above.items() if share > 0
    ]
    records = list(tune_records("s", limits, search, {}))
    assert (records[0]["holds"], records[0]["limits"]) == (False, {"delay_p99": 0.3, "copies": 2.0})


def test_what_was_broken_off_is_told_as_such() -> None:
    search = ParameterSearch(Limits(p99=0.5), BASE)
    first = next(search.batches())[0]
    search.searched(combined(1, first, reports(first, [1], plain)))
    assert search.result().best is None
    assert "This holds with 1 seed, and was not tried with more:" in list(tune_told("s", search.limits, search, {}))


def test_nothing_played_is_nothing_found() -> None:
    search = ParameterSearch(Limits(p99=1.0), BASE)
    assert search.result() == Tuned(None, None)
    assert list(tune_told("s", Limits(p99=1.0), search, {}))[-1] == "Nothing was played to its end."


def test_the_defaults_are_among_what_is_tried() -> None:
    for key, values in SPACE.items():
        assert BASE[key] in values


# ---------------------------------------------------------------- the command

SCENARIO = """\
duration = 12
settled = 1
[nodes.plain]
count = 4
topics = ["t"]
config.gossip.seen_ttl = 6
[[publish]]
topic = "t"
publishers = 4
count = 8
rate = 4
start = 9
"""


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Little to be tried; the second heartbeat does not go with the scenario's `seen_ttl`."""
    space = {"gossip.flood_peers": (2, 16), "gossip.heartbeat_interval": (1.0, 2.0)}
    monkeypatch.setattr(tune, "SPACE", space)
    monkeypatch.setattr(sim_tune, "SPACE", space)


@pytest.mark.usefixtures("few")
def test_the_command_prints_a_configuration_that_holds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, out = tmp_path / "s.toml", tmp_path / "out"
    file.write_text(SCENARIO)
    words = ["--p99", "500ms", "--copies", "20", "--seeds", "2", "--out", str(out)]
    assert main(["sim", "tune", str(file), *words]) == 0
    told = capsys.readouterr()
    lines = told.out.splitlines()
    assert lines[0] == "s: 2 combinations searched with one seed, 1 of them played with all"
    assert lines[2] == "This holds with 2 seeds:"
    begin = lines.index("[gossip]")
    document = tomllib.loads("\n".join(lines[begin : lines.index("", begin)]))
    config = configured(document, lambda section, name: "printed")
    assert config.gossip.heartbeat_interval == 1.0
    assert config.gossip.flood_peers in (2, 16)
    assert any(line.startswith("delay p99") and "under the limit" in line for line in lines)
    assert lines[-3].startswith("How sure: all 2 seeds hold")
    records = [json.loads(line) for line in (out / "tune.jsonl").read_text().splitlines()]
    assert records[0]["configuration"]["gossip.flood_peers"] == config.gossip.flood_peers
    assert [record["stage"] for record in records[1:]] == ["searched", "searched", "checked"]
    assert records[-1]["seeds"] == [1, 2]


@pytest.mark.usefixtures("few")
def test_the_command_says_that_nothing_holds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "s.toml"
    file.write_text(SCENARIO)
    words = ["--p99", "1ms", "--seeds", "1", "--out", str(tmp_path / "out"), "--quiet"]
    assert main(["sim", "tune", str(file), *words]) == 1
    told = capsys.readouterr()
    assert "Nothing holds. This comes nearest, with 1 seed:" in told.out
    assert "<- this fails" in told.out
    assert told.err == "sidecar: none of the combinations that were tried keeps all limits\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "`sidecar sim tune` needs a limit: --p99, --copies or --bandwidth"),
        (("--p99", "fast"), "--p99 fast: "),
        (("--copies", "0"), "--copies 0: out of range; allowed: a number above 0"),
        (("--bandwidth", "20XB"), "--bandwidth 20XB: "),
        (("--p99", "1s", "--set", "gossip.degree=3"), "--set is for `run` and `sweep`; `tune` searches by itself"),
    ],
)
def test_wrong_limits(tmp_path: Path, capsys: pytest.CaptureFixture[str], words: Sequence[str], said: str) -> None:
    file = tmp_path / "s.toml"
    file.write_text(SCENARIO)
    assert main(["sim", "tune", str(file), *words, "--out", str(tmp_path / "out")]) == 2
    assert said in capsys.readouterr().err


def test_without_messages_there_is_nothing_to_tune(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "s.toml"
    file.write_text(SCENARIO.partition("[[publish]]")[0])
    assert main(["sim", "tune", str(file), "--p99", "1s", "--out", str(tmp_path / "out")]) == 2
    assert "nothing is published, so there are no delays to be tuned" in capsys.readouterr().err


def test_settings_of_a_combination_are_those_that_differ() -> None:
    search = ParameterSearch(Limits(p99=1.0), BASE)
    batches = search.batches()
    assert next(batches) == [()]
    search.searched(combined(1, (), reports((), [1], plain)))
    grid = next(batches)
    assert grid[:2] == [
        (Assignment("gossip.degree", 3), Assignment("gossip.eager_share", 0.0)),
        (Assignment("gossip.degree", 3), Assignment("gossip.eager_share", 0.02)),
    ]
    assert (Assignment("gossip.degree", 3),) in grid
    assert len(grid) == len(set(grid)) == 24  # what the scenario has is known
