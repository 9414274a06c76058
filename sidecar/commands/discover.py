"""`sidecar discover`."""

import argparse

from sidecar_client import Client

from .common.client import Output, add_client_flags, talk
from .common.exit_codes import FAILED


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="the name that the peers advertise")
    parser.add_argument("--limit", type=int, default=0, metavar="N", help="end after N peers")
    add_client_flags(parser)


def run(options: argparse.Namespace) -> int:
    async def conversation(client: Client, out: Output) -> int:
        count = 0
        async for found in client.find_peers(options.name, limit=options.limit):
            count += 1
            fields = {"peer_id": found.peer_id, "addresses": list(found.addresses)}
            await out.record(fields, f"{found.peer_id}  {', '.join(found.addresses) or 'no address known'}")
        if count:
            return 0
        return await out.failed(
            FAILED, f"no peer advertises {options.name}; `sidecar advertise {options.name}` at another node does"
        )

    return talk(options, conversation)
