"""The node among few peers on virtual time: reaching, settling, refusing, and what apps are told."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from sidecar.core import direct, events
from sidecar.core.errors import (
    Closed,
    NotFound,
    ResourceExhausted,
    SelfDial,
    SidecarError,
    Unreachable,
    WrongNetwork,
    WrongPeer,
)
from sidecar.core.events import PeerChange
from sidecar.core.identity import Identity
from sidecar.core.multiaddr import Multiaddr
from sidecar.core.node import ConfigurationChanged, NodeConfig, NodeInput
from sidecar.core.node.switch import SimpleHandler, Stream
from sidecar.core.types import Direction
from sidecar.sim import SimPeer, Simulation
from sidecar.sim.network import Link

ALONE = NodeConfig(target_peers=0)  # seeks nobody by itself


def two(one: NodeConfig = ALONE, other: NodeConfig = ALONE) -> tuple[Simulation, SimPeer, SimPeer]:
    simulation = Simulation(1)
    return simulation, simulation.add(one), simulation.add(other)


def connect(peer: SimPeer, to: SimPeer) -> int:
    return peer.ask(lambda op: events.ConnectRequested(op, to.identity.peer_id, (to.address,)))


def changes(peer: SimPeer) -> list[PeerChange]:
    return [item.change for item in peer.news if isinstance(item, events.PeerChanged)]


def test_a_connection_is_told_with_what_identify_shows() -> None:
    simulation, one, other = two()
    op = connect(one, other)
    simulation.run(1)
    view = one.result(op)
    assert isinstance(view, events.PeerView)
    assert view.peer == other.identity.peer_id
    assert view.direction is Direction.OUTBOUND
    assert view.addresses == (other.address,)
    assert view.protocol_version == "sidecar/main"
    assert "/sidecar/main/direct/1" in view.protocols
    assert changes(one) == changes(other) == [PeerChange.CONNECTED, PeerChange.IDENTIFIED]
    assert other.node.addresses().observed == (other.address,)

    op = one.ask(lambda op: events.DisconnectRequested(op, other.identity.peer_id))
    simulation.run(1)
    assert one.result(op) is None
    assert changes(other)[-1] is PeerChange.DISCONNECTED
    assert not one.node.peers()
    assert not other.node.peers()


def test_latency_is_measured_without_streams() -> None:
    simulation, one, other = two()
    connect(one, other)
    simulation.run(1)
    round_trip = 2 * simulation.latency(one, other)
    for peer in (one, other):
        (view,) = peer.node.peers()
        assert view.latency == pytest.approx(round_trip)
    (link,) = one.links.values()
    for side in (link, link.far):
        side.latency *= 2
    simulation.run(600)
    (view,) = one.node.peers()
    assert view.latency == pytest.approx(2 * round_trip, rel=0.2)
    assert "ping" not in one.node.statistics().switch.stream_bytes_sent


def test_where_the_muxer_answers_no_pings_a_stream_measures_latency(monkeypatch: pytest.MonkeyPatch) -> None:
    simulation, one, other = two()
    connect(one, other)
    simulation.run(1)
    monkeypatch.setattr(Link, "measure", lambda link: None)
    (connection,) = one.node._services.switch.connections.values()
    connection.peer.latency, connection.unanswered = None, False
    simulation.run(2 * one.config.ping_interval * 1.25 + 1)
    (view,) = one.node.peers()
    assert view.latency == pytest.approx(2 * simulation.latency(one, other))
    one.feed(events.LatencyMeasured(connection.number, view.latency))  # late, but it answers
    assert not connection.unanswered
    one.feed(events.LatencyMeasured(connection.number + 1, 1.0))  # of one that is gone


def test_peers_that_are_due_soon_are_pinged_in_one_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    pinged: dict[float, list[int]] = {}

    def measure(link: Link) -> None:
        if link.peer is hub:
            pinged.setdefault(simulation.clock.now, []).append(link.far.peer.index)

    simulation = Simulation(1)
    hub, *others = [simulation.add(ALONE) for _ in range(31)]
    for other in others:
        connect(other, hub)
    simulation.run(2)
    monkeypatch.setattr(Link, "measure", measure)
    interval = hub.config.ping_interval
    for connection in hub.node._services.switch.connections.values():
        connection.unanswered = False
    began = simulation.clock.now
    simulation.run(1.25 * interval)
    assert sorted({index for turn in pinged.values() for index in turn}) == [other.index for other in others]
    assert max(map(len, pinged.values())) <= 16
    assert 2 <= len(pinged) <= 10
    assert all(1 / 2 * interval <= now - began for now in pinged)


@pytest.mark.parametrize("later", [0.0, 0.01, 0.05, 0.2])
def test_two_that_dial_each_other_at_once_keep_one_connection(later: float) -> None:
    simulation, one, other = two()
    ops = [connect(one, other)]
    simulation.run(later)
    ops.append(connect(other, one))
    simulation.run(15)
    assert isinstance(one.result(ops[0]), events.PeerView)
    assert isinstance(other.result(ops[1]), events.PeerView)
    assert len(one.links) == len(other.links) == 1
    assert [view.connections for view in one.node.peers()] == [1]
    smaller = min((one, other), key=lambda peer: peer.identity.peer_id)
    if later < 0.05:  # later ones find the first connection there
        assert smaller.node.peers()[0].direction is Direction.OUTBOUND
    assert PeerChange.DISCONNECTED not in changes(one) + changes(other)


def test_a_peer_that_returns_replaces_the_connection_it_has_lost() -> None:
    simulation, one, other = two()
    connect(other, one)
    simulation.run(1)
    other.alive = False  # power cut: nobody is told
    for link in list(other.links.values()):
        other.links.clear()
        link.alive = False
    other.start()
    connect(other, one)
    simulation.run(20)
    assert len(one.links) == 1
    assert [view.connections for view in one.node.peers()] == [1]
    op = other.ask(lambda op: events.PingRequested(op, one.identity.peer_id))
    simulation.run(1)
    assert isinstance(other.result(op), float)


def test_another_network_is_refused_with_the_reason() -> None:
    simulation, one, other = two(other=replace(ALONE, network="elsewhere"))
    op = connect(one, other)
    simulation.run(1)
    assert isinstance(one.result(op), WrongNetwork)
    assert "elsewhere" in str(one.result(op))
    assert not one.links
    assert not other.links
    assert PeerChange.IDENTIFIED not in changes(one)


def test_who_cannot_be_reached_gets_a_typed_answer() -> None:
    simulation, one, other = two()
    stranger = simulation.add(ALONE)
    ops = {
        "self": connect(one, one),
        "wrong peer": one.ask(lambda op: events.ConnectRequested(op, stranger.identity.peer_id, (other.address,))),
        "nobody there": one.ask(
            lambda op: events.ConnectRequested(op, None, (Multiaddr.from_text("/ip4/10.9.9.9/tcp/1"),))
        ),
    }
    simulation.run(40)
    assert isinstance(one.result(ops["self"]), SelfDial)
    assert isinstance(one.result(ops["wrong peer"]), WrongPeer)
    assert isinstance(one.result(ops["nobody there"]), Unreachable)
    unknown = simulation.add(ALONE, start=False)
    op = one.ask(lambda op: events.FindPeerRequested(op, unknown.identity.peer_id))
    simulation.run(60)
    assert isinstance(one.result(op), NotFound)
    op = one.ask(lambda op: events.DisconnectRequested(op, unknown.identity.peer_id))
    assert isinstance(one.result(op), NotFound)


def test_a_cancelled_operation_is_answered_once() -> None:
    simulation, one, other = two()
    op = connect(one, other)
    one.feed(events.OperationCancelled(op))
    assert isinstance(one.result(op), Closed)
    simulation.run(2)
    assert sum(isinstance(item, events.OperationCompleted) for item in one.news) == 1


@pytest.mark.parametrize(
    "ask",
    [
        lambda op: events.FindPeerRequested(op, Identity(bytes(32)).peer_id),
        lambda op: events.ClosestPeersRequested(op, b"somewhere"),
    ],
    ids=["find", "closest"],
)
def test_the_walk_of_a_cancelled_operation_ends(ask: Callable[[int], NodeInput]) -> None:
    simulation, one, other = two()
    connect(one, other)
    simulation.run(10)
    op = one.ask(ask)
    assert one.node.statistics().kademlia.running_lookups == 1
    one.feed(events.OperationCancelled(op))
    assert one.node.statistics().kademlia.running_lookups == 0
    assert isinstance(one.result(op), Closed)


def test_operations_are_bounded() -> None:
    simulation, one, other = two(one=replace(ALONE, max_operations=2))
    ops = [connect(one, other) for _ in range(3)]
    assert isinstance(one.result(ops[2]), ResourceExhausted)
    simulation.run(1)
    assert isinstance(one.result(ops[0]), events.PeerView)
    assert isinstance(one.result(ops[1]), events.PeerView)


def test_a_changed_address_is_pushed() -> None:
    simulation, one, other = two()
    connect(one, other)
    simulation.run(1)
    new = Multiaddr.from_text("/ip4/10.1.1.1/tcp/9")
    other.feed(events.AddressesChanged((other.address,), (new,)))
    simulation.run(1)
    assert changes(one)[-1] is PeerChange.UPDATED
    view = one.node.peer(other.identity.peer_id)
    assert view is not None
    assert view.addresses == (new,)


def test_one_that_is_configured_anew_seeks_what_it_is_told_to_and_pings_as_often(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    simulation, one, other = two()
    simulation.run(10)
    assert not one.node.peers()
    target = other.address.with_peer(other.identity.peer_id)
    one.feed(ConfigurationChanged(replace(ALONE, bootstrap=(target,), ping_interval=1.0)))
    assert [condition.met for condition in one.node.conditions() if condition.type == "Bootstrapped"] == [False]
    simulation.run(8)
    assert [view.peer for view in one.node.peers()] == [other.identity.peer_id]
    measured: list[SimPeer] = []
    measure = Link.measure
    monkeypatch.setattr(Link, "measure", lambda link: measured.append(link.peer) or measure(link))
    simulation.run(10)
    assert measured.count(one) > 5


def test_a_message_goes_to_a_peer_known_only_by_its_id() -> None:
    simulation = Simulation(3)
    first = simulation.add(ALONE)
    joining = replace(ALONE, bootstrap=(first.address.with_peer(first.identity.peer_id),))
    one, other = simulation.add(joining), simulation.add(joining)
    other.feed(direct.ProtocolsChanged(("/chat",), ()))
    simulation.run(0.5)
    op = one.ask(lambda op: direct.SendRequested(op, other.identity.peer_id, "/chat", [b"a", b"b"]))
    simulation.run(5)
    arrived = [item for item in other.news if isinstance(item, direct.MessagesReceived)]
    assert [(item.peer, item.protocol, item.messages) for item in arrived] == [
        (one.identity.peer_id, "/chat", [b"a", b"b"])
    ]
    other.feed(direct.MessagesHandled(arrived[0].link, arrived[0].first, 2, direct.SendOutcome.DELIVERED))
    simulation.run(1)
    assert [item for item in one.news if isinstance(item, direct.SendCompleted)] == [
        direct.SendCompleted(op, (direct.OutcomeRange(0, 2, direct.SendOutcome.DELIVERED),))
    ]


def test_readiness_says_what_is_missing() -> None:
    simulation = Simulation(4)
    first = simulation.add(ALONE, start=False)
    one = simulation.add(replace(ALONE, bootstrap=(first.address.with_peer(first.identity.peer_id),)))
    simulation.run(6)
    unmet = [condition for condition in one.node.conditions() if not condition.met]
    assert [(condition.type, condition.reason) for condition in unmet] == [("Bootstrapped", "NoPeers")]
    assert unmet[0].remedy
    first.start()
    simulation.run(20)
    assert all(condition.met for condition in one.node.conditions())
    assert any(isinstance(item, events.ReadinessChanged) for item in one.news)


def test_who_asks_for_a_peer_while_its_last_connection_ends_is_told_of_the_end() -> None:
    """As a lookup does that asks the peer anew when the stream of an earlier question ends."""
    simulation, one, other = two()
    connect(one, other)
    simulation.run(1)
    switch, reach = one.node._services.switch, one.node._services.dialling
    asked: list[object] = []

    class Asker(SimpleHandler):
        name = "asker"

        def received(self, stream: Stream, data: bytes, now: float) -> None:
            pass

        def closed(self, stream: Stream, error: SidecarError, now: float) -> None:
            reach.reach(stream.peer.id, (), lambda result, now: asked.append(result), now)

    (connection,) = switch.connections.values()
    switch.open_stream(connection, ("/ipfs/ping/1.0.0",), Asker(), None)
    one.ask(lambda op: events.PingRequested(op, other.identity.peer_id))  # carries the effect out
    simulation.run(1)
    one.feed(events.ConnectionClosed(connection.number, Unreachable("the cable was cut")))
    (told,) = asked
    assert isinstance(told, Unreachable | Closed)
    assert changes(one)[-1] is PeerChange.DISCONNECTED


def test_a_node_that_only_dials_is_ready_with_a_peer_and_no_address() -> None:
    simulation = Simulation(1)
    first = simulation.add(ALONE)
    bootstrap = (first.address.with_peer(first.identity.peer_id),)
    only = simulation.add(replace(ALONE, listens=False, bootstrap=bootstrap), start=False)
    only.start()
    only.feed(events.AddressesChanged((), ()))
    simulation.run(5)
    assert [condition[:3] for condition in only.node.conditions()] == [
        ("Listening", True, "OnlyDials"),
        ("Bootstrapped", True, "HasPeers"),
    ]


def test_one_bootstrap_list_serves_the_node_that_is_in_it() -> None:
    simulation = Simulation(1)
    one = simulation.add(ALONE, start=False)
    itself = one.address.with_peer(one.identity.peer_id)
    one.config = replace(ALONE, bootstrap=(itself,))
    one.start()
    simulation.run(3)
    assert all(condition.met for condition in one.node.conditions())
    assert one.node.conditions()[1].reason == "OnlyOurselves"


def test_a_long_connection_clears_the_brief_ones_before_it_however_it_ended() -> None:
    config = replace(ALONE, redial_base=1.0, redial_limit=60.0)
    simulation, one, other = two(config)
    book, peer = one.node._services.switch.book, other.identity.peer_id

    def wait_after(lived: float, end: Callable[[], object]) -> float:
        connect(one, other)
        simulation.run(lived)
        assert one.links
        end()
        simulation.run_until(lambda: not one.links and not one.node.peers(), 5)
        entry = book.get(peer)
        assert entry is not None
        return entry.retry_at - simulation.clock.now

    def leave() -> None:
        other.ask(lambda op: events.DisconnectRequested(op, one.identity.peer_id))

    def vanish() -> None:
        for link in list(other.links.values()):
            link.close(Unreachable("the cable was pulled"))

    waits = [wait_after(2, leave) for _ in range(5)]
    assert [round(wait) for wait in waits] == [1, 2, 4, 8, 16]
    wait_after(3600, vanish)
    assert round(wait_after(2, leave)) == 1


def test_an_address_that_an_app_gives_does_not_wait_for_a_dial_of_others() -> None:
    simulation, one, other = two()
    peer, dead = other.identity.peer_id, Multiaddr.tcp("10.9.9.9", 1)
    first = one.ask(lambda op: events.ConnectRequested(op, peer, (dead,)))
    simulation.run(0.5)
    second = connect(one, other)
    simulation.run(0.5)
    for op in (first, second):
        assert isinstance(one.result(op), events.PeerView)
    simulation.run(60)
    view = one.node.peer(peer)
    assert view is not None
    assert (view.connected, view.connections) == (True, 1)
    assert one.node._services.dialling._dialling == {}


def test_of_two_dials_of_a_peer_the_last_one_that_fails_tells_why() -> None:
    simulation, one, other = two()
    peer, dead = other.identity.peer_id, tuple(Multiaddr.tcp("10.9.9.9", port) for port in range(1, 9))
    ops = []
    for address in dead:
        ops.append(one.ask(lambda op, address=address: events.ConnectRequested(op, peer, (address,))))  # type: ignore[misc]
        simulation.run(0.25)
    assert one.dials == 2
    with pytest.raises(LookupError):
        one.result(ops[0])
    simulation.run(60)
    assert all(isinstance(one.result(op), Unreachable) for op in ops)
    assert one.node._services.dialling._dialling == {}
