"""What peers had stored: judged as new messages are, delivered as history, and given to nobody else."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from hashlib import sha256

import pytest
from gossip_network import UNSCORED, control, identity, joined, make_router, peer_id, plain, rpc, rpcs, signed

from sidecar.core.gossip import (
    CheckSignatures,
    Fallback,
    GossipConfig,
    GossipRouter,
    HistoryBrought,
    HistoryJudged,
    HistoryRepeated,
    HistorySeen,
    MessagesDelivered,
    MessagesToJudge,
    Published,
    RpcsReceived,
    RulesSet,
    SignaturesChecked,
    TopicJoined,
    TopicLeft,
    TopicOptions,
    ValidationSettings,
    ValidatorAdded,
    ValidatorRemoved,
    Verdict,
    VerdictsGiven,
    verify_batch,
)
from sidecar.core.gossip.bundles import inner_ids, pack
from sidecar.core.gossip.messages import BundleBytes
from sidecar.core.parameters import OnBreak, SenderRate, SeqnoDistance, TopicRule
from sidecar.core.types import PeerId
from sidecar.wire.gossip_pb2 import Message

KEPT = TopicOptions(keep=True)
PLAIN = TopicOptions(sign=False, keep=True)
AUTHOR = peer_id(9)
PEER = peer_id(1)


def identifier(seqno: int, author: int = 9) -> bytes:
    return bytes(peer_id(author)) + seqno.to_bytes(8, "big")


def ids(*seqnos: int) -> tuple[bytes, ...]:
    return tuple(identifier(seqno) for seqno in seqnos)


def forged(seqno: int, data: bytes = b"forged") -> bytes:
    raw = bytearray(signed(9, "news", data, seqno))
    raw[-1] ^= 1
    return bytes(raw)


def keeping(
    peers: int = 2, config: GossipConfig = UNSCORED, options: TopicOptions = KEPT
) -> tuple[GossipRouter, list[PeerId]]:
    router = make_router(config=config)
    found = joined(router, "news", peers, options)
    router.take_charges()
    return router, found


def bring(
    router: GossipRouter,
    *raws: bytes,
    number: int = 1,
    ages: Sequence[float] | None = None,
    keys: Sequence[bytes] = (),
    now: float = 1.0,
    topic: str = "news",
) -> list[object]:
    """The effects of the input, and of the turns that follow at once."""
    brought = HistoryBrought(number, PEER, topic, raws, ages or [60.0] * len(raws), keys)
    effects: list[object] = list(router.handle(brought, now))
    return effects + [effect for turn in turns(router, now) for effect in turn]


def turns(router: GossipRouter, now: float = 1.0) -> Iterator[list[object]]:
    """What each of the turns gives that the router wants at once, short of the first heartbeat."""
    router_now = router.next_deadline()
    while router_now <= now < 2.0:
        yield list(router.handle_deadline(now))
        router_now = router.next_deadline()


def of(effects: Sequence[object], kind: type) -> list:  # type: ignore[type-arg]
    return [effect for effect in effects if isinstance(effect, kind)]


def judged(effects: Sequence[object]) -> HistoryJudged:
    (found,) = of(effects, HistoryJudged)
    assert isinstance(found, HistoryJudged)
    return found


def datas(effects: Sequence[object]) -> list[bytes]:
    return [message.data for effect in of(effects, MessagesDelivered) for message in effect.messages]


def live(router: GossipRouter, peer: PeerId, *raws: bytes, now: float = 1.0) -> list[object]:
    return list(router.handle(RpcsReceived(peer, [rpc(publish=raws)]), now))


# ---------------------------------------------------------------- accepted


@pytest.mark.parametrize("sign", [True, False])
def test_what_a_peer_had_stored_is_delivered_as_history_and_goes_nowhere(sign: bool) -> None:
    router, peers = keeping(options=TopicOptions(sign, keep=True))
    raws = [signed(9, "news", data, seqno) if sign else plain("news", data) for seqno, data in ((1, b"a"), (2, b"b"))]
    effects = bring(router, *raws, ages=[60.0, 0.25])
    (delivered,) = of(effects, MessagesDelivered)
    assert ([m.data for m in delivered.messages], list(delivered.raws)) == ([b"a", b"b"], raws)
    assert (list(delivered.received), delivered.history, delivered.bundle) == ([60.0, 0.25], True, b"")
    assert {message.received_from for message in delivered.messages} == {PEER}
    names = tuple(message.id for message in delivered.messages)
    assert names == (ids(1, 2) if sign else tuple(sha256(data).digest() for data in (b"a", b"b")))
    assert judged(effects) == HistoryJudged(1, PEER, "news", accepted=names)
    assert len(effects) == 2
    # Neither sent on, nor named at heartbeats, nor given on IWANT.
    for beat in range(4):
        router.handle_deadline(2.0 + beat)
    for peer in peers:
        router.handle(RpcsReceived(peer, [control(iwant=[{"messageIDs": names}])]), 5.5)
        assert not [raw for found in rpcs(router, peer) for raw in found.publish]
    counts = router.statistics()
    assert (counts.forwarded, counts.sent, counts.received, counts.delivered) == (0, 0, 0, 2)
    assert (counts.history["accepted"], counts.iwant_messages_sent) == (2, 0)
    (view,) = router.topics()
    assert (view.counts.delivered, view.counts.delivered_bytes) == (2, 2)
    assert not router.propagation().samples


def test_nobody_is_scored_for_history_whether_it_is_good_or_not() -> None:
    router, peers = keeping(config=GossipConfig())
    router.handle_deadline(1.0)
    before = [router.score(peer) for peer in peers]
    bring(router, signed(9, "news", b"a", 1), forged(2), b"\xff")
    assert [router.score(peer) for peer in peers] == before
    assert router.take_charges() == {}
    assert sum(router.statistics().rejected.values()) == 0


def test_a_copy_that_gossip_brings_later_is_a_duplicate() -> None:
    router, (peer, other) = keeping()
    raw = signed(9, "news", b"a", 1)
    assert datas(bring(router, raw)) == [b"a"]
    assert datas(live(router, peer, raw)) == []
    assert router.statistics().duplicates == 1
    assert not rpcs(router, other)


def test_what_gossip_brought_meanwhile_is_for_the_store_alone() -> None:
    router, (peer, _) = keeping()
    raws = [signed(9, "news", data, seqno) for seqno, data in ((1, b"a"), (2, b"b"))]
    live(router, peer, raws[0])
    effects = bring(router, *raws, ages=[3.0, 4.0])
    assert datas(effects) == [b"b"]
    (repeated,) = of(effects, HistoryRepeated)
    assert ([m.data for m in repeated.messages], repeated.raws, repeated.received) == ([b"a"], [raws[0]], [3.0])
    answer = judged(effects)
    assert (answer.known, answer.accepted) == (ids(1), ids(2))


def test_the_same_message_twice_is_delivered_once() -> None:
    router, _ = keeping()
    raw = signed(9, "news", b"a", 1)
    effects = bring(router, raw, raw)
    assert datas(effects) == [b"a"]
    answer = judged(effects)
    assert (answer.accepted, answer.known) == (ids(1), ids(1))
    effects = bring(router, raw, number=2)
    assert (datas(effects), judged(effects).known) == ([], ids(1))


def test_a_forged_copy_of_what_was_delivered_is_not_stored() -> None:
    router, (peer, _) = keeping()
    live(router, peer, signed(9, "news", b"a", 1))
    effects = bring(router, forged(1))
    assert of(effects, HistoryRepeated) == []
    assert judged(effects).invalid == ((0, "signature"),)


def test_old_messages_pass_though_gossip_would_take_them_for_replays() -> None:
    router, (peer, _) = keeping(config=replace(UNSCORED, seen_ttl=10.0))
    now_seqno = 1_700_000_000_000_000_000
    live(router, peer, signed(9, "news", b"new", now_seqno))
    for beat in range(40):
        router.handle_deadline(2.0 + beat)
    assert datas(live(router, peer, signed(9, "news", b"replayed", now_seqno - 5), now=50.0)) == []
    brought = HistoryBrought(1, PEER, "news", [signed(9, "news", b"older", now_seqno - 7)], [500.0])
    assert datas(router.handle(brought, 50.0)) == [b"older"]
    # And its author is taken for one that counts upwards all the same.
    assert datas(live(router, peer, signed(9, "news", b"replayed", now_seqno - 5), now=50.0)) == []


def test_own_messages_of_an_earlier_life_come_back_as_local_ones() -> None:
    router, _ = keeping()
    me = identity(0).peer_id
    (delivered,) = of(bring(router, signed(0, "news", b"mine", 5)), MessagesDelivered)
    (message,) = delivered.messages
    assert (message.sender, message.local, message.received_from) == (me, True, me)


def test_the_time_that_a_verdict_takes_adds_to_the_age() -> None:
    router, _ = keeping()
    router.handle(ValidatorAdded(1, {"news": None}), 0.5)
    bring(router, signed(9, "news", b"a", 1), ages=[-3.0])  # an age from the future is none
    (delivered,) = of(router.handle(VerdictsGiven(1, [(1, 1, Verdict.ACCEPT)]), 3.5), MessagesDelivered)
    assert list(delivered.received) == [2.5]


# ---------------------------------------------------------------- invalid


@pytest.mark.parametrize(
    ("reason", "raw"),
    [
        ("malformed", b"\xff"),
        ("malformed", b""),
        ("topic", signed(9, "other", b"x")),
        ("missing_field", plain("news", b"x")),
        ("signature", forged(7)),
        ("signature", signed(9, "news", b"x") + b"\x42\x03new"),
        ("key", Message(**{"from": b"nobody"}, seqno=bytes(8), topic=b"news", signature=bytes(64)).SerializeToString()),
        ("key", signed(9, "news", b"x") + Message(key=identity(3).public_key.to_bytes()).SerializeToString()),
        ("bundle", signed(9, "news", pack([b"a", b"b"])[:-1])),
    ],
)
def test_what_no_honest_peer_sends_is_told_by_its_place(reason: str, raw: bytes) -> None:
    if raw == b"":  # protobuf's empty message has no topic
        reason = "topic"
    router, (peer, _) = keeping()
    good = [signed(9, "news", b"before", 100), signed(9, "news", b"behind", 101)]
    effects = bring(router, good[0], raw, good[1])
    assert datas(effects) == [b"before", b"behind"]
    answer = judged(effects)
    assert (answer.invalid, answer.accepted) == (((1, reason),), ids(100, 101))
    # A forged message suppresses nothing that comes by gossip.
    assert datas(live(router, peer, signed(9, "news", b"real", 7))) == [b"real"]


def test_signed_messages_have_no_place_on_an_unsigned_topic() -> None:
    router, _ = keeping(options=PLAIN)
    answer = judged(bring(router, signed(9, "news", b"x"), plain("other", b"x"), plain("news", b"ok")))
    assert answer.invalid == ((0, "foreign_field"), (1, "topic"))
    assert answer.accepted == (sha256(b"ok").digest(),)


@pytest.mark.parametrize("sign", [True, False])
def test_what_was_not_asked_for_is_not_delivered(sign: bool) -> None:
    router, _ = keeping(options=TopicOptions(sign, keep=True))
    raws = [signed(9, "news", data, seqno) if sign else plain("news", data) for seqno, data in ((1, b"a"), (2, b"b"))]
    names = ids(1, 2) if sign else tuple(sha256(data).digest() for data in (b"a", b"b"))
    keys = [sha256(names[0]).digest(), sha256(b"another").digest()]
    effects = bring(router, *raws, keys=keys)
    assert datas(effects) == [b"a"]
    assert judged(effects).invalid == ((1, "unasked"),)
    assert router.statistics().signatures["inline"] == (1 if sign else 0)


# ---------------------------------------------------------------- rules


def test_rules_of_size_and_senders_count_and_those_of_time_do_not() -> None:
    router, _ = keeping()
    rules = [
        TopicRule("timing", ("*",), rate=SenderRate(0.1, 1), seqno=SeqnoDistance(least=1), on_break=OnBreak.REJECT),
        TopicRule("size", ("*",), max_payload=4),
        TopicRule("senders", ("*",), deny=frozenset({peer_id(8)}), on_break=OnBreak.REJECT),
    ]
    router.handle(RulesSet(rules), 0.0)
    raws = [
        signed(9, "news", b"c", 3),
        signed(9, "news", b"b", 2),
        signed(9, "news", b"a", 1),
        signed(9, "news", b"large", 4),
        signed(8, "news", b"d", 1),
    ]
    effects = bring(router, *raws)
    assert datas(effects) == [b"c", b"b", b"a"]
    answer = judged(effects)
    assert answer.accepted == ids(3, 2, 1)
    assert (answer.ignored, answer.rejected) == (ids(4), (identifier(1, 8),))
    broken = {view.rule.name: sum(view.broken.values()) for view in router.rules()}
    assert broken == {"timing": 0, "size": 1, "senders": 1}


def test_history_takes_nothing_of_a_senders_rate_and_moves_no_sequence_number() -> None:
    router, (peer, _) = keeping()
    rule = TopicRule("timing", ("*",), rate=SenderRate(0.1, 1), seqno=SeqnoDistance(least=1, most=10))
    router.handle(RulesSet([rule]), 0.0)
    bring(router, *(signed(9, "news", b"%d" % seqno, seqno) for seqno in range(100, 130)))
    assert datas(live(router, peer, signed(9, "news", b"live", 1))) == [b"live"]
    assert datas(live(router, peer, signed(9, "news", b"too fast", 2))) == []


def test_what_came_too_fast_comes_as_history() -> None:
    router, (peer, _) = keeping()
    router.handle(RulesSet([TopicRule("rate", ("*",), rate=SenderRate(0.1, 1))]), 0.0)
    raws = [signed(9, "news", b"%d" % seqno, seqno) for seqno in range(3)]
    assert datas(live(router, peer, *raws)) == [b"0"]
    effects = bring(router, *raws)
    assert datas(effects) == [b"1", b"2"]
    assert judged(effects).known == ids(0)


def test_probes_are_no_history() -> None:
    router, _ = keeping()
    router.exempt_payloads(b"\0probe")
    effects = bring(router, signed(9, "news", b"\0probe 1", 1), signed(9, "news", b"x", 2))
    assert datas(effects) == [b"x"]
    assert judged(effects).ignored == ids(1)


# ---------------------------------------------------------------- verdicts of apps


def guarded(fallback: Fallback = Fallback.IGNORE, **more: float) -> tuple[GossipRouter, list[PeerId]]:
    router, peers = keeping()
    settings = ValidationSettings(**{"fallback": fallback, "timeout": 10.0, **more})  # type: ignore[arg-type]
    router.handle(ValidatorAdded(1, {"news": settings}), 0.0)
    return router, peers


def test_apps_judge_history_and_what_they_say_is_told_later() -> None:
    router, _ = guarded()
    raws = [signed(9, "news", b"%d" % seqno, seqno) for seqno in range(1, 5)]
    effects = bring(router, *raws)
    (asked,) = of(effects, MessagesToJudge)
    assert ([m.data for m in asked.messages], asked.first) == ([b"1", b"2", b"3", b"4"], 1)
    assert datas(effects) == []
    assert judged(effects) == HistoryJudged(1, PEER, "news", waiting=ids(1, 2, 3, 4))
    verdicts = [(1, 1, Verdict.ACCEPT), (2, 1, Verdict.REJECT), (3, 1, Verdict.IGNORE)]
    effects = list(router.handle(VerdictsGiven(1, verdicts), 1.5))
    (delivered,) = of(effects, MessagesDelivered)
    assert ([m.data for m in delivered.messages], delivered.history) == ([b"1"], True)
    assert judged(effects) == HistoryJudged(
        1, PEER, "news", accepted=ids(1), waiting=ids(4), rejected=ids(2), ignored=ids(3), waited=True
    )
    effects = list(router.handle(VerdictsGiven(1, [(4, 1, Verdict.ACCEPT)]), 1.6))
    assert (datas(effects), judged(effects).accepted) == ([b"4"], ids(4))
    assert router.judged().messages == 0


def test_gossip_brings_what_waits_for_its_verdict_as_history() -> None:
    router, (peer, other) = guarded()
    raw = signed(9, "news", b"a", 1)
    bring(router, raw)
    assert live(router, peer, raw) == []
    assert router.statistics().duplicates == 1
    effects = list(router.handle(VerdictsGiven(1, [(1, 1, Verdict.ACCEPT)]), 1.5))
    (delivered,) = of(effects, MessagesDelivered)
    assert delivered.history
    assert not rpcs(router, other)


def test_history_brings_what_waits_for_its_verdict_from_gossip() -> None:
    router, (peer, other) = guarded()
    raw = signed(9, "news", b"a", 1)
    live(router, peer, raw)
    effects = bring(router, raw)
    assert effects == [HistoryJudged(1, PEER, "news", known=ids(1))]
    effects = list(router.handle(VerdictsGiven(1, [(1, 1, Verdict.ACCEPT)]), 1.5))
    (delivered,) = of(effects, MessagesDelivered)
    assert (delivered.history, delivered.raws) == (False, [raw])
    assert of(effects, HistoryJudged) == []
    assert [each for found in rpcs(router, other) for each in found.publish] == [raw]


def test_two_sessions_bring_what_waits() -> None:
    router, _ = guarded()
    raw = signed(9, "news", b"a", 1)
    assert judged(bring(router, raw)).waiting == ids(1)
    assert judged(bring(router, raw, number=2)).known == ids(1)
    effects = list(router.handle(VerdictsGiven(1, [(1, 1, Verdict.ACCEPT)]), 1.5))
    assert (datas(effects), judged(effects).number) == ([b"a"], 1)


def test_what_an_app_refused_is_not_stored_when_history_brings_it() -> None:
    router, (peer, _) = guarded()
    raw = signed(9, "news", b"a", 1)
    live(router, peer, raw)
    router.handle(VerdictsGiven(1, [(1, 1, Verdict.IGNORE)]), 1.0)
    effects = bring(router, raw)  # the app is asked once more: it was not accepted
    assert of(effects, HistoryRepeated) == []
    assert len(of(effects, MessagesToJudge)) == 1
    assert judged(effects).waiting == ids(1)


def test_without_an_app_messages_may_be_brought_again() -> None:
    config = replace(UNSCORED, validated_topics={"news": ValidationSettings(fallback=Fallback.IGNORE)})
    router, _ = keeping(config=config)
    raw = signed(9, "news", b"a", 1)
    effects = bring(router, raw)
    assert effects == [HistoryJudged(1, PEER, "news", unjudged=ids(1))]
    router.handle(ValidatorAdded(1, {"news": None}), 1.1)
    assert judged(bring(router, raw, number=2, now=1.2)).waiting == ids(1)
    effects = list(router.handle(ValidatorRemoved(1), 1.3))  # it is lost before it has judged
    assert effects == [HistoryJudged(2, PEER, "news", unjudged=ids(1), waited=True)]


def test_a_late_verdict_is_none_and_the_message_may_be_brought_again() -> None:
    router, _ = guarded(timeout=0.5)
    bring(router, signed(9, "news", b"a", 1))
    effects = list(router.handle_deadline(1.6))
    assert judged(effects) == HistoryJudged(1, PEER, "news", unjudged=ids(1), waited=True)


def test_too_many_for_the_app_may_be_brought_again() -> None:
    router, _ = guarded(max_waiting=2)
    effects = bring(router, *(signed(9, "news", b"x", seqno) for seqno in range(4)))
    answer = judged(effects)
    assert (answer.waiting, answer.unjudged) == (ids(0, 1), ids(2, 3))


def test_a_fallback_that_accepts_does_so_for_history() -> None:
    config = replace(UNSCORED, validated_topics={"news": ValidationSettings(fallback=Fallback.ACCEPT)})
    router, _ = keeping(config=config)
    assert datas(bring(router, signed(9, "news", b"a", 1))) == [b"a"]


def test_a_topic_left_while_its_history_waits_gets_none_of_it() -> None:
    router, _ = guarded()
    bring(router, signed(9, "news", b"a", 1))
    router.handle(TopicLeft("news"), 1.1)
    effects = list(router.handle(VerdictsGiven(1, [(1, 1, Verdict.ACCEPT)]), 1.2))
    assert (datas(effects), judged(effects).dropped) == ([], 1)


# ---------------------------------------------------------------- bundles


def test_a_bundle_is_judged_message_by_message_and_delivered_in_part() -> None:
    router, _ = keeping()
    router.handle(RulesSet([TopicRule("size", ("*",), max_payload=3)]), 0.0)
    bundle = signed(9, "news", pack([b"a", b"large", b"large", b"large", b"b"]), 10)
    effects = bring(router, signed(9, "news", b"one", 1), bundle, signed(9, "news", b"two", 20), ages=[1.0, 2.0, 3.0])
    first, second, third = of(effects, MessagesDelivered)
    assert ([m.data for m in first.messages], [m.data for m in third.messages]) == ([b"one"], [b"two"])
    assert [m.data for m in second.messages] == [b"a", b"b"]
    names = inner_ids(identifier(10), 5)
    assert [(m.id, m.seqno) for m in second.messages] == [(names[0], 10), (names[4], 14)]
    assert (second.bundle, list(second.raws), list(second.received)) == (identifier(10), [bundle], [2.0])
    assert isinstance(second.raws[0], BundleBytes)
    assert judged(effects).accepted == ids(1, 10, 20)


def test_a_bundle_with_nothing_accepted_is_ignored_and_one_with_a_rejected_message_rejected() -> None:
    router, _ = keeping()
    rules = [
        TopicRule("small", ("*",), max_payload=3),
        TopicRule("deny", ("*",), deny=frozenset({peer_id(8)}), on_break=OnBreak.REJECT),
    ]
    router.handle(RulesSet(rules), 0.0)
    raws = [signed(9, "news", pack([b"large"] * 2), 10), signed(8, "news", pack([b"a", b"b"]), 10)]
    effects = bring(router, *raws)
    assert datas(effects) == []
    answer = judged(effects)
    assert (answer.ignored, answer.rejected) == (ids(10), (identifier(10, 8),))


def test_apps_judge_the_messages_of_a_bundle_one_by_one() -> None:
    router, _ = guarded()
    raws = [signed(9, "news", pack([b"a", b"b"]), 10), signed(9, "news", b"c", 1), signed(9, "news", pack([b"d"]), 20)]
    effects = bring(router, *raws)
    (asked,) = of(effects, MessagesToJudge)
    assert [m.data for m in asked.messages] == [b"a", b"b", b"c", b"d"]
    effects = list(router.handle(VerdictsGiven(1, [(1, 1, Verdict.IGNORE), (3, 1, Verdict.ACCEPT)]), 1.1))
    assert (datas(effects), judged(effects).accepted) == ([b"c"], ids(1))
    effects = list(router.handle(VerdictsGiven(1, [(2, 1, Verdict.ACCEPT), (4, 1, Verdict.REJECT)]), 1.2))
    (delivered,) = of(effects, MessagesDelivered)
    assert ([m.id for m in delivered.messages], delivered.bundle) == ([inner_ids(identifier(10), 2)[1]], identifier(10))
    answer = judged(effects)
    assert (answer.accepted, answer.rejected) == (ids(10), ids(20))


def test_a_bundle_that_gossip_brought_meanwhile_is_for_the_store_alone() -> None:
    router, (peer, _) = keeping()
    router.handle(RulesSet([TopicRule("size", ("*",), max_payload=3)]), 0.0)
    bundle = signed(9, "news", pack([b"a", b"large", b"b"]), 10)
    live(router, peer, bundle)
    effects = bring(router, bundle, ages=[5.0])
    (repeated,) = of(effects, HistoryRepeated)
    assert ([m.data for m in repeated.messages], repeated.bundle) == ([b"a", b"b"], identifier(10))
    assert (repeated.raws, repeated.received) == ([bundle], [5.0])
    assert judged(effects).known == ids(10)


# ---------------------------------------------------------------- many


def test_thousands_are_judged_in_steps_with_new_messages_between_them() -> None:
    router, (peer, _) = keeping()
    raws = [signed(9, "news", b"%d" % seqno, seqno) for seqno in range(2000)]
    effects: list[object] = list(router.handle(HistoryBrought(1, PEER, "news", raws, [1.0] * 2000), 1.0))
    steps = [len(datas(effects))]
    between = live(router, peer, signed(8, "news", b"live", 1))
    assert datas(between) == [b"live"]
    for turn in turns(router):
        steps.append(len(datas(turn)))
        effects += turn
    assert sum(steps) == 2000
    assert max(steps) <= 64
    assert judged(effects).accepted == ids(*range(2000))
    assert datas(effects) == [b"%d" % seqno for seqno in range(2000)]


def test_batches_of_several_peers_are_served_in_turn() -> None:
    router, _ = keeping()
    for number in range(3):
        raws = [signed(9, "news", b"x", 1000 * number + seqno) for seqno in range(100)]
        router.handle(HistoryBrought(number, peer_id(number), "news", raws, [1.0] * 100), 1.0)
    short = HistoryBrought(7, PEER, "news", [signed(9, "news", b"short", 9999)], [1.0])
    router.handle(short, 1.0)
    order = [effect.number for turn in turns(router) for effect in of(turn, HistoryJudged)]
    assert order.index(7) < 3
    assert sorted(order) == [0, 1, 2, 7]


WORKERS = replace(UNSCORED, verify_workers=2, verify_few=0, verify_batch=8)


def answer_to(router: GossipRouter, batch: CheckSignatures) -> list[object]:
    return list(router.handle(SignaturesChecked(batch.number, verify_batch(batch.checks)), 1.0))


def test_other_processes_check_signatures_of_history_beside_those_of_gossip() -> None:
    router, (peer, _) = keeping(config=WORKERS)
    raws = [signed(9, "news", b"%d" % seqno, seqno) for seqno in range(20)]
    raws[11] = forged(11)
    effects = bring(router, *raws)
    effects += live(router, peer, signed(8, "news", b"live", 1))
    open_ = of(effects, CheckSignatures)
    assert len({batch.number for batch in open_}) == len(open_) == 2
    rng = random.Random(5)
    while open_:
        found = answer_to(router, open_.pop(rng.randrange(len(open_))))
        found += [effect for turn in turns(router) for effect in turn]
        open_ += of(found, CheckSignatures)
        effects += found
    assert sorted(datas(effects)) == sorted([b"live", *(b"%d" % n for n in range(20) if n != 11)])
    answer = judged(effects)
    assert answer.invalid == ((11, "signature"),)
    assert router.statistics().signatures == {"inline": 0, "workers": 21}


def test_few_signatures_are_checked_here_though_there_are_other_processes() -> None:
    router, _ = keeping(config=replace(WORKERS, verify_few=4))
    effects = bring(router, *(signed(9, "news", b"x", seqno) for seqno in range(4)))
    assert of(effects, CheckSignatures) == []
    assert judged(effects).accepted == ids(0, 1, 2, 3)


def test_a_topic_left_while_signatures_are_checked_elsewhere() -> None:
    router, _ = keeping(config=WORKERS)
    effects = bring(router, *(signed(9, "news", b"x", seqno) for seqno in range(20)))
    (batch,) = of(effects, CheckSignatures)
    router.handle(TopicLeft("news"), 1.0)
    found = answer_to(router, batch)
    found += [effect for turn in turns(router) for effect in turn]
    assert datas(found) == []
    assert judged(found).dropped == 20


def test_the_backlog_is_bounded() -> None:
    router, _ = keeping(config=replace(UNSCORED, max_pending_bytes=100_000))
    large = [signed(9, "news", bytes(1000), seqno) for seqno in range(200)]
    brought = HistoryBrought(1, PEER, "news", large, [1.0] * 200)
    assert of(router.handle(brought, 1.0), HistoryJudged) == []  # alone it may be as large as it is
    (refused,) = of(router.handle(brought._replace(number=2), 1.0), HistoryJudged)
    assert refused == HistoryJudged(2, PEER, "news", dropped=200)
    found = [effect for turn in turns(router) for effect in of(turn, HistoryJudged)]
    assert [(effect.number, len(effect.accepted)) for effect in found] == [(1, 200)]
    effects = bring(router, *large, number=3)
    assert judged(effects).known == ids(*range(200))
    counts = router.statistics().history
    assert (counts["dropped"], counts["accepted"], counts["known"]) == (200, 200, 200)


@pytest.mark.parametrize("options", [None, TopicOptions()])
def test_a_topic_that_is_not_kept_takes_no_history(options: TopicOptions | None) -> None:
    router = make_router()
    if options is not None:
        router.handle(TopicJoined("news", options), 0.0)
    effects = bring(router, signed(9, "news", b"x", 1), signed(9, "news", b"y", 2))
    assert effects == [HistoryJudged(1, PEER, "news", dropped=2)]


def test_nothing_at_all_is_answered_too() -> None:
    router, _ = keeping()
    assert bring(router) == [HistoryJudged(1, PEER, "news")]


def test_what_was_stored_before_the_start_is_known() -> None:
    router, _ = keeping()
    router.handle(HistorySeen("news", ids(1)), 0.5)
    effects = bring(router, signed(9, "news", b"old", 1))
    assert datas(effects) == []
    assert judged(effects).known == ids(1)


def test_own_publications_are_known() -> None:
    router, _ = keeping()
    (delivered,) = of(router.handle(Published(1, "news", [b"mine"]), 0.5), MessagesDelivered)
    effects = bring(router, *delivered.raws)
    assert judged(effects).known == (delivered.messages[0].id,)
    assert datas(effects) == []
