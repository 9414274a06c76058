"""Topics that are kept on disk, by real sidecars that are killed meanwhile."""

import asyncio
from pathlib import Path

import sidecar_client
from sidecar_client import Client, Subscription
from sidecar_client.v1 import pubsub_pb2

from .processes import PATIENCE, Process, running

TOPIC = "news"
KEPT = ("--history-topics", TOPIC)


def connected(sidecar: Process) -> Client:
    return sidecar_client.connect(f"unix:{sidecar.socket}", wait=PATIENCE)


async def stored(client: Client, count: int) -> None:
    """Wait until so many messages of the topic are on disk."""
    while True:
        response = await client._pubsub.ListTopics(pubsub_pb2.ListTopicsRequest())
        if response.topics and response.topics[0].stored_messages >= count:
            return


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
                response = await client._pubsub.ListTopics(pubsub_pb2.ListTopicsRequest())
                (topic,) = response.topics
                assert topic.history == pubsub_pb2.HISTORY_STATE_KEPT
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
