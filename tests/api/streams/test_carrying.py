"""CarryStreams over a real socket, against a node that is a fake."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import sidecar_client
from google.rpc.status_pb2 import Status
from grpc import StatusCode, aio
from sidecar_client.v1 import stream_pb2, stream_pb2_grpc

from sidecar.api.common.status import Code
from sidecar.api.guard import quota
from sidecar.api.guard.tokens import TokenFile
from sidecar.api.streams.byte_streams import MAX_WIDE
from sidecar.api.streams.carrying import WIDE, WINDOW
from sidecar.core import errors, events, streams
from tests.api.fakes import OTHER, OTHER_TEXT, FakeNode, Served, asynchronous, served, server

pytestmark = pytest.mark.usefixtures("each_engine")

ECHO = "/echo/1"
OPENING = stream_pb2.StreamOpening(peer_id=OTHER_TEXT, protocols=[ECHO])
OPENED = stream_pb2.OpenedStream(peer_id=OTHER_TEXT, protocol=ECHO)


class Sharing:
    """A call, and what it has told of each stream."""

    def __init__(self, node: FakeNode, client: sidecar_client.Client) -> None:
        stub: Any = stream_pb2_grpc.StreamServiceStub(client._link.channel)
        self.node = node
        self.call: Any = stub.CarryStreams()
        self._frames: list[Any] = []

    async def say(self, *frames: dict[str, Any]) -> None:
        said = [stream_pb2.OutgoingFrame(**frame) for frame in frames]
        await self.call.write(stream_pb2.CarryStreamsRequest(frames=said))

    async def hear(self, number: int) -> Any:
        """The next frame; it must be of that stream."""
        while not self._frames:
            response = await self.call.read()
            assert response is not aio.EOF, "the call has ended"
            self._frames = list(response.frames)
        frame = self._frames.pop(0)
        assert frame.stream == number, frame
        return frame

    async def failure(self, number: int) -> Status:
        return Status.FromString((await self.hear(number)).status)

    async def open(self, number: int, *also: dict[str, Any], **more: Any) -> None:
        """Open a stream, which has the same number for the node."""
        before = len(self.node.of(streams.StreamRequested))
        await self.say({"stream": number, "open": OPENING, **more}, *also)
        while len(asked := self.node.of(streams.StreamRequested)) == before:
            self.node.arrived[streams.StreamRequested] = event = asyncio.Event()
            await event.wait()
        made = streams.StreamMade(number, OTHER, ECHO)
        self.node.on_news(events.OperationCompleted(asked[-1].op, made))
        assert (await self.hear(number)).opened == OPENED


@contextlib.asynccontextmanager
async def sharing(directory: Path, **bounds: Any) -> AsyncIterator[tuple[Served, Sharing]]:
    async with served(directory, **bounds) as place:
        shared = Sharing(place.node, place.client)
        yield place, shared
        shared.call.cancel()


async def until(node: FakeNode, kind: type, count: int) -> list[Any]:
    while len(fed := node.of(kind)) < count:
        await node.wait_for(kind)
    return fed


@asynchronous
async def test_many_streams_of_one_call(tmp_path: Path) -> None:
    async with sharing(tmp_path) as (place, shared):
        node = place.node
        for number in (1, 2, 300):
            await shared.open(number)
        for number in (2, 300, 1):
            node.on_news(streams.BytesArrived(number, b"hello %d" % number))
            assert (await shared.hear(number)).data == b"hello %d" % number
        await shared.say(
            {"stream": 1, "data": b"one", "close_write": True}, {"stream": 300, "data": b"three"}, {"stream": 5}
        )
        await node.wait_for(streams.WriteEnded)
        await until(node, streams.BytesWritten, 2)
        assert node.of(streams.BytesWritten) == [(1, b"one"), (300, b"three")]
        assert node.of(streams.WriteEnded) == [(1,)]
        node.on_news(streams.BytesArrived(1, b"last"))
        node.on_news(streams.ReadEnded(1))
        node.on_news(streams.StreamDone(1))
        last = await shared.hear(1)
        assert (last.data, last.end, last.done, last.status) == (b"last", True, True, b"")
        await shared.open(1)  # its number is free
        assert place.backend.statistics().flat()["api_byte_streams"] == 3


@asynchronous
async def test_everything_in_one_frame_before_the_stream_is_open(tmp_path: Path) -> None:
    async with sharing(tmp_path) as (place, shared):
        await shared.open(7, {"stream": 7, "data": b" and more", "close_write": True}, data=b"all")
        assert place.node.of(streams.BytesWritten) == [(7, b"all and more")]
        assert place.node.of(streams.WriteEnded) == [(7,)]


@asynchronous
async def test_a_stream_that_is_not_read_stops_no_other(tmp_path: Path) -> None:
    async with sharing(tmp_path) as (place, shared):
        node = place.node
        await shared.open(1)
        await shared.open(2)
        for _ in range(8):
            node.on_news(streams.BytesArrived(1, bytes(WINDOW // 4)))
        got = 0
        while got < WINDOW:
            got += len((await shared.hear(1)).data)
        assert got == WINDOW
        for number in range(3):
            node.on_news(streams.BytesArrived(2, b"%d" % number))
            assert (await shared.hear(2)).data == b"%d" % number
        assert sum(fed.size for fed in node.of(streams.BytesConsumed) if fed.stream == 1) == WINDOW
        await shared.say({"stream": 1, "window": 10})
        assert len((await shared.hear(1)).data) == 10
        await shared.say({"stream": 1, "window": WINDOW})
        while got < 2 * WINDOW - 10:
            got += len((await shared.hear(1)).data)


@asynchronous
async def test_a_peer_that_does_not_read_stops_its_stream_alone(tmp_path: Path) -> None:
    async with sharing(tmp_path) as (place, shared):
        node = place.node
        await shared.open(1)
        await shared.open(2)
        node.on_news(streams.WritableChanged(1, False))
        await shared.say({"stream": 1, "data": bytes(WINDOW)}, {"stream": 2, "data": bytes(WINDOW)})
        assert (await shared.hear(2)).window == WIDE
        node.on_news(streams.WritableChanged(1, True))
        assert (await shared.hear(1)).window == WIDE
        # Who goes on all the same loses that stream.
        node.on_news(streams.WritableChanged(1, False))
        await shared.say({"stream": 1, "data": bytes(WIDE)}, {"stream": 1, "data": b"x"})
        assert (await shared.failure(1)).code == Code.INVALID_ARGUMENT
        assert node.of(streams.StreamAbandoned) == [(1,)]
        await shared.say({"stream": 2, "data": b"goes on"})
        while node.of(streams.BytesWritten)[-1] != (2, b"goes on"):
            await node.wait_for(streams.BytesWritten)


@asynchronous
async def test_the_first_window_that_is_given_back_is_wide_and_then_told_of_less_often(tmp_path: Path) -> None:
    async with sharing(tmp_path) as (_, shared):
        await shared.open(1)
        await shared.say({"stream": 1, "data": bytes(WINDOW // 2)})
        assert (await shared.hear(1)).window == WINDOW // 2 + WIDE - WINDOW
        await shared.say({"stream": 1, "data": bytes(WIDE // 2 - 1)})
        await shared.open(2)  # nothing was told of the first before that
        await shared.say({"stream": 1, "data": b"x"})
        assert (await shared.hear(1)).window == WIDE // 2
        await shared.say({"stream": 1, "data": bytes(WIDE)}, {"stream": 2, "data": bytes(WINDOW)})
        assert (await shared.hear(1)).window == WIDE
        assert (await shared.hear(2)).window == WIDE


@asynchronous
async def test_so_many_streams_are_wide_at_once_as_there_are_places(tmp_path: Path) -> None:
    async with sharing(tmp_path) as (place, shared):
        half = bytes(WINDOW // 2)
        for number in range(1, MAX_WIDE + 2):
            await shared.open(number)
            await shared.say({"stream": number, "data": half})
            wide = number <= MAX_WIDE
            assert (await shared.hear(number)).window == (len(half) + WIDE - WINDOW if wide else len(half))
        place.node.on_news(streams.StreamLost(1, errors.StreamReset("the peer reset the stream")))
        assert (await shared.failure(1)).code == Code.ABORTED
        await shared.say({"stream": MAX_WIDE + 1, "data": half})
        assert (await shared.hear(MAX_WIDE + 1)).window == len(half) + WIDE - WINDOW
        await shared.say({"stream": MAX_WIDE + 1, "reset": True})
        await place.node.wait_for(streams.StreamAbandoned)
        await shared.open(500)
        await shared.say({"stream": 500, "data": half})
        assert (await shared.hear(500)).window == len(half) + WIDE - WINDOW


@asynchronous
async def test_an_app_that_gives_only_the_first_window_hears_everything(tmp_path: Path) -> None:
    async with sharing(tmp_path) as (place, shared):
        await shared.open(1)
        for _ in range(32):
            place.node.on_news(streams.BytesArrived(1, bytes(WINDOW // 4)))
        got = taken = 0
        while got < 8 * WINDOW:
            size = len((await shared.hear(1)).data)
            got, taken = got + size, taken + size
            if taken >= WINDOW // 2:  # as clients did that knew of no other window
                await shared.say({"stream": 1, "window": taken})
                taken = 0


@asynchronous
async def test_an_app_may_give_a_wide_window_with_the_first_frame(tmp_path: Path) -> None:
    async with sharing(tmp_path) as (place, shared):
        await shared.open(1, window=WIDE - WINDOW)
        for _ in range(5):
            place.node.on_news(streams.BytesArrived(1, bytes(WINDOW)))
        got = 0
        while got < WIDE:
            got += len((await shared.hear(1)).data)
        await shared.open(2)  # nothing of the first before that
        await shared.say({"stream": 1, "window": WIDE // 2})
        while got < 5 * WINDOW:
            got += len((await shared.hear(1)).data)


@asynchronous
async def test_what_a_stream_fails_with_is_its_own(tmp_path: Path) -> None:
    async with sharing(tmp_path, max_streams=2) as (place, shared):
        node = place.node
        await shared.say(
            {"stream": 1, "open": {"peer_id": "nobody", "protocols": [ECHO]}},
            {"stream": 2, "open": {"peer_id": OTHER_TEXT}},
            {"stream": 3, "token": "of none"},
        )
        for number, code in ((1, Code.INVALID_ARGUMENT), (2, Code.INVALID_ARGUMENT), (3, Code.NOT_FOUND)):
            assert (await shared.failure(number)).code == code
        await shared.open(4)
        await shared.say({"stream": 5, "open": OPENING})
        await until(node, streams.StreamRequested, 2)
        await shared.say({"stream": 6, "open": OPENING})
        assert (await shared.failure(6)).code == Code.RESOURCE_EXHAUSTED
        asked = node.of(streams.StreamRequested)[-1]
        node.on_news(events.OperationCompleted(asked.op, errors.NotSupported("none of them")))
        assert (await shared.failure(5)).code == Code.UNIMPLEMENTED
        node.on_news(streams.BytesArrived(4, b"before"))
        node.on_news(streams.StreamLost(4, errors.StreamReset("the peer reset it")))
        last = await shared.hear(4)
        assert last.data == b"before"
        assert Status.FromString(last.status).code == Code.ABORTED
        assert place.backend.statistics().flat()["api_byte_streams"] == 0
        assert node.of(streams.StreamAbandoned) == []


@pytest.mark.parametrize("number", [0, 1])
def test_a_number_that_cannot_be_is_the_fault_of_the_call(number: int, tmp_path: Path) -> None:
    @asynchronous
    async def check() -> None:
        async with sharing(tmp_path) as (place, shared):
            await shared.open(1)
            await shared.say({"stream": number, "open": OPENING})
            assert Status.FromString((await shared.hear(1)).status).code == Code.INVALID_ARGUMENT
            assert await shared.call.code() is StatusCode.INVALID_ARGUMENT
            assert await place.node.wait_for(streams.StreamAbandoned) == (1,)

    check()


@asynchronous
async def test_a_reset_also_of_one_that_is_being_opened(tmp_path: Path) -> None:
    async with sharing(tmp_path) as (place, shared):
        node = place.node
        await shared.open(1)
        await shared.say({"stream": 1, "reset": True}, {"stream": 2, "open": OPENING})
        assert await node.wait_for(streams.StreamAbandoned) == (1,)
        fed = (await until(node, streams.StreamRequested, 2))[-1]
        await shared.say({"stream": 2, "reset": True})
        assert await node.wait_for(events.OperationCancelled) == (fed.op,)
        # It was made all the same, a moment before: then it is not kept.
        node.on_news(events.OperationCompleted(fed.op, streams.StreamMade(2, OTHER, ECHO)))
        assert node.of(streams.StreamAbandoned) == [(1,), (2,)]
        await shared.open(3)


@asynchronous
async def test_the_end_of_the_call_resets_its_streams(tmp_path: Path) -> None:
    async with sharing(tmp_path) as (place, shared):
        node = place.node
        await shared.open(1)
        await shared.open(2)
        await shared.say({"stream": 3, "open": OPENING})
        fed = (await until(node, streams.StreamRequested, 3))[-1]
        shared.call.cancel()
        assert await node.wait_for(events.OperationCancelled) == (fed.op,)
        assert sorted(await until(node, streams.StreamAbandoned, 2)) == [(1,), (2,)]
        assert place.backend.statistics().flat()["api_byte_streams"] == 0


@asynchronous
async def test_a_call_whose_requests_have_ended_goes_on_until_its_streams_have(tmp_path: Path) -> None:
    async with sharing(tmp_path) as (place, shared):
        await shared.open(1)
        await shared.say({"stream": 1, "close_write": True})
        await shared.call.done_writing()
        await place.node.wait_for(streams.WriteEnded)
        place.node.on_news(streams.BytesArrived(1, b"more"))
        assert (await shared.hear(1)).data == b"more"
        place.node.on_news(streams.ReadEnded(1))
        place.node.on_news(streams.StreamDone(1))
        assert (await shared.hear(1)).done
        assert await shared.call.read() is aio.EOF
        assert await shared.call.code() is StatusCode.OK


@asynchronous
async def test_streams_of_peers_are_taken_up(tmp_path: Path) -> None:
    async with sharing(tmp_path) as (place, shared):
        stub: Any = stream_pb2_grpc.StreamServiceStub(place.client._link.channel)
        accepting = stub.AcceptStreams(stream_pb2.AcceptStreamsRequest(protocols=[ECHO]))
        await accepting.initial_metadata()
        place.node.on_news(streams.StreamArrived(9, OTHER, ECHO))
        place.node.on_news(streams.BytesArrived(9, b"early"))
        incoming = (await accepting.read()).streams[0]
        await shared.say({"stream": 1, "token": incoming.token, "data": b"welcome"})
        first = await shared.hear(1)
        assert (first.opened, first.data) == (OPENED, b"early")
        assert place.node.of(streams.BytesWritten) == [(9, b"welcome")]
        accepting.cancel()
        while place.node.of(streams.ProtocolsAccepted)[-1] != ((),):
            await place.node.wait_for(streams.ProtocolsAccepted)
        assert place.node.of(streams.StreamAbandoned) == []  # it goes on


@asynchronous
async def test_a_sidecar_that_stops_says_so_on_each_stream(tmp_path: Path) -> None:
    async with sharing(tmp_path) as (place, shared):
        await shared.open(1)
        draining = asyncio.create_task(place.backend.drain(0.0))
        await draining
        await shared.say({"stream": 2, "open": OPENING})
        assert (await shared.failure(2)).code == Code.UNAVAILABLE
        place.node.on_news(streams.BytesArrived(1, b"left"))
        place.backend.close()
        last = await shared.hear(1)
        assert (last.data, Status.FromString(last.status).code) == (b"left", Code.UNAVAILABLE)
        assert await shared.call.code() is StatusCode.UNAVAILABLE
        assert await place.node.wait_for(streams.StreamAbandoned) == (1,)


@asynchronous
async def test_failures_that_nobody_reads_are_bounded(tmp_path: Path) -> None:
    async with sharing(tmp_path) as (place, shared):
        wrong = [{"stream": number, "token": "x"} for number in range(1, 60_000)]
        await shared.say(*wrong)
        for number in range(1, 60_000):
            assert (await shared.failure(number)).code == Code.NOT_FOUND
        assert place.backend.statistics().flat()["api_byte_streams"] == 0


@asynchronous
async def test_scopes_and_quotas_are_those_of_a_call_for_each_stream(tmp_path: Path) -> None:
    file = TokenFile(tmp_path / "tokens.json")
    _, secret = file.create("app", ["stream:/echo/1"], None, 0.0, quota.read({"calls": "4/h", "streams": 2}))
    async with server(tmp_path / "api.sock", tokens=tmp_path / "tokens.json") as (node, _, api):
        client = sidecar_client.connect(api.target, token=secret)
        shared = Sharing(node, client)
        await shared.open(1)  # one call and one stream, as a call of its own
        await shared.say({"stream": 2, "open": {"peer_id": OTHER_TEXT, "protocols": [ECHO, "/other/1"]}})
        assert (await shared.failure(2)).code == Code.PERMISSION_DENIED
        await shared.open(3)
        await shared.say({"stream": 4, "open": OPENING})
        refused = await shared.failure(4)
        assert (refused.code, "quota of 2 streams" in refused.message) == (Code.RESOURCE_EXHAUSTED, True)
        await shared.say({"stream": 1, "reset": True})
        await shared.open(5)
        await shared.say({"stream": 5, "reset": True}, {"stream": 6, "open": OPENING})
        refused = await shared.failure(6)
        assert (refused.code, "4/h calls" in refused.message) == (Code.RESOURCE_EXHAUSTED, True)
        shared.call.cancel()
        await client.close()
