"""The gossip stream to a peer, on virtual time: opened anew after it was lost, sooner where it had been well."""

import pytest

from sidecar.core import events, gossip
from sidecar.core.node import NodeConfig
from sidecar.sim import SimPeer, Simulation
from sidecar.store.sequence import RESERVED


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
    member = one.node._services.gossip._members[other.identity.peer_id]
    assert member.out is not None
    one.feed(events.StreamGone(member.out.number))
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


@pytest.mark.parametrize("floor", [False, True])
def test_a_clock_set_back_over_a_kill_costs_no_message_where_numbers_are_kept(floor: bool) -> None:
    simulation, one, other = connected()
    begun = one.wall_ns + int(simulation.clock.now * 1e9)

    def publish(text: bytes) -> None:
        one.ask(lambda op: gossip.Published(op, "news", [text]))
        simulation.run(1)

    def arrived() -> list[tuple[bytes, int | None]]:
        delivered = (news for news in other.news if isinstance(news, gossip.MessagesDelivered))
        return [(message.data, message.seqno) for news in delivered for message in news.messages]

    def start() -> None:
        simulation.kill(one)
        simulation.run(1)
        one.wall_ns = begun - int(simulation.clock.now * 1e9)  # shows the same again
        one.start()
        one.feed(gossip.TopicJoined("news"))
        one.ask(lambda op: events.ConnectRequested(op, other.identity.peer_id, (other.address,)))
        simulation.run(5)

    start()
    publish(b"before")
    one.sequence = begun + RESERVED if floor else None
    start()
    publish(b"after")
    assert arrived() == [(b"before", begun + 1), *([(b"after", begun + RESERVED + 1)] if floor else [])]


def test_a_stream_that_moves_to_a_better_connection_says_again_what_extensions_are_known() -> None:
    """Two that dial each other at once have two connections; on one of them both soon gossip."""
    simulation = Simulation(0)
    one, other = simulation.add(NodeConfig(target_peers=0)), simulation.add(NodeConfig(target_peers=0))
    for peer, dialled in ((one, other), (other, one)):
        peer.feed(gossip.TopicJoined("news"))
        peer.ask(lambda op, to=dialled: events.ConnectRequested(op, to.identity.peer_id, (to.address,)))  # type: ignore[misc]
    simulation.run(5)
    for peer, remote in ((one, other), (other, one)):
        router = peer.node._services.gossip.router
        assert router._state.peers[remote.identity.peer_id].lazy
        assert router.statistics().dropped["control_bound"] == 0
