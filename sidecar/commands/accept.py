"""`sidecar accept`."""

import argparse
import asyncio

import sidecar_client
from sidecar_client import ByteStream, Client

from .common.client import Output, add_client_flags, talk
from .stream import connect_standard


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("protocol", metavar="PROTOCOL", help="the protocol id to answer, such as /echo/1")
    parser.add_argument("--echo", action="store_true", help="send everything back, on any number of streams")
    add_client_flags(parser, timeout=False, json=False)
    parser.epilog = (
        "Without --echo the first stream that a peer opens is connected with standard input and output, and the\n"
        "command ends once both sides have ended."
    )


def run(options: argparse.Namespace) -> int:
    async def conversation(client: Client, out: Output) -> int:
        async with client.accept_streams(options.protocol) as streams:
            await out.listening(f"streams of {options.protocol}")
            if options.echo:
                async with asyncio.TaskGroup() as group:
                    async for stream in streams:
                        group.create_task(_echo(stream, out))
            else:
                async with await anext(aiter(streams)) as stream:
                    await out.complain(f"a stream of {stream.peer_id}")
                    await connect_standard(stream, out)
        return 0

    return talk(options, conversation)


async def _echo(stream: ByteStream, out: Output) -> None:
    try:
        async with stream:
            async for data in stream:
                await stream.write(data)
    except sidecar_client.SidecarError as error:
        await out.complain(f"a stream of {stream.peer_id}: {error}")
