"""The gossip stream to a peer, on virtual time: opened anew after it was lost, sooner where it had been well."""

from sidecar.core import events, gossip
from sidecar.core.node import NodeConfig
from sidecar.sim import SimPeer, Simulation


def connected() -> tuple[Simulation, SimPeer, SimPeer]:
    simulation = Simulation(1)
    one, other = simulation.add(NodeConfig(target_peers=0)), simulation.add(NodeConfig(target_peers=0))
    for peer in (one, other):
        peer.feed(gossip.TopicJoined("news"))
    one.ask(lambda op: events.ConnectRequested(op, other.identity.peer_id, (other.address,)))
    simulation.run(5)
    return simulation, one, other


def linked(peer: SimPeer) -> bool:
    return any(view.mesh for view in peer.node.topics())


def pause_after_reset(simulation: Simulation, one: SimPeer, other: SimPeer) -> float:
    """Lose the stream; the seconds until the two are linked again, within a fifth."""
    member = one.node._gossiping._members[other.identity.peer_id]
    assert member.out is not None
    one.feed(events.StreamReset(member.out.number))
    assert not linked(one)
    begun = simulation.clock.now
    while not linked(one):
        simulation.run(0.2)
        assert simulation.clock.now - begun < 100
    return simulation.clock.now - begun


def test_a_stream_that_is_reset_again_and_again_is_opened_at_ever_longer_intervals() -> None:
    simulation, one, other = connected()
    pauses = [pause_after_reset(simulation, one, other) for _ in range(7)]
    assert pauses[0] < 3
    assert 16 <= pauses[4] < 20
    assert 60 <= pauses[6] < 65


def test_resets_over_a_long_life_do_not_add_up() -> None:
    simulation, one, other = connected()
    for _ in range(10):
        assert pause_after_reset(simulation, one, other) < 3
        simulation.run(600)
