"""Meshes that were filled by peers that show nothing: who is worth more comes in, at its wish and at ours."""

from dataclasses import replace

import pytest
from gossip_network import graft, make_router, peer_id, plain, rpc, rpcs, subscribe

from sidecar.core.gossip import GossipConfig, GossipRouter, PeerAdded, RpcsReceived, TopicJoined, TopicOptions
from sidecar.core.parameters import ScoreConfig
from sidecar.core.types import PeerId

CONFIG = GossipConfig(d=2, d_low=1, d_high=3, d_out=0, dependents=0)
INSIDE = [peer_id(number) for number in (1, 2, 3)]
OUTSIDE, STRANGER = peer_id(4), peer_id(5)


def filled(config: GossipConfig = CONFIG) -> GossipRouter:
    """A router whose mesh is full; two more peers are in the topic."""
    router = make_router(config=config)
    router.handle(TopicJoined("news", TopicOptions(sign=False)), 0.0)
    for peer in (*INSIDE, OUTSIDE, STRANGER):
        router.handle(PeerAdded(peer, "/meshsub/1.1.0", False), 0.0)
        router.handle(RpcsReceived(peer, [subscribe("news", age=3_600_000)]), 0.0)
    for peer in INSIDE:
        say(router, peer, graft("news"), 0.0)
    assert mesh(router) == set(INSIDE)
    return router


def mesh(router: GossipRouter) -> set[PeerId]:
    return set(router.topics()[0].mesh)


def say(router: GossipRouter, peer: PeerId, frame: bytes, now: float) -> None:
    router.handle(RpcsReceived(peer, [frame]), now)


def bring(router: GossipRouter, peer: PeerId, first: int, now: float) -> None:
    say(router, peer, rpc(publish=[plain("news", b"%d" % number) for number in range(first, first + 4)]), now)


def beat(router: GossipRouter, until: float) -> None:
    while (due := router.next_deadline()) is not None and due <= until:
        router.handle_deadline(due)


def backoffs(router: GossipRouter, peer: PeerId) -> list[int]:
    return [prune.backoff for each in rpcs(router, peer) for prune in each.control.prune]


def test_a_full_mesh_takes_in_who_grafts_and_is_worth_more_in_place_of_the_worst() -> None:
    router = filled()
    bring(router, OUTSIDE, 0, 0.5)
    for number, peer in enumerate(INSIDE[1:]):
        bring(router, peer, 100 * number + 100, 0.5)
        bring(router, peer, 100 * number + 150, 0.5)
    say(router, INSIDE[1], rpc(publish=[plain("news", b"another")]), 0.5)
    beat(router, 3.0)
    bring(router, OUTSIDE, 500, 3.0)
    bring(router, OUTSIDE, 600, 3.0)
    beat(router, 5.0)
    for peer in (OUTSIDE, STRANGER):
        say(router, peer, graft("news"), 5.0)
    assert mesh(router) == {*INSIDE[1:], OUTSIDE}
    assert backoffs(router, INSIDE[0]) == [60]
    assert backoffs(router, STRANGER) == [10]  # it may soon have shown something
    beat(router, 9.0)
    assert mesh(router) == {*INSIDE[1:], OUTSIDE}


def test_who_is_turned_away_may_graft_anew_soon_but_not_at_once() -> None:
    router = filled()
    for now, seconds in ((3.0, 10), (4.0, 60)):
        say(router, STRANGER, graft("news"), now)
        assert backoffs(router, STRANGER) == [seconds]
    say(router, OUTSIDE, graft("news"), 4.0)
    bring(router, OUTSIDE, 0, 5.0)
    beat(router, 14.5)
    say(router, OUTSIDE, graft("news"), 14.5)
    assert OUTSIDE in mesh(router)


@pytest.mark.parametrize("scored", [True, False])
def test_without_scores_or_worth_more_nobody_comes_into_a_full_mesh(scored: bool) -> None:
    router = filled(replace(CONFIG, score=ScoreConfig(enabled=scored)))
    for number, peer in enumerate((*INSIDE, OUTSIDE)):
        bring(router, peer, 4 * number, 0.5)
    beat(router, 3.0)
    say(router, OUTSIDE, graft("news"), 3.0)
    assert mesh(router) == set(INSIDE)  # the others have been in the mesh, and brought as much


@pytest.mark.parametrize("silent", [True, False])
def test_where_most_of_a_mesh_is_silent_better_ones_are_grafted_within_ten_heartbeats(silent: bool) -> None:
    router = filled()
    for number, peer in enumerate(INSIDE if not silent else INSIDE[:1]):
        bring(router, peer, number, 0.5)
    bring(router, OUTSIDE, 100, 0.5)
    bring(router, OUTSIDE, 200, 0.5)
    beat(router, 12.0)
    assert (OUTSIDE in mesh(router)) is silent
    beat(router, 62.0)
    assert OUTSIDE in mesh(router)


def test_a_mesh_without_messages_stays_as_it_is() -> None:
    router = filled()
    beat(router, 300.0)
    assert mesh(router) == set(INSIDE)
    assert not any(each.control.graft for each in rpcs(router, OUTSIDE))
