"""What it takes to join a network that is there: few questions, and the true neighbours all the same."""

import random
from bisect import bisect_left
from collections import Counter

import pytest
from kad_network import Network

from sidecar.core.kademlia import KademliaConfig, TableRestored
from sidecar.core.kademlia.keyspace import KEY_BITS, common_prefix, place
from sidecar.core.types import PeerId

CONFIG = KademliaConfig()
ANCHORS = 3
MINUTE = 60.0


def filled(count: int) -> Network:
    """A network whose tables hold their true neighbours, and of each part that is farther away a full bucket."""
    network = Network(1, CONFIG)
    peers = [network.add(number) for number in range(count)]
    order = sorted((place(peer), peer) for peer in peers)
    places = [where for where, _ in order]
    for peer in peers:
        where = place(peer)
        contacts: list[PeerId] = []
        for prefix in range(KEY_BITS):
            bits = KEY_BITS - prefix - 1
            first = (where >> bits ^ 1) << bits
            part = range(bisect_left(places, first), bisect_left(places, first + (1 << bits)))
            drawn = part if len(part) <= CONFIG.k else network.rng.sample(part, CONFIG.k)
            contacts += [order[number][1] for number in drawn]
            mine = where >> bits << bits
            if bisect_left(places, mine + (1 << bits)) - bisect_left(places, mine) == 1:
                break  # nobody shares more
        network.feed(peer, TableRestored([(other, (network.addresses[other],)) for other in contacts]))
    return network


@pytest.mark.parametrize(
    ("count", "joining"), [(1000, 20), pytest.param(10_000, 100, marks=pytest.mark.slow)], ids=["1000", "10000"]
)
def test_who_joins_asks_at_most_60_questions_in_the_first_minute(count: int, joining: int) -> None:
    network = filled(count)
    anchors = list(network.routers)[:ANCHORS]
    asked: list[int] = []
    joined: list[PeerId] = []

    def join() -> None:
        new = network.add(count + len(joined))
        joined.append(new)
        for anchor in random.Random(len(joined)).sample(anchors, ANCHORS):  # connections open one after the other
            network.at(network.rng.uniform(0.05, 0.15), lambda anchor=anchor: network.connect(new, anchor))
        network.at(MINUTE, lambda: asked.append(network.routers[new].statistics().queries))

    for number in range(joining):  # all of them as fast as in a network that has got so large within a minute
        network.at(number * MINUTE / count, join)
    network.run(joining * MINUTE / count + MINUTE + 1)
    assert len(asked) == joining
    assert sum(asked) / joining <= 60
    assert max(asked) <= 80
    everybody = [(place(peer), peer) for peer in network.routers]
    for new in joined:
        truth = sorted((where ^ place(new), peer) for where, peer in everybody if peer != new)[: CONFIG.k]
        assert [peer for peer, _ in network.routers[new].closest(bytes(new), CONFIG.k)] == [peer for _, peer in truth]


def test_in_a_network_that_grows_fast_nobody_lacks_contacts_far_away_after_a_minute() -> None:
    """Whoever is asked first for a part of the keyspace may have come a moment before, and know nobody there."""
    count, each = 150, 0.1
    network = Network(2, CONFIG)
    asked: list[int] = []

    def join(number: int) -> None:
        new = network.add(number)
        if number:
            network.connect(new, next(iter(network.routers)))
        network.at(MINUTE, lambda: asked.append(network.routers[new].statistics().queries))

    for number in range(count):
        network.at(number * each, lambda number=number: join(number))
    network.run(count * each + MINUTE)
    for peer, router in network.routers.items():
        held = {bucket.prefix: len(bucket.peers) for bucket in router.buckets()}
        there = Counter(common_prefix(place(other), place(peer)) for other in network.routers if other != peer)
        assert {prefix for prefix, many in there.items() if held.get(prefix, 0) < min(many, 2)} == set()
    assert sum(asked) / len(asked) <= 60
    assert max(asked) <= 80
