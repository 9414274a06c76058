"""Scenarios as they are played: the shipped ones with few nodes, equal seeds, and what a report counts."""

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
from array import array
from pathlib import Path
from typing import Any

import pytest

from sidecar.cli import main
from sidecar.commands.common import said
from sidecar.commands.sim import Progress
from sidecar.simulate import reading
from sidecar.simulate.limit import shortest
from sidecar.simulate.play import Play
from sidecar.simulate.reading import load_scenario
from sidecar.simulate.report import quantile, records
from sidecar.simulate.run_page import COST_PART
from sidecar.simulate.scenario import Scenario
from sidecar.simulate.summary import summary
from sidecar.simulate.tally import Message

SHIPPED = sorted((Path(__file__).parents[2] / "scenarios").glob("*.toml"))
EVERYTHING = """\
duration = 24
settled = 4
entrances = 2
[network]
latency = "matrix"
regions = ["eu", "us"]
round_trips = [["10ms", "90ms"], ["92ms", "20ms"]]
loss = 0.02
uplink = "1MiB"
downlink = "2MiB"
dead_after = 3
[nodes.steady]
count = 4
clock_offset = 5
clock_drift = 0.001
topics = ["news", "chat"]
[nodes.other]
count = 5
over = 1
topics = ["news"]
[nodes.other.config.dht]
mode = "client"
[nodes.vile]
count = 2
behaviour = "degrade"
connections = 5
after = 6
[[publish]]
topic = "news"
publishers = 3
count = 8
rate = 1
start = 8
[[publish]]
topic = "chat"
count = 2
rate = 1
start = 8
[[event]]
what = "churn"
kind = "other"
at = 9
lasts = 4
rate = 1
away = 2
[[event]]
what = "kill"
at = 15
count = 2
[[event]]
what = "restart"
at = 16
[[event]]
what = "partition"
at = 17
shares = [0.5, 0.5]
[[event]]
what = "heal"
at = 21
"""


def of_kind(report: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [record for record in report if record["record"] == kind]


def tiny(scenario: Scenario) -> Scenario:
    """The same with some ten nodes and few messages."""
    factor = 12 / scenario.nodes
    return dataclasses.replace(
        scenario,
        kinds=tuple(dataclasses.replace(kind, count=max(2, round(kind.count * factor))) for kind in scenario.kinds),
        publications=tuple(
            dataclasses.replace(each, publishers=2, count=each.count // 5, rate=each.rate / 5)
            for each in scenario.publications
        ),
        events=tuple(dataclasses.replace(event, rate=event.rate / 5) for event in scenario.events),
    )


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.stem)
def test_nobody_misses_a_message_in_what_is_shipped(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "available_memory", lambda: 1e12)  # it is played with few nodes
    scenario = tiny(load_scenario(file))
    play = Play(scenario)
    play.run()
    report = records(play)
    assert report[0]["whole"]
    assert report[0]["unpublished"] == 0
    messages = of_kind(report, "message")
    assert len(messages) == sum(each.count for each in scenario.publications)
    for message in messages:
        assert message["owed"] > 0, message
        assert message["missed"] == 0, message
    assert f"{scenario.name}: {scenario.nodes} nodes" in next(summary(report))


def test_equal_seeds_give_equal_reports_under_any_hash_seed(tmp_path: Path) -> None:
    file = tmp_path / "everything.toml"
    file.write_text(EVERYTHING)
    found = []
    for hash_seed in ("0", "4242"):
        out = tmp_path / hash_seed
        subprocess.run(
            [sys.executable, "-m", "sidecar", "sim", "run", str(file), "--out", str(out), "--seed", "3", "--quiet"],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            timeout=120,
            check=True,
        )
        page, mark, rest = (out / "report.html").read_text().partition(COST_PART)
        assert mark
        assert "<section" not in rest, "what differs comes last"
        found.append(((out / "report.jsonl").read_bytes(), (out / "summary.txt").read_bytes(), page))
    assert found[0] == found[1]
    report = [json.loads(line) for line in found[0][0].splitlines()]
    assert (report[0]["seed"], report[0]["whole"]) == (3, True)
    cost = json.loads((tmp_path / "0" / "cost.json").read_text())
    assert cost["cpu_seconds"] > 0
    assert cost["peak_memory_bytes"] > 0


def test_another_seed_is_another_run(tmp_path: Path) -> None:
    file = tmp_path / "short.toml"
    file.write_text('duration = 3\n[nodes.plain]\ncount = 4\ntopics = ["t"]\n')
    runs = []
    for seed in (1, 1, 2):
        play = Play(load_scenario(file), seed)
        play.run()
        runs.append(records(play)[1:])
    assert runs[0] == runs[1] != runs[2]


def test_what_the_dead_have_counted_and_missed(tmp_path: Path) -> None:
    file = tmp_path / "killed.toml"
    file.write_text(
        'duration = 15\nsettled = 1\n[nodes.plain]\ncount = 6\ntopics = ["t"]\n'
        '[[publish]]\ntopic = "t"\npublishers = 6\ncount = 4\nrate = 1\nstart = 8\n'
        '[[event]]\nwhat = "kill"\nat = 9.5\ncount = 3\n'
    )
    play = Play(load_scenario(file))
    play.run()
    report = records(play)
    assert report[0]["up_at_end"] == 3
    assert report[0]["node_seconds"] == 3 * 15 + 3 * 9.5
    assert [message["owed"] for message in of_kind(report, "message")] == [5, 5, 2, 2]
    assert [message["missed"] for message in of_kind(report, "message")] == [0] * 4
    (copies,) = of_kind(report, "copies")
    assert copies["deliveries"] == 14
    assert copies["copies"] >= 14


@pytest.mark.parametrize("kept", [True, False])
def test_nodes_with_history_get_what_they_missed(tmp_path: Path, kept: bool) -> None:
    file = tmp_path / "healed.toml"
    file.write_text(
        "duration = 60\nsettled = 1\n[network]\ndead_after = 3\n"
        '[nodes.plain]\ncount = 8\ntopics = ["t"]\nconfig.gossip.seen_ttl = 10\n'
        + ('config.history.topics = ["t*"]\n' if kept else "")
        + '[[publish]]\ntopic = "t"\npublishers = 8\ncount = 16\nrate = 2\nstart = 15\n'
        '[[event]]\nwhat = "partition"\nat = 14\nshares = [0.25, 0.75]\n'
        '[[event]]\nwhat = "heal"\nat = 35\n'
        '[[event]]\nwhat = "kill"\nat = 48\ncount = 2\n'
        '[[event]]\nwhat = "restart"\nat = 50\n'
    )
    play = Play(load_scenario(file))
    play.run()
    assert len(play.tally.messages) == 16
    for message in play.tally.messages:
        others = set(range(1, 9)) - {message.publisher}
        assert (set(message.receivers) == others) is kept
        assert len(set(message.receivers)) == len(message.receivers)  # nobody gets one twice


def test_no_message_is_faster_than_the_shortest_path(tmp_path: Path) -> None:
    file = tmp_path / "regions.toml"
    file.write_text(
        'duration = 20\nsettled = 1\n[network]\nlatency = "matrix"\nregions = ["near", "far"]\nspread = 0\n'
        'round_trips = [["20ms", "100ms"], ["100ms", "20ms"]]\nuplink = "1MiB"\n'
        '[nodes.near]\ncount = 2\nregions = ["near"]\ntopics = ["t"]\n'
        '[nodes.far]\ncount = 1\nregions = ["far"]\ntopics = ["t"]\n'
        '[[publish]]\ntopic = "t"\nkind = "near"\ncount = 2\nrate = 1\nstart = 15\nsize = "64KiB"\n'
    )
    play = Play(load_scenario(file))
    play.run()
    publisher = play.peers[play.tally.messages[0].publisher - 1]
    other = 3 - publisher.index
    assert shortest(play, publisher, 1 << 16) == pytest.approx({publisher.index: 0.0, other: 0.0725, 3: 0.1125})
    (limit,) = of_kind(records(play), "limit")
    assert limit["path"] == {"p50": 0.0725, "p99": 0.1125}
    assert limit["ratio"]["p50"] >= 1
    assert limit["ratio"]["p99"] >= 1


CHAIN = """\
duration = 30
settled = 1
[network]
low = "10ms"
high = "10ms"
[nodes.plain]
count = 20
over = 2
topics = ["t"]
config.gossip.degree = 3
config.gossip.degree_low = 2
config.gossip.degree_high = 4
config.gossip.degree_out = 1
config.gossip.flood_publish = false
[[publish]]
topic = "t"
publishers = 4
count = 8
rate = 2
start = 20
"""


def test_hops_are_counted_from_the_publisher(tmp_path: Path) -> None:
    file = tmp_path / "chain.toml"
    file.write_text(CHAIN)
    play = Play(load_scenario(file))
    play.run()
    counted: dict[int, int] = {}
    for message in play.tally.messages:
        for receiver, delay in zip(message.receivers, message.delays, strict=True):
            hops = message.hops[receiver]
            assert delay >= hops * 0.01 - 1e-9, "each hop takes a latency"
            counted[hops] = counted.get(hops, 0) + 1
    assert max(counted) >= 3
    report = records(play)
    (hops,) = of_kind(report, "hops")
    assert hops["histogram"] == sorted(map(list, counted.items()))
    assert (hops["min"], hops["max"]) == (1, max(counted))
    assert sum(count for _, count in hops["histogram"]) == of_kind(report, "deliveries")[0]["received"] == 8 * 19
    assert f"hops         1 to {max(counted)} (median {hops['p50']}, p99 {hops['p99']}) until a node has a message" in (
        list(summary(report))
    )


def test_hops_by_way_of_somebody_who_is_not_heard_are_not_known() -> None:
    message = Message(0, "t", 1, 0.0, array("L", [2, 3, 4, 5]), bytearray(6))
    message.arrives(2, 1, 0.1)
    message.arrives(3, 2, 0.2)
    message.arrives(5, 4, 0.3)
    assert list(message.hops) == [0, 0, 1, 2, 0, 0]
    assert list(message.receivers) == [2, 3, 5]


def test_curves_and_histograms_say_what_the_quantiles_say(tmp_path: Path) -> None:
    file = tmp_path / "chain.toml"
    file.write_text(CHAIN)
    play = Play(load_scenario(file))
    play.run()
    report = records(play)
    (deliveries,), (limit,) = of_kind(report, "deliveries"), of_kind(report, "limit")
    curves = {curve["of"]: curve for curve in of_kind(report, "curve")}
    for name, times in (
        ("delay", deliveries["delay"]),
        ("last_receiver", deliveries["last_receiver"]),
        ("shortest_path", limit["path"]),
    ):
        found = dict(zip(curves[name]["percent"], curves[name]["values"], strict=True))
        assert (found[50], found[99]) == (times["p50"], times["p99"])
        assert sorted(curves[name]["values"]) == curves[name]["values"]
    (connections,), (mesh,), (copies,) = (of_kind(report, kind) for kind in ("connections", "mesh", "copies"))
    for spread in (connections, mesh):
        assert sum(count for _, count in spread["histogram"]) == 20
        assert (spread["histogram"][0][0], spread["histogram"][-1][0]) == (spread["min"], spread["max"])
    assert sum(count for _, count in copies["histogram"]) == 20
    assert copies["histogram"][0][0] <= copies["per_node"]["min"] < copies["histogram"][0][0] + 0.5
    (dht,) = of_kind(report, "dht")
    assert sum(count for _, count in dht["questions_per_lookup"]) == dht["lookups"] == dht["found"]
    assert 0 < sum(count for _, count in dht["hops"]) <= dht["lookups"]
    assert dht["hops"][-1][0] is None


def test_an_uplink_and_losses_make_it_slower(tmp_path: Path) -> None:
    slowest = []
    for network, count in (("", 3), ('uplink = "20KiB"\n', 3), ("loss = 0.3\n", 30)):  # losses come by chance
        file = tmp_path / "network.toml"
        file.write_text(
            'duration = 35\n[network]\nlatency = "uniform"\nlow = 0.01\nhigh = 0.01\n'
            + network
            + '[nodes.plain]\ncount = 5\ntopics = ["t"]\n'
            f'[[publish]]\ntopic = "t"\ncount = {count}\nrate = 2\nstart = 15\nsize = "4KiB"\n'
        )
        play = Play(load_scenario(file))
        play.run()
        (deliveries,) = of_kind(records(play), "deliveries")
        assert deliveries["missed"] == 0
        slowest.append(deliveries["last_receiver"]["p50"])
    assert slowest[0] == pytest.approx(0.01)
    assert slowest[1] > 0.2  # four copies of 4 KiB leave by an uplink of 20 KiB a second
    assert slowest[2] > 0.2  # what TCP waits before it sends again


def test_ctrl_c_keeps_what_was_played(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "long.toml"
    file.write_text('duration = 1000\n[nodes.plain]\ncount = 3\ntopics = ["t"]\n')
    interrupted = []

    def told(progress: Progress, over: float) -> None:
        if over >= 2 and not interrupted:
            interrupted.append(over)
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Progress, "told", told)
    monkeypatch.chdir(tmp_path)
    assert main(["sim", "run", str(file)]) == 130
    told_people = capsys.readouterr()
    assert told_people.err == "sidecar: broken off after 2.0 of 1000 virtual seconds\n"
    assert "broken off at 2.0 s" in told_people.out
    report = [json.loads(line) for line in (tmp_path / "sim/long-1/report.jsonl").read_text().splitlines()]
    assert (report[0]["whole"], report[0]["played"]) == (False, 2.0)


def test_the_command_tells_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sim", "run", str(tmp_path / "none.toml")]) == 2
    assert (
        capsys.readouterr().err == f"sidecar: scenario {tmp_path}/none.toml cannot be read: No such file or directory\n"
    )
    file = tmp_path / "short.toml"
    file.write_text("duration = 1\n[nodes.plain]\ncount = 2\n")
    assert main(["sim", "run", str(file), "--seed", "-1"]) == 2
    assert main(["sim", "run", str(file), "--out", str(file / "below")]) == 1
    capsys.readouterr()
    assert main(["sim", "run", str(file), "--out", str(tmp_path / "out"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["folder"] == str(tmp_path / "out")
    assert told["records"][0]["scenario"] == "short"


def test_several_seeds_are_played_each_on_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "short.toml"
    file.write_text('duration = 1\n[nodes.plain]\ncount = 2\ntopics = ["t"]\n')
    out = tmp_path / "out"
    assert main(["sim", "run", str(file), "--seed", "5", "--seeds", "2", "--out", str(out), "--quiet"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"seed 5: {out}/5/report.html",
        f"seed 6: {out}/6/report.html",
        f"beside others: `sidecar sim compare {out} ...`",
    ]
    assert [json.loads((out / seed / "report.jsonl").read_text().splitlines()[0])["seed"] for seed in "56"] == [5, 6]
    assert main(["sim", "run", str(file), "--seeds", "0"]) == 2
    assert main(["sim", "run", str(file), "--seeds", "2", "--json"]) == 2


def test_ctrl_c_ends_all_seeds_and_keeps_what_they_played(tmp_path: Path) -> None:
    file = tmp_path / "long.toml"
    file.write_text('duration = 80000\n[nodes.plain]\ncount = 3\ntopics = ["t"]\n')
    out = tmp_path / "out"
    words = [sys.executable, "-m", "sidecar", "sim", "run", str(file), "--seeds", "2", "--out", str(out)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        while not any(out.glob("*")):  # a folder is made right before its run
            with contextlib.suppress(subprocess.TimeoutExpired):
                pytest.fail(f"ended by itself with {process.wait(0.1)}")
        process.send_signal(signal.SIGINT)
        _, complaint = process.communicate(timeout=60)
    assert process.returncode == 130, complaint
    assert complaint == "sidecar: broken off; what was played is kept\n"


def test_progress_says_how_much_is_left(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(said, "as_json", False)
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    progress = Progress(60.0, quiet=False)
    for at, over in ((130.0, 0.5), (140.0, 5.0), (170.0, 10.0), (190.0, 15.0), (230.0, 20.0), (260.0, 50.0)):
        now[0] = at
        progress.told(over)
    progress.end()
    assert capsys.readouterr().err.splitlines() == [
        "sidecar: 0.5 of 60 virtual seconds, 30 s",
        "sidecar: 10.0 of 60 virtual seconds, 70 s; about 211 s are left",
        "sidecar: 20.0 of 60 virtual seconds, 130 s; about 240 s are left",  # by the last 60 s
        "sidecar: 50.0 of 60 virtual seconds, 160 s; about 22 s are left",
    ]


def test_quantiles_are_values_that_were_there() -> None:
    assert [quantile(range(1, 101), share) for share in (0.0, 0.5, 0.99, 1.0)] == [1, 50, 99, 100]
    assert quantile([7], 0.99) == 7
