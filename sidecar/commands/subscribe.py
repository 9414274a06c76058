"""`sidecar subscribe`."""

import argparse
import time

from sidecar_client import Client, Message, Signing

from .ban import time_of
from .common.client import Output, add_client_flags, add_count, payload, some, talk


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("topics", metavar="TOPIC", nargs="+", help="the topics")
    parser.add_argument("--raw", action="store_true", help="write the payloads alone, one behind the other")
    parser.add_argument("--unsigned", action="store_true", help="the topics' messages carry no sender or signature")
    start = parser.add_mutually_exclusive_group()
    start.add_argument(
        "--since",
        type=time_of,
        metavar="TIME",
        help="begin with what was received in the last 5m, 1h or 7d, as far as it is kept",
    )
    start.add_argument("--from-beginning", action="store_true", help="begin with the oldest message that is kept")
    add_count(parser)
    add_client_flags(parser, timeout=False)


def run(options: argparse.Namespace) -> int:
    signing = Signing.STRICT_NO_SIGN if options.unsigned else Signing.UNSPECIFIED

    async def conversation(client: Client, out: Output) -> int:
        since = time.time() - options.since if options.since is not None else None
        async with client.subscribe(
            options.topics, signing=signing, start_time=since, from_beginning=options.from_beginning
        ) as messages:
            await out.listening(", ".join(options.topics))
            async for message in some(messages.events(), options.count, out):
                await show(out, message, raw=options.raw)
        return 0

    return talk(options, conversation)


async def show(out: Output, message: Message, *, raw: bool) -> None:
    """Print one message; `raw`: its bytes alone, as they are."""
    if raw:
        await out.raw(message.data)
        return
    fields = {
        "topic": message.topic,
        "sender": message.sender,
        "message_id": message.message_id.hex(),
        "local": message.local,
        "receive_time": message.receive_time,
        "history": message.history,
        **payload(message.data),
    }
    sender = message.sender or "(unsigned)"
    await out.content(fields, f"{message.topic}  {sender}  ", message.data)
