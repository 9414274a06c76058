"""What is counted by topic, and how long messages take to show up elsewhere, by this node's clock."""

from dataclasses import replace

from gossip_network import UNSCORED, control, graft, joined, make_router, plain, rpc, rpcs, signed, subscribe

from sidecar.core.gossip import (
    GossipConfig,
    GossipRouter,
    PeerAdded,
    Published,
    RpcsReceived,
    TopicCounts,
    TopicOptions,
)
from sidecar.core.gossip.propagation import BOUNDS, Propagation
from sidecar.core.types import PeerId

UNSIGNED = TopicOptions(sign=False)


def counts(router: GossipRouter, topic: str = "news") -> TopicCounts:
    return next(view.counts for view in router.topics() if view.topic == topic)


def observed(propagation: Propagation) -> tuple[int, float, int, float]:
    """How many delays and echoes, and their sums."""
    delays, echoes = propagation.delays, propagation.echoes
    return sum(delays.counts), round(delays.total, 6), sum(echoes.counts), round(echoes.total, 6)


def in_mesh(router: GossipRouter, peers: list[PeerId]) -> list[PeerId]:
    for peer in peers:
        router.handle(RpcsReceived(peer, [graft("news")]), 0.0)
        rpcs(router, peer)
    return peers


def copy(peer: PeerId, *raws: bytes) -> RpcsReceived:
    return RpcsReceived(peer, [rpc(publish=raws)])


def test_topics_count_what_came_and_what_became_of_it() -> None:
    router = make_router(config=replace(UNSCORED, queue_max_messages=1))
    source, other = in_mesh(router, joined(router, "news", 2))
    good, again = signed(5, "news", b"four"), signed(5, "news", b"more", 8)
    router.handle(copy(source, good, again), 1.0)
    router.handle(copy(other, good), 1.1)
    router.handle(copy(source, good[:-1] + b"x", plain("news", b"unsigned"), signed(6, "news", b"bad")[:-1] + b"x"), 2)
    router.handle(Published(1, "news", [b"mine"]), 3.0)
    assert counts(router) == TopicCounts(
        delivered=3, published=1, duplicates=2, rejected=2, dropped=1, delivered_bytes=12, published_bytes=4
    )


def test_a_full_queue_is_counted_for_the_topic_it_concerns() -> None:
    router = make_router(config=GossipConfig(queue_max_messages=1))
    in_mesh(router, joined(router, "news", 2))
    router.handle(RpcsReceived(next(iter(router.peers())).peer, [subscribe("other")]), 0.0)
    for number in range(3):
        router.handle(Published(number, "news", [b"%d" % number]), 1.0)
    assert (counts(router).dropped, counts(router, "other").dropped) == (0, 0)  # all full: nothing was published
    peers = [view.peer for view in router.peers()]
    rpcs(router, peers[0])
    router.handle(Published(9, "news", [b"nine"]), 1.0)
    assert counts(router).dropped == 1


def test_the_time_between_the_first_copy_and_those_of_other_peers_is_observed_once_for_each() -> None:
    router = make_router()
    first, second, third = in_mesh(router, joined(router, "news", 3))
    message = signed(5, "news", b"x")
    router.handle(copy(first, message), 1.0)
    router.handle(copy(second, message), 1.25)
    router.handle(copy(second, message), 1.5)  # the same peer again says nothing new
    router.handle(copy(first, message), 1.5)  # nor does the first one
    router.handle(copy(third, message), 2.0)
    assert observed(router.propagation()) == (2, 1.25, 0, 0)


def test_an_idontwant_shows_it_too_and_a_copy_after_it_does_not_count_again() -> None:
    router = make_router()
    first, second, third = in_mesh(router, joined(router, "news", 3, UNSIGNED, "/meshsub/1.2.0"))
    router.handle(copy(first, plain("news", b"x")), 1.0)
    (identifier,) = router._state.propagation.samples
    router.handle(RpcsReceived(second, [control(idontwant=[{"messageIDs": [identifier]}])]), 1.5)
    router.handle(copy(second, plain("news", b"x")), 1.75)
    router.handle(RpcsReceived(third, [control(ihave=[{"topicID": b"news", "messageIDs": [identifier]}])]), 1.75)
    assert observed(router.propagation()) == (1, 0.5, 0, 0)


def test_own_messages_are_observed_when_the_first_peer_shows_them() -> None:
    router = make_router()
    first, second = in_mesh(router, joined(router, "news", 2, UNSIGNED))
    router.handle(Published(1, "news", [b"mine"]), 1.0)
    (identifier,) = router._state.propagation.samples
    router.handle(RpcsReceived(first, [control(ihave=[{"topicID": b"news", "messageIDs": [identifier]}])]), 1.25)
    router.handle(copy(second, plain("news", b"mine")), 2.0)
    assert observed(router.propagation()) == (0, 0, 1, 0.25)


def test_a_signed_message_that_comes_back_to_its_author_is_an_echo() -> None:
    router = make_router()
    (first,) = in_mesh(router, joined(router, "news", 1))
    router.handle(Published(1, "news", [b"mine"]), 1.0)
    (sent,) = rpcs(router, first)
    router.handle(copy(first, *sent.publish), 1.5)
    assert observed(router.propagation()) == (0, 0, 1, 0.5)
    assert router.statistics().dropped["own_echo"] == 1


def test_what_nobody_got_is_no_sample() -> None:
    router = make_router()
    joined(router, "news", 0)
    router.handle(Published(1, "news", [b"mine"]), 1.0)
    assert not router._state.propagation.samples


def test_samples_are_few_and_forgotten() -> None:
    router = make_router()
    (first,) = in_mesh(router, joined(router, "news", 1, UNSIGNED))
    for number in range(6400):
        router.handle(copy(first, plain("news", b"%d" % number)), 1.0 + number / 640)
    samples = router._state.propagation.samples
    assert 300 < len(samples) <= 321  # 32 a second for ten seconds
    router.handle_deadline(router.next_deadline() or 0.0)
    router.handle_deadline(25.0)
    assert not samples


def test_observations_are_counted_by_their_bounds() -> None:
    propagation = Propagation(0.0)
    for value in (0.0, BOUNDS[0], BOUNDS[0] * 1.01, BOUNDS[-1], BOUNDS[-1] * 2):
        propagation.delays.observe(value)
    assert propagation.delays.counts == [2, 1, *[0] * (len(BOUNDS) - 3), 1, 1]


def test_an_unknown_peer_has_no_part_in_it() -> None:
    router = make_router()
    first, second = in_mesh(router, joined(router, "news", 2, UNSIGNED))
    router.handle(copy(first, plain("news", b"x")), 1.0)
    router.handle(PeerAdded(second, "/meshsub/1.1.0", False), 1.0)  # anew: it is still the same peer
    router.handle(copy(second, plain("news", b"x")), 1.5)
    assert observed(router.propagation()) == (1, 0.5, 0, 0)
