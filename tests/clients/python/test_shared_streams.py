"""Byte streams that share a call: which do, and what becomes of them when it ends."""

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import sidecar_client
from sidecar_client._carrying import _MAX_WIDE as MAX_WIDE
from sidecar_client._carrying import _WIDE as WIDE
from sidecar_client._carrying import _WINDOW as WINDOW
from sidecar_client.v1 import stream_pb2

from sidecar.core import errors, events, streams
from tests.api.fakes import OTHER, OTHER_TEXT, FakeNode, asynchronous, served, server
from tests.clients.python.test_connecting import serving
from tests.clients.python.test_kept import calls, until

pytestmark = pytest.mark.usefixtures("each_client_engine")

ECHO = "/echo/1"


class Echoing(FakeNode):
    """A node whose streams say what was written to them."""

    def feed(self, fed: Any) -> None:
        super().feed(fed)
        match fed:
            case streams.StreamRequested(op, peer, protocols):
                self.on_news(events.OperationCompleted(op, streams.StreamMade(op, peer, protocols[0])))
            case streams.BytesWritten(number, data):
                self.on_news(streams.BytesArrived(number, data))
            case streams.WriteEnded(number):
                self.on_news(streams.ReadEnded(number))
                self.on_news(streams.StreamDone(number))


async def echo(client: sidecar_client.Client, data: bytes = b"hello") -> None:
    async with client.open_stream(OTHER_TEXT, ECHO) as stream:
        await stream.write(data)
        assert await stream.readexactly(len(data)) == data
        await stream.close_write()
        assert await stream.read() == b""


@asynchronous
async def test_all_streams_of_a_client_ride_one_call(tmp_path: Path) -> None:
    async with server(tmp_path / "api.sock", Echoing()) as (node, backend, api):
        async with sidecar_client.connect(api.target) as client:
            await echo(client)
            await asyncio.gather(*(echo(client, b"%d" % number) for number in range(20)))
            await echo(client, bytes(3 << 20))  # several windows
            async with client.accept_streams("/mine/1") as accepted:
                node.on_news(streams.StreamArrived(1_000_000, OTHER, "/mine/1"))
                async with await anext(aiter(accepted)) as stream:
                    node.on_news(streams.BytesArrived(1_000_000, b"from a peer"))
                    assert await stream.readexactly(11) == b"from a peer"
                    stream.reset()
            made = calls(backend)
            assert made["StreamService/CarryStreams"] == 1
            assert not made.get("StreamService/OpenStream")
            assert not made.get("StreamService/AttachStream")
            while backend.statistics().flat()["api_byte_streams"]:
                await client.info()
        await until(backend, 0)


@asynchronous
async def test_streams_of_peers_come_with_what_was_sent_and_outlive_who_waits_and_the_shared_call(
    tmp_path: Path,
) -> None:
    async with server(tmp_path / "api.sock", Echoing()) as (node, backend, api):
        async with sidecar_client.connect(api.target) as client, client.accept_streams("/mine/1") as accepted:
            streams_of = aiter(accepted)
            waiting = asyncio.ensure_future(anext(streams_of))
            await client.info()
            waiting.cancel()
            for number in (70, 71, 72):
                node.on_news(streams.StreamArrived(number, OTHER, "/mine/1"))
                node.on_news(streams.BytesArrived(number, b"%d" % number))
            for number in (70, 71):
                async with await anext(streams_of) as stream:
                    assert (stream.peer_id, stream.protocol) == (OTHER_TEXT, "/mine/1")
                    assert await stream.readexactly(2) == b"%d" % number
                    stream.reset()
            unused = await anext(streams_of)
            unused.reset()
            while {fed.stream for fed in node.of(streams.StreamAbandoned)} != {70, 71, 72}:
                await client.info()
            client._carrying._call.cancel()
            await until(backend, 1)  # accepting goes on, and streams are told of by tokens
            node.on_news(streams.StreamArrived(73, OTHER, "/mine/1"))
            async with await anext(streams_of) as stream:
                node.on_news(streams.BytesArrived(73, b"late"))
                assert await stream.readexactly(4) == b"late"
                stream.reset()
        await until(backend, 0)


class Narrow:
    """A sidecar that keeps to the first window of each stream, as those did that knew of no other; its streams echo."""

    def __init__(self) -> None:
        self.given: list[int] = []  # by the app, in its order

    async def carry(self, requests: Any, context: Any) -> AsyncIterator[Any]:
        await context.send_initial_metadata((("sidecar-stream", "open"),))
        room, waiting = WINDOW, b""
        async for request in requests:
            for said in request.frames:
                frame = stream_pb2.IncomingFrame(stream=said.stream)
                if said.HasField("open"):
                    room, waiting = WINDOW, b""
                    frame.opened.protocol = ECHO
                waiting += said.data
                assert len(waiting) <= WINDOW
                room += said.window
                assert room <= WIDE
                if said.window:
                    self.given.append(said.window)
                frame.data, waiting = waiting[:room], waiting[room:]
                frame.window = len(frame.data)
                room -= frame.window
                frame.end = frame.done = said.close_write and not waiting
                yield stream_pb2.CarryStreamsResponse(frames=[frame])


@asynchronous
async def test_streams_become_wide_and_keep_to_what_an_older_sidecar_gives(tmp_path: Path) -> None:
    place = f"unix:{tmp_path / 'api.sock'}"
    narrow = Narrow()
    method = grpc.stream_stream_rpc_method_handler(
        narrow.carry, stream_pb2.CarryStreamsRequest.FromString, stream_pb2.CarryStreamsResponse.SerializeToString
    )
    client = sidecar_client.connect(place)
    async with serving(place, methods={"StreamService/CarryStreams": method}):
        await echo(client, bytes(WINDOW // 2 - 1))
        assert narrow.given == []
        async with client.open_stream(OTHER_TEXT, ECHO) as stream:
            writing = asyncio.create_task(stream.write(bytes(6 << 20)))
            assert len(await stream.readexactly(6 << 20)) == 6 << 20
            await writing
            await stream.close_write()
            assert await stream.read() == b""
        await client.close()
        assert narrow.given[0] >= WIDE - WINDOW // 2
        assert min(narrow.given[1:]) >= WIDE // 2  # what is wide is told of less often


@asynchronous
async def test_so_many_streams_are_wide_at_once_as_there_are_places(tmp_path: Path) -> None:
    async with server(tmp_path / "api.sock", Echoing()) as (_, _, api), sidecar_client.connect(api.target) as client:
        wide = client._carrying._wide
        half = bytes(WINDOW // 2)
        async with contextlib.AsyncExitStack() as stack:
            for number in range(MAX_WIDE + 1):
                stream = await stack.enter_async_context(client.open_stream(OTHER_TEXT, ECHO))
                await stream.write(half)
                assert await stream.readexactly(len(half)) == half
                assert len(wide) == min(number + 1, MAX_WIDE)
        assert not wide


@asynchronous
async def test_a_slow_reader_holds_up_no_other_stream(tmp_path: Path) -> None:
    async with (
        server(tmp_path / "api.sock", Echoing()) as (node, _, api),
        sidecar_client.connect(api.target) as client,
        client.open_stream(OTHER_TEXT, ECHO) as slow,
    ):
        writing = asyncio.create_task(slow.write(bytes(1 << 20)))
        for number in range(20):
            await echo(client, b"%d" % number)
        assert sum(fed.size for fed in node.of(streams.BytesConsumed)) < 1 << 20
        assert len(await slow.readexactly(1 << 20)) == 1 << 20
        await writing


@asynchronous
async def test_an_older_sidecar_gets_a_call_for_each(tmp_path: Path) -> None:
    place = f"unix:{tmp_path / 'api.sock'}"
    made = 0

    async def open_stream(requests: Any, context: Any) -> Any:
        nonlocal made
        made += 1
        opened = stream_pb2.OpenedStream(peer_id=OTHER_TEXT, protocol=ECHO)
        yield stream_pb2.OpenStreamResponse(opened=opened)
        async for request in requests:
            yield stream_pb2.OpenStreamResponse(data=request.data, end=request.close_write)
            if request.close_write:
                return

    method = grpc.stream_stream_rpc_method_handler(
        open_stream, stream_pb2.OpenStreamRequest.FromString, stream_pb2.OpenStreamResponse.SerializeToString
    )
    client = sidecar_client.connect(place)
    async with serving(place, methods={"StreamService/OpenStream": method}):

        async def once() -> None:
            async with client.open_stream(OTHER_TEXT, ECHO) as stream:
                await stream.write(b"x")
                while await stream.read(1) != b"x":
                    pass
                await stream.close_write()

        for _ in range(3):
            await once()
        assert made == 3
        assert client._link.lacks("CarryStreams")
    async with server(tmp_path / "api.sock", Echoing()) as (_, backend, _), client:  # one that has it takes its place
        await client.info()
        await echo(client)
        assert calls(backend)["StreamService/CarryStreams"] == 1


@asynchronous
async def test_the_end_of_the_sidecar_ends_its_streams_and_the_next_opens_the_call_anew(tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    async with server(path, Echoing()) as (_, _, api):
        client = sidecar_client.connect(api.target)
        first, second = client.open_stream(OTHER_TEXT, ECHO), client.open_stream(OTHER_TEXT, "/other/1")
        await first.__aenter__()
        await second.__aenter__()
        await first.write(b"kept")
        while not first._way._arrived:  # type: ignore[union-attr]
            await client.info()
    assert await first.readexactly(4) == b"kept"
    for stream in (first, second):
        with pytest.raises((sidecar_client.Closed, sidecar_client.SidecarUnavailable)):
            await stream.read(1)
        with pytest.raises((sidecar_client.Closed, sidecar_client.SidecarUnavailable)):
            await stream.write(b"x")
    async with server(path, Echoing()) as (_, backend, _), client:
        await client.info()
        await echo(client)
        assert calls(backend)["StreamService/CarryStreams"] == 1


@asynchronous
async def test_what_one_stream_fails_with_is_its_own(tmp_path: Path) -> None:
    async with served(tmp_path) as (node, _, _, client):
        opening = asyncio.create_task(client.open_stream(OTHER_TEXT, ECHO).__aenter__())
        other = asyncio.create_task(client.open_stream(OTHER_TEXT, ECHO).__aenter__())
        while len(node.of(streams.StreamRequested)) < 2:
            await client.info()
        one, two = node.of(streams.StreamRequested)
        node.on_news(events.OperationCompleted(one.op, errors.NotSupported("it does not speak that")))
        node.on_news(events.OperationCompleted(two.op, streams.StreamMade(7, OTHER, ECHO)))
        with pytest.raises(sidecar_client.NotSupported, match="does not speak"):
            await opening
        stream = await other
        node.on_news(streams.StreamLost(7, errors.StreamReset("the peer reset it")))
        with pytest.raises(sidecar_client.StreamReset):
            await stream.read(1)
        assert not client._link.lacks("CarryStreams")


@asynchronous
async def test_a_write_that_is_cancelled_resets_its_stream_alone(tmp_path: Path) -> None:
    async with server(tmp_path / "api.sock", Echoing()) as (node, _, api), sidecar_client.connect(api.target) as client:
        stream = client.open_stream(OTHER_TEXT, ECHO)
        await stream.__aenter__()
        node.on_news(streams.WritableChanged(node.of(streams.StreamRequested)[0].op, False))
        writing = asyncio.create_task(stream.write(bytes(1 << 20)))
        await echo(client)
        writing.cancel()
        assert (await node.wait_for(streams.StreamAbandoned)).stream == node.of(streams.StreamRequested)[0].op
        with pytest.raises(sidecar_client.Closed):
            await stream.read(1 << 21)
        await echo(client)


@asynchronous
async def test_a_client_that_is_dropped_leaves_its_streams_until_they_end(tmp_path: Path) -> None:
    async with server(tmp_path / "api.sock", Echoing()) as (_, backend, api):
        client = sidecar_client.connect(api.target)
        stream = client.open_stream(OTHER_TEXT, ECHO)
        await stream.__aenter__()
        del client
        gc.collect()
        await stream.write(b"x")
        assert await stream.read(1) == b"x"
        await stream.aclose()
        await until(backend, 0)


@asynchronous
async def test_with_a_token_each_stream_has_a_call_of_its_own(tmp_path: Path) -> None:
    async with server(tmp_path / "api.sock", Echoing()) as (_, backend, api):
        async with sidecar_client.connect(api.target, token="of.another") as client:
            await echo(client)
        made = calls(backend)
        assert (made["StreamService/OpenStream"], made["StreamService/CarryStreams"]) == (1, 0)
