"""The routing table: who has a place, who waits, who goes, and who is closest."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kad_network import address, peer

from sidecar.core.kademlia.keyspace import MAX_DRAWN_PREFIX, common_prefix, place, random_key
from sidecar.core.kademlia.table import RoutingTable
from sidecar.core.parameters.kademlia import KademliaConfig
from sidecar.core.types import PeerId

LOCAL = peer(0)
CONFIG = KademliaConfig(k=3, max_replacements=2, probe_after=60.0, refresh_interval=600.0)
AT = (address(1),)
# Peers of the farthest bucket, in which half of all peers belong.
FAR = [one for one in map(peer, range(1, 60)) if common_prefix(place(one), place(LOCAL)) == 0]


@pytest.fixture
def full() -> RoutingTable:
    """FAR[0] to FAR[2] in the bucket, since the seconds 0, 1 and 2; FAR[3] and FAR[4] wait."""
    table = RoutingTable(CONFIG, LOCAL)
    for second, one in enumerate(FAR[:5]):
        assert table.connected(one, AT, float(second)) is None  # nobody is probed so early
    assert entries(table) == (FAR[:3], FAR[3:5])
    return table


def entries(table: RoutingTable) -> tuple[list[PeerId], list[PeerId]]:
    (bucket,) = table.buckets()
    return list(bucket.entries), list(bucket.replacements)


def test_a_newcomer_waits_and_calls_for_a_probe_of_the_least_recently_seen(full: RoutingTable) -> None:
    assert entries(full) == (FAR[:3], FAR[3:5])
    full.seen(FAR[0], 30.0)
    suspect = full.connected(FAR[5], AT, 90.0)
    assert suspect is not None
    assert suspect.peer == FAR[1]
    assert entries(full) == ([FAR[1], FAR[2], FAR[0]], [FAR[4], FAR[5]])  # the longest waiting made room
    assert full.connected(FAR[6], AT, 200.0) is None  # one probe at a time
    full.seen(FAR[1], 201.0)  # it lives: nothing changes
    assert entries(full) == ([FAR[2], FAR[0], FAR[1]], [FAR[5], FAR[6]])
    assert len(full) == 3
    suspect = full.connected(FAR[7], AT, 202.0)
    assert suspect is not None
    assert suspect.peer == FAR[2]
    full.remove(FAR[2])  # it is dead: the newest takes its place
    assert entries(full) == ([FAR[0], FAR[1], FAR[7]], [FAR[6]])
    assert len(full) == 3


def test_without_a_connection_is_suspected_first_and_also_when_nobody_waits(full: RoutingTable) -> None:
    full.disconnected(FAR[2], 10.0)
    full.disconnected(FAR[1], 20.0)
    (bucket,) = full.buckets()
    suspect = full.suspect(bucket, 71.0)
    assert suspect is not None
    assert suspect.peer == FAR[2]
    bucket.probing = None
    full.disconnected(FAR[3], 71.0)
    full.disconnected(FAR[4], 71.0)  # those that only waited are forgotten
    assert entries(full) == (FAR[:3], [])
    assert full.suspect(bucket, 609.0) is None
    assert full.suspect(bucket, 610.0) is suspect


def test_failures_cost_the_place(full: RoutingTable) -> None:
    full.disconnected(FAR[0], 5.0)
    full.failed(FAR[0])  # at once, for somebody waits
    assert entries(full) == ([FAR[1], FAR[2], FAR[4]], [FAR[3]])
    full.failed(FAR[1])  # connected: it gives up its place, and has it again when it answers and one is free
    assert entries(full) == ([FAR[2], FAR[4], FAR[3]], [FAR[1]])
    full.failed(FAR[2])
    full.failed(FAR[2])  # nobody sound waits: it stays
    assert entries(full) == ([FAR[2], FAR[4], FAR[3]], [FAR[1]])
    full.disconnected(FAR[2], 6.0)
    full.failed(FAR[2])
    assert entries(full) == ([FAR[4], FAR[3]], [FAR[1]])
    full.seen(FAR[1], 7.0)
    assert entries(full) == ([FAR[4], FAR[3], FAR[1]], [])
    full.disconnected(FAR[4], 8.0)
    full.failed(FAR[4])
    assert len(full) == 3
    assert [contact.peer for contact in full.closest(place(FAR[4]), 9, failing=False)][:1] != [FAR[4]]
    full.failed(FAR[4])
    assert len(full) == 2


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 30), st.booleans())
def test_the_closest_are_the_closest(seed: int, count: int, close: bool) -> None:
    rng = random.Random(seed)
    table = RoutingTable(CONFIG, LOCAL)
    for number in rng.sample(range(1, 400), 80):
        table.connected(peer(number), AT, 0.0)
    held = [one for bucket in table.buckets() for holder in (bucket.entries, bucket.replacements) for one in holder]
    target = place(LOCAL) ^ rng.getrandbits(250) if close else rng.getrandbits(256)
    excluded = rng.choice(held)
    truth = sorted((one for one in held if one != excluded), key=lambda one: place(one) ^ target)[:count]
    assert [contact.peer for contact in table.closest(target, count, exclude=excluded)] == truth


def test_is_bounded_whatever_comes() -> None:
    table = RoutingTable(CONFIG, LOCAL)
    for number in range(1, 500):
        table.connected(peer(number), AT, float(number))
    for bucket in table.buckets():
        assert len(bucket.entries) <= CONFIG.k
        assert len(bucket.replacements) <= CONFIG.max_replacements
    assert len(table) == sum(len(bucket.entries) for bucket in table.buckets())


@pytest.mark.parametrize("prefix", [0, 3, MAX_DRAWN_PREFIX])
def test_a_random_key_lies_where_it_should(prefix: int) -> None:
    key = random_key(place(LOCAL), prefix, random.Random(1))
    assert key is not None
    assert PeerId.from_bytes(key) == key  # js-libp2p wants a multihash
    assert common_prefix(place(key), place(LOCAL)) == prefix
    assert random_key(place(LOCAL), MAX_DRAWN_PREFIX + 1, random.Random(1)) is None
