"""`sidecar id`."""

import argparse
from pathlib import Path

from sidecar_client import Client

from ..core.errors import IdentityError
from ..core.identity import Identity
from ..core.types import PeerId
from .common.client import Output, add_client_flags, perform, talk
from .common.exit_codes import FAILED


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--key", type=Path, metavar="FILE", help="the peer id of a key file; no sidecar is needed")
    add_client_flags(parser)


def run(options: argparse.Namespace) -> int:
    if options.key is not None:
        return perform(lambda: _of_file(options.key, Output(options.json)))

    async def conversation(client: Client, out: Output) -> int:
        node = await client.info()
        peer = PeerId.from_text(node.peer_id)
        base = (*(node.announced_addresses or node.listening_addresses), *node.relayed_addresses)
        addresses = [f"{address}/p2p/{node.peer_id}" for address in base]
        fields = {"peer_id": str(peer), "cid": peer.cid(), "network": node.network, "addresses": addresses}
        await out.record(fields, str(peer), peer.cid(), *addresses)
        return 0

    return talk(options, conversation)


async def _of_file(file: Path, out: Output) -> int:
    try:
        peer = Identity.from_bytes(file.read_bytes()).peer_id
    except (OSError, IdentityError) as error:
        return await out.failed(FAILED, f"{file}: {error}")
    await out.record({"peer_id": str(peer), "cid": peer.cid()}, str(peer), peer.cid())
    return 0
