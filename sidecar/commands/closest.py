"""`sidecar closest`."""

import argparse

from sidecar_client import Client

from .common.client import Output, add_client_flags, talk


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("key", metavar="KEY", help="a peer id, or a record's key, such as /app/name")
    parser.add_argument("--limit", type=int, default=0, metavar="N", help="at most N peers (20 at most in any case)")
    add_client_flags(parser)


def run(options: argparse.Namespace) -> int:
    async def conversation(client: Client, out: Output) -> int:
        # Keys of records begin with a slash, which no peer id has.
        of_record = options.key.startswith("/")
        key, peer_id = (options.key, "") if of_record else ("", options.key)
        closest = await client.closest_peers(key, peer_id=peer_id, limit=options.limit)
        for peer in closest:
            line = f"{peer.peer_id}  {' '.join(peer.addresses) or 'no address known'}"
            await out.record({"peer_id": peer.peer_id, "addresses": list(peer.addresses)}, line)
        if not closest:
            await out.remark("nobody in the DHT answers; `sidecar status` says whether that is as it should be")
        return 0

    return talk(options, conversation)
