"""Gossip that is too large for a neighbour: it costs nothing beside it, and the sender learns and says so."""

from dataclasses import replace

import pytest

from sidecar.core import events, gossip
from sidecar.core.node import NodeConfig
from sidecar.core.varint import encode
from sidecar.sim import LinkModel, SimPeer, Simulation

SMALL = NodeConfig(target_peers=0)
LARGE = replace(SMALL, gossip=replace(SMALL.gossip, max_rpc=4 << 20))
TWO_MB = bytes(2 << 20)


def pair(reader: NodeConfig = SMALL, *, tells: bool = True) -> tuple[Simulation, SimPeer, SimPeer]:
    """A node that may publish 4 MiB and a neighbour that reads 1 MiB; `tells`: whether that is said in advance."""
    simulation = Simulation(3, LinkModel(latency=(0.005, 0.01)))
    sender, neighbour = simulation.add(LARGE), simulation.add(reader)
    if not tells:
        hide = sender.node._services.identify.identified
        sender.node._services.identify.identified = lambda peer, info, now, **kinds: hide(  # type: ignore[method-assign]
            peer, replace(info, gossip_max_rpc=None), now, **kinds
        )
    sender.ask(lambda op: events.ConnectRequested(op, neighbour.identity.peer_id, (neighbour.address,)))
    for peer in (sender, neighbour):
        peer.feed(gossip.TopicJoined("news"))
    simulation.run(3)
    return simulation, sender, neighbour


def publish(simulation: Simulation, sender: SimPeer, *messages: bytes, minimum: int = 0) -> list[gossip.Receipt]:
    op = sender.ask(lambda op: gossip.Published(op, "news", messages, minimum_peers=minimum))
    simulation.run(1)
    (done,) = [item for item in sender.news if isinstance(item, gossip.PublishCompleted) and item.op == op]
    return done.receipts


def received(peer: SimPeer) -> list[bytes]:
    return [m.data for item in peer.news if isinstance(item, gossip.MessagesDelivered) for m in item.messages]


def notes(peer: SimPeer, text: str) -> list[events.Note]:
    return [note for note in peer.news if isinstance(note, events.Note) and text in note.text]


def test_what_no_neighbour_reads_is_not_sent_and_the_receipt_says_so() -> None:
    simulation, sender, neighbour = pair()
    receipts = publish(simulation, sender, b"before", TWO_MB, b"behind")
    assert [(receipt.outcome, receipt.count, receipt.peers) for receipt in receipts] == [
        (gossip.PublishOutcome.SENT, 1, 1),
        (gossip.PublishOutcome.TOO_LARGE, 1, 0),
        (gossip.PublishOutcome.SENT, 1, 1),
    ]
    assert received(neighbour) == [b"before", b"behind"]
    assert sender.node.statistics().flat()["gossip_dropped_peer_limit"] == 1
    assert neighbour.node.statistics().flat()["gossip_rejected_too_large"] == 0


def test_who_reads_it_gets_it_and_the_receipt_counts_only_those() -> None:
    simulation, sender, neighbour = pair()
    able = simulation.add(LARGE)
    able.feed(gossip.TopicJoined("news"))
    sender.ask(lambda op: events.ConnectRequested(op, able.identity.peer_id, (able.address,)))
    simulation.run(3)
    (receipt,) = publish(simulation, sender, TWO_MB)
    assert (receipt.outcome, receipt.peers) == (gossip.PublishOutcome.SENT, 1)
    (receipt,) = publish(simulation, sender, TWO_MB, minimum=2)
    assert receipt.outcome is gossip.PublishOutcome.TOO_LARGE
    (receipt,) = publish(simulation, sender, b"small", minimum=2)
    assert (receipt.outcome, receipt.peers) == (gossip.PublishOutcome.SENT, 2)
    assert (received(able), received(neighbour)) == ([TWO_MB, b"small"], [b"small"])


def test_a_reader_passes_over_what_is_too_large_and_loses_nothing_beside_it() -> None:
    simulation, sender, neighbour = pair(tells=False)
    for number in range(3):
        receipts = publish(simulation, sender, b"%d" % number, TWO_MB, b"%d behind" % number)
        assert {receipt.outcome for receipt in receipts} == {gossip.PublishOutcome.SENT}
    assert received(neighbour) == [b"%d%s" % (number, end) for number in range(3) for end in (b"", b" behind")]
    statistics = neighbour.node.statistics().flat()
    assert statistics["gossip_rejected_too_large"] == 3
    assert statistics["work_points_gossip"] >= 3 * 1024
    assert len(notes(neighbour, "passed over")) == 3
    assert statistics["stream_violations"] == 0


def test_a_length_that_cannot_be_meant_still_ends_the_stream() -> None:
    simulation, sender, neighbour = pair(tells=False)
    member = sender.node._services.gossip._members[neighbour.identity.peer_id]
    assert member.out is not None
    member.out.out.push(encode(1 << 40) + b"x")
    sender.feed(gossip.TopicJoined("other"))
    simulation.run(1)
    assert neighbour.node.statistics().flat()["stream_violations"] == 1


@pytest.mark.parametrize("size", [100_000, 2 << 20])
def test_a_sender_remembers_the_size_upon_which_a_peer_reset_the_stream(size: int) -> None:
    """As go-libp2p (1 MiB) and rust-libp2p (64 KiB) do it, and say nothing in advance."""
    simulation, sender, neighbour = pair(tells=False)
    gossiping = neighbour.node._services.gossip
    frames = gossiping.received

    def strict(stream: object, data: bytes, now: float) -> None:
        decoder = stream.state  # type: ignore[attr-defined]
        if decoder is not None:
            decoder.max_skipped, decoder.max_frame = 0, 65_536
        frames(stream, data, now)  # type: ignore[arg-type]

    gossiping.received = strict  # type: ignore[method-assign, assignment]
    (receipt,) = publish(simulation, sender, bytes(size))
    assert receipt.outcome is gossip.PublishOutcome.SENT  # it cannot know yet
    assert len(notes(sender, "reset the stream upon")) == 1
    simulation.run(5)  # the stream is opened anew
    for _ in range(3):
        (receipt,) = publish(simulation, sender, bytes(size))
        assert receipt.outcome is gossip.PublishOutcome.TOO_LARGE
        (receipt,) = publish(simulation, sender, b"small")
        assert (receipt.outcome, receipt.peers) == (gossip.PublishOutcome.SENT, 1)
    assert received(neighbour) == [b"small"] * 3
    assert neighbour.node.statistics().flat()["stream_violations"] == 1
    assert len(notes(sender, "reset the stream upon")) == 1


def test_a_reset_without_a_large_message_teaches_nothing() -> None:
    simulation, sender, neighbour = pair(tells=False)
    publish(simulation, sender, bytes(100_000))
    simulation.run(20)
    for peer in neighbour.node._services.switch.peers.values():
        neighbour.node._services.gossip._reset_theirs(peer)
    neighbour.feed(gossip.TopicJoined("other"))
    simulation.run(10)
    assert not notes(sender, "reset the stream upon")
    (receipt,) = publish(simulation, sender, bytes(100_000))
    assert (receipt.outcome, receipt.peers) == (gossip.PublishOutcome.SENT, 1)


def test_joined_messages_are_cut_to_what_a_peer_reads() -> None:
    simulation, sender, neighbour = pair(replace(SMALL, gossip=replace(SMALL.gossip, max_rpc=4096)))
    sent = [b"%4d" % number + bytes(1000) for number in range(50)]
    receipts = publish(simulation, sender, *sent)
    assert {receipt.outcome for receipt in receipts} == {gossip.PublishOutcome.SENT}
    assert received(neighbour) == sent
    assert neighbour.node.statistics().flat()["gossip_rejected_too_large"] == 0
