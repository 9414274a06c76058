"""Whoever reads may be cancelled at any moment, as a time-out does, or leave a loop: nothing is lost or told twice."""

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sidecar_client
from sidecar_client import ByteStream

from sidecar.core import direct, events, gossip, streams
from tests.api.fakes import (
    OTHER,
    OTHER_TEXT,
    FakeNode,
    Served,
    asynchronous,
    message,
    peer_view,
    served,
    server,
)
from tests.api.streams.test_services_streams import ECHO, NUMBER, opened

pytestmark = pytest.mark.usefixtures("each_client_engine")

CHAT = "/chat/1"


async def cancelled(waiting: Any, client: sidecar_client.Client) -> None:
    """Wait for something until the sidecar has seen the call, and give up then."""
    task = asyncio.ensure_future(waiting)
    await asyncio.sleep(0)  # it begins
    await client.info()
    assert not task.done()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def deliver(node: FakeNode, data: bytes) -> None:
    node.deliver(message(data))


def receive(node: FakeNode, data: bytes) -> None:
    number = int(data)
    node.on_news(direct.MessagesReceived(1, OTHER, CHAT, number, [data]))


@pytest.mark.parametrize("kind", ["subscribe", "receive"])
@pytest.mark.parametrize("way", ["messages", "events", "batches", "same"])
def test_a_reader_that_is_cancelled_reads_on(kind: str, way: str, tmp_path: Path) -> None:
    """With a new iterator each time, or the same all the time; before it is open, and later."""

    @asynchronous
    async def check() -> None:
        async with served(tmp_path) as (node, _, _, client):
            stream: Any = client.subscribe("news") if kind == "subscribe" else client.receive(CHAT)
            tell: Callable[[FakeNode, bytes], None] = deliver if kind == "subscribe" else receive
            same = aiter(stream)

            def step() -> Any:
                if way == "same":
                    return anext(same)
                if way == "batches":
                    return anext(stream.batches())
                return anext(stream.events() if way == "events" else aiter(stream))

            for round in range(4):
                await cancelled(step(), client)
                await cancelled(step(), client)
                tell(node, b"%d" % (2 * round))
                tell(node, b"%d" % (2 * round + 1))
                read: list[bytes] = []
                while len(read) < 2:
                    item = await step()
                    read += item.payloads() if way == "batches" else [item.data]
                assert read == [b"%d" % (2 * round), b"%d" % (2 * round + 1)]
            assert stream.missed == 0
            await stream.aclose()

    check()


@asynchronous
async def test_what_has_arrived_for_a_cancelled_reader_comes_next(tmp_path: Path) -> None:
    async with served(tmp_path) as (node, _, _, client), client.subscribe("news") as news:
        for number in range(20):
            task = asyncio.ensure_future(anext(aiter(news)))
            await asyncio.sleep(0)
            node.deliver(message(b"%d" % number))
            for _ in range(number):  # at every moment of the way
                await asyncio.sleep(0)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                assert (await task).data == b"%d" % number
                continue
            assert (await anext(aiter(news))).data == b"%d" % number


@asynchronous
async def test_who_waits_for_a_sidecar_may_be_cancelled(tmp_path: Path) -> None:
    """While the stream is being opened again, too."""
    path = tmp_path / "api.sock"
    async with server(path) as (node, _, api):
        client = await sidecar_client.connect(api.target).__aenter__()
        news = client.subscribe("news")
        messages = aiter(news)
        await cancelled(anext(messages), client)
        node.deliver(message(b"1"))
        assert (await anext(messages)).data == b"1"
    for _ in range(3):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await anext(messages)
    async with server(path) as (node, _, _):
        waiting = asyncio.ensure_future(anext(messages))
        await node.wait_for(gossip.TopicJoined)
        node.deliver(message(b"2"))
        assert (await waiting).data == b"2"
        await client.close()


@asynchronous
async def test_closing_ends_who_waits_with_a_typed_error(tmp_path: Path) -> None:
    async with served(tmp_path) as (_, _, _, client), client.subscribe("news") as news:
        waiting = asyncio.ensure_future(anext(aiter(news)))
        await asyncio.sleep(0)
        news.close()
        with pytest.raises(sidecar_client.Closed, match="was ended here"):
            await waiting


@asynchronous
async def test_watches_keep_what_they_have_read(tmp_path: Path) -> None:
    async with served(tmp_path) as (node, _, _, client):
        watching = client.watch_peers()
        while (await anext(watching)).type is not sidecar_client.PeerEventType.CURRENT:
            pass  # the present state, in one response
        for _ in range(3):
            await cancelled(anext(watching), client)
        node.on_news(events.PeerChanged(events.PeerChange.CONNECTED, peer_view()))
        event = await anext(watching)
        assert event.peer is not None
        assert event.peer.peer_id == OTHER_TEXT
        await watching.aclose()
        with pytest.raises(StopAsyncIteration):
            await anext(watching)


# ---------------------------------------------------------------- byte streams


def arrived(place: Served, data: bytes) -> None:
    place.node.on_news(streams.BytesArrived(NUMBER, data))


@asynchronous
async def test_a_loop_over_a_stream_may_be_left_and_mixed_with_reads(tmp_path: Path) -> None:
    async with served(tmp_path) as place, opened(place) as stream:
        async for chunk in stream:
            assert chunk == b"early"
            break
        arrived(place, b"header")
        arrived(place, b"rest")
        assert await stream.readexactly(6) == b"header"
        async for chunk in stream:
            assert chunk == b"rest"
            arrived(place, b"123456tail")
            assert await stream.readexactly(6) == b"123456"
            break
        place.node.on_news(streams.ReadEnded(NUMBER))
        assert [chunk async for chunk in stream] == [b"tail"]
        assert stream.at_end


@pytest.mark.parametrize("size", [-1, 1, 8])
def test_a_read_that_is_cancelled_loses_no_byte(size: int, tmp_path: Path) -> None:
    @asynchronous
    async def check() -> None:
        async with served(tmp_path) as place, opened(place) as stream:
            assert await stream.read(5) == b"early"

            def reading() -> Any:
                return stream.readexactly(8) if size == 8 else stream.read(size)

            await cancelled(reading(), place.client)
            if size != 1:
                arrived(place, b"1234")
                await cancelled(reading(), place.client)
                arrived(place, b"5678")
            else:
                arrived(place, b"1")
            if size < 0:
                place.node.on_news(streams.ReadEnded(NUMBER))
            assert await reading() == (b"1" if size == 1 else b"12345678")
            await cancelled(anext(aiter(stream)), place.client) if size >= 0 else None
            await stream.write(b"still open")

    check()


@asynchronous
async def test_streams_that_peers_open_are_all_handed_out(tmp_path: Path) -> None:
    """With a new iterator for each, and readers that are cancelled in between."""
    async with served(tmp_path) as (node, _, _, client), client.accept_streams(ECHO) as acceptor:
        await cancelled(anext(aiter(acceptor)), client)
        for number in range(6):
            node.on_news(streams.StreamArrived(number, OTHER, ECHO))
        taken: list[ByteStream] = []
        while len(taken) < 6:
            async for stream in acceptor:
                taken.append(stream)
                break
        assert [stream.peer_id for stream in taken] == [OTHER_TEXT] * 6
        assert len({id(stream._way) for stream in taken}) == 6
        await cancelled(anext(aiter(acceptor)), client)
