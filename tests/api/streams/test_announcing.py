"""Streams of peers that are announced on a CarryStreams call, over a real socket, against a node that is a fake."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from grpc import StatusCode, aio
from sidecar_client.v1 import stream_pb2, stream_pb2_grpc

from sidecar.api.streams.carrying import WINDOW
from sidecar.core import errors, streams
from tests.api.fakes import OTHER, Served, asynchronous, served
from tests.api.streams.test_carrying import ECHO, OPENED, Sharing, until

pytestmark = pytest.mark.usefixtures("each_engine")

FIRST = 1 << 32
ACCEPTOR = 3


@contextlib.asynccontextmanager
async def accepting(directory: Path, **bounds: Any) -> AsyncIterator[tuple[Served, Sharing, Any]]:
    async with served(directory, **bounds) as place:
        shared = Sharing(place.node, place.client)
        key = dict(await shared.call.initial_metadata())["sidecar-carrier"]
        stub: Any = stream_pb2_grpc.StreamServiceStub(place.client._link.channel)
        request = stream_pb2.AcceptStreamsRequest(protocols=[ECHO], carrier=key, acceptor=ACCEPTOR)
        accepted = stub.AcceptStreams(request)
        assert "sidecar-stream" in await accepted.initial_metadata()
        yield place, shared, accepted
        accepted.cancel()
        shared.call.cancel()


def places(place: Served) -> tuple[float, float]:
    """Streams that are open, and those that wait to be taken up."""
    told = place.backend.statistics().flat()
    return told["api_byte_streams"], told["api_streams_unattached"]


@asynchronous
async def test_it_is_announced_with_what_has_come_and_is_taken_up_by_any_frame(tmp_path: Path) -> None:
    async with accepting(tmp_path) as (place, shared, _):
        node = place.node
        node.on_news(streams.StreamArrived(70, OTHER, ECHO))
        node.on_news(streams.BytesArrived(70, b"hello"))
        told = await shared.hear(FIRST)
        assert (told.opened, told.acceptor, told.data) == (OPENED, ACCEPTOR, b"hello")
        assert places(place) == (0, 1)
        await shared.open(1)  # the app's own are as ever
        await shared.say({"stream": FIRST})
        await shared.say({"stream": FIRST, "data": b"and back", "close_write": True})
        await node.wait_for(streams.WriteEnded)
        assert node.of(streams.BytesWritten) == [(70, b"and back")]
        assert places(place) == (2, 0)
        node.on_news(streams.ReadEnded(70))
        node.on_news(streams.StreamDone(70))
        last = await shared.hear(FIRST)
        assert (last.end, last.done) == (True, True)
        node.on_news(streams.StreamArrived(71, OTHER, ECHO))
        assert (await shared.hear(FIRST + 1)).acceptor == ACCEPTOR


@asynchronous
async def test_one_that_is_not_taken_up_holds_little(tmp_path: Path) -> None:
    async with accepting(tmp_path) as (place, shared, _):
        place.node.on_news(streams.StreamArrived(70, OTHER, ECHO))
        place.node.on_news(streams.BytesArrived(70, bytes(WINDOW)))
        assert len((await shared.hear(FIRST)).data) == WINDOW // 4
        await shared.open(1)
        await shared.say({"stream": FIRST})
        got = 0
        while got < WINDOW * 3 // 4:
            got += len((await shared.hear(FIRST)).data)
        assert got == WINDOW * 3 // 4


@asynchronous
async def test_one_that_is_not_taken_up_in_time_is_reset(tmp_path: Path) -> None:
    async with accepting(tmp_path, attach_timeout=0.01) as (place, shared, _):
        place.node.on_news(streams.StreamArrived(70, OTHER, ECHO))
        assert (await shared.hear(FIRST)).acceptor == ACCEPTOR
        assert (await shared.failure(FIRST)).code == StatusCode.NOT_FOUND.value[0]
        assert place.node.of(streams.StreamAbandoned) == [(70,)]
        await shared.say({"stream": FIRST, "data": b"too late"})
        await shared.open(1)
        assert not place.node.of(streams.BytesWritten)
        assert places(place) == (1, 0)


@asynchronous
async def test_those_that_the_peer_or_the_app_resets_and_a_bound(tmp_path: Path) -> None:
    async with accepting(tmp_path, max_streams=1, max_unattached_streams=2) as (place, shared, _):
        node = place.node
        node.on_news(streams.StreamArrived(70, OTHER, ECHO))
        node.on_news(streams.StreamArrived(71, OTHER, ECHO))
        node.on_news(streams.StreamArrived(72, OTHER, ECHO))  # one too many
        assert node.of(streams.StreamAbandoned) == [(72,)]
        assert (await shared.hear(FIRST)).acceptor == (await shared.hear(FIRST + 1)).acceptor == ACCEPTOR
        node.on_news(streams.StreamLost(70, errors.StreamReset("the peer reset it")))
        assert (await shared.failure(FIRST)).code == StatusCode.ABORTED.value[0]
        await shared.say({"stream": FIRST + 1, "reset": True})
        await until(node, streams.StreamAbandoned, 2)
        assert node.of(streams.StreamAbandoned)[1] == (71,)
        assert places(place) == (0, 0)
        for number, stream in ((FIRST + 2, 73), (FIRST + 3, 74)):
            node.on_news(streams.StreamArrived(stream, OTHER, ECHO))
            assert (await shared.hear(number)).acceptor == ACCEPTOR
        await shared.say({"stream": FIRST + 2}, {"stream": FIRST + 3})
        assert (await shared.failure(FIRST + 3)).code == StatusCode.RESOURCE_EXHAUSTED.value[0]
        assert places(place) == (1, 0)


@asynchronous
async def test_the_end_of_accepting_ends_those_that_wait_and_no_others(tmp_path: Path) -> None:
    async with accepting(tmp_path) as (place, shared, accepted):
        node = place.node
        for stream in (70, 71):
            node.on_news(streams.StreamArrived(stream, OTHER, ECHO))
        assert (await shared.hear(FIRST)).opened == (await shared.hear(FIRST + 1)).opened == OPENED
        await shared.say({"stream": FIRST})
        await shared.open(1)
        accepted.cancel()
        assert (await shared.failure(FIRST + 1)).code == StatusCode.NOT_FOUND.value[0]
        node.on_news(streams.BytesArrived(70, b"still"))
        assert (await shared.hear(FIRST)).data == b"still"
        assert places(place) == (2, 0)


@asynchronous
async def test_without_that_call_streams_are_told_of_by_tokens(tmp_path: Path) -> None:
    async with accepting(tmp_path) as (place, shared, accepted):
        node = place.node
        node.on_news(streams.StreamArrived(70, OTHER, ECHO))
        await shared.hear(FIRST)
        shared.call.cancel()
        assert (await node.wait_for(streams.StreamAbandoned)).stream == 70
        assert places(place) == (0, 0)
        node.on_news(streams.StreamArrived(71, OTHER, ECHO))
        (told,) = (await accepted.read()).streams
        assert told.token
        assert told.protocol == ECHO


@asynchronous
async def test_the_call_ends_though_some_wait(tmp_path: Path) -> None:
    async with accepting(tmp_path) as (place, shared, _):
        place.node.on_news(streams.StreamArrived(70, OTHER, ECHO))
        await shared.hear(FIRST)
        await shared.call.done_writing()
        assert await shared.call.read() is aio.EOF
        await place.node.wait_for(streams.StreamAbandoned)
        assert places(place) == (0, 0)
