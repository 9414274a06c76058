"""What scores decide in the router, and what the router makes of what peers do."""

from collections.abc import Iterable
from dataclasses import replace

import pytest
from gossip_network import control, graft, joined, make_router, peer_id, plain, rpc, rpcs, signed, subscribe

from sidecar.core.events import Standing
from sidecar.core.gossip import (
    GossipConfig,
    GossipRouter,
    MessagesDelivered,
    PeerAdded,
    PeerAppointed,
    PeerDescribed,
    PeerRemoved,
    PeersOffered,
    Published,
    RpcsReceived,
    StandingChanged,
    TopicJoined,
    TopicLeft,
    TopicOptions,
    TopicScored,
)
from sidecar.core.gossip.state import unsigned_ids
from sidecar.core.parameters import ScoreConfig
from sidecar.core.types import PeerId

UNSIGNED = TopicOptions(sign=False)


def appoint(router: GossipRouter, peer: PeerId, score: float, now: float = 1.0) -> list[StandingChanged]:
    effects = router.handle(PeerAppointed(peer, score), now)
    return [effect for effect in effects if isinstance(effect, StandingChanged)]


def mesh(router: GossipRouter, topic: str = "news") -> tuple[PeerId, ...]:
    return next(view.mesh for view in router.topics() if view.topic == topic)


def enter(router: GossipRouter, number: int, *, outbound: bool = False, topic: str = "news") -> PeerId:
    peer = peer_id(number)
    router.handle(PeerAdded(peer, "/meshsub/1.1.0", outbound), 1.0)
    router.handle(RpcsReceived(peer, [subscribe(topic, age=3_600_000)]), 1.0)
    rpcs(router, peer)
    return peer


def score(router: GossipRouter, peer: PeerId) -> float:
    view = router.score(peer)
    return 0.0 if view is None else view.score


def bring(router: GossipRouter, peer: PeerId, marks: Iterable[object], now: float = 1.0) -> bool:
    raws = [plain("news", str(mark).encode()) for mark in marks]
    effects = router.handle(RpcsReceived(peer, [rpc(publish=raws)]), now)
    return any(isinstance(effect, MessagesDelivered) for effect in effects)


# ---------------------------------------------------------------- thresholds


def test_a_graylisted_peer_is_not_listened_to_and_what_waits_of_it_goes() -> None:
    router = make_router(config=GossipConfig(turn_messages=4))
    peer, other = joined(router, "news", 2, UNSIGNED)
    router.handle(
        RpcsReceived(peer, [rpc(publish=[plain("news", b"%d" % number)]) for number in range(12)]), 1.0
    )  # more than a turn's
    (changed,) = appoint(router, peer, -81.0)
    assert changed == StandingChanged(peer, pytest.approx(-80.0, abs=1.0), Standing.GRAYLISTED, changed.reason, False)
    before = router.statistics()
    router.take_charges()
    router.handle_deadline(1.0)
    assert not bring(router, peer, ["ignored"])
    after = router.statistics()
    assert after.rpcs_received == before.rpcs_received
    assert after.dropped["graylisted"] == 8 + 1
    assert router.take_charges()[peer] >= 9
    assert bring(router, other, ["ignored"])
    appoint(router, peer, 0.0)
    assert bring(router, peer, ["heard again"])


def test_protected_peers_are_heard_and_published_to_whatever_their_score() -> None:
    friend = peer_id(1)
    router = make_router(exempt=lambda peer: peer == friend)
    (peer,) = joined(router, "news", 1, UNSIGNED)
    assert peer == friend
    (changed,) = appoint(router, peer, -1e6)
    assert not changed.outcast
    assert bring(router, peer, ["x"])
    router.handle(Published(1, "news", [b"mine"]), 1.0)
    assert [list(found.publish) for found in rpcs(router, peer) if found.publish] == [[plain("news", b"mine")]]
    router.handle_deadline(2.0)
    assert mesh(router) == ()  # but not in the mesh


def test_below_the_publish_threshold_nothing_is_published_to_a_peer() -> None:
    for config in (GossipConfig(), GossipConfig(flood_publish=False), GossipConfig(flood_peers=2, d_low=1, d_out=0)):
        router = make_router(config=config)
        peer, bad, third = joined(router, "news", 3, UNSIGNED)
        appoint(router, bad, -51.0)
        router.handle_deadline(2.0)  # it leaves the mesh
        for each in (peer, bad, third):
            rpcs(router, each)
        router.handle(Published(1, "news", [b"mine"]), 2.0)
        assert any(found.publish for found in rpcs(router, peer))
        assert not any(found.publish for found in rpcs(router, bad))
        appoint(router, bad, -49.0)
        router.handle(Published(2, "news", [b"again"]), 2.0)
        if config.flood_publish and config.flood_peers > 2:
            assert any(found.publish for found in rpcs(router, bad))


def test_who_falls_below_it_leaves_the_fanout() -> None:
    router = make_router(config=GossipConfig(flood_publish=False))
    peers = [enter(router, number) for number in range(1, 4)]
    router.handle(Published(1, "news", [b"first"]), 1.0)
    assert set(mesh(router)) == set(peers)
    appoint(router, peers[0], -51.0)
    router.handle_deadline(3.0)
    assert set(mesh(router)) == set(peers[1:])


def test_below_the_gossip_threshold_ihave_and_iwant_are_neither_sent_nor_taken() -> None:
    router = make_router(config=GossipConfig(d=2, d_low=1, d_high=2, d_out=0))
    joined(router, "news", 2, UNSIGNED)
    outside = enter(router, 7)
    router.handle_deadline(1.1)
    rpcs(router, outside)
    bring(router, peer_id(1), ["x"], 1.2)
    appoint(router, outside, -11.0)
    identifier = next(iter(router._state.cache.gossip_ids("news")))
    asks = control(iwant=[{"messageIDs": [identifier]}])
    names = control(ihave=[{"topicID": b"news", "messageIDs": [b"unknown"]}])
    for beat in range(3):
        router.handle_deadline(2.2 + beat)
    router.handle(RpcsReceived(outside, [asks, names]), 4.5)
    assert rpcs(router, outside) == []
    appoint(router, outside, -9.0)
    router.handle(RpcsReceived(outside, [asks, names]), 4.5)
    answer, asked = rpcs(router, outside)
    assert [list(answer.publish), list(asked.control.iwant[0].messageIDs)] == [[plain("news", b"x")], [b"unknown"]]
    bring(router, peer_id(1), ["y"], 4.6)
    told = 0
    for beat in range(3):
        router.handle_deadline(5.5 + beat)
        told += sum(len(found.control.ihave) for found in rpcs(router, outside))
    assert told


def test_peer_exchange_is_taken_from_who_is_good_enough_alone() -> None:
    offered = [{"peerID": bytes(peer_id(50)), "signedPeerRecord": b"record"}]
    prune = control(prune=[{"topicID": b"news", "peers": offered, "backoff": 60}])
    for threshold, points, taken in [(0.0, 0.0, True), (10.0, 9.9, False), (10.0, 10.0, True)]:
        router = make_router(config=GossipConfig(score=ScoreConfig(accept_exchange_threshold=threshold)))
        (peer,) = joined(router, "news", 1)
        appoint(router, peer, points)
        effects = router.handle(RpcsReceived(peer, [prune]), 1.0)
        assert any(isinstance(effect, PeersOffered) for effect in effects) is taken


def test_neither_peer_exchange_nor_a_graft_is_for_who_is_below_0() -> None:
    router = make_router()
    bad = joined(router, "news", 6)[0]
    appoint(router, bad, -1.0)
    router.handle_deadline(2.0)
    (pruned,) = rpcs(router, bad)
    assert not pruned.control.prune[0].peers
    assert bad not in mesh(router)
    newcomer = enter(router, 9)
    appoint(router, newcomer, -1.0)
    router.handle(RpcsReceived(newcomer, [graft("news")]), 2.0)
    (declined,) = rpcs(router, newcomer)
    assert list(declined.control.prune[0].peers) == []
    assert newcomer not in mesh(router)
    # Nor are such peers named to others.
    router.handle(TopicLeft("news"), 3.0)
    named = {bytes(info.peerID) for found in rpcs(router, peer_id(2)) for p in found.control.prune for info in p.peers}
    assert bytes(peer_id(3)) in named
    assert not named & {bytes(bad), bytes(newcomer)}


# ---------------------------------------------------------------- mesh maintenance


def test_the_best_stay_when_a_mesh_is_too_large() -> None:
    router = make_router(config=GossipConfig(d=4, d_low=2, d_high=6, d_out=1, d_score=3))
    peers = joined(router, "news", 6, UNSIGNED)
    for peer in peers:
        router.handle(RpcsReceived(peer, [graft("news")]), 0.0)
    extra = enter(router, 7, outbound=True)
    router.handle(RpcsReceived(extra, [graft("news")]), 1.0)
    assert len(mesh(router)) == 7
    best = [peers[1], peers[3], peers[5]]
    for points, peer in enumerate(best, 1):
        appoint(router, peer, float(points))
    router.handle_deadline(2.0)
    assert len(mesh(router)) == 4
    assert set(best) <= set(mesh(router))


def test_a_mesh_of_little_worth_takes_in_better_peers_each_minute() -> None:
    router = make_router(config=GossipConfig(d=3, d_low=2, d_high=6, d_out=0))
    joined(router, "news", 3, UNSIGNED)
    assert len(mesh(router)) == 2
    for number, peer in enumerate(mesh(router)):  # they take part, so that there is no haste
        bring(router, peer, [number])
    better = [enter(router, number) for number in range(10, 14)]
    equal = enter(router, 20)
    for peer in better:
        appoint(router, peer, 3.0)
    for beat in range(1, 61):
        assert len(mesh(router)) == 2
        router.handle_deadline(beat + 1.0)
    assert len(mesh(router)) == 4
    assert len(set(mesh(router)) & set(better)) == 2
    assert equal not in mesh(router)


def test_a_mesh_that_is_worth_enough_is_left_alone() -> None:
    router = make_router(config=GossipConfig(d=3, d_low=2, d_high=6, d_out=0))
    members = joined(router, "news", 2, UNSIGNED)
    for peer in members:
        appoint(router, peer, 5.0)
    better = enter(router, 10)
    appoint(router, better, 50.0)
    for beat in range(1, 62):
        router.handle_deadline(beat + 1.0)
    assert set(mesh(router)) == set(members)


# ---------------------------------------------------------------- what counts


def test_deliveries_and_time_in_the_mesh_are_credited() -> None:
    router = make_router()
    peer, other = joined(router, "news", 2, UNSIGNED)
    bring(router, peer, range(10), 1.0)
    bring(router, other, range(10), 1.0)  # copies
    router.handle_deadline(2.0)
    assert score(router, peer) == pytest.approx(10 * 0.2, rel=0.05)
    assert score(router, other) == pytest.approx(0.02, abs=0.001)  # two seconds in the mesh


def test_messages_of_every_invalid_kind_count_and_many_send_a_peer_away() -> None:
    router = make_router()
    (peer,) = joined(router, "news", 1)
    forged = [signed(5, "news", b"x", number)[:-2] + b"\0\0" for number in range(20)]
    (changed,) = [
        effect
        for effect in router.handle(RpcsReceived(peer, [rpc(publish=forged)]), 1.0)
        if isinstance(effect, StandingChanged)
    ]
    assert changed.outcast
    assert changed.reason == "invalid messages on 'news' (-1.92e+04)"
    assert router.statistics().rejected["signature"] == 16  # no more of them are checked in one breath


@pytest.mark.parametrize("raw", [plain("news", b"x"), b"\x12\x01x"])
def test_one_message_without_a_signature_and_two_without_a_topic(raw: bytes) -> None:
    router = make_router()
    (peer,) = joined(router, "news", 1)
    router.handle(RpcsReceived(peer, [rpc(publish=[raw])]), 1.0)
    view = router.score(peer)
    assert view is not None
    assert (view.score < -50) is (raw == plain("news", b"x"))
    assert view.behaviour == 0.0  # one may be a mistake
    router.handle(RpcsReceived(peer, [rpc(publish=[b"\x12\x01x"] * 7)]), 1.0)
    view = router.score(peer)
    assert view is not None
    assert view.behaviour < 0


def test_grafts_in_the_back_off_count_and_twice_when_they_come_at_once() -> None:
    router = make_router()
    (peer,) = joined(router, "news", 1)
    router.handle(RpcsReceived(peer, [control(prune=[{"topicID": b"news", "backoff": 60}])]), 1.0)
    record = router._state.peers[peer].record
    router.handle(RpcsReceived(peer, [graft("news")]), 1.5)
    assert record.behaviour == 2.0
    router.handle(RpcsReceived(peer, [graft("news")]), 11.4)
    assert record.behaviour == 4.0
    router.handle(RpcsReceived(peer, [graft("news")]), 21.5)
    assert record.behaviour == 5.0
    assert router.statistics().misbehaviour["graft_in_backoff"] == 3
    for _ in range(5):
        router.handle(RpcsReceived(peer, [graft("news")]), 35.0)
    assert router._state.peers[peer].record.value == pytest.approx(-10.0 * (10 - 6) ** 2)


def test_a_promise_is_broken_when_nobody_brings_the_message() -> None:
    router = make_router()
    peer, other = joined(router, "news", 2, UNSIGNED)
    names = [plain("news", b"%d" % number) for number in range(4)]
    ids = unsigned_ids([b"%d" % number for number in range(4)])
    router.handle_deadline(1.0)
    router.handle(TopicJoined("news", UNSIGNED), 1.0)
    router.handle(RpcsReceived(peer, [control(ihave=[{"topicID": b"news", "messageIDs": ids[:1]}])]), 10.0)
    router.handle(RpcsReceived(peer, [control(ihave=[{"topicID": b"news", "messageIDs": ids[1:2]}])]), 10.0)
    record = router._state.peers[peer].record
    router.handle(RpcsReceived(other, [rpc(publish=[names[0]])]), 10.5)  # whoever it is that brings it
    router.handle_deadline(12.9)
    assert record.behaviour == 0.0
    router.handle_deadline(14.0)
    assert record.behaviour == 1.0
    router.handle_deadline(15.0)
    assert record.behaviour < 1.0
    assert router.statistics().misbehaviour["broken_promise"] == 1


def test_nobody_breaks_a_promise_whose_answer_waits_here() -> None:
    router = make_router(config=GossipConfig(turn_messages=4))
    (peer,) = joined(router, "news", 1, UNSIGNED)
    router.handle(RpcsReceived(peer, [control(ihave=[{"topicID": b"news", "messageIDs": [b"x"]}])]), 10.0)
    burst = [rpc(publish=[plain("news", b"%d" % number)]) for number in range(40)]
    router.handle(RpcsReceived(peer, burst), 13.9)
    router._state.config = replace(router._state.config, turn_messages=1)
    record = router._state.peers[peer].record
    router.handle_deadline(14.0)
    assert router._state.peers[peer].backlog
    assert record.behaviour == 0.0


def test_extensions_said_again_weigh_heavily() -> None:
    router = make_router()
    peer = peer_id(1)
    said = control(extensions={})
    router.handle(PeerAdded(peer, "/meshsub/1.3.0", True), 0.0)
    router.handle(RpcsReceived(peer, [said]), 0.0)
    assert score(router, peer) == 0.0
    router.handle(RpcsReceived(peer, [said]), 0.0)
    assert score(router, peer) == -10.0 * (10 - 6) ** 2


def test_a_peer_whose_queue_is_full_is_slow() -> None:
    router = make_router(config=GossipConfig(queue_max_messages=1))
    slow, other = joined(router, "news", 2, UNSIGNED)
    source = enter(router, 8)
    router.handle(RpcsReceived(source, [graft("news")]), 1.0)
    for number in range(3):
        bring(router, source, [number])
        rpcs(router, other)
    router.handle_deadline(2.0)
    view = router.score(slow)
    assert view is not None
    assert view.slow == pytest.approx(-0.2)
    assert score(router, other) > 0


def test_a_crowd_at_one_public_address_and_what_ends_it() -> None:
    router = make_router(config=GossipConfig(score=ScoreConfig(colocation_threshold=2)))
    for number in range(1, 5):
        router.handle(PeerAdded(peer_id(number), "/meshsub/1.1.0", False, hosts=("198.51.100.7",)), 0.0)
    router.handle_deadline(1.5)
    assert score(router, peer_id(1)) == -5.0 * (4 - 2) ** 2
    router.handle(PeerDescribed(peer_id(1), False, ("203.0.113.1",)), 2.0)
    router.handle(PeerRemoved(peer_id(2)), 2.0)
    router.handle_deadline(3.0)
    assert [score(router, peer_id(number)) for number in (1, 3, 4)] == [0.0, 0.0, 0.0]


def test_what_was_thought_of_a_peer_holds_when_it_comes_back_from_elsewhere() -> None:
    router = make_router()
    (peer,) = joined(router, "news", 1)
    router.handle(RpcsReceived(peer, [rpc(publish=[plain("news", b"x")])]), 1.0)
    before = score(router, peer)
    router.handle(PeerRemoved(peer), 2.0)
    router.handle_deadline(500.0)
    router.handle(PeerAdded(peer, "/meshsub/1.1.0", False, hosts=("203.0.113.9",)), 600.0)
    router.handle(RpcsReceived(peer, [subscribe("news"), graft("news")]), 600.0)
    assert score(router, peer) == before
    assert mesh(router) == ()


# ---------------------------------------------------------------- expected rates


def test_a_topic_with_a_rate_says_how_it_is_scored_and_blames_who_brings_nothing() -> None:
    router = make_router()
    effects = router.handle(TopicJoined("news", TopicOptions(False, 10.0)), 0.0)
    (scored,) = [effect for effect in effects if isinstance(effect, TopicScored)]
    assert scored == TopicScored("news", ScoreConfig().for_rate(10.0, 6))
    assert next(view.scoring for view in router.topics()) == scored.parameters
    for number in (1, 2, 3):
        enter(router, number)
    for second in range(1, 60):
        bring(router, peer_id(1), [(second, n) for n in range(10)], second + 0.1)
        bring(router, peer_id(2), [(second, n) for n in range(2)], second + 0.2)
        router.handle_deadline(second + 1.0)
    assert score(router, peer_id(2)) > 0
    assert score(router, peer_id(3)) < 0
    assert peer_id(3) not in mesh(router)


def test_a_rate_may_be_told_later_and_stays_until_another_is() -> None:
    router = make_router(config=GossipConfig(score=ScoreConfig(expected_rates=(("news", 5.0),))))
    (scored,) = router.handle(TopicJoined("news", UNSIGNED), 0.0)
    assert scored == TopicScored("news", ScoreConfig().for_rate(5.0, 6))
    assert router.handle(TopicJoined("news", UNSIGNED), 0.0) == []
    (scored,) = router.handle(TopicJoined("news", TopicOptions(False, 50.0)), 0.0)
    assert scored == TopicScored("news", ScoreConfig().for_rate(50.0, 6))
    assert router.handle(TopicJoined("news", UNSIGNED), 0.0) == []
    assert next(view.scoring for view in router.topics()) == ScoreConfig().for_rate(50.0, 6)


def test_a_standing_that_a_peer_comes_with_is_told_when_it_comes() -> None:
    """An app may know what it thinks of a peer before that gossips, though it is connected already."""
    router = make_router()
    assert appoint(router, peer_id(1), -100.0) == []
    (told,) = [
        effect
        for effect in router.handle(PeerAdded(peer_id(1), "/meshsub/1.1.0", True), 1.0)
        if isinstance(effect, StandingChanged)
    ]
    assert (told.standing, told.reason) == (Standing.GRAYLISTED, "an app says so (-100)")
    assert [change.standing for change in appoint(router, peer_id(1), 0.0)] == [Standing.GOOD]
