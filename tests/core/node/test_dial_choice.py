"""Private addresses are dialled where both sides can mean the same network, and nowhere else."""

from dataclasses import replace

import pytest

from sidecar.core import events
from sidecar.core.errors import NoAddresses
from sidecar.core.multiaddr import Multiaddr
from sidecar.core.node import NodeConfig
from sidecar.core.peers import KnownAddress, Origin
from sidecar.core.relay import CircuitFault
from sidecar.core.types import PeerId
from sidecar.sim import SimPeer, Simulation

ALONE = NodeConfig(target_peers=0)
PEER, TELLER = (PeerId(b"\x12\x20" + bytes([number]) * 32) for number in (1, 2))
HOME = Multiaddr.tcp("192.168.1.7", 4747)
PUBLIC = Multiaddr.tcp("198.51.100.7", 4747)


def node(listening: str) -> SimPeer:
    simulation = Simulation(1)
    one = simulation.add(ALONE, start=False)
    one.start()
    one.feed(events.AddressesChanged((Multiaddr.tcp(listening, 4747),), ()))
    return one


def dialled(one: SimPeer) -> list[events.Dial]:
    """What a connection to the peer is tried at."""
    dials: list[events.Dial] = []
    one._dial = dials.append  # type: ignore[method-assign]
    one.ask(lambda op: events.PingRequested(op, PEER))
    return dials


@pytest.mark.parametrize(
    ("listening", "found"),
    [("192.168.77.3", (HOME, PUBLIC)), ("10.0.0.3", (PUBLIC,)), ("127.0.0.1", (PUBLIC,)), ("203.0.113.9", (PUBLIC,))],
)
def test_an_address_that_others_told_needs_one_of_ours_in_the_same_range(
    listening: str, found: tuple[Multiaddr, ...]
) -> None:
    one = node(listening)
    one.node._services.switch.book.learn(PEER, (HOME, PUBLIC), origin=Origin.DHT, teller=TELLER)
    (dial,) = dialled(one)
    assert dial.addresses == found
    assert one.node.statistics().dial_budget.addresses_left_out == 2 - len(found)


@pytest.mark.parametrize("origin", [Origin.BOOTSTRAP, Origin.APP, Origin.LOCAL])
def test_who_is_here_knows_what_the_address_means(origin: Origin) -> None:
    one = node("10.0.0.3")
    one.node._services.switch.book.learn(PEER, (HOME,), origin=origin)
    assert [dial.addresses for dial in dialled(one)] == [(HOME,)]


def test_where_it_has_worked_it_may_work_again_and_the_driver_is_told() -> None:
    one = node("10.0.0.3")
    note = KnownAddress(HOME, Origin.RECORD, -60.0, None)
    one.node._services.switch.book.remember(PEER, (note,), events.Scope.PRIVATE)
    (dial,) = dialled(one)
    assert (dial.addresses, dial.known) == ((HOME,), (note,))


def test_a_connection_into_the_range_shows_that_something_leads_there() -> None:
    simulation = Simulation(1)
    one, other = (simulation.add(ALONE) for _ in range(2))
    there = other.address.ip
    assert there is not None
    assert there.startswith("10.")
    one.feed(events.AddressesChanged((Multiaddr.tcp("172.17.0.2", 4747),), ()))
    one.node._services.switch.book.learn(PEER, (Multiaddr.tcp("10.200.1.1", 1),), origin=Origin.DHT, teller=TELLER)
    one.ask(lambda op: events.ConnectRequested(op, other.identity.peer_id, (other.address,)))
    simulation.run(1)
    assert len(dialled(one)) == 1


def test_with_nothing_else_to_dial_the_app_is_told_and_the_peer_left_alone_for_a_while() -> None:
    simulation = Simulation(1)
    one = simulation.add(replace(ALONE, target_peers=4))
    one.feed(events.AddressesChanged((Multiaddr.tcp("203.0.113.9", 4747),), ()))
    book = one.node._services.switch.book
    book.learn(PEER, (HOME,), origin=Origin.EXCHANGE, teller=TELLER)
    simulation.run(60)
    assert one.dials == 0
    entry = book.get(PEER)
    assert entry is not None
    assert entry.failures > 1
    op = one.ask(lambda op: events.PingRequested(op, PEER))
    simulation.run(60)
    error = one.result(op)
    assert isinstance(error, NoAddresses)
    assert "private network" in str(error)


def behind(number: int) -> tuple[PeerId, Multiaddr]:
    relay = PeerId(b"\x12\x20" + bytes([number]) * 32)
    return relay, Multiaddr.from_text(f"/ip4/198.51.100.{number}/tcp/4747/p2p/{relay}/p2p-circuit")


def test_a_relay_that_does_wrong_is_left_out_where_there_is_another() -> None:
    one = node("203.0.113.9")
    (bad, through_bad), (_, through_good) = behind(11), behind(12)
    services = one.node._services
    services.switch.book.learn(PEER, (through_bad, through_good), origin=Origin.RECORD)
    assert [dial.addresses for dial in dialled(one)] == [(through_bad, through_good)]

    one = node("203.0.113.9")
    services = one.node._services
    services.switch.book.learn(PEER, (through_bad, through_good), origin=Origin.RECORD)
    services.relay_client._standings.of(bad, 0.0).blame(CircuitFault.DROPPED, PEER, 0.0)
    assert [dial.addresses for dial in dialled(one)] == [(through_good,)]
    assert one.node.statistics().dial_budget.addresses_left_out == 1


@pytest.mark.parametrize("origin", [Origin.RECORD, Origin.APP])
def test_it_is_asked_where_there_is_no_other_or_somebody_here_wants_it(origin: Origin) -> None:
    one = node("203.0.113.9")
    (bad, through_bad), (_, through_good) = behind(11), behind(12)
    both = (through_bad, through_good) if origin is Origin.APP else (through_bad,)
    services = one.node._services
    services.switch.book.learn(PEER, both, origin=origin)
    services.relay_client._standings.of(bad, 0.0).lied(0.0)
    assert [dial.addresses for dial in dialled(one)] == [both]
