"""One router, whole effect lists and whole RPCs."""

from hashlib import sha256

import pytest
from gossip_network import (
    UNSCORED,
    WALL,
    control,
    graft,
    identity,
    joined,
    make_router,
    peer_id,
    plain,
    rpc,
    rpcs,
    signed,
    subscribe,
)

from sidecar.core.errors import AlreadyExists, InvalidArgument, QueueFull, ResourceExhausted, TooLarge
from sidecar.core.gossip import (
    FirstRpc,
    GossipConfig,
    GossipMessage,
    GossipRouter,
    MessagesDelivered,
    PeerAdded,
    PeerAppointed,
    PeerMoved,
    PeerRemoved,
    PeersOffered,
    PeerViolated,
    PeerWoken,
    PublishCompleted,
    Published,
    PublishOutcome,
    Receipt,
    RpcsReceived,
    TopicCounts,
    TopicJoined,
    TopicLeft,
    TopicOptions,
)
from sidecar.core.gossip.messages import RPC, field
from sidecar.core.types import PeerId
from sidecar.core.varint import encode
from sidecar.wire.gossip_pb2 import Message

ME = peer_id(0)
UNSIGNED = TopicOptions(sign=False)


def mesh(router: GossipRouter, topic: str) -> tuple[PeerId, ...]:
    return next(view.mesh for view in router.topics() if view.topic == topic)


# ---------------------------------------------------------------- subscriptions and mesh


def test_a_new_peer_hears_of_joined_topics_and_a_subscriber_is_grafted_at_once() -> None:
    router = make_router()
    peer = peer_id(1)
    assert router.handle(TopicJoined("news"), 0.0) == []
    assert router.handle(PeerAdded(peer, "/meshsub/1.1.0", True), 0.0) == [PeerWoken(peer)]
    assert router.handle(RpcsReceived(peer, [subscribe("news")]), 0.1) == []  # the queue was not empty
    assert rpcs(router, peer) == [
        RPC(
            subscriptions=[{"subscribe": True, "topicid": b"news", "age_ms": 0}],
            control={"graft": [{"topicID": b"news"}]},
        )
    ]
    assert router.topics()[0] == ("news", True, True, (peer,), (peer,), TopicCounts(), None, 0, 0, ())
    assert router.handle(TopicLeft("news"), 1.0) == [PeerWoken(peer)]
    assert rpcs(router, peer) == [  # PRUNE first: rust-libp2p heeds its back-off only then
        RPC(control={"prune": [{"topicID": b"news", "backoff": 10}]}),
        RPC(subscriptions=[{"subscribe": False, "topicid": b"news"}]),
    ]
    # Within the back-off nobody is grafted; a peer that tries is pruned.
    router.handle(TopicJoined("news"), 2.0)
    assert rpcs(router, peer) == [RPC(subscriptions=[{"subscribe": True, "topicid": b"news", "age_ms": 0}])]
    assert router.handle(RpcsReceived(peer, [graft("news")]), 5.0) == [PeerWoken(peer)]
    assert rpcs(router, peer) == [RPC(control={"prune": [{"topicID": b"news", "backoff": 60}]})]
    router.handle_deadline(5.0 + 60.0 + 1.9)
    assert mesh(router, "news") == ()
    router.handle_deadline(5.0 + 60.0 + 3.0)  # back-off and slack are over
    assert mesh(router, "news") == (peer,)
    assert rpcs(router, peer) == [RPC(control={"graft": [{"topicID": b"news"}]})]


def test_graft_is_answered_as_the_specification_says() -> None:
    router = make_router(config=GossipConfig(d=2, d_low=1, d_high=2, d_out=1))
    first, second, third = joined(router, "news", 3)
    assert mesh(router, "news") == (first,)  # one was enough
    assert router.handle(RpcsReceived(second, [graft("news")]), 1.0) == []
    assert mesh(router, "news") == (first, second)
    assert router.handle(RpcsReceived(second, [graft("news"), graft("unknown")]), 1.0) == []
    # A full mesh takes connections that we opened, and prunes others with peers to go to.
    inbound = peer_id(9)
    router.handle(PeerAdded(inbound, "/meshsub/1.1.0", False), 1.0)
    rpcs(router, inbound)
    assert router.handle(RpcsReceived(inbound, [graft("news")]), 1.0) == [PeerWoken(inbound)]
    (answer,) = rpcs(router, inbound)
    (prune,) = answer.control.prune
    assert (prune.topicID, prune.backoff) == (b"news", 10)  # ours: there may be a place soon
    assert {(info.peerID, info.signedPeerRecord) for info in prune.peers} == {
        (bytes(peer), b"record of " + bytes(peer)) for peer in (first, second, third)
    }
    router.handle(RpcsReceived(third, [graft("news")]), 1.0)
    assert mesh(router, "news") == (first, second, third)
    router.handle_deadline(2.0)
    assert len(mesh(router, "news")) == 2
    old = peer_id(10)
    router.handle(PeerAdded(old, "/meshsub/1.0.0", False), 2.0)
    rpcs(router, old)
    router.handle(RpcsReceived(old, [graft("news")]), 2.0)
    assert rpcs(router, old) == [RPC(control={"prune": [{"topicID": b"news"}]})]  # no back-off, no exchange


def test_prune_ends_the_link_and_offers_peers() -> None:
    router = make_router()
    (peer,) = joined(router, "news", 1)
    infos = [
        {"peerID": bytes(peer_id(5)), "signedPeerRecord": b"record"},
        {"peerID": bytes(peer_id(6))},
        {"peerID": bytes(ME)},
        {"peerID": bytes(peer)},
        {"peerID": b"no peer id"},
    ]
    body = control(prune=[{"topicID": b"news", "peers": infos, "backoff": 2**64 - 1}, {"topicID": b"other"}])
    assert router.handle(RpcsReceived(peer, [body]), 0.5) == [
        PeersOffered(peer, "news", [(peer_id(5), b"record"), (peer_id(6), None)])
    ]
    assert mesh(router, "news") == ()
    router.handle_deadline(3000.0)
    assert mesh(router, "news") == ()
    router.handle_deadline(3604.0)  # no peer makes us wait longer than max_prune_backoff
    assert mesh(router, "news") == (peer,)


def test_who_leaves_the_topic_offers_peers_once_though_it_prunes_after_that() -> None:
    router = make_router()
    (peer,) = joined(router, "news", 1)
    leaves = rpc(subscriptions=[{"subscribe": False, "topicid": b"news"}])
    prune = control(prune=[{"topicID": b"news", "peers": [{"peerID": bytes(peer_id(5))}], "backoff": 10}])
    assert router.handle(RpcsReceived(peer, [leaves]), 0.5) == []
    assert mesh(router, "news") == ()
    assert router.handle(RpcsReceived(peer, [prune]), 0.6) == [PeersOffered(peer, "news", [(peer_id(5), None)])]
    assert router.handle(RpcsReceived(peer, [prune, leaves, prune]), 0.7) == []


def test_negative_score_keeps_out_of_the_mesh() -> None:
    router = make_router()
    (peer,) = joined(router, "news", 1)
    router.handle(PeerAppointed(peer, -1.0), 0.0)
    router.handle_deadline(2.0)
    assert mesh(router, "news") == ()
    assert rpcs(router, peer) == [RPC(control={"prune": [{"topicID": b"news", "backoff": 60}]})]


def test_joining_says_what_is_wrong() -> None:
    router = make_router(config=GossipConfig(max_topics=1))
    router.handle(TopicJoined("news"), 0.0)
    assert router.handle(TopicJoined("news"), 0.0) == []
    with pytest.raises(AlreadyExists):
        router.handle(TopicJoined("news", UNSIGNED), 0.0)
    with pytest.raises(ResourceExhausted):
        router.handle(TopicJoined("other"), 0.0)
    with pytest.raises(TooLarge, match="1025 bytes, at most 1024"):
        router.handle(TopicJoined("x" * 1025), 0.0)
    for name in ("", "\ud800"):
        with pytest.raises(InvalidArgument):
            router.handle(Published(1, name, [b"x"]), 0.0)
    assert router.handle(TopicLeft("never joined"), 0.0) == []


# ---------------------------------------------------------------- messages


def test_a_message_is_delivered_once_and_forwarded_as_it_came() -> None:
    router = make_router(config=UNSCORED)
    source, author, third = joined(router, "news", 3)
    raw = signed(2, "news", b"hello") + b"\x42\x03new"  # an unknown field: the signature must cover it
    assert router.handle(RpcsReceived(source, [rpc(publish=[raw])]), 1.0) == []
    assert router.statistics().rejected["signature"] == 1
    raw = signed(2, "news", b"hello")
    message = GossipMessage(author + (7).to_bytes(8, "big"), "news", author, 7, b"hello", source, False)
    assert router.handle(RpcsReceived(source, [rpc(publish=[raw, raw])]), 1.0) == [
        MessagesDelivered("news", [message]),
        PeerWoken(third),  # neither where it came from nor its author
    ]
    assert rpcs(router, third) == [RPC(publish=[raw])]
    assert router.handle(RpcsReceived(third, [rpc(publish=[raw])]), 1.0) == []
    assert router.statistics().duplicates == 2


def test_unsigned_messages_in_every_encoding() -> None:
    router = make_router()
    source, other = joined(router, "news", 2, UNSIGNED)
    sizes = [0, 1, 127, 128, 129, 4095, 4096, 16383, 16384, 70_000]
    datas = [bytes([number]) * size for number, size in enumerate(sizes)]
    raws = [plain("news", data) for data in datas]
    raws.append(b"\x22\x04news\x12\x01z")  # another order
    raws.append(b"\x22\x04news\x12\x81\x00y")  # a longer varint than needed
    datas += [b"z", b"y"]
    effects = router.handle(RpcsReceived(source, [rpc(publish=raws[:6]), rpc(publish=raws[6:])]), 1.0)
    delivered, woken = effects
    assert isinstance(delivered, MessagesDelivered)
    assert [message.data for message in delivered.messages] == datas
    assert all(message.sender is None and message.seqno is None for message in delivered.messages)
    assert woken == PeerWoken(other)
    forwarded = rpcs(router, other)
    assert [raw for found in forwarded for raw in found.publish] == raws
    assert all(found.ByteSize() <= 65_536 for found in forwarded if len(found.publish) > 1)


@pytest.mark.parametrize(
    ("reason", "raw"),
    [
        ("missing_field", plain("news", b"x")),
        (
            "missing_field",
            signed(2, "news", b"x").replace(b"\x1a\x08", b"\x1a\x07", 1).replace(b"\x07\x22", b"\x22", 1),
        ),
        ("signature", signed(2, "news", b"x")[:-1] + b"\0"),
        ("signature", signed(2, "news", b"x").replace(b"\x12\x01x", b"\x12\x01y")),
        ("key", Message(**{"from": b"nobody"}, seqno=bytes(8), topic=b"news", signature=bytes(64)).SerializeToString()),
        ("key", signed(2, "news", b"x") + Message(key=identity(3).public_key.to_bytes()).SerializeToString()),
    ],
)
def test_bad_messages_are_counted_by_reason(reason: str, raw: bytes) -> None:
    router = make_router(config=UNSCORED)
    (peer,) = joined(router, "news", 1)
    assert router.handle(RpcsReceived(peer, [rpc(publish=[raw])]), 1.0) == []
    assert router.statistics().rejected == dict.fromkeys(router.statistics().rejected, 0) | {reason: 1}
    good = signed(2, "news", b"x")
    (delivered,) = router.handle(RpcsReceived(peer, [rpc(publish=[good])]), 1.0)
    assert isinstance(delivered, MessagesDelivered)


def test_foreign_fields_echoes_and_unknown_topics() -> None:
    router = make_router(config=UNSCORED)
    (peer,) = joined(router, "plain", 1, UNSIGNED)
    router.handle(TopicJoined("news"), 0.0)
    raws = [
        signed(2, "plain", b"x"),
        plain("plain", b"x") + b"\x1a\x00",  # present, if empty
        signed(0, "news", b"x"),
        signed(2, "other", b"x"),
    ]
    assert router.handle(RpcsReceived(peer, [rpc(publish=raws)]), 1.0) == []
    statistics = router.statistics()
    assert statistics.rejected["foreign_field"] == 2
    assert (statistics.dropped["own_echo"], statistics.dropped["not_joined"]) == (1, 1)


@pytest.mark.parametrize(
    "broken", [b"\xff", b"\x12\x05abc", rpc(publish=[b"\x12\x09ab"]), rpc(publish=[b"\x10\x01"]), rpc(publish=[b""])]
)
def test_a_malformed_rpc_or_message_costs_nothing_beside_it(broken: bytes) -> None:
    router = make_router()
    (peer,) = joined(router, "news", 1, UNSIGNED)
    router.take_charges()
    frames = [rpc(publish=[plain("news", b"before")]), broken, rpc(publish=[plain("news", b"behind")])]
    (delivered,) = router.handle(RpcsReceived(peer, frames), 1.0)
    assert isinstance(delivered, MessagesDelivered)
    assert [message.data for message in delivered.messages] == [b"before", b"behind"]
    assert router.statistics().rejected["malformed"] == 1
    assert router.take_charges() == {peer: 50.0}


def test_the_same_data_may_travel_on_two_topics() -> None:
    router = make_router()
    joined(router, "a", 0, UNSIGNED)
    (peer,) = joined(router, "b", 1, UNSIGNED)
    raws = [plain("a", b"x"), plain("b", b"x"), plain("a", b"x")]
    effects = router.handle(RpcsReceived(peer, [rpc(publish=raws)]), 1.0)
    assert [effect.topic for effect in effects if isinstance(effect, MessagesDelivered)] == ["a", "b"]


# ---------------------------------------------------------------- lazy gossip


def outside(router: GossipRouter, number: int = 20) -> PeerId:
    """A peer in the topic `news` that is not in its mesh."""
    peer = peer_id(number)
    router.handle(PeerAdded(peer, "/meshsub/1.1.0", False), 0.0)
    router.handle(RpcsReceived(peer, [subscribe("news")]), 0.0)
    rpcs(router, peer)
    assert peer not in mesh(router, "news")
    return peer


def test_ihave_tells_peers_outside_the_mesh_for_three_heartbeats_and_iwant_is_answered() -> None:
    router = make_router(config=GossipConfig(flood_publish=False))
    inside = joined(router, "news", 5)
    peer = outside(router)
    (completed, *_) = router.handle(Published(1, "news", [b"one", b"two"]), 0.5)
    for other in inside:
        rpcs(router, other)
    (_, completed) = router.handle(Published(2, "news", [b"three"]), 0.5)[:2]
    assert isinstance(completed, PublishCompleted)
    sender = bytes(ME)
    ids = [sender + (WALL + number).to_bytes(8, "big") for number in (1, 2, 3)]
    for beat in range(5):
        effects = router.handle_deadline(2.0 + beat)
        expected = [RPC(control={"ihave": [{"topicID": b"news", "messageIDs": ids}]})] if beat < 3 else []
        assert effects == [PeerWoken(peer)] * len(expected)
        assert rpcs(router, peer) == expected
        if beat == 2:
            asked = control(iwant=[{"messageIDs": [ids[1], b"unknown", ids[0], ids[1]]}])
            assert router.handle(RpcsReceived(peer, [asked]), 4.5) == [PeerWoken(peer)]
            (answer,) = rpcs(router, peer)
            assert [Message.FromString(raw).data for raw in answer.publish] == [b"two", b"one"]
            router.handle(RpcsReceived(peer, [asked, asked, asked]), 4.5)
            assert sum(len(answer.publish) for answer in rpcs(router, peer)) == 4  # three times at most each
    assert router.handle(RpcsReceived(peer, [control(iwant=[{"messageIDs": ids}])]), 7.0) == []  # forgotten


def test_ihave_is_answered_with_iwant_within_limits() -> None:
    router = make_router(config=GossipConfig(max_ihave_length=10, max_ihave_messages=3))
    (peer,) = joined(router, "news", 1, UNSIGNED)
    router.handle(RpcsReceived(peer, [rpc(publish=[plain("news", b"known")])]), 0.5)
    seen = sha256(b"known").digest()

    def ihave(*ids: bytes, topic: bytes = b"news") -> bytes:
        return control(ihave=[{"topicID": topic, "messageIDs": ids}])

    body = ihave(b"new", seen, b"new", b"x" * 513)
    assert router.handle(RpcsReceived(peer, [body, ihave(b"other", topic=b"nothing")]), 1.0) == [PeerWoken(peer)]
    assert rpcs(router, peer) == [RPC(control={"iwant": [{"messageIDs": [b"new"]}]})]
    many = [b"%d" % number for number in range(100)]
    router.handle(RpcsReceived(peer, [ihave(*many)]), 1.0)
    (answer,) = rpcs(router, peer)
    assert len(answer.control.iwant[0].messageIDs) == 9
    assert router.handle(RpcsReceived(peer, [ihave(b"fourth")]), 1.0) == []
    router.handle_deadline(2.0)
    rpcs(router, peer)
    assert router.handle(RpcsReceived(peer, [ihave(b"fourth")]), 2.0) == [PeerWoken(peer)]


def test_long_gossip_is_split_into_frames_and_differs_between_peers() -> None:
    config = GossipConfig(flood_publish=False, max_ihave_length=2000, queue_max_messages=100_000)
    router = make_router(config=config)
    joined(router, "news", 6, UNSIGNED)
    peers = [outside(router, 20), outside(router, 21)]
    datas = [b"%d" % number for number in range(6000)]
    router.handle(Published(1, "news", datas), 0.5)
    router.handle_deadline(2.0)
    heard = []
    for peer in peers:
        found = rpcs(router, peer)
        assert all(answer.ByteSize() <= 65_536 for answer in found)
        ids = [identifier for answer in found for ihave in answer.control.ihave for identifier in ihave.messageIDs]
        assert len(ids) == len(set(ids)) == 2000
        heard.append(ids)
    assert heard[0] != heard[1]


# ---------------------------------------------------------------- bounds


def test_control_of_one_rpc_is_bounded_and_exchange_needs_a_link() -> None:
    router = make_router(config=GossipConfig(max_rpc_control=3))
    (peer,) = joined(router, "news", 1)
    offer = {"topicID": b"news", "peers": [{"peerID": bytes(peer_id(5))}]}
    assert router.handle(RpcsReceived(peer, [control(prune=[offer] * 5)]), 0.0) == [
        PeersOffered(peer, "news", [(peer_id(5), None)])
    ]
    assert router.handle(RpcsReceived(peer, [control(prune=[offer])]), 0.0) == []
    subscriptions = [{"subscribe": True, "topicid": b"%d" % number} for number in range(5)]
    router.handle(RpcsReceived(peer, [rpc(subscriptions=subscriptions)]), 0.0)
    assert router.statistics().dropped["rpc_bound"] == 4


def test_a_peer_cannot_grow_memory_with_topics() -> None:
    router = make_router(config=GossipConfig(max_topics_per_peer=3))
    peer = peer_id(1)
    router.handle(PeerAdded(peer, "/meshsub/1.1.0", True), 0.0)
    names = [b"topic%d" % number for number in range(50)]
    wanted = rpc(subscriptions=[{"subscribe": True, "topicid": name} for name in [b"\xff", b"", b"x" * 1025, *names]])
    assert router.handle(RpcsReceived(peer, [wanted]), 0.0) == []
    assert [view.topic for view in router.topics()] == ["topic0", "topic1", "topic2"]
    assert router.statistics().dropped["topic_bound"] == 50
    churn = [{"subscribe": wanted, "topicid": name} for name in names for wanted in (False, True, False)]
    router.handle(RpcsReceived(peer, [rpc(subscriptions=churn)]), 0.0)
    assert router.topics() == []
    router.handle(RpcsReceived(peer, [wanted]), 0.0)
    router.handle(PeerRemoved(peer), 0.0)
    assert router.topics() == []
    assert router.handle(RpcsReceived(peer, [wanted]), 0.0) == []
    assert router.statistics().dropped["no_peer"] == 1


def test_messages_of_one_rpc_are_bounded() -> None:
    router = make_router(config=GossipConfig(max_rpc_messages=10))
    (peer,) = joined(router, "news", 1, UNSIGNED)
    raws = [plain("news", b"%d" % number) for number in range(15)]
    (delivered,) = router.handle(RpcsReceived(peer, [rpc(publish=raws)]), 0.0)
    assert isinstance(delivered, MessagesDelivered)
    assert len(delivered.messages) == 10
    assert router.statistics().dropped["rpc_bound"] == 5


def test_a_peer_that_never_takes_its_control_messages_is_given_up() -> None:
    router = make_router(config=GossipConfig(queue_max_control=10))
    peer = peer_id(1)
    router.handle(PeerAdded(peer, "/meshsub/1.1.0", True), 0.0)
    violations = []
    for number in range(30):
        router.handle(TopicJoined("news"), 0.0)
        violations += router.handle(TopicJoined(f"topic{number}"), 0.0)
        router.handle(TopicLeft("news"), 0.0)  # joined and left before it was said: nothing to say
    assert [effect for effect in violations if not isinstance(effect, PeerWoken)] == [
        PeerViolated(peer, violations[-1].error)  # type: ignore[union-attr]
    ]
    assert isinstance(violations[-1].error, QueueFull)  # type: ignore[union-attr]


# ---------------------------------------------------------------- fanout


def test_fanout_is_used_kept_and_forgotten() -> None:
    router = make_router(config=GossipConfig(flood_publish=False, fanout_ttl=5.0))
    for number in range(1, 10):
        router.handle(PeerAdded(peer_id(number), "/meshsub/1.1.0", True), 0.0)
        router.handle(RpcsReceived(peer_id(number), [subscribe("news")]), 0.0)
    completed, *woken = router.handle(Published(1, "news", [b"one"]), 0.0)
    assert completed == PublishCompleted(
        1, [Receipt(0, 1, PublishOutcome.SENT, 6, 0)], [bytes(ME) + (WALL + 1).to_bytes(8, "big")]
    )
    fanout = mesh(router, "news")
    assert len(fanout) == 6
    assert woken == [PeerWoken(peer) for peer in fanout]
    for peer in fanout:
        (answer,) = rpcs(router, peer)
        assert len(answer.publish) == 1
    router.handle(RpcsReceived(fanout[0], [subscribe("news", False)]), 1.0)
    router.handle_deadline(2.0)
    refilled = mesh(router, "news")
    assert len(refilled) == 6
    assert fanout[0] not in refilled
    router.handle(TopicJoined("news"), 3.0)
    assert set(mesh(router, "news")) == set(refilled)
    router.handle(TopicLeft("news"), 3.0)
    router.handle(Published(2, "news", [b"two"]), 4.0)
    router.handle_deadline(9.5)
    assert mesh(router, "news") == ()


# ---------------------------------------------------------------- extensions (gossipsub 1.3)

_TEST = 6492434  # number of the test extension
# Partial messages, the test extension and one that nobody has defined; behind them what the first two bring.
_KNOWN_TO_OTHERS = b"\x50\x01" + encode(_TEST << 3) + b"\x01" + b"\x9a\x06\x01x"
EXTENSIONS = field(3, field(6, _KNOWN_TO_OTHERS)) + field(10, field(1, b"news")) + encode(_TEST << 3 | 2) + b"\x00"


def misused(router: GossipRouter) -> tuple[int, float]:
    """Entries that came where they may not, and what their senders are charged."""
    return router.statistics().dropped["control_bound"], sum(router.take_charges().values())


def test_unknown_extensions_are_skipped_with_all_that_is_beside_them_served() -> None:
    router = make_router()
    router.handle(TopicJoined("news", UNSIGNED), 0.0)
    peer = peer_id(1)
    router.handle(PeerAdded(peer, "/meshsub/1.3.0", True), 0.0)
    (delivered, *_) = router.handle(
        RpcsReceived(peer, [EXTENSIONS + subscribe("news") + rpc(publish=[plain("news", b"x")])]), 0.0
    )
    assert isinstance(delivered, MessagesDelivered)
    assert [message.data for message in delivered.messages] == [b"x"]
    assert mesh(router, "news") == (peer,)
    assert misused(router) == (0, 3.0)  # the subscription
    # Peer exchange and the back-off go on as with older versions.
    router.handle(RpcsReceived(peer, [graft("news")]), 0.0)
    rpcs(router, peer)
    router.handle(TopicLeft("news"), 1.0)
    (prune,) = [entry for answer in rpcs(router, peer) for entry in answer.control.prune]
    assert prune.backoff == 10


def test_extensions_come_first_on_a_stream_and_once() -> None:
    router = make_router(config=UNSCORED)
    peer = peer_id(1)
    router.handle(PeerAdded(peer, "/meshsub/1.3.0", True), 0.0)
    router.handle(RpcsReceived(peer, [EXTENSIONS]), 0.0)
    router.take_charges()
    for _ in range(2):
        router.handle(RpcsReceived(peer, [EXTENSIONS]), 0.0)
    bound, points = misused(router)
    assert bound == 2
    assert points > 2 * 50
    router.handle(RpcsReceived(peer, [FirstRpc(EXTENSIONS), subscribe("news"), EXTENSIONS]), 1.0)
    assert misused(router)[0] == 3


def test_of_two_streams_that_begin_at_once_the_later_one_may_say_extensions() -> None:
    """As rust-libp2p does with two connections: both its streams take what waits out of one queue."""
    router = make_router()
    peer = peer_id(1)
    router.handle(PeerAdded(peer, "/meshsub/1.3.0", True), 0.0)
    router.handle(RpcsReceived(peer, [FirstRpc(subscribe("news")), subscribe("more"), FirstRpc(EXTENSIONS)]), 0.0)
    assert misused(router)[0] == 0
    view = router.score(peer)
    assert view is not None
    assert view.score == 0.0


def test_another_stream_to_a_peer_begins_with_extensions_too() -> None:
    router = make_router()
    router.handle(PeerMoved(peer_id(2)), 0.0)  # who is not there any more
    for number, protocol in enumerate(("/meshsub/1.2.0", "/meshsub/1.3.0"), 1):
        router.handle(PeerAdded(peer_id(number), protocol, True), 0.0)
        before = rpcs(router, peer_id(number))
        router.handle(PeerMoved(peer_id(number)), 1.0)
        router.handle(TopicJoined("news", UNSIGNED), 1.0)
        first, *others = rpcs(router, peer_id(number))
        assert first.control.HasField("extensions") is (protocol == "/meshsub/1.3.0")
        assert not any(answer.HasField("control") for answer in others)
        assert len(before) == (protocol == "/meshsub/1.3.0")
        router.handle(TopicLeft("news"), 1.0)
