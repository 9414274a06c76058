"""Verdicts of apps: what waits for them, what becomes of it, and what happens while nobody gives any."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from gossip_network import joined, make_router, peer_id, plain, rpc, rpcs, signed

from sidecar.core.errors import InvalidArgument, ResourceExhausted
from sidecar.core.gossip import (
    Fallback,
    GossipConfig,
    GossipMessage,
    GossipRouter,
    MessagesDelivered,
    MessagesToJudge,
    PublishCancelled,
    PublishCompleted,
    Published,
    PublishOutcome,
    RpcsReceived,
    RulesSet,
    TopicLeft,
    TopicOptions,
    ValidationSettings,
    ValidatorAdded,
    ValidatorRemoved,
    Verdict,
    VerdictsGiven,
)
from sidecar.core.parameters import OnBreak, TopicRule
from sidecar.core.types import PeerId

ACCEPT, REJECT, IGNORE = Verdict.ACCEPT, Verdict.REJECT, Verdict.IGNORE
SETTINGS = ValidationSettings(timeout=2.0, fallback=Fallback.IGNORE, max_waiting=100)
WITH = {fallback: SETTINGS._replace(fallback=fallback) for fallback in Fallback}


def guarded(
    peers: int = 2, settings: ValidationSettings = SETTINGS, options: TopicOptions | None = None, **config: object
) -> tuple[GossipRouter, list[PeerId]]:
    router = make_router(config=GossipConfig(**config))  # type: ignore[arg-type]
    ids = joined(router, "news", peers, options or TopicOptions())
    router.handle(ValidatorAdded(1, {"news": settings}), 0.0)
    router.take_charges()
    return router, ids


def send(router: GossipRouter, peer: PeerId, *raws: bytes, now: float = 0.0) -> list[object]:
    return list(router.handle(RpcsReceived(peer, [rpc(publish=raws)]), now))


def give(router: GossipRouter, *verdicts: tuple[int, int, Verdict], validator: int = 1) -> list[object]:
    return list(router.handle(VerdictsGiven(validator, verdicts), 0.0))


def datas(effects: Sequence[object]) -> list[bytes]:
    return [m.data for effect in effects if isinstance(effect, MessagesDelivered) for m in effect.messages]


def asked(effects: Sequence[object]) -> list[MessagesToJudge]:
    return [effect for effect in effects if isinstance(effect, MessagesToJudge)]


def forwarded(router: GossipRouter, peer: PeerId) -> list[bytes]:
    return [raw for found in rpcs(router, peer) for raw in found.publish]


def message(number: int) -> bytes:
    return signed(9, "news", b"%d" % number, number)


def test_messages_wait_for_the_verdict_and_then_go_their_ways() -> None:
    router, (peer, other) = guarded()
    raws = [message(number) for number in range(4)]
    (question,) = asked(send(router, peer, *raws))
    assert question[:3] == (1, "news", 1)
    author = peer_id(9)
    assert question.messages[0] == GossipMessage(author + bytes(8), "news", author, 0, b"0", peer, False)
    assert not forwarded(router, other)
    assert router.judged().messages == 4
    effects = give(router, (1, 1, ACCEPT), (2, 1, REJECT), (3, 1, IGNORE))
    assert datas(effects) == [b"0"]
    assert forwarded(router, other) == [raws[0]]
    statistics = router.statistics()
    assert (statistics.rejected["verdict"], statistics.ignored["verdict"]) == (1, 1)
    assert peer in router.take_charges()
    assert datas(give(router, (1, 4, ACCEPT))) == [b"3"]  # those that are decided stay so
    assert router.judged() == (0, 0)
    assert send(router, other, *raws) == []  # all of them are seen
    (view,) = router.topics()
    assert (view.validators, view.judged) == (1, 0)


def test_verdicts_come_in_any_order() -> None:
    router, (peer, _) = guarded()
    send(router, peer, *(message(number) for number in range(6)))
    assert datas(give(router, (5, 2, ACCEPT))) == [b"4", b"5"]
    assert datas(give(router, (1, 3, ACCEPT))) == [b"0", b"1", b"2"]
    assert give(router, (99, 5, ACCEPT), (0, 1, REJECT)) == []  # numbers that nobody has
    assert give(router, (4, 1, ACCEPT), validator=7) == []  # nor does anybody else have this one
    assert datas(give(router, (4, 1, ACCEPT))) == [b"3"]


def test_all_of_several_apps_must_accept() -> None:
    router, (peer, _) = guarded()
    router.handle(ValidatorAdded(2, {"news": None}), 0.0)
    assert [question.validator for question in asked(send(router, peer, message(1), message(2), message(3)))] == [1, 2]
    assert give(router, (1, 3, ACCEPT)) == []
    assert datas(give(router, (1, 1, ACCEPT), (2, 1, REJECT), validator=2)) == [b"1"]
    assert router.statistics().rejected["verdict"] == 1
    assert datas(list(router.handle(ValidatorRemoved(2), 0.0))) == [b"3"]  # the other one has accepted it


def test_who_brought_a_copy_of_a_rejected_message_shares_the_blame_and_gets_no_copy_of_an_accepted_one() -> None:
    router, (peer, other, third) = guarded(3)
    send(router, peer, message(1), message(2))
    send(router, other, message(1), message(2))
    give(router, (1, 1, REJECT))
    assert router.take_charges().keys() == {peer, other}
    assert router.statistics().rejected["verdict"] == 2
    give(router, (2, 1, ACCEPT))
    assert forwarded(router, other) == []
    assert forwarded(router, third) == [message(2)]


def test_a_verdict_in_time_leaves_the_next_message_its_own_deadline() -> None:
    router, (peer, _) = guarded()
    send(router, peer, message(1))
    router.handle_deadline(1.0)
    send(router, peer, message(2), now=1.5)
    give(router, (1, 1, ACCEPT))
    router.handle_deadline(2.0)  # when the first would have been due
    assert router.judged().messages == 1
    assert router.statistics().ignored["deadline"] == 0
    router.handle_deadline(3.4)
    assert 3.4 < router.next_deadline() <= 3.5
    router.handle_deadline(3.5)
    assert router.judged().messages == 0
    assert router.statistics().ignored["deadline"] == 1


@pytest.mark.parametrize(
    ("fallback", "passes"), [(Fallback.ACCEPT, True), (Fallback.IGNORE, False), (Fallback.HOLD, None)]
)
def test_what_nobody_judges_in_time_is_treated_as_asked(fallback: Fallback, passes: bool | None) -> None:
    router, (peer, _) = guarded(settings=WITH[fallback])
    send(router, peer, message(1))
    assert datas(list(router.handle_deadline(1.9))) == []
    if fallback is not Fallback.HOLD:
        assert router.next_deadline() <= 2.0 or router.handle_deadline(1.95) is not None
    effects = list(router.handle_deadline(2.0))
    assert datas(effects) == ([b"1"] if passes else [])
    assert router.judged().messages == (1 if passes is None else 0)
    assert router.statistics().ignored["deadline"] == (1 if passes is False else 0)
    assert datas(give(router, (1, 1, ACCEPT))) == ([b"1"] if passes is None else [])  # else it is too late


@pytest.mark.parametrize("fallback", Fallback)
def test_so_many_wait_and_no_more(fallback: Fallback) -> None:
    router, (peer, _) = guarded(settings=WITH[fallback]._replace(max_waiting=3))
    effects = send(router, peer, *(message(number) for number in range(5)))
    assert [len(question.messages) for question in asked(effects)] == [3]
    assert datas(effects) == ([b"3", b"4"] if fallback is Fallback.ACCEPT else [])
    assert router.statistics().ignored["full"] == (0 if fallback is Fallback.ACCEPT else 2)
    assert router.judged().messages == 3


def test_the_bytes_that_wait_are_bounded() -> None:
    router, (peer, _) = guarded(max_judged_bytes=2000)
    send(router, peer, *(message(number) for number in range(10)))
    assert router.judged().messages == 3
    assert router.judged().bytes <= 2000


def test_an_app_that_is_lost_leaves_the_topic_guarded_and_the_next_one_gets_what_is_held() -> None:
    router, (peer, _) = guarded(settings=WITH[Fallback.HOLD])
    send(router, peer, message(1), message(2), message(3))
    assert datas(give(router, (2, 1, ACCEPT))) == [b"2"]
    assert router.handle(ValidatorRemoved(1), 0.0) == []
    assert asked(send(router, peer, message(4))) == []
    (question,) = asked(router.handle(ValidatorAdded(5, {"news": None}), 0.0))
    assert [each.data for each in question.messages] == [b"1", b"3", b"4"]
    assert give(router, (1, 4, ACCEPT)) == []  # another app's numbers
    assert datas(give(router, (question.first, 3, ACCEPT), validator=5)) == [b"1", b"3", b"4"]


def test_an_app_that_is_lost_lets_nothing_through_where_that_was_asked() -> None:
    router, (peer, _) = guarded()
    send(router, peer, message(1))
    assert datas(list(router.handle(ValidatorRemoved(1), 0.0))) == []
    assert datas(send(router, peer, message(2))) == []
    assert router.statistics().ignored["unattended"] == 2


@pytest.mark.parametrize("fallback", Fallback)
def test_an_app_that_ends_in_order_leaves_the_topic_as_it_was(fallback: Fallback) -> None:
    router, (peer, _) = guarded(settings=WITH[fallback])
    send(router, peer, message(1))
    effects = list(router.handle(ValidatorRemoved(1, lost=False), 0.0))
    assert datas(effects) == ([] if fallback is Fallback.IGNORE else [b"1"])
    assert datas(send(router, peer, message(2))) == [b"2"]
    assert router.judged() == (0, 0)


def test_a_configured_topic_is_guarded_before_any_app_comes_and_after_the_last() -> None:
    router = make_router(config=GossipConfig(validated_topics={"news": SETTINGS}))
    (peer,) = joined(router, "news", 1)
    assert send(router, peer, message(1)) == []
    router.handle(ValidatorAdded(1, {"news": WITH[Fallback.ACCEPT]}), 0.0)
    send(router, peer, message(2))
    assert datas(list(router.handle(ValidatorRemoved(1, lost=False), 0.0))) == [b"2"]  # as this app has asked
    assert send(router, peer, message(3)) == []
    assert router.statistics().ignored["unattended"] == 2


def test_unsigned_messages_are_judged_too() -> None:
    router, (peer, other) = guarded(options=TopicOptions(sign=False))
    raws = [plain("news", b"a"), plain("news", b"b")]
    questions = asked(send(router, peer, *raws))
    assert [(each.sender, each.seqno) for asks in questions for each in asks.messages] == [(None, None)] * 2
    assert datas(give(router, (1, 2, ACCEPT))) == [b"a", b"b"]
    assert forwarded(router, other) == raws


def test_messages_of_a_topic_that_was_left_meanwhile_are_dropped() -> None:
    router, (peer, _) = guarded()
    send(router, peer, message(1))
    router.handle(TopicLeft("news"), 0.0)
    assert datas(give(router, (1, 1, ACCEPT))) == []
    assert router.statistics().dropped["not_joined"] == 1


def test_names_and_numbers_of_topics_are_bounded() -> None:
    router = make_router(config=GossipConfig(max_guarded=2))
    with pytest.raises(InvalidArgument):
        router.handle(ValidatorAdded(1, {"": None}), 0.0)
    router.handle(ValidatorAdded(1, {"a": None, "b": None}), 0.0)
    with pytest.raises(ResourceExhausted, match="at most 2"):
        router.handle(ValidatorAdded(2, {"c": None}), 0.0)
    router.handle(ValidatorAdded(2, {"b": None}), 0.0)


# ---------------------------------------------------------------- own publications


def completed(effects: Sequence[object]) -> list[PublishCompleted]:
    return [effect for effect in effects if isinstance(effect, PublishCompleted)]


def outcomes(effects: Sequence[object]) -> list[tuple[int, list[str]]]:
    return [
        (each.op, [receipt.outcome.value for receipt in each.receipts for _ in range(receipt.count)])
        for each in completed(effects)
    ]


@pytest.mark.parametrize("wait", [False, True])
def test_what_apps_publish_is_judged_before_it_is_sent_and_the_receipt_says_so(wait: bool) -> None:
    router, (peer, _) = guarded()
    effects = list(router.handle(Published(10, "news", [b"a", b"b", b"c", b"d"], wait=wait), 0.0))
    assert completed(effects) == []
    (question,) = asked(effects)
    me = router._state.identity.peer_id
    assert question.messages[1] == GossipMessage(b"", "news", me, None, b"b", me, True)
    assert not forwarded(router, peer)
    assert give(router, (1, 1, ACCEPT), (2, 1, REJECT), (3, 1, IGNORE)) == []
    effects = give(router, (4, 1, ACCEPT))
    assert outcomes(effects) == [(10, ["sent", "rejected", "rejected", "sent"])]
    assert [bool(identifier) for identifier in completed(effects)[0].ids] == [True, False, False, True]
    assert datas(effects) == [b"a", b"d"]
    assert len(forwarded(router, peer)) == 2
    assert router.take_charges() == {}


def test_publications_of_a_topic_keep_their_order_whatever_order_their_verdicts_come_in() -> None:
    router, _ = guarded()
    for op, data in enumerate([b"a", b"b", b"c"], start=1):
        router.handle(Published(op, "news", [data]), 0.0)
    assert give(router, (2, 1, ACCEPT)) == []
    effects = give(router, (1, 1, ACCEPT))
    assert datas(effects) == [b"a", b"b"]
    assert datas(give(router, (3, 1, ACCEPT))) == [b"c"]


def test_a_publication_that_nobody_judges_in_time_is_rejected_or_sent() -> None:
    for fallback, outcome in ((Fallback.IGNORE, "rejected"), (Fallback.ACCEPT, "sent")):
        router, _ = guarded(settings=WITH[fallback])
        router.handle(Published(1, "news", [b"a"]), 0.0)
        assert outcomes(list(router.handle_deadline(2.0))) == [(1, [outcome])]


def test_a_publication_that_is_cancelled_is_judged_no_more() -> None:
    router, _ = guarded()
    router.handle(Published(1, "news", [b"a", b"b"]), 0.0)
    effects = list(router.handle(PublishCancelled(1), 0.0))
    assert [receipt.outcome for receipt in completed(effects)[0].receipts] == [PublishOutcome.CANCELLED]
    assert router.judged() == (0, 0)
    assert give(router, (1, 2, ACCEPT)) == []


def test_publications_that_wait_for_verdicts_are_bounded() -> None:
    router, _ = guarded(parked_max_jobs=2)
    effects: list[object] = []
    for op in range(1, 5):
        effects += router.handle(Published(op, "news", [b"%d" % op]), 0.0)
    assert outcomes(effects) == [(3, ["queue full"]), (4, ["queue full"])]
    assert router.judged().messages == 2


def test_payloads_of_probes_are_no_apps() -> None:
    router, (peer, _) = guarded()
    router.exempt_payloads(b"probe:")
    effects = send(router, peer, signed(9, "news", b"probe: 1", 1), message(2))
    assert datas(effects) == [b"probe: 1"]
    assert [each.data for question in asked(effects) for each in question.messages] == [b"2"]
    assert datas(list(router.handle(Published(1, "news", [b"probe: 2"]), 0.0))) == [b"probe: 2"]


def test_rules_come_first_for_publications_too() -> None:
    router, _ = guarded()
    router.handle(RulesSet([TopicRule("short", ("news",), max_payload=4, on_break=OnBreak.REJECT)]), 0.0)
    effects = list(router.handle(Published(1, "news", [b"good", b"too long"]), 0.0))
    assert [each.data for question in asked(effects) for each in question.messages] == [b"good"]
    assert outcomes(give(router, (1, 1, ACCEPT))) == [(1, ["sent", "rejected"])]
    router.handle(ValidatorRemoved(1, lost=False), 0.0)
    assert outcomes(list(router.handle(Published(2, "news", [b"too long", b"good"]), 0.0))) == [
        (2, ["rejected", "sent"])
    ]


def test_views_are_copies_of_what_is_configured() -> None:
    config = GossipConfig(validated_topics={"news": SETTINGS})
    router = make_router(config=replace(config, max_guarded=5))
    router.handle(ValidatorAdded(1, {"news": WITH[Fallback.HOLD]}), 0.0)
    assert config.validated_topics == {"news": SETTINGS}
