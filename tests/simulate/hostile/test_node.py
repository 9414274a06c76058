"""Hostile nodes among honest ones: on real connections, in whole runs."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from sidecar.core.kademlia.messages import encode_closer_peers
from sidecar.core.override import override
from sidecar.simulate.hostile import BEHAVIOURS, Behaviour, Conduct, Exchange, HostileNode
from sidecar.simulate.play import Play
from sidecar.simulate.reading import load_scenario
from sidecar.simulate.report import records
from sidecar.simulate.summary import summary

SCENARIO = """\
duration = 30
settled = 2
[network]
latency = "uniform"
low = "25ms"
high = "25ms"
[nodes.plain]
count = {honest}
topics = ["t"]
[nodes.sybils]
count = {sybils}
start = 3
{keys}
[[publish]]
topic = "t"
publishers = 2
count = 10
rate = 1
start = 15
"""


def played(tmp_path: Path, keys: str, honest: int = 2, sybils: int = 4) -> Play:
    file = tmp_path / "hostile.toml"
    file.write_text(SCENARIO.format(keys=keys, honest=honest, sybils=sybils))
    play = Play(load_scenario(file))
    play.run()
    return play


def of_kind(play: Play, kind: str) -> Any:
    (record,) = (record for record in records(play) if record["record"] == kind)
    return record


def test_honest_nodes_get_copies_of_those_alone_who_pass_on(tmp_path: Path) -> None:
    silent = played(tmp_path, 'behaviour = "silent"\nconnections = 2')
    assert of_kind(silent, "copies")["per_delivery"] == 1.0  # there is one honest neighbour
    well = played(tmp_path, 'behaviour = "silent"\nconnections = 2\nafter = "1h"')
    assert of_kind(well, "copies")["per_delivery"] > 1.0
    for play in (silent, well):
        deliveries = of_kind(play, "deliveries")
        assert (deliveries["owed"], deliveries["received"], deliveries["missed"]) == (10, 10, 0)


def test_the_report_tells_them_apart(tmp_path: Path) -> None:
    play = played(tmp_path, 'behaviour = "silent"\nconnections = 5', honest=5, sybils=5)
    report = records(play)
    assert (report[0]["nodes"], report[0]["hostile"], report[0]["kinds"]) == (10, 5, {"plain": 5, "sybils": 5})
    assert report[0]["node_seconds"] == 5 * 30
    assert [message["owed"] for message in report if message["record"] == "message"] == [4] * 10
    # four honest neighbours and five others
    assert of_kind(play, "connections")["to_hostile"] == pytest.approx(5 / 9)
    assert of_kind(play, "mesh")["to_hostile"] == pytest.approx(5 / 9)
    told = list(summary(report))
    assert "hostile      5 nodes; to them lead 56% of the others' connections, 56% of their mesh links of t" in told


def test_a_hostile_node_comes_back_to_whom_it_wants(tmp_path: Path) -> None:
    file = tmp_path / "hostile.toml"
    file.write_text(SCENARIO.format(keys='behaviour = "silent"\nconnections = 3', honest=3, sybils=1))
    play = Play(load_scenario(file))
    *honest, sybil = play.peers
    play.simulation.run(5)
    assert len(sybil.links) == 3
    play.simulation.kill(honest[0])
    play.simulation.run(1)
    assert len(sybil.links) == 2
    honest[0].start()
    play.simulation.run(6)
    assert {link.far.peer for link in sybil.links.values()} == set(honest)


class Watching(Conduct):
    """Sees all of gossip and of the DHT, and changes nothing."""

    seen = 0

    @override
    def taps(self, protocol: str) -> bool:
        return "meshsub" in protocol or "kad" in protocol

    @override
    def hears(self, exchange: Exchange, frame: bytes, now: float) -> Iterable[bytes]:
        Watching.seen += 1
        return super().hears(exchange, frame, now)

    @override
    def says(self, exchange: Exchange, frame: bytes, now: float) -> Iterable[bytes]:
        Watching.seen += 1
        return super().says(exchange, frame, now)


def test_without_a_conduct_of_its_own_it_is_a_node_as_any(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BEHAVIOURS, "watching", Behaviour(Watching))
    counts = []
    for behaviour in ("", 'behaviour = "watching"'):
        play = played(tmp_path, f'topics = ["t"]\n{behaviour}', honest=3, sybils=3)
        deliveries = of_kind(play, "deliveries")
        assert deliveries["missed"] == 0
        watcher = play.peers[-1].node
        statistics = watcher.statistics()
        counts.append((statistics.gossip.received - statistics.gossip.duplicates, statistics.kademlia.requests > 0))
        if behaviour:
            assert isinstance(watcher, HostileNode)
            assert watcher._exchanges.keys() <= watcher._services.switch._streams.keys()  # none is kept that is over
    assert counts == [(10, True), (10, True)]
    assert Watching.seen > 100


class Liar(Conduct):
    """Answers every question of the DHT with nobody."""

    @override
    def taps(self, protocol: str) -> bool:
        return "kad" in protocol

    @override
    def says(self, exchange: Exchange, frame: bytes, now: float) -> Iterable[bytes]:
        return (frame,) if exchange.ours else (encode_closer_peers((), 1000),)


def test_it_can_lie_to_who_asks_the_dht(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BEHAVIOURS, "liar", Behaviour(Liar))
    found = []
    for keys in ("", 'behaviour = "liar"'):
        # The only entrance is of the kind: who asks it for others hears of none, and stays alone.
        file = tmp_path / "hostile.toml"
        scenario = SCENARIO.format(keys=keys, honest=4, sybils=1).replace("start = 3\n", "")
        entrance, rest = scenario.split("[nodes.plain]")
        plain, sybils = rest.split("[nodes.sybils]")
        sybils, publish = sybils.split("[[publish]]")
        file.write_text(
            f"entrances = 1\n{entrance}[nodes.sybils]{sybils}[nodes.plain]{plain}start = 1\n[[publish]]{publish}"
        )
        play = Play(load_scenario(file))
        play.simulation.run(10)
        found.append([len({link.far.peer.index for link in peer.links.values()}) for peer in play.peers[1:]])
    assert found == [[4] * 4, [1] * 4]
