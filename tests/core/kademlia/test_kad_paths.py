"""Lookups among peers of which some mislead: disjoint paths, and bounds for peers of one network."""

import random
from collections.abc import Callable

import pytest

from sidecar.core.kademlia import KademliaConfig
from sidecar.core.kademlia.keyspace import KEY_BITS, place
from sidecar.core.kademlia.lookup import Lookup
from sidecar.core.kademlia.table import RoutingTable
from sidecar.core.multiaddr import Multiaddr
from sidecar.core.networks import AddressGroup, AddressKey
from sidecar.core.types import PeerId

KEY = b"what is looked for"


def peer(number: int) -> PeerId:
    return PeerId(b"\x12\x20" + number.to_bytes(32, "big"))


def at(host: str) -> tuple[Multiaddr, ...]:
    return (Multiaddr.tcp(host, 4747),)


def host(number: int) -> str:
    """An address in a network of its own."""
    return f"{20 + number // 40_000}.{number // 200 % 200}.{number % 200}.1"


class World:
    """Honest peers that know some of each other, and hostile ones that name only each other."""

    def __init__(self, seed: int, honest: int, hostile: int, *, of_one_network: bool = False) -> None:
        rng = self.rng = random.Random(seed)
        self.honest = [peer(number) for number in range(honest)]
        self.hostile = [peer(1_000_000 + number) for number in range(hostile)]
        self.network: dict[PeerId, AddressKey] = {}
        for number, one in enumerate([*self.honest, *self.hostile]):
            shared = of_one_network and one in self.hostile[-hostile:]
            self.network[one] = AddressGroup.of("203.0.113.5" if shared else host(number)).network
        everybody = [*self.honest, *self.hostile]
        self.known = {one: self._table(one, rng.sample(everybody, len(everybody))) for one in self.honest}
        self.hostile_closest = sorted(self.hostile, key=lambda one: place(one) ^ place(KEY))[:20]

    @staticmethod
    def _table(owner: PeerId, others: list[PeerId]) -> list[PeerId]:
        buckets: dict[int, list[PeerId]] = {}
        for other in others:
            if other != owner:
                bucket = buckets.setdefault(KEY_BITS - (place(owner) ^ place(other)).bit_length(), [])
                if len(bucket) < 20:
                    bucket.append(other)
        return [one for bucket in buckets.values() for one in bucket]

    def look_up(self, asker: PeerId, config: KademliaConfig, *, counted: bool = False) -> Lookup:
        """Run a lookup to its end, one answer after the other in an order by chance."""

        def closest(known: list[PeerId]) -> list[tuple[PeerId, tuple[Multiaddr, ...]]]:
            return [(one, ()) for one in sorted(known, key=lambda one: place(one) ^ place(KEY))[:20]]

        lookup = Lookup(config, KEY)
        lookup.begin(closest(self.known[asker]))
        waiting: list[PeerId] = []
        while True:
            waiting += [candidate.peer for candidate in lookup.next_queries()]
            if lookup.finished or not waiting:
                return lookup
            asked = waiting.pop(self.rng.randrange(len(waiting)))
            told = closest(self.known[asked]) if asked in self.known else closest(self.hostile_closest)
            told = [named for named in told if named[0] != asker]
            lookup.answered(asked, told, self.network[asked] if counted else None)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_all_paths_lead_to_the_closest_where_nobody_lies(seed: int) -> None:
    world = World(seed, 400, 0)
    truth = sorted(world.honest, key=lambda one: place(one) ^ place(KEY))
    for asker in world.rng.sample(world.honest, 20):
        lookup = world.look_up(asker, KademliaConfig())
        expected = [one for one in truth if one != asker][:20]
        assert [one.peer for one in lookup.closest()] == expected
        assert [one.peer for one in lookup.reached()] == expected
        assert lookup.queried <= 60


def near(key: bytes, count: int, rng: random.Random, within: int = 12) -> list[PeerId]:
    """Ids that were searched for until so many first bits are the key's."""
    found: list[PeerId] = []
    while len(found) < count:
        one = PeerId(b"\x12\x20" + rng.randbytes(32))
        if (place(one) ^ place(key)).bit_length() <= KEY_BITS - within:
            found.append(one)
    return found


@pytest.mark.parametrize(("paths", "found"), [(1, False), (3, True)])
def test_who_names_only_his_own_misleads_one_path(paths: int, found: bool) -> None:
    world = World(5, 300, 0)
    rng = random.Random(5)
    sybils = near(KEY, 40, rng)  # all closer than any honest one
    world.hostile_closest = sybils
    world.network |= {one: AddressGroup.of(host(5000 + number)).network for number, one in enumerate(sybils)}
    asker = world.honest[0]
    truth = [one for one in sorted(world.honest, key=lambda one: place(one) ^ place(KEY)) if one != asker]
    traitor = sorted(world.known[asker], key=lambda one: place(one) ^ place(KEY))[0]
    del world.known[traitor]  # the closest of those that it begins with
    honest = [one for one in truth if one != traitor]
    lookup = world.look_up(asker, KademliaConfig(paths=paths))
    assert {one.peer for one in lookup.closest()} <= {*sybils, traitor}
    reached = [one.peer for one in lookup.reached()]
    assert (honest[0] in reached) is found
    assert sum(one in honest[:7] for one in reached) >= (6 if found else 0)


def share_that_reach(paths: int, traitors: int) -> float:
    """Of lookups among 400 peers, the share that reach one of the three honest peers closest to the key.

    `traitors` of the peers name only forty others, which are closer to the key than any honest one.
    """
    world, rng = World(7, 400, 0), random.Random(7)
    world.hostile_closest = near(KEY, 40, rng, within=14)
    world.network |= {one: (4, number) for number, one in enumerate(world.hostile_closest)}
    for traitor in rng.sample(world.honest, traitors):
        del world.known[traitor]
    honest = list(world.known)
    holders = sorted(honest, key=lambda one: place(one) ^ place(KEY))[:3]
    askers = rng.sample([one for one in honest if one not in holders], 60)
    reached = 0
    for asker in askers:
        found = [one.peer for one in world.look_up(asker, KademliaConfig(paths=paths)).reached()]
        reached += any(holder in found for holder in holders)
    return reached / len(askers)


def test_more_lookups_reach_honest_peers_by_several_paths() -> None:
    one, several = share_that_reach(1, 20), share_that_reach(KademliaConfig().paths, 20)
    assert (one, several >= 0.9) == (0, True)


def test_of_one_network_few_count() -> None:
    world = World(6, 300, 0)
    rng = random.Random(6)
    sybils = near(KEY, 100, rng, within=10)
    world.hostile_closest = sybils
    world.network |= dict.fromkeys(sybils, AddressGroup.of("203.0.113.5").network)
    asker = world.honest[0]
    truth = [one for one in sorted(world.honest, key=lambda one: place(one) ^ place(KEY)) if one != asker]
    traitors = sorted(world.known[asker], key=lambda one: place(one) ^ place(KEY))[:3]  # on every path
    for traitor in traitors:
        del world.known[traitor]
        truth.remove(traitor)
    lookup = world.look_up(asker, KademliaConfig(), counted=True)
    closest = [one.peer for one in lookup.closest()]
    assert sum(one in sybils for one in closest) <= 5
    honest = [one for one in closest if one not in sybils and one not in traitors]
    assert len(honest) >= 12
    assert honest == truth[: len(honest)]


def test_the_target_counts_whatever_its_network_is() -> None:
    target, others = peer(1), [peer(number) for number in range(2, 12)]
    lookup = Lookup(KademliaConfig(max_network_answers=2), bytes(target), target=target)
    lookup.begin([(one, at("203.0.113.5")) for one in (*others, target)])
    network = AddressGroup.of("203.0.113.5").network
    asked = [candidate.peer for candidate in lookup.next_queries()]
    counted = [one for one in asked if one != target and lookup.answered(one, (), network)]
    assert len(counted) == 2
    assert (
        lookup.answered(target, (), network)
        if target in asked
        else target in {candidate.peer for candidate in lookup.next_queries()}
    )


# ------------------------------------------------------------ the table


LOCAL = peer(0)


def filled(
    count: int, network: Callable[[int], AddressKey | None], config: KademliaConfig | None = None
) -> RoutingTable:
    table = RoutingTable(config or KademliaConfig(), LOCAL)
    for number in range(1, 1 + count):
        table.connected(peer(number), at(host(number)), float(number), network(number))
    return table


def test_of_one_network_few_are_in_the_table() -> None:
    table = filled(200, lambda number: (4, 1))
    assert len(table) == 10
    assert max(len(bucket.entries) for bucket in table.buckets()) <= 3
    assert len(table.closest(place(KEY), 1000)) == 10
    assert table.crowded == 190
    assert len(filled(200, lambda number: (4, number))) > 60  # of many networks
    assert len(filled(200, lambda number: None)) > 60  # of exempt ones
    assert filled(200, lambda number: None).crowded == 0


def test_one_that_was_left_out_takes_the_place_of_its_like() -> None:
    table = filled(40, lambda number: (4, 1))
    bucket = next(bucket for bucket in table.buckets() if len(bucket.entries) == 3)
    gone = next(iter(bucket.entries))
    table.remove(gone)
    assert len(bucket.entries) == 3
    assert gone not in bucket.entries
    assert len(table) == 10
    crowd = table.crowded
    waiting = next(number for number in range(1, 41) if not table.bucket_of(place(peer(number))).of(peer(number)))  # type: ignore[union-attr]
    assert table.get(peer(waiting)) is not None or peer(waiting) == gone
    table.disconnected(peer(waiting), 50.0)
    assert table.crowded in (crowd, crowd - 1)


def test_who_comes_back_from_elsewhere_counts_there() -> None:
    table = filled(3, lambda number: (4, 1))
    table.connected(peer(1), at(host(1)), 10.0, (4, 2))
    assert table._networks == {(4, 1): 2, (4, 2): 1}
    table.connected(peer(1), at(host(1)), 10.0, (4, 2))
    for number in range(1, 4):
        table.remove(peer(number))
    assert (table._networks, len(table)) == ({}, 0)


@pytest.mark.parametrize("seed", range(5))
def test_the_counts_of_networks_stay_right(seed: int) -> None:
    rng = random.Random(seed)
    table = RoutingTable(KademliaConfig(k=4, max_replacements=3, max_network_bucket=2, max_network_contacts=5), LOCAL)
    for now in range(3000):
        one = peer(rng.randrange(1, 60))
        match rng.randrange(6):
            case 0 | 1 | 2:
                table.connected(one, at(host(1)), float(now), rng.choice([None, (4, 1), (4, 2), (4, 3)]))
            case 3:
                table.disconnected(one, float(now))
            case 4:
                table.failed(one)
            case 5:
                table.remove(one)
        counts: dict[AddressKey, int] = {}
        for bucket in table.buckets():
            assert len(bucket.entries) <= 4
            here: dict[AddressKey, int] = {}
            for contact in (*bucket.entries.values(), *bucket.replacements.values()):
                assert contact.peer not in table._crowd
                if contact.network is not None:
                    here[contact.network] = here.get(contact.network, 0) + 1
                    counts[contact.network] = counts.get(contact.network, 0) + 1
            assert all(count <= 2 for count in here.values())
        assert counts == table._networks
        assert all(count <= 5 for count in counts.values())
        assert len(table) == sum(len(bucket.entries) for bucket in table.buckets())
