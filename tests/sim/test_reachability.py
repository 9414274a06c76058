"""Nodes that find out where they can be reached, on virtual time: in the open, behind NATs, and among liars."""

from collections.abc import Sequence

import pytest

from sidecar.core import autonat, events
from sidecar.core.autonat import Reachability
from sidecar.core.buffer import FrameDecoder
from sidecar.core.multiaddr import Multiaddr
from sidecar.core.node import NodeConfig
from sidecar.core.node.switch import SimpleHandler, Stream, Switch
from sidecar.core.parameters import AutonatConfig
from sidecar.sim import SimPeer, Simulation

CONFIG = NodeConfig(target_peers=0, target_outbound=0)
SILENT = NodeConfig(target_peers=0, target_outbound=0, autonat=AutonatConfig(ask=False))


def build(servers: int = 6, *, config: NodeConfig = SILENT, host: str = "192.0.2.1") -> tuple[Simulation, SimPeer]:
    """A node with a public address and so many servers, each in a network of its own, that it is connected to."""
    simulation = Simulation(1)
    node = simulation.add(CONFIG, host=host)
    for number in range(servers):
        simulation.add(config, host=f"198.51.{number}.1")
    meet(node, simulation.peers[1:])
    return simulation, node


def nobody(dialler: SimPeer) -> bool:
    return False


def everybody(dialler: SimPeer) -> bool:
    return True


def meet(node: SimPeer, others: Sequence[SimPeer]) -> None:
    for other in others:
        node.ask(lambda op, to=other: events.ConnectRequested(op, to.identity.peer_id, (to.address,)))


def counted(node: SimPeer) -> autonat.ReachabilityStatistics:
    return node.node.statistics().reachability


def served(simulation: Simulation) -> list[autonat.DialBackStatistics]:
    return [peer.node.statistics().dial_back for peer in simulation.peers[1:]]


def reachable(node: SimPeer) -> events.Condition:
    return next(each for each in node.node.conditions() if each.type == "Reachable")


def answers_lookups(node: SimPeer) -> bool:
    return node.node.accepts(node.config.kademlia_protocol)


def test_an_address_that_peers_reach_is_confirmed() -> None:
    simulation, node = build()
    simulation.run(60)
    addresses = node.node.addresses()
    assert addresses.verdict is Reachability.CONFIRMED
    (view,) = addresses.verdicts
    assert (view.address, view.proofs) == (node.address, 2)
    assert addresses.announced == ()
    assert counted(node).proofs == sum(each.reached for each in served(simulation)) == 2
    assert all(not each.dial_data_bytes for each in served(simulation))
    assert answers_lookups(node)
    assert reachable(node).reason == "Confirmed"
    assert len(node.links) == 6, "the connections of the dial-backs are gone"
    assert {view.connections for view in node.node.peers()} == {1}
    assert not [note for note in node.news if isinstance(note, events.Note) and note.level >= events.LogLevel.WARNING]


def test_a_node_that_nobody_reaches_becomes_a_client_says_so_and_comes_back() -> None:
    simulation, node = build()
    node.reached_by = nobody
    simulation.run(120)
    assert node.node.addresses().verdict is Reachability.UNREACHABLE
    assert not answers_lookups(node)
    condition = reachable(node)
    assert (condition.met, condition.reason) == (True, "NotReachable")
    assert "listen.announce" in condition.remedy
    told = [view for peer in simulation.peers[1:] for view in peer.node.peers() if view.peer == node.identity.peer_id]
    assert all(node.config.kademlia_protocol not in view.protocols for view in told)
    assert any(isinstance(each, events.Note) and "only asks in the DHT" in each.text for each in node.news)

    node.reached_by = everybody
    simulation.run(1200)
    assert node.node.addresses().verdict is Reachability.CONFIRMED
    assert answers_lookups(node)
    assert not reachable(node).remedy


def test_a_server_of_the_dht_by_configuration_stays_one() -> None:
    simulation = Simulation(1)
    node = simulation.add(NodeConfig(target_peers=0, target_outbound=0, dht_adapts=False), host="192.0.2.1")
    for number in range(6):
        simulation.add(SILENT, host=f"198.51.{number}.1")
    meet(node, simulation.peers[1:])
    node.reached_by = nobody
    simulation.run(120)
    assert node.node.addresses().verdict is Reachability.UNREACHABLE
    assert answers_lookups(node)


def test_of_private_addresses_nobody_is_asked_and_nothing_changes() -> None:
    simulation = Simulation(1)
    peers = [simulation.add(CONFIG) for _ in range(6)]  # in 10.0.0.0/8
    meet(peers[0], peers[1:])
    for peer in peers:
        peer.reached_by = nobody
    simulation.run(600)
    for peer in peers:
        assert not counted(peer).requests
        addresses = peer.node.addresses()
        assert (addresses.verdict, addresses.verdicts) == (Reachability.UNKNOWN, ())
        assert answers_lookups(peer)
        assert [each.type for each in peer.node.conditions()] == ["Listening", "Bootstrapped"]


def test_too_few_servers_change_nothing() -> None:
    simulation, node = build(servers=2)
    node.reached_by = nobody
    simulation.run(3600)
    assert node.node.addresses().verdict is Reachability.UNKNOWN
    assert answers_lookups(node)
    assert reachable(node).reason == "Unknown"
    assert counted(node).requests < 20


def test_an_address_that_several_peers_see_is_looked_at_and_announced_when_it_is_confirmed() -> None:
    simulation, node = build(host="10.0.0.9")
    outside = Multiaddr.tcp("192.0.2.7", 4001)
    simulation._by_address[outside] = node  # what the NAT forwards
    for peer in simulation.peers[1:]:  # what they see the node as
        opened = peer.opened
        peer.opened = _seen_as(peer, opened, node, outside)  # type: ignore[method-assign]
    node.feed(events.AddressesChanged((Multiaddr.tcp("10.0.0.9", 4001),), ()))
    simulation.run(90)
    addresses = node.node.addresses()
    (view,) = addresses.verdicts
    assert (view.address, view.verdict, view.source) == (
        outside,
        Reachability.CONFIRMED,
        autonat.AddressSource.OBSERVED,
    )
    assert addresses.announced == (Multiaddr.tcp("10.0.0.9", 4001), outside)
    (told, *_) = (view for view in simulation.peers[1].node.peers() if view.peer == node.identity.peer_id)
    assert outside in told.addresses


def _seen_as(peer: SimPeer, opened: object, node: SimPeer, outside: Multiaddr) -> object:
    def shown(number, other, direction, dial, identity=None):  # type: ignore[no-untyped-def]
        public = (identity or other.identity).public_key
        remote = outside if other is node else other.address
        arrived = events.ConnectionOpened(number, public.peer_id(), public, direction, remote, peer.address, dial)
        peer.feed(arrived)

    return shown


class _Liar(SimpleHandler):
    """Answers every request at once with the same words, and dials nobody."""

    name = "autonat"

    def __init__(self, switch: Switch, dial_status: int) -> None:
        self.switch = switch
        self.dial_status = dial_status

    def received(self, stream: Stream, data: bytes, now: float) -> None:
        if FrameDecoder(autonat.MAX_MESSAGE).receive(data):
            response = autonat.DialResponse(autonat.OK, 0, self.dial_status)
            self.switch.write(stream, autonat.encode_response(response))
            self.switch.close_write(stream)


def lie(peer: SimPeer, dial_status: int) -> None:
    switch = peer.node._services.switch
    switch.handlers[autonat.DIAL_REQUEST] = _Liar(switch, dial_status)


def test_who_says_that_it_has_reached_a_node_has_to_show_it() -> None:
    simulation, node = build()
    node.reached_by = nobody
    for liar in simulation.peers[1:]:
        lie(liar, autonat.OK)
    simulation.run(300)
    assert node.node.addresses().verdict is Reachability.UNKNOWN
    assert counted(node).unproven == counted(node).requests == 6, "each is believed nothing, and left alone"
    assert not node.node._services.switch.asked_back


def test_two_liars_cannot_have_an_address_given_up() -> None:
    simulation, node = build()
    for liar in simulation.peers[1:3]:
        lie(liar, autonat.DIAL_ERROR)
    simulation.run(300)
    assert node.node.addresses().verdict is Reachability.CONFIRMED
    assert answers_lookups(node)


class _Repeats(SimpleHandler):
    """Takes a request, and brings its nonce over the connection that is there, changed, or twice."""

    name = "autonat"

    def __init__(self, switch: Switch, change: int = 0) -> None:
        self.switch = switch
        self.change = change

    def opened(self, stream: Stream, now: float) -> None:
        if isinstance(stream.state, int):
            self.switch.write(stream, autonat.encode_dial_back(stream.state))

    def received(self, stream: Stream, data: bytes, now: float) -> None:
        if stream.state is not None:
            return
        (frame,) = FrameDecoder(autonat.MAX_MESSAGE).receive(data)
        request = autonat.decode(frame)
        assert isinstance(request, autonat.DialRequest)
        nonce = (request.nonce + self.change) % 2**64
        self.switch.open_stream(stream.connection, (autonat.DIAL_BACK,), self, nonce)
        self.switch.write(stream, autonat.encode_response(autonat.DialResponse(autonat.OK, 0, autonat.OK)))


@pytest.mark.parametrize("change", [0, 1])
def test_a_nonce_over_the_connection_that_is_there_proves_nothing(change: int) -> None:
    simulation, node = build()
    node.reached_by = nobody
    for peer in simulation.peers[1:]:
        switch = peer.node._services.switch
        switch.handlers[autonat.DIAL_REQUEST] = _Repeats(switch, change)
    simulation.run(300)
    counts = counted(node)
    assert counts.stray_dial_backs >= 3
    assert not counts.proofs
    assert node.node.addresses().verdict is Reachability.UNKNOWN
    assert not node.node._services.switch.asked_back
