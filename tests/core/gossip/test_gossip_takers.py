"""Mesh peers that ask and never bring anything: regular places are for those that give, as far as there are any."""

from dataclasses import replace

import pytest
from gossip_network import control, graft, make_router, peer_id, plain, rpc, rpcs, signed, subscribe

from sidecar.core.gossip import GossipConfig, GossipRouter, PeerAdded, PeerAppointed, RpcsReceived, TopicJoined
from sidecar.core.gossip.events import TopicOptions
from sidecar.core.parameters import ScoreConfig
from sidecar.core.types import PeerId

SMALL = GossipConfig(d=2, d_low=2, d_high=2, d_out=0, d_score=1, dependents=8)
SOURCE, TAKER, LATER, OTHER = (peer_id(number) for number in (1, 2, 3, 4))


class Stage:
    """A router with a source, which brings four messages a second; all others ask for what they are told of."""

    def __init__(self, config: GossipConfig = SMALL, *, dialled: bool = False) -> None:
        self.router = make_router(config=config)
        self.router.handle(TopicJoined("news", TopicOptions(sign=False)), 0.0)
        self.now, self.number = 0.0, 0
        self.asking: list[PeerId] = []
        self.got: dict[PeerId, list[bytes]] = {}
        self.enter(SOURCE)
        self.asking.remove(SOURCE)
        self.enter(TAKER, outbound=dialled)

    def enter(self, peer: PeerId, *, outbound: bool = False, dial_only: bool = False) -> None:
        self.router.handle(PeerAdded(peer, "/meshsub/1.1.0", outbound, dial_only=dial_only), self.now)
        self.say(peer, subscribe("news", age=3_600_000), graft("news"))
        self.asking.append(peer)

    def say(self, peer: PeerId, *frames: bytes) -> None:
        self.router.handle(RpcsReceived(peer, list(frames)), self.now)

    def bring(self, peer: PeerId) -> None:
        self.number += 1
        self.say(peer, rpc(publish=[plain("news", b"%d" % self.number)]))

    def run(self, seconds: int) -> None:
        for _ in range(4 * seconds):
            self.bring(SOURCE)
            self.now += 0.25
            while self.router.next_deadline() <= self.now:
                self.router.handle_deadline(self.now)
            for peer in self.asking:
                for heard in rpcs(self.router, peer):
                    self.got.setdefault(peer, []).extend(heard.publish)
                    for ihave in heard.control.ihave:
                        self.say(peer, control(iwant=[{"messageIDs": ihave.messageIDs}]))
            rpcs(self.router, SOURCE)

    @property
    def regular(self) -> set[PeerId]:
        (topic,) = self.router.topics()
        return set(topic.mesh) - set(topic.dependents)

    @property
    def dependents(self) -> set[PeerId]:
        return set(self.router.topics()[0].dependents)


def returned(stage: Stage) -> None:
    """A third peer finds the mesh full, and is a dependent once its back-off is over."""
    stage.enter(LATER)
    assert stage.regular == {SOURCE, TAKER}
    stage.run(20)
    stage.say(LATER, graft("news"))
    assert (stage.regular, stage.dependents) == ({SOURCE, TAKER}, {LATER})


def test_a_dependent_that_gives_changes_places_with_who_only_takes() -> None:
    stage = Stage()
    returned(stage)
    stage.run(2)
    assert (stage.regular, stage.dependents) == ({SOURCE, TAKER}, {LATER})
    stage.bring(LATER)
    stage.run(2)
    assert (stage.regular, stage.dependents) == ({SOURCE, LATER}, {TAKER})
    before = len(stage.got[TAKER])
    stage.run(10)
    assert len(stage.got[TAKER]) - before == 40  # it is served as before


def test_a_dependent_that_gives_has_a_free_regular_place() -> None:
    stage = Stage()
    returned(stage)
    stage.say(TAKER, control(prune=[{"topicID": b"news", "backoff": 60}]))
    stage.bring(LATER)
    stage.run(2)
    assert (stage.regular, stage.dependents) == ({SOURCE, LATER}, set())


@pytest.mark.parametrize("why", ["dialled", "gives", "not for long", "nobody is scored"])
def test_who_keeps_its_regular_place(why: str) -> None:
    unscored = replace(SMALL, score=ScoreConfig(enabled=False))
    stage = Stage(unscored if why == "nobody is scored" else SMALL, dialled=why == "dialled")
    returned(stage)
    if why == "gives":
        stage.bring(TAKER)
    if why == "not for long":
        stage.bring(TAKER)
        stage.run(10)
    stage.bring(LATER)
    stage.run(2)
    assert (stage.regular, stage.dependents) == ({SOURCE, TAKER}, {LATER})


def test_who_cannot_be_dialled_stays_beside_the_degrees_though_it_gives() -> None:
    stage = Stage()
    stage.enter(LATER, dial_only=True)
    assert stage.dependents == {LATER}
    stage.run(20)
    stage.bring(LATER)
    stage.run(2)
    assert (stage.regular, stage.dependents) == ({SOURCE, TAKER}, {LATER})


def test_where_there_is_no_room_beside_the_degrees_who_only_takes_goes_elsewhere() -> None:
    stage = Stage(replace(SMALL, dependents=1))
    returned(stage)
    stage.enter(OTHER)
    stage.run(1)
    rpcs(stage.router, TAKER)
    stage.bring(LATER)
    stage.run(1)
    assert stage.regular == {SOURCE, LATER}
    stage.run(70)
    stage.say(TAKER, graft("news"))
    assert stage.dependents == {TAKER}  # it has asked for what came meanwhile


def test_a_mesh_that_is_mostly_asked_looks_for_better_ones_soon() -> None:
    config = GossipConfig(d=3, d_low=3, d_high=4, d_out=0, d_score=1, dependents=0)
    stage = Stage(config)
    for number in (10, 11):
        stage.enter(peer_id(number))
    stage.run(62)
    stage.router.handle(PeerAdded(LATER, "/meshsub/1.1.0", False), stage.now)
    stage.say(LATER, subscribe("news", age=3_600_000))
    stage.router.handle(PeerAppointed(LATER, 4.0, None), stage.now)  # more than time in the mesh, less than deliveries
    assert LATER not in stage.regular
    stage.run(12)
    assert LATER in stage.regular


def test_peers_that_only_ask_are_not_named_to_others() -> None:
    stage = Stage(GossipConfig(d=1, d_low=1, d_high=2, d_out=0, d_score=1, dependents=0, prune_peers=6))
    stage.run(20)
    (topic,) = stage.router.topics()
    assert TAKER in topic.mesh
    named = 0
    for number in range(20, 40):
        newcomer = peer_id(number)
        stage.router.handle(PeerAdded(newcomer, "/meshsub/1.1.0", False), stage.now)
        stage.say(newcomer, subscribe("news", age=3_600_000), graft("news"))
        for heard in rpcs(stage.router, newcomer):
            for prune in heard.control.prune:
                assert [PeerId.from_bytes(info.peerID) for info in prune.peers] == [SOURCE]
                named += 1
        stage.run(1)
    assert named


def test_signed_copies_show_that_a_peer_takes_part() -> None:
    """They are known by their ids, before their signatures are looked at."""
    router: GossipRouter = make_router()
    router.handle(TopicJoined("news"), 0.0)
    for peer in (SOURCE, OTHER):
        router.handle(PeerAdded(peer, "/meshsub/1.1.0", True), 0.0)
        router.handle(RpcsReceived(peer, [subscribe("news", age=3_600_000)]), 0.0)
    now, named = 0.0, 0
    for number in range(200):
        frame = rpc(publish=[signed(1, "news", b"%d" % number, seqno=(1 << 60) + number)])
        router.handle(RpcsReceived(SOURCE, [frame]), now)
        router.handle(RpcsReceived(OTHER, [frame]), now)
        now += 0.5
        while router.next_deadline() <= now:
            router.handle_deadline(now)
        rpcs(router, SOURCE)
        named += sum(len(ihave.messageIDs) for heard in rpcs(router, OTHER) for ihave in heard.control.ihave)
    assert router.statistics().duplicates == 200
    assert router.statistics().idle_pruned == 0
    assert named <= 4  # as a newcomer
