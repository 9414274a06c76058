"""Lazy links: ids in place of messages between sidecars, asked for when a message does not come, eager again then."""

import re
from hashlib import sha256
from pathlib import Path

import pytest
from gossip_network import GossipNetwork, control, graft, make_router, peer_id, plain, rpc, rpcs, signed, subscribe

from sidecar.core.gossip import GossipConfig, PeerAdded, PeerRemoved, RpcsReceived, TopicJoined, TopicOptions
from sidecar.core.gossip.events import Published
from sidecar.core.gossip.messages import RPC
from sidecar.core.gossip.router import GossipRouter
from sidecar.core.types import PeerId

UNSIGNED = TopicOptions(sign=False)
V13 = "/meshsub/1.3.0"
V12 = "/meshsub/1.2.0"
DOCUMENT = Path(__file__).parents[3] / "docs" / "protocols.md"


def example(name: str) -> bytes:
    (block,) = re.findall(rf"```hex-{name}\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    return bytes.fromhex("".join(line.partition("#")[0] for line in block.splitlines()))


def extension() -> bytes:
    return control(extensions={"lazy_links": True})


def named(*ids: bytes, topic: bytes = b"news", resume: bool | None = None) -> bytes:
    return rpc(named=[{"topicID": topic, "messageIDs": list(ids), "resume": resume}])


def ids_of(answers: list[RPC]) -> list[bytes]:
    return [identifier for answer in answers for entry in answer.named for identifier in entry.messageIDs]


def wanted(answers: list[RPC]) -> list[bytes]:
    return [identifier for answer in answers for entry in answer.control.iwant for identifier in entry.messageIDs]


class Stage:
    """A router with mesh peers that know lazy links; the first is where messages come from."""

    def __init__(self, peers: int = 3, config: GossipConfig | None = None, options: TopicOptions = UNSIGNED) -> None:
        self.router = make_router(config=config)
        self.router.handle(TopicJoined("news", options), 0.0)
        self.peers = [peer_id(number) for number in range(1, peers + 1)]
        self.source, self.knowing = self.peers[:2]
        for peer in self.peers:
            self.router.handle(PeerAdded(peer, V13, True), 0.0)
            self.router.handle(RpcsReceived(peer, [extension(), subscribe("news", age=0), graft("news")]), 0.0)
            rpcs(self.router, peer)
        self.now = 0.0
        self.count = 0

    def message(self, size: int = 200) -> bytes:
        self.count += 1
        return self.count.to_bytes(4, "big") + bytes(size)

    def say(self, peer: PeerId, frame: bytes) -> None:
        self.router.handle(RpcsReceived(peer, [frame]), self.now)

    def arrive(self, data: bytes, source: PeerId | None = None) -> None:
        self.say(source or self.source, rpc(publish=[plain("news", data)]))

    def learn(self, times: int = 20) -> None:
        """Messages that one peer names 20 ms after they came."""
        for _ in range(times):
            data = self.message()
            self.arrive(data)
            self.now += 0.02
            self.say(self.knowing, named(sha256(data).digest()))
            self.sent()
            self.pass_time(1.5)

    def pass_time(self, seconds: float) -> None:
        end = self.now + seconds
        while (due := self.router.next_deadline()) <= end:
            self.now = max(self.now, due)
            self.router.handle_deadline(self.now)
        self.now = end

    def sent(self) -> dict[PeerId, list[RPC]]:
        return {peer: rpcs(self.router, peer) for peer in self.peers}

    def copies(self) -> list[int]:
        """How many messages each peer is sent now."""
        return [sum(len(answer.publish) for answer in answers) for answers in self.sent().values()]


# ---------------------------------------------------------------- on the wire


def test_the_examples_are_what_travels() -> None:
    router = make_router()
    router.handle(PeerAdded(peer_id(1), V13, True), 0.0)
    (frame,) = router.take(peer_id(1), 65536)
    assert frame == example("extension")
    stage = Stage()
    stage.learn()
    data = b"as short as it may be, and not shorter than what it would need to be told by"
    stage.arrive(data)
    (frame,) = stage.router.take(stage.knowing, 65536)
    assert frame == example("named")
    assert sha256(data).digest() in frame
    stage.router.handle(PeerRemoved(stage.source), stage.now)
    (frame,) = stage.router.take(stage.knowing, 65536)
    assert frame == example("resume")


def test_only_who_speaks_1_3_is_told_and_only_before_all_else() -> None:
    for protocol, config, told in (
        (V13, GossipConfig(), True),
        (V12, GossipConfig(), False),
        (V13, GossipConfig(lazy_links=False), False),
    ):
        router = make_router(config=config)
        router.handle(TopicJoined("news", UNSIGNED), 0.0)
        router.handle(PeerAdded(peer_id(1), protocol, True), 0.0)
        first, *others = rpcs(router, peer_id(1))
        assert first.control.extensions.lazy_links is told
        assert bool(first.subscriptions) is (protocol == V12)
        assert not any(other.HasField("control") for other in others)


# ---------------------------------------------------------------- naming


@pytest.mark.parametrize("size", [60, 2000])
def test_a_link_that_brings_nothing_new_carries_ids_until_the_peer_asks(size: int) -> None:
    stage = Stage()
    stage.learn()
    data = stage.message(size)
    stage.arrive(data)
    sent = stage.sent()
    assert [sum(len(answer.publish) for answer in answers) for answers in sent.values()] == [0, 0, 1]
    assert ids_of(sent[stage.knowing]) == [sha256(data).digest()]
    stage.pass_time(0.5)
    assert stage.copies() == [0, 0, 0]  # nothing goes after it
    stage.say(stage.knowing, control(iwant=[{"messageIDs": [sha256(data).digest()]}]))
    assert stage.copies() == [0, 1, 0]
    stage.arrive(stage.message(size))
    assert stage.copies() == [0, 1, 1]  # it was late there: the next one goes at once


def test_a_message_as_short_as_its_id_is_sent() -> None:
    stage = Stage()
    stage.learn()
    stage.arrive(stage.message(20))
    assert stage.copies() == [0, 1, 1]


def test_who_has_shown_a_message_is_told_nothing() -> None:
    stage = Stage()
    stage.learn()
    data = stage.message()
    stage.say(stage.knowing, named(sha256(data).digest()))
    stage.arrive(data)
    sent = stage.sent()
    assert not ids_of(sent[stage.knowing])
    assert not any(answer.publish for answer in sent[stage.knowing])


def test_links_are_spare_by_author() -> None:
    stage = Stage(options=TopicOptions())
    for number in range(20):
        stage.say(stage.source, rpc(publish=[signed(50, "news", b"known", number)]))
        stage.now += 0.02
        stage.say(stage.knowing, rpc(publish=[signed(50, "news", b"known", number)]))
        stage.pass_time(0.05)
        # Of another author the same peer has the messages from here.
        stage.say(stage.source, rpc(publish=[signed(51, "news", b"needed", number)]))
        stage.pass_time(1.5)
    stage.sent()
    stage.say(stage.source, rpc(publish=[signed(50, "news", b"known", 100), signed(51, "news", b"needed", 100)]))
    sent = stage.sent()
    assert [sum(len(answer.publish) for answer in answers) for answers in sent.values()] == [0, 1, 2]
    assert ids_of(sent[stage.knowing]) == [peer_id(50) + (100).to_bytes(8, "big")]


def test_authors_are_learnt_though_their_messages_always_come_right_behind_others() -> None:
    stage = Stage(options=TopicOptions())
    for number in range(10):
        stage.say(stage.source, rpc(publish=[signed(50, "news", b"needed", number)]))
        stage.now += 0.001
        stage.say(stage.source, rpc(publish=[signed(51, "news", b"known", number)]))
        stage.say(stage.knowing, rpc(publish=[signed(51, "news", b"known", number)]))
        stage.pass_time(1.5)
    stage.sent()
    stage.say(stage.source, rpc(publish=[signed(51, "news", b"known", 100)]))
    assert stage.copies() == [0, 0, 1]


def test_what_a_peer_publishes_is_not_judged_by_what_it_passes_on() -> None:
    stage = Stage(options=TopicOptions())
    for number in range(30):
        stage.say(stage.source, rpc(publish=[signed(50, "news", b"passed on", number)]))
        stage.now += 0.02
        stage.say(stage.knowing, rpc(publish=[signed(50, "news", b"passed on", number)]))
        stage.pass_time(1.5)
    stage.sent()
    stage.say(stage.source, rpc(publish=[signed(1, "news", b"its own")]))
    assert stage.copies() == [0, 1, 1]
    stage.say(stage.source, rpc(publish=[signed(51, "news", b"passed on as well")]))
    assert stage.copies() == [0, 0, 1]


def test_who_lost_a_link_gets_messages_again() -> None:
    stage = Stage()
    stage.learn()
    stage.say(stage.knowing, named(resume=True))
    stage.arrive(stage.message())
    assert stage.copies() == [0, 1, 1]


def test_a_lost_link_is_told_to_the_others_of_the_mesh_once() -> None:
    stage = Stage(peers=5)
    stage.router.handle(PeerRemoved(stage.peers[4]), 1.0)
    stage.say(stage.peers[3], control(prune=[{"topicID": b"news"}]))
    sent = stage.sent()
    resumed = [[entry.resume for answer in sent[peer] for entry in answer.named] for peer in stage.peers]
    assert resumed == [[True], [True], [True], [], []] or resumed == [[True], [True], [True], [True], []]


def test_more_ids_than_may_wait_are_sent_as_messages() -> None:
    stage = Stage(config=GossipConfig(max_named=8))
    stage.learn()
    for _ in range(6):
        stage.arrive(stage.message())
    assert stage.copies() == [0, 2, 6]


# ---------------------------------------------------------------- asking


def test_a_named_message_that_comes_is_not_asked_for() -> None:
    stage = Stage()
    data = stage.message()
    stage.say(stage.knowing, named(sha256(data).digest()))
    stage.pass_time(0.05)
    stage.arrive(data)
    stage.pass_time(5.0)
    assert not any(wanted(answers) for answers in stage.sent().values())
    assert stage.router.statistics().promises_broken == 0


def test_a_named_message_that_is_late_is_asked_for_then_elsewhere_and_who_does_not_send_it_pays() -> None:
    stage = Stage()
    third = stage.peers[2]
    data = stage.message()
    identifier = sha256(data).digest()
    stage.say(stage.knowing, named(identifier))
    stage.say(third, named(identifier))
    stage.sent()
    stage.pass_time(0.2)
    sent = stage.sent()
    assert wanted(sent[stage.knowing]) == [identifier]
    assert not wanted(sent[third])
    stage.pass_time(0.6)
    sent = stage.sent()
    assert not wanted(sent[stage.knowing])
    assert wanted(sent[third]) == [identifier]
    stage.arrive(data, third)
    stage.pass_time(5.0)
    assert not any(wanted(answers) for answers in stage.sent().values())
    assert stage.router.statistics().promises_broken == 1


def test_who_names_a_message_after_all_others_were_asked_in_vain_is_asked_at_once() -> None:
    stage = Stage()
    identifier = sha256(b"rare").digest()
    stage.say(stage.knowing, named(identifier))
    stage.pass_time(2.0)
    stage.sent()
    stage.say(stage.peers[2], named(identifier))
    assert wanted(stage.sent()[stage.peers[2]]) == [identifier]


def test_a_copy_keeps_a_promise_though_another_came_first() -> None:
    stage = Stage()
    data = stage.message()
    stage.say(stage.knowing, named(sha256(data).digest()))
    stage.pass_time(0.2)
    stage.arrive(data)
    stage.arrive(data, stage.knowing)
    stage.pass_time(5.0)
    assert stage.router.statistics().promises_broken == 0


def test_the_wait_follows_how_long_messages_take() -> None:
    stage = Stage()
    for _ in range(30):  # the link over which they come is slower than names by 300 ms
        data = stage.message()
        stage.say(stage.knowing, named(sha256(data).digest()))
        stage.pass_time(0.3)
        stage.arrive(data)
        stage.pass_time(1.0)
    stage.sent()
    data = stage.message()
    stage.say(stage.knowing, named(sha256(data).digest()))
    stage.pass_time(0.29)
    assert not wanted(stage.sent()[stage.knowing])
    stage.pass_time(0.1)
    assert wanted(stage.sent()[stage.knowing])


def dropped(router: GossipRouter) -> int:
    return router.statistics().dropped["control_bound"]


def test_what_is_named_is_bounded_and_what_makes_no_sense_is_charged() -> None:
    stage = Stage(config=GossipConfig(max_named=10))
    many = [sha256(bytes([number])).digest() for number in range(11)]
    stage.say(stage.knowing, named(*many))
    assert dropped(stage.router) == 11
    stage.say(stage.knowing, named(*many[:10]))
    stage.say(stage.knowing, named(many[10]))
    assert dropped(stage.router) == 12
    stage.pass_time(1.5)  # a heartbeat
    stage.say(stage.knowing, named(bytes(513)))
    assert dropped(stage.router) == 13
    stage.router.take_charges()
    stage.say(stage.knowing, named(many[0], topic=b"unknown"))
    assert sum(stage.router.take_charges().values()) > 0


def test_a_peer_that_names_thousands_that_never_come_is_waited_for_no_longer() -> None:
    stage = Stage(config=GossipConfig(max_named=5000))
    ids = [sha256(b"%d" % number).digest() for number in range(5000)]
    stage.say(stage.knowing, named(*ids))
    stage.pass_time(0.4)
    assert len(wanted(stage.sent()[stage.knowing])) == 4096
    stage.pass_time(20.0)
    assert stage.router.statistics().promises_broken == 4096
    stage.sent()
    stage.say(stage.knowing, named(*ids[:10]))  # forgotten by then, and waited for anew
    stage.pass_time(0.6)
    assert len(wanted(stage.sent()[stage.knowing])) == 10


def test_who_is_not_in_the_mesh_is_not_waited_for() -> None:
    stage = Stage()
    stage.say(stage.knowing, control(prune=[{"topicID": b"news"}]))
    stage.router.take_charges()
    stage.say(stage.knowing, named(sha256(b"any").digest()))
    assert sum(stage.router.take_charges().values()) > 0
    stage.pass_time(1.0)
    assert not wanted(stage.sent()[stage.knowing])


# ---------------------------------------------------------------- a network


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_each_node_gets_hardly_more_than_one_copy_and_nobody_misses_any_though_a_fifth_vanishes(seed: int) -> None:
    network = GossipNetwork(30, seed, GossipConfig(flood_peers=6), V13, steady=True)
    for number in range(30):
        network.input(number, TopicJoined("news"))
    for number in range(30):
        for other in network.rng.sample([n for n in range(30) if n != number], 5):
            if not network.connected(number, other):
                network.connect(number, other)
    network.run(3.0)
    sent = 0

    def publish(count: int) -> float:
        """Have three nodes publish; the copies that came, for each of the nodes and messages."""
        nonlocal sent
        before = sum(router.statistics().received for router in network.routers)
        for _ in range(count):
            network.input(sent % 3, Published(sent, "news", [b"%04d" % sent + bytes(200)]))
            network.run(0.1)
            sent += 1
        network.run(3.0)
        return (sum(router.statistics().received for router in network.routers) - before) / (count * 30)

    assert publish(10) > 2
    publish(40)
    assert publish(20) < 1.5, f"seed {seed}"
    dead = range(3, 30, 5)
    for one in dead:
        for other in range(30):
            if network.connected(one, other):
                network.disconnect(one, other)
    publish(20)
    for number in range(30):
        if number not in dead:
            assert len(network.delivered[number]) == sent, f"seed {seed}: node {number}"
