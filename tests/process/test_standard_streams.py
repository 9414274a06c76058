"""The writer of standard streams, before a reader that stops."""

import asyncio
import fcntl
import os
from collections.abc import Iterator

import pytest

from sidecar.commands.common.client import Output
from sidecar.process.standard_streams import Writer

from ..net.harness import one_loop

_ROOM = 4096  # bytes that the pipe takes
_MORE = b"x" * (3 * _ROOM)


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, _ROOM)
    with os.fdopen(reader, "rb"), os.fdopen(writer, "wb"):
        yield reader, writer


def read(descriptor: int, size: int) -> bytes:
    data = b""
    while len(data) < size:
        data += os.read(descriptor, size - len(data))
    return data


@one_loop
async def test_put_waits_for_its_reader_and_loses_nothing(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    standard = Writer(writer)
    puts = [asyncio.create_task(standard.put(data)) for data in (b"a", _MORE, b"b")]
    await puts[0]
    await asyncio.sleep(0)
    assert not puts[1].done()
    assert await asyncio.to_thread(read, reader, len(_MORE) + 2) == b"a" + _MORE + b"b"
    await asyncio.gather(*puts)


@one_loop
async def test_put_can_be_given_up_while_nobody_reads(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    standard = Writer(writer)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await standard.put(_MORE)
    await asyncio.to_thread(read, reader, len(_MORE))  # the thread ends its write, and tells nobody
    await standard.put(b"next")
    assert read(reader, 4) == b"next"


def test_put_raises_what_writing_did(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), reader)  # the pipe has no reader any more
    with pytest.raises(BrokenPipeError):
        asyncio.run(Output(as_json=False, standard_output=Writer(writer)).record({}, "a line"))


@one_loop
async def test_write_drops_what_nobody_reads_and_says_so(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    standard = Writer(writer)
    standard.write("1" * (1 << 20))
    standard.write("2")
    assert standard.lost == 1
    await asyncio.to_thread(read, reader, 1 << 20)
    await standard.put(b"")
    standard.write("3")
    said = b"(1 lines were lost here: nobody read them)\n3"
    assert await asyncio.to_thread(read, reader, len(said)) == said
