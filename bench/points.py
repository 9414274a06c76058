"""What the entries cost that budgets of work count: `make bench-points` prints microseconds of CPU and points for each.

A point stands for 5 us. Each kind goes through the router that a driver feeds, from bytes to effects, in runs of which
the fastest counts; the third figure is what would be fair.
"""

import random
from collections.abc import Callable
from time import process_time
from typing import Any

from sidecar.core.direct import DirectConfig, DirectRouter
from sidecar.core.direct.events import DataReceived, LinkAccepted
from sidecar.core.direct.messages import RequestFields, encode_openers_frame
from sidecar.core.gossip import GossipConfig, GossipRouter, PeerAdded, RpcsReceived, TopicJoined
from sidecar.core.gossip.messages import RPC
from sidecar.core.identity import Identity
from sidecar.core.types import PeerId

_POINT = 5.0  # us
_RUNS = 5
_AT_ONCE = 64  # RPCs in one read
_PEER = Identity(bytes((1,)) * 32).peer_id

Measured = tuple[float, float]


def main() -> None:
    """Print the table."""
    print(f"{'':34}{'us':>9}{'points':>9}{'fair':>9}")
    for name, (cost, points) in _rows():
        print(f"{name:34}{cost:9.3f}{points:9.4f}{cost / _POINT:9.4f}")


def _rows() -> list[tuple[str, Measured]]:
    ids = [b"%d" % number for number in range(10_000)]
    graft = {"topicID": b"news"}
    kinds: list[tuple[str, dict[str, Any], int, int]] = [
        ("RPC, empty", {}, 6400, 1),
        ("GRAFT and PRUNE, each", {"graft": [graft], "prune": [graft]}, 6400, 2),
        ("IWANT of one id", {"iwant": [{"messageIDs": ids[:1]}]}, 6400, 1),
        ("IHAVE of one id", {"ihave": [{"topicID": b"news", "messageIDs": ids[:1]}]}, 6400, 1),
        ("IDONTWANT of one id", {"idontwant": [{"messageIDs": ids[:1]}]}, 6400, 1),
        ("IHAVE, each of 10,000 ids", {"ihave": [{"topicID": b"news", "messageIDs": ids}]}, 640, 10_000),
        ("IWANT, each of 10,000 ids", {"iwant": [{"messageIDs": ids}]}, 640, 10_000),
        ("IDONTWANT, each of 10,000 ids", {"idontwant": [{"messageIDs": ids}]}, 640, 10_000),
        ("IHAVE, each of 100 unknown topics", {"ihave": [{"topicID": b"other"}] * 100}, 640, 100),
    ]
    rows = [
        (name, _gossip(RPC(control=control).SerializeToString() if control else b"", count, each))
        for name, control, count, each in kinds
    ]
    rows.append(("malformed RPC of 500 bytes", _gossip(b"\xff" * 500, 6400, 1)))
    one = encode_openers_frame([("chat", [b""])], [], [])
    many = encode_openers_frame([("chat", [b""] * 1000)], [], [])
    rows.append(("direct message nobody receives", _direct(lambda number: one, 5000, 1)))
    rows.append(("direct, each of 1,000 in a frame", _direct(lambda number: many, 50, 1000)))
    asked = RequestFields(1, "chat", b"", 0, "")
    rows.append(
        (
            "request nobody serves",
            _direct(lambda number: encode_openers_frame([], [asked._replace(id=number)], []), 3000, 1),
        )
    )
    return rows


def _best(run: Callable[[], Measured]) -> Measured:
    return min(run() for _ in range(_RUNS))


def _gossip(body: bytes, count: int, each: int) -> Measured:
    def run() -> Measured:
        router = GossipRouter(
            GossipConfig(),
            Identity(bytes(32)),
            now=0.0,
            sequence=1,
            rng=random.Random(1),
            signed_record=lambda peer: None,
        )
        router.handle(TopicJoined("news"), 0.0)
        router.handle(PeerAdded(_PEER, "/meshsub/1.2.0", True), 0.0)
        _serve(router, 0.0)
        router.take_charges()
        reads = count // _AT_ONCE
        begun = process_time()
        for read in range(reads):
            router.handle(RpcsReceived(_PEER, [body] * _AT_ONCE), read * 1e-4)
            _serve(router, read * 1e-4)
        passed = process_time() - begun
        number = reads * _AT_ONCE * each
        return passed / number * 1e6, _sum(router.take_charges()) / number

    return _best(run)


def _serve(router: GossipRouter, now: float) -> None:
    """What one read brought is served in steps; before the first heartbeat, and all that is said is read."""
    while (deadline := router.next_deadline()) is not None and deadline <= now + 1e-4:
        router.handle_deadline(now)
    router.take(_PEER, 1 << 20)


def _direct(frame: Callable[[int], bytes], count: int, each: int) -> Measured:
    frames = [frame(number) for number in range(1, count + 1)]

    def run() -> Measured:
        router = DirectRouter(DirectConfig(), now=0.0)
        router.handle(LinkAccepted(_PEER, 1), 0.0)
        begun = process_time()
        for body in frames:
            router.handle(DataReceived(1, body), 0.0)
            router.take(1, 1 << 16)
        passed = process_time() - begun
        return passed / (count * each) * 1e6, _sum(router.take_charges()) / (count * each)

    return _best(run)


def _sum(charges: dict[PeerId, float]) -> float:
    return sum(charges.values())


if __name__ == "__main__":
    main()
