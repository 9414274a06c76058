"""Batches of messages and what becomes of them."""

import pytest
from direct_pair import ALICE, BOB, CHAT, Pair

from sidecar.core.direct import (
    CloseLink,
    DataReceived,
    DirectConfig,
    DirectRouter,
    LinkAccepted,
    LinkClosed,
    LinkFailed,
    LinkOpened,
    LinkViolated,
    MessagesHandled,
    MessagesReceived,
    OpenLink,
    OutcomeRange,
    ProtocolsChanged,
    SendCompleted,
    SendOutcome,
    SendRequested,
)
from sidecar.core.errors import Closed, DialTimeout, InvalidArgument, NotSupported, ProtocolError

MIB = 1 << 20


def outcomes(effects: list[object]) -> list[tuple[int, list[tuple[int, int, SendOutcome]]]]:
    return [(effect.op, [tuple(span) for span in effect.outcomes]) for effect in effects]  # type: ignore[attr-defined]


def receiving(pair: Pair, *protocols: str) -> Pair:
    assert pair.tell_bob(ProtocolsChanged(protocols or (CHAT,), ())) == []
    return pair


@pytest.mark.parametrize("piece", [1, 7, MIB])
def test_messages_arrive_in_order_and_are_receipted_as_one_range(piece: int) -> None:
    pair = receiving(Pair(piece=piece))
    messages = [b"%d" % number for number in range(300)]
    assert pair.tell_alice(SendRequested(1, BOB, CHAT, messages)) == []
    alice, bob = pair.run()
    assert (alice, bob) == ([], [MessagesReceived(1, ALICE, CHAT, 1, messages)])
    assert pair.tell_bob(MessagesHandled(1, 1, 300, SendOutcome.DELIVERED)) == []
    assert pair.run() == ([SendCompleted(1, (OutcomeRange(0, 300, SendOutcome.DELIVERED),))], [])
    assert (pair.alice.counts.messages_sent, pair.bob.counts.messages_received) == (300, 300)


def test_a_second_batch_uses_the_same_link_and_goes_on_counting() -> None:
    pair = receiving(Pair())
    pair.tell_alice(SendRequested(1, BOB, CHAT, [b"a", b"b"]))
    pair.run()
    pair.tell_alice(SendRequested(2, BOB, CHAT, [b"c"]))
    assert pair.run()[1] == [MessagesReceived(1, ALICE, CHAT, 3, [b"c"])]
    pair.tell_bob(MessagesHandled(1, 1, 3, SendOutcome.DELIVERED))
    assert outcomes(pair.run()[0]) == [(1, [(0, 2, SendOutcome.DELIVERED)]), (2, [(0, 1, SendOutcome.DELIVERED)])]


def test_many_small_batches_travel_and_are_told_as_one() -> None:
    pair = receiving(Pair())
    for op in range(100):
        pair.tell_alice(SendRequested(op, BOB, CHAT, [b"%d" % op]))
    assert pair.run()[1] == [MessagesReceived(1, ALICE, CHAT, 1, [b"%d" % op for op in range(100)])]


def test_pieces_of_a_batch_may_be_handled_apart_and_out_of_order() -> None:
    pair = receiving(Pair())
    pair.tell_alice(SendRequested(1, BOB, CHAT, [b"x"] * 10))
    pair.run()
    for first, count, outcome in (
        (9, 2, SendOutcome.REFUSED),
        (1, 3, SendOutcome.DELIVERED),
        (4, 5, SendOutcome.NO_SUBSCRIBER),
    ):
        pair.tell_bob(MessagesHandled(1, first, count, outcome))
    expected = [(0, 3, SendOutcome.DELIVERED), (3, 5, SendOutcome.NO_SUBSCRIBER), (8, 2, SendOutcome.REFUSED)]
    assert outcomes(pair.run()[0]) == [(1, expected)]


def test_messages_nobody_receives_are_answered_at_once() -> None:
    pair = receiving(Pair(), "/other/1")
    pair.tell_alice(SendRequested(1, BOB, CHAT, [b"x", b"y"]))
    assert pair.run() == ([SendCompleted(1, (OutcomeRange(0, 2, SendOutcome.NO_SUBSCRIBER),))], [])


def test_protocols_of_one_frame_are_told_apart() -> None:
    pair = receiving(Pair(), CHAT, "/b/1")
    pair.up = False
    assert pair.tell_alice(SendRequested(1, BOB, CHAT, [b"x"])) == [OpenLink(BOB)]
    for op, protocol in ((2, "/b/1"), (3, "/c/1"), (4, CHAT)):
        assert pair.tell_alice(SendRequested(op, BOB, protocol, [b"x"])) == []
    pair.tell_bob(LinkAccepted(ALICE, 9))
    pair.link = 9
    pair.tell_alice(LinkOpened(BOB, 9))
    alice, bob = pair.run()
    assert bob == [
        MessagesReceived(9, ALICE, CHAT, 1, [b"x"]),
        MessagesReceived(9, ALICE, "/b/1", 2, [b"x"]),
        MessagesReceived(9, ALICE, CHAT, 4, [b"x"]),
    ]
    assert outcomes(alice) == [(3, [(0, 1, SendOutcome.NO_SUBSCRIBER)])]


def test_an_empty_batch_and_a_wrong_protocol() -> None:
    pair = Pair()
    assert pair.tell_alice(SendRequested(1, BOB, CHAT, [])) == [SendCompleted(1, ())]
    for protocol in ("", "x" * 257, "é" * 129):
        with pytest.raises(InvalidArgument):
            pair.tell_alice(SendRequested(1, BOB, protocol, [b"x"]))


# ---------------------------------------------------------------- bounds


def test_the_largest_message_travels_in_pieces_and_a_larger_one_stays() -> None:
    pair = receiving(Pair(piece=100_000))
    largest = bytes(1_000_000)
    pair.tell_alice(SendRequested(1, BOB, CHAT, [b"a", largest, largest + b"x", b"b"]))
    assert pair.run()[1] == [
        MessagesReceived(1, ALICE, CHAT, 1, [b"a"]),
        MessagesReceived(1, ALICE, CHAT, 2, [largest, b"b"]),
    ]
    pair.tell_bob(MessagesHandled(1, 1, 3, SendOutcome.DELIVERED))
    expected = [(0, 2, SendOutcome.DELIVERED), (2, 1, SendOutcome.TOO_LARGE), (3, 1, SendOutcome.DELIVERED)]
    assert outcomes(pair.run()[0]) == [(1, expected)]


def test_a_full_queue_takes_what_fits_and_says_so() -> None:
    router = DirectRouter(DirectConfig(max_queued=MIB + 64), now=0.0)
    assert router.handle(SendRequested(1, BOB, CHAT, [bytes(10_000)] * 110), 0.0) == [OpenLink(BOB)]
    full = SendRequested(2, BOB, CHAT, [bytes(10_000)])
    assert outcomes(router.handle(full, 0.0)) == [(2, [(0, 1, SendOutcome.LOCAL_QUEUE_FULL)])]
    error = DialTimeout("nobody answered")
    fitting = (MIB + 64) // 10_064
    assert router.handle(LinkFailed(BOB, error), 1.0) == [
        SendCompleted(
            1,
            (
                OutcomeRange(0, fitting, SendOutcome.UNREACHABLE),
                OutcomeRange(fitting, 110 - fitting, SendOutcome.LOCAL_QUEUE_FULL),
            ),
            error,
        )
    ]
    assert router.next_deadline() is None
    assert router.handle(full, 2.0) == [OpenLink(BOB)]  # there is room again


def test_all_queues_together_are_bounded() -> None:
    router = DirectRouter(DirectConfig(max_queued_total=3000), now=0.0)
    for op in range(2):
        router.handle(SendRequested(op, BOB + bytes((op,)), CHAT, [bytes(1000)]), 0.0)  # type: ignore[arg-type]
    third = router.handle(SendRequested(9, ALICE, CHAT, [bytes(1000)]), 0.0)
    assert outcomes(third) == [(9, [(0, 1, SendOutcome.LOCAL_QUEUE_FULL)])]


def test_a_receiver_out_of_room_refuses_the_rest_and_counts_it() -> None:
    pair = receiving(Pair(bob=DirectConfig(max_unhandled=MIB)))
    pair.tell_alice(SendRequested(1, BOB, CHAT, [bytes(1000)] * 1100))
    alice, bob = pair.run()
    fitting = MIB // 1064
    assert alice == []
    assert sum(len(effect.messages) for effect in bob) == fitting  # type: ignore[union-attr]
    pair.tell_bob(MessagesHandled(1, 1, fitting, SendOutcome.DELIVERED))
    expected = [(0, fitting, SendOutcome.DELIVERED), (fitting, 1100 - fitting, SendOutcome.REMOTE_QUEUE_FULL)]
    assert outcomes(pair.run()[0]) == [(1, expected)]
    assert pair.bob.counts.messages_dropped == 1100 - fitting
    pair.tell_alice(SendRequested(2, BOB, CHAT, [b"again"]))
    assert pair.run()[1] == [MessagesReceived(1, ALICE, CHAT, 1101, [b"again"])]


def test_a_sender_writes_no_more_than_its_window_until_receipts_come() -> None:
    pair = receiving(Pair(DirectConfig(window=MIB)))
    pair.tell_alice(SendRequested(1, BOB, CHAT, [bytes(1000)] * 1100))
    first = sum(len(effect.messages) for effect in pair.run()[1])  # type: ignore[union-attr]
    assert first == MIB // 1064
    pair.tell_bob(MessagesHandled(1, 1, first, SendOutcome.DELIVERED))
    alice, bob = pair.run()
    assert alice == []
    assert [len(effect.messages) for effect in bob] == [1100 - first]  # type: ignore[union-attr]


def test_a_peer_has_a_bounded_number_of_links() -> None:
    router = DirectRouter(DirectConfig(max_links_per_peer=2), now=0.0)
    assert [router.handle(LinkAccepted(ALICE, link), 0.0) for link in (1, 2)] == [[], []]
    (violated,) = router.handle(LinkAccepted(ALICE, 3), 0.0)
    assert isinstance(violated, LinkViolated)
    assert router.handle(LinkAccepted(BOB, 4), 0.0) == []
    router.handle(LinkClosed(1, None), 0.0)
    assert router.handle(LinkAccepted(ALICE, 5), 0.0) == []


# ---------------------------------------------------------------- links that fail


@pytest.mark.parametrize(
    ("error", "outcome"),
    [(DialTimeout("silence"), SendOutcome.UNREACHABLE), (NotSupported("no direct messages"), SendOutcome.REFUSED)],
)
def test_what_cannot_be_sent_says_why(error: DialTimeout | NotSupported, outcome: SendOutcome) -> None:
    router = DirectRouter(DirectConfig(), now=0.0)
    assert router.handle(SendRequested(1, BOB, CHAT, [b"x"] * 3), 0.0) == [OpenLink(BOB)]
    assert router.handle(LinkFailed(BOB, error), 0.0) == [SendCompleted(1, (OutcomeRange(0, 3, outcome),), error)]


def test_a_lost_link_leaves_the_written_unknown_and_sends_the_rest_over_another() -> None:
    pair = receiving(Pair(DirectConfig(window=MIB)))
    pair.tell_alice(SendRequested(1, BOB, CHAT, [b"x"]))
    pair.run()
    pair.tell_bob(MessagesHandled(1, 1, 1, SendOutcome.DELIVERED))
    pair.run()
    pair.tell_alice(SendRequested(2, BOB, CHAT, [bytes(700_000)]))
    pair.tell_alice(SendRequested(3, BOB, CHAT, [bytes(700_000)]))
    pair.run()
    lost = Closed("cable cut")
    assert pair.tell_bob(LinkClosed(1, lost)) == []
    assert pair.tell_alice(LinkClosed(1, lost)) == [SendCompleted(2, (OutcomeRange(0, 1, SendOutcome.UNKNOWN),), lost)]
    assert pair.run()[1] == [MessagesReceived(2, ALICE, CHAT, 1, [bytes(700_000)])]
    pair.tell_bob(MessagesHandled(1, 1, 1, SendOutcome.DELIVERED))  # of the old link: nobody waits
    pair.tell_bob(MessagesHandled(2, 1, 1, SendOutcome.DELIVERED))
    assert outcomes(pair.run()[0]) == [(3, [(0, 1, SendOutcome.DELIVERED)])]


def test_a_link_that_ends_before_any_answer_is_not_opened_again_and_again() -> None:
    pair = receiving(Pair())
    pair.tell_alice(SendRequested(1, BOB, CHAT, [b"x"]))  # woken, but nothing is carried
    effects = pair.tell_alice(LinkClosed(1, None))
    assert outcomes(effects) == [(1, [(0, 1, SendOutcome.UNREACHABLE)])]
    assert pair.alice.next_deadline() is None


def test_links_that_nobody_asked_for_or_knows_do_no_harm() -> None:
    router = DirectRouter(DirectConfig(), now=0.0)
    assert router.handle(LinkOpened(BOB, 5), 0.0) == [CloseLink(5)]
    assert router.handle(LinkFailed(BOB, Closed("x")), 0.0) == []
    assert router.handle(LinkClosed(7, None), 0.0) == []
    assert router.handle(DataReceived(7, b"x"), 0.0) == []
    assert router.handle(MessagesHandled(7, 1, 1, SendOutcome.DELIVERED), 0.0) == []
    assert router.take(7, 100) == []


# ---------------------------------------------------------------- time


def test_messages_that_no_app_takes_in_time_are_answered_for_by_the_receiver() -> None:
    pair = receiving(Pair())
    pair.tell_alice(SendRequested(1, BOB, CHAT, [b"x"] * 2))
    pair.run()
    assert pair.wait(19.9) == ([], [])
    assert pair.wait(0.2) == ([SendCompleted(1, (OutcomeRange(0, 2, SendOutcome.TIMED_OUT),))], [])
    assert pair.tell_bob(MessagesHandled(1, 1, 2, SendOutcome.DELIVERED)) == []  # too late, and ignored
    assert pair.run() == ([], [])


def test_a_receipt_that_comes_late_is_no_violation() -> None:
    pair = receiving(Pair(DirectConfig(receipt_timeout=5.0)))
    pair.tell_alice(SendRequested(1, BOB, CHAT, [b"x"] * 2))
    pair.run()
    pair.tell_bob(MessagesHandled(1, 1, 1, SendOutcome.DELIVERED))
    pair.run()
    expected = (OutcomeRange(0, 1, SendOutcome.DELIVERED), OutcomeRange(1, 1, SendOutcome.TIMED_OUT))
    assert pair.wait(6.0) == ([SendCompleted(1, expected)], [])
    pair.tell_bob(MessagesHandled(1, 2, 1, SendOutcome.DELIVERED))
    assert pair.run() == ([], [])
    pair.tell_alice(SendRequested(2, BOB, CHAT, [b"y"]))
    assert pair.run()[1] == [MessagesReceived(1, ALICE, CHAT, 3, [b"y"])]


def test_a_peer_that_never_gives_receipts_loses_its_link() -> None:
    pair = receiving(Pair(DirectConfig(receipt_timeout=5.0), DirectConfig(handling_timeout=100.0)))
    pair.tell_alice(SendRequested(1, BOB, CHAT, [b"x"]))
    pair.run()
    alice, _ = pair.wait(11.0)
    completed, violated = alice
    assert outcomes([completed]) == [(1, [(0, 1, SendOutcome.TIMED_OUT)])]
    assert isinstance(violated, LinkViolated)
    assert isinstance(violated.error, ProtocolError)
    assert pair.alice.next_deadline() is None


def test_what_waits_too_long_for_a_link_is_given_up() -> None:
    router = DirectRouter(DirectConfig(), now=0.0)
    router.handle(SendRequested(1, BOB, CHAT, [b"x"]), 0.0)
    router.handle(SendRequested(2, BOB, CHAT, [b"y"]), 10.0)
    assert router.next_deadline() == 30.0
    assert outcomes(router.handle_deadline(30.0)) == [(1, [(0, 1, SendOutcome.UNREACHABLE)])]
    assert router.next_deadline() == 40.0


def test_idle_links_are_closed_by_their_opener() -> None:
    pair = receiving(Pair())
    pair.tell_alice(SendRequested(1, BOB, CHAT, [b"x"]))
    pair.run()
    pair.wait(10.0)
    pair.tell_bob(MessagesHandled(1, 1, 1, SendOutcome.DELIVERED))
    pair.run()
    assert pair.wait(299.0) == ([], [])
    assert pair.wait(2.0) == ([CloseLink(1)], [])
    assert pair.alice.next_deadline() is None
    assert pair.wait(300.0) == ([], [CloseLink(1)])  # the other end was not told that it has ended
    assert pair.bob.next_deadline() is None
