"""StreamService over a real Unix socket, against a node that is a fake."""

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import pytest
import sidecar_client
from grpc import aio
from sidecar_client.v1 import stream_pb2, stream_pb2_grpc

from sidecar.api.common.status import status_details
from sidecar.core import errors, events, streams
from tests.api.fakes import ME_TEXT, OTHER, OTHER_TEXT, FakeNode, Served, asynchronous, served

ECHO = "/echo/1"
NUMBER = 7


@pytest.fixture(autouse=True, params=["shared", "alone"])
def shared(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether the client's streams share a call: with an older sidecar each has its own."""
    if request.param == "alone":

        async def stream(_: Any) -> None:
            """There is no call to share."""

        monkeypatch.setattr("sidecar_client._carrying.Carrying.stream", stream)
    return bool(request.param == "shared")


async def asked(node: FakeNode) -> streams.StreamRequested:
    fed: streams.StreamRequested = await node.wait_for(streams.StreamRequested)
    return fed


@contextlib.asynccontextmanager
async def opened(place: Served) -> Any:
    """An open stream of the client, number 7 for the node."""
    node = place.node
    stream = place.client.open_stream(OTHER_TEXT, ECHO)
    opening = asyncio.create_task(stream.__aenter__())
    fed = await asked(node)
    assert fed[1:] == (OTHER, (ECHO,))
    node.on_news(events.OperationCompleted(fed.op, streams.StreamMade(NUMBER, OTHER, ECHO)))
    node.on_news(streams.BytesArrived(NUMBER, b"early"))
    await opening
    try:
        yield stream
    finally:
        stream.reset()


@asynchronous
async def test_bytes_are_consumed_once_grpc_took_them(tmp_path: Path) -> None:
    async with served(tmp_path) as place, opened(place) as stream:
        node = place.node
        assert (stream.peer_id, stream.protocol) == (OTHER_TEXT, ECHO)
        assert await stream.read(100) == b"early"
        assert await node.wait_for(streams.BytesConsumed) == (NUMBER, 5)
        for piece in (b"a", b"b", b"c"):
            node.on_news(streams.BytesArrived(NUMBER, piece))
        node.on_news(streams.ReadEnded(NUMBER))
        assert await stream.read() == b"abc"
        assert stream.at_end
        await stream.write(b"out")
        await stream.close_write()
        await stream.close_write()
        await node.wait_for(streams.WriteEnded)
        assert node.of(streams.BytesWritten) == [(NUMBER, b"out")]
        node.on_news(streams.StreamDone(NUMBER))
        await stream._way.settled()
        assert node.of(streams.StreamAbandoned) == []


@asynchronous
async def test_a_window_of_unread_bytes_is_not_consumed(tmp_path: Path) -> None:
    async with served(tmp_path) as place, opened(place) as stream:
        node = place.node
        total = 0
        while total < 16 << 20:
            node.on_news(streams.BytesArrived(NUMBER, bytes(65536)))
            total += 65536
        await place.client.info()
        assert sum(fed.size for fed in node.of(streams.BytesConsumed)) < 2 << 20
        assert len(await stream.readexactly(5 + total)) == 5 + total


@asynchronous
async def test_requests_are_read_only_while_the_node_has_room(tmp_path: Path) -> None:
    async with served(tmp_path) as place, opened(place) as stream:
        node = place.node
        await stream.write(b"first")
        await node.wait_for(streams.BytesWritten)
        node.on_news(streams.WritableChanged(NUMBER, False))
        writing = asyncio.create_task(stream.write(bytes(16 << 20)))
        for _ in range(20):
            await place.client.info()
        written = sum(len(fed.data) for fed in node.of(streams.BytesWritten))
        assert written <= 5 + 256 * 1024  # a window, or the one request that had perhaps been asked for
        assert not writing.done()
        node.on_news(streams.WritableChanged(NUMBER, True))
        await writing


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (errors.StreamReset("x: the peer reset the stream"), sidecar_client.StreamReset),
        (errors.Closed("the connection ended"), sidecar_client.Closed),
        (errors.ResourceExhausted("too much waits"), sidecar_client.ResourceExhausted),
    ],
)
def test_how_a_stream_is_lost(error: errors.SidecarError, kind: type[Exception], tmp_path: Path) -> None:
    @asynchronous
    async def check() -> None:
        async with served(tmp_path) as place, opened(place) as stream:
            place.node.on_news(streams.StreamLost(NUMBER, error))
            assert await stream.read(100) == b"early"
            with pytest.raises(kind, match=str(error)):
                await stream.read(1)
            with pytest.raises(kind):
                await stream.write(b"x")
            assert place.node.of(streams.StreamAbandoned) == []

    check()


@asynchronous
async def test_a_call_that_ends_resets_its_stream(tmp_path: Path) -> None:
    async with served(tmp_path) as place:
        async with opened(place):
            pass
        assert await place.node.wait_for(streams.StreamAbandoned) == (NUMBER,)
        opening = asyncio.create_task(place.client.open_stream(OTHER_TEXT, ECHO).__aenter__())
        fed = await asked(place.node)
        opening.cancel()
        assert await place.node.wait_for(events.OperationCancelled) == (fed.op,)
        # It was made all the same, a moment before: then it is not kept.
        place.node.on_news(events.OperationCompleted(fed.op, streams.StreamMade(9, OTHER, ECHO)))
        assert place.node.of(streams.StreamAbandoned)[-1] == (9,)
        assert place.backend.statistics().flat()["api_byte_streams"] == 0


@asynchronous
async def test_an_app_that_ends_its_requests_without_a_word_has_not_closed(tmp_path: Path, shared: bool) -> None:
    async with served(tmp_path) as place, opened(place) as stream:
        call = place.client._carrying._call if shared else stream._way._call
        await call.done_writing()
        place.node.on_news(streams.BytesArrived(NUMBER, b"more"))
        assert await stream.readexactly(9) == b"earlymore"
        assert place.node.of(streams.WriteEnded) == []


@asynchronous
async def test_accepting(tmp_path: Path) -> None:
    async with served(tmp_path, max_unattached_streams=2) as (node, backend, _, client):
        async with client.accept_streams([ECHO, "/b/1"]) as acceptor:
            assert node.of(streams.ProtocolsAccepted)[-1] == ((ECHO, "/b/1"),)
            with pytest.raises(sidecar_client.AlreadyExists):
                async with client.accept_streams("/b/1"):
                    pass
            for number in (1, 2, 3):
                node.on_news(streams.StreamArrived(number, OTHER, ECHO))
            assert node.of(streams.StreamAbandoned) == [(3,)]  # too many wait
            arriving = aiter(acceptor)
            async with await anext(arriving) as stream:
                assert (stream.peer_id, stream.protocol) == (OTHER_TEXT, ECHO)
                node.on_news(streams.BytesArrived(1, b"hello"))
                assert await stream.read(5) == b"hello"
                if stream._first:  # it has been told of by a token; and it has been taken up
                    with pytest.raises(sidecar_client.NotFound):
                        async with sidecar_client.ByteStream(
                            stream._link, stream._carrying, stream._new_call, stream._first, stream._shared
                        ) as again:
                            await again.read(1)
                stream.reset()
            while node.of(streams.StreamAbandoned)[-1] != (1,):
                await client.info()
            assert backend.statistics().flat()["api_streams_unattached"] == 1
        while node.of(streams.ProtocolsAccepted)[-1] != ((),):
            await client.info()
        assert node.of(streams.StreamAbandoned)[-1] == (2,)
        assert backend.statistics().flat()["api_streams_unattached"] == 0
        node.on_news(streams.StreamArrived(4, OTHER, ECHO))
        assert node.of(streams.StreamAbandoned)[-1] == (4,)


@asynchronous
async def test_a_stream_waits_for_its_app_only_so_long(tmp_path: Path) -> None:
    async with served(tmp_path, attach_timeout=0.01) as (node, _, _, client), client.accept_streams(ECHO):
        node.on_news(streams.StreamArrived(1, OTHER, ECHO))
        assert await node.wait_for(streams.StreamAbandoned) == (1,)


@asynchronous
async def test_bounds_and_mistakes(tmp_path: Path) -> None:
    async with served(tmp_path, max_streams=1) as place, opened(place):
        with pytest.raises(sidecar_client.ResourceExhausted, match="at most 1"):
            async with place.client.open_stream(OTHER_TEXT, ECHO):
                pass
        for peer, protocols in ((ME_TEXT, [ECHO]), ("nonsense", [ECHO]), (OTHER_TEXT, []), (OTHER_TEXT, ["x" * 300])):
            with pytest.raises(sidecar_client.InvalidArgument):
                async with place.client.open_stream(peer, protocols):
                    pass
        with pytest.raises(sidecar_client.InvalidArgument):
            async with place.client.accept_streams([]):
                pass


@asynchronous
async def test_an_explicit_reset_and_a_first_request_with_everything(tmp_path: Path) -> None:
    async with served(tmp_path) as (node, _, _, client):
        stub: Any = stream_pb2_grpc.StreamServiceStub(client._link.channel)
        call = stub.OpenStream()
        whole = stream_pb2.OpenStreamRequest(peer_id=OTHER_TEXT, protocols=[ECHO], data=b"all", close_write=True)
        await call.write(whole)
        fed = await asked(node)
        node.on_news(events.OperationCompleted(fed.op, streams.StreamMade(NUMBER, OTHER, ECHO)))
        response = await call.read()
        assert response.opened == stream_pb2.OpenedStream(peer_id=OTHER_TEXT, protocol=ECHO)
        assert node.of(streams.BytesWritten) == [(NUMBER, b"all")]
        assert node.of(streams.WriteEnded) == [(NUMBER,)]
        await call.write(stream_pb2.OpenStreamRequest(reset=True))
        assert (await call.code()).name == "ABORTED"
        assert node.of(streams.StreamAbandoned) == [(NUMBER,)]


@asynchronous
async def test_a_status_in_a_response(tmp_path: Path) -> None:
    async with served(tmp_path) as place:
        node = place.node
        stub: Any = stream_pb2_grpc.StreamServiceStub(place.client._link.channel)

        async def lost(number: int, error: errors.SidecarError) -> Any:
            """A call whose stream has ended, and whose responses have been read."""
            call = stub.OpenStream()
            first = stream_pb2.OpenStreamRequest(peer_id=OTHER_TEXT, protocols=[ECHO], status_in_response=True)
            await call.write(first)
            while len(asked := node.of(streams.StreamRequested)) < number:
                await place.client.info()
            node.on_news(events.OperationCompleted(asked[-1].op, streams.StreamMade(number, OTHER, ECHO)))
            node.on_news(streams.BytesArrived(number, b"early"))
            node.on_news(streams.StreamLost(number, error))
            data = b""
            while not (response := await call.read()).status:
                data += response.data
            assert data == b"early"
            assert response == stream_pb2.OpenStreamResponse(status=status_details(error))
            await call.write(stream_pb2.OpenStreamRequest(data=b"into the void"))
            return call

        call = await lost(1, errors.StreamReset("the peer reset it"))
        for _ in range(20):
            await place.client.info()
        assert not call.done()  # until the app has said everything
        await call.done_writing()
        assert await call.read() is aio.EOF
        assert (await call.code()).name == "OK"

        call = await lost(2, errors.Closed("the connection ended"))
        place.backend.close()
        assert await call.read() is aio.EOF
        assert (await call.code()).name == "OK"


@asynchronous
async def test_the_sidecar_stops(tmp_path: Path) -> None:
    async with served(tmp_path) as place, opened(place) as stream:
        assert await stream.read(5) == b"early"
        place.backend.close()
        with pytest.raises(sidecar_client.Closed, match="stopping"):
            await stream.read(1)


@asynchronous
async def test_pieces_keep_to_the_bound_on_requests(tmp_path: Path) -> None:
    async with served(tmp_path, max_request_bytes=65_536) as place, opened(place) as stream:
        items = memoryview(bytes(range(256)) * 1200).cast("I")  # 4 bytes each
        await stream.write(items)
        await stream.close_write()
        await place.node.wait_for(streams.WriteEnded)
        assert b"".join(data for _, data in place.node.of(streams.BytesWritten)) == items.tobytes()
