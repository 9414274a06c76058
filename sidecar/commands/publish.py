"""`sidecar publish`."""

import argparse
import asyncio
from collections.abc import AsyncIterator

from sidecar_client import Client, PublishOutcome, PublishReceipts, SidecarError, Signing

from ..board.words import count
from .common.client import Output, add_client_flags, message_bytes, talk
from .common.exit_codes import FAILED, NOT_IN_TIME, USAGE_WRONG
from .common.said import failed
from .common.stdin import lines

_PATIENCE = 5.0  # seconds for the answer to who subscribes here
_TOLD = 1.0  # seconds for a reader to take what is still to be told after a failure

# What each outcome means, and what to do about it.
MEANING = {
    PublishOutcome.SENT: "on its way",
    PublishOutcome.NO_PEERS: "no connected peer, or too few, subscribe to the topic now",
    PublishOutcome.QUEUE_FULL: "the peers do not keep up; try again in a moment",
    PublishOutcome.TOO_LARGE: "the message is over the bound (gossip.max_message)",
    PublishOutcome.DUPLICATE: "the same data has been published already",
    PublishOutcome.REJECTED: "a rule of the topic, or an app that judges its messages, did not accept it",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("topic", metavar="TOPIC", help="the topic")
    parser.add_argument("message", metavar="MESSAGE", nargs="*", help="the message; - reads it from standard input")
    parser.add_argument("--lines", action="store_true", help="publish each line of standard input as a message")
    parser.add_argument("--unsigned", action="store_true", help="the topic's messages carry no sender or signature")
    parser.add_argument("--peers", type=int, default=0, metavar="N", help="wait until N peers subscribe to the topic")
    add_client_flags(parser)
    parser.epilog = "exit code: 0 when at least one peer, or a subscription at this sidecar, got it, else 1"


def run(options: argparse.Namespace) -> int:
    signing = Signing.STRICT_NO_SIGN if options.unsigned else Signing.UNSPECIFIED
    if options.lines == bool(options.message):
        return failed(USAGE_WRONG, "give a message, or --lines and the messages on standard input")

    patience: float = options.timeout
    if options.lines:
        options.timeout = None  # input may come for days; what waits is the answer to it

    async def conversation(client: Client, out: Output) -> int:
        if options.lines:
            return await _lines(client, out, options, signing, patience)
        data = await message_bytes(options.message)
        receipt = await client.publish(options.topic, data, signing=signing, minimum_peers=options.peers)
        name = receipt.outcome.name
        fields = {
            "outcome": name,
            "message_id": receipt.message_id.hex(),
            "peers": receipt.peers,
            "dropped": receipt.dropped,
        }
        alone = receipt.outcome is PublishOutcome.NO_PEERS and not options.peers
        if alone and (apps := await _here(client, options.topic)):
            await out.record(fields | {"local_subscribers": apps}, f"{name}: {_got_it(apps)}")
            return 0
        dropped = f", dropped for {receipt.dropped}" if receipt.dropped else ""
        await out.record(
            fields, f"{name}: {MEANING.get(receipt.outcome, '')}; sent to {count(receipt.peers, 'peers')}{dropped}"
        )
        return 0 if receipt.outcome is PublishOutcome.SENT else FAILED

    return talk(options, conversation)


async def _here(client: Client, topic: str) -> int:
    """How many subscriptions of apps at this sidecar the topic has; 0 where that cannot be known."""
    try:
        return sum(known.subscribers for known in await client.topics(timeout=_PATIENCE) if known.name == topic)
    except SidecarError:
        return 0


def _got_it(apps: int) -> str:
    return f"{count(apps, 'subscriptions')} at this sidecar got it; no other node subscribes yet"


async def _lines(client: Client, out: Output, options: argparse.Namespace, signing: Signing, patience: float) -> int:
    """Publish standard input line by line, in batches of what is there at once; each has `patience` seconds."""
    waiting = 0
    now = asyncio.get_running_loop().time
    arrived: asyncio.Queue[PublishReceipts | None] = asyncio.Queue()

    async def publish() -> None:
        try:
            async with asyncio.timeout(None) as limit:

                async def counted() -> AsyncIterator[bytes]:
                    nonlocal waiting
                    async for line in lines():
                        if not waiting:
                            limit.reschedule(now() + patience)
                        waiting += 1
                        yield line

                def take(receipts: PublishReceipts) -> None:
                    nonlocal waiting
                    waiting -= receipts.count
                    limit.reschedule(now() + patience if waiting else None)
                    arrived.put_nowait(receipts)

                await client.publish_many(
                    options.topic, counted(), signing=signing, minimum_peers=options.peers, on_receipts=take
                )
        finally:
            arrived.put_nowait(None)

    publishing, telling = asyncio.create_task(publish()), asyncio.create_task(_tell(client, out, options, arrived))
    try:
        _, all_got_it = await asyncio.gather(publishing, telling)
    except TimeoutError:
        text = f"no receipt within {patience:g} seconds for {count(waiting, 'messages')}; --timeout allows more"
        return await out.failed(NOT_IN_TIME, text, reason="DEADLINE_EXCEEDED")
    finally:
        publishing.cancel()  # where nobody reads the output any more
        await asyncio.wait((publishing, telling), timeout=_TOLD)  # all receipts that have come are told first
        telling.cancel()
    return 0 if all_got_it else FAILED


async def _tell(
    client: Client, out: Output, options: argparse.Namespace, arrived: asyncio.Queue[PublishReceipts | None]
) -> bool:
    """Print receipts as they come, until None; returns whether each message got to somebody."""
    good = True
    while True:
        burst = [await arrived.get()]
        while not arrived.empty():
            burst.append(arrived.get_nowait())
        alone = not options.peers and any(one and one.outcome is PublishOutcome.NO_PEERS for one in burst)
        apps = await _here(client, options.topic) if alone else 0
        for receipts in burst:
            if receipts is None:
                return good
            name, last = receipts.outcome.name, receipts.first + receipts.count - 1
            fields = {
                "first": receipts.first,
                "count": receipts.count,
                "outcome": name,
                "peers": receipts.peers,
                "dropped": receipts.dropped,
            }
            which = f"messages {receipts.first} to {last}" if receipts.count > 1 else f"message {last}"
            result = f"sent to {count(receipts.peers, 'peers')}"
            if apps and receipts.outcome is PublishOutcome.NO_PEERS:
                fields["local_subscribers"] = apps
                result = _got_it(apps)
            elif receipts.outcome is not PublishOutcome.SENT:
                good = False
            await out.record(fields, f"{which}: {name}, {result}")
