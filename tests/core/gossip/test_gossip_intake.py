"""Messages from their coming to the verdict on their signature: what is pending, in what order, and what is bounded."""

import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest
from gossip_network import UNSCORED, joined, make_router, rpc, rpcs, signed, subscribe

from sidecar.core.gossip import (
    CheckSignatures,
    GossipMessage,
    GossipRouter,
    MessagesDelivered,
    PeerAdded,
    PeerBacklogged,
    PeerRemoved,
    RpcsReceived,
    RulesSet,
    SignaturesChecked,
    TopicLeft,
    verify_batch,
)
from sidecar.core.parameters import Limit, OnBreak, SeqnoDistance, TopicRule
from sidecar.core.types import PeerId

WORKERS = replace(UNSCORED, verify_workers=1, verify_few=0, verify_batch=8)


def forged(author: int, seqno: int, data: bytes = b"forged") -> bytes:
    raw = bytearray(signed(author, "news", data, seqno))
    raw[-1] ^= 1
    return bytes(raw)


def delivered(effects: Sequence[object]) -> list[GossipMessage]:
    return [message for effect in effects if isinstance(effect, MessagesDelivered) for message in effect.messages]


def asked(effects: Sequence[object]) -> list[CheckSignatures]:
    return [effect for effect in effects if isinstance(effect, CheckSignatures)]


def answer(router: GossipRouter, batch: CheckSignatures) -> list[object]:
    return list(router.handle(SignaturesChecked(batch.number, verify_batch(batch.checks)), 0.0))


def send(router: GossipRouter, peer: PeerId, *raws: bytes) -> list[object]:
    return list(router.handle(RpcsReceived(peer, [rpc(publish=raws)]), 0.0))


def turns(router: GossipRouter) -> Iterator[list[object]]:
    """What each of the turns gives that the router wants at once."""
    while router.next_deadline() == 0.0:
        yield list(router.handle_deadline(0.0))


def seqnos(effects: Sequence[object]) -> list[int | None]:
    return [message.seqno for message in delivered(effects)]


# ---------------------------------------------------------------- copies


def test_a_forged_copy_with_a_guessed_id_does_not_suppress_the_real_message() -> None:
    router = make_router(config=WORKERS)
    attacker, honest, third = joined(router, "news", 3)
    router.take_charges()
    (first,) = asked(send(router, attacker, forged(9, 7)))
    (second,) = asked(send(router, honest, signed(9, "news", b"real", 7)))
    assert delivered(answer(router, second))[0].data == b"real"
    assert [raw for found in rpcs(router, third) for raw in found.publish] == [signed(9, "news", b"real", 7)]
    assert answer(router, first) == []
    assert router.statistics().rejected["signature"] == 1
    assert router.take_charges().keys() == {attacker}


def test_identical_copies_are_checked_once_and_the_first_is_passed_on() -> None:
    router = make_router(config=WORKERS)
    one, other, third = joined(router, "news", 3)
    raw = signed(9, "news", b"x", 7)
    (batch,) = asked(send(router, one, raw))
    assert send(router, other, raw) == []
    (message,) = delivered(answer(router, batch))
    assert message.received_from == one
    statistics = router.statistics()
    assert (statistics.duplicates, statistics.delivered, statistics.signatures["workers"]) == (1, 1, 1)
    assert not rpcs(router, one)
    assert [list(found.publish) for found in rpcs(router, third)] == [[raw]]


def test_who_sends_a_copy_of_a_forged_message_shares_the_verdict() -> None:
    router = make_router(config=WORKERS)
    one, other = joined(router, "news", 2)
    router.take_charges()
    raw = forged(9, 7)
    (batch,) = asked(send(router, one, raw, raw))
    send(router, other, raw)
    assert answer(router, batch) == []
    statistics = router.statistics()
    assert (statistics.rejected["signature"], statistics.signatures["workers"]) == (3, 1)
    charges = router.take_charges()
    assert charges[one] == 2 * charges[other] > 0
    (batch,) = asked(send(router, one, raw))  # nothing of it is remembered
    answer(router, batch)
    assert router.statistics().rejected["signature"] == 4


def test_a_message_seen_meanwhile_is_not_checked_and_never_passed_on() -> None:
    router = make_router(config=replace(UNSCORED, verify_burst=2, turn_messages=64))
    one, other = joined(router, "news", 2)
    send(router, one, *(signed(9, "news", b"x", number) for number in range(10)))
    twin = forged(9, 9)
    send(router, one, twin)  # behind the real one
    seen = []
    for effects in turns(router):
        seen += seqnos(effects)
    assert seen == list(range(2, 10))
    assert router.statistics().rejected["signature"] == 0
    assert router.statistics().signatures["inline"] == 10
    assert router.statistics().duplicates == 1
    assert len(delivered(send(router, other, twin))) == 0


# ---------------------------------------------------------------- order


@pytest.mark.parametrize("seed", range(5))
def test_messages_of_one_peer_stay_in_order_whatever_order_the_verdicts_come_in(seed: int) -> None:
    rng = random.Random(seed)
    config = replace(UNSCORED, verify_workers=3, verify_few=4, verify_batch=4, verify_interval=0.001)
    router = make_router(config=config)
    peers = joined(router, "news", 3)
    sent: dict[PeerId, list[int]] = {peer: [] for peer in peers}
    came: dict[PeerId, list[int | None]] = {peer: [] for peer in peers}
    open_: list[CheckSignatures] = []
    number = 0

    def take(effects: Sequence[object]) -> None:
        open_.extend(asked(effects))
        for message in delivered(effects):
            came[message.received_from].append(message.seqno)

    for step in range(60):
        peer = rng.choice(peers)
        raws = []
        for _ in range(rng.randint(1, 9)):
            number += 1
            if rng.random() < 0.1:
                raws.append(forged(9, number))
            else:
                raws.append(signed(9, "news", b"x", number))
                sent[peer].append(number)
        take(router.handle(RpcsReceived(peer, [rpc(publish=raws)]), step * 0.01))
        while open_ and rng.random() < 0.6:
            take(answer(router, open_.pop(rng.randrange(len(open_)))))
    while open_:
        take(answer(router, open_.pop(rng.randrange(len(open_)))))
    assert came == sent
    assert router.pending() == (0, 0)


def test_a_message_behind_one_that_is_pending_waits_though_it_could_be_checked_at_once() -> None:
    router = make_router(config=replace(UNSCORED, verify_burst=2))
    (peer,) = joined(router, "news", 1)
    first = send(router, peer, *(signed(9, "news", b"x", number) for number in range(5)))
    assert seqnos(first) == [0, 1]
    assert send(router, peer, signed(9, "news", b"x", 5)) == []
    assert [seqnos(effects) for effects in turns(router)] == [[2, 3], [4, 5]]


# ---------------------------------------------------------------- turns


def test_a_backlog_of_invalid_signatures_is_checked_a_little_in_each_turn() -> None:
    router = make_router(config=UNSCORED)
    peers = joined(router, "news", 8)
    most = 0
    for number, peer in enumerate(peers):
        send(router, peer, *(forged(9, number * 1000 + index) for index in range(300)))
    before = router.statistics().signatures["inline"]
    assert before <= 320
    for _ in turns(router):
        checked = router.statistics().signatures["inline"]
        most, before = max(most, checked - before), checked
    assert most <= 320
    assert router.statistics().rejected["signature"] == 8 * 300
    charges = router.take_charges()
    assert all(charges[peer] >= 300 * 50 for peer in peers)


def test_who_sends_invalid_signatures_holds_nobody_else_up() -> None:
    router = make_router(config=UNSCORED)
    *attackers, honest = joined(router, "news", 9)
    for round_ in range(2):
        for number, peer in enumerate(attackers):
            send(router, peer, *(forged(9, (round_ * 8 + number) * 1000 + index) for index in range(300)))
        if not round_:
            next(turns(router))
            next(turns(router))  # they have shown what they are
    before = router.statistics().rejected["signature"]
    assert len(delivered(send(router, honest, signed(9, "news", b"x", 1_000_000)))) == 1
    next(turns(router))
    assert router.statistics().rejected["signature"] - before == len(attackers)


def test_a_peer_is_trusted_again_in_time() -> None:
    router = make_router(config=replace(UNSCORED, heartbeat_interval=1.0))
    (peer,) = joined(router, "news", 1)
    send(router, peer, *(forged(9, number) for number in range(8)))
    assert delivered(send(router, peer, signed(9, "news", b"x", 100))) == []
    for _ in turns(router):
        pass
    for beat in (1.0, 2.5, 4.0, 5.5):
        router.handle_deadline(beat + 1.0)
    now = 7.0
    effects = router.handle(RpcsReceived(peer, [rpc(publish=[signed(9, "news", b"x", 101)])]), now)
    assert seqnos(effects) == [101]


def test_few_signatures_are_checked_at_once_though_there_are_workers() -> None:
    router = make_router(config=replace(UNSCORED, verify_workers=2, verify_few=4, verify_batch=8))
    (peer,) = joined(router, "news", 1)
    effects = send(router, peer, *(signed(9, "news", b"x", number) for number in range(7)))
    assert seqnos(effects) == [0, 1, 2, 3]
    (batch,) = asked(effects)
    assert len(batch.checks) == 3
    assert seqnos(answer(router, batch)) == [4, 5, 6]
    statistics = router.statistics()
    assert statistics.signatures == {"inline": 4, "workers": 3}
    later = router.handle(RpcsReceived(peer, [rpc(publish=[signed(9, "news", b"x", 8)])]), 0.5)
    assert seqnos(later) == [8]


def test_workers_have_two_batches_each_and_get_the_next_with_each_answer() -> None:
    router = make_router(config=WORKERS)
    (peer,) = joined(router, "news", 1)
    batches = asked(send(router, peer, *(signed(9, "news", b"x", number) for number in range(30))))
    assert [len(batch.checks) for batch in batches] == [8, 8]
    assert router.next_deadline() != 0.0
    effects = answer(router, batches[0])
    assert seqnos(effects) == list(range(8))
    assert [len(batch.checks) for batch in asked(effects)] == [8]
    assert answer(router, batches[0]) == []  # a second answer, or one to a question of long ago


# ---------------------------------------------------------------- bounds


def test_what_is_pending_of_a_peer_is_bounded_and_holds_up_the_reading_of_it() -> None:
    config = replace(UNSCORED, verify_workers=1, verify_few=0, verify_batch=8, max_pending=40, max_backlog=8_000)
    router = make_router(config=config)
    (peer,) = joined(router, "news", 1)
    open_: list[CheckSignatures] = []
    told: list[bool] = []
    came: list[int | None] = []
    largest = 0

    def take(effects: Sequence[object]) -> None:
        open_.extend(asked(effects))
        told.extend(effect.backlogged for effect in effects if isinstance(effect, PeerBacklogged))
        came.extend(seqnos(effects))

    for number in range(100):
        take(send(router, peer, signed(9, "news", b"x" * 100, number)))
        largest = max(largest, router.pending().messages)
    assert told == [True]
    while open_:
        take(answer(router, open_.pop(0)))
        for effects in turns(router):
            take(effects)
        largest = max(largest, router.pending().messages)
    assert told == [True, False]
    assert came == list(range(100))
    assert largest == 40


def test_what_is_pending_of_all_is_bounded_and_nobody_is_shut_out() -> None:
    config = replace(UNSCORED, verify_workers=1, verify_few=0, verify_batch=8, max_pending_total=30)
    router = make_router(config=config)
    one, other = joined(router, "news", 2)
    open_ = []
    for number in range(100):
        open_ += asked(send(router, one, signed(9, "news", b"x", number)))
    open_ += asked(send(router, other, signed(8, "news", b"y", 1)))
    assert router.pending().messages == 31
    came = []
    while open_:
        effects = answer(router, open_.pop(0))
        came += delivered(effects)
        open_ += asked(effects)
        for more in turns(router):
            came += delivered(more)
            open_ += asked(more)
        assert router.pending().messages <= 31
    assert [message.seqno for message in came if message.received_from == one] == list(range(100))
    assert [message.data for message in came if message.received_from == other] == [b"y"]
    assert router.pending() == (0, 0)


# ---------------------------------------------------------------- peers and topics that go


def test_what_is_pending_of_a_peer_that_goes_still_arrives() -> None:
    router = make_router(config=WORKERS)
    peer, third = joined(router, "news", 2)
    (batch,) = asked(send(router, peer, signed(9, "news", b"x", 1)))
    router.handle(PeerRemoved(peer), 0.0)
    router.handle(PeerAdded(peer, "/meshsub/1.1.0", True), 0.0)
    router.handle(RpcsReceived(peer, [subscribe("news")]), 0.0)
    assert seqnos(answer(router, batch)) == [1]
    assert len(rpcs(router, third)) == 1
    assert router.pending() == (0, 0)


def test_what_is_pending_of_a_peer_that_sent_invalid_signatures_goes_with_it() -> None:
    router = make_router(config=replace(UNSCORED, verify_burst=8, max_backlog=1000))
    peer, other = joined(router, "news", 2)
    shared = forged(9, 999)
    effects = send(router, peer, *(forged(9, number) for number in range(50)), shared)
    assert PeerBacklogged(peer, True) in effects
    send(router, other, shared)
    assert PeerBacklogged(peer, False) in router.handle(PeerRemoved(peer), 0.0)
    assert router.pending().messages == 1
    for _ in turns(router):
        pass
    assert router.statistics().rejected["signature"] == 9
    assert router.pending() == (0, 0)


def test_messages_of_a_topic_that_was_left_meanwhile_are_dropped() -> None:
    router = make_router(config=WORKERS)
    (peer,) = joined(router, "news", 1)
    (batch,) = asked(send(router, peer, signed(9, "news", b"x", 1)))
    router.handle(TopicLeft("news"), 0.0)
    assert delivered(answer(router, batch)) == []
    assert router.statistics().dropped["not_joined"] == 1


# ---------------------------------------------------------------- rules


def test_rules_of_a_topic_judge_what_is_verified_before_it_is_passed_on() -> None:
    router = make_router(config=UNSCORED)
    huge = TopicRule("huge", ("n*",), max_payload=9, on_break=OnBreak.REJECT)
    large = TopicRule("large", ("news",), max_payload=5)
    router.handle(RulesSet([huge, large]), 0.0)
    peer, other = joined(router, "news", 2)
    raws = [
        signed(9, "news", data, number) for number, data in enumerate([b"short", b"by far too long", b"longer", b""])
    ]
    assert seqnos(send(router, peer, *raws)) == [0, 3]
    assert [raw for found in rpcs(router, other) for raw in found.publish] == [raws[0], raws[3]]
    statistics = router.statistics()
    assert (statistics.rejected["rule"], statistics.ignored["rule"]) == (1, 1)
    assert statistics.rules == {"huge": 1, "large": 1}
    (view,) = router.topics()
    assert (view.counts.rejected, view.counts.ignored, view.counts.delivered) == (1, 1, 2)
    assert send(router, other, *raws) == []  # all of them are seen
    assert router.statistics().duplicates == 4
    router.handle(RulesSet([]), 0.0)
    assert seqnos(send(router, peer, signed(9, "news", b"longer", 10))) == [10]


def test_rules_hold_for_topics_that_come_later_and_keep_none_alive() -> None:
    router = make_router(config=UNSCORED)
    router.handle(RulesSet([TopicRule("all", ("*",), max_payload=5)]), 0.0)
    (peer,) = joined(router, "news", 1)
    assert seqnos(send(router, peer, signed(9, "news", b"longer", 1), signed(9, "news", b"short", 2))) == [2]
    router.handle(TopicLeft("news"), 0.0)
    router.handle(PeerRemoved(peer), 0.0)
    later = 3600.0
    router.handle_deadline(later)
    assert router.topics() == []


def test_a_forged_message_moves_no_memory_of_its_claimed_sender() -> None:
    rule = TopicRule("replays", ("news",), seqno=SeqnoDistance(1))
    router = make_router(config=UNSCORED)
    router.handle(RulesSet([rule], configured=True), 0.0)
    (peer,) = joined(router, "news", 1)
    assert seqnos(send(router, peer, signed(9, "news", b"1", 1), forged(9, 1000), signed(9, "news", b"2", 2))) == [1, 2]
    assert seqnos(send(router, peer, signed(9, "news", b"0", 0))) == []
    (view,) = router.rules()
    assert (view.configured, view.broken) == (True, {("news", Limit.SEQNO): 1})


def test_of_a_burst_of_forged_messages_only_the_first_few_are_checked_at_once() -> None:
    router = make_router(config=replace(UNSCORED, verify_burst=320))
    (attacker,) = joined(router, "news", 1)
    send(router, attacker, *(forged(9, number) for number in range(300)))
    assert router.statistics().rejected["signature"] == 16
    assert len(router._intake) == 284
    list(turns(router))
    assert router.statistics().rejected["signature"] == 300


def test_new_peers_that_bring_much_at_once_are_served_one_in_a_turn() -> None:
    router = make_router(config=replace(UNSCORED, turn_messages=64, verify_burst=320))
    attackers = joined(router, "news", 4)
    for author, attacker in enumerate(attackers):
        send(router, attacker, *(forged(author + 9, number, bytes(400)) for number in range(100)))
    assert router.statistics().rejected["signature"] == 16  # of the first one: it has more, for which it waits
    told = []
    for _ in turns(router):
        told.append(router.statistics().rejected["signature"])
    assert max(after - before for before, after in itertools.pairwise(told)) <= 64
    assert told[-1] == 400
