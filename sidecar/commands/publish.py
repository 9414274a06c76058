"""`sidecar publish`."""

import argparse
import asyncio
from collections.abc import AsyncIterator

from sidecar_client import Client, PermissionDenied, PublishOutcome, PublishReceipts, Signing

from .client import FAILED, NOT_IN_TIME, Output, add_client_flags, message_bytes, talk
from .settings import USAGE_WRONG, complain
from .stdin import lines

# What each outcome means, and what to do about it.
MEANING = {
    PublishOutcome.SENT: "on its way",
    PublishOutcome.NO_PEERS: "no connected peer, or too few, subscribe to the topic now",
    PublishOutcome.QUEUE_FULL: "the peers do not keep up; try again in a moment",
    PublishOutcome.TOO_LARGE: "the message is over the bound (gossip.max_message)",
    PublishOutcome.DUPLICATE: "the same data has been published already",
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
        complain("give a message, or --lines and the messages on standard input")
        return USAGE_WRONG

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
        if (
            receipt.outcome is PublishOutcome.NO_PEERS
            and not options.peers
            and (apps := await _here(client, options.topic))
        ):
            out.record(
                fields | {"local_subscribers": apps},
                f"{name}: {apps} subscription{'s' * (apps > 1)} at this sidecar got it; no other node subscribes yet",
            )
            return 0
        dropped = f", dropped for {receipt.dropped}" if receipt.dropped else ""
        out.record(fields, f"{name}: {MEANING.get(receipt.outcome, '')}; sent to {receipt.peers} peers{dropped}")
        return 0 if receipt.outcome is PublishOutcome.SENT else FAILED

    return talk(options, conversation)


async def _here(client: Client, topic: str) -> int:
    """How many subscriptions of apps at this sidecar the topic has; 0 where that may not be known."""
    try:
        return sum(known.subscribers for known in await client.topics() if known.name == topic)
    except PermissionDenied:
        return 0


async def _lines(client: Client, out: Output, options: argparse.Namespace, signing: Signing, patience: float) -> int:
    """Publish standard input line by line, in batches of what is there at once; each has `patience` seconds."""
    failed = False
    waiting = 0
    now = asyncio.get_running_loop().time

    async def counted() -> AsyncIterator[bytes]:
        nonlocal waiting
        async for line in lines():
            if not waiting:
                limit.reschedule(now() + patience)
            waiting += 1
            yield line

    def show(receipts: PublishReceipts) -> None:
        nonlocal failed, waiting
        waiting -= receipts.count
        limit.reschedule(now() + patience if waiting else None)
        failed = failed or receipts.outcome is not PublishOutcome.SENT
        name, last = receipts.outcome.name, receipts.first + receipts.count - 1
        fields = {
            "first": receipts.first,
            "count": receipts.count,
            "outcome": name,
            "peers": receipts.peers,
            "dropped": receipts.dropped,
        }
        out.record(fields, f"messages {receipts.first} to {last}: {name}, sent to {receipts.peers} peers")

    try:
        async with asyncio.timeout(None) as limit:
            await client.publish_many(
                options.topic, counted(), signing=signing, minimum_peers=options.peers, on_receipts=show
            )
    except TimeoutError:
        complain(f"no receipt within {patience:g} seconds for {waiting} messages; --timeout allows more")
        return NOT_IN_TIME
    return FAILED if failed else 0
