"""One lookup without a network: the order of its questions, its ends, its bounds."""

import random

from hypothesis import given, settings
from hypothesis import strategies as st
from kad_network import address, peer

from sidecar.core.kademlia.keyspace import place
from sidecar.core.kademlia.lookup import CandidateState, Lookup
from sidecar.core.parameters.kademlia import KademliaConfig
from sidecar.core.types import PeerId

KEY = b"the key"
CONFIG = KademliaConfig(k=4, alpha=2, max_candidates=10, max_queries=12, max_addresses=4)
# Peers in the order of their distance from the key.
NEAR = sorted(map(peer, range(100)), key=lambda one: place(one) ^ place(KEY))
AT = (address(1),)


def started(*seeds: PeerId, config: KademliaConfig = CONFIG, target: PeerId | None = None) -> Lookup:
    lookup = Lookup(config, KEY, target=target)
    for seed in seeds:
        lookup.offer(seed, AT)
    return lookup


def asked(lookup: Lookup) -> list[PeerId]:
    return [candidate.peer for candidate in lookup.next_queries()]


def test_asks_the_closest_first_and_ends_when_the_k_closest_have_answered() -> None:
    lookup = started(NEAR[50], NEAR[40], NEAR[30])
    assert asked(lookup) == [NEAR[30], NEAR[40]]  # alpha of them
    assert asked(lookup) == []
    lookup.answered(NEAR[30], [(NEAR[3], AT), (NEAR[1], AT)])
    assert asked(lookup) == [NEAR[1]]
    lookup.answered(NEAR[1], [(NEAR[0], AT), (NEAR[2], AT)])
    assert asked(lookup) == [NEAR[0]]
    lookup.answered(NEAR[40], [])
    assert asked(lookup) == [NEAR[2]]
    lookup.failed(NEAR[2])
    assert asked(lookup) == [NEAR[3]]
    lookup.answered(NEAR[0], [(NEAR[2], AT)])  # one that failed is not asked again
    lookup.answered(NEAR[3], [])
    assert lookup.finished  # 0, 1, 3 and 30 answered; 40 and 50 do not belong to the closest four
    assert [candidate.peer for candidate in lookup.closest()] == [NEAR[0], NEAR[1], NEAR[3], NEAR[30]]
    assert [candidate.depth for candidate in lookup.closest()] == [3, 2, 2, 1]
    assert (lookup.queried, lookup.failures) == (6, 1)


def test_ends_where_nobody_is_left() -> None:
    assert started().finished
    lookup = started(NEAR[0], NEAR[1])
    assert asked(lookup) == [NEAR[0], NEAR[1]]
    lookup.failed(NEAR[0])
    assert not lookup.finished
    lookup.failed(NEAR[1])
    assert lookup.finished
    assert lookup.closest() == []


def test_a_target_is_tried_again_at_another_address_only() -> None:
    lookup = started(NEAR[0], NEAR[5], target=NEAR[0])
    assert asked(lookup) == [NEAR[0], NEAR[5]]
    lookup.failed(NEAR[0])
    lookup.answered(NEAR[5], [(NEAR[0], AT), (NEAR[6], AT)])
    assert asked(lookup) == [NEAR[6]]
    lookup.answered(NEAR[6], [(NEAR[0], (address(2), *AT))])
    assert asked(lookup) == [NEAR[0]]
    target = lookup.get(NEAR[0])
    assert target is not None
    assert target.addresses == (address(2), *AT)  # the new one first


def test_is_bounded_in_candidates_queries_and_addresses() -> None:
    lookup = started(NEAR[99])
    assert asked(lookup) == [NEAR[99]]
    lookup.answered(NEAR[99], [(one, AT) for one in NEAR[20:90]])
    heard = [one for one in NEAR if (found := lookup.get(one)) and found.state is CandidateState.HEARD]
    assert heard == NEAR[20:30]  # the closest ones
    for number in range(100):
        lookup.offer(NEAR[20], (address(number),))
    candidate = lookup.get(NEAR[20])
    assert candidate is not None
    assert len(candidate.addresses) == CONFIG.max_addresses
    queried = 1
    while batch := asked(lookup):
        queried += len(batch)
        for one in batch:
            lookup.failed(one)
        lookup.offer(NEAR[queried], AT)
    assert queried == lookup.queried == CONFIG.max_queries
    assert lookup.finished


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 6), st.integers(1, 6), st.floats(0, 0.6))
def test_terminates_with_answers_in_order(seed: int, k: int, alpha: int, loss: float) -> None:
    """Whatever the graph, losses and order of answers: no more than alpha at once, and nothing closer unasked."""
    rng = random.Random(seed)
    graph = {one: rng.sample(NEAR, 8) for one in NEAR}
    lookup = started(*rng.sample(NEAR, 3), config=KademliaConfig(k=k, alpha=alpha))
    flying: dict[PeerId, None] = {}
    answered: dict[PeerId, None] = {}
    heard: dict[PeerId, None] = {}
    while True:
        flying.update(dict.fromkeys(asked(lookup)))
        assert len(flying) <= alpha
        if lookup.finished:
            break
        one = rng.choice(list(flying))
        del flying[one]
        if rng.random() < loss:
            lookup.failed(one)
        else:
            answered[one] = None
            heard.update(dict.fromkeys(graph[one]))
            lookup.answered(one, [(other, AT) for other in graph[one]])
    result = [candidate.peer for candidate in lookup.closest()]
    assert result == [one for one in NEAR if one in answered][:k]
    if len(result) == k:
        closer = NEAR[: NEAR.index(result[-1])]
        assert all(
            (found := lookup.get(one)) and found.state in (CandidateState.ANSWERED, CandidateState.FAILED)
            for one in closer
            if one in heard
        )
