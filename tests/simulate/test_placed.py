"""A warm start: the network is as one that has joined, without the cost of joining."""

from pathlib import Path

import pytest

from sidecar.core import events
from sidecar.core.kademlia.keyspace import place
from sidecar.simulate.play import Play
from sidecar.simulate.reading import load_scenario
from sidecar.simulate.report import records

COLD = """
duration = "30s"
settled = 5
{start}
[nodes.plain]
count = 50
topics = ["news"]
config.peers.target = 12
{over}
[[publish]]
topic = "news"
publishers = 5
count = 10
rate = 4
start = "{at}s"
"""


def play(folder: Path, *, warm: bool, seed: int, until: float) -> Play:
    file = folder / ("warm.toml" if warm else "cold.toml")
    start, over, at = ('start = "warm"', "", 6) if warm else ("", 'over = "5s"', 24)
    file.write_text(COLD.format(start=start, over=over, at=at))
    played = Play(load_scenario(file), seed)
    played.simulation.run(until)
    return played


def degrees(played: Play) -> list[int]:
    return sorted(len(peer.links) for peer in played.peers)


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_warm_network_behaves_as_one_that_has_joined(seed: int, tmp_path: Path) -> None:
    warm, cold = play(tmp_path, warm=True, seed=seed, until=10), play(tmp_path, warm=False, seed=seed, until=28)
    # Connections: as many, and nobody seeks more.
    ours, theirs = degrees(warm), degrees(cold)
    assert ours[0] >= 12, f"seed {seed}"
    assert abs(ours[25] - theirs[25]) <= 5, f"seed {seed}: {ours} and {theirs}"
    assert sum(peer.dials for peer in warm.peers) <= 10, f"seed {seed}"
    assert all(view.identified for peer in warm.peers for view in peer.node.peers())
    for played in (warm, cold):
        by_kind = {record["record"]: record for record in records(played)}
        # Broadcast: everyone is in the mesh, by links that both sides know, and misses nothing.
        mesh = by_kind["mesh"]
        assert mesh["min"] >= 4
        assert mesh["one_sided"] == 0
        assert by_kind["deliveries"]["missed"] == 0
        assert by_kind["deliveries"]["received"] == 490
        # The DHT: a lookup from anywhere finds the nodes that are truly closest.
        for number in range(5):
            key, asker = b"key %d" % number, played.peers[number * 7]
            told: list[object] = []
            asker.listener = told.append
            asker.ask(lambda op, key=key: events.ClosestPeersRequested(op, key))  # type: ignore[misc]
            played.simulation.run(3)
            (found,) = [news.result for news in told if isinstance(news, events.OperationCompleted)]
            assert isinstance(found, tuple)
            others = [peer.identity.peer_id for peer in played.peers if peer is not asker]
            nearest = sorted(others, key=lambda peer: place(peer) ^ place(key))[:20]
            assert [peer for peer, _ in found] == nearest, f"seed {seed}"


def test_a_warm_network_takes_in_nodes_that_join_later_and_is_the_same_in_each_run(tmp_path: Path) -> None:
    file = tmp_path / "both.toml"
    text = COLD.format(start='start = "warm"', over="", at=8)
    late = '[nodes.late]\ncount = 3\nstart = 2\nover = 1\ntopics = ["news"]\n[[publish]]'
    file.write_text(text.replace("[[publish]]", late, 1).replace("count = 50", "count = 12"))
    runs = []
    for _ in range(2):
        played = Play(load_scenario(file))
        played.run()
        runs.append(list(records(played)))
    assert runs[0] == runs[1]
    by_kind = {record["record"]: record for record in runs[0]}
    assert by_kind["deliveries"]["received"] == by_kind["deliveries"]["owed"] == 10 * 14
    assert by_kind["mesh"]["min"] >= 4
