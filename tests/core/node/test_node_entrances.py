"""Bootstrap addresses without a peer id, on virtual time: whoever is behind the name lets the node in."""

from dataclasses import replace

from sidecar.core import events
from sidecar.core.events import Condition, PeerView
from sidecar.core.multiaddr import Multiaddr
from sidecar.core.node import NodeConfig
from sidecar.sim import SimPeer, Simulation

NAME = "mesh.example"
ADDRESS = Multiaddr.from_text(f"/dns4/{NAME}/tcp/4001")
JOINING = NodeConfig(bootstrap=(ADDRESS,))


def bootstrapped(peer: SimPeer) -> Condition:
    return next(condition for condition in peer.node.conditions() if condition.type == "Bootstrapped")


def joined(peer: SimPeer) -> set[int]:
    by_id = {other.identity.peer_id: other.index for other in peer.simulation.peers}
    return {by_id[view.peer] for view in peer.node.peers()}


def notes(peer: SimPeer) -> list[str]:
    return [item.text % item.arguments for item in peer.news if isinstance(item, events.Note)]


def test_who_answers_is_taken_and_told() -> None:
    simulation = Simulation(1)
    first = simulation.add(NodeConfig(target_peers=0))
    simulation.names[NAME] = [first]
    one = simulation.add(JOINING)
    simulation.run(3)
    assert joined(one) == {first.index}
    assert bootstrapped(one).reason == "HasPeers"
    assert notes(one) == [f"answered at the bootstrap address {ADDRESS}"]


def test_everybody_behind_the_name_is_dialled_and_this_node_itself_is_passed_over() -> None:
    simulation = Simulation(2)
    peers = [simulation.add(JOINING, start=False) for _ in range(4)]
    simulation.names[NAME] = peers
    for peer in peers:
        peer.start()
    simulation.run(30)
    for peer in peers:
        assert joined(peer) == {1, 2, 3, 4} - {peer.index}
        assert [view.connections for view in peer.node.peers()] == [1, 1, 1]


def test_a_node_that_is_alone_behind_the_name_is_the_first_and_ready() -> None:
    simulation = Simulation(3)
    first = simulation.add(JOINING, start=False)
    simulation.names[NAME] = [first]
    first.start()
    simulation.run(3)
    assert bootstrapped(first)[:3] == ("Bootstrapped", True, "OnlyOurselves")
    second = simulation.add(JOINING, start=False)
    simulation.names[NAME].append(second)
    second.start()
    simulation.run(3)
    assert (joined(first), joined(second)) == ({second.index}, {first.index})


def test_a_service_address_that_leads_back_to_this_node_is_this_node() -> None:
    """As a virtual address in front of it does, which is none that it listens at."""
    simulation = Simulation(9)
    front = Multiaddr.from_text("/ip4/192.0.2.9/tcp/4001")
    first, second = (simulation.add(NodeConfig(bootstrap=(front,)), start=False) for _ in range(2))
    simulation._by_address[front] = first
    first.start()
    simulation.run(3)
    assert bootstrapped(first).reason == "OnlyOurselves"
    second.start()
    simulation.run(3)
    assert joined(second) == {first.index}


def test_one_that_waits_for_others_behind_the_name_is_not_ready() -> None:
    simulation = Simulation(4)
    one, dead = simulation.add(JOINING, start=False), simulation.add(JOINING, start=False)
    simulation.names[NAME] = [one, dead]
    one.start()
    simulation.run(10)
    assert bootstrapped(one)[:3] == ("Bootstrapped", False, "NoPeers")
    assert "connection refused" in bootstrapped(one).message
    dead.start()
    simulation.run(70)
    assert joined(one) == {dead.index}


def test_the_name_is_looked_up_again_until_it_is_there() -> None:
    simulation = Simulation(5)
    first, one = simulation.add(NodeConfig(target_peers=0)), simulation.add(JOINING)
    simulation.run(10)
    assert "no such name" in bootstrapped(one).message
    simulation.names[NAME] = [first]
    simulation.run(20)
    assert joined(one) == {first.index}


def test_two_groups_that_found_only_each_other_grow_together() -> None:
    simulation = Simulation(6)
    peers = [simulation.add(JOINING, start=False) for _ in range(4)]
    for pair in (peers[:2], peers[2:]):
        simulation.names[NAME] = pair
        for peer in pair:
            peer.start()
        simulation.run(5)
    assert [len(joined(peer)) for peer in peers] == [1, 1, 1, 1]
    simulation.names[NAME] = peers
    simulation.run(150)
    assert [len(joined(peer)) for peer in peers] == [3, 3, 3, 3]


def test_one_of_another_network_does_not_let_it_in() -> None:
    simulation = Simulation(7)
    simulation.names[NAME] = [simulation.add(NodeConfig(network="other", target_peers=0))]
    one = simulation.add(JOINING)
    simulation.run(5)
    assert joined(one) == set()
    assert "network" in bootstrapped(one).message
    assert not bootstrapped(one).met


def test_a_node_with_peers_enough_seeks_no_more() -> None:
    simulation = Simulation(8)
    others = [simulation.add(NodeConfig(target_peers=0)) for _ in range(2)]
    simulation.names[NAME] = [others[0]]
    one = simulation.add(replace(JOINING, target_peers=1))
    simulation.run(5)
    simulation.names[NAME] = others
    simulation.run(300)
    assert joined(one) == {others[0].index}
    views = [item.view for item in one.news if isinstance(item, events.PeerChanged)]
    assert all(isinstance(view, PeerView) and view.peer == others[0].identity.peer_id for view in views)
