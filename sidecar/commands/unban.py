"""`sidecar unban`."""

import argparse

from sidecar_client import Client, NotFound

from .ban import named, notes
from .common.client import Output, add_client_flags, talk
from .common.exit_codes import FAILED


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("whom", metavar="PEER|CIDR", help="whose ban to lift: a peer id, IP address or network")
    add_client_flags(parser)


def run(options: argparse.Namespace) -> int:
    async def conversation(client: Client, out: Output) -> int:
        peer_id, network = named(options.whom)
        try:
            warnings = await client.allow_peer(peer_id, network=network)
        except NotFound as error:
            return await out.failed(FAILED, f"{error}; `sidecar bans` lists the bans")
        fields = {"peer_id": peer_id, "network": network, "warnings": list(warnings)}
        await out.record(fields, f"{options.whom} is banned no longer", *notes(warnings))
        return 0

    return talk(options, conversation)
