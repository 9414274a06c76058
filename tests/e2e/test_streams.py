"""Byte streams between apps of two real sidecars: many, large, slow, and cut off."""

import asyncio
import contextlib
import functools
import hashlib
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
import sidecar_client
from sidecar_client import ByteStream, Client

from .processes import PATIENCE, Process, environment, running_pair

PROTOCOL = "/test/1"
MANY = 500
LARGE = 100 * 1000 * 1000
BLOCK = hashlib.shake_128(b"block").digest(200_000)

Pair = tuple[Process, Process]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    place = tmp_path_factory.mktemp("streams")
    with running_pair(place) as (first, second):
        yield first, second


def asynchronous(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    @functools.wraps(test)
    def run(pair: Pair) -> None:
        async def bounded() -> None:
            async with asyncio.timeout(4 * PATIENCE):
                await test(pair)

        asyncio.run(bounded())

    return run


@contextlib.asynccontextmanager
async def apps(pair: Pair) -> AsyncIterator[tuple[Client, Client, str]]:
    """An app of each sidecar, and the second one's peer id."""
    first, second = (sidecar_client.connect(f"unix:{sidecar.socket}") for sidecar in pair)
    async with first as one, second as other:
        yield one, other, (await other.info()).peer_id


async def echo(stream: ByteStream) -> None:
    async with stream:
        async for chunk in stream:
            await stream.write(chunk)


@contextlib.asynccontextmanager
async def answering(client: Client, answer: Callable[[ByteStream], Coroutine[Any, Any, None]]) -> AsyncIterator[None]:
    async with client.accept_streams(PROTOCOL) as streams, asyncio.TaskGroup() as group:

        async def accept() -> None:
            async for stream in streams:
                group.create_task(answer(stream))

        accepting = group.create_task(accept())
        try:
            yield
        finally:
            accepting.cancel()


def resident(sidecar: Process) -> int:
    """Bytes of memory of a sidecar."""
    for line in Path(f"/proc/{sidecar.popen.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no VmRSS")


@asynchronous
async def test_many_streams_are_open_at_once(pair: Pair) -> None:
    async with apps(pair) as (first, second, second_id), answering(second, echo):
        barrier = asyncio.Barrier(MANY)

        async def once(number: int) -> None:
            async with first.open_stream(second_id, PROTOCOL) as stream:
                await stream.write(b"%d" % number)
                assert await stream.readexactly(len(b"%d" % number)) == b"%d" % number
                await barrier.wait()  # all are open
                await stream.close_write()
                assert await stream.read() == b""

        await asyncio.gather(*map(once, range(MANY)))
        while (await first.statistics())["byte_streams"] or (await second.statistics())["byte_streams"]:
            await first.ping_peer(second_id)


@asynchronous
async def test_large_ones_arrive_whole_both_ways_at_once(pair: Pair) -> None:
    digests = []

    async def send(stream: ByteStream) -> None:
        for _ in range(LARGE // len(BLOCK)):
            await stream.write(BLOCK)
        await stream.close_write()

    async def receive(stream: ByteStream) -> None:
        digest, size = hashlib.sha256(), 0
        async for chunk in stream:
            digest.update(chunk)
            size += len(chunk)
        digests.append((size, digest.digest()))

    async def both(stream: ByteStream) -> None:
        async with stream:
            await asyncio.gather(send(stream), receive(stream))

    async with apps(pair) as (first, second, second_id), answering(second, both):
        await both(first.open_stream(second_id, PROTOCOL))
        while len(digests) < 2:
            await first.ping_peer(second_id)
    assert digests == [(LARGE, hashlib.sha256(BLOCK * (LARGE // len(BLOCK))).digest())] * 2


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc, which Linux has")
@asynchronous
async def test_a_slow_reader_stops_the_writer_and_fills_no_memory(pair: Pair) -> None:
    async with apps(pair) as (first, second, second_id), second.accept_streams(PROTOCOL) as streams:
        arriving = aiter(streams)
        async with first.open_stream(second_id, PROTOCOL) as stream, await anext(arriving) as there:
            before = [resident(sidecar) for sidecar in pair]
            written = 0

            async def write() -> None:
                nonlocal written
                for _ in range(LARGE // len(BLOCK)):
                    await stream.write(BLOCK)
                    written += len(BLOCK)
                await stream.close_write()

            writing = asyncio.create_task(write())
            last = -1
            while last != written:  # what stands still while the connection carries pings has come to a bound
                last = written
                for _ in range(100):
                    await first.ping_peer(second_id)
            assert 256 * 1024 < written < 10 << 20
            for sidecar, memory in zip(pair, before, strict=True):
                assert resident(sidecar) - memory < 32 << 20
            assert len(await there.read()) == LARGE
            await writing


@asynchronous
async def test_an_app_that_is_killed_leaves_a_reset_not_an_end(pair: Pair) -> None:
    async with apps(pair) as (_, second, second_id), second.accept_streams(PROTOCOL) as streams:
        app = f"""
import asyncio, sys, sidecar_client
async def main():
    async with sidecar_client.connect({str(pair[0].socket)!r}) as node:
        async with node.open_stream({second_id!r}, {PROTOCOL!r}) as stream:
            await stream.write(b"half a mess")
            await asyncio.Event().wait()
asyncio.run(main())
"""
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", app, env=environment(pair[0].home))
        async with await anext(aiter(streams)) as stream:
            assert await stream.readexactly(11) == b"half a mess"
            process.kill()
            with pytest.raises(sidecar_client.StreamReset):
                await stream.read(1)
        await process.wait()


def test_a_sidecar_that_is_killed_ends_its_streams(tmp_path: Path) -> None:
    async def check(first: Process, second: Process) -> None:
        async with apps((first, second)) as (one, other, other_id), other.accept_streams(PROTOCOL) as streams:
            arriving = aiter(streams)
            async with one.open_stream(other_id, PROTOCOL) as stream, await anext(arriving) as there:
                second.popen.kill()
                with pytest.raises(sidecar_client.Closed):
                    await stream.read(1)
                with pytest.raises(sidecar_client.SidecarUnavailable):
                    await there.read(1)

    with running_pair(tmp_path) as (first, second):
        asyncio.run(asyncio.wait_for(check(first, second), PATIENCE))
