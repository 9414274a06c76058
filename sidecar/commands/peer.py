"""`sidecar peer`."""

import argparse
import dataclasses
import time

from sidecar_client import AddressOrigin, Client, Peer, PeerAddress

from .common.client import Output, add_client_flags, talk
from .peers import STANDINGS, peer_fields

_TOLD_BY = {
    AddressOrigin.BOOTSTRAP: "the configuration",
    AddressOrigin.APP: "an app",
    AddressOrigin.MDNS: "the local network",
    AddressOrigin.PEER_RECORD: "its signed record",
    AddressOrigin.IDENTIFY: "itself",
    AddressOrigin.CONNECTION: "a connection",
    AddressOrigin.PEER_EXCHANGE: "peer exchange",
    AddressOrigin.RELAY: "who has it for a relay",
    AddressOrigin.DHT: "the DHT",
    AddressOrigin.MEMORY: "an earlier run",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("peer", metavar="PEER", help="the peer id")
    add_client_flags(parser)


def run(options: argparse.Namespace) -> int:
    async def conversation(client: Client, out: Output) -> int:
        peer = await client.peer(options.peer)
        fields = peer_fields(peer) | {
            "protocol_version": peer.protocol_version,
            "connect_time": peer.connect_time,
            "known_addresses": [
                dataclasses.asdict(known) | {"origin": known.origin.name.lower()} for known in peer.known_addresses
            ],
        }
        await out.record(fields, *_lines(peer))
        return 0

    return talk(options, conversation)


def _lines(peer: Peer) -> list[str]:
    """What is known of it, with a name before each value."""
    rows = [("peer id", peer.peer_id)]
    if peer.connected:
        since = f", since {_when(peer.connect_time)}" if peer.connect_time else ""
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
    if peer.known_addresses:
        rows += [("address", f"{known.address}  ({_story(known)})") for known in peer.known_addresses]
    else:  # of an earlier sidecar
        rows += [("address", address) for address in peer.addresses]
    rows += [("protocol", protocol) for protocol in peer.protocols]
    return [f"{name:9}  {value}" for name, value in rows]


def _story(known: PeerAddress) -> str:
    """Who told an address, and how dials of it went."""
    words = [f"from {_TOLD_BY.get(known.origin, 'elsewhere')}"]
    if known.last_success is not None:
        words.append(f"worked {_when(known.last_success)}")
    if known.last_failure is not None:
        words.append(f"failed {_when(known.last_failure)}")
    return ", ".join(words)


def _when(at: float) -> str:
    return time.strftime("%F %T", time.localtime(at))
