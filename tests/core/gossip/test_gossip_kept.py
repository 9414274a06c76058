"""What is delivered of topics that are kept: with what travelled; and who is in these."""

from collections.abc import Sequence

import pytest
from gossip_network import joined, make_router, peer_id, plain, rpc, rpcs, signed, subscribe

from sidecar.core.gossip import (
    GossipConfig,
    GossipRouter,
    HistorySeen,
    MessagesDelivered,
    PeerAdded,
    PeerRemoved,
    Published,
    PublishOutcome,
    RpcsReceived,
    RulesSet,
    TopicJoined,
    TopicLeft,
    TopicOptions,
    TopicPeerChanged,
)
from sidecar.core.gossip.bundles import inner_ids, pack
from sidecar.core.gossip.messages import BundleBytes
from sidecar.core.parameters import TopicRule
from sidecar.core.parameters.bundles import Bundling
from sidecar.core.types import PeerId

KEPT = TopicOptions(keep=True)
AUTHOR = peer_id(9)


def delivered(effects: Sequence[object]) -> list[MessagesDelivered]:
    return [effect for effect in effects if isinstance(effect, MessagesDelivered)]


def send(router: GossipRouter, peer: PeerId, *raws: bytes) -> list[MessagesDelivered]:
    return delivered(router.handle(RpcsReceived(peer, [rpc(publish=raws)]), 1.0))


def datas(effect: MessagesDelivered) -> list[bytes]:
    return [message.data for message in effect.messages]


@pytest.mark.parametrize("sign", [True, False])
def test_a_kept_topic_delivers_what_travelled_and_others_do_not(sign: bool) -> None:
    router = make_router()
    (peer,) = joined(router, "news", 1, TopicOptions(sign, keep=True))
    joined(router, "other", 0, TopicOptions(sign))
    texts = [b"one", b"two", b"three"]
    raws = {
        topic: [signed(9, topic, text, at) if sign else plain(topic, text) for at, text in enumerate(texts)]
        for topic in ("news", "other")
    }
    found = send(router, peer, *raws["news"], *raws["other"], raws["news"][0])
    by_topic = {effect.topic: effect for effect in found}
    assert len(found) == 2
    kept = by_topic["news"]
    assert (datas(kept), list(kept.raws)) == (texts, raws["news"])
    assert (kept.received, kept.history, kept.bundle) == ((), False, b"")
    assert (datas(by_topic["other"]), by_topic["other"].raws) == (texts, ())


@pytest.mark.parametrize("sign", [True, False])
def test_own_publications_carry_what_travels(sign: bool) -> None:
    router = make_router()
    (peer,) = joined(router, "news", 1, TopicOptions(sign, keep=True))
    (found,) = delivered(router.handle(Published(1, "news", [b"one", b"two"]), 0.5))
    assert datas(found) == [b"one", b"two"]
    assert list(found.raws) == [raw for frame in rpcs(router, peer) for raw in frame.publish]
    assert all(message.local for message in found.messages)


def test_a_bundle_is_alone_in_its_delivery() -> None:
    router = make_router()
    (peer,) = joined(router, "news", 1, KEPT)
    bundle = signed(9, "news", pack([b"a", b"b"]), 10)
    plains = [signed(9, "news", text, at) for at, text in ((1, b"before"), (2, b"too"), (20, b"behind"))]
    before, found, behind = send(router, peer, plains[0], plains[1], bundle, plains[2])
    identifier = bytes(AUTHOR) + (10).to_bytes(8, "big")
    assert (datas(before), before.bundle) == ([b"before", b"too"], b"")
    assert (datas(found), list(found.raws), found.bundle) == ([b"a", b"b"], [bundle], identifier)
    assert [message.id for message in found.messages] == inner_ids(identifier, 2)
    assert (datas(behind), behind.bundle, list(behind.raws)) == ([b"behind"], b"", [plains[2]])


def test_what_a_rule_keeps_back_of_a_bundle_is_missing() -> None:
    router = make_router()
    router.handle(RulesSet([TopicRule("small", ("*",), max_payload=3)]), 0.0)
    (peer,) = joined(router, "news", 1, KEPT)
    (found,) = send(router, peer, signed(9, "news", pack([b"a", b"large", b"b"]), 10))
    assert datas(found) == [b"a", b"b"]
    identifier = bytes(AUTHOR) + (10).to_bytes(8, "big")
    assert [message.id for message in found.messages] == [identifier + b"\0\0", identifier + b"\0\2"]


def test_own_bundles_are_alone_in_their_deliveries() -> None:
    router = make_router(config=GossipConfig(max_chunk=2000))
    joined(router, "news", 0, KEPT)
    found = delivered(router.handle(Published(1, "news", [b"x" * 600] * 5, bundling=Bundling.ALWAYS), 0.5))
    assert sum(len(effect.messages) for effect in found) == 5
    assert all(len(effect.raws) == 1 or not effect.bundle for effect in found)
    bundled = [effect for effect in found if effect.bundle]
    assert [len(effect.messages) for effect in bundled] == [raw.messages for (raw,) in raws_of(bundled)]


def raws_of(effects: Sequence[MessagesDelivered]) -> list[tuple[BundleBytes, ...]]:
    return [tuple(raw for raw in effect.raws if isinstance(raw, BundleBytes)) for effect in effects]


def test_joining_again_turns_keeping_on_and_off() -> None:
    router = make_router()
    (peer,) = joined(router, "news", 1)
    assert not router.keeps("news")
    router.handle(TopicJoined("news", KEPT), 0.0)
    assert router.keeps("news")
    assert send(router, peer, signed(9, "news", b"a", 1))[0].raws
    router.handle(TopicJoined("news"), 0.0)
    assert not router.keeps("news")
    assert not send(router, peer, signed(9, "news", b"b", 2))[0].raws
    router.handle(TopicJoined("news", KEPT), 0.0)
    router.handle(TopicLeft("news"), 0.0)
    assert not router.keeps("news")
    assert not router.keeps("unheard of")


def test_peers_that_come_into_a_kept_topic_and_leave_it_are_told() -> None:
    router = make_router()
    (first,) = joined(router, "news", 1, KEPT)
    second = peer_id(2)
    router.handle(PeerAdded(second, "/meshsub/1.1.0", False), 0.0)
    effects = router.handle(RpcsReceived(second, [subscribe("news"), subscribe("other"), subscribe("news")]), 0.0)
    assert changes(effects) == [TopicPeerChanged("news", second, True)]
    assert router.members("news") == [(first, 0.0), (second, 0.0)]
    left = rpc(subscriptions=[{"subscribe": False, "topicid": b"news"}])
    assert changes(router.handle(RpcsReceived(second, [left, left]), 0.0)) == [TopicPeerChanged("news", second, False)]
    assert changes(router.handle(PeerRemoved(first), 0.0)) == [TopicPeerChanged("news", first, False)]
    assert router.members("news") == []
    assert router.members("unheard of") == []


def changes(effects: Sequence[object]) -> list[TopicPeerChanged]:
    return [effect for effect in effects if isinstance(effect, TopicPeerChanged)]


def test_nobody_is_told_of_peers_of_other_topics() -> None:
    router = make_router()
    (peer,) = joined(router, "news", 1)
    assert changes(router.handle(PeerRemoved(peer), 0.0)) == []


def test_what_was_seen_before_the_start_is_not_delivered_again() -> None:
    router = make_router()
    router.handle(HistorySeen("news", [bytes(AUTHOR) + (1).to_bytes(8, "big")]), 0.0)
    (peer,) = joined(router, "news", 1, KEPT)
    (found,) = send(router, peer, signed(9, "news", b"old", 1), signed(9, "news", b"new", 2))
    assert datas(found) == [b"new"]
    assert router.statistics().duplicates == 1


def test_the_same_unsigned_data_is_published_once_after_a_restart_too() -> None:
    router = make_router()
    joined(router, "news", 0, TopicOptions(False, keep=True))
    (found,) = delivered(router.handle(Published(1, "news", [b"one"]), 0.5))
    again = make_router()
    again.handle(HistorySeen("news", [found.messages[0].id]), 0.0)
    joined(again, "news", 0, TopicOptions(False, keep=True))
    effects = again.handle(Published(1, "news", [b"one"]), 0.5)
    assert delivered(effects) == []
    assert [receipt.outcome for effect in effects for receipt in getattr(effect, "receipts", ())] == [
        PublishOutcome.DUPLICATE
    ]
