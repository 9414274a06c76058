"""One mesh, not islands: bootstrap peers that forget, and some that come late."""

from dataclasses import replace

import pytest

from sidecar.core import events, gossip
from sidecar.core.events import Condition
from sidecar.core.multiaddr import Multiaddr
from sidecar.core.node import NodeConfig
from sidecar.sim import SimPeer, Simulation

from .mesh import publish, received, subscribe

FEW = NodeConfig(target_peers=2)
SEEDS = [1, 2, 3, 4]


def named(peer: SimPeer) -> Multiaddr:
    return peer.address.with_peer(peer.identity.peer_id)


def everybody_hears(simulation: Simulation, peers: list[SimPeer]) -> None:
    """What any of them says comes to all of them."""
    for peer in peers:
        publish(peer, b"from %d" % peer.index)
    simulation.run(10)
    for peer in peers:
        for other in peers:
            what = f"{other.index} to {peer.index}, seed {simulation.seed}"
            assert received(peer).count(b"from %d" % other.index) == 1, what


def bootstrapped(peer: SimPeer) -> Condition:
    return next(condition for condition in peer.node.conditions() if condition.type == "Bootstrapped")


def notes(peer: SimPeer) -> list[str]:
    return [item.text % item.arguments for item in peer.news if isinstance(item, events.Note)]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_bootstrap_peer_that_comes_back_empty_joins_no_second_island(seed: int) -> None:
    simulation = Simulation(seed)
    first = simulation.add(FEW)
    joining = replace(FEW, bootstrap=(named(first),))
    members = [simulation.add(joining) for _ in range(4)]
    simulation.run(30)
    simulation.kill(first)
    simulation.run(30)
    assert all(peer.node.peers() for peer in members)
    first.news.clear()
    first.start()
    late = simulation.add(joining)
    simulation.run(75)  # the longest wait before a bootstrap peer is tried again is a minute and a half, less a start
    peers = [first, *members, late]
    subscribe(peers)
    simulation.run(10)
    everybody_hears(simulation, peers)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_bootstrap_peer_that_was_down_at_the_start_joins_two_islands_later(seed: int) -> None:
    simulation = Simulation(seed)
    one = simulation.add(FEW, start=False)
    two = simulation.add(replace(FEW, bootstrap=(named(one),)))
    twos = [simulation.add(replace(FEW, bootstrap=(named(two),))) for _ in range(3)]
    simulation.run(60)
    assert two.node.peers()
    one.start()
    ones = [simulation.add(replace(FEW, bootstrap=(named(one),))) for _ in range(3)]
    simulation.run(100)
    peers = [one, two, *ones, *twos]
    subscribe(peers)
    simulation.run(10)
    everybody_hears(simulation, peers)


@pytest.mark.parametrize("seed", SEEDS)
def test_who_cannot_reach_its_bootstrap_peers_says_so_and_stays_ready(seed: int) -> None:
    simulation = Simulation(seed)
    first = simulation.add(FEW)
    members = [simulation.add(replace(FEW, bootstrap=(named(first),))) for _ in range(3)]
    simulation.run(30)
    assert bootstrapped(members[0]).reason == "HasPeers"
    simulation.kill(first)
    simulation.run(30)
    assert bootstrapped(members[0]).reason == "HasPeers"  # a restart takes as long
    simulation.run(150)
    for peer in members:
        assert bootstrapped(peer)[:3] == ("Bootstrapped", True, "BootstrapPeersUnreached")
        assert peer.node.statistics().flat()["bootstrap_peers_missing"] == 1
        assert sum("may be cut off" in note for note in notes(peer)) == 1
    first.start()
    simulation.run(100)
    for peer in members:
        assert bootstrapped(peer).reason == "HasPeers"
        assert peer.node.statistics().flat()["bootstrap_peers_missing"] == 0
        assert "the bootstrap peer is reached again" in notes(peer)


# An hour of heartbeats each second would cost most of the time, and decides nothing here.
CALM = replace(NodeConfig(target_peers=5), gossip=gossip.GossipConfig(heartbeat_interval=60.0))


def spent(peers: list[SimPeer]) -> list[tuple[int, int]]:
    """The queries and dials of each peer since its start."""
    return [(int(peer.node.statistics().flat()["dht_queries"]), peer.dials) for peer in peers]


@pytest.mark.parametrize("seed", SEEDS[:2])
def test_upkeep_costs_little_in_an_hour_of_quiet_and_one_apart_and_joins_the_halves_after(seed: int) -> None:
    simulation = Simulation(seed)
    first = simulation.add(CALM)
    peers = [first, *(simulation.add(replace(CALM, bootstrap=(named(first),))) for _ in range(5))]
    simulation.run(60)
    assert all(len(peer.node.peers()) == 5 for peer in peers)
    before = spent(peers)
    simulation.run(3600)
    for (queries, dials), (asked, dialled) in zip(spent(peers), before, strict=True):
        assert 0 < queries - asked <= 400  # some 200 were seen: refreshes each ten minutes, of five peers
        assert dials == dialled  # nobody is missing
    before = spent(peers)
    simulation.partition([peers[:3], peers[3:]])
    simulation.run(3600)
    for peer, (queries, dials), (asked, dialled) in zip(peers, spent(peers), before, strict=True):
        assert len(peer.node.peers()) == 2
        assert queries - asked <= 400
        assert 0 < dials - dialled <= 300  # three peers are missing, and each is tried once a minute
    simulation.heal()
    simulation.run(100)  # the longest wait before a bootstrap peer is tried again is a minute and a half
    subscribe(peers)
    simulation.run(130)  # two heartbeats
    everybody_hears(simulation, peers)
