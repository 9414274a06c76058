"""What waits for a peer: messages of heavy sources go behind all others, in order, and may have half of the room."""

from dataclasses import replace

from gossip_network import peer_id

from sidecar.core.gossip.messages import build_chunks
from sidecar.core.gossip.queue import PeerQueue
from sidecar.core.parameters.gossip import GossipConfig

CONFIG = replace(GossipConfig(), queue_max_messages=10)
HEAVY, OTHER = peer_id(1), peer_id(2)


def put(queue: PeerQueue, data: bytes, *, heavy: bool = False, source: int = 1) -> bool:
    (chunk,) = build_chunks([data], CONFIG.max_chunk, CONFIG.max_chunk_messages)
    return queue.put(chunk, peer_id(source), heavy=heavy)


def taken(queue: PeerQueue, limit: int = 1 << 20) -> list[bytes]:
    """The messages: each frame has one, behind the lengths of all and of itself."""
    return [frame[3:] for frame in queue.take(limit)]


def test_others_go_before_a_heavy_source_and_each_in_order() -> None:
    queue = PeerQueue(CONFIG)
    for data in (b"heavy 1", b"heavy 2"):
        assert put(queue, data, heavy=True)
    for data in (b"other 1", b"other 2"):
        assert put(queue, data, source=2)
    assert put(queue, b"heavy 3")  # it is heavy no more, and still in order
    assert queue.messages == 5
    assert taken(queue) == [b"other 1", b"other 2", b"heavy 1", b"heavy 2", b"heavy 3"]
    assert (queue.messages, queue.bytes, bool(queue)) == (0, 0, False)
    assert put(queue, b"heavy 4")
    assert put(queue, b"other 3", source=2)
    assert taken(queue) == [b"heavy 4", b"other 3"]  # nothing of it waited


def test_a_heavy_source_has_half_of_the_room() -> None:
    queue = PeerQueue(CONFIG)
    assert [put(queue, b"%d" % number, heavy=True) for number in range(7)] == [True] * 5 + [False] * 2
    assert queue.dropped == 2
    assert queue.relieved  # publishers here need not wait for it
    assert [put(queue, b"%d" % number, source=2) for number in range(6)] == [True] * 5 + [False]


def test_what_is_behind_is_taken_little_by_little() -> None:
    queue = PeerQueue(CONFIG)
    assert put(queue, b"heavy", heavy=True)
    assert put(queue, b"other", source=2)
    assert taken(queue, 1) == [b"other"]
    assert queue
    assert put(queue, b"more", source=2)
    assert taken(queue, 1) == [b"more"]
    assert taken(queue, 1) == [b"heavy"]
    assert not queue
