"""Nodes on virtual time, of which one answers with addresses that it made up."""

import random
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from sidecar.core import events
from sidecar.core.kademlia import messages
from sidecar.core.multiaddr import Multiaddr
from sidecar.core.networks import Scope
from sidecar.core.node import NodeConfig
from sidecar.core.types import PeerId
from sidecar.sim import SimPeer, Simulation

CONFIG = NodeConfig(target_peers=12)
VICTIM = "203.0.113.5"


def public(number: int) -> str:
    """An address in a network of its own."""
    return f"{20 + number % 100}.{number // 100}.7.1"


def build(seed: int, count: int, host: Callable[[int], str] = public) -> Simulation:
    """Peers of different networks that know only the first one."""
    simulation = Simulation(seed, keep_news=False)
    first = simulation.add(CONFIG, host=host(0))
    joining = replace(CONFIG, bootstrap=(first.address.with_peer(first.identity.peer_id),))
    for number in range(1, count):
        simulation.add(joining, host=host(number))
        simulation.run(0.1)
    return simulation


def poison(peer: SimPeer, addresses: Iterator[Multiaddr], seed: int = 1) -> None:
    """Have a peer answer every question for peers with twenty that it makes up."""
    rng = random.Random(seed)

    def answer(asker: PeerId, key: bytes) -> bytes:
        made_up = [PeerId(b"\x12\x20" + rng.randbytes(32)) for _ in range(20)]
        peers = (messages.encode_peer(one, (next(addresses),), True) for one in made_up)
        return messages.encode_closer_peers(peers, 16_000)

    peer.node._services.kademlia.router._answer_find_node = answer  # type: ignore[method-assign]


def count_dials(simulation: Simulation) -> dict[str, int]:
    """Dials from now on, by the host that they go to; it grows."""
    counts: dict[str, int] = {}
    at_address = simulation.at_address

    def asked(address: Multiaddr) -> SimPeer | None:
        counts[address.ip or ""] = counts.get(address.ip or "", 0) + 1
        return at_address(address)

    simulation.at_address = asked  # type: ignore[method-assign]
    return counts


def victims(ports: int) -> Iterator[Multiaddr]:
    while True:
        for port in range(1, 1 + ports):
            yield Multiaddr.tcp(VICTIM, port)


@pytest.mark.parametrize("ports", [1, 1000])
def test_nobody_is_dialled_again_and_again_since_a_peer_names_him(ports: int) -> None:
    simulation = build(1, 15)
    simulation.run(30)
    attacker, honest = simulation.peers[3], [peer for peer in simulation.peers if peer.index != 4]
    poison(attacker, victims(ports))
    counts = count_dials(simulation)
    for peer in honest:
        peer.node._services.kademlia.walk(bytes(peer.identity.peer_id), None, lambda *_: None, simulation.clock.now)
    simulation.run(300)
    # Eight at once from each node, and one in thirty seconds: 18 in five minutes, of some hundreds.
    assert 0 < counts[VICTIM] <= 18 * len(honest)
    assert all(len(peer.node.peers()) >= 11 for peer in honest)  # who is there is still found
    held_back = sum(peer.node.statistics().dial_budget.dials_held_back for peer in honest)
    refused = sum(peer.node.statistics().kademlia.refused_addresses for peer in honest)
    assert held_back > 0 if ports > 1 else refused > 0
    assert all(peer.node.statistics().dial_budget.dials_held_back == 0 for peer in [attacker])


def test_a_stranger_names_nobody_in_our_own_network() -> None:
    simulation = build(2, 10)
    simulation.run(30)
    inside = iter(Multiaddr.tcp(f"10.1.{number >> 8 & 255}.{number & 255}", 22) for number in range(10**6))
    poison(simulation.peers[3], inside)
    counts = count_dials(simulation)
    simulation.run(120)
    assert not any(host.startswith("10.") for host in counts)
    assert sum(peer.node.statistics().kademlia.refused_addresses for peer in simulation.peers) > 0


def test_a_peer_that_says_it_is_in_our_own_network_is_not_sought_there() -> None:
    simulation = build(3, 2)
    one, other = simulation.peers
    other.node._services.switch.readdress((Multiaddr.tcp("127.0.0.1", 22), other.address), ())
    simulation.run(10)
    view = one.node.peer(other.identity.peer_id)
    assert view is not None
    assert view.addresses == (other.address,)


def test_private_addresses_are_taken_from_private_peers() -> None:
    simulation = build(4, 8, lambda number: f"192.168.7.{1 + number}")
    simulation.run(30)
    assert all(len(peer.node.peers()) == 7 for peer in simulation.peers)
    assert all(peer.node.statistics().kademlia.refused_addresses == 0 for peer in simulation.peers)


def names() -> Iterator[Multiaddr]:
    while True:
        yield Multiaddr.from_text("/dns4/inside.example/tcp/22")


@pytest.mark.parametrize(("place", "least"), [(public, Scope.PUBLIC), ("10.0.0.{}".format, Scope.PRIVATE)])
def test_a_name_that_a_peer_tells_may_not_lead_nearer_than_the_peer_is(
    place: Callable[[int], str], least: Scope
) -> None:
    simulation = build(1, 4, lambda number: place(number + 1))
    simulation.run(10)
    attacker, honest = simulation.peers[2], simulation.peers[3]
    poison(attacker, names())
    dials: list[events.Dial] = []
    dial = honest._dial
    honest._dial = lambda asked: dial(dials.append(asked) or asked)  # type: ignore[method-assign,func-returns-value]
    honest.node._services.kademlia.walk(b"somewhere", None, lambda *_: None, simulation.clock.now)
    simulation.run(30)
    named = [asked for asked in dials if asked.addresses == (next(names()),)]
    assert named
    assert all(asked.told == ((next(names()), least),) for asked in named)
    # What an app names itself is followed wherever it leads.
    peer = named[0].peer
    while peer in honest.node._services.dialling._dialling:  # whoever asked for it now would wait for that dial
        simulation.run(1)
    dials.clear()
    honest.ask(lambda op: events.ConnectRequested(op, peer, (next(names()),)))
    simulation.run(1)
    assert [asked.told for asked in dials if asked.peer == peer] == [()]  # others are dialled for questions
