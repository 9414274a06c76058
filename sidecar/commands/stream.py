"""`sidecar stream`, and what it shares with `sidecar accept`: a byte stream at standard input and output."""

import argparse
import asyncio
import sys

from sidecar_client import ByteStream, Client

from .client import Output, add_client_flags, talk
from .stdin import chunks


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
            await connect_standard(stream)
        return 0

    return talk(options, conversation)


async def connect_standard(stream: ByteStream) -> None:
    """Send standard input, print what comes, until both have ended."""

    async def send() -> None:
        async for chunk in chunks():
            await stream.write(chunk)
        await stream.close_write()

    sending = asyncio.create_task(send())
    try:
        async for data in stream:
            await asyncio.to_thread(_print, data)  # whoever reads it may be slow, and wait for what we send
        await sending
    finally:
        sending.cancel()
        await asyncio.wait((sending,))


def _print(data: bytes) -> None:
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()
