"""The caches and the queue keep their bounds and forget in time."""

import pytest
from gossip_network import peer_id

from sidecar.core.errors import ConfigError
from sidecar.core.gossip import GossipConfig
from sidecar.core.gossip.cache import MessageCache, SeenCache
from sidecar.core.gossip.messages import build_chunks, encode_graft
from sidecar.core.gossip.queue import PeerQueue

PEER = peer_id(1)


def ids(start: int, count: int) -> list[bytes]:
    return [b"%d" % number for number in range(start, start + count)]


def test_seen_ids_live_as_long_as_said_and_no_more_than_twice() -> None:
    seen = SeenCache(120.0, 1000, 0.0)
    seen.expire(119.0)
    seen.add("t", [b"early"])
    seen.expire(120.0)
    seen.expire(238.9)
    assert seen.contains("t", b"early")
    assert not seen.contains("other", b"early")
    assert seen.unseen("t", [b"early", b"new", b"new", b"newer"]) == [False, True, False, True]
    assert seen.unseen("t", [b"new", b"newer"]) is None
    assert seen.unseen("other", [b"early"]) is None
    seen.expire(240.0)
    assert not seen.contains("t", b"early")


def test_seen_ids_are_bounded_and_a_flood_does_not_shorten_the_next_generation() -> None:
    seen = SeenCache(120.0, 1000, 0.0)
    for start in range(0, 10_000, 100):
        seen.add("t", ids(start, 100))
        assert len(seen) <= 1100  # a batch may pass half the bound before it counts
    assert seen.contains("t", b"9999")
    assert not seen.contains("t", b"1")
    seen.expire(119.0)
    seen.add("t", ids(20_000, 450))
    seen.add("t", ids(21_000, 100))  # rotates
    seen.add("t", [b"late"])
    seen.expire(121.0)
    assert seen.contains("t", b"20001")


def test_messages_are_kept_for_five_windows_and_gossiped_for_three() -> None:
    cache = MessageCache(5, 3, 1000, 10_000, 0.0)
    cache.put("t", [b"a"], [b"raw a"])
    cache.put("u", [b"b"], [b"raw b"])
    for beat in range(5):
        assert cache.gossip_ids("t") == ([b"a"] if beat < 3 else [])
        assert cache.answer(PEER, b"b", 10) == b"raw b"
        cache.shift(0.0)
    assert cache.answer(PEER, b"b", 10) is None
    assert len(cache) == 0
    assert list(cache.topics()) == []


def test_the_message_cache_is_bounded_in_number_and_bytes() -> None:
    cache = MessageCache(5, 3, 100, 10_000, 0.0)
    for start in range(0, 1000, 10):
        cache.put("t", ids(start, 10), [b"x"] * 10)
        assert len(cache) <= 100
    assert cache.answer(PEER, b"999", 1) == b"x"
    assert cache.answer(PEER, b"999", 1) is None  # once each
    assert cache.answer(peer_id(2), b"999", 1) == b"x"
    assert cache.answer(PEER, b"1", 1) is None
    for number in range(100):
        cache.put("t", [b"large %d" % number], [b"x" * 1000])
    kept = [number for number in range(100) if cache.answer(PEER, b"large %d" % number, 1)]
    assert kept == list(range(100 - len(kept), 100))
    assert 5 <= len(kept) <= 10


def test_control_goes_first_gossip_last_but_not_never() -> None:
    config = GossipConfig()
    queue = PeerQueue(config)
    assert not queue
    assert queue.take(1000) == []
    chunks = build_chunks([b"m" * 400] * 4, 500, 10)
    for chunk in chunks:
        assert queue.put(chunk)
    queue.put_iwant([b"id"])
    assert queue.put_ihave("t", [b"\x0a\x00"])
    assert not queue.put_ihave("t", [b"\x0a\x00"])
    queue.put_control(b"t", encode_graft(b"t"))
    first = queue.take(900)
    assert first[1:] == [chunks[0].frame, chunks[1].frame]
    assert b"id" not in b"".join(first)
    queue.age()
    assert b"id" in queue.take(1)[0]
    assert queue.take(1) == [chunks[2].frame]  # at least one frame
    queue.put_iwant([b"last"])
    frames = queue.take(10_000)
    assert frames[0] == chunks[3].frame
    assert b"last" in frames[1]
    assert not queue
    assert queue.bytes == queue.messages == 0


def test_iwant_and_the_bytes_of_messages_are_bounded() -> None:
    queue = PeerQueue(GossipConfig(max_ihave_length=5, queue_max_bytes=1000))
    assert queue.put_iwant(ids(0, 4)) == 4
    assert queue.put_iwant(ids(4, 4)) == 1
    (large,) = build_chunks([b"m" * 5000], 500, 10)
    (small,) = build_chunks([b"m" * 100], 500, 10)
    assert queue.put(large)  # an empty queue takes anything
    assert not queue.put(small)
    assert (queue.messages, queue.dropped) == (1, 1)
    assert not queue.relieved
    queue.take(1)
    assert queue.relieved


@pytest.mark.parametrize(
    "wrong",
    [{"d": 3}, {"d_out": 4}, {"d_high": 2}, {"history_gossip": 6}, {"heartbeat_interval": 0.0}, {"max_rpc": 1000}],
)
def test_contradicting_parameters_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ConfigError):
        GossipConfig(**wrong)  # type: ignore[arg-type]
