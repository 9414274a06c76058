"""`sidecar find`."""

import argparse

from sidecar_client import Client

from .common.client import Output, add_client_flags, talk


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("peer", metavar="PEER", help="the peer id")
    add_client_flags(parser)


def run(options: argparse.Namespace) -> int:
    async def conversation(client: Client, out: Output) -> int:
        addresses = list(await client.find_peer(options.peer))
        await out.record({"peer_id": options.peer, "addresses": addresses}, *addresses)
        return 0

    return talk(options, conversation)
