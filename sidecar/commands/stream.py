"""`sidecar stream`, and what it shares with `sidecar accept`: a byte stream at standard input and output."""

import argparse
import asyncio

from sidecar_client import ByteStream, Client

from .common.client import Output, add_client_flags, talk
from .common.stdin import chunks


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("peer", metavar="PEER", help="the peer id")
    parser.add_argument(
        "protocol", metavar="PROTOCOL", nargs="+", help="the protocol id to speak; of several the first that it knows"
    )
    add_client_flags(parser, timeout=False, json=False)
    parser.epilog = (
        "Standard input goes to the peer, what it answers to standard output. The end of the input is told the peer,\n"
        "and its answer still awaited: the command ends once both sides have ended."
    )


def run(options: argparse.Namespace) -> int:
    async def conversation(client: Client, out: Output) -> int:
        async with client.open_stream(options.peer, options.protocol) as stream:
            await connect_standard(stream, out)
        return 0

    return talk(options, conversation)


async def connect_standard(stream: ByteStream, out: Output) -> None:
    """Send standard input, print what comes, until both have ended."""

    async def send() -> None:
        async for chunk in chunks():
            await stream.write(chunk)
        await stream.close_write()

    sending = asyncio.create_task(send())
    try:
        async for data in stream:
            await out.raw(data)
        await sending
    finally:
        sending.cancel()
        await asyncio.wait((sending,))
