"""Bans and trimming in the node, on virtual time."""

from dataclasses import replace

import pytest

from sidecar.core import direct, events, gossip, streams
from sidecar.core.errors import PeerBanned, ResourceExhausted
from sidecar.core.events import PeerChange
from sidecar.core.gate import Ban, GateLists, Subject
from sidecar.core.networks import Network
from sidecar.core.node import NodeConfig
from sidecar.sim import SimPeer, Simulation

ALONE = NodeConfig(target_peers=0)


def mesh_of(count: int, config: NodeConfig = ALONE) -> tuple[Simulation, list[SimPeer]]:
    simulation = Simulation(1)
    return simulation, [simulation.add(config) for _ in range(count)]


def connect(peer: SimPeer, to: SimPeer) -> int:
    return peer.ask(lambda op: events.ConnectRequested(op, to.identity.peer_id, (to.address,)))


def ban(peer: SimPeer, *subjects: SimPeer | str, reason: str = "") -> int:
    named: list[Subject] = [
        Network.from_text(subject) if isinstance(subject, str) else subject.identity.peer_id for subject in subjects
    ]
    return peer.ask(lambda op: events.BanRequested(op, tuple(Ban(subject, reason, 0.0, None) for subject in named)))


def last_change(peer: SimPeer) -> events.PeerChanged:
    return [item for item in peer.news if isinstance(item, events.PeerChanged)][-1]


def test_a_ban_disconnects_forgets_and_refuses_both_ways() -> None:
    simulation, (one, other) = mesh_of(2)
    connect(one, other)
    simulation.run(5)
    banned = other.identity.peer_id
    assert one.node.statistics().flat()["dht_peers"] == 1
    op = ban(one, other, reason="spam")
    assert one.result(op) == events.BansMade(1, (), ())
    simulation.run(1)
    assert not one.links
    assert last_change(one).change is PeerChange.DISCONNECTED
    assert str(last_change(one).error) == f"{banned} is banned: spam"
    assert one.node.peer(banned) is None
    assert one.node.statistics().flat()["dht_peers"] == 0
    ops = [
        connect(one, other),
        one.ask(lambda op: events.PingRequested(op, banned)),
        one.ask(lambda op: streams.StreamRequested(op, banned, ("/x/1",))),
    ]
    simulation.run(1)
    assert all(isinstance(one.result(op), PeerBanned) for op in ops)
    op = connect(other, one)
    simulation.run(30)
    assert not isinstance(other.result(op), events.PeerView)
    assert not one.links
    assert not other.links
    one.feed(events.BansLifted((banned,)))
    op = connect(one, other)
    simulation.run(2)
    assert isinstance(one.result(op), events.PeerView)


def test_a_banned_peer_is_found_through_no_other_way() -> None:
    """In a mesh that knows it, which tells of it by DHT and peer exchange."""
    simulation = Simulation(3)
    config = NodeConfig(target_peers=6)
    first = simulation.add(config)
    bootstrap = first.address.with_peer(first.identity.peer_id)
    peers = [first, *(simulation.add(replace(config, bootstrap=(bootstrap,))) for _ in range(9))]
    for peer in peers:
        peer.feed(gossip.TopicJoined("news"))
    simulation.run(30)
    one, outcast = peers[4], peers[7]
    ban(one, outcast)
    walk = one.ask(lambda op: events.ClosestPeersRequested(op, bytes(outcast.identity.peer_id)))
    simulation.run(120)
    assert outcast.identity.peer_id not in {view.peer for view in one.node.peers() if view.connected}
    assert isinstance(one.result(walk), tuple)
    assert len(one.node.peers()) > 2
    for peer in peers:
        peer.news.clear()
    outcast.ask(lambda op: gossip.Published(op, "news", (b"still heard",)))
    simulation.run(5)
    heard = [item for item in one.news if isinstance(item, gossip.MessagesDelivered)]
    assert heard  # a ban is about connections: what others pass on is theirs to say


def test_a_ban_while_a_dial_is_under_way() -> None:
    simulation, (one, other) = mesh_of(2)
    op = connect(one, other)
    simulation.run(0.001)
    assert one.result(ban(one, other)) == events.BansMade(0, (), ())
    assert isinstance(one.result(op), PeerBanned)  # at once
    simulation.run(5)
    assert not one.links
    assert not other.links
    assert last_change(other).change is PeerChange.DISCONNECTED
    assert not one.node.peers()


def test_a_ban_of_a_network_while_a_dial_into_it_is_under_way() -> None:
    simulation, (one, other) = mesh_of(2)
    op = connect(one, other)
    simulation.run(0.001)
    assert one.result(ban(one, str(other.address.ip))) == events.BansMade(0, (), ())
    simulation.run(5)
    assert isinstance(one.result(op), PeerBanned)
    assert not one.links


def send(peer: SimPeer, to: SimPeer, message: bytes) -> int:
    return peer.ask(lambda op: direct.SendRequested(op, to.identity.peer_id, "/chat/1", (message,)))


def sent(peer: SimPeer, op: int) -> direct.SendCompleted:
    return next(item for item in peer.news if isinstance(item, direct.SendCompleted) and item.op == op)


def test_a_ban_while_messages_wait_for_their_peer() -> None:
    simulation, (one, other) = mesh_of(2)
    connect(one, other)
    simulation.run(2)
    early = send(one, other, b"no link yet")
    ban(one, other, reason="enough")
    simulation.run(1)
    late = send(one, other, b"banned by now")
    simulation.run(1)
    for op in (early, late):
        (range_,) = sent(one, op).outcomes
        assert range_.outcome in (direct.SendOutcome.REFUSED, direct.SendOutcome.UNREACHABLE)
        assert "is banned: enough" in str(sent(one, op).error)
    assert sent(one, late).outcomes[0].outcome is direct.SendOutcome.REFUSED


def test_a_ban_of_a_network_closes_what_comes_from_it() -> None:
    simulation, (one, other, third) = mesh_of(3)
    connect(one, other)
    connect(third, one)
    simulation.run(2)
    assert one.result(ban(one, str(third.address.ip), reason="scans")).closed == 1  # type: ignore[attr-defined]
    simulation.run(1)
    assert [view.peer for view in one.node.peers()] == [other.identity.peer_id]
    assert f"{third.address.ip} is banned: scans" in str(last_change(one).error)
    op = connect(third, one)
    simulation.run(30)
    assert not isinstance(third.result(op), events.PeerView)
    assert one.result(ban(one, "10.0.0.0/8")).closed == 1  # type: ignore[attr-defined]
    simulation.run(1)
    assert not one.links


def test_bootstrap_and_protected_peers_may_be_banned_and_it_is_said() -> None:
    simulation, (one, other, third) = mesh_of(3)
    config = replace(ALONE, bootstrap=(one.address.with_peer(one.identity.peer_id),))
    node = simulation.add(config)
    node.feed(events.ProtectionChanged(other.identity.peer_id, True))
    connect(node, other)
    simulation.run(3)
    assert {view.peer for view in node.node.peers() if view.protected} == {one.identity.peer_id, other.identity.peer_id}
    result = node.result(ban(node, one, other, third))
    assert result == events.BansMade(2, (one.identity.peer_id,), (other.identity.peer_id,))
    simulation.run(60)
    assert not node.links
    (_, bootstrapped) = node.node.conditions()
    assert not bootstrapped.met
    assert "is banned" in bootstrapped.message


def test_protection_is_told_to_who_watches() -> None:
    simulation, (one, other) = mesh_of(2)
    connect(one, other)
    simulation.run(2)
    told = len(one.news)
    for protected in (True, True, False):
        one.feed(events.ProtectionChanged(other.identity.peer_id, protected))
    changes = [item for item in one.news[told:] if isinstance(item, events.PeerChanged)]
    assert [(item.change, item.view.protected) for item in changes] == [
        (PeerChange.UPDATED, True),
        (PeerChange.UPDATED, False),
    ]


def test_other_lists_are_enforced_at_once() -> None:
    simulation, (one, other, third) = mesh_of(3)
    connect(one, other)
    connect(one, third)
    simulation.run(2)
    one.feed(events.GateConfigured(GateLists(allow_peers=(other.identity.peer_id,))))
    simulation.run(1)
    assert [view.peer for view in one.node.peers()] == [other.identity.peer_id]
    one.feed(events.GateConfigured(GateLists(deny_networks=(Network.from_text("10.0.0.0/8"),))))
    simulation.run(1)
    assert not one.links


def test_bans_are_bounded() -> None:
    _, (one, other) = mesh_of(2)
    one.node.gate.max_bans = 0
    assert isinstance(one.result(ban(one, other)), ResourceExhausted)


# ---------------------------------------------------------------- high and low water

WATER = replace(ALONE, high_water=10, low_water=6, trim_grace=5.0)


def connected(peer: SimPeer) -> set[bytes]:
    return {view.peer for view in peer.node.peers() if view.connected}


def test_above_the_high_water_the_least_useful_go_until_the_low_water() -> None:
    simulation = Simulation(5)
    hub = simulation.add(replace(WATER, dht_server=False))
    useful = [simulation.add(replace(ALONE, dht_server=False)) for _ in range(5)]
    chatting, streaming, meshed, protected, late = useful
    idle = [simulation.add(replace(ALONE, dht_server=False)) for _ in range(5)]
    for peer in (hub, meshed):
        peer.feed(gossip.TopicJoined("news"))
    streaming.feed(streams.ProtocolsAccepted(("/tunnel/1",)))
    hub.feed(events.ProtectionChanged(protected.identity.peer_id, True))
    for peer in (chatting, streaming, meshed, protected, *idle):
        connect(peer, hub)
        simulation.run(1)
    send(chatting, hub, b"hello")
    hub.ask(lambda op: streams.StreamRequested(op, streaming.identity.peer_id, ("/tunnel/1",)))
    simulation.run(10)
    assert len(hub.links) == 9
    connect(late, hub)
    extra = simulation.add(ALONE)
    connect(extra, hub)
    simulation.run(4)
    assert connected(hub) == {p.identity.peer_id for p in (chatting, streaming, meshed, protected, late, extra)}
    assert hub.node.statistics().flat()["connections_trimmed"] == 5
    gone = [
        item for item in hub.news if isinstance(item, events.PeerChanged) and item.change is PeerChange.DISCONNECTED
    ]
    assert [item.view.peer for item in gone] == [peer.identity.peer_id for peer in idle]  # the longest idle first
    assert all(
        str(item.error).startswith("trimmed: 11 connections, more than the high water mark of 10") for item in gone
    )


def test_who_has_a_score_below_0_goes_first_though_it_is_of_use() -> None:
    simulation = Simulation(5)
    hub = simulation.add(replace(WATER, high_water=3, low_water=2, dht_server=False))
    meshed, idle, other = (simulation.add(replace(ALONE, dht_server=False)) for _ in range(3))
    for peer in (hub, meshed):
        peer.feed(gossip.TopicJoined("news"))
    for peer in (meshed, idle, other):
        connect(peer, hub)
        simulation.run(2)
    hub.feed(gossip.PeerAppointed(meshed.identity.peer_id, -1.0))
    simulation.run(8)
    connect(simulation.add(ALONE), hub)
    simulation.run(4)
    assert meshed.identity.peer_id not in connected(hub)
    assert idle.identity.peer_id not in connected(hub)  # and then the longest idle
    assert other.identity.peer_id in connected(hub)


def test_protection_and_grace_are_stronger_than_the_high_water() -> None:
    simulation = Simulation(6)
    hub = simulation.add(replace(WATER, high_water=5, low_water=2, trim_grace=20.0, dht_server=False))
    peers = [simulation.add(replace(ALONE, dht_server=False)) for _ in range(6)]  # servers the hub's lookups dial again
    for peer in peers[:2]:
        hub.feed(events.ProtectionChanged(peer.identity.peer_id, True))
    for peer in peers:
        connect(peer, hub)
    simulation.run(15)
    assert len(hub.links) == 6
    simulation.run(15)  # the grace is over: looked at again without another connection
    assert connected(hub) == {peer.identity.peer_id for peer in peers[:2]}
    hub.feed(events.ProtectionChanged(peers[0].identity.peer_id, False))
    for peer in peers[2:]:
        connect(peer, hub)
    simulation.run(40)
    assert peers[1].identity.peer_id in connected(hub)
    assert len(hub.links) <= 5


def test_where_far_too_many_come_at_once_the_grace_is_shorter() -> None:
    """Else a bootstrap peer would be full of them, and refuse who comes next."""
    simulation = Simulation(6)
    hub = simulation.add(replace(WATER, high_water=4, low_water=2, trim_grace=20.0, dht_server=False))
    peers = [simulation.add(replace(ALONE, dht_server=False)) for _ in range(6)]
    for peer in peers:
        connect(peer, hub)
    simulation.run(1.5)
    assert len(hub.links) == 6  # long enough to ask it something
    simulation.run(2)
    assert len(hub.links) == 2


@pytest.mark.parametrize("config", [replace(WATER, high_water=0), replace(WATER, high_water=12)])
def test_below_the_high_water_and_without_one_nobody_goes(config: NodeConfig) -> None:
    simulation = Simulation(7)
    hub = simulation.add(config)
    for _ in range(12):
        connect(simulation.add(ALONE), hub)
    simulation.run(60)
    assert len(hub.links) == 12


def test_peers_in_the_table_outlast_clients() -> None:
    simulation = Simulation(8)
    hub = simulation.add(replace(WATER, high_water=5, low_water=3, trim_grace=0.5, dht_server=False))
    servers = [simulation.add(ALONE) for _ in range(3)]
    clients = [simulation.add(replace(ALONE, dht_server=False)) for _ in range(3)]
    for peer in (*servers, *clients):  # the servers have been idle for longer
        connect(peer, hub)
        simulation.run(1)
    simulation.run(20)
    assert connected(hub) == {peer.identity.peer_id for peer in servers}


def test_who_comes_back_after_a_trim_does_not_push_others_out() -> None:
    """Peers that know nobody else come back at once; with a grace each time they would outlast those that stayed."""
    simulation = Simulation(9)
    hub = simulation.add(replace(WATER, high_water=5, low_water=3, trim_grace=26.0))
    servers = [simulation.add(ALONE) for _ in range(3)]
    bootstrap = (hub.address.with_peer(hub.identity.peer_id),)
    for peer in servers:
        connect(peer, hub)
    simulation.run(0.5)
    clients = [simulation.add(replace(ALONE, dht_server=False, bootstrap=bootstrap)) for _ in range(6)]
    simulation.run(300)
    changes = [
        item for item in hub.news if isinstance(item, events.PeerChanged) and item.change is PeerChange.DISCONNECTED
    ]
    gone = {item.view.peer for item in changes}
    assert gone == {peer.identity.peer_id for peer in clients}
    assert len(changes) > 6  # they did come back


def test_who_is_trimmed_again_and_again_comes_back_less_and_less_often() -> None:
    """Peers that know nobody else. Without the pause they make some 90 connections in every minute."""
    simulation = Simulation(1)
    hub = simulation.add(replace(WATER, high_water=8, low_water=6, trim_grace=10.0, dht_server=False))
    bootstrap = (hub.address.with_peer(hub.identity.peer_id),)
    for _ in range(12):
        simulation.add(replace(ALONE, dht_server=False, bootstrap=bootstrap))

    def connections() -> int:
        return sum(isinstance(item, events.PeerChanged) and item.change is PeerChange.CONNECTED for item in hub.news)

    simulation.run(60)
    early = connections()
    simulation.run(180)
    before = connections()
    simulation.run(60)
    assert early > 12
    assert connections() - before < early / 2
