"""The driver between a node and real loopback sockets."""

import asyncio
from typing import Any

import pytest

from sidecar.core import events
from sidecar.core.errors import AddressInUse, Closed, ConfigError, NotSupported
from sidecar.core.multiaddr import Multiaddr
from sidecar.core.types import Direction
from sidecar.net.interfaces import interface_addresses

from .harness import ECHO, LOOPBACK, SINK, Host, both_loops, closed, hosts, one_loop


@both_loops
async def test_bytes_go_there_and_back() -> None:
    async with hosts(2) as (one, two):
        opened = await one.connect(two)
        assert (opened.peer, opened.direction) == (two.peer, Direction.OUTBOUND)
        assert opened.remote == two.addresses[0]
        stream = await one.open_stream(opened.connection)
        data = bytes(range(256)) * 8192  # 2 MiB: many windows, many writes
        one.do(*one.node.write(stream, data))
        assert await one.received(stream, len(data)) == data
        (view,) = one.runtime.connections()
        assert (view.peer, view.streams, view.local) == (
            two.peer,
            1,
            (await two.node.saw(events.ConnectionOpened)).remote,
        )
        assert view.bytes_out > len(data) < view.bytes_in
        one.do(events.CloseWrite(stream))
        await one.node.saw(events.StreamEnded)
        one.do(events.CloseConnection(opened.connection, None))
        assert (await one.node.saw(events.ConnectionClosed)).error is None
        assert (await two.node.saw(events.ConnectionClosed)).error is None
    statistics = one.runtime.statistics()
    assert (statistics.opened, statistics.closed, statistics.closed_by) == (1, 1, {"order": 1})
    assert statistics.handshakes == {"completed": 1}
    assert statistics.bytes_in > len(data)
    assert statistics.internal_errors == 0


@both_loops
async def test_the_remotes_muxer_is_pinged_and_its_answer_told() -> None:
    async with hosts(2) as (one, two):
        opened = await one.connect(two)
        one.do(events.MeasureLatency(opened.connection, 0xDEADBEEF), events.MeasureLatency(opened.connection + 1, 1))
        measured = await one.node.saw(events.LatencyMeasured)
        assert measured.connection == opened.connection
        assert 0 < measured.round_trip < 15
        assert not two.node.all(events.LatencyMeasured)


@both_loops
async def test_ipv6() -> None:
    async with hosts(1) as (one,):
        (address,) = await one.runtime.listen([Multiaddr.from_text("/ip6/::1/tcp/0")])
        two = Host(9, one.runtime.config)
        two.dial([address], one.peer)
        assert (await two.node.saw(events.ConnectionOpened)).remote == address
        await two.runtime.close(1)


@one_loop
async def test_what_waits_leaves_before_the_goodbye() -> None:
    async with hosts(2) as (one, two):
        opened = await one.connect(two)
        stream = await one.open_stream(opened.connection, SINK)
        data = bytes(200_000)
        one.do(*one.node.write(stream, data))
        await one.runtime.close(5)
        (there,) = two.node.protocols
        assert await two.received(there, len(data)) == data
        assert (await two.node.saw(events.ConnectionClosed)).error is None


@one_loop
async def test_a_stream_that_the_remote_does_not_serve() -> None:
    async with hosts(2) as (one, two):
        opened = await one.connect(two)
        one.do(events.OpenStream(opened.connection, 77, ("/unknown/1", "/unknown/2")))
        failed = await one.node.saw(events.StreamFailed)
        assert failed.token == 77
        assert isinstance(failed.error, NotSupported)
        one.do(events.OpenStream(opened.connection, 78, ("/unknown/1", ECHO)))
        assert (await one.node.saw(events.StreamOpened)).protocol == ECHO


@one_loop
async def test_resets_reach_the_other_side() -> None:
    async with hosts(2) as (one, two):
        opened = await one.connect(two)
        stream = await one.open_stream(opened.connection)
        there = (await two.node.saw(events.StreamOpened)).stream
        one.do(events.ResetStream(stream))
        assert (await two.node.saw(events.StreamGone)).stream == there
        two.node.on_input = lambda input: (
            [events.ResetStream(input.stream)] if isinstance(input, events.StreamOpened) else []
        )
        stream = await one.open_stream(opened.connection)
        await one.node.until(lambda input: input == events.StreamGone(stream))


class Recorder:
    """A transport whose writes are counted."""

    def __init__(self, transport: Any) -> None:
        self._transport = transport
        self.writes = 0

    def writelines(self, buffers: Any) -> None:
        self.writes += 1
        self._transport.writelines(buffers)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


@one_loop
async def test_all_that_a_turn_has_for_a_connection_is_one_write() -> None:
    async with hosts(2) as (one, two):
        opened = await one.connect(two)
        streams = [await one.open_stream(opened.connection, SINK) for _ in range(3)]
        connection: Any = one.runtime._connections[opened.connection]
        recorder = connection._transport = Recorder(connection._transport)
        for number in range(30):
            one.do(*one.node.write(streams[number % 3], b"a message"))
        for stream in two.node.protocols:
            assert await two.received(stream, 90) == b"a message" * 10
        assert recorder.writes == 1


@one_loop
async def test_inputs_that_arise_meanwhile_wait_for_their_turn() -> None:
    async with hosts(1) as (one,):
        depth = 0

        def news(effect: Any) -> None:
            nonlocal depth
            if effect == "again":
                depth += 1
                assert one.node.inputs[-1] == ["again", "last"]  # the first input is over, its effects are not
                one.runtime.feed("inner")
                assert one.node.inputs[-1] != "inner"
            else:
                assert effect == "last"
                assert one.node.inputs[-1] == ["again", "last"]

        one.runtime._on_news = news
        one.do("again", "last")
        assert depth == 1
        assert one.node.inputs[-1] == "inner"


@one_loop
async def test_a_defect_ends_one_connection_and_nothing_else() -> None:
    async with hosts(3) as (one, two, three):
        broken = (await one.connect(two)).connection
        sound = (await one.connect(three)).connection
        stream, other = await one.open_stream(broken), await one.open_stream(sound)

        def defect(input: Any) -> list[Any]:
            if isinstance(input, events.StreamsReceived) and input.connection == broken:
                raise ZeroDivisionError
            return []

        one.node.on_input = defect
        one.do(*one.node.write(stream, b"a"), *one.node.write(other, b"b"))
        assert isinstance((await one.node.until(closed(broken))).error, Closed)
        assert await one.received(other, 1) == b"b"
        assert one.runtime.statistics().internal_errors == 1


@one_loop
async def test_callers_misuse_is_raised_to_the_caller() -> None:
    async with hosts(1) as (one,):

        def misuse(input: Any) -> list[Any]:
            raise ConfigError("misused")

        one.node.on_input = misuse
        with pytest.raises(ConfigError):
            one.runtime.feed("anything")
        one.node.on_input = lambda input: []
        one.do("news")
        assert one.news == ["news"]


@both_loops
async def test_deadlines_come_when_they_are_due() -> None:
    async with hosts(1) as (one,):
        done = asyncio.get_running_loop().create_future()
        one.node.on_input = lambda input: done.set_result(None) or [] if input == "deadline" else []
        due = one.node.deadline = one.runtime.loop.time() + 0.02
        one.do()
        await done
        assert one.node.deadlines[0] >= due


@one_loop
async def test_listening_says_what_is_wrong() -> None:
    async with hosts(1) as (one,):
        count = len(one.runtime._servers)
        with pytest.raises(AddressInUse, match="in use"):
            await one.runtime.listen([LOOPBACK, one.addresses[0]])
        for text in ("/dns4/localhost/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1", "/ip4/203.0.113.1/tcp/0"):
            with pytest.raises(ConfigError, match="cannot listen on"):
                await one.runtime.listen([Multiaddr.from_text(text)])
        assert len(one.runtime._servers) == count


@one_loop
async def test_a_wildcard_is_every_address_of_the_machine() -> None:
    async with hosts(1) as (one,):
        reached = await one.runtime.listen([Multiaddr.from_text("/ip4/0.0.0.0/tcp/0")])
        assert [address.value("ip4") for address in reached] == interface_addresses("ip4")
        assert reached[0].value("ip4") == "127.0.0.1"
        assert len({address.value("tcp") for address in reached}) == 1
