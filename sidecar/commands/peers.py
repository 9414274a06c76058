"""`sidecar peers`."""

import argparse
from typing import Any

from sidecar_client import Client, Peer, PeerEventType

from .common.client import Output, add_client_flags, talk


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--all", action="store_true", help="known peers that are not connected as well")
    parser.add_argument("--watch", action="store_true", help="go on and print what happens to them, until Ctrl-C")
    add_client_flags(parser, timeout=False)


def run(options: argparse.Namespace) -> int:
    async def conversation(client: Client, out: Output) -> int:
        if options.watch:
            async for event in client.watch_peers():
                fields: dict[str, Any] = {"event": event.type.name.lower(), "reason": event.reason}
                if event.peer is not None:
                    fields |= peer_fields(event.peer)
                    reason = f" ({event.reason})" if event.reason else ""
                    await out.record(fields, f"{event.type.name.lower():12} {peer_line(event.peer)}{reason}")
                elif event.type is not PeerEventType.CURRENT:
                    await out.record(fields, f"events were missed: {event.reason}; the connected peers anew:")
            return 0
        count = 0
        async for peer in client.peers(connected_only=not options.all):
            count += 1
            await out.record(peer_fields(peer), peer_line(peer))
        if not count:
            await out.remark("no peers; `sidecar status` says whether that is as it should be")
        return 0

    return talk(options, conversation)


def peer_fields(peer: Peer) -> dict[str, Any]:
    """A peer for scripts."""
    return {
        "peer_id": peer.peer_id,
        "connected": peer.connected,
        "direction": peer.direction.name.lower() if peer.connected else None,
        "remote_address": peer.remote_address,
        "addresses": list(peer.addresses),
        "agent": peer.agent,
        "latency": peer.latency,
        "protocols": list(peer.protocols),
        "protected": peer.protected,
    }


def peer_line(peer: Peer) -> str:
    """A peer as one line for people."""
    if not peer.connected:
        return f"{peer.peer_id}  -         known at {', '.join(peer.addresses) or 'no address'}"
    latency = f"{peer.latency * 1000:.1f} ms" if peer.latency is not None else "-"
    return f"{peer.peer_id}  {latency:8}  {peer.direction.name.lower():8}  {peer.remote_address}  {peer.agent}"
