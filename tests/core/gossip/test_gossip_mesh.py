"""Twenty routers on virtual time: what holds for the whole mesh, over several seeds."""

import random

import pytest
from gossip_network import GossipNetwork

from sidecar.core.gossip.config import GossipConfig
from sidecar.core.gossip.events import PeerRemoved, Published, TopicJoined, TopicLeft, TopicOptions

COUNT = 20


def build(seed: int, sign: bool, config: GossipConfig | None = None, degree: int = 10) -> GossipNetwork:
    """Routers in one topic, each joined to `degree` others that it picked, at random times within three seconds."""
    network = GossipNetwork(COUNT, seed, config)
    rng = random.Random(seed)
    links = {(min(a, b), max(a, b)) for a in range(COUNT) for b in rng.sample(range(COUNT), degree // 2) if a != b}
    links |= {(a, a + 1) for a in range(COUNT - 1)}
    order = sorted(links)
    rng.shuffle(order)
    for number, (a, b) in enumerate(order):
        if number % 8 == 0:
            network.run(0.1)
        network.connect(a, b)
        if number < COUNT:
            network.input(number, TopicJoined("news", TopicOptions(sign)))
    for number in range(COUNT):
        network.input(number, TopicJoined("news", TopicOptions(sign)))
    network.run(3.0)
    return network


def meshes(network: GossipNetwork) -> list[set[int]]:
    found = []
    for router in network.routers:
        view = next(view for view in router.topics() if view.topic == "news")
        found.append({network.ids.index(peer) for peer in view.mesh})
    return found


def assert_symmetric(network: GossipNetwork, seed: int) -> None:
    links = meshes(network)
    for a in range(COUNT):
        for b in links[a]:
            assert a in links[b], f"seed {seed}: {a} has {b} in its mesh, not the other way round"


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("sign", [True, False])
def test_everybody_receives_each_message_once(seed: int, sign: bool) -> None:
    network = build(seed, sign)
    assert_symmetric(network, seed)
    config = GossipConfig()
    for links in meshes(network):
        assert config.d_low <= len(links) <= config.d_high, f"seed {seed}"
    sent = []
    for number in range(COUNT):
        batch = [b"%d from %d" % (count, number) for count in range(5)]
        sent += batch
        network.input(number, Published(1, "news", batch))
    network.run(1.0)
    for number, messages in enumerate(network.delivered):
        datas = [message.data for message in messages]
        assert sorted(datas) == sorted(sent), f"seed {seed}: node {number}"
        for message in messages:
            author = int(message.data.split()[-1])
            assert message.local == (author == number)
            assert message.sender == (network.ids[author] if sign else None)


@pytest.mark.parametrize("seed", range(3))
def test_without_flood_publishing_the_mesh_and_gossip_reach_everybody(seed: int) -> None:
    network = build(seed, True, GossipConfig(flood_publish=False))
    network.input(3, Published(1, "news", [b"hello"]))
    network.run(4.0)
    assert [len(messages) for messages in network.delivered] == [1] * COUNT, f"seed {seed}"


@pytest.mark.parametrize("seed", range(3))
def test_churn_leaves_the_mesh_symmetric_and_whole(seed: int) -> None:
    """A third of the nodes leave the topic or lose all connections; the others go on; leavers come back."""
    network = build(seed, True)
    for number in (2, 7, 11):
        network.input(number, TopicLeft("news"))
    for number in (4, 13, 17):
        router = network.routers[number]
        for view in router.peers():
            network.disconnect(number, network.ids.index(view.peer))
    network.run(5.0)
    assert_symmetric(network, seed)
    network.input(0, Published(1, "news", [b"while they are away"]))
    network.run(2.0)
    away = {2, 7, 11, 4, 13, 17}
    received = [len(messages) for messages in network.delivered]
    assert received == [0 if number in away else 1 for number in range(COUNT)], f"seed {seed}"
    for number in (2, 7, 11):
        network.input(number, TopicJoined("news"))
    network.run(15.0)  # the short back-off of those who unsubscribe
    assert_symmetric(network, seed)
    network.input(0, Published(2, "news", [b"they are back"]))
    network.run(2.0)
    assert all(network.delivered[number][-1].data == b"they are back" for number in (2, 7, 11)), f"seed {seed}"


def test_a_run_repeats_exactly() -> None:
    first, second = build(5, True), build(5, True)
    assert first.effects == second.effects
    assert meshes(first) == meshes(second)


def test_too_large_a_mesh_shrinks_and_names_others() -> None:
    """Fourteen peers graft to one: the thirteenth is refused, and told of others (v1.1 PRUNE Backoff and PX)."""
    network = GossipNetwork(16, 1, GossipConfig(d_low=6, d_high=8, d=7))
    network.input(0, TopicJoined("news"))
    for number in range(1, 16):
        network.connect(number, 0)
        network.input(number, TopicJoined("news"))
        network.run(0.2)
    view = network.routers[0].topics()[0]
    assert len(view.mesh) == 8
    assert len(view.peers) == 15
    offered = [
        effect for effects in network.effects[1:] for effect in effects if type(effect).__name__ == "PeersOffered"
    ]
    assert offered
    for effect in offered:
        for peer, record in effect.peers:
            assert peer in network.ids
            assert record == b"record of " + bytes(peer)
    network.input(0, PeerRemoved(network.ids[1]))
    assert len(network.routers[0].topics()[0].peers) == 14


def test_what_was_published_a_moment_before_a_peer_came_reaches_it() -> None:
    network = GossipNetwork(2, 1)
    network.input(0, TopicJoined("news"))
    network.run(0.3)
    network.input(0, Published(1, "news", [b"first"]))
    network.connect(0, 1)
    network.input(1, TopicJoined("news"))
    network.input(0, Published(2, "news", [b"second"]))
    network.run(3.0)
    assert sorted(message.data for message in network.delivered[1]) == [b"first", b"second"]
    assert len(network.delivered[0]) == 2
