"""What a topic had before a sidecar came, got from another one that had it from a third."""

import asyncio
import contextlib
from collections import Counter
from pathlib import Path

import sidecar_client
from sidecar_client import Client, Message

from .processes import PATIENCE, Process, running

TOPIC = "news"
KEPT = ("--history-topics", TOPIC)
COUNT = 500


def connected(sidecar: Process) -> Client:
    return sidecar_client.connect(f"unix:{sidecar.socket}", wait=PATIENCE)


def joined(home: Path, *bootstrap: str) -> contextlib.AbstractContextManager[Process]:
    flags = [word for address in bootstrap for word in ("--bootstrap", address)]
    return running(home, *KEPT, *flags)


def address_of(sidecar: Process) -> str:
    return sidecar.line("  address").split()[-1]


async def from_the_beginning(client: Client, count: int = COUNT) -> list[Message]:
    found: list[Message] = []
    async with client.subscribe(TOPIC, from_beginning=True) as subscription:
        async for message in subscription:
            found.append(message)
            if len(found) == count:
                break
    return found


async def until_complete(client: Client, until: float) -> sidecar_client.Topic:
    """The topic, once a peer was found to have nothing more of what was said up to this time."""
    while True:
        (topic,) = [topic for topic in await client.topics() if topic.name == TOPIC]
        if topic.complete_until is not None and topic.complete_until >= until:
            return topic


def test_what_was_said_before_goes_from_one_to_the_next(tmp_path: Path) -> None:
    asyncio.run(_handed_on(tmp_path))


async def _handed_on(tmp_path: Path) -> None:
    async with asyncio.timeout(4 * PATIENCE):
        with joined(tmp_path / "1") as first:
            address = address_of(first)
            async with connected(first) as client:
                author = (await client.info()).peer_id
                said = [b"%06d" % number for number in range(COUNT)]
                await client.publish_many(TOPIC, said)
            with joined(tmp_path / "2", address) as second:
                async with connected(second) as client:
                    got = await from_the_beginning(client)
                    assert Counter(message.data for message in got) == Counter(said)
                    assert {(message.sender, message.history) for message in got} == {(author, True)}
                    topic = await until_complete(client, max(message.receive_time for message in got))
                    assert topic.stored_messages == COUNT
                first.popen.kill()
                with joined(tmp_path / "3", address_of(second)) as third:
                    async with connected(third) as client:
                        again = await from_the_beginning(client)
                        assert Counter(message.data for message in again) == Counter(said)
                        assert {(message.sender, message.history) for message in again} == {(author, True)}
