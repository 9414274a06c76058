"""What links and clocks do to bytes and times: downlinks, ways that differ, clocks that are wrong."""

import random

import pytest

from sidecar.core import events, gossip
from sidecar.sim import LinkModel, SimPeer, Simulation

from .mesh import build, publish, received, subscribe

SIZE = 256 << 10
LATENCY = 0.05


def pair(model: LinkModel, count: int = 2) -> Simulation:
    """Peers that all know each other and are in one topic."""
    simulation = build(1, count, model=model)
    subscribe(simulation.peers)
    simulation.run(20)
    return simulation


def arrival(simulation: Simulation, sender: SimPeer, receiver: SimPeer, size: int = SIZE) -> float:
    """How long a message takes from the one to the other."""
    begun, before = simulation.clock.now, len(received(receiver))
    publish(sender, bytes(size))
    simulation.run_until(lambda: len(received(receiver)) > before, 60)
    return simulation.clock.now - begun


@pytest.mark.parametrize(
    ("uplink", "downlink", "slowest"),
    [(0.0, 0.0, None), (0.0, 1e6, 1e6), (1e6, 0.0, 1e6), (1e6, 4e6, 1e6), (4e6, 1e6, 1e6)],
)
def test_a_message_takes_as_long_as_the_slower_of_both_links(
    uplink: float, downlink: float, slowest: float | None
) -> None:
    # A window that holds all of it, or what is left would wait for the first to arrive.
    simulation = pair(LinkModel((LATENCY, LATENCY), uplink=uplink, downlink=downlink, window=1 << 20))
    took = arrival(simulation, *simulation.peers)
    assert took == pytest.approx(LATENCY + (SIZE / slowest if slowest else 0.0), rel=0.02)


def test_what_comes_from_several_peers_at_once_queues_before_one_downlink() -> None:
    simulation = pair(LinkModel((LATENCY, LATENCY), downlink=1e6), count=4)
    *senders, receiver = simulation.peers
    begun = simulation.clock.now
    for sender in senders:
        publish(sender, sender.index.to_bytes(1, "big") * SIZE)
    simulation.run_until(lambda: len(received(receiver)) == len(senders), 60)
    assert simulation.clock.now - begun >= LATENCY + len(senders) * SIZE / 1e6


def test_nothing_overtakes_on_a_connection_with_a_downlink_and_losses() -> None:
    simulation = pair(LinkModel((LATENCY, LATENCY), uplink=2e6, downlink=1e6, loss=0.2))
    one, other = simulation.peers
    for number in range(30):
        publish(one, number.to_bytes(1, "big") * (100 + number % 3 * 10_000))
        simulation.run(0.02)
    simulation.run(60)
    assert [data[0] for data in received(other)] == list(range(30))


def test_the_way_there_may_be_longer_than_the_way_back() -> None:
    ways = {(1, 2): 0.03, (2, 1): 0.07}

    def between(rng: random.Random, one: int, other: int) -> float:
        return ways[one, other]

    simulation = pair(LinkModel((0.03, 0.03), between=between))
    one, other = simulation.peers
    assert arrival(simulation, one, other, 10) == pytest.approx(0.03)
    assert arrival(simulation, other, one, 10) == pytest.approx(0.07)
    op = one.ask(lambda op: events.PingRequested(op, other.identity.peer_id))
    simulation.run(2)
    assert one.result(op) == pytest.approx(0.1)


def test_a_clock_that_runs_fast_counts_more() -> None:
    simulation = Simulation(1, LinkModel((LATENCY, LATENCY)))
    right = build(1, 1).peers[0].config
    one = simulation.add(right)
    other = simulation.add(right, start=False)
    other.pace = 1.5
    other.start()
    other.ask(lambda op: events.ConnectRequested(op, one.identity.peer_id, (one.address,)))
    simulation.run(10)
    assert (one.now(), other.now()) == (10.0, 15.0)
    ops = [
        peer.ask(lambda op, to=to: events.PingRequested(op, to.identity.peer_id))
        for peer, to in ((one, other), (other, one))
    ]
    simulation.run(2)
    assert [one.result(ops[0]), other.result(ops[1])] == [pytest.approx(0.1), pytest.approx(0.15)]


def test_messages_carry_the_wall_clock_of_their_author() -> None:
    simulation = build(1, 1)
    right = simulation.peers[0]
    late = simulation.add(right.config, start=False)
    late.wall_ns -= 3600 * 10**9
    late.start()
    late.ask(
        lambda op: events.ConnectRequested(op, simulation.peers[0].identity.peer_id, (simulation.peers[0].address,))
    )
    subscribe(simulation.peers)
    simulation.run(5)
    for peer in simulation.peers:
        publish(peer, b"what time is it")
    simulation.run(2)
    told = [
        message.seqno
        for peer in reversed(simulation.peers)  # what the first one published, the other got
        for item in peer.news
        if isinstance(item, gossip.MessagesDelivered)
        for message in item.messages
        if message.sender != peer.identity.peer_id
    ]
    first, second = told
    assert first is not None
    assert second is not None
    assert first - second == pytest.approx(3600 * 10**9, rel=0.01)
