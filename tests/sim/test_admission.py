"""Limits of connections on virtual time: the socket driver's own, asked at each connection."""

from typing import Any

from sidecar.core import events
from sidecar.core.errors import SidecarError
from sidecar.core.node import NodeConfig
from sidecar.core.parameters import AutonatConfig
from sidecar.net.admission import Admission
from sidecar.net.config import NetConfig
from sidecar.sim import SimPeer, Simulation

ALONE = NodeConfig(  # and asks nobody anything, not even to be dialled
    target_peers=0, target_outbound=0, dht_server=False, autonat=AutonatConfig(ask=False)
)


def limited(simulation: Simulation, **bounds: Any) -> SimPeer:
    peer = simulation.add(ALONE, host="192.0.2.1")
    peer.admission = Admission(NetConfig(**bounds), 0.0)
    return peer


def dial(one: SimPeer, other: SimPeer) -> int:
    return one.ask(lambda op: events.ConnectRequested(op, other.identity.peer_id, (other.address,)))


def at(peer: SimPeer) -> list[SimPeer]:
    """Who is connected to a peer."""
    return [link.far.peer for link in peer.links.values()]


def test_one_address_gets_so_many_connections_and_more_when_these_are_over() -> None:
    simulation = Simulation(1)
    target = limited(simulation, max_per_address=2)
    strangers = [simulation.add(ALONE, host="198.51.100.1") for _ in range(3)]
    ops = {stranger: dial(stranger, target) for stranger in strangers}
    simulation.run(5)
    assert len(at(target)) == 2
    (refused,) = (stranger for stranger in strangers if stranger not in at(target))
    assert isinstance(refused.result(ops[refused]), SidecarError)
    assert target.admission is not None
    assert +target.admission.refused == {"address": refused.vain["192.0.2.1"]}
    simulation.kill(at(target)[0])
    simulation.run(1)
    dial(refused, target)
    simulation.run(5)
    assert refused in at(target)


def test_places_for_dials_are_kept_free_of_inbound_connections() -> None:
    simulation = Simulation(1)
    target = limited(simulation, max_connections=3, reserved_outbound=1)
    strangers = [simulation.add(ALONE, host=f"198.51.100.{number}") for number in range(1, 6)]
    for stranger in strangers[:4]:
        dial(stranger, target)
    simulation.run(5)
    assert len(at(target)) == 2
    dial(target, strangers[4])
    simulation.run(5)
    assert strangers[4] in at(target)
    outside = next(stranger for stranger in strangers if stranger not in at(target))
    op = dial(target, outside)
    simulation.run(5)
    assert len(at(target)) == 3
    assert isinstance(target.result(op), SidecarError)
    target.ask(lambda op: events.DisconnectRequested(op, strangers[4].identity.peer_id))
    simulation.run(1)
    dial(target, outside)
    simulation.run(5)
    assert outside in at(target)


def test_who_is_in_an_exempt_network_is_not_counted() -> None:
    simulation = Simulation(1)
    target = limited(simulation, max_per_address=1, max_per_network=1)
    for _ in range(3):
        dial(simulation.add(ALONE, host="10.9.9.9"), target)
    simulation.run(5)
    assert len(target.links) == 3
