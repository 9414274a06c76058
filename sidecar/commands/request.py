"""`sidecar request`."""

import argparse

from sidecar_client import Client

from .common.client import Output, add_client_flags, message_bytes, payload, talk


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("peer", metavar="PEER", help="the peer id")
    parser.add_argument("protocol", metavar="PROTOCOL", help="a name that the other side serves, such as /chat/1")
    parser.add_argument("message", metavar="MESSAGE", nargs="+", help="the request; - reads it from standard input")
    add_client_flags(parser)


def run(options: argparse.Namespace) -> int:
    async def conversation(client: Client, out: Output) -> int:
        data = await message_bytes(options.message)
        response = await client.request(options.peer, options.protocol, data, timeout=options.timeout)
        await out.content({"response": payload(response)}, "", response)
        return 0

    return talk(options, conversation)
