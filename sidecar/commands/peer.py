"""`sidecar peer`."""

import argparse
import time

from sidecar_client import Client, Peer

from .common.client import Output, add_client_flags, talk
from .peers import STANDINGS, peer_fields


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("peer", metavar="PEER", help="the peer id")
    add_client_flags(parser)


def run(options: argparse.Namespace) -> int:
    async def conversation(client: Client, out: Output) -> int:
        peer = await client.peer(options.peer)
        fields = peer_fields(peer) | {"protocol_version": peer.protocol_version, "connect_time": peer.connect_time}
        await out.record(fields, *_lines(peer))
        return 0

    return talk(options, conversation)


def _lines(peer: Peer) -> list[str]:
    """What is known of it, with a name before each value."""
    rows = [("peer id", peer.peer_id)]
    if peer.connected:
        since = f", since {time.strftime('%F %T', time.localtime(peer.connect_time))}" if peer.connect_time else ""
        rows.append(("connected", f"{peer.direction.name.lower()}, {peer.remote_address}{since}"))
    else:
        rows.append(("connected", "no; `sidecar connect` tries"))
    if peer.latency is not None:
        rows.append(("latency", f"{peer.latency * 1000:.1f} ms"))
    if peer.identified:
        rows += [("agent", peer.agent), ("version", peer.protocol_version)]
    if peer.protected:
        rows.append(("protected", "its connections are never closed because there are too many"))
    if peer.score is not None:
        reason = f": {peer.score.reason}" if peer.score.reason else ""
        rows.append(("score", f"{peer.score.score:.2f}, {STANDINGS[peer.score.standing]}{reason}"))
    rows += [("address", address) for address in peer.addresses]
    rows += [("protocol", protocol) for protocol in peer.protocols]
    return [f"{name:9}  {value}" for name, value in rows]
