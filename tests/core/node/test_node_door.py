"""A node without peers before bootstrap peers that are full: it tries again and again, on virtual time."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import pytest

from sidecar.core import events
from sidecar.core.multiaddr import Multiaddr
from sidecar.core.node import NodeConfig
from sidecar.sim import SimPeer, Simulation

NAME = Multiaddr.from_text("/dns4/mesh.example/tcp/4001")
HOST = NodeConfig(target_peers=0)  # seeks nobody by itself
PAUSE = 3.0  # a twentieth of the default `redial_limit`
SOON = PAUSE + 2.0  # the pause between two looks, and the dial


class Door:
    """The bounds of a node that takes nobody in, as long as it is not open."""

    def __init__(self) -> None:
        self.open = False
        self.refused: Counter[str] = Counter()

    def refuse_inbound(self, host: str, now: float) -> str | None:
        self.refused["connections"] += not self.open
        return None if self.open else "full"

    def handshake_over(self, host: str) -> None:
        pass

    def release_inbound(self, host: str) -> None:
        pass

    def refuse_outbound(self) -> str | None:
        return None

    def release_outbound(self) -> None:
        pass


def before_a_door(named: bool, friends: int = 0) -> tuple[Simulation, Door, SimPeer, Sequence[SimPeer]]:
    """A node whose only bootstrap peer is full, with friends that are not; `named`: its address has a peer id."""
    simulation = Simulation(1)
    host = simulation.add(HOST)
    host.admission = door = Door()
    simulation.names["mesh.example"] = [host]
    address = host.address.with_peer(host.identity.peer_id) if named else NAME
    one = simulation.add(replace(HOST, target_peers=8, bootstrap=(address,), dht_server=False))
    others = [simulation.add(replace(HOST, dht_server=False)) for _ in range(friends)]
    for other in others:
        one.ask(lambda op, other=other: events.ConnectRequested(op, other.identity.peer_id, (other.address,)))  # type: ignore[misc]
    return simulation, door, one, others


@pytest.mark.parametrize("named", [True, False])
def test_who_has_waited_for_long_is_in_as_soon_as_there_is_room(named: bool) -> None:
    simulation, door, one, _ = before_a_door(named)
    simulation.run(600)
    assert not one.links
    assert door.refused["connections"] <= 600 / PAUSE * 1.5 + 10
    door.open = True
    simulation.run(SOON)
    assert one.links


@pytest.mark.parametrize("named", [True, False])
def test_who_loses_its_last_peer_does_not_wait_as_long_as_one_that_has_some(named: bool) -> None:
    simulation, door, one, (friend,) = before_a_door(named, friends=1)
    simulation.run(600)
    assert len(one.links) == 1
    tried = door.refused["connections"]
    simulation.run(120)
    assert door.refused["connections"] - tried <= 8  # it has somebody
    door.open = True
    simulation.kill(friend)
    simulation.run(5 * 1.25 + SOON)  # its next look is that of a node with peers
    assert one.links


@pytest.mark.parametrize("named", [True, False])
def test_the_drivers_own_back_off_does_not_hold_up_who_has_no_peers(
    named: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulation, _, one, _ = before_a_door(named)
    simulation.run(60)
    asked: list[events.Dial] = []
    monkeypatch.setattr(one, "_dial", asked.append)
    simulation.run(SOON)
    assert asked
    assert all(dial.force for dial in asked)
