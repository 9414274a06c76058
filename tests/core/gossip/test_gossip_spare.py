"""Links that mostly bring a peer what it has: messages wait there, go when nothing is heard, and nobody misses any."""

from hashlib import sha256

import pytest
from gossip_network import GossipNetwork, control, graft, joined, make_router, plain, rpc, rpcs

from sidecar.core.gossip import (
    GossipConfig,
    PeerAdded,
    PeerRemoved,
    Published,
    RpcsReceived,
    TopicJoined,
    TopicOptions,
)
from sidecar.core.types import PeerId

UNSIGNED = TopicOptions(sign=False)
V12 = "/meshsub/1.2.0"


class Stage:
    """A router with a source, a peer that has had all its messages from elsewhere, and one that has them from here."""

    def __init__(self, config: GossipConfig | None = None) -> None:
        self.router = make_router(config=config)
        self.source, self.knowing, self.needing = joined(self.router, "news", 3, UNSIGNED, V12)
        for peer in (self.source, self.knowing, self.needing):
            self.router.handle(RpcsReceived(peer, [graft("news")]), 0.0)
        self.now = 0.0
        self.count = 0

    def message(self, size: int = 2000) -> bytes:
        self.count += 1
        return self.count.to_bytes(4, "big") + bytes(size)

    def arrive(self, data: bytes, source: PeerId | None = None) -> None:
        self.router.handle(RpcsReceived(source or self.source, [rpc(publish=[plain("news", data)])]), self.now)

    def shows(self, peer: PeerId, data: bytes) -> None:
        self.router.handle(RpcsReceived(peer, [control(idontwant=[{"messageIDs": [sha256(data).digest()]}])]), self.now)

    def learn(self, times: int = 30) -> None:
        """Messages that one peer shows 20 ms after they came."""
        for _ in range(times):
            data = self.message()
            self.arrive(data)
            self.now += 0.02
            self.shows(self.knowing, data)
            self.pass_time(1.5)
        self.sent()

    def pass_time(self, seconds: float) -> None:
        end = self.now + seconds
        while (due := self.router.next_deadline()) <= end:
            self.now = max(self.now, due)
            self.router.handle_deadline(self.now)
        self.now = end

    def sent(self) -> dict[PeerId, int]:
        """How many messages each peer is sent now."""
        peers = (self.source, self.knowing, self.needing)
        return {peer: sum(len(answer.publish) for answer in rpcs(self.router, peer)) for peer in peers}


def test_a_message_waits_on_a_link_that_was_of_no_use_and_goes_when_nothing_is_heard() -> None:
    stage = Stage()
    stage.learn()
    stage.arrive(stage.message())
    assert stage.sent() == {stage.source: 0, stage.knowing: 0, stage.needing: 1}
    stage.pass_time(0.02)  # as long as it has taken until now
    assert stage.sent()[stage.knowing] == 0
    stage.pass_time(0.1)
    assert stage.sent()[stage.knowing] == 1
    stage.arrive(stage.message())  # it was late there: the next one goes at once
    assert stage.sent()[stage.knowing] == 1
    stage.pass_time(0.5)
    assert stage.sent()[stage.knowing] == 0  # and once


@pytest.mark.parametrize("by_copy", [False, True])
def test_what_a_peer_shows_meanwhile_is_not_sent_to_it(by_copy: bool) -> None:
    stage = Stage()
    stage.learn()
    data = stage.message()
    stage.arrive(data)
    stage.now += 0.01
    if by_copy:
        stage.arrive(data, stage.knowing)
    else:
        stage.shows(stage.knowing, data)
    suppressed = stage.router.statistics().idontwant_suppressed
    stage.pass_time(0.5)
    assert stage.sent()[stage.knowing] == 0
    assert stage.router.statistics().idontwant_suppressed == suppressed + 1


def test_what_comes_from_another_side_small_or_published_here_goes_at_once() -> None:
    stage = Stage()
    stage.learn()
    stage.arrive(stage.message(), stage.needing)
    assert stage.sent() == {stage.source: 1, stage.knowing: 1, stage.needing: 0}
    stage.arrive(stage.message(size=400))
    assert stage.sent()[stage.knowing] == 1
    stage.router.handle(Published(1, "news", [stage.message()]), stage.now)
    assert stage.sent()[stage.knowing] == 1


def test_it_can_be_switched_off() -> None:
    stage = Stage(GossipConfig(eager_share=0.0))
    stage.learn()
    stage.arrive(stage.message())
    assert stage.sent() == {stage.source: 0, stage.knowing: 1, stage.needing: 1}


def test_who_went_or_came_anew_is_sent_nothing_old_and_all_that_is_new_at_once() -> None:
    stage = Stage()
    stage.learn()
    stage.arrive(stage.message())
    stage.router.handle(PeerRemoved(stage.knowing), stage.now)
    stage.router.handle(PeerAdded(stage.knowing, V12, True), stage.now)
    stage.router.handle(RpcsReceived(stage.knowing, [graft("news")]), stage.now)
    stage.pass_time(0.5)
    stage.sent()
    stage.arrive(stage.message())
    assert stage.sent()[stage.knowing] == 1


def test_what_waits_is_bounded() -> None:
    stage = Stage()
    stage.learn()
    for _ in range(9):
        stage.arrive(stage.message(size=1_000_000))
    assert stage.sent()[stage.knowing] == 1  # eight megabytes wait
    stage.pass_time(1.0)
    assert stage.sent()[stage.knowing] == 8


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_copies_become_fewer_and_nobody_misses_any_though_a_fifth_vanishes(seed: int) -> None:
    def copies(share: float) -> float:
        network = GossipNetwork(30, seed, GossipConfig(eager_share=share), V12, steady=True)
        for number in range(30):
            network.input(number, TopicJoined("news", UNSIGNED))
        for number in range(30):
            for other in network.rng.sample([n for n in range(30) if n != number], 5):
                if not network.connected(number, other):
                    network.connect(number, other)
        network.run(3.0)
        sent = 0

        def publish(count: int, living: list[int]) -> int:
            nonlocal sent
            before = sum(router.statistics().received for router in network.routers)
            for _ in range(count):
                network.input(living[sent % 3], Published(sent, "news", [b"%04d" % sent + bytes(2000)]))
                network.run(0.1)
                sent += 1
            network.run(3.0)
            return sum(router.statistics().received for router in network.routers) - before

        publish(60, list(range(30)))
        received = publish(20, list(range(30)))
        dead = range(3, 30, 5)
        for one in dead:
            for other in range(30):
                if network.connected(one, other):
                    network.disconnect(one, other)
        living = [number for number in range(30) if number not in dead]
        publish(20, living)
        for number in living:
            assert len(network.delivered[number]) == sent, f"seed {seed}: node {number}"
        return received / (20 * 30)

    held, eager = copies(GossipConfig().eager_share), copies(0.0)
    assert held < 3 < 5 < eager, f"seed {seed}"
