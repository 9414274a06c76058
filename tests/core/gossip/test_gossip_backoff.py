"""GRAFTs in a back-off: honest routers are never blamed for what they could not know, and others are."""

import heapq

import pytest
from gossip_network import GossipNetwork, control, graft, joined, make_router, peer_id, rpcs, subscribe

from sidecar.core.gossip import (
    GossipConfig,
    GossipRouter,
    PeerAdded,
    PeerRemoved,
    RpcsReceived,
    TopicJoined,
    TopicOptions,
)
from sidecar.core.types import PeerId

UNSIGNED = TopicOptions(sign=False)
SMALL = GossipConfig(d=3, d_low=2, d_high=3, d_score=2, d_out=1, dependents=0)


def full() -> GossipRouter:
    """A router whose mesh is full, and that has turned the peer 9 away just now, at 0."""
    router = make_router(config=SMALL)
    joined(router, "news", 3, UNSIGNED)
    for number in (1, 2, 3):
        router.handle(RpcsReceived(peer_id(number), [graft("news")]), 0.0)
    come(router, 9, 0.0)
    grafts(router, 9, 0.0)
    assert blamed(router) == 0
    return router


def come(router: GossipRouter, number: int, now: float) -> PeerId:
    router.handle(PeerAdded(peer_id(number), "/meshsub/1.1.0", False), now)
    router.handle(RpcsReceived(peer_id(number), [subscribe("news")]), now)
    rpcs(router, peer_id(number))
    return peer_id(number)


def grafts(router: GossipRouter, number: int, now: float) -> None:
    """It grafts, and is pruned."""
    router.handle(RpcsReceived(peer_id(number), [graft("news")]), now)
    pruned = [each for found in rpcs(router, peer_id(number)) for each in found.control.prune]
    assert [each.topicID for each in pruned] == [b"news"]


def blamed(router: GossipRouter) -> int:
    return router.statistics().misbehaviour["graft_in_backoff"]


def test_a_prune_that_was_lost_with_its_stream_is_nobodys_fault() -> None:
    router = full()
    router.handle(PeerRemoved(peer_id(9)), 0.1)
    come(router, 9, 5.0)
    grafts(router, 9, 5.0)
    assert blamed(router) == 0
    grafts(router, 9, 5.1)  # it has been told now
    assert blamed(router) == 1


def test_a_graft_that_crosses_a_prune_is_excused_once() -> None:
    router = full()
    grafts(router, 9, 0.2)
    assert blamed(router) == 0
    for number in range(5):
        grafts(router, 9, 0.3 + number / 10)
    assert blamed(router) == 5


def test_a_graft_long_after_the_prune_is_not_excused() -> None:
    router = full()
    grafts(router, 9, 2.5)
    assert blamed(router) == 1


def test_coming_and_going_in_the_topic_excuses_nobody() -> None:
    router = full()
    grafts(router, 9, 3.0)
    for now in (3.1, 3.2, 3.3):
        router.handle(RpcsReceived(peer_id(9), [subscribe("news", False), subscribe("news")]), now)
        grafts(router, 9, now)
    assert blamed(router) == 4


@pytest.mark.parametrize(("waited", "fault"), [(1.0, 1), (4.9, 1), (6.0, 0), (9.0, 0)])
def test_who_pruned_us_knows_when_its_own_back_off_is_over(waited: float, fault: int) -> None:
    """We read its PRUNE late: by its own clock the ten seconds and the slack are over."""
    router = make_router(config=SMALL)
    joined(router, "news", 3, UNSIGNED)
    router.handle(RpcsReceived(peer_id(1), [control(prune=[{"topicID": b"news", "backoff": 10}])]), 1.0)
    grafts(router, 1, 1.0 + waited)
    assert blamed(router) == fault
    grafts(router, 1, 1.1 + waited)
    assert blamed(router) == fault + 1


@pytest.mark.parametrize(("at", "fault"), [(8.9, 1), (9.1, 0)])
def test_the_last_second_of_a_back_off_is_nobodys_fault(at: float, fault: int) -> None:
    router = full()  # for 10 s; who reckons in whole seconds may think it over by now
    grafts(router, 9, at)
    assert blamed(router) == fault
    grafts(router, 9, at + 1.0)  # it has been told anew
    assert blamed(router) == fault + 1


def test_a_graft_that_is_said_twice_in_one_breath_is_excused_as_one() -> None:
    router = full()
    twice = control(graft=[{"topicID": b"news"}, {"topicID": b"news"}])
    router.handle(RpcsReceived(peer_id(9), [twice]), 9.5)
    assert blamed(router) == 0
    router.handle(RpcsReceived(peer_id(9), [twice]), 12.0)
    assert blamed(router) == 2


def test_grafts_of_many_rpcs_that_are_read_in_one_turn_are_excused_once() -> None:
    router = full()
    router.handle(RpcsReceived(peer_id(9), [graft("news")] * 20), 9.5)
    assert blamed(router) == 19


def test_who_grafts_and_prunes_in_turn_is_excused_for_nothing() -> None:
    router = full()
    prune = control(prune=[{"topicID": b"news"}])
    router.handle(RpcsReceived(peer_id(1), [prune, graft("news")] * 20), 5.0)
    assert blamed(router) == 20


def test_a_link_that_came_to_be_meanwhile_makes_it_all_forgotten() -> None:
    router = full()
    router.handle(PeerRemoved(peer_id(1)), 20.0)
    router.handle(RpcsReceived(peer_id(9), [graft("news")]), 20.0)
    assert peer_id(9) in router.topics()[0].mesh
    router.handle(RpcsReceived(peer_id(9), [control(prune=[{"topicID": b"news", "backoff": 10}])]), 21.0)
    grafts(router, 9, 22.0)
    assert blamed(router) == 1


class FarNetwork(GossipNetwork):
    """Routers so far from each other that a PRUNE may take longer than the slack, and links that break off."""

    def _delay(self, link: tuple[int, int]) -> float:
        return 0.1 + 6.0 * self.rng.random() ** 4

    def break_off(self, one: int, other: int) -> None:
        """The link ends, with all that is on its way, and is there again at once."""
        self.disconnect(one, other)
        self._wire = [entry for entry in self._wire if {entry[2], entry[3]} != {one, other}]
        heapq.heapify(self._wire)
        self.connect(one, other)


@pytest.mark.parametrize("seed", [2, pytest.param(1, marks=pytest.mark.slow)])
def test_honest_routers_never_blame_each_other(seed: int) -> None:
    """Half of them want more links than the other half has places, so that these turn them away again and again."""
    count = 12
    network = FarNetwork(count, seed, GossipConfig(d=2, d_low=1, d_high=2, d_score=1, d_out=0, dependents=0))
    for number in range(0, count, 2):
        hungry = GossipConfig(d=8, d_low=7, d_high=9, d_out=0, dependents=0)
        network.routers[number] = make_router(number, hungry, seed)
    for number in range(count):
        network.input(number, TopicJoined("news", UNSIGNED))
    pairs = [(one, other) for one in range(count) for other in range(one)]
    for one, other in pairs:
        network.connect(one, other)
    for _ in range(120):
        network.run(1.0)
        network.break_off(*network.rng.choice(pairs))
    prunes = sum(router.statistics().prunes_sent for router in network.routers)
    assert prunes > 40, f"seed {seed}"
    assert [blamed(router) for router in network.routers] == [0] * count, f"seed {seed}"
