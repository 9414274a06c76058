"""`sidecar receive`."""

import argparse
import contextlib

from sidecar_client import Client, Request

from .common.client import Output, add_client_flags, add_count, payload, some, talk
from .common.exit_codes import USAGE_WRONG
from .common.said import failed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("protocol", metavar="PROTOCOL", help="a name that the other side sends to, such as /chat/1")
    parser.add_argument("--reply", metavar="TEXT", help="also answer requests of the protocol, all with TEXT")
    parser.add_argument(
        "--durable", action="store_true", help="durable messages instead, each acknowledged once it is printed"
    )
    add_count(parser)
    add_client_flags(parser, timeout=False)


def run(options: argparse.Namespace) -> int:
    if options.durable:
        if options.reply is not None:
            return failed(USAGE_WRONG, "--reply answers requests, which are not durable")
        return talk(options, lambda client, out: _receive_durable(client, out, options))

    async def conversation(client: Client, out: Output) -> int:
        async def answer(request: Request) -> bytes:
            fields = {"request": payload(request.data), "peer_id": request.peer_id}
            await out.content(fields, f"{request.peer_id} asks: ", request.data)
            return str(options.reply).encode()

        async with contextlib.AsyncExitStack() as streams:
            messages = await streams.enter_async_context(client.receive(options.protocol))
            if options.reply is not None:
                await streams.enter_async_context(client.serve(options.protocol, answer))
            await out.listening(options.protocol)
            async for message in some(messages.events(), options.count, out):
                fields = {"peer_id": message.peer_id, "protocol": message.protocol, **payload(message.data)}
                await out.content(fields, f"{message.peer_id}  ", message.data)
        return 0

    return talk(options, conversation)


async def _receive_durable(client: Client, out: Output, options: argparse.Namespace) -> int:
    async with client.receive_durable(options.protocol) as messages:
        await out.listening(f"durable {options.protocol}")
        left = options.count
        async for message in messages:
            fields = {
                "peer_id": message.peer_id,
                "protocol": message.protocol,
                "message_id": message.message_id._asdict(),
                "attempt": message.attempt,
                **payload(message.data),
            }
            await out.content(fields, f"{message.peer_id}  ", message.data)
            await message.acknowledge()
            left -= 1
            if not left:
                break
    return 0
