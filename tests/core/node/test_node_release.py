"""What a lookup has opened goes again, where nobody wants it and peers enough are there; joining asks little."""

from dataclasses import replace

import pytest

from sidecar.core import gossip
from sidecar.core.events import ClosestPeersRequested, ConnectRequested, DisconnectRequested
from sidecar.core.kademlia.keyspace import place
from sidecar.core.node import NodeConfig
from sidecar.sim import LinkModel, SimPeer, Simulation

CONFIG = NodeConfig(target_peers=4)


def mesh(simulation: Simulation, count: int, config: NodeConfig = CONFIG) -> list[SimPeer]:
    """Nodes that join through the first, one after the other."""
    first = simulation.add(config)
    peers = [first]
    for _ in range(count - 1):
        peers.append(simulation.add(replace(config, bootstrap=(first.address,))))
        simulation.run(0.1)
    return peers


def degrees(peers: list[SimPeer]) -> list[int]:
    return sorted(peer.node.statistics().switch.peers_connected for peer in peers)


def test_connections_are_a_budget_and_lookups_still_find_the_closest() -> None:
    simulation = Simulation(1)
    peers = mesh(simulation, 40)
    simulation.run(55)
    questions = sorted(peer.node.statistics().kademlia.queries for peer in peers)  # of the first minute
    assert questions[len(questions) // 2] <= 60
    simulation.run(35)
    found = degrees(peers)
    assert found[len(found) // 2] <= CONFIG.target_peers + 10
    assert found[0] >= CONFIG.target_peers - 1  # it may just seek another one
    asker, key = peers[7], b"somewhere"
    op = asker.ask(lambda op: ClosestPeersRequested(op, key))
    simulation.run(10)
    closest = asker.result(op)
    assert isinstance(closest, tuple)
    others = sorted((p.identity.peer_id for p in peers if p is not asker), key=lambda peer: place(peer) ^ place(key))
    assert [peer for peer, _ in closest] == others[:20]
    simulation.run(60)
    assert asker.node.statistics().switch.peers_connected <= found[-2] + 2  # those asked are let go of again


def test_who_is_wanted_stays() -> None:
    simulation = Simulation(2)
    config = replace(CONFIG, target_peers=1)
    peers = mesh(simulation, 12, config)
    hub, first, second = peers[3], peers[6], peers[9]
    for peer in (hub, second):
        peer.feed(gossip.TopicJoined("news"))
    hub.ask(lambda op: ConnectRequested(op, first.identity.peer_id, (first.address,)))
    hub.ask(lambda op: ConnectRequested(op, second.identity.peer_id, (second.address,)))
    simulation.run(120)
    connected = {view.peer for view in hub.node.peers()}
    assert {first.identity.peer_id, second.identity.peer_id} <= connected
    assert peers[0].identity.peer_id in connected  # the bootstrap peer
    assert hub.node.statistics().connection_manager.connections_released > 0


def test_a_node_with_too_few_peers_lets_nobody_go() -> None:
    simulation = Simulation(3)
    peers = mesh(simulation, 10, replace(CONFIG, target_peers=24))
    simulation.run(120)
    assert sum(peer.node.statistics().connection_manager.connections_released for peer in peers) == 0


def test_nodes_that_join_at_one_moment_find_their_neighbours() -> None:
    simulation = Simulation(4)
    first = simulation.add(CONFIG)
    peers = [first, *(simulation.add(replace(CONFIG, bootstrap=(first.address,))) for _ in range(39))]
    simulation.run(60)
    for peer in peers:
        own = peer.identity.peer_id
        known = {contact for contact, _ in peer.node._services.kademlia.router.closest(bytes(own), 20)}
        nearest = sorted(
            (p.identity.peer_id for p in peers if p is not peer), key=lambda other: place(other) ^ place(own)
        )
        assert set(nearest[:8]) <= known


@pytest.mark.parametrize("delay", [0.0, 0.05, 0.12, 0.25])
@pytest.mark.parametrize("times", [1, 2])
def test_a_question_that_crosses_the_end_of_the_connection_is_asked_once_more(delay: float, times: int) -> None:
    """The peer lets go of the connection before it hears the question, or while the answer is on the way."""
    simulation = Simulation(5, LinkModel(latency=(0.1, 0.1)))
    asker = simulation.add(CONFIG)
    other = simulation.add(replace(CONFIG, bootstrap=(asker.address,)))
    simulation.run(20)
    assert simulation.connected(asker, other)
    own = asker.identity.peer_id
    op = asker.ask(lambda op: ClosestPeersRequested(op, b"somewhere"))
    for time in range(times):
        if time:
            simulation.run_until(lambda: own in {view.peer for view in other.node.peers() if view.identified}, 5.0)
        simulation.run(delay)
        other.ask(lambda op: DisconnectRequested(op, own))
    simulation.run(15)
    closest = asker.result(op)
    if times == 1:
        assert isinstance(closest, tuple)
        assert [peer for peer, _ in closest] == [other.identity.peer_id]
    else:
        assert closest is not None  # it comes to an end
