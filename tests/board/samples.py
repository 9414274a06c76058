"""Samples as an API would give them, for what draws and serves them."""

import hashlib
from typing import Any

from sidecar_client import Condition, Direction, Histogram, NodeEvent, NodeInfo, Peer, Readiness, Signing, Topic

from sidecar.board.sample import Gone, Sample

START = 1_700_000_000.0
ME = "12D3KooWMe" + "1" * 42


def peer_id(number: int) -> str:
    return "12D3KooW" + hashlib.sha256(str(number).encode()).hexdigest()[:44]


def peer(number: int, **changed: Any) -> Peer:
    fields: dict[str, Any] = {
        "peer_id": peer_id(number),
        "connected": True,
        "direction": Direction.INBOUND if number % 2 else Direction.OUTBOUND,
        "addresses": (f"/ip4/10.0.{number // 250}.{number % 250}/tcp/4747",),
        "remote_address": f"/ip4/10.0.{number // 250}.{number % 250}/tcp/4747",
        "protocols": ("/ipfs/ping/1.0.0", "/meshsub/1.2.0"),
        "agent": "sidecar/0.1.0",
        "protocol_version": "sidecar/main",
        "identified": True,
        "latency": 0.0005 * (1 + number * 7919 % 600),
        "connect_time": START + number,
        "connections": 1,
    }
    return Peer(**(fields | changed))


def topic(name: str = "news", **changed: Any) -> Topic:
    fields: dict[str, Any] = {
        "name": name,
        "subscribed": True,
        "signing": Signing.STRICT_SIGN,
        "peers": 3,
        "mesh_peer_ids": (peer_id(1), peer_id(2)),
        "subscribers": 1,
        "history_messages": 10,
        "delivered": 0,
        "published": 0,
        "duplicates": 0,
        "rejected": 0,
        "dropped": 0,
        "delivered_bytes": 0,
        "published_bytes": 0,
    }
    return Topic(**(fields | changed))


def sample(at: float = 0.0, **changed: Any) -> Sample:
    fields: dict[str, Any] = {
        "at": at,
        "node": NodeInfo(ME, "main", "sidecar/0.1.0", "0.1.0", ("/ip4/10.0.0.1/tcp/4747",), (), (), START, 600 + at),
        "readiness": Readiness(True, (Condition("Listening", True, "Listening", "listening", "", START),)),
        "values": {},
    }
    return Sample(**(fields | changed))


def unready() -> Readiness:
    condition = Condition("Bootstrapped", False, "NoAnswer", "no bootstrap peer answers", "check that one runs", START)
    return Readiness(False, (condition,))


def histogram(*counts: int) -> dict[str, Histogram]:
    """Of propagation delays; the bounds are 1 ms, 10 ms and 100 ms."""
    return {"gossip_propagation_seconds": Histogram((0.001, 0.01, 0.1), counts, 0.0)}


def event(text: str = "it happened", severity: str = "info", part: str = "net") -> NodeEvent:
    return NodeEvent(START, severity, part, text, {})


def gone(number: int, reason: str = "reset by the peer") -> Gone:
    return Gone(peer(number), -10.0, reason)
