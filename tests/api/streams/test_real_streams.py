"""Byte streams from app to app: clients, servers, drivers and node machines over loopback, nothing faked."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import sidecar_client
from sidecar_client import ByteStream, Client

from tests.api.fakes import asynchronous
from tests.api.test_real_nodes import sidecar

ECHO = "/test/echo/1"


@contextlib.asynccontextmanager
async def pair(directory: Path) -> AsyncIterator[tuple[Client, Client, str]]:
    """Two sidecars that know each other: both clients, and the second one's peer id."""
    async with contextlib.AsyncExitStack() as stack:
        first, address = await stack.enter_async_context(sidecar(directory, 1))
        second, _ = await stack.enter_async_context(sidecar(directory, 2, address))
        await second.ready(timeout=10)
        yield first, second, (await second.info()).peer_id


async def echo(stream: ByteStream) -> None:
    async with stream:
        async for chunk in stream:
            await stream.write(chunk)


@contextlib.asynccontextmanager
async def echoing(client: Client) -> AsyncIterator[None]:
    async with client.accept_streams(ECHO) as streams, asyncio.TaskGroup() as group:

        async def accept() -> None:
            async for stream in streams:
                group.create_task(echo(stream))

        accepting = group.create_task(accept())
        yield
        accepting.cancel()


@asynchronous
async def test_what_is_written_comes_back_behind_our_end(tmp_path: Path) -> None:
    async with pair(tmp_path) as (first, second, second_id), echoing(second):
        async with first.open_stream(second_id, ["/nobody/1", ECHO]) as stream:
            assert (stream.peer_id, stream.protocol) == (second_id, ECHO)
            await stream.write(b"hello")
            assert await stream.readexactly(5) == b"hello"
            data = bytes(range(256)) * 20_000  # several windows
            writing = asyncio.create_task(stream.write(data))
            assert await stream.readexactly(len(data)) == data
            await writing
            await stream.write(b"last words")
            await stream.close_write()
            assert await stream.read() == b"last words"
            assert stream.at_end
            with pytest.raises(ValueError, match="closed"):
                await stream.write(b"more")
        with pytest.raises(sidecar_client.NotSupported):
            async with first.open_stream(second_id, "/nobody/1"):
                pass


@asynchronous
async def test_a_reset_is_seen_as_one_at_both_sides(tmp_path: Path) -> None:
    async with pair(tmp_path) as (first, second, second_id), second.accept_streams(ECHO) as streams:
        arriving = aiter(streams)
        stream = first.open_stream(second_id, ECHO)
        async with stream, await anext(arriving) as there:
            await stream.write(b"x")
            assert await there.read(1) == b"x"
            stream.reset()
            with pytest.raises(sidecar_client.StreamReset):
                await there.read(1)
            with pytest.raises(sidecar_client.Closed):
                await stream.read(1)
        stream = first.open_stream(second_id, ECHO)
        async with stream:
            with pytest.raises(RuntimeError):
                async with await anext(arriving):
                    raise RuntimeError("the app fails")
            with pytest.raises(sidecar_client.StreamReset):
                await write_on(stream)


async def write_on(stream: ByteStream) -> None:
    while True:
        await stream.write(bytes(1000))


@asynchronous
async def test_what_came_before_a_reset_can_still_be_read(tmp_path: Path) -> None:
    async with pair(tmp_path) as (first, second, second_id), second.accept_streams(ECHO) as streams:
        arriving = aiter(streams)
        async with first.open_stream(second_id, ECHO) as stream, await anext(arriving) as there:
            await stream.write(b"first")
            assert await there.read(2) == b"fi"
            stream.reset()
            assert await there.readexactly(3) == b"rst"
            with pytest.raises(sidecar_client.StreamReset, match="reset"):
                await there.read(1)


@asynchronous
async def test_half_closing_leaves_the_other_direction_open(tmp_path: Path) -> None:
    async with pair(tmp_path) as (first, second, second_id), second.accept_streams(ECHO) as streams:
        arriving = aiter(streams)
        async with first.open_stream(second_id, ECHO) as stream, await anext(arriving) as there:
            await stream.write(b"question")
            await stream.close_write()
            assert await there.read() == b"question"
            await there.write(b"answer")
            assert await stream.read(100) == b"answer"
            with pytest.raises(asyncio.IncompleteReadError) as caught:
                await asyncio.gather(stream.readexactly(10), finish(there))
            assert caught.value.partial == b"end"


async def finish(stream: ByteStream) -> None:
    await stream.write(b"end")
    await stream.close_write()


@asynchronous
async def test_a_lost_connection_ends_its_streams(tmp_path: Path) -> None:
    async with pair(tmp_path) as (first, second, second_id), second.accept_streams(ECHO) as streams:
        arriving = aiter(streams)
        stream = first.open_stream(second_id, ECHO)
        async with stream, await anext(arriving) as there:
            await first.disconnect_peer(second_id)
            for one in (stream, there):
                with pytest.raises(sidecar_client.SidecarError) as caught:
                    await one.read(1)
                assert type(caught.value) is sidecar_client.Closed, caught.value


@asynchronous
async def test_accepted_protocols_are_shown_to_peers_and_taken_back(tmp_path: Path) -> None:
    async with pair(tmp_path) as (first, second, second_id), contextlib.aclosing(first.watch_peers()) as watching:

        async def until(shown: bool) -> None:
            async for event in watching:
                peer = event.peer
                if peer is not None and peer.peer_id == second_id and (ECHO in peer.protocols) is shown:
                    return

        await until(False)
        async with second.accept_streams(ECHO):
            await until(True)
            with pytest.raises(sidecar_client.AlreadyExists):
                async with second.accept_streams(["/other/1", ECHO]):
                    pass
            for taken in ("/meshsub/1.1.0", "/ipfs/id/1.0.0", "/ipfs/ping/1.0.0", "/sidecar/test/direct/1"):
                with pytest.raises(sidecar_client.InvalidArgument):
                    async with second.accept_streams(taken):
                        pass
        await until(False)


@asynchronous
async def test_a_reader_that_does_not_read_stops_the_writer(tmp_path: Path) -> None:
    async with pair(tmp_path) as (first, second, second_id), second.accept_streams(ECHO) as streams:
        arriving = aiter(streams)
        async with first.open_stream(second_id, ECHO) as stream, await anext(arriving) as there:
            written = 0
            piece = bytes(64 * 1024)

            async def write() -> None:
                nonlocal written
                for _ in range(1000):  # 64 MB
                    await stream.write(piece)
                    written += len(piece)
                await stream.close_write()

            writing = asyncio.create_task(write())
            # What stands still while others use the same connection has come to a bound.
            last = -1
            while last != written:
                last = written
                for _ in range(50):
                    await first.ping_peer(second_id)
            assert 256 * 1024 < written < 8 << 20
            assert len(await there.read()) == 1000 * len(piece)
            await writing


@asynchronous
async def test_streams_that_nobody_takes_up_are_reset(tmp_path: Path) -> None:
    async with pair(tmp_path) as (first, second, second_id):
        stream = first.open_stream(second_id, ECHO)
        async with second.accept_streams(ECHO):
            await stream.__aenter__()
        with pytest.raises(sidecar_client.StreamReset):
            await stream.read()
        # A stream that is cancelled while it is opened leaves nothing behind.
        async with second.accept_streams(ECHO):
            opening = [asyncio.create_task(first.open_stream(second_id, ECHO).__aenter__()) for _ in range(20)]
            await first.info()
            for task in opening:
                task.cancel()
            await asyncio.wait(opening)
        while (await first.statistics())["byte_streams"] or (await second.statistics())["byte_streams"]:
            await first.ping_peer(second_id)
        assert (await first.statistics())["api_byte_streams"] == 0


@asynchronous
async def test_many_streams_at_once(tmp_path: Path) -> None:
    async with pair(tmp_path) as (first, second, second_id), echoing(second):

        async def once(number: int) -> None:
            async with first.open_stream(second_id, ECHO) as stream:
                await stream.write(b"%d" % number)
                await stream.close_write()
                assert await stream.read() == b"%d" % number

        await asyncio.gather(*(once(number) for number in range(200)))
