"""Mesh peers that show nothing are told of a message, and go when they do not ask; dependents are bounded."""

from collections.abc import Callable

import pytest
from gossip_network import GossipNetwork, control, graft, joined, make_router, peer_id, plain, rpc, rpcs, subscribe

from sidecar.core.gossip import GossipRouter
from sidecar.core.gossip.events import PeerAdded, PeerRemoved, Published, RpcsReceived, TopicJoined, TopicOptions
from sidecar.core.gossip.messages import RPC, decode_rpc, parse_message
from sidecar.core.parameters import ScoreConfig
from sidecar.core.parameters.gossip import GossipConfig
from sidecar.core.types import PeerId

UNSIGNED = TopicOptions(sign=False)
PROTOCOL = "/meshsub/1.1.0"


class Stage:
    """A router with two mesh peers: one brings two messages a second, the other shows nothing but what a test says."""

    def __init__(self, config: GossipConfig | None = None) -> None:
        self.router = make_router(0, config)
        self.source, self.silent = joined(self.router, "news", options=UNSIGNED, peers=2, protocol=PROTOCOL)
        self.now, self.number = 0.0, 0
        self.got: dict[bytes, int] = {}  # messages that the silent one has, and in which copy
        self.named: list[bytes] = []
        self.pruned = False
        self.run(4)  # newcomers are gossiped to
        self.named.clear()

    def run(self, messages: int, answers: Callable[[bytes], bytes | None] = lambda identifier: None) -> None:
        for _ in range(messages):
            self.number += 1
            self._say(self.source, rpc(publish=[plain("news", b"%d" % self.number)]))
            for _ in range(4):
                self.now += 0.125
                while self.router.next_deadline() <= self.now:
                    self.router.handle_deadline(self.now)
                self._listen(answers)

    def _say(self, peer: PeerId, frame: bytes) -> None:
        self.router.handle(RpcsReceived(peer, [frame]), self.now)

    def _listen(self, answers: Callable[[bytes], bytes | None]) -> None:
        rpcs(self.router, self.source)
        for heard in rpcs(self.router, self.silent):
            for data in datas(heard):
                self.got[data] = self.got.get(data, 0) + 1
            self.pruned = self.pruned or bool(heard.control.prune)
            for ihave in heard.control.ihave:
                for identifier in ihave.messageIDs:
                    self.named.append(identifier)
                    answer = answers(identifier)
                    if answer is not None:
                        self._say(self.silent, answer)

    @property
    def linked(self) -> bool:
        return self.silent in self.router.topics()[0].mesh


def datas(heard: RPC) -> list[bytes]:
    return [parse_message(raw).data or b"" for raw in heard.publish]


def iwant(identifier: bytes) -> bytes:
    return control(iwant=[{"messageIDs": [identifier]}])


def test_who_neither_brings_nor_asks_leaves_the_mesh_and_loses_nothing_until_then() -> None:
    stage = Stage()
    stage.run(196)
    assert not stage.linked
    assert stage.pruned
    assert stage.router.statistics().idle_pruned == 1
    assert len(stage.named) >= 3
    last = max(map(int, stage.got))
    assert 64 < last < 120
    assert set(stage.got) == {b"%d" % number for number in range(1, last + 1)}


def test_who_was_sent_away_so_is_not_taken_back_until_it_takes_part() -> None:
    stage = Stage()
    stage.run(200)
    stage.run(200)  # beyond the back-off; the mesh has one peer where it wants six
    assert not stage.linked
    stage._say(stage.silent, graft("news"))
    assert not stage.linked
    stage.run(8, iwant)  # it is told of messages as others outside the mesh are
    stage.run(130)  # the back-off of its GRAFT
    assert stage.linked


def test_what_is_thought_of_it_outlives_its_connection() -> None:
    stage = Stage()
    stage.run(200)
    stage.router.handle(PeerRemoved(stage.silent), stage.now)
    stage.router.handle(PeerAdded(stage.silent, PROTOCOL, False), stage.now)
    stage._say(stage.silent, subscribe("news", age=3_600_000))
    stage.run(150)
    assert not stage.linked


def test_who_asks_stays_and_is_tried_ever_less_often() -> None:
    stage = Stage()
    stage.run(1000, iwant)
    assert stage.linked
    assert 3 <= len(stage.named) <= 4  # after 64, 128, 256, 512
    assert stage.got == dict.fromkeys((b"%d" % number for number in range(1, 1005)), 1)


def test_who_brings_anything_is_not_tried() -> None:
    stage = Stage()
    for number in range(20):
        stage.run(20)
        stage._say(stage.silent, rpc(publish=[plain("news", b"its own %d" % number)]))
    assert stage.linked
    assert not stage.named


def test_nobody_is_tried_where_nobody_is_scored() -> None:
    stage = Stage(GossipConfig(score=ScoreConfig(enabled=False)))
    stage.run(300)
    assert stage.linked
    assert not stage.named


def test_a_publishers_own_messages_are_named_too() -> None:
    router = make_router()
    (peer,) = joined(router, "news", options=UNSIGNED, peers=1, protocol=PROTOCOL)
    got: list[bytes] = []
    now = 0.0
    for number in range(100):
        router.handle(Published(number, "news", [b"%d" % number, b"%d again" % number]), now)
        heard = rpcs(router, peer)
        now += 0.5
        while router.next_deadline() <= now:
            router.handle_deadline(now)
        heard += rpcs(router, peer)
        got += [data for each in heard for data in datas(each)]
        if any(each.control.prune for each in heard):
            assert router.statistics().idle_pruned == 1
            assert sorted(got) == sorted(data for n in range(number + 1) for data in (b"%d" % n, b"%d again" % n))
            return
    raise AssertionError("it was not pruned")


# ------------------------------------------------------------ dependents


def with_full_mesh(config: GossipConfig) -> tuple[GossipRouter, list[PeerId]]:
    router = make_router(0, config)
    return router, joined(router, "news", options=UNSIGNED, peers=config.d_high, protocol=PROTOCOL)


def enter(router: GossipRouter, number: int, *hosts: str, dial_only: bool = True, outbound: bool = False) -> bool:
    """Whether a peer that grafts comes into the mesh."""
    peer = peer_id(number)
    router.handle(PeerAdded(peer, PROTOCOL, outbound, dial_only=dial_only, hosts=hosts), 1.0)
    router.handle(RpcsReceived(peer, [subscribe("news"), graft("news")]), 1.0)
    return peer in router.topics()[0].mesh


FULL = GossipConfig(d=2, d_low=2, d_high=2, d_out=0, d_score=1, dependents=32)


def test_few_dependents_of_one_address_and_of_one_network_are_kept() -> None:
    router, _ = with_full_mesh(FULL)
    assert [enter(router, 50 + each, "192.0.2.1") for each in range(3)] == [True, True, False]
    assert [enter(router, 60 + each, f"192.0.2.{9 + each}") for each in range(3)] == [True, True, False]
    assert enter(router, 70, "198.51.100.1")
    assert [enter(router, 80 + each, "10.0.0.1") for each in range(8)] == [True] * 8  # exempt


def test_half_of_the_dependents_may_be_such_as_have_not_shown_anything() -> None:
    router, (source, _) = with_full_mesh(FULL)
    assert sum(enter(router, 50 + each) for each in range(30)) == 16
    router.handle(RpcsReceived(peer_id(50), [rpc(publish=[plain("news", b"one")])]), 1.0)
    assert enter(router, 90)
    assert not enter(router, 91)
    assert len(router.topics()[0].mesh) == 2 + 17
    assert source in router.topics()[0].mesh


def test_who_was_dialled_is_no_dependent_whatever_it_says() -> None:
    router, _ = with_full_mesh(FULL)
    assert enter(router, 50, outbound=True)  # as any connection that was opened here
    for each in range(4):
        router.handle_deadline(2.0 + each)
    assert len(router.topics()[0].mesh) == 2


@pytest.mark.parametrize("asks", [False, True])
def test_who_was_turned_away_depends_if_it_asked_for_what_came_meanwhile(asks: bool) -> None:
    router, (source, _) = with_full_mesh(FULL)
    assert not enter(router, 50, dial_only=False)
    peer, now = peer_id(50), 1.0
    while now < 65.0:
        now += 0.5
        router.handle(RpcsReceived(source, [rpc(publish=[plain("news", b"%f" % now)])]), now)
        while router.next_deadline() <= now:
            router.handle_deadline(now)
        for heard in rpcs(router, peer):
            for ihave in heard.control.ihave if asks else ():
                router.handle(RpcsReceived(peer, [iwant(ihave.messageIDs[0])]), now)
    router.handle(RpcsReceived(peer, [graft("news")]), now)
    assert (peer in router.topics()[0].mesh) == asks


def test_dependents_take_no_place_of_those_that_own_messages_are_flooded_to() -> None:
    config = GossipConfig(flood_peers=8)
    network = GossipNetwork(61, 1, config)
    for number in range(61):
        network.input(number, TopicJoined("news", UNSIGNED))
        if number:
            network.connect(number, 0, dial_only=number > 30)
    network.run(3.0)
    mesh = network.routers[0].topics()[0].mesh
    regular = [peer for peer in mesh if network.ids.index(peer) <= 30]
    assert len(mesh) - len(regular) == 30
    assert len(regular) < 8 + 30
    router = network.routers[0]
    router.handle(Published(1, "news", [b"one"]), network.now)
    reached = sum(
        any(decode_rpc(frame[1:] if frame[0] < 128 else frame[2:]).publish for frame in router.take(peer, 1 << 20))
        for peer in network.ids[1:]
    )
    assert reached == max(8, len(regular)) + 30
