"""Twenty routers on virtual time: what holds for the whole mesh, over several seeds."""

import random

import pytest
from gossip_network import GossipNetwork, control, graft, make_router, peer_id, rpcs, subscribe

from sidecar.core.gossip.events import (
    PeerAdded,
    PeerDescribed,
    PeerRemoved,
    Published,
    RpcsReceived,
    TopicJoined,
    TopicLeft,
    TopicOptions,
)
from sidecar.core.parameters.gossip import GossipConfig

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


@pytest.mark.parametrize("away", [0.0, 1.0, 30.0])
def test_a_subscriber_that_comes_gets_what_was_published_since_it_subscribed_and_nothing_older(away: float) -> None:
    """With or without a time in which it was subscribed and not connected, of which gossip covers the last part."""
    network = GossipNetwork(2, 1)
    network.input(0, TopicJoined("news"))
    network.run(0.3)
    if away < 10.0:
        for number in range(10):
            network.input(0, Published(number, "news", [b"before %d" % number]))
            network.run(0.2)
    network.input(1, TopicJoined("news"))
    network.run(away)
    network.input(0, Published(20, "news", [b"a moment before it came"]))
    network.connect(0, 1)
    network.run(0.06)  # until the other knows of it
    network.input(0, Published(21, "news", [b"as it came"]))
    network.run(5.0)
    network.input(0, Published(22, "news", [b"later"]))
    network.run(1.0)
    got = [message.data for message in network.delivered[1]]
    expected = [b"as it came", b"later"] if away == 0.0 else [b"a moment before it came", b"as it came", b"later"]
    assert sorted(got) == sorted(expected)


@pytest.mark.parametrize("seed", range(3))
def test_a_subscription_begins_with_what_comes_after_it_in_order(seed: int) -> None:
    """The publisher's messages before it are gossiped about to others at the same time."""
    network = GossipNetwork(6, seed)
    for number in range(5):
        network.input(number, TopicJoined("news"))
    for a in range(6):
        for b in range(a):
            network.connect(a, b)
    network.run(3.0)
    for count in range(60):
        if count == 30:
            network.input(5, TopicJoined("news"))
            network.run(0.06)  # until the others know
        network.input(0, Published(count, "news", [b"%d" % count]))
        network.run(0.1)
    network.run(5.0)
    assert [int(message.data) for message in network.delivered[5]] == list(range(30, 60)), f"seed {seed}"


@pytest.mark.parametrize("count", [24, 40, 100])
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("dial_only", [True, False])
def test_a_hub_serves_leaves_that_have_no_other_link(count: int, seed: int, dial_only: bool) -> None:
    """Nothing is lost from the moment that all know each other: by links where the hub knows, by gossip until then."""
    network = GossipNetwork(count + 1, seed)
    network.input(0, TopicJoined("news"))
    for leaf in range(1, count + 1):
        network.input(leaf, TopicJoined("news"))
        network.connect(leaf, 0, dial_only=dial_only)
    network.run(2.0)
    sent = []

    def publish() -> None:
        for _ in range(10):
            number = len(sent)
            sent.append(b"%d" % number)
            network.input(1 + number % count, Published(number, "news", [sent[-1]]))
            network.run(0.2)

    publish()
    network.run(5.0)
    for leaf, messages in enumerate(network.delivered):
        assert sorted(m.data for m in messages) == sorted(sent), f"seed {seed}: node {leaf}"
    if not dial_only:
        network.run(70.0)  # the back-off of those that were turned away
    mesh = network.routers[0].topics()[0].mesh
    assert len(mesh) == count, f"seed {seed}"
    publish()
    network.run(0.5)  # over links, not heartbeats later
    for leaf, messages in enumerate(network.delivered):
        assert sorted(m.data for m in messages) == sorted(sent), f"seed {seed}: node {leaf}"


def test_dependents_are_bounded_and_the_rest_is_gossiped_to() -> None:
    network = GossipNetwork(31, 1, GossipConfig(dependents=4))
    network.input(0, TopicJoined("news"))
    for leaf in range(1, 31):
        network.input(leaf, TopicJoined("news"))
        network.connect(leaf, 0, dial_only=True)
    network.run(150.0)
    assert len(network.routers[0].topics()[0].mesh) <= 4 + GossipConfig().d_high
    for number in range(10):
        network.input(5, Published(number, "news", [b"%d" % number]))
        network.run(0.3)
    network.run(5.0)
    assert [len(messages) for messages in network.delivered] == [10] * 31


def test_peers_that_turn_out_to_be_reachable_count_as_others_do() -> None:
    network = GossipNetwork(21, 1)
    network.input(0, TopicJoined("news"))
    for leaf in range(1, 21):
        network.input(leaf, TopicJoined("news"))
        network.connect(leaf, 0, dial_only=True)
    network.run(2.0)
    assert len(network.routers[0].topics()[0].mesh) == 20
    for leaf in range(1, 21):
        network.input(0, PeerDescribed(network.ids[leaf], False))
    network.run(2.0)
    assert len(network.routers[0].topics()[0].mesh) == GossipConfig().d
    for leaf in range(1, 21):
        network.input(0, PeerDescribed(network.ids[leaf], True))
    network.run(70.0)
    assert len(network.routers[0].topics()[0].mesh) == 20


def test_gossip_of_others_than_sidecars_is_not_believed_to_be_new_at_first() -> None:
    """It may be of messages from before; they do not say how long ago they were subscribed."""
    router = make_router()
    router.handle(TopicJoined("news"), 10.0)
    router.handle(PeerAdded(peer_id(1), "/meshsub/1.1.0", True), 10.0)
    router.handle(RpcsReceived(peer_id(1), [subscribe("news")]), 10.0)
    rpcs(router, peer_id(1))
    ihave = control(ihave=[{"topicID": b"news", "messageIDs": [b"an id"]}])
    router.handle(RpcsReceived(peer_id(1), [ihave]), 13.9)
    assert not any(entry.control.iwant for entry in rpcs(router, peer_id(1)))
    assert router.statistics().dropped["past"] == 1
    router.handle(RpcsReceived(peer_id(1), [ihave]), 14.1)
    assert [list(want.messageIDs) for entry in rpcs(router, peer_id(1)) for want in entry.control.iwant] == [[b"an id"]]


def test_gossip_of_a_peer_in_a_back_off_is_all_that_comes_of_it_and_is_asked_for_at_once() -> None:
    router = make_router()
    other = peer_id(1)
    router.handle(PeerAdded(other, "/meshsub/1.1.0", True), 10.0)
    router.handle(RpcsReceived(other, [subscribe("news")]), 10.0)
    router.handle(TopicJoined("news"), 10.0)
    router.handle(TopicLeft("news"), 20.0)
    router.handle(TopicJoined("news"), 20.1)
    rpcs(router, other)
    assert not router.topics()[0].mesh
    router.handle(RpcsReceived(other, [control(ihave=[{"topicID": b"news", "messageIDs": [b"an id"]}])]), 20.9)
    assert [list(want.messageIDs) for entry in rpcs(router, other) for want in entry.control.iwant] == [[b"an id"]]


@pytest.mark.parametrize(
    ("crossing", "until"),
    [(graft("news"), 62.0), (control(prune=[{"topicID": b"news", "backoff": 30}]), 32.0)],
    ids=["graft", "prune"],
)
def test_what_crosses_our_leaving_may_have_set_a_back_off_at_the_peer(crossing: bytes, until: float) -> None:
    """rust-libp2p reckons the whole back-off for a mesh member that unsubscribes, and punishes a GRAFT within it."""
    router = make_router()
    other = peer_id(1)
    router.handle(PeerAdded(other, "/meshsub/1.1.0", True), 0.0)
    router.handle(TopicJoined("news"), 0.0)
    router.handle(RpcsReceived(other, [subscribe("news", wanted=False), subscribe("news")]), 0.0)
    router.handle(TopicLeft("news"), 0.0)
    rpcs(router, other)
    router.handle(RpcsReceived(other, [crossing]), 0.0)
    router.handle(TopicJoined("news"), 0.1)
    now = 0.1
    while not any(entry.control.graft for entry in rpcs(router, other)):
        assert now < until + 2
        now += 0.5
        router.handle_deadline(now)
    assert now >= until
    router = make_router()
    router.handle(PeerAdded(other, "/meshsub/1.1.0", True), 0.0)
    router.handle(RpcsReceived(other, [subscribe("news")]), 0.0)
    router.handle(RpcsReceived(other, [crossing]), 0.0)
    router.handle(TopicJoined("news"), 0.1)
    router.handle(RpcsReceived(other, [graft("news")]), 0.2)  # it may
    assert router.topics()[0].mesh == (other,)


@pytest.mark.parametrize(
    ("config", "kept"),
    [
        (GossipConfig(d=1, d_low=1, d_high=1, d_out=0), 1),
        (GossipConfig(d=100, d_low=100, d_high=200, d_out=50), 100),
    ],
    ids=["least", "greatest"],
)
def test_the_least_and_the_greatest_degree_that_can_be_configured_are_kept(config: GossipConfig, kept: int) -> None:
    router = make_router(config=config)
    router.handle(TopicJoined("news"), 0.0)
    for number in range(1, 251):
        router.handle(PeerAdded(peer_id(number), "/meshsub/1.1.0", number % 2 == 0), 0.0)
        router.handle(RpcsReceived(peer_id(number), [subscribe("news")]), 0.0)
    graft = control(graft=[{"topicID": b"news"}])
    for number in range(1, 251):  # more than the mesh may have, dependents aside
        router.handle(RpcsReceived(peer_id(number), [graft]), 0.5)
    for second in range(1, 10):
        router.handle_deadline(float(second))
    assert kept <= len(router.topics()[0].mesh) <= config.d_high
