"""Who answers by mDNS under others' ids: found out by the handshake, tried rarely, and nobody is lost for it."""

from dataclasses import replace

from sidecar.core import events
from sidecar.core.errors import Unreachable, WrongPeer
from sidecar.core.multiaddr import Multiaddr
from sidecar.core.node import NodeConfig
from sidecar.core.types import PeerId
from sidecar.sim import Simulation

QUIET = NodeConfig(target_peers=0, dht_server=False)


def made_up(number: int) -> PeerId:
    return PeerId(b"\x12\x20" + number.to_bytes(32, "big"))


def test_an_id_that_another_has_is_tried_rarely_and_its_owner_is_reached_all_the_same() -> None:
    simulation = Simulation(1)
    liar, owner = (simulation.add(QUIET) for _ in range(2))
    node = simulation.add(replace(QUIET, target_peers=4))
    owned = owner.identity.peer_id
    op = node.ask(lambda op: events.ConnectRequested(op, owned, (owner.address,)))
    simulation.run(2)
    assert isinstance(node.result(op), events.PeerView)
    node.ask(lambda op: events.DisconnectRequested(op, owned))
    simulation.run(1)
    simulation.kill(owner)
    before = node.dials
    for _ in range(600):  # a claim a second, while the owner is away
        node.feed(events.PeersFound(((owned, (liar.address,)),)))
        simulation.run(1)
    assert node.dials - before < 60  # as often as one who is alone tries anybody
    assert not [view for view in node.node.peers() if view.peer == owned]
    op = node.ask(lambda op: events.PingRequested(op, owned))
    simulation.run(20)
    assert isinstance(node.result(op), WrongPeer | Unreachable)  # a simulated dial comes to one address
    owner.start()
    op = node.ask(lambda op: events.PingRequested(op, owned))
    simulation.run(20)
    assert isinstance(node.result(op), float)
    entry = node.node._services.switch.book.get(owned)
    assert entry is not None
    assert entry.addresses == (owner.address,)  # what it says itself takes the place of all claims


def test_ids_that_are_made_up_fill_neither_the_book_nor_the_time() -> None:
    simulation = Simulation(1)
    liar = simulation.add(QUIET)
    node = simulation.add(replace(QUIET, target_peers=4, max_book_peers=64))
    for number in range(2000):
        many = tuple(Multiaddr.tcp("10.9.9.9", port + 1) for port in range(50))
        node.feed(events.PeersFound(((made_up(number), (liar.address, *many)),)))
    simulation.run(60)
    book = node.node._services.switch.book
    assert len(book) <= 64
    assert all(len(book.addresses(peer)) <= 4 for peer in book.peers() if peer != liar.identity.peer_id)
    assert node.dials < 400  # four at a time, and each rests for longer after each failure
