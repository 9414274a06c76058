"""Identify among few nodes on virtual time: pushes of changes, signed records, and peers learned by exchange."""

from dataclasses import replace

import pytest

from sidecar.core import events, gossip, streams
from sidecar.core.events import PeerChange
from sidecar.core.identify import IDENTIFY_PUSH, IdentifyInfo
from sidecar.core.identity import Identity
from sidecar.core.multiaddr import Multiaddr
from sidecar.core.node import NodeConfig
from sidecar.core.node.switch import SimpleHandler, Stream
from sidecar.core.override import override
from sidecar.core.records import make_peer_record, open_peer_record
from sidecar.core.types import Direction
from sidecar.sim import LinkModel, SimPeer, Simulation

ALONE = NodeConfig(target_peers=0, dht_server=False)
SEEKS = replace(ALONE, target_peers=8)
ELSEWHERE = Multiaddr.from_text("/ip4/10.9.9.9/tcp/9")


def connect(peer: SimPeer, to: SimPeer) -> None:
    peer.ask(lambda op: events.ConnectRequested(op, to.identity.peer_id, (to.address,)))
    peer.simulation.run(1)


def pair(model: LinkModel | None = None) -> tuple[Simulation, SimPeer, SimPeer]:
    simulation = Simulation(1, model)
    one, other = simulation.add(ALONE), simulation.add(ALONE)
    connect(one, other)
    return simulation, one, other


class Deaf(SimpleHandler):
    """Takes streams, and never ends them."""

    name = "deaf"

    @override
    def received(self, stream: Stream, data: bytes, now: float) -> None:
        pass


def pushes_open(peer: SimPeer) -> int:
    connections = peer.node._services.switch.connections.values()
    return sum(stream.protocol == IDENTIFY_PUSH for each in connections for stream in each.streams.values())


def updates(peer: SimPeer) -> list[tuple[str, ...]]:
    """The app protocols of the other peer after each update."""
    return [
        tuple(protocol for protocol in item.view.protocols if protocol.startswith("/app/"))
        for item in peer.news
        if isinstance(item, events.PeerChanged) and item.change is PeerChange.UPDATED
    ]


def say(hearer: SimPeer, speaker: SimPeer, info: IdentifyInfo) -> None:
    """What `speaker` might say by identify/push, straight to the node of `hearer`."""
    node = hearer.node
    node._services.identify.identified(
        node._services.switch.peers[speaker.identity.peer_id], info, hearer.simulation.clock.now
    )


def record_of(hearer: SimPeer, peer: SimPeer) -> bytes:
    record = hearer.node._services.identify.signed_record(peer.identity.peer_id)
    assert record is not None
    return record


def test_protocols_that_come_and_go_are_pushed() -> None:
    simulation, one, other = pair()
    other.feed(streams.ProtocolsAccepted(("/app/1",)))
    simulation.run(1)
    other.feed(streams.ProtocolsAccepted(()))
    simulation.run(1)
    assert updates(one) == [("/app/1",), ()]


def test_a_push_that_the_peer_does_not_end_is_given_up() -> None:
    simulation, one, other = pair()
    one.node._services.switch.register(IDENTIFY_PUSH, Deaf())
    other.feed(streams.ProtocolsAccepted(("/app/1",)))
    simulation.run(1)
    assert pushes_open(one) == pushes_open(other) == 1
    simulation.run(other.node.config.stream_timeout)
    assert pushes_open(one) == pushes_open(other) == 0


@pytest.mark.parametrize(("latency", "pushes"), [(0.005, 2), (0.1, 1)])
def test_a_burst_of_changes_is_told_at_its_begin_and_its_end_at_most(latency: float, pushes: int) -> None:
    simulation, one, other = pair(LinkModel(latency=(latency, latency)))
    opened = one.node.statistics().flat()["streams_opened"]
    for number in range(100):
        other.feed(streams.ProtocolsAccepted((f"/app/{number}",)))
        simulation.run(0.001)
    simulation.run(1)
    assert updates(one)[-1] == ("/app/99",)
    assert len(updates(one)) == one.node.statistics().flat()["streams_opened"] - opened == pushes


def test_what_changes_before_a_peer_is_identified_reaches_it() -> None:
    simulation = Simulation(1)
    one, other = simulation.add(ALONE), simulation.add(ALONE)
    one.ask(lambda op: events.ConnectRequested(op, other.identity.peer_id, (other.address,)))
    simulation.run_until(lambda: bool(other.node._services.identify._told), 5)  # it asked and was answered
    other.feed(streams.ProtocolsAccepted(("/app/1",)))
    simulation.run(1)
    view = one.node.peer(other.identity.peer_id)
    assert view is not None
    assert "/app/1" in view.protocols


def test_each_change_of_addresses_makes_a_record_of_a_higher_number() -> None:
    simulation, one, other = pair()
    first = open_peer_record(record_of(one, other), other.identity.peer_id)
    assert first.addresses == (other.address,)
    assert first.seq > 1_700_000_000_000_000_000  # wall-clock nanoseconds: higher than before a restart
    other.feed(streams.ProtocolsAccepted(("/app/1",)))
    simulation.run(1)
    assert open_peer_record(record_of(one, other)).seq == first.seq
    other.feed(events.AddressesChanged((ELSEWHERE,), ()))
    simulation.run(1)
    second = open_peer_record(record_of(one, other))
    assert second.addresses == (ELSEWHERE,)
    assert second.seq > first.seq


@pytest.mark.parametrize("kind", ["older", "of another peer", "garbage"])
def test_a_record_that_does_not_hold_changes_nothing(kind: str) -> None:
    _, one, other = pair()
    before = record_of(one, other)
    record = {
        "older": make_peer_record(other.identity, 1, (ELSEWHERE,)),
        "of another peer": make_peer_record(Identity(bytes(32)), 2**62, (ELSEWHERE,)),
        "garbage": b"garbage",
    }[kind]
    say(one, other, IdentifyInfo(listen_addresses=(ELSEWHERE,), signed_record=record))
    view = one.node.peer(other.identity.peer_id)
    assert view is not None
    assert view.addresses == (other.address,)
    assert record_of(one, other) == before


def test_a_newer_record_counts_for_more_than_the_addresses_beside_it() -> None:
    _, one, other = pair()
    signed = Multiaddr.from_text("/ip4/10.8.8.8/tcp/8")
    record = make_peer_record(other.identity, 2**62, (signed,))
    say(one, other, IdentifyInfo(listen_addresses=(ELSEWHERE,), signed_record=record))
    view = one.node.peer(other.identity.peer_id)
    assert view is not None
    assert view.addresses == (signed,)
    assert record_of(one, other) == record


def test_a_large_record_is_not_passed_on() -> None:
    _, one, other = pair()
    many = [Multiaddr.from_text(f"/dns4/{'x' * 50}{number}.example/tcp/1") for number in range(60)]
    say(one, other, IdentifyInfo(signed_record=make_peer_record(other.identity, 2**62, many)))
    assert one.node._services.identify.signed_record(other.identity.peer_id) is None


def offered(record_for: str) -> tuple[SimPeer, SimPeer]:
    """A peer that is offered another one by its hub, a while ago, and that other one."""
    simulation = Simulation(1)
    hub, one, other = simulation.add(ALONE), simulation.add(SEEKS), simulation.add(ALONE)
    connect(one, hub)
    connect(other, hub)
    if record_for != "nobody":
        owner = other if record_for == "it" else hub
        record = make_peer_record(owner.identity, 2**62, (other.address,))
    else:
        record = None
    news = gossip.PeersOffered(hub.identity.peer_id, "news", [(other.identity.peer_id, record)])
    one.node._services.gossip._on_offered(news, simulation.clock.now)
    one.feed(events.OperationCancelled(0))  # carries out what that brought
    simulation.run(5)
    return one, other


@pytest.mark.parametrize("record_for", ["it", "another", "nobody"])
def test_only_signed_addresses_of_an_offered_peer_are_dialled(record_for: str) -> None:
    one, other = offered(record_for)
    view = one.node.peer(other.identity.peer_id)
    assert (view is not None and view.connected) == (record_for == "it")


def test_who_is_pruned_connects_to_a_peer_that_it_learned_with_its_record() -> None:
    simulation = Simulation(1)
    hub, one, other = simulation.add(ALONE), simulation.add(SEEKS), simulation.add(ALONE)
    for peer in (one, other):
        connect(peer, hub)
    for peer in (hub, one, other):
        peer.feed(gossip.TopicJoined("news"))
    simulation.run(5)
    assert one.node.peer(other.identity.peer_id) is None
    hub.feed(gossip.TopicLeft("news"))
    simulation.run(5)
    view = one.node.peer(other.identity.peer_id)
    assert view is not None
    assert view.connected
    assert view.direction is Direction.OUTBOUND
    assert one.node.topics()[0].mesh == (other.identity.peer_id,)


def test_no_more_offered_peers_are_dialled_than_the_node_seeks() -> None:
    simulation = Simulation(1)
    hub = simulation.add(ALONE)
    one = simulation.add(replace(ALONE, target_peers=3))
    others = [simulation.add(ALONE) for _ in range(10)]
    connect(one, hub)
    for peer in others:
        connect(peer, hub)
    for peer in (hub, one, *others):
        peer.feed(gossip.TopicJoined("news"))
    simulation.run(5)
    hub.feed(gossip.TopicLeft("news"))
    simulation.run(10)
    assert sum(view.connected for view in one.node.peers()) == 3


def test_a_peer_that_comes_from_elsewhere_while_it_is_still_connected_is_noticed_and_known_at_both_places() -> None:
    simulation = Simulation(1)
    one, other = simulation.add(ALONE), simulation.add(ALONE)
    connect(other, one)
    for link in list(other.links.values()):  # the far end of these is not told: as if there were a second node
        other.links.clear()
        link.alive = False
    other.start()
    other.feed(events.AddressesChanged((ELSEWHERE,), ()))
    connect(other, one)
    simulation.run(1)
    assert one.node.statistics().flat()["identity_conflicts"] == 1
    noted = [item for item in one.news if isinstance(item, events.Note) and "two nodes with one identity" in item.text]
    assert [item.arguments for item in noted] == [(ELSEWHERE, other.address)]
    view = one.node.peer(other.identity.peer_id)
    assert view is not None
    assert set(view.addresses) == {ELSEWHERE, other.address}


def twins_of(simulation: Simulation, hub: SimPeer) -> tuple[SimPeer, SimPeer]:
    """Two nodes with one identity that know the hub alone, the second a while younger."""
    joining = NodeConfig(target_peers=4, bootstrap=(hub.address.with_peer(hub.identity.peer_id),))
    one, other = simulation.add(joining), simulation.add(joining, start=False)
    other.identity = one.identity
    simulation.run(10)
    other.start()
    return one, other


@pytest.mark.parametrize("seed", range(1, 5))
def test_both_places_of_two_nodes_with_one_identity_stay_known_while_they_push_each_other_out(seed: int) -> None:
    simulation = Simulation(seed)
    hub = simulation.add(replace(ALONE, dht_server=True))
    one, other = twins_of(simulation, hub)
    simulation.run(5)
    for _ in range(30):
        simulation.run(5)
        view = hub.node.peer(one.identity.peer_id)
        assert view is not None
        assert {one.address, other.address} <= set(view.addresses)
    assert (
        hub.node.statistics().flat()["identity_conflicts"] >= 2
    )  # also when the one with the older record comes again


@pytest.mark.parametrize("seed", range(1, 4))
def test_a_node_that_is_pushed_out_again_and_again_says_so_and_does_not_flap(seed: int) -> None:
    simulation = Simulation(seed)
    hub = simulation.add(replace(ALONE, dht_server=True))
    one, other = twins_of(simulation, hub)
    simulation.run(300)
    seen = []
    for _ in range(100):
        simulation.run(1)
        seen.append({peer.node.conditions()[1].reason for peer in (one, other)})
    assert all("Unstable" in reasons for reasons in seen)
    condition = next(
        peer.node.conditions()[1] for peer in (one, other) if peer.node.conditions()[1].reason == "Unstable"
    )
    assert not condition.met
    assert "lost 3 times within" in condition.message
    assert "another node with this node's key" in condition.remedy
    simulation.kill(other)
    simulation.run(240)  # a redial, and the time that must be quiet
    assert one.node.conditions()[1].reason == "HasPeers"


def test_who_joins_through_nobody_is_ready_whoever_comes_and_goes() -> None:
    simulation = Simulation(1)
    one, other = simulation.add(ALONE), simulation.add(ALONE)
    for _ in range(4):
        connect(other, one)
        simulation.kill(other)
        simulation.run(2)
        other.start()
    assert one.node.conditions()[1].met


def test_a_peer_with_as_many_names_and_protocols_as_can_be_told_is_known_with_all_of_them() -> None:
    simulation, one, other = pair()
    names = tuple(Multiaddr.from_text(f"/dns4/{'n' * 40}{number:02}/tcp/4747") for number in range(64))
    other.feed(events.AddressesChanged((other.address,), names))
    wanted = tuple(f"/app/{number:03}/{'x' * 27}" for number in range(streams.MAX_PROTOCOLS))
    other.feed(streams.ProtocolsAccepted(wanted))
    simulation.run(1)
    seen = one.node.peer(other.identity.peer_id)
    assert seen is not None
    assert set(wanted) < set(seen.protocols)
    assert len(seen.protocols) <= 128  # what go-libp2p's peer store takes of one peer
    kept = one.node._services.identify._records[other.identity.peer_id]
    assert kept.addresses == names


def test_addresses_that_no_record_holds_are_left_out_and_this_is_said() -> None:
    simulation, one, other = pair()
    names = tuple(Multiaddr.from_text(f"/dns4/{'n' * 120}{number:02}/tcp/4747") for number in range(64))
    other.feed(events.AddressesChanged((other.address,), names))
    simulation.run(1)
    kept = one.node._services.identify._records[other.identity.peer_id]
    assert kept.addresses == names[: len(kept.addresses)]
    assert len(kept.addresses) > 20
    said = [item.text % item.arguments for item in other.news if isinstance(item, events.Note) and item.peer is None]
    assert any(f"told the first {len(kept.addresses)} of 64 addresses" in text for text in said)


def test_a_peer_that_comes_back_with_its_clock_set_back_is_believed() -> None:
    _, one, other = pair()
    node, identity = one.node, other.identity
    peer = node._services.switch.peers[identity.peer_id]

    def listening() -> list[Multiaddr]:
        return list(peer.info.listen_addresses) if peer.info is not None else []

    say(one, other, IdentifyInfo(signed_record=make_peer_record(identity, 2**63, (ELSEWHERE,))))
    assert node._services.switch.book.addresses(identity.peer_id)[0] == ELSEWHERE
    back = IdentifyInfo(signed_record=make_peer_record(identity, 7, (other.address,)))
    say(one, other, back)  # on the same connection it is one that was overtaken
    assert listening() == [ELSEWHERE]
    node._services.identify.identified(peer, back, one.simulation.clock.now, again=True)
    assert listening() == [other.address]
    say(one, other, IdentifyInfo(signed_record=make_peer_record(identity, 8, (other.address, ELSEWHERE))))
    assert listening() == [other.address, ELSEWHERE]
