"""Replays of what the cache of seen ids has forgotten: by the guard alone, and by the router."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from gossip_network import UNSCORED, WALL, joined, make_router, peer_id, rpc, signed

from sidecar.core.gossip import GossipRouter, MessagesDelivered, RpcsReceived
from sidecar.core.gossip.replay import ReplayGuard
from sidecar.core.types import PeerId

AUTHOR, OTHER, SOURCE = (peer_id(number) for number in (1, 2, 3))


def number(value: int) -> bytes:
    return value.to_bytes(8, "big")


def guard(most: int = 100) -> ReplayGuard:
    return ReplayGuard(WALL, 0.0, most)


def enter(guarded: ReplayGuard, author: PeerId, *values: int, source: PeerId = SOURCE) -> None:
    guarded.entered([author] * len(values), [number(value) for value in values], source)


def stale(guarded: ReplayGuard, author: PeerId, value: int, source: PeerId = SOURCE) -> bool:
    return guarded.stale(author, number(value), source)


def test_only_what_is_older_than_two_generations_is_stale() -> None:
    guarded = guard()
    enter(guarded, AUTHOR, WALL + 5, WALL + 9, WALL + 7)
    assert not stale(guarded, AUTHOR, WALL + 6)
    guarded.rotate(120.0)
    enter(guarded, AUTHOR, WALL + 20)
    assert not stale(guarded, AUTHOR, WALL + 6)
    guarded.rotate(240.0)
    assert [stale(guarded, AUTHOR, WALL + value) for value in (1, 9, 10, 20, 21)] == [True, True, False, False, False]
    assert not stale(guarded, OTHER, WALL + 1)
    guarded.rotate(360.0)
    assert [stale(guarded, AUTHOR, WALL + value) for value in (20, 21)] == [True, False]
    guarded.rotate(480.0)
    assert stale(guarded, AUTHOR, WALL + 20)  # however long the author is silent


def test_an_author_whose_numbers_are_not_a_clocks_is_not_judged() -> None:
    guarded = guard()
    enter(guarded, AUTHOR, WALL + 5, 1 << 63)  # random, as js-libp2p's
    enter(guarded, OTHER, 1_700_000_000)  # seconds, as py-libp2p's
    for rotation in range(3):
        guarded.rotate(120.0 * rotation)
    assert not stale(guarded, AUTHOR, WALL + 1)
    assert not stale(guarded, OTHER, 1)


def test_an_author_that_counts_anew_is_heard_by_those_it_is_connected_to() -> None:
    guarded = guard()
    enter(guarded, AUTHOR, WALL + 10**9)
    for rotation in range(2):
        guarded.rotate(120.0 * rotation)
    assert stale(guarded, AUTHOR, WALL + 1)
    assert not stale(guarded, AUTHOR, WALL + 1, source=AUTHOR)
    enter(guarded, AUTHOR, WALL + 1, source=AUTHOR)
    assert not stale(guarded, AUTHOR, WALL + 2)


def test_it_keeps_no_more_authors_than_it_may() -> None:
    guarded = guard(most=4)
    authors = [peer_id(number) for number in range(10, 20)]
    for generation in range(4):
        for each, author in enumerate(authors):
            enter(guarded, author, WALL + generation if each % 2 else (1 << 63) + generation)
        assert len(guarded) <= 16
        guarded.rotate(120.0 * generation)
    assert stale(guarded, authors[-1], WALL)
    assert not stale(guarded, authors[1], WALL)  # forgotten: the least recently heard


# ---------------------------------------------------------------- in the router


def delivered(effects: Sequence[object]) -> list[bytes]:
    return [each.data for effect in effects if isinstance(effect, MessagesDelivered) for each in effect.messages]


def send(router: GossipRouter, source: PeerId, raw: bytes, now: float) -> list[bytes]:
    return delivered(router.handle(RpcsReceived(source, [rpc(publish=[raw])]), now))


def beat(router: GossipRouter, until: float) -> None:
    while (now := router.next_deadline()) < until:
        router.handle_deadline(now)


@pytest.mark.parametrize("guarded", [True, False])
def test_a_replay_of_what_is_forgotten_is_ignored_and_blames_nobody(guarded: bool) -> None:
    router = make_router(config=replace(UNSCORED, seen_ttl=10.0, ignore_replays=guarded))
    source, *_ = joined(router, "news", 3)
    old = signed(9, "news", b"old", WALL + 1)
    assert send(router, source, old, 1.0) == [b"old"]
    assert send(router, source, signed(9, "news", b"new", WALL + 2), 2.0) == [b"new"]
    assert send(router, source, old, 3.0) == []  # a copy
    beat(router, 60.0)
    assert send(router, source, old, 60.0) == ([] if guarded else [b"old"])
    assert send(router, source, signed(9, "news", b"newest", WALL + 3), 60.0) == [b"newest"]
    assert router.statistics().ignored["replay"] == guarded
    assert router.score_of(source) == 0


def test_what_comes_out_of_order_is_not_taken_for_a_replay() -> None:
    router = make_router(config=replace(UNSCORED, seen_ttl=10.0))
    source, *_ = joined(router, "news", 3)
    order = [8, 3, 7, 1, 2, 6, 5, 4]
    for at, each in enumerate(order):
        assert send(router, source, signed(9, "news", b"%d" % each, WALL + each), float(at)) == [b"%d" % each]
        beat(router, at + 1.0)
    assert router.statistics().ignored["replay"] == 0


def test_the_author_itself_is_heard_whatever_its_numbers() -> None:
    router = make_router(config=replace(UNSCORED, seen_ttl=10.0))
    author, other, *_ = joined(router, "news", 3)
    assert send(router, author, signed(1, "news", b"ahead", WALL + 10**12), 1.0) == [b"ahead"]
    beat(router, 60.0)
    assert send(router, other, signed(1, "news", b"back", WALL + 1), 60.0) == []
    assert send(router, author, signed(1, "news", b"back", WALL + 1), 60.0) == [b"back"]
    assert send(router, other, signed(1, "news", b"again", WALL + 2), 60.0) == [b"again"]
