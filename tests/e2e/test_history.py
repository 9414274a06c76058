"""Topics that are kept on disk, by real sidecars that are killed meanwhile, or have no room."""

import asyncio
import json
import time
from pathlib import Path

import sidecar_client
from sidecar_client import Client, HistoryState, Subscription

from .full_disk import fill
from .processes import PATIENCE, Process, running

TOPIC = "news"
KEPT = ("--history-topics", TOPIC)


def connected(sidecar: Process) -> Client:
    return sidecar_client.connect(f"unix:{sidecar.socket}", wait=PATIENCE)


async def the_topic(client: Client) -> sidecar_client.Topic:
    return next(topic for topic in await client.topics() if topic.name == TOPIC)


async def stored(client: Client, count: int) -> None:
    """Wait until so many messages of the topic are on disk."""
    while (await the_topic(client)).stored_messages < count:
        pass


async def read(subscription: Subscription, count: int) -> list[sidecar_client.Message]:
    found: list[sidecar_client.Message] = []
    async for message in subscription:
        found.append(message)
        if len(found) == count:
            break
    return found


def numbers(first: int, behind: int) -> list[bytes]:
    return [b"%06d" % number for number in range(first, behind)]


def test_a_subscriber_resumes_by_its_cursor_at_a_sidecar_that_was_killed(tmp_path: Path) -> None:
    asyncio.run(_killed(tmp_path))


async def _killed(tmp_path: Path) -> None:
    home = tmp_path / "1"
    async with asyncio.timeout(4 * PATIENCE):
        with running(home, *KEPT) as sidecar:
            sidecar.line("  address")
            async with connected(sidecar) as client:
                async with client.subscribe(TOPIC) as subscription:
                    await client.publish_many(TOPIC, numbers(0, 2000))
                    before = await read(subscription, 2000)
                assert [message.data for message in before] == numbers(0, 2000)
                await stored(client, 2000)
                published = asyncio.create_task(client.publish_many(TOPIC, numbers(2000, 102_000)))
                await stored(client, 4000)
                sidecar.popen.kill()
                await asyncio.wait([published])
        with running(home, *KEPT) as sidecar:
            sidecar.line("  address")
            async with connected(sidecar) as client:
                topic = await the_topic(client)
                assert topic.history is HistoryState.KEPT
                assert topic.subscribed
                kept = topic.stored_messages
                assert kept >= 4000
                async with client.subscribe(TOPIC, cursor=before[999].cursor) as subscription:
                    await client.publish_many(TOPIC, numbers(500_000, 500_100))
                    after = await read(subscription, kept - 1000 + 100)
                datas = [message.data for message in after]
                assert datas == [*numbers(1000, kept), *numbers(500_000, 500_100)]
                assert [message.cursor for message in after[:1000]] == [message.cursor for message in before[1000:]]
                assert [message.message_id for message in after[:1000]] == [each.message_id for each in before[1000:]]


def test_with_a_second_sidecar_nothing_is_lost(tmp_path: Path) -> None:
    asyncio.run(_backfilled(tmp_path))


async def _backfilled(tmp_path: Path) -> None:
    async with asyncio.timeout(4 * PATIENCE):
        with running(tmp_path / "1", *KEPT) as first:
            address = first.line("  address").split()[-1]
            with running(tmp_path / "2", *KEPT, "--bootstrap", address) as second:
                second.line("Ready after")
                async with connected(first) as publisher, connected(second) as client:
                    async with client.subscribe(TOPIC) as subscription:
                        await publisher.publish_many(TOPIC, numbers(0, 500), minimum_peers=1)
                        before = await read(subscription, 500)
                    await stored(client, 500)
                    published = asyncio.create_task(publisher.publish_many(TOPIC, numbers(500, 10_000)))
                    await stored(client, 1000)
                    second.popen.kill()
                    await published
            with running(tmp_path / "2", *KEPT, "--bootstrap", address) as second:
                second.line("  address")
                async with connected(second) as client:
                    async with client.subscribe(TOPIC, cursor=before[99].cursor) as subscription:
                        after = await read(subscription, 9900)
                    assert sorted(message.data for message in after) == numbers(100, 10_000)
                    brought = [message.data for message in after if message.history]
                    assert brought
                    await stored(client, 10_000)
                    topic = await the_topic(client)
                    # What is younger than some seconds is compared later.
                    while topic.complete_until is None or topic.complete_until < after[0].receive_time:
                        topic = await the_topic(client)
                    assert topic.complete_since is not None
                    assert topic.complete_since <= after[0].receive_time <= topic.complete_until


def test_a_full_disk_stops_nobody_and_what_it_misses_is_told(tmp_path: Path, small_disk: Path) -> None:
    asyncio.run(_full(tmp_path, small_disk))


async def _full(tmp_path: Path, disk: Path) -> None:
    async with asyncio.timeout(4 * PATIENCE):
        with running(tmp_path / "1", "--state", str(disk / "state"), *KEPT) as sidecar:
            sidecar.line("Ready after")
            async with connected(sidecar) as client:
                async with client.subscribe(TOPIC) as subscription:
                    await client.publish_many(TOPIC, numbers(0, 20))
                    before = await read(subscription, 20)
                    await stored(client, 20)
                    fill(disk)
                    await client.publish_many(TOPIC, numbers(20, 200))
                    assert [message.data for message in await read(subscription, 180)] == numbers(20, 200)
                    while (await the_topic(client)).history is HistoryState.KEPT:
                        pass
                    assert "KeepingHistory" in sidecar.command("status").stdout
                    (disk / "rest").unlink()
                    while (await the_topic(client)).history is HistoryState.REFUSED:
                        pass
                    await stored(client, 200)
                async with client.subscribe(TOPIC, cursor=before[9].cursor) as subscription:
                    assert [message.data for message in await read(subscription, 190)] == numbers(10, 200)
            assert sidecar.log().count("topic history cannot be kept") == 1


def test_the_command_line_reads_what_was(tmp_path: Path) -> None:
    with running(tmp_path / "1", *KEPT) as sidecar:
        sidecar.line("  address")
        for number in range(3):
            assert "NO_PEERS" in sidecar.command("publish", TOPIC, str(number)).stdout
        for start in (("--from-beginning",), ("--since", "1h")):
            found = sidecar.command("subscribe", TOPIC, *start, "--count", "3", "--json").stdout.splitlines()
            assert [json.loads(line)["text"] for line in found[-3:]] == ["0", "1", "2"]
            assert time.time() - 600 < json.loads(found[-1])["receive_time"] <= time.time()
        assert "; 3 on disk since 20" in sidecar.command("topics").stdout
        assert json.loads(sidecar.command("topics", "--json").stdout)["history"] == "KEPT"
        assert (
            "--since: not allowed with"
            in sidecar.command("subscribe", TOPIC, "--from-beginning", "--since", "1h").stderr
        )
