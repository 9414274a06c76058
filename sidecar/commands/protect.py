"""`sidecar protect`."""

import argparse

from sidecar_client import Client

from .ban import notes
from .common.client import Output, add_client_flags, talk
from .common.exit_codes import USAGE_WRONG
from .common.said import failed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "peer", metavar="PEER", nargs="?", help="the peer id; without one, the protected peers are listed"
    )
    parser.add_argument("--off", action="store_true", help="protect it no longer")
    add_client_flags(parser)
    parser.epilog = "Connections of protected peers are never closed because there are too many (limits.high_water)."


def run(options: argparse.Namespace) -> int:
    if options.off and options.peer is None:
        return failed(
            USAGE_WRONG, "--off takes the peer that is to be protected no longer; `sidecar protect` lists them"
        )

    async def conversation(client: Client, out: Output) -> int:
        if options.peer is None:
            count = 0
            async for peer in client.peers():
                if peer.protected:
                    count += 1
                    state = "connected" if peer.connected else "not connected"
                    await out.record({"peer_id": peer.peer_id, "connected": peer.connected}, f"{peer.peer_id}  {state}")
            if not count:
                await out.remark("no peer is protected")
            return 0
        if options.off:
            warnings = await client.unprotect_peer(options.peer)
        else:
            warnings = await client.protect_peer(options.peer)
        fields = {"peer_id": options.peer, "protected": not options.off, "warnings": list(warnings)}
        await out.record(fields, f"{options.peer} is {'not ' * options.off}protected", *notes(warnings))
        return 0

    return talk(options, conversation)
