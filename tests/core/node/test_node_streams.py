"""Byte streams of apps between two nodes on virtual time."""

import pytest

from sidecar.core import events, streams
from sidecar.core.errors import (
    Closed,
    InvalidArgument,
    NoAddresses,
    NotSupported,
    ResourceExhausted,
    SelfDial,
    StreamReset,
)
from sidecar.core.node import NodeConfig
from sidecar.sim import LinkModel, SimPeer, Simulation

ECHO = "/echo/1"
BUFFER = 64 * 1024
CONFIG = NodeConfig(target_peers=0, stream_buffer=BUFFER)


def connected() -> tuple[Simulation, SimPeer, SimPeer]:
    """Two connected peers, of which the second accepts `/echo/1`."""
    simulation = Simulation(1, LinkModel(window=4 * BUFFER))
    one, other = simulation.add(CONFIG), simulation.add(CONFIG)
    other.feed(streams.ProtocolsAccepted((ECHO,)))
    one.ask(lambda op: events.ConnectRequested(op, other.identity.peer_id, (other.address,)))
    simulation.run(1)
    one.news.clear()
    other.news.clear()
    return simulation, one, other


def ask(one: SimPeer, other: SimPeer, *protocols: str) -> int:
    wanted = protocols or (ECHO,)
    return one.ask(lambda op: streams.StreamRequested(op, other.identity.peer_id, wanted))


def opened(simulation: Simulation, one: SimPeer, other: SimPeer) -> tuple[int, int]:
    """The numbers of a stream at its two ends."""
    op = ask(one, other)
    simulation.run(1)
    made, arrived = one.result(op), told(other)[-1]
    assert isinstance(made, streams.StreamMade)
    assert isinstance(arrived, streams.StreamArrived)
    assert made[1:] == (other.identity.peer_id, ECHO)
    assert arrived[1:] == (one.identity.peer_id, ECHO)
    one.news.clear()
    other.news.clear()
    return made.stream, arrived.stream


def told(peer: SimPeer) -> list[object]:
    """What its apps were told of streams."""
    kinds = (
        streams.StreamArrived,
        streams.BytesArrived,
        streams.ReadEnded,
        streams.WritableChanged,
        streams.StreamLost,
        streams.StreamDone,
    )
    return [item for item in peer.news if isinstance(item, kinds)]


def received(peer: SimPeer) -> bytes:
    return b"".join(item.data for item in peer.news if isinstance(item, streams.BytesArrived))


def test_bytes_and_both_ends() -> None:
    simulation, one, other = connected()
    here, there = opened(simulation, one, other)
    one.feed(streams.BytesWritten(here, b"question"))
    one.feed(streams.WriteEnded(here))
    one.feed(streams.BytesWritten(here, b"too late"))
    simulation.run(1)
    assert told(other) == [streams.BytesArrived(there, b"question"), streams.ReadEnded(there)]
    assert told(one) == []
    other.feed(streams.BytesWritten(there, b"answer"))
    other.feed(streams.WriteEnded(there))
    simulation.run(1)
    assert told(other)[2:] == [streams.StreamDone(there)]
    assert told(one) == [
        streams.BytesArrived(here, b"answer"),
        streams.ReadEnded(here),
        streams.StreamDone(here),
    ]
    assert one.node.statistics().flat()["byte_streams"] == other.node.statistics().flat()["byte_streams"] == 0


def test_a_reset_is_seen_by_the_other_side_only() -> None:
    simulation, one, other = connected()
    here, there = opened(simulation, one, other)
    one.feed(streams.StreamAbandoned(here))
    simulation.run(1)
    assert told(one) == []
    (lost,) = told(other)
    assert isinstance(lost, streams.StreamLost)
    assert (lost.stream, type(lost.error)) == (there, StreamReset)
    for stale in (
        streams.BytesWritten(there, b"x"),
        streams.WriteEnded(there),
        streams.BytesConsumed(there, 1),
        streams.StreamAbandoned(there),
    ):
        other.feed(stale)
    simulation.run(1)
    assert told(other) == [lost]


def test_a_lost_connection_ends_its_streams() -> None:
    simulation, one, other = connected()
    here, there = opened(simulation, one, other)
    one.ask(lambda op: events.DisconnectRequested(op, other.identity.peer_id))
    simulation.run(1)
    for peer, number in ((one, here), (other, there)):
        (lost,) = told(peer)
        assert isinstance(lost, streams.StreamLost)
        assert (lost.stream, type(lost.error)) == (number, Closed)


def test_a_writer_is_told_to_wait_and_a_reader_that_does_not_read_stops_it() -> None:
    simulation, one, other = connected()
    here, there = opened(simulation, one, other)
    window = simulation.model.window
    one.feed(streams.BytesWritten(here, bytes(window + 2 * BUFFER)))
    assert told(one) == [streams.WritableChanged(here, False)]
    simulation.run(5)
    assert len(received(other)) == window
    assert told(one) == [streams.WritableChanged(here, False)]
    other.feed(streams.BytesConsumed(there, 2 * BUFFER))
    simulation.run(5)
    assert len(received(other)) == window + 2 * BUFFER
    assert told(one)[1:] == [streams.WritableChanged(here, True)]


def test_a_reader_that_does_not_read_hinders_no_other_stream() -> None:
    simulation, one, other = connected()
    slow, _ = opened(simulation, one, other)
    fast, there = opened(simulation, one, other)
    one.feed(streams.BytesWritten(slow, bytes(simulation.model.window * 4)))
    simulation.run(5)
    other.news.clear()
    one.feed(streams.BytesWritten(fast, b"hello"))
    simulation.run(1)
    assert told(other) == [streams.BytesArrived(there, b"hello")]


def test_why_a_stream_is_not_opened() -> None:
    simulation, one, other = connected()
    unknown = ask(one, other, "/nobody/1")
    itself = ask(one, one)
    stranger = ask(one, Simulation(2).add(CONFIG))
    simulation.run(90)
    assert isinstance(one.result(unknown), NotSupported)
    assert isinstance(one.result(itself), SelfDial)
    assert isinstance(one.result(stranger), NoAddresses)


def test_a_cancelled_opening_leaves_nothing() -> None:
    simulation, one, other = connected()
    op = ask(one, other)
    one.feed(events.OperationCancelled(op))
    simulation.run(1)
    assert isinstance(one.result(op), Closed)
    assert one.node.statistics().flat()["byte_streams"] == other.node.statistics().flat()["byte_streams"] == 0
    assert any(isinstance(item, streams.StreamLost) for item in told(other))


def test_many_openings_wait_for_each_other_and_all_fail_with_the_connection() -> None:
    simulation, one, other = connected()
    many = [ask(one, other) for _ in range(600)]
    simulation.run(2)
    assert {type(one.result(op)) for op in many} == {streams.StreamMade}
    late = [ask(one, other) for _ in range(600)]
    one.ask(lambda op: events.DisconnectRequested(op, other.identity.peer_id))
    simulation.run(1)
    assert {type(one.result(op)) for op in late} == {Closed}


def test_accepted_protocols_are_shown_and_those_of_the_node_are_not_to_be_had() -> None:
    simulation, one, other = connected()
    seen = one.node.peer(other.identity.peer_id)
    assert seen is not None
    assert ECHO in seen.protocols
    for taken in ("/ipfs/ping/1.0.0", "/meshsub/1.1.0", "/sidecar/else/kad/1.0.0", "/noise"):
        with pytest.raises(InvalidArgument):
            other.feed(streams.ProtocolsAccepted((taken,)))
    with pytest.raises(ResourceExhausted):
        other.feed(streams.ProtocolsAccepted(tuple(f"/{number}" for number in range(streams.MAX_PROTOCOLS + 1))))
    assert other.node.accepts(ECHO)
    other.feed(streams.ProtocolsAccepted(("/new/1",)))
    simulation.run(1)
    seen = one.node.peer(other.identity.peer_id)
    assert seen is not None
    assert "/new/1" in seen.protocols
    assert ECHO not in seen.protocols
    op = ask(one, other)
    simulation.run(1)
    assert isinstance(one.result(op), NotSupported)


def test_a_surplus_connection_waits_for_the_streams_of_apps() -> None:
    simulation, one, other = connected()
    here, there = opened(simulation, one, other)
    simulation.connect(one, other, 999)
    simulation.run(5 * CONFIG.settle_timeout)
    assert len(one.links) == 2
    one.feed(streams.BytesWritten(here, b"still there"))
    one.feed(streams.WriteEnded(here))
    other.feed(streams.WriteEnded(there))
    simulation.run(1)
    assert received(other) == b"still there"
    assert told(one)[-1] == streams.StreamDone(here)
    assert len(one.links) == len(other.links) == 1
