"""`sidecar connect`."""

import argparse

from sidecar_client import Client

from .common.client import Output, add_client_flags, talk
from .peers import peer_fields, peer_line


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "peer", metavar="PEER", help="a peer id, or an address such as /ip4/192.0.2.1/tcp/4747/p2p/PEER"
    )
    add_client_flags(parser)


def run(options: argparse.Namespace) -> int:
    async def conversation(client: Client, out: Output) -> int:
        if options.peer.startswith("/"):
            peer = await client.connect_peer(addresses=[options.peer])
        else:
            peer = await client.connect_peer(options.peer)
        await out.record(peer_fields(peer), peer_line(peer))
        return 0

    return talk(options, conversation)
