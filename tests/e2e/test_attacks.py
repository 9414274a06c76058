"""Attacks of `make attack` on real sidecars, small: honest messages all come, in order, and what is kept is bounded."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import sidecar_client

from bench.hostile import HOSTILE

from .processes import PATIENCE, Process, environment, running

TOPIC = "news"
Statistic = Callable[[str], Awaitable[float]]
FLAGS = ("--peers-target", "0", "--gossip-heartbeat-interval", "200ms", "--gossip-seen-ttl", "1s")


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Process, Process, str]]:
    """The attacked sidecar, an honest one, and the attacked one's address."""
    place = tmp_path_factory.mktemp("attacks")
    with running(place / "attacked", *FLAGS) as attacked, running(place / "honest", *FLAGS) as honest:
        address = attacked.line("  address").split()[-1]
        honest.line("  address")
        yield attacked, honest, address


class Attackers:
    """A process of `bench.hostile`; `said` is a queue of its lines."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def line(self, beginning: str) -> str:
        """The next line that begins so."""
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            text = line.decode().strip()
            if text.startswith(beginning):
                return text
        raise AssertionError(f"the attackers ended without {beginning!r}")

    async def end(self) -> str:
        """Have them end; how many had stayed."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        return await self.line("stayed")


@asynccontextmanager
async def attackers(home: Path, conduct: str, *arguments: str) -> AsyncIterator[Attackers]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.hostile", conduct, *arguments, "--topic", TOPIC,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment(home),
    )  # fmt: skip
    try:
        yield Attackers(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


class Honest:
    """An app that publishes and one that receives; `exchange` checks that all comes, once and in order."""

    def __init__(self, publisher: sidecar_client.Client, messages: AsyncIterator[sidecar_client.Message]) -> None:
        self._publisher = publisher
        self._messages = messages
        self._sent = 0
        self.hostile = 0

    async def exchange(self, count: int) -> None:
        for _ in range(count):
            await self._publisher.publish(TOPIC, b"%d" % self._sent, minimum_peers=1)
            while (got := (await anext(self._messages)).data).startswith(HOSTILE):
                self.hostile += 1
            assert got == b"%d" % self._sent
            self._sent += 1


@asynccontextmanager
async def apps(
    pair: tuple[Process, Process, str],
) -> AsyncIterator[tuple[Honest, Statistic]]:
    attacked, honest, address = pair
    async with (
        sidecar_client.connect(f"unix:{attacked.socket}") as victim,
        sidecar_client.connect(f"unix:{honest.socket}") as publisher,
        victim.subscribe(TOPIC) as subscription,
    ):

        async def statistic(name: str) -> float:
            return float((await victim.statistics())[name])

        await publisher.connect_peer(addresses=[address])
        messages = Honest(publisher, aiter(subscription))
        await messages.exchange(1)
        yield messages, statistic


def play(coroutine: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(coroutine, 2 * PATIENCE))


@pytest.mark.parametrize(("conduct", "peers"), [("forged", 4), ("forged-large", 4)])
def test_who_forges_is_sent_away_and_no_honest_message_is_lost(
    pair: tuple[Process, Process, str], conduct: str, peers: int
) -> None:
    attacked, _, address = pair

    async def attack() -> None:
        async with apps(pair) as (honest, statistic):
            before = await statistic("gossip_rejected_signature")
            async with attackers(attacked.home, conduct, address, "--peers", str(peers)) as hostile:
                await hostile.line("ready")

                async def gone() -> None:
                    for _ in range(peers):
                        await hostile.line("away")

                going = asyncio.create_task(gone())
                while not going.done():
                    await honest.exchange(1)
                    assert await statistic("gossip_pending_bytes") <= 32 << 20
                await going
                assert await hostile.end() == "stayed 0"
            await honest.exchange(10)
            assert honest.hostile == 0
            assert await statistic("gossip_rejected_signature") > before
            assert await statistic("gossip_pending_messages") == 0

    play(attack())


@pytest.mark.parametrize("conduct", ["valid", "huge"])
def test_who_publishes_without_end_keeps_nobody_from_being_heard(
    pair: tuple[Process, Process, str], conduct: str
) -> None:
    attacked, _, address = pair

    async def attack() -> None:
        async with apps(pair) as (honest, statistic):
            async with attackers(attacked.home, conduct, address, "--ahead", "3000") as hostile:
                await hostile.line("ready")
                while honest.hostile < (500 if conduct == "valid" else 10):
                    await honest.exchange(1)
                    assert await statistic("gossip_pending_bytes") <= 32 << 20
                assert await hostile.end() == "stayed 1"  # it did nothing wrong
            await honest.exchange(10)

    play(attack())


def test_what_is_replayed_once_it_is_forgotten_comes_to_nobody(pair: tuple[Process, Process, str]) -> None:
    attacked, _, address = pair

    async def attack() -> None:
        async with apps(pair) as (honest, statistic):
            before = await statistic("gossip_ignored_replay")
            async with attackers(attacked.home, "replay", address, "--age", "2.5") as hostile:
                await hostile.line("ready")
                while await statistic("gossip_ignored_replay") == before:
                    await honest.exchange(1)  # a replay in between would be seen as one
                assert await hostile.end() == "stayed 1"
            await honest.exchange(10)

    play(attack())


def test_sybils_in_every_mesh_who_forward_nothing_hold_nothing_up(pair: tuple[Process, Process, str]) -> None:
    attacked, other, address = pair

    async def attack() -> None:
        async with (
            apps(pair) as (honest, _),
            sidecar_client.connect(f"unix:{attacked.socket}") as victim,
            sidecar_client.connect(f"unix:{other.socket}") as node,
            node.subscribe(TOPIC),  # so that it has a mesh as well
        ):
            addresses = [address, (await node.info()).listening_addresses[0]]
            async with attackers(attacked.home, "sybil", *addresses, "--peers", "14") as hostile:
                await hostile.line("ready")
                for one in (victim, node):
                    while len(next(each for each in await one.topics() if each.name == TOPIC).mesh_peer_ids) < 6:
                        await honest.exchange(1)
                await honest.exchange(100)
                await hostile.end()

    play(attack())


def test_a_victim_that_liars_name_is_dialled_a_few_times(pair: tuple[Process, Process, str]) -> None:
    attacked, _, address = pair

    async def attack() -> None:
        dials = 0

        def came(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal dials
            dials += 1
            writer.close()

        servers = [await asyncio.start_server(came, "127.0.0.1", 0) for _ in range(4)]
        named = [
            word
            for server in servers
            for word in ("--victim", f"/ip4/127.0.0.1/tcp/{server.sockets[0].getsockname()[1]}")
        ]
        async with (
            apps(pair) as (honest, _),
            sidecar_client.connect(f"unix:{attacked.socket}") as node,
            attackers(attacked.home, "dht-victim", address, *named) as hostile,
        ):
            await hostile.line("ready")
            for number in range(40):
                await node.closest_peers(b"key %d" % number)
                await honest.exchange(1)
            assert await hostile.end() == "stayed 1"
        assert 0 < dials <= 12, dials  # eight in vain at once, then one in thirty seconds; of 800 that were named
        for server in servers:
            server.close()

    play(attack())
