"""Work that peers cause: bounded in each turn, in turn for all of them, and counted where it is to nobody's benefit."""

from dataclasses import replace

import pytest
from gossip_network import UNSCORED, control, graft, make_router, peer_id, plain, rpc, rpcs, signed, subscribe

from sidecar.core.gossip import (
    GossipMessage,
    MessagesDelivered,
    PeerAdded,
    PeerBacklogged,
    PeerRemoved,
    RpcsReceived,
    TopicJoined,
    TopicOptions,
)
from sidecar.core.gossip.router import GossipRouter
from sidecar.core.parameters.gossip import GossipConfig
from sidecar.core.types import PeerId

UNSIGNED = TopicOptions(sign=False)
V12 = "/meshsub/1.2.0"


def with_peers(
    count: int, config: GossipConfig | None = None, topic: str = "news"
) -> tuple[GossipRouter, list[PeerId]]:
    router = make_router(config=config)
    router.handle(TopicJoined("news", UNSIGNED), 0.0)
    peers = [peer_id(number + 1) for number in range(count)]
    for peer in peers:
        router.handle(PeerAdded(peer, V12, True), 0.0)
        router.handle(RpcsReceived(peer, [subscribe("news")]), 0.0)
    router.take_charges()
    return router, peers


def delivered(effects: list[object]) -> list[GossipMessage]:
    return [message for effect in effects if isinstance(effect, MessagesDelivered) for message in effect.messages]


def burst(name: str, count: int) -> list[bytes]:
    return [plain("news", b"%s %d" % (name.encode(), number)) for number in range(count)]


def test_a_turn_serves_no_more_messages_than_its_share_and_the_rest_in_order() -> None:
    router, (peer,) = with_peers(1, GossipConfig(turn_messages=10))
    sent = burst("a", 35)
    turns = [delivered(router.handle(RpcsReceived(peer, [rpc(publish=sent)]), 0.0))]
    while router.next_deadline() == 0.0:
        turns.append(delivered(router.handle_deadline(0.0)))
    assert [len(turn) for turn in turns] == [10, 10, 10, 5]
    assert [plain("news", message.data) for turn in turns for message in turn] == sent


def test_peers_with_much_to_serve_have_their_turns_one_after_the_other() -> None:
    router, (one, other, third) = with_peers(3, GossipConfig(turn_messages=10))
    router.handle(RpcsReceived(one, [rpc(publish=burst("a", 10)) for _ in range(3)]), 0.0)
    router.handle(RpcsReceived(other, [rpc(publish=burst(f"b{n}", 10)) for n in range(3)]), 0.0)
    told = delivered(router.handle(RpcsReceived(third, [rpc(publish=burst("c", 2))]), 0.0))
    assert {message.received_from for message in told} == {third}  # at once, whatever waits of others
    order = []
    while router.next_deadline() == 0.0:
        statistics = router.statistics().received
        order += list({message.received_from for message in delivered(router.handle_deadline(0.0))})
        assert router.statistics().received - statistics <= 10
    assert order == [other, other]  # those of the first, between them, are all known already


@pytest.mark.parametrize(
    "frame",
    [
        control(graft=[{"topicID": b"news"}] * 3000),
        control(prune=[{"topicID": b"other"}] * 3000),
        rpc(subscriptions=[{"subscribe": number % 2 == 0, "topicid": b"mine"} for number in range(3000)]),
    ],
    ids=["graft", "prune", "subscriptions"],
)
def test_entries_of_one_rpc_are_served_over_several_turns(frame: bytes) -> None:
    router, (peer,) = with_peers(1, GossipConfig(turn_work=500))
    router.handle(RpcsReceived(peer, [frame]), 0.0)
    charges = [router.take_charges()[peer]]
    while router.next_deadline() == 0.0:
        router.handle_deadline(0.0)
        charges.append(router.take_charges().get(peer, 0.0))
    assert len(charges) >= 6
    assert max(charges) <= 500 + 10
    assert sum(charges) >= 3000


@pytest.mark.parametrize(
    ("frames", "least"),
    [
        ([b""] * 100, 100),
        ([control()] * 100, 100),
        ([b"\xff"] * 10, 500),
        ([rpc(publish=[b"\x12\x09ab"])] * 10, 500),
        ([control(graft=[{}] * 9000)], 5000 + 400),
        ([subscribe("mine"), subscribe("mine", False)] * 10, 60),
        ([graft("nowhere")] * 50, 50),
        ([control(idontwant=[{"messageIDs": [b"%d" % n]}]) for n in range(1100)], 100 + 100),
        ([control(ihave=[{"topicID": b"news", "messageIDs": [b"x"]}])] * 110, 100),
        ([control(iwant=[{"messageIDs": [b"x"] * 6000}])], 100),
        ([rpc(publish=[plain("elsewhere", b"x")] * 1000)], 99),
    ],
    ids=[
        "empty",
        "empty control",
        "malformed RPC",
        "malformed message",
        "beyond the bound",
        "subscriptions",
        "grafts",
        "IDONTWANT",
        "IHAVE",
        "IWANT",
        "topics not joined",
    ],
)
def test_what_brings_nobody_anything_is_charged(frames: list[bytes], least: float) -> None:
    router, (peer,) = with_peers(1)
    router.handle(RpcsReceived(peer, frames), 0.0)
    while router.next_deadline() == 0.0:
        router.handle_deadline(0.0)
    assert router.take_charges()[peer] >= least


def test_messages_and_modest_control_are_not_charged() -> None:
    router, (peer,) = with_peers(1)
    ids = [number.to_bytes(32, "big") for number in range(10)]
    for number in range(50):
        frames = [
            rpc(publish=burst(str(number), 200)),
            control(idontwant=[{"messageIDs": ids}]),
            control(ihave=[{"topicID": b"news", "messageIDs": ids}])
            if number % 10 == 0
            else rpc(publish=burst("x", 1)),
        ]
        router.handle(RpcsReceived(peer, frames), float(number))
        router.handle_deadline(float(number) + 0.5)
    assert router.statistics().delivered > 10_000
    assert sum(router.take_charges().values()) < 20


def test_idontwant_for_each_large_message_is_not_charged() -> None:
    """Implementations send one RPC for each; a node that gets thousands of messages gets as many of these."""
    router, (publisher, other) = with_peers(2)
    for number in range(20):
        raws = [plain("news", b"%d %d" % (number, n) + bytes(2000)) for n in range(100)]
        router.handle(RpcsReceived(publisher, [rpc(publish=raws)]), 0.0)
    router.take_charges()
    router.handle(RpcsReceived(other, [control(idontwant=[{"messageIDs": [b"%d" % n]}]) for n in range(2900)]), 0.0)
    while router.next_deadline() == 0.0:
        router.handle_deadline(0.0)
    assert router.take_charges()[other] <= 100  # a tenth for each that is heeded, nothing beyond


def test_answers_to_grafts_in_a_loop_end() -> None:
    router, (peer,) = with_peers(1, replace(UNSCORED, max_refusals=4))
    rpcs(router, peer)
    before = router.statistics().prunes_sent
    frames = [control(prune=[{"topicID": b"news", "backoff": 60}]), *[graft("news")] * 200]
    router.handle(RpcsReceived(peer, frames), 0.0)
    assert router.statistics().prunes_sent - before == 4 + 1  # and one for the topic that it is in
    assert router.statistics().dropped["control_bound"] == 195
    router.handle_deadline(2.0)
    router.handle(RpcsReceived(peer, [graft("news")]), 2.0)
    assert router.statistics().prunes_sent - before == 6


def test_reading_is_held_up_while_much_waits() -> None:
    router, (peer,) = with_peers(1, GossipConfig(turn_messages=10, max_backlog=10_000))
    effects = router.handle(RpcsReceived(peer, [rpc(publish=burst(str(n), 10)) for n in range(100)]), 0.0)
    assert [effect for effect in effects if isinstance(effect, PeerBacklogged)] == [PeerBacklogged(peer, True)]
    effects = []
    while router.next_deadline() == 0.0:
        effects += router.handle_deadline(0.0)
    assert [effect for effect in effects if isinstance(effect, PeerBacklogged)] == [PeerBacklogged(peer, False)]
    assert len(delivered(effects)) == 990


def test_what_waits_of_a_peer_whose_stream_ends_still_arrives() -> None:
    router, (peer,) = with_peers(1, GossipConfig(turn_messages=10))
    effects = router.handle(RpcsReceived(peer, [rpc(publish=burst(str(n), 10)) for n in range(10)]), 0.0)
    effects += router.handle(PeerRemoved(peer), 0.0)
    assert len(delivered(effects)) == 100
    assert router.next_deadline() != 0.0


def test_signed_messages_in_one_rpc_are_checked_over_several_turns() -> None:
    router = make_router(config=GossipConfig(turn_messages=8))
    router.handle(TopicJoined("news"), 0.0)
    peer = peer_id(1)
    router.handle(PeerAdded(peer, V12, True), 0.0)
    router.handle(RpcsReceived(peer, [subscribe("news")]), 0.0)
    raws = [signed(2, "news", b"x", seqno) for seqno in range(20)]
    turns = [len(delivered(router.handle(RpcsReceived(peer, [rpc(publish=raws)]), 0.0)))]
    while router.next_deadline() == 0.0:
        turns.append(len(delivered(router.handle_deadline(0.0))))
    assert turns == [8, 8, 4]
