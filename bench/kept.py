"""What a message costs the gossip router, and what it costs more where its topic is kept: `python -m bench.kept`.

One router, three peers in the topic, messages of 100 bytes in RPCs of 64: CPU from the bytes of an RPC to the effects
and the frames for the two others, in microseconds a message; and what publishing costs. Signatures are not checked, for
that takes more than all else. Runs of each kind alternate, and the fastest of each counts.
"""

import argparse
import gc
import random
from time import process_time

from sidecar.core.gossip import (
    GossipConfig,
    GossipRouter,
    PeerAdded,
    Published,
    RpcsReceived,
    TopicJoined,
    TopicOptions,
)
from sidecar.core.gossip.messages import RPC
from sidecar.core.identity import Identity
from sidecar.wire.gossip_pb2 import Message

_TOPIC, _SIZE, _AT_ONCE = "news", 100, 64
_PEERS = [Identity(bytes((number,)) * 32).peer_id for number in (1, 2, 3)]
_AUTHOR = Identity(bytes((9,)) * 32).peer_id


def _router(sign: bool, kept: bool) -> GossipRouter:
    router = GossipRouter(
        GossipConfig(),
        Identity(bytes(32)),
        now=0.0,
        sequence=1,
        rng=random.Random(1),
        signed_record=lambda peer: None,
        verify=lambda checks: [None] * len(checks),
    )
    router.handle(TopicJoined(_TOPIC, TopicOptions(sign, keep=kept)), 0.0)
    subscription = RPC(subscriptions=[{"subscribe": True, "topicid": _TOPIC.encode()}]).SerializeToString()
    for peer in _PEERS:
        router.handle(PeerAdded(peer, "/meshsub/1.2.0", True), 0.0)
        router.handle(RpcsReceived(peer, [subscription]), 0.0)
    return router


def _message(number: int, sign: bool) -> bytes:
    data = b"%0*d" % (_SIZE, number)
    if not sign:
        return Message(data=data, topic=_TOPIC.encode()).SerializeToString()
    signed = Message(data=data, topic=_TOPIC.encode(), seqno=number.to_bytes(8, "big"), signature=bytes(64))
    setattr(signed, "from", bytes(_AUTHOR))
    return signed.SerializeToString()


def received(sign: bool, kept: bool, rpcs: int) -> float:
    """Microseconds for a message that comes and is forwarded."""
    router = _router(sign, kept)
    bodies = [
        RPC(publish=[_message(at * _AT_ONCE + each, sign) for each in range(_AT_ONCE)]).SerializeToString()
        for at in range(rpcs)
    ]
    return _timed(router, [RpcsReceived(_PEERS[0], [body]) for body in bodies], rpcs)


def published(sign: bool, kept: bool, rpcs: int) -> float:
    """Microseconds for a message that is published here."""
    router = _router(sign, kept)
    batches = [[b"%0*d" % (_SIZE, at * _AT_ONCE + each) for each in range(_AT_ONCE)] for at in range(rpcs)]
    return _timed(router, [Published(at, _TOPIC, batch) for at, batch in enumerate(batches)], rpcs)


def _timed(router: GossipRouter, inputs: list[RpcsReceived] | list[Published], rpcs: int) -> float:
    gc.collect()
    gc.disable()
    now, before = 0.001, process_time()
    for each in inputs:
        now += 0.001
        router.handle(each, now)
        while router.next_deadline() <= now:
            router.handle_deadline(now)
        for peer in _PEERS:
            router.take(peer, 1 << 20)
    took = process_time() - before
    gc.enable()
    counts = router.statistics()
    assert counts.delivered == rpcs * _AT_ONCE, counts
    return took / rpcs / _AT_ONCE * 1e6


_ROWS = {
    "unsigned, received and forwarded": (received, False),
    "signed, received and forwarded": (received, True),
    "unsigned, published": (published, False),
    "signed, published": (published, True),
}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--rpcs", type=int, default=200)
    options = parser.parse_args()
    for name, (measure, sign) in _ROWS.items():
        runs = [[measure(sign, kept, options.rpcs) for kept in (False, True)] for _ in range(options.runs)]
        usual, kept = (min(each) for each in zip(*runs, strict=True))
        print(f"{name:36}{usual:9.3f}{kept:9.3f}  {kept / usual - 1:+.1%}", flush=True)


if __name__ == "__main__":
    main()
