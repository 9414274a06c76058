"""`sidecar peers`."""

import argparse
import dataclasses
from typing import Any

from sidecar_client import Client, Peer, PeerEventType, PeerPath, PeerScore, PeerStanding

from .common.client import Output, add_client_flags, talk


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--all", action="store_true", help="known peers that are not connected as well")
    parser.add_argument("--scores", action="store_true", help="what is thought of them in gossip, the worst first")
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
        if options.scores:
            scored = [peer async for peer in client.peers(connected_only=not options.all) if peer.score is not None]
            for peer in sorted(scored, key=_score):
                count += 1
                await out.record(peer_fields(peer), *score_lines(peer))
            if not count:
                await out.remark("no peer has a score; `sidecar config get score.enabled` says whether they are kept")
            return 0
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
        "path": peer.path.name.lower() if peer.connected else None,
        "path_time": peer.path_time,
        "remote_address": peer.remote_address,
        "addresses": list(peer.addresses),
        "agent": peer.agent,
        "latency": peer.latency,
        "protocols": list(peer.protocols),
        "protected": peer.protected,
        "score": None if peer.score is None else score_fields(peer.score),
    }


def score_fields(score: PeerScore) -> dict[str, Any]:
    """A score for scripts."""
    return dataclasses.asdict(score) | {"standing": score.standing.name.lower()}


PATHS = {
    PeerPath.UNSPECIFIED: "-",
    PeerPath.DIRECT: "direct",
    PeerPath.RELAYED: "relayed",
    PeerPath.RELAYED_LIMITED: "limited",
}
"""How a peer is reached, in a word; what is limited is relayed."""

STANDINGS = {
    PeerStanding.UNSPECIFIED: "unknown",
    PeerStanding.GOOD: "good",
    PeerStanding.NO_MESH: "kept out of meshes",
    PeerStanding.NO_GOSSIP: "no gossip with it",
    PeerStanding.NO_PUBLISH: "nothing is published to it",
    PeerStanding.GRAYLISTED: "not listened to",
}
"""What a score has come to, in words."""


def _score(peer: Peer) -> float:
    return 0.0 if peer.score is None else peer.score.score


def score_lines(peer: Peer) -> list[str]:
    """A peer's score as lines for people: the whole, and its parts that are not 0."""
    score = peer.score
    if score is None:
        return []
    reason = f": {score.reason}" if score.reason else ""
    lines = [f"{peer.peer_id}  {score.score:9.2f}  {STANDINGS[score.standing]}{reason}"]
    for topic in score.topics:
        parts = {
            "P1 time in mesh": topic.time_in_mesh,
            "P2 first deliveries": topic.first_deliveries,
            "P3 too few deliveries": topic.mesh_deliveries,
            "P3b before a prune": topic.mesh_failures,
            "P4 invalid": topic.invalid_messages,
        }
        lines += _parts(topic.topic, parts)
    beside = {
        "P5 app": score.application,
        "P6 address": score.colocation,
        "P7 behaviour": score.behaviour,
        "slow": score.slow,
    }
    return lines + _parts("all topics", beside)


def _parts(of: str, parts: dict[str, float]) -> list[str]:
    shown = ", ".join(f"{name} {points:+.2f}" for name, points in parts.items() if points)
    return [f"  {of}: {shown}"] if shown else []


def peer_line(peer: Peer) -> str:
    """A peer as one line for people."""
    if not peer.connected:
        return f"{peer.peer_id}  -         known at {', '.join(peer.addresses) or 'no address'}"
    path = PATHS[peer.path]
    latency = f"{peer.latency * 1000:.1f} ms" if peer.latency is not None else "-"
    way = f"{peer.direction.name.lower():8}  {path:7}  {peer.remote_address}"
    return f"{peer.peer_id}  {latency:8}  {way}  {peer.agent}"
