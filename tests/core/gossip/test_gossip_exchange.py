"""Whom a PRUNE names: who is known to be of use, strangers only while few are, and never who is below 0."""

from collections.abc import ItemsView

import pytest
from gossip_network import graft, joined, make_router, peer_id, plain, rpc, rpcs, subscribe

from sidecar.core.gossip import GossipConfig, GossipRouter, PeerAdded, PeerAppointed, PeerRemoved, RpcsReceived
from sidecar.core.gossip.events import TopicOptions
from sidecar.core.gossip.state import GossipPeer
from sidecar.core.types import PeerId

UNSIGNED = TopicOptions(sign=False)
V11 = "/meshsub/1.1.0"
FULL = GossipConfig(d=4, d_low=2, d_high=4, d_score=2, d_out=1, dependents=0, prune_peers=6)


def enter(
    router: GossipRouter, number: int, *, outbound: bool = False, dial_only: bool = False, now: float = 0.0
) -> PeerId:
    peer = peer_id(number)
    router.handle(PeerAdded(peer, V11, outbound, dial_only=dial_only), now)
    router.handle(RpcsReceived(peer, [subscribe("news")]), now)
    rpcs(router, peer)
    return peer


def bring(router: GossipRouter, peer: PeerId, now: float) -> None:
    router.handle(RpcsReceived(peer, [rpc(publish=[plain("news", bytes(peer))])]), now)


def turned_away(router: GossipRouter, number: int, now: float) -> list[PeerId]:
    """Who is named to a newcomer that grafts though the mesh is full; each with its record."""
    newcomer = enter(router, number, now=now)
    router.handle(RpcsReceived(newcomer, [graft("news")]), now)
    (prune,) = [each for found in rpcs(router, newcomer) for each in found.control.prune]
    assert all(info.signedPeerRecord == b"record of " + info.peerID for info in prune.peers)
    named = [PeerId.from_bytes(info.peerID) for info in prune.peers]
    assert len(set(named)) == len(named) <= 6
    assert newcomer not in named
    return named


def full(*, outbound: int) -> GossipRouter:
    """A router whose mesh is full; of its 30 peers so many were dialled by it, the first ones."""
    router = make_router(config=FULL)
    joined(router, "news", 0, UNSIGNED)
    for number in range(1, 31):
        enter(router, number, outbound=number <= outbound)
        router.handle(RpcsReceived(peer_id(number), [graft("news")]), 0.0)
        rpcs(router, peer_id(number))
    return router


def test_in_a_young_topic_anybody_is_named_so_that_one_node_is_enough_to_find_all() -> None:
    router = full(outbound=0)
    seen: dict[PeerId, None] = {}
    for number in range(40, 90):
        seen.update(dict.fromkeys(turned_away(router, number, 0.0)))
    assert len(seen) > 30  # those that came since the last heartbeat among them


def test_once_enough_are_known_to_be_of_use_nobody_else_is_named() -> None:
    router = full(outbound=3)
    dialled = {peer_id(number) for number in (1, 2, 3)}
    named = turned_away(router, 40, 0.0)
    assert dialled < set(named)  # and strangers beside them
    assert len(named) == 6
    brought = {peer_id(number) for number in (20, 21)}
    for peer in sorted(brought):
        bring(router, peer, 0.5)
    router.handle_deadline(2.0)  # who that is, is looked up once in a heartbeat
    named = turned_away(router, 41, 2.1)
    assert set(named) == dialled | brought


def test_a_place_in_the_mesh_alone_shows_nothing() -> None:
    router = full(outbound=0)
    (topic,) = router.topics()
    silent, active = topic.mesh[0], topic.mesh[1]
    for number in range(20, 23):
        bring(router, peer_id(number), 0.5)
    bring(router, active, 0.5)
    router.handle_deadline(2.0)
    named = turned_away(router, 41, 2.1)
    assert active in named
    assert silent not in named


@pytest.mark.parametrize("what", ["below 0", "gone", "cannot be dialled"])
def test_who_is_never_named(what: str) -> None:
    router = full(outbound=0)
    bad = peer_id(25)
    bring(router, bad, 0.5)
    if what == "cannot be dialled":
        router.handle(PeerRemoved(bad), 0.6)
        enter(router, 25, dial_only=True, now=0.6)
        bring(router, bad, 0.7)
    router.handle_deadline(2.0)
    named = turned_away(router, 40, 2.0)
    assert (bad in named) is (what != "cannot be dialled")
    if what == "below 0":
        router.handle(PeerAppointed(bad, -1.0, None), 2.1)
    elif what == "gone":
        router.handle(PeerRemoved(bad), 2.1)
    for number in range(41, 80):  # in the same heartbeat, too
        assert bad not in turned_away(router, number, 2.1)


def test_a_flood_of_grafts_does_not_look_at_all_peers_again_and_again() -> None:
    router = full(outbound=0)
    looks = 0

    class Counted(dict[PeerId, GossipPeer]):
        def items(self) -> ItemsView[PeerId, GossipPeer]:  # type: ignore[override]
            nonlocal looks
            looks += 1
            return super().items()

    router.handle_deadline(2.0)
    topic = router._state.topics["news"]
    topic.peers = Counted(topic.peers)
    for number in range(40, 80):
        turned_away(router, number, 2.1)
    assert looks == 1
