"""Thirty nodes on virtual time advertise names and share records, which expire when nobody renews them."""

from dataclasses import replace
from itertools import pairwise

import pytest

from sidecar.core import errors, events
from sidecar.core.kademlia import KademliaConfig, Namespace, Rule
from sidecar.core.node import NodeConfig
from sidecar.core.records import MAX_SEQ
from sidecar.core.types import PeerId
from sidecar.sim import SimPeer, Simulation

from .mesh import build

CONFIG = NodeConfig(
    target_peers=8,
    kademlia=KademliaConfig(k=8, record_ttl=100.0, provider_ttl=50.0, provide_interval=20.0),
)


def announcements(peer: SimPeer, op: int) -> list[events.AdvertisementAnnounced]:
    return [item for item in peer.news if isinstance(item, events.AdvertisementAnnounced) and item.op == op]


def found(peer: SimPeer, op: int) -> dict[PeerId, object]:
    return {
        one: addresses
        for item in peer.news
        if isinstance(item, events.AdvertisersFound) and item.op == op
        for one, addresses in item.peers
    }


@pytest.mark.parametrize("seed", [1])
def test_names_and_records_live_as_long_as_somebody_cares(seed: int) -> None:
    simulation = build(seed, 30, config=CONFIG)
    client = simulation.add(
        replace(
            CONFIG,
            dht_server=False,
            bootstrap=(simulation.peers[0].address.with_peer(simulation.peers[0].identity.peer_id),),
        )
    )
    simulation.run(20)
    peers = simulation.peers
    advertisers = [peers[3], peers[17], client]
    ops = [peer.ask(lambda op: events.AdvertiseRequested(op, "service")) for peer in advertisers]
    publisher = peers[5]
    key = f"/signed/{publisher.identity.peer_id}/status".encode()
    puts = [publisher.ask(lambda op, text=text: events.RecordPutRequested(op, key, text)) for text in (b"1", b"2")]
    simulation.run(10)
    for peer, op in zip(advertisers, ops, strict=True):
        assert [told[1:3] for told in announcements(peer, op)] == [(8, 8)], f"seed {seed}"
    # The second put overtakes the first at some peers, which then refuse the first.
    assert publisher.result(puts[1]) == events.RecordStored(8, 8)
    by_id = {peer.identity.peer_id: (peer.address,) for peer in advertisers}

    def look(asker: SimPeer) -> tuple[dict[PeerId, object], object]:
        find = asker.ask(lambda op: events.FindAdvertisedRequested(op, "service", 0))
        get = asker.ask(lambda op: events.RecordRequested(op, key, 4))
        simulation.run(10)
        assert isinstance(asker.result(find), int)
        return found(asker, find), asker.result(get)

    names, record = look(peers[20])
    assert names == by_id, f"seed {seed}"
    assert isinstance(record, events.RecordFound)
    assert (record.value, record.publisher) == (b"2", publisher.identity.peer_id)
    assert record.expires is not None

    # Announced again while it is wanted; one stops, and is forgotten after its time.
    advertisers[0].feed(events.OperationCancelled(ops[0]))
    simulation.run(55)
    assert len(announcements(advertisers[1], ops[1])) >= 3, f"seed {seed}"
    names, _ = look(peers[21])
    assert names == {peer.identity.peer_id: (peer.address,) for peer in advertisers[1:]}, f"seed {seed}"

    # Nobody put the record again; those who looked for it had it corrected at a few, which is over by now as well.
    simulation.run(105)
    _, record = look(peers[22])
    assert isinstance(record, errors.NotFound), f"seed {seed}"
    assert all(peer.node.statistics().flat()["dht_records"] == 0 for peer in peers), f"seed {seed}"
    assert client.node.statistics().flat()["dht_providers"] == 1  # its own: nobody stores with a client


def test_an_announcement_that_succeeded_clears_the_failures_before_it() -> None:
    simulation = Simulation(3)
    config = NodeConfig(target_peers=0, kademlia=KademliaConfig(k=1, provide_retry=5.0, provide_interval=1000.0))
    alone = simulation.add(config)
    op = alone.ask(lambda op: events.AdvertiseRequested(op, "service"))
    simulation.run(2000)
    times = [told.again for told in announcements(alone, op)]  # with nobody there an announcement takes no time
    waits = [round(after - before) for before, after in pairwise(times)]
    assert (waits[0], waits[-1]) == (10, 600)
    told = len(times)

    other = simulation.add(config)
    met = simulation.clock.now
    other.ask(lambda op: events.ConnectRequested(op, alone.identity.peer_id, (alone.address,)))
    simulation.run(2)
    (announced,) = announcements(alone, op)[told:]  # at once, without waiting for its time
    assert (announced.stored, announced.asked) == (1, 1)
    assert announced.again > met + 1000

    simulation.kill(other)
    simulation.run(1100)
    failed = announcements(alone, op)[told + 1 :]
    assert not any(one.stored for one in failed)
    waits = [round(after.again - before.again) for before, after in pairwise(failed)]
    assert waits[:4] == [10, 20, 40, 80]


DAY_NS = 86_400 * 10**9
FEW = NodeConfig(
    target_peers=8,
    kademlia=KademliaConfig(k=8, namespaces=(Namespace("signed", Rule.SIGNED), Namespace("app", Rule.GREATEST))),
)


@pytest.mark.parametrize("ahead", [DAY_NS, MAX_SEQ - 1_700_000_100 * 10**9 - 1])
def test_a_signed_record_replaces_one_that_was_put_under_a_clock_ahead(ahead: int) -> None:
    simulation = build(1, 6, config=FEW)
    simulation.run(20)
    publisher, reader = simulation.peers[5], simulation.peers[1]
    key = f"/signed/{publisher.identity.peer_id}/status".encode()

    def put(text: bytes) -> object:
        op = publisher.ask(lambda op: events.RecordPutRequested(op, key, text))
        simulation.run(10)
        return publisher.result(op)

    def got() -> object:
        op = reader.ask(lambda op: events.RecordRequested(op, key, 0))
        simulation.run(10)
        return reader.result(op)

    publisher.node._services.records._seq += ahead
    assert put(b"old") == events.RecordStored(5, 5)
    before = got()
    assert isinstance(before, events.RecordFound)
    simulation.kill(publisher)
    simulation.run(5)
    publisher.start()  # with the right clock, and without memory
    publisher.ask(lambda op: events.ConnectRequested(op, reader.identity.peer_id, (reader.address,)))
    simulation.run(20)
    assert put(b"new") == events.RecordStored(5, 5)
    after = got()
    assert isinstance(after, events.RecordFound)
    assert (after.value, after.seq) == (b"new", before.seq + 1)
    assert put(b"newest") == events.RecordStored(5, 5)
    newest = got()
    assert isinstance(newest, events.RecordFound)
    assert newest.value == b"newest"


def test_a_put_that_cannot_replace_what_is_there_says_so() -> None:
    simulation = build(1, 6, config=FEW)
    simulation.run(20)
    publisher, other = simulation.peers[5], simulation.peers[1]
    key = f"/signed/{publisher.identity.peer_id}/status".encode()

    def put(peer: SimPeer, key: bytes, text: bytes) -> object:
        op = peer.ask(lambda op: events.RecordPutRequested(op, key, text))
        simulation.run(10)
        return peer.result(op)

    publisher.node._services.records._seq = MAX_SEQ - 1
    assert put(publisher, key, b"last") == events.RecordStored(5, 5)
    refused = put(publisher, key, b"one more")
    assert isinstance(refused, errors.Outdated)
    assert str(MAX_SEQ) in str(refused)

    assert put(other, b"/app/x", b"z") == events.RecordStored(5, 5)
    publisher.node._services.kademlia.router._content.values._remove(
        b"/app/x"
    )  # it came too late to be asked to keep it
    assert isinstance(put(publisher, b"/app/x", b"a"), errors.Outdated)
