"""What the tests of the clients' READMEs share: each snippet is a process at one of two real sidecars."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest
import sidecar_client

from tests.e2e.processes import PATIENCE, Process, environment, running_pair


class Pair(NamedTuple):
    """Two sidecars, the second joined through the first, and their ids. Snippets run at the first."""

    first: Process
    first_id: str
    second: Process
    second_id: str


@contextlib.contextmanager
def pair_of_sidecars(place: Path) -> Iterator[Pair]:
    """Start them; killed at the end."""
    with running_pair(place) as (first, second):
        yield Pair(first, first.json("id")["peer_id"], second, second.json("id")["peer_id"])


class Running:
    """A snippet's process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def line(self) -> str:
        assert self.process.stdout is not None
        line = await self.process.stdout.readline()
        if not line:
            assert self.process.stderr is not None
            raise AssertionError((await self.process.stderr.read()).decode())
        return line.decode().rstrip("\n")

    async def ended(self) -> str:
        """What else it prints; it must end in order."""
        out, err = await self.process.communicate()
        assert (self.process.returncode, err) == (0, b"")
        return out.decode()


@contextlib.asynccontextmanager
async def running_snippet(
    pair: Pair, *command: str, environ: Mapping[str, str] | None = None
) -> AsyncIterator[Running]:
    """Run a command at the first sidecar; killed at the end if it still runs."""
    process = await asyncio.create_subprocess_exec(
        *command,
        env={**environment(pair.first.home), "SIDECAR_API": str(pair.first.socket), **(environ or {})},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield Running(process)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


async def subscribed(pair: Pair, topic: str) -> None:
    """Wait until an app at the first sidecar subscribes. (A topic is left only a while after its last subscriber.)"""
    async with sidecar_client.connect(str(pair.first.socket)) as client:
        while not any(known.name == topic and known.subscribers for known in await client.topics()):
            pass


Case = Callable[[Pair, sidecar_client.Client], Awaitable[None]]


class Cases(dict[str, Case]):
    """What happens around each snippet, by a text that only that one has; the client is at the other sidecar."""

    def __call__(self, which: str) -> Callable[[Case], Case]:
        """Register a case."""

        def register(function: Case) -> Case:
            self[which] = function
            return function

        return register

    def check(self, snippets: list[str]) -> None:
        """Each snippet has its case."""
        for which in self:
            assert [which in text for text in snippets].count(True) == 1, which
        assert [text for text in snippets if not any(which in text for which in self)] == []

    def play(self, which: str, pair: Pair) -> None:
        """Play a case."""

        async def play() -> None:
            async with asyncio.timeout(PATIENCE), sidecar_client.connect(str(pair.second.socket)) as other:
                await self[which](pair, other)

        asyncio.run(play())


async def answers_the_time(pair: Pair, other: sidecar_client.Client) -> None:
    """The snippet at the first sidecar serves the clock, once it does; and nothing else."""
    while True:
        try:
            answer = await other.request(pair.first_id, "/clock/1", b"now?")
        except sidecar_client.NotSupported:
            continue
        assert answer.count(b":") == 2
        break
    with pytest.raises(sidecar_client.Refused, match="ask for the time"):
        await other.request(pair.first_id, "/clock/1", b"what?")


async def echoes(pair: Pair, other: sidecar_client.Client, data: bytes) -> None:
    """The snippet at the first sidecar echoes byte streams, once it accepts them."""
    while True:
        try:
            async with other.open_stream(pair.first_id, "/echo/1") as stream:
                await stream.write(data)
                await stream.close_write()
                assert await stream.read() == data
                return
        except sidecar_client.NotSupported:
            continue
