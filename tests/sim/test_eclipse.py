"""A node on virtual time that strangers surround: they dial it, take part, and pass on nothing."""

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from sidecar.core import events
from sidecar.core.node import Node, NodeConfig
from sidecar.core.types import Direction
from sidecar.sim import SimPeer, Simulation
from sidecar.simulate.hostile import HostileNode, Surroundings
from sidecar.simulate.hostile.sybil import Silent

from .mesh import publish, received, subscribe

CONFIG = NodeConfig(target_peers=24)
IDLE = NodeConfig(target_peers=0)


def public(number: int) -> str:
    """An address in a network of its own."""
    return f"{20 + number % 100}.{number // 100}.7.1"


def of_one_network(number: int) -> str:
    return f"203.0.113.{1 + number % 250}"


def of_many_networks(number: int) -> str:
    return f"{130 + number % 60}.{number // 60}.7.1"


def hostile(simulation: Simulation, target: SimPeer, host: str) -> SimPeer:
    """A node that dials the target and keeps messages for itself."""

    rng = random.Random(1)

    def make(*arguments: Any, **named: Any) -> Node:
        around = Surroundings(rng, simulation.clock.now, lambda name: (), {}, lambda name: (), IDLE)
        targets = [(target.identity.peer_id, target.address)]
        return HostileNode(*arguments, conduct=Silent(around), targets=targets, **named)

    peer = simulation.add(IDLE, start=False, host=host)
    peer.make = make
    peer.start()
    subscribe([peer])
    return peer


def outbound(peer: SimPeer) -> list[Any]:
    return [view for view in peer.node.peers() if view.direction is Direction.OUTBOUND]


def honest_mesh(seed: int, count: int) -> Simulation:
    simulation = Simulation(seed)
    first = simulation.add(CONFIG, host=public(0))
    joining = replace(CONFIG, bootstrap=(first.address.with_peer(first.identity.peer_id),))
    for number in range(1, count):
        simulation.add(joining, host=public(number))
        simulation.run(0.05)
    subscribe(simulation.peers)
    simulation.run(10)
    return simulation


@pytest.mark.parametrize("host", [of_one_network, of_many_networks])
@pytest.mark.parametrize("strangers", [24, pytest.param(200, marks=pytest.mark.slow)])
def test_strangers_who_come_first_do_not_keep_a_node_from_the_mesh(strangers: int, host: Callable[[int], str]) -> None:
    simulation = honest_mesh(1, 16)
    honest = list(simulation.peers)
    first = honest[0]
    victim = simulation.add(
        replace(CONFIG, bootstrap=(first.address.with_peer(first.identity.peer_id),)), start=False, host=public(99)
    )
    victim.start()
    subscribe([victim])
    sybils = [hostile(simulation, victim, host(number)) for number in range(strangers)]
    simulation.run(30)
    assert len(victim.node.peers()) >= strangers
    by_id = {peer.identity.peer_id for peer in honest}
    own = [view for view in outbound(victim) if view.peer in by_id]
    assert len(own) >= CONFIG.target_outbound
    for number in range(5):
        publish(honest[1 + number], b"%d" % number)
        simulation.run(1)
    simulation.run(6)
    assert sorted(received(victim)) == [b"%d" % number for number in range(5)]
    publish(victim, b"mine")
    simulation.run(6)
    assert all(b"mine" in received(peer) for peer in honest)
    assert all(peer.alive for peer in sybils)


def surrounded(own: int, strangers: int) -> tuple[SimPeer, list[SimPeer]]:
    """A node that lost all its peers after as many strangers had dialled it, and the honest ones that it had known."""
    few = replace(CONFIG, target_peers=6, target_outbound=4)
    simulation = Simulation(3)
    honest = [simulation.add(few, host=public(0))]
    joining = replace(few, bootstrap=(honest[0].address.with_peer(honest[0].identity.peer_id),))
    for number in range(1, 20):
        honest.append(simulation.add(joining, host=public(number)))
        simulation.run(0.05)
    victim = simulation.add(replace(CONFIG, target_outbound=own), host=public(99))
    victim.ask(
        lambda op: events.ConnectRequested(op, honest[5].identity.peer_id, (honest[5].address,))  # no bootstrap peer
    )
    subscribe(simulation.peers)
    simulation.run(30)
    for number in range(strangers):
        hostile(simulation, victim, of_many_networks(number))
    simulation.run(5)
    ids = {peer.identity.peer_id for peer in honest}
    for view in [view for view in victim.node.peers() if view.peer in ids]:
        victim.ask(lambda op, peer=view.peer: events.DisconnectRequested(op, peer))  # type: ignore[misc]
    simulation.run(180)
    return victim, honest


def test_who_lost_the_peers_of_its_own_choice_seeks_others_however_many_strangers_there_are() -> None:
    victim, honest = surrounded(CONFIG.target_outbound, 40)
    ids = {peer.identity.peer_id for peer in honest}
    assert len([view for view in outbound(victim) if view.peer in ids]) >= CONFIG.target_outbound
    publish(honest[2], b"heard")
    publish(victim, b"said")
    victim.simulation.run(6)
    assert b"heard" in received(victim)
    assert all(b"said" in received(peer) for peer in honest)
