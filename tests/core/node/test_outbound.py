"""Whom a node connects to by itself, and whom it will come back to."""

from dataclasses import replace
from itertools import pairwise

from sidecar.core import events, gossip
from sidecar.core.events import AnchorsChosen
from sidecar.core.multiaddr import Multiaddr
from sidecar.core.node import NodeConfig
from sidecar.core.node.outbound import OutboundChoice
from sidecar.core.peers import KnownAddress, Origin
from sidecar.core.types import Direction, PeerId
from sidecar.sim import SimPeer, Simulation

ALONE = NodeConfig(target_peers=0)


def peer(number: int) -> PeerId:
    return PeerId(b"\x12\x20" + number.to_bytes(32, "big"))


def know(node: SimPeer, first: int, count: int, origin: Origin, teller: int | None = None, host: str = "") -> None:
    """Have a node hear of peers with these numbers."""
    for number in range(first, first + count):
        address = Multiaddr.tcp(host or f"{20 + number // 250}.{number % 250}.1.1", 4747)
        told_by = None if teller is None else peer(teller)
        node.node._services.switch.book.learn(peer(number), (address,), origin=origin, teller=told_by)


def chosen(node: SimPeer, choice: OutboundChoice, count: int) -> list[int]:
    eligible = list(node.node._services.switch.book.peers())
    return [int.from_bytes(one[2:], "big") for one in choice.choose(eligible, count)]


def test_each_comes_from_another_origin_than_the_last() -> None:
    node = Simulation(1).add(ALONE)
    choice = OutboundChoice(node.node._services.switch)
    know(node, 0, 3, Origin.MEMORY)
    know(node, 100, 1000, Origin.DHT, teller=1)
    know(node, 2000, 3, Origin.EXCHANGE, teller=2)
    picked = [chosen(node, choice, 1)[0] for _ in range(6)]
    kinds = ["memory" if one < 100 else "dht" if one < 2000 else "exchange" for one in picked]
    assert all(one != other for one, other in pairwise(kinds))
    assert set(kinds) == {"memory", "dht", "exchange"}
    assert len(set(chosen(node, choice, 2000))) == 1006  # all, when so many are wanted


def test_who_names_many_is_followed_no_more_than_who_names_few() -> None:
    node = Simulation(1).add(ALONE)
    choice = OutboundChoice(node.node._services.switch)
    know(node, 0, 900, Origin.DHT, teller=1)  # made up
    know(node, 1000, 3, Origin.DHT, teller=2)
    know(node, 2000, 3, Origin.DHT, teller=3)
    picked = chosen(node, choice, 9)
    assert sum(one < 900 for one in picked) == 3


def test_networks_are_mixed() -> None:
    node = Simulation(1).add(ALONE)
    choice = OutboundChoice(node.node._services.switch)
    know(node, 0, 50, Origin.DHT, teller=1, host="203.0.113.5")
    know(node, 100, 2, Origin.DHT, teller=1)
    assert sorted(chosen(node, choice, 3))[1:] == [100, 101]  # one of the many, and both of the others


def test_of_one_who_names_many_the_book_keeps_a_quarter() -> None:
    node = Simulation(1).add(replace(ALONE, max_book_peers=100))
    know(node, 0, 20, Origin.DHT, teller=2)
    know(node, 1000, 500, Origin.DHT, teller=1)
    book = node.node._services.switch.book
    assert len(book) == 45
    assert all(peer(number) in book for number in range(20))


def test_who_has_peers_enough_looks_for_more_of_its_own_ever_less_often() -> None:
    simulation = Simulation(5)
    config = NodeConfig(target_peers=1, target_outbound=1)
    node, guest = simulation.add(config), simulation.add(ALONE)
    guest.ask(lambda op: events.ConnectRequested(op, node.identity.peer_id, (node.address,)))
    simulation.run(5)
    know(node, 0, 200, Origin.DHT, teller=1, host="10.250.0.1")  # nobody is there
    assert [view.direction for view in node.node.peers()] == [Direction.INBOUND]
    before = node.dials
    simulation.run(600)
    assert 5 <= node.dials - before <= 20  # two hundred would be tried each minute
    honest = simulation.add(ALONE)
    node.node._services.switch.book.learn(honest.identity.peer_id, (honest.address,), origin=Origin.EXCHANGE)
    simulation.run(300)
    assert any(view.direction is Direction.OUTBOUND for view in node.node.peers())


def test_the_two_longest_of_use_are_anchors() -> None:
    simulation = Simulation(4)
    first = simulation.add(NodeConfig(target_peers=5))
    joining = NodeConfig(target_peers=5, bootstrap=(first.address.with_peer(first.identity.peer_id),))
    peers = [first, *(simulation.add(joining) for _ in range(9))]
    for one in peers:
        one.feed(gossip.TopicJoined("news"))
    simulation.run(130)
    node = peers[5]
    views = {view.peer: view for view in node.node.peers()}
    *_, news = [item for item in node.news if isinstance(item, AnchorsChosen)]
    assert len(news.peers) == 2
    for anchor in news.peers:
        assert views[anchor].direction is Direction.OUTBOUND
        assert anchor != first.identity.peer_id
    # After a restart they are among the first that are dialled.
    simulation.kill(node)
    simulation.run(5)
    known = tuple(
        (other.identity.peer_id, (KnownAddress(other.address, Origin.DHT),))
        for other in peers
        if other.identity.peer_id in news.peers
    )
    node.config = replace(node.config, bootstrap=(), known_peers=known)
    node.start()
    node.feed(events.OperationCancelled(0))
    simulation.run(3)
    assert set(news.peers) <= {view.peer for view in node.node.peers()}
