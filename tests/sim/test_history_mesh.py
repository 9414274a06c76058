"""Topic history in a mesh: partitions that heal, nodes that join late or come back, and peers that lie."""

import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from hashlib import sha256

import pytest

from sidecar.core import gossip, history
from sidecar.core.node import NodeConfig
from sidecar.core.parameters import HistoryConfig
from sidecar.sim import SimPeer, Simulation
from sidecar.sim.history import MemoryHistory

from .mesh import TOPIC, build, publish

KEEPING = NodeConfig(target_peers=12, history=HistoryConfig(topics=("*",)))
KEPT = gossip.TopicOptions(keep=True)
SEEDS = [1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (2, 3))]


def join(peers: Iterable[SimPeer]) -> None:
    for peer in peers:
        peer.feed(gossip.TopicJoined(TOPIC, KEPT))


def mesh_of(seed: int, count: int, config: NodeConfig = KEEPING) -> Simulation:
    simulation = build(seed, count, config=config)
    join(simulation.peers)
    simulation.run(20)
    return simulation


def deliveries(peer: SimPeer) -> Counter[bytes]:
    """How often its apps got what, in all its lives."""
    found: Counter[bytes] = Counter()
    for item in peer.news:
        if isinstance(item, gossip.MessagesDelivered):
            found.update(message.data for message in item.messages)
    return found


def brought(peer: SimPeer) -> list[bytes]:
    """What came by backfill."""
    return [
        message.data
        for item in peer.news
        if isinstance(item, gossip.MessagesDelivered) and item.history
        for message in item.messages
    ]


def stored(peer: SimPeer) -> set[bytes]:
    assert peer.history is not None
    return set(peer.history.topics.get(TOPIC, ()))


def complete(peer: SimPeer) -> tuple[float | None, float | None]:
    (view,) = peer.node.history()
    return view.complete_since, view.complete_until


def all_have(peers: Sequence[SimPeer], datas: Iterable[bytes]) -> Callable[[], bool]:
    wanted = set(datas)
    left = list(peers)

    def done() -> bool:
        while left and wanted <= deliveries(left[-1]).keys():
            left.pop()
        return not left

    return done


def publish_many(simulation: Simulation, peers: Sequence[SimPeer], name: str, count: int, every: float) -> list[bytes]:
    datas = []
    for number in range(count):
        data = b"%s %d" % (name.encode(), number)
        publish(peers[number % len(peers)], data)
        datas.append(data)
        simulation.run(every)
    return datas


@pytest.mark.parametrize("seed", SEEDS)
def test_both_sides_of_a_partition_get_what_the_other_said(seed: int) -> None:
    simulation = mesh_of(seed, 20)
    few, many = simulation.peers[16:], simulation.peers[:16]
    datas = publish_many(simulation, simulation.peers, "before", 10, 0.1)
    simulation.run(5)
    simulation.partition([few, many])
    simulation.run(60)  # connections across die
    for number in range(10):
        datas += publish_many(simulation, many, f"many {number}", 3, 0.2)
        datas += publish_many(simulation, few, f"few {number}", 2, 0.2)
    simulation.run(130)  # what was seen is forgotten, and IHAVE tells nobody
    assert not any(b"many 0 0" in deliveries(peer) for peer in few), f"seed {seed}"
    before = {peer.index: complete(peer)[1] for peer in simulation.peers}
    simulation.heal()
    others = {peer.identity.peer_id for peer in many}
    simulation.run_until(
        lambda: any(not others.isdisjoint(view.peers) for peer in few for view in peer.node.topics()), 600
    )
    simulation.run_until(all_have(simulation.peers, datas), 5)
    simulation.run(10)
    for peer in simulation.peers:
        assert deliveries(peer) == dict.fromkeys(datas, 1), f"seed {seed}, peer {peer.index}"
        assert stored(peer) == stored(simulation.peers[0])
        assert set(brought(peer)) >= {data for data in datas if data.startswith(b"many" if peer in few else b"few")}
    # Who has to get something knows then that it has all, and says up to when.
    simulation.run(30)
    for peer in simulation.peers:
        until = complete(peer)[1]
        assert until is not None, f"seed {seed}, peer {peer.index}"
        assert until > (before[peer.index] or 0.0), f"seed {seed}, peer {peer.index}"


@pytest.mark.parametrize("seed", SEEDS)
def test_who_joins_late_gets_what_was_said_before(seed: int) -> None:
    simulation = mesh_of(seed, 8)
    datas = publish_many(simulation, simulation.peers, "before", 300, 0.1)
    simulation.run(150)
    first = simulation.peers[0]
    late = simulation.add(replace(KEEPING, bootstrap=(first.address.with_peer(first.identity.peer_id),)))
    join([late])
    simulation.run_until(all_have([late], datas), 10)
    simulation.run(10)
    assert deliveries(late) == dict.fromkeys(datas, 1)
    assert set(brought(late)) == set(datas)
    # It was received when the first node got it: nothing lives longer by going from node to node.
    assert first.history is not None
    assert late.history is not None
    for key, message in first.history.topics[TOPIC].items():
        assert abs(late.history.topics[TOPIC][key].received - message.received) < 1, f"seed {seed}"
    assert None not in complete(late)
    # Nobody else was told anything: each had it.
    for peer in simulation.peers[:-1]:
        assert deliveries(peer) == dict.fromkeys(datas, 1), f"seed {seed}, peer {peer.index}"


@pytest.mark.parametrize("seed", SEEDS)
def test_who_comes_back_gets_what_it_missed_and_nothing_twice(seed: int) -> None:
    simulation = mesh_of(seed, 8)
    away = simulation.peers[5]
    others = [peer for peer in simulation.peers if peer is not away]
    datas = publish_many(simulation, simulation.peers, "before", 40, 0.05)
    simulation.run(1)
    simulation.kill(away)
    missed = publish_many(simulation, others, "missed", 40, 0.05)
    simulation.run(30)
    begin_again(away)
    simulation.run_until(all_have([away], datas + missed), 60)
    simulation.run(10)
    assert deliveries(away) == dict.fromkeys(datas + missed, 1)
    assert stored(away) == stored(others[0])


class Forging(MemoryHistory):
    """Changes a byte of what it has."""

    def answer(self, asked: history.StoreEffect, now: float) -> history.AppInput:
        found = super().answer(asked, now)
        if isinstance(found, history.HistoryBodiesLoaded):
            bodies = [body._replace(raw=body.raw[:-1] + bytes((body.raw[-1] ^ 1,))) for body in found.bodies]
            return found._replace(bodies=bodies)
        return found


class Swapping(MemoryHistory):
    """Sends other messages than those that are asked for."""

    def answer(self, asked: history.StoreEffect, now: float) -> history.AppInput:
        found = super().answer(asked, now)
        if isinstance(found, history.HistoryBodiesLoaded) and len(found.bodies) > 1:
            raws = [body.raw for body in found.bodies]
            bodies = [body._replace(raw=raw) for body, raw in zip(found.bodies, raws[1:] + raws[:1], strict=True)]
            return found._replace(bodies=bodies)
        return found


class Boasting(MemoryHistory):
    """Tells of messages that nobody has."""

    def answer(self, asked: history.StoreEffect, now: float) -> history.AppInput:
        found = super().answer(asked, now)
        if isinstance(found, history.HistoryKeysLoaded):
            made_up = [sha256(b"%d" % number).digest() for number in range(500)]
            return found._replace(keys=sorted({*found.keys, *made_up}))
        return found


class Silent(MemoryHistory):
    """Lets everybody wait for messages."""

    def answer(self, asked: history.StoreEffect, now: float) -> history.AppInput:
        found = super().answer(asked, now)
        if isinstance(found, history.HistoryBodiesLoaded):
            return found._replace(session=-1)
        return found


@pytest.mark.parametrize("lying", [Forging, Swapping, Boasting, Silent])
@pytest.mark.parametrize("seed", SEEDS)
def test_peers_that_lie_keep_nothing_from_anybody(seed: int, lying: type[MemoryHistory]) -> None:
    simulation = mesh_of(seed, 9)
    liars = simulation.peers[3:8]
    datas = publish_many(simulation, simulation.peers, "before", 100, 0.1)
    simulation.run(150)
    for liar in liars:
        become(liar, lying)
    first = simulation.peers[0]
    late = simulation.add(replace(KEEPING, bootstrap=(first.address.with_peer(first.identity.peer_id),)))
    join([late])
    simulation.run_until(all_have([late], datas), 60)
    simulation.run(60)
    assert deliveries(late) == dict.fromkeys(datas, 1)
    assert sum(late.node.statistics().history.asked.values()) <= 30  # nobody is asked again and again
    honest = [peer for peer in simulation.peers if peer not in liars]
    for peer in honest:
        assert stored(peer) == stored(first), f"seed {seed}, peer {peer.index}"
        assert deliveries(peer) == dict.fromkeys(datas, 1)
    assert complete(late)[1] is not None


@pytest.mark.parametrize("lying", [Forging, Swapping])
def test_who_sends_what_is_not_valid_is_charged_and_left_alone(lying: type[MemoryHistory]) -> None:
    simulation = mesh_of(4, 3)
    liar = simulation.peers[0]
    publish_many(simulation, simulation.peers, "before", 20, 0.1)
    simulation.run(150)
    become(liar, lying)
    late = simulation.add(replace(KEEPING, bootstrap=(liar.address.with_peer(liar.identity.peer_id),)))
    others = simulation.peers[1:3]
    simulation.partition([[liar], others])  # late is with the liar
    join([late])
    simulation.run(25)
    assert brought(late) == []
    statistics = late.node.statistics()
    assert statistics.work.points["history"] >= 20
    assert statistics.history.asked["violated"] == statistics.history.rejected == 1
    assert complete(late) == (None, None)


def become(peer: SimPeer, kind: type[MemoryHistory]) -> None:
    """Let a peer lie from now on."""
    assert peer.history is not None
    made = kind(peer.history.config)
    made.__dict__.update(vars(peer.history))
    peer.history = made


def judge(peer: SimPeer, *verdicts: tuple[int, int, gossip.Verdict]) -> None:
    peer.feed(gossip.VerdictsGiven(1, verdicts))


def test_an_app_that_takes_its_time_is_not_asked_again_and_again() -> None:
    simulation = mesh_of(5, 6)
    datas = publish_many(simulation, simulation.peers, "before", 50, 0.1)
    simulation.run(150)
    first = simulation.peers[0]
    late = simulation.add(replace(KEEPING, bootstrap=(first.address.with_peer(first.identity.peer_id),)))
    late.feed(gossip.ValidatorAdded(1, {TOPIC: gossip.ValidationSettings(fallback=gossip.Fallback.HOLD)}))
    join([late])
    simulation.run(60)
    asked = [item for item in late.news if isinstance(item, gossip.MessagesToJudge)]
    assert sum(len(item.messages) for item in asked) == 50
    assert not deliveries(late)
    served = sum(peer.node.statistics().history.sent for peer in simulation.peers)
    assert served <= 50 * 13  # who comes is asked twice, and then each time twice as long passes
    judge(late, (1, 20, gossip.Verdict.IGNORE), (21, 5, gossip.Verdict.REJECT))
    simulation.run(1)
    judge(late, (26, 25, gossip.Verdict.ACCEPT))
    simulation.run(300)
    refused = [message.data for item in asked for message in item.messages][:25]
    assert deliveries(late) == dict.fromkeys(set(datas) - set(refused), 1)
    # What it refuses is no difference to it.
    assert complete(late)[1] is not None
    assert sum(peer.node.statistics().history.sent for peer in simulation.peers) == served


@pytest.mark.parametrize("seed", [1, 2, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(3, 16))])
def test_whatever_happens_all_have_all_in_the_end(seed: int) -> None:
    rng = random.Random(f"history {seed}")
    simulation = mesh_of(seed, 9)
    peers = simulation.peers
    liars = rng.sample(peers[1:], 2)  # they say nothing: nobody else could tell what only they have
    for liar in liars:
        become(liar, rng.choice([Forging, Swapping, Boasting, Silent]))
    datas: dict[bytes, None] = {}
    for step in range(12):
        match rng.choice(["say", "say", "say", "part", "heal", "kill", "start"]):
            case "say":
                living = [peer for peer in peers if peer.alive and peer not in liars]
                for number in range(rng.randrange(1, 20)):
                    data = b"%d %d" % (step, number)
                    speaker = rng.choice(living)
                    publish(speaker, data)
                    datas[data] = None
                    simulation.run(rng.uniform(0, 0.3))
            case "part":
                order = rng.sample(peers, len(peers))
                cut = rng.randrange(1, len(peers))
                simulation.partition([order[:cut], order[cut:]])
            case "heal":
                simulation.heal()
            case "kill":
                victim = rng.choice(peers[1:])
                if victim.alive:
                    simulation.kill(victim)
            case "start":
                for peer in peers:
                    if not peer.alive:
                        begin_again(peer)
        simulation.run(rng.choice([1, 5, 60, 150]))
    simulation.heal()
    for peer in peers:
        if not peer.alive:
            begin_again(peer)
    simulation.run(400)
    known = stored(peers[0])
    for peer in peers:
        assert stored(peer) == known, f"seed {seed}, peer {peer.index}"
        assert set(deliveries(peer).values()) <= {1}, f"seed {seed}, peer {peer.index}"
        assert len(deliveries(peer)) == len(datas), f"seed {seed}, peer {peer.index}"
        assert complete(peer)[1] is not None, f"seed {seed}, peer {peer.index}"


def begin_again(peer: SimPeer) -> None:
    """Start a peer that was killed, as one with a store does."""
    peer.start()
    assert peer.history is not None
    peer.feed(gossip.HistorySeen(TOPIC, peer.history.seen(TOPIC)))
    join([peer])
