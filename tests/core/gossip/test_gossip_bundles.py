"""Bundles: many messages under one signature, each judged and delivered by itself; what is none; who is to blame."""

import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest
from gossip_network import (
    UNSCORED,
    GossipNetwork,
    control,
    joined,
    make_router,
    peer_id,
    plain,
    rpc,
    rpcs,
    signed,
    subscribe,
)
from hypothesis import example as explicit
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.errors import InvalidArgument, ProtocolError
from sidecar.core.gossip import (
    CheckSignatures,
    Fallback,
    FirstRpc,
    GossipConfig,
    GossipMessage,
    GossipRouter,
    MessagesDelivered,
    MessagesToJudge,
    PeerAdded,
    PublishCompleted,
    Published,
    PublishOutcome,
    Receipt,
    RpcsReceived,
    RulesSet,
    SignaturesChecked,
    TopicJoined,
    TopicLeft,
    TopicOptions,
    ValidationSettings,
    ValidatorAdded,
    Verdict,
    VerdictsGiven,
    verify_batch,
)
from sidecar.core.gossip.bundles import MARK, MARKS, claimed, inner_ids, pack, unpack, weight
from sidecar.core.gossip.messages import BundleBytes, build_chunks, parse_message
from sidecar.core.parameters import OnBreak, SenderRate, SeqnoDistance, TopicRule
from sidecar.core.parameters.bundles import MAX_BUNDLED, Bundling, bundling_of
from sidecar.core.types import PeerId
from sidecar.core.varint import encode

UNSIGNED = TopicOptions(sign=False)
V13 = "/meshsub/1.3.0"
DOCUMENT = Path(__file__).parents[3] / "docs" / "protocols.md"
ALWAYS = GossipConfig(bundled_topics=(("*", Bundling.ALWAYS),))
AUTHOR = peer_id(9)
TWO = [b"hi", b"there"]


def example(name: str) -> bytes:
    (block,) = re.findall(rf"```hex-{name}\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    return bytes.fromhex("".join(line.partition("#")[0] for line in block.splitlines()))


def meet(router: GossipRouter, number: int, *, bundles: bool = True, topic: str = "news") -> PeerId:
    """A peer of the topic that says whether it knows bundles."""
    peer = peer_id(number)
    router.handle(PeerAdded(peer, V13, True), 0.0)
    said = FirstRpc(control(extensions={"bundles": bundles}))
    router.handle(RpcsReceived(peer, [said, subscribe(topic, age=3_600_000)]), 0.0)
    rpcs(router, peer)
    return peer


def listening(
    *, peers: int = 2, config: GossipConfig = UNSCORED, bundles: bool = True
) -> tuple[GossipRouter, list[PeerId]]:
    router = make_router(config=config)
    router.handle(TopicJoined("news"), 0.0)
    found = [meet(router, number, bundles=bundles) for number in range(1, peers + 1)]
    router.take_charges()
    return router, found


def bundle(datas: Sequence[bytes], seqno: int = 100, author: int = 9) -> bytes:
    return signed(author, "news", pack(datas), seqno)


def send(router: GossipRouter, peer: PeerId, *raws: bytes, now: float = 0.0) -> list[object]:
    return list(router.handle(RpcsReceived(peer, [rpc(publish=raws)]), now))


def delivered(effects: Sequence[object]) -> list[GossipMessage]:
    return [m for effect in effects if isinstance(effect, MessagesDelivered) for m in effect.messages]


def datas(effects: Sequence[object]) -> list[bytes]:
    return [message.data for message in delivered(effects)]


def forwarded(router: GossipRouter, peer: PeerId) -> list[bytes]:
    return [raw for found in rpcs(router, peer) for raw in found.publish]


def numbered(count: int, start: int = 0) -> list[bytes]:
    return [b"%d" % number for number in range(start, start + count)]


def judged(router: GossipRouter, *verdicts: tuple[int, int, Verdict]) -> list[object]:
    return list(router.handle(VerdictsGiven(1, verdicts), 0.0))


def publish(
    router: GossipRouter, messages: Sequence[bytes], bundling: Bundling | None = None, **more: object
) -> list[object]:
    return list(router.handle(Published(1, "news", messages, bundling=bundling, **more), 0.0))  # type: ignore[arg-type]


def completed(effects: Sequence[object]) -> PublishCompleted:
    (found,) = [effect for effect in effects if isinstance(effect, PublishCompleted)]
    return found


# ---------------------------------------------------------------- bytes

payloads = st.binary(max_size=140).filter(lambda data: not data.startswith(MARKS))


@given(st.lists(payloads, min_size=1, max_size=12))
@explicit([b""] * MAX_BUNDLED)
@explicit([b"x" * 5000, b"", b"y" * 20_000])
def test_what_is_packed_is_unpacked(messages: list[bytes]) -> None:
    data = pack(messages)
    assert unpack(data, 0) == messages
    assert claimed(data) == len(messages)


@given(st.binary(max_size=400), st.integers(0, 2**64 - 1))
@explicit(b"", 0)
@explicit(b"\x01\x00", 2**64 - 1)
@explicit(b"\x80" * 9 + b"\x01", 0)
@explicit(b"\xff" * 30, 0)
def test_any_bytes_are_a_bundle_in_one_way_or_none(rest: bytes, seqno: int) -> None:
    data = MARK + rest
    assert 1 <= claimed(data) <= MAX_BUNDLED
    try:
        messages = unpack(data, seqno)
    except ProtocolError:
        return
    assert pack(messages) == data
    assert not any(message.startswith(MARKS) for message in messages)
    assert seqno + len(messages) <= 2**64


@given(st.lists(payloads, min_size=1, max_size=8), st.data())
def test_a_bundle_with_a_byte_more_less_or_changed_never_reads_beyond_its_end(
    messages: list[bytes], draw: st.DataObject
) -> None:
    data = bytearray(pack(messages))
    at = draw.draw(st.integers(len(MARK), len(data) - 1))
    match draw.draw(st.sampled_from(["cut", "longer", "changed"])):
        case "cut":
            del data[at:]
        case "longer":
            data.append(draw.draw(st.integers(0, 255)))
        case _:
            data[at] = draw.draw(st.integers(0, 255))
    try:
        found = unpack(bytes(data), 0)
    except ProtocolError:
        return
    assert pack(found) == data


@pytest.mark.parametrize(
    ("rest", "said"),
    [
        (b"", "cut short"),
        (b"\x80", "cut short"),
        (b"\x00", "bundle of 0 messages"),
        (encode(MAX_BUNDLED + 1) + bytes(MAX_BUNDLED + 1), "bundle of 4097 messages"),
        (encode(100_000) + bytes(100_000), "bundle of 100000 messages"),
        (encode(2**62), "bundle of 4611686018427387904 messages"),
        (b"\x81\x00" + b"\x00", "not minimal"),
        (b"\x01\x81\x00x", "not minimal"),
        (b"\x01" + b"\xff" * 9 + b"\x01", "longer than 9 bytes"),
        (b"\x01" + encode(2**62) + b"x", "end at"),
        (b"\x02\x05ab\x01c", "ends before the last"),
        (b"\x01\x01ab", "end at"),
        (b"\x02\x01a", "ends before the last"),
        (b"\x01\x01a\x00", "end at"),
        (b"\x01" + encode(len(pack(TWO))) + pack(TWO), "as marks do"),
        (b"\x02\x01a\x11\x00/sidecar/probe/1", "as marks do"),
    ],
)
def test_what_is_no_bundle(rest: bytes, said: str) -> None:
    with pytest.raises(ProtocolError, match=said):
        unpack(MARK + rest, 0)


def test_the_numbers_of_messages_end_with_64_bits() -> None:
    assert unpack(pack(TWO), 2**64 - 2) == TWO
    with pytest.raises(ProtocolError, match="beyond 64 bits"):
        unpack(pack(TWO), 2**64 - 1)


def test_ids_are_in_order_and_no_other_message_has_one() -> None:
    ids = inner_ids(AUTHOR + bytes(8), MAX_BUNDLED)
    assert all(one < other for one, other in pairwise(ids))
    assert not {*ids} & {*inner_ids(AUTHOR + bytes(7) + b"\1", MAX_BUNDLED)}


def test_the_example_is_what_travels() -> None:
    router = make_router(config=ALWAYS)
    (peer,) = joined(router, "news", 1)
    ids = completed(publish(router, TWO)).ids
    (raw,) = forwarded(router, peer)
    assert raw == example("bundle")
    assert ids[1] == example("bundled-id")
    other = make_router(3)
    other.handle(TopicJoined("news"), 0.0)
    messages = delivered(send(other, meet(other, 1), raw))
    assert [(m.id, m.data, m.sender) for m in messages] == [(ids[0], b"hi", peer_id(0)), (ids[1], b"there", peer_id(0))]


# ---------------------------------------------------------------- publishing


def test_what_is_published_together_travels_under_one_signature_and_has_ids_of_its_own() -> None:
    router = make_router(config=ALWAYS)
    (peer,) = joined(router, "news", 1)
    effects = publish(router, numbered(5))
    own, answer = delivered(effects), completed(effects)
    assert answer.receipts == [Receipt(0, 5, PublishOutcome.SENT, 1, 0)]
    assert [m.id for m in own] == answer.ids
    assert len(set(answer.ids)) == 5
    assert [m.data for m in own] == numbered(5)
    first = own[0].seqno
    assert first is not None
    assert [m.seqno for m in own] == list(range(first, first + 5))
    (raw,) = forwarded(router, peer)
    assert unpack(parse_message(raw).data or b"", 0) == numbered(5)
    (following,) = delivered(publish(router, [b"alone"]))
    assert following.seqno == first + 5
    assert following.id == peer_id(0) + (first + 5).to_bytes(8, "big")
    statistics = router.statistics()
    assert (statistics.published, statistics.delivered, statistics.sent) == (6, 6, 6)
    assert statistics.bundles_published == 1


def test_one_message_alone_travels_as_ever() -> None:
    router = make_router(config=ALWAYS)
    (peer,) = joined(router, "news", 1)
    publish(router, [b"alone"])
    (raw,) = forwarded(router, peer)
    assert parse_message(raw).data == b"alone"


def test_unsigned_topics_know_no_bundles() -> None:
    router = make_router(config=ALWAYS)
    (peer,) = joined(router, "news", 1, UNSIGNED)
    mark = pack(TWO)
    publish(router, [b"one", b"two", mark])
    assert [parse_message(raw).data for raw in forwarded(router, peer)] == [b"one", b"two", mark]
    other = make_router(3)
    other.handle(TopicJoined("news", UNSIGNED), 0.0)
    assert datas(send(other, meet(other, 1), plain("news", mark))) == [mark]


def test_no_app_publishes_what_would_be_taken_for_a_bundle() -> None:
    router = make_router()
    joined(router, "news", 1)
    with pytest.raises(InvalidArgument, match="marks bundles"):
        publish(router, [b"good", MARK])
    assert router.statistics().published == 0


def test_what_begins_as_a_mark_does_travels_by_itself_and_in_order() -> None:
    router = make_router(config=ALWAYS)
    (peer,) = joined(router, "news", 1)
    messages = [b"1", b"2", MARKS + b"x", b"3", MARKS, MARKS, b"4", b"5"]
    effects = publish(router, messages)
    assert datas(effects) == messages
    found = [parse_message(raw).data or b"" for raw in forwarded(router, peer)]
    assert found == [pack([b"1", b"2"]), MARKS + b"x", b"3", MARKS, MARKS, pack([b"4", b"5"])]
    ids = completed(effects).ids
    assert len(set(ids)) == len(messages)


def test_the_call_says_more_than_the_configuration_and_the_first_pattern_that_fits_holds() -> None:
    choices = (("news", Bundling.OFF), ("n*", Bundling.ALWAYS), ("*", Bundling.KNOWN))
    assert [bundling_of(topic, choices) for topic in ("news", "night", "day")] == [
        Bundling.OFF,
        Bundling.ALWAYS,
        Bundling.KNOWN,
    ]
    assert bundling_of("day", choices[:2]) is Bundling.OFF
    router = make_router(config=GossipConfig(bundled_topics=choices))
    (peer,) = joined(router, "news", 1)
    publish(router, TWO)
    assert len(forwarded(router, peer)) == 2
    publish(router, TWO, Bundling.ALWAYS)
    assert len(forwarded(router, peer)) == 1


def test_known_bundles_while_every_peer_of_the_topic_knows_them() -> None:
    router = make_router()
    router.handle(TopicJoined("news"), 0.0)
    knowing = meet(router, 1)
    publish(router, TWO, Bundling.KNOWN)
    assert len(forwarded(router, knowing)) == 1
    meet(router, 2, bundles=False, topic="other")  # elsewhere
    publish(router, TWO, Bundling.KNOWN)
    assert len(forwarded(router, knowing)) == 1
    foreign = meet(router, 3, bundles=False)
    publish(router, TWO, Bundling.KNOWN)
    assert [len(forwarded(router, peer)) for peer in (knowing, foreign)] == [2, 2]
    publish(router, TWO, Bundling.ALWAYS)
    assert [len(forwarded(router, peer)) for peer in (knowing, foreign)] == [1, 1]


def test_publishers_that_wait_see_who_has_come_meanwhile() -> None:
    router = make_router()
    router.handle(TopicJoined("news"), 0.0)
    effects = publish(router, TWO, Bundling.KNOWN, wait=True, minimum_peers=1)
    assert not effects
    foreign = meet(router, 1, bundles=False)
    found = list(router.handle_deadline(router.next_deadline()))
    assert completed(found).receipts == [Receipt(0, 2, PublishOutcome.SENT, 1, 0)]
    assert len(forwarded(router, foreign)) == 2


def test_bundles_have_the_size_of_chunks_and_of_what_the_least_peer_reads() -> None:
    for max_rpc in (0, 5000):
        router = make_router(config=ALWAYS)
        router.handle(TopicJoined("news"), 0.0)
        peers = [peer_id(1), peer_id(2)]
        for peer in peers:
            router.handle(PeerAdded(peer, V13, True, max_rpc if peer is peers[0] else 0), 0.0)
            router.handle(RpcsReceived(peer, [subscribe("news")]), 0.0)
            rpcs(router, peer)
        effects = publish(router, [b"%05d" % number * 20 for number in range(2000)])
        while router.next_deadline() <= 0.0:
            effects += router.handle_deadline(0.0)
        assert completed(effects).receipts == [Receipt(0, 2000, PublishOutcome.SENT, 2, 0)]
        for peer in peers:
            frames = []
            while got := router.take(peer, 1 << 20):
                frames += got
            assert max(map(len, frames)) <= (max_rpc or GossipConfig().max_chunk) + 3
            assert len(frames) == (4 if not max_rpc else len(frames))
            assert len(frames) > 40 or not max_rpc


def test_a_bundle_has_no_more_messages_than_may_be() -> None:
    router = make_router(config=ALWAYS)
    (peer,) = joined(router, "news", 1)
    effects = publish(router, [b""] * 10_000)
    while router.next_deadline() <= 0.0:
        effects += router.handle_deadline(0.0)
    assert len(delivered(effects)) == 10_000
    assert len(set(completed(effects).ids)) == 10_000
    found = forwarded(router, peer)
    assert sum(len(unpack(parse_message(raw).data or b"", 0)) for raw in found) == 10_000
    assert len(found) == 3


def test_refused_and_too_large_messages_are_left_out_of_bundles() -> None:
    router = make_router(config=ALWAYS)
    router.handle(
        RulesSet([TopicRule("small", ("news",), max_payload=70_000), TopicRule("not", ("news",), max_payload=2 << 20)]),
        0.0,
    )
    (peer,) = joined(router, "news", 1)
    messages = [b"1", b"2", b"x" * 80_000, b"3", b"y" * 65_000, b"4", b"5"]
    answer = completed(publish(router, messages))
    assert [(r.first, r.count, r.outcome) for r in answer.receipts] == [
        (0, 2, PublishOutcome.SENT),
        (2, 1, PublishOutcome.REJECTED),
        (3, 4, PublishOutcome.SENT),
    ]
    found = [parse_message(raw).data or b"" for raw in forwarded(router, peer)]
    assert found == [pack([b"1", b"2"]), b"3", b"y" * 65_000, pack([b"4", b"5"])]


def test_a_full_queue_loses_messages_not_bundles() -> None:
    router = make_router(config=GossipConfig(bundled_topics=ALWAYS.bundled_topics, queue_max_messages=10))
    joined(router, "news", 2)
    assert completed(publish(router, numbered(8))).receipts == [Receipt(0, 8, PublishOutcome.SENT, 2, 0)]
    assert completed(publish(router, numbered(8))).receipts == [Receipt(0, 8, PublishOutcome.QUEUE_FULL, 0, 0)]
    rpcs(router, peer_id(1))
    assert completed(publish(router, numbered(8))).receipts == [Receipt(0, 8, PublishOutcome.SENT, 1, 1)]
    (view,) = [view for view in router.topics() if view.topic == "news"]
    assert view.counts.dropped == 8
    assert router.statistics().dropped["queue_full"] == 8


# ---------------------------------------------------------------- receiving


def test_every_message_is_delivered_and_the_bundle_goes_on_as_it_came() -> None:
    router, (peer, other) = listening()
    raw = bundle(numbered(3))
    before, behind = signed(9, "news", b"before", 99), signed(9, "news", b"behind", 103)
    effects = send(router, peer, before, raw, behind)
    messages = delivered(effects)
    assert [m.data for m in messages] == [b"before", *numbered(3), b"behind"]
    assert [m.seqno for m in messages] == [99, 100, 101, 102, 103]
    outer = AUTHOR + (100).to_bytes(8, "big")
    assert [m.id for m in messages[1:4]] == inner_ids(outer, 3)
    assert {m.sender for m in messages} == {AUTHOR}
    assert {m.received_from for m in messages} == {peer}
    assert forwarded(router, other) == [before, raw, behind]
    statistics = router.statistics()
    assert (statistics.received, statistics.delivered, statistics.forwarded) == (5, 5, 5)
    assert statistics.bundles_received == 1


def test_a_replayed_bundle_is_a_duplicate_whoever_sends_it() -> None:
    router, (peer, other) = listening()
    raw = bundle(numbered(3))
    send(router, peer, raw)
    assert not delivered(send(router, peer, raw))
    assert not delivered(send(router, other, raw, raw))
    assert router.statistics().duplicates == 9
    assert router.statistics().received == 12
    assert router.statistics().signatures["inline"] == 1


def test_the_same_payload_twice_in_a_bundle_is_two_messages() -> None:
    router, (peer, _) = listening()
    messages = delivered(send(router, peer, bundle([b"same", b"same"])))
    assert len({m.id for m in messages}) == 2


def test_bundles_with_numbers_of_each_other_share_no_id() -> None:
    router, (peer, _) = listening()
    messages = delivered(
        send(router, peer, bundle(numbered(5), 100), bundle(numbered(5), 102), signed(9, "news", b"", 103))
    )
    assert len({m.id for m in messages}) == 11


def test_a_forged_bundle_is_not_opened() -> None:
    router, (peer, _) = listening()
    raw = bundle(numbered(3))
    assert not delivered(send(router, peer, raw[:-1] + bytes([raw[-1] ^ 1])))
    assert router.statistics().rejected["signature"] == 1
    assert datas(send(router, peer, raw)) == numbered(3)  # and suppresses nothing


def test_an_own_bundle_that_comes_back_is_an_echo() -> None:
    router, (peer, other) = listening(config=GossipConfig(bundled_topics=ALWAYS.bundled_topics))
    publish(router, TWO)
    (raw,) = forwarded(router, peer)
    assert not delivered(send(router, other, raw))
    assert router.statistics().dropped["own_echo"] == 1


BAD = signed(9, "news", MARK + b"\x05\x01a", 100)


def test_who_knows_bundles_is_to_blame_for_one_that_is_none() -> None:
    router, (peer, other) = listening(config=GossipConfig())
    assert not delivered(send(router, peer, BAD))
    assert not forwarded(router, other)
    assert router.statistics().rejected["bundle"] == 1
    assert router.score_of(peer) < 0
    assert router.take_charges()[peer] >= 100
    assert not delivered(send(router, other, BAD))  # it is seen: a duplicate
    assert router.score_of(other) == 0


def test_who_does_not_know_bundles_is_not_to_blame_unless_it_is_the_author() -> None:
    router = make_router()
    router.handle(TopicJoined("news"), 0.0)
    peer, other, author = (meet(router, number, bundles=False) for number in (1, 2, 9))
    assert not delivered(send(router, peer, BAD))
    assert not forwarded(router, other)
    assert router.statistics().ignored["bundle"] == 1
    assert router.score_of(peer) == 0
    send(router, author, signed(9, "news", MARK, 200))
    assert router.statistics().rejected["bundle"] == 1
    assert router.score_of(author) < 0


def test_a_bundle_in_a_bundle_is_refused() -> None:
    router, (peer, _) = listening()
    inner = pack(TWO)
    nested = MARK + b"\x01" + encode(len(inner)) + inner
    assert not delivered(send(router, peer, signed(9, "news", nested, 100)))
    assert router.statistics().rejected["bundle"] == 1


def test_nodes_open_bundles_whatever_their_own_choice_over_several_hops() -> None:
    network = GossipNetwork(6, seed=3, protocol=V13)
    for one, other in [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (5, 0)]:
        network.connect(one, other)
    for number in range(6):
        network.input(number, TopicJoined("news"))
    network.run(3.0)
    network.input(0, Published(1, "news", numbered(700), bundling=Bundling.KNOWN))
    network.run(3.0)
    for found in network.delivered:
        assert [m.data for m in found] == numbered(700)
        assert [m.id for m in found] == [m.id for m in network.delivered[0]]
    assert network.routers[0].statistics().bundles_published >= 1
    assert network.routers[3].statistics().delivered == 700


def test_copies_of_bundles_count_as_their_messages_in_chunks() -> None:
    raws = [b"x", BundleBytes.of(b"bundle", 500), b"y"]
    assert [chunk.messages for chunk in build_chunks(raws, 1 << 20, 100)] == [502]
    assert [chunk.messages for chunk in build_chunks(raws, 1 << 20, 1)] == [1, 500, 1]


# ---------------------------------------------------------------- rules and verdicts


def ruled(*rules: TopicRule) -> tuple[GossipRouter, list[PeerId]]:
    router, peers = listening(config=GossipConfig())
    router.handle(RulesSet(rules), 0.0)
    return router, peers


@pytest.mark.parametrize(
    ("messages", "goes_on"),
    [
        ([b"abc", b"abc", b"long"], True),  # two of three, and six of ten bytes
        ([b"abc", b"long"], False),  # half of them, and less than half of the bytes
        ([b"", b"", b"long"], False),  # two of three, and no byte
        ([b"abc", b"long", b"long"], False),
        ([b"long"], False),
    ],
)
def test_a_bundle_goes_on_if_half_of_it_is_accepted(messages: list[bytes], goes_on: bool) -> None:
    router, (peer, other) = ruled(TopicRule("small", ("news",), max_payload=3))
    accepted = [data for data in messages if len(data) <= 3]
    effects = send(router, peer, bundle(messages))
    assert datas(effects) == accepted
    assert len(forwarded(router, other)) == goes_on
    assert router.statistics().ignored["rule"] == len(messages) - len(accepted)
    (view,) = router.topics()
    assert (view.counts.delivered, view.counts.ignored) == (len(accepted), len(messages) - len(accepted))


def test_the_rate_of_a_sender_counts_the_messages_in_bundles() -> None:
    router, (peer, other) = ruled(TopicRule("slow", ("news",), rate=SenderRate(1.0, 10.0)))
    assert datas(send(router, peer, bundle(numbered(8)))) == numbered(8)
    assert datas(send(router, peer, bundle(numbered(8, 8), 200))) == numbered(2, 8)
    assert len(forwarded(router, other)) == 1  # six of eight were too many
    assert router.statistics().rules == {"slow": 6}


def test_distances_of_sequence_numbers_are_those_of_messages() -> None:
    router, (peer, _) = ruled(TopicRule("near", ("news",), seqno=SeqnoDistance(1, 1)))
    assert datas(send(router, peer, bundle(numbered(3), 100))) == numbered(3)
    assert datas(send(router, peer, signed(9, "news", b"again", 102))) == []
    assert datas(send(router, peer, bundle([b"3", b"4"], 103))) == [b"3", b"4"]


def test_one_message_that_a_rule_rejects_has_the_bundle_rejected_and_its_sender_scored_once() -> None:
    router, (peer, other) = ruled(TopicRule("small", ("news",), max_payload=3, on_break=OnBreak.REJECT))
    lone, (alone, _) = ruled(TopicRule("small", ("news",), max_payload=3, on_break=OnBreak.REJECT))
    assert not delivered(send(router, peer, bundle([b"1", b"2", b"long", b"longer"])))
    assert not forwarded(router, other)
    assert router.statistics().rejected["rule"] == 4
    send(lone, alone, signed(9, "news", b"long"))
    assert router.score_of(peer) == lone.score_of(alone) < 0


def guarded(fallback: Fallback = Fallback.IGNORE) -> tuple[GossipRouter, list[PeerId]]:
    router, peers = listening(peers=3, config=GossipConfig())
    router.handle(ValidatorAdded(1, {"news": ValidationSettings(1.0, fallback, 100)}), 0.0)
    return router, peers


def test_apps_judge_each_message_and_nothing_goes_anywhere_before_all_have_their_verdicts() -> None:
    router, (peer, other, _) = guarded()
    raw = bundle(numbered(4))
    (asked,) = [effect for effect in send(router, peer, raw) if isinstance(effect, MessagesToJudge)]
    assert [m.data for m in asked.messages] == numbered(4)
    assert [m.id for m in asked.messages] == inner_ids(AUTHOR + (100).to_bytes(8, "big"), 4)
    first = asked.first
    assert not delivered(judged(router, (first, 1, Verdict.ACCEPT), (first + 3, 1, Verdict.ACCEPT)))
    assert datas(judged(router, (first + 1, 2, Verdict.IGNORE))) == [b"0", b"3"]
    assert forwarded(router, other) == [raw]
    assert router.statistics().ignored["verdict"] == 2
    assert router.judged().messages == router.judged().bytes == 0


def test_who_brought_a_bundle_too_shares_the_verdict_and_need_not_get_it() -> None:
    router, (peer, other, third) = guarded()
    send(router, peer, bundle(TWO))
    send(router, other, bundle(TWO))
    judged(router, (1, 2, Verdict.ACCEPT))
    assert (len(forwarded(router, other)), len(forwarded(router, third))) == (0, 1)
    send(router, peer, bundle(TWO, 200))
    send(router, other, bundle(TWO, 200))
    assert not delivered(judged(router, (3, 1, Verdict.ACCEPT), (4, 1, Verdict.REJECT)))
    assert not forwarded(router, third)
    assert router.score_of(peer) < 0
    assert router.score_of(other) < 0
    assert router.statistics().rejected["verdict"] == 4
    send(router, third, bundle(TWO, 200))  # now it is a copy, and nobody's fault
    assert router.score_of(third) >= 0


def test_verdicts_that_do_not_come_are_the_fallback_of_each_message() -> None:
    for fallback, got in ((Fallback.ACCEPT, TWO), (Fallback.IGNORE, [b"hi"])):
        router, (peer, _, _) = guarded(fallback)
        send(router, peer, bundle(TWO))
        assert not delivered(judged(router, (1, 1, Verdict.ACCEPT)))
        effects = list(router.handle_deadline(1.0))
        assert datas(effects) == got
        assert router.judged().messages == 0


def test_more_messages_than_may_wait_are_ignored_and_the_bundle_with_the_greater_part() -> None:
    router, (peer, other, _) = guarded()
    send(router, peer, bundle(numbered(300)))
    assert router.judged().messages == 100
    assert router.statistics().ignored["full"] == 200
    assert datas(judged(router, (1, 100, Verdict.ACCEPT))) == numbered(100)
    assert not forwarded(router, other)


def test_a_bundle_of_a_topic_that_was_left_while_it_was_judged_is_dropped() -> None:
    router, (peer, other, _) = guarded()
    send(router, peer, bundle(TWO))
    router.handle(TopicLeft("news"), 0.0)
    assert not delivered(judged(router, (1, 2, Verdict.ACCEPT)))
    assert router.statistics().dropped["not_joined"] == 2
    assert not forwarded(router, other)


def test_rules_come_before_apps() -> None:
    router, (peer, _, _) = guarded()
    router.handle(RulesSet([TopicRule("small", ("news",), max_payload=3)]), 0.0)
    (asked,) = [
        effect for effect in send(router, peer, bundle([b"long", b"1", b"2"])) if isinstance(effect, MessagesToJudge)
    ]
    assert [m.data for m in asked.messages] == [b"1", b"2"]
    assert datas(judged(router, (asked.first, 2, Verdict.ACCEPT))) == [b"1", b"2"]
    assert not [e for e in send(router, peer, bundle([b"long"], 300)) if isinstance(e, MessagesToJudge)]


def test_own_messages_are_judged_before_they_are_bundled() -> None:
    router = make_router(config=ALWAYS)
    (peer,) = joined(router, "news", 1)
    router.handle(ValidatorAdded(1, {"news": ValidationSettings()}), 0.0)
    publish(router, numbered(5))
    effects = judged(router, (1, 2, Verdict.ACCEPT), (3, 1, Verdict.REJECT), (4, 2, Verdict.ACCEPT))
    assert [(r.count, r.outcome) for r in completed(effects).receipts] == [
        (2, PublishOutcome.SENT),
        (1, PublishOutcome.REJECTED),
        (2, PublishOutcome.SENT),
    ]
    found = [parse_message(raw).data or b"" for raw in forwarded(router, peer)]
    assert found == [pack([b"0", b"1"]), pack([b"3", b"4"])]


# ---------------------------------------------------------------- work


def test_bundles_of_nothing_are_served_a_few_in_a_turn() -> None:
    router, (peer, _) = listening()
    raws = [bundle([b""] * MAX_BUNDLED, number * MAX_BUNDLED) for number in range(1, 13)]
    turns = [len(delivered(send(router, peer, *raws)))]
    now = 0.0
    while sum(turns) < 12 * MAX_BUNDLED:
        now += 0.02
        turns.append(len(delivered(router.handle_deadline(now))))
    most = -(-GossipConfig().verify_burst // weight(MAX_BUNDLED)) * MAX_BUNDLED
    assert max(turns) <= most
    assert router.pending().messages == router.pending().bytes == 0


def test_workers_get_as_many_bundles_as_one_answer_should_bring() -> None:
    router, (peer, _) = listening(config=GossipConfig(verify_workers=1, verify_few=1))
    raws = [bundle([b""] * 1000, number * 1000) for number in range(1, 13)]
    waiting = [effect for effect in send(router, peer, *raws) if isinstance(effect, CheckSignatures)]
    got = 1000  # checked at once
    while waiting:
        batch = waiting.pop(0)
        assert sum(weight(1000) for _ in batch.checks) < GossipConfig().verify_batch + weight(1000)
        effects = list(router.handle(SignaturesChecked(batch.number, verify_batch(batch.checks)), 0.0))
        found = len(delivered(effects))
        assert found <= len(batch.checks) * 1000
        got += found
        waiting += [effect for effect in effects if isinstance(effect, CheckSignatures)]
    assert got == 12_000


def test_what_bundles_say_to_have_counts_while_they_are_pending() -> None:
    router, (peer, _) = listening(config=GossipConfig(verify_workers=1, verify_few=0))
    send(router, peer, bundle([b""] * MAX_BUNDLED))
    assert router.pending().bytes > MAX_BUNDLED * 64


def test_mesh_peers_are_scored_by_messages_and_tried_by_what_travels() -> None:
    router, (peer, _) = listening(config=GossipConfig())
    lone, (alone, _) = listening(config=GossipConfig())
    send(router, peer, bundle(numbered(20)))
    send(lone, alone, *(signed(9, "news", data, 100 + number) for number, data in enumerate(numbered(20))))
    for each in (router, lone):
        each.handle_deadline(1.0)
    assert router.score_of(peer) == lone.score_of(alone) > 0
