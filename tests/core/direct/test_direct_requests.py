"""Requests and their responses."""

import pytest
from direct_pair import ALICE, BOB, CHAT, Pair

from sidecar.core.direct import (
    DataReceived,
    DirectConfig,
    DirectRouter,
    LinkClosed,
    LinkFailed,
    OpenLink,
    ProtocolsChanged,
    RequestAnswered,
    RequestArrived,
    RequestCancelled,
    RequestCompleted,
    RequestMade,
    RequestsAnswered,
    RequestsMade,
    RequestWithdrawn,
    SendRequested,
)
from sidecar.core.errors import (
    Closed,
    DeadlineExceeded,
    DialTimeout,
    InvalidArgument,
    NotFound,
    NotSupported,
    QueueFull,
    Refused,
    SidecarError,
    TooLarge,
    TooManyConnections,
)


def serving(pair: Pair) -> Pair:
    assert pair.tell_bob(ProtocolsChanged((CHAT,), (CHAT,))) == []
    return pair


def failure(effects: list[object]) -> SidecarError:
    (completed,) = effects
    assert isinstance(completed, RequestCompleted)
    assert isinstance(completed.answer, SidecarError)
    return completed.answer


def test_what_comes_together_is_as_if_it_came_one_by_one() -> None:
    pair, other = serving(Pair()), serving(Pair())
    asked = [RequestMade(11, BOB, CHAT, b"first", None), RequestMade(12, BOB, CHAT, b"second", 105.0)]
    together = pair.tell_alice(RequestsMade(asked))
    assert together == [effect for one in asked for effect in other.tell_alice(one)]
    assert repr(pair.run()) == repr(other.run())  # errors are what they say
    answers = [RequestAnswered(2, b"two"), RequestAnswered(1, Refused("no"))]
    pair.tell_bob(RequestsAnswered(answers))
    for answer in answers:
        other.tell_bob(answer)
    assert repr(pair.run()) == repr(other.run())  # errors are what they say


def test_misuse_by_one_of_several_does_nothing() -> None:
    pair = serving(Pair())
    fine = RequestMade(11, BOB, CHAT, b"fine", None)
    for wrong in (fine, fine._replace(op=12, protocol=""), fine._replace(op=12, deadline=float("nan"))):
        with pytest.raises(InvalidArgument):
            pair.alice.handle(RequestsMade([fine, wrong]), pair.now)
    assert pair.run() == ([], [])
    pair.tell_alice(RequestsMade([fine]))
    pair.run()
    with pytest.raises(TooLarge):
        pair.bob.handle(RequestsAnswered([RequestAnswered(1, b"yes"), RequestAnswered(1, bytes(1 << 24))]), pair.now)
    assert pair.run() == ([], [])
    pair.tell_bob(RequestsAnswered([RequestAnswered(1, b"yes")]))
    assert pair.run() == ([RequestCompleted(11, b"yes")], [])


@pytest.mark.parametrize("piece", [1, 1 << 20])
def test_requests_are_answered_in_any_order(piece: int) -> None:
    pair = serving(Pair(piece=piece))
    pair.tell_alice(RequestMade(11, BOB, CHAT, b"first", None))
    pair.tell_alice(RequestMade(12, BOB, CHAT, b"second", 105.0))
    alice, bob = pair.run()
    assert alice == []
    assert bob == [RequestArrived(1, ALICE, CHAT, b"first", None), RequestArrived(2, ALICE, CHAT, b"second", 105.0)]
    pair.tell_bob(RequestAnswered(2, b"two"))
    assert pair.run() == ([RequestCompleted(12, b"two")], [])
    pair.tell_bob(RequestAnswered(1, b""))
    assert pair.run() == ([RequestCompleted(11, b"")], [])
    assert pair.tell_bob(RequestAnswered(1, b"again")) == []
    assert (pair.alice.counts.requests_sent, pair.bob.counts.requests_received) == (2, 2)


@pytest.mark.parametrize(
    ("given", "heard"),
    [(place := f"00-{'a' * 32}-{'b' * 16}-01", place), ("", ""), ("00-nonsense", "")],
)
def test_a_place_in_a_trace_travels_with_its_request_and_nonsense_is_left_out(given: str, heard: str) -> None:
    pair = serving(Pair())
    pair.tell_alice(RequestMade(1, BOB, CHAT, b"?", None, given))
    assert pair.run()[1] == [RequestArrived(1, ALICE, CHAT, b"?", None, heard)]


@pytest.mark.parametrize(
    ("said", "heard"),
    [
        (NotSupported("gone"), NotSupported),
        (QueueFull("full"), QueueFull),
        (TooManyConnections("full"), QueueFull),
        (DeadlineExceeded("late"), DeadlineExceeded),
        (Closed("ended"), Closed),
        (Refused("not today"), Refused),
        (NotFound("no such thing"), Refused),
    ],
)
def test_an_error_travels_by_kind_and_text(said: SidecarError, heard: type[SidecarError]) -> None:
    pair = serving(Pair())
    pair.tell_alice(RequestMade(1, BOB, CHAT, b"?", None))
    pair.run()
    pair.tell_bob(RequestAnswered(1, said))
    error = failure(pair.run()[0])
    assert (type(error), str(error)) == (heard, str(said))


def test_a_long_reason_is_cut_at_a_character() -> None:
    pair = serving(Pair())
    pair.tell_alice(RequestMade(1, BOB, CHAT, b"?", None))
    pair.run()
    pair.tell_bob(RequestAnswered(1, Refused("a" + "é" * 1000)))
    assert str(failure(pair.run()[0])) == "a" + "é" * 511


def test_requests_nobody_serves_are_answered_at_once() -> None:
    pair = Pair()
    pair.tell_alice(RequestMade(1, BOB, CHAT, b"?", None))
    alice, bob = pair.run()
    assert isinstance(failure(alice), NotSupported)
    assert bob == []


def test_a_peer_out_of_reach_fails_its_requests() -> None:
    router = DirectRouter(DirectConfig(), now=0.0)
    assert router.handle(RequestMade(1, BOB, CHAT, b"?", None), 0.0) == [OpenLink(BOB)]
    error = DialTimeout("silence")
    assert router.handle(LinkFailed(BOB, error), 0.0) == [RequestCompleted(1, error)]


def test_the_deadline_ends_a_request_at_both_ends() -> None:
    pair = serving(Pair())
    pair.tell_alice(RequestMade(1, BOB, CHAT, b"?", 102.5))
    assert pair.run()[1] == [RequestArrived(1, ALICE, CHAT, b"?", 102.5)]
    alice, bob = pair.wait(2.5)
    assert isinstance(failure(alice), DeadlineExceeded)
    assert bob == [RequestWithdrawn(1)]
    assert pair.tell_bob(RequestAnswered(1, b"too late")) == []
    assert pair.run() == ([], [])


def test_a_deadline_also_ends_what_is_not_written_yet() -> None:
    router = DirectRouter(DirectConfig(), now=0.0)
    router.handle(RequestMade(1, BOB, CHAT, b"?", 2.0), 0.0)
    assert router.next_deadline() == 2.0
    assert isinstance(failure(router.handle_deadline(2.0)), DeadlineExceeded)
    assert router.next_deadline() is None


def test_a_cancelled_request_is_withdrawn_there_and_its_response_ignored() -> None:
    pair = serving(Pair())
    pair.tell_alice(RequestMade(1, BOB, CHAT, b"?", 150.0))
    pair.run()
    pair.tell_bob(RequestAnswered(1, b"crosses"))
    assert isinstance(failure(pair.tell_alice(RequestCancelled(1))), Closed)
    assert pair.run() == ([], [])
    pair.tell_alice(RequestMade(2, BOB, CHAT, b"?", None))
    pair.run()
    pair.tell_alice(RequestCancelled(2))
    assert pair.run() == ([], [RequestWithdrawn(2)])
    assert pair.tell_alice(RequestCancelled(2)) == []


def test_a_request_cancelled_before_it_is_written_never_travels() -> None:
    router = DirectRouter(DirectConfig(), now=0.0)
    router.handle(RequestMade(1, BOB, CHAT, b"?", None), 0.0)
    assert isinstance(failure(router.handle(RequestCancelled(1), 0.0)), Closed)
    assert router.next_deadline() is None


def test_a_lost_link_ends_requests_at_both_ends_and_keeps_those_not_written() -> None:
    pair = serving(Pair(DirectConfig(request_window=2)))
    pair.tell_alice(RequestMade(1, BOB, CHAT, b"a", None))
    pair.tell_alice(RequestMade(2, BOB, CHAT, b"b", None))
    pair.tell_alice(RequestMade(3, BOB, CHAT, b"c", None))
    pair.run()
    pair.tell_bob(RequestAnswered(1, b"A"))
    assert pair.run()[0] == [RequestCompleted(1, b"A")]
    pair.tell_alice(RequestMade(4, BOB, CHAT, b"d", None))
    assert pair.tell_bob(LinkClosed(1, None)) == [RequestWithdrawn(2), RequestWithdrawn(3)]
    lost = pair.tell_alice(LinkClosed(1, None))
    assert [(effect.op, type(effect.answer)) for effect in lost] == [(2, Closed), (3, Closed)]  # type: ignore[union-attr]
    assert pair.run()[1] == [RequestArrived(4, ALICE, CHAT, b"d", None)]


# ---------------------------------------------------------------- bounds


def test_more_requests_than_the_window_wait_here() -> None:
    pair = serving(Pair(DirectConfig(request_window=3)))
    for op in range(5):
        pair.tell_alice(RequestMade(op, BOB, CHAT, b"?", None))
    arrived = pair.run()[1]
    assert len(arrived) == 3
    pair.tell_bob(RequestAnswered(1, b"!"))
    alice, bob = pair.run()
    assert alice == [RequestCompleted(0, b"!")]
    assert bob == [RequestArrived(4, ALICE, CHAT, b"?", None)]


def test_more_requests_than_the_other_side_takes_are_refused_there() -> None:
    pair = serving(Pair(bob=DirectConfig(max_requests_unhandled=3)))
    for op in range(5):
        pair.tell_alice(RequestMade(op, BOB, CHAT, b"?", None))
    alice, bob = pair.run()
    assert [(effect.op, type(effect.answer)) for effect in alice] == [(3, QueueFull), (4, QueueFull)]  # type: ignore[union-attr]
    assert len(bob) == 3


def test_requests_and_responses_are_bounded_in_bytes() -> None:
    large = bytes(600_000)
    pair = serving(Pair(DirectConfig(max_queued=1 << 20), DirectConfig(max_unhandled=1 << 20, max_answers=1 << 20)))
    pair.up = False
    assert pair.tell_alice(RequestMade(1, BOB, CHAT, large, None)) == [OpenLink(BOB)]
    assert isinstance(failure(pair.tell_alice(RequestMade(2, BOB, CHAT, large, None))), QueueFull)
    assert isinstance(failure(pair.tell_alice(RequestMade(3, BOB, CHAT, bytes(1_000_001), None))), TooLarge)
    pair = serving(Pair(bob=DirectConfig(max_unhandled=1 << 20, max_answers=1 << 20)))
    pair.tell_alice(RequestMade(1, BOB, CHAT, large, None))
    pair.tell_alice(RequestMade(2, BOB, CHAT, large, None))
    assert isinstance(failure(pair.run()[0]), QueueFull)
    pair.tell_alice(RequestMade(3, BOB, CHAT, b"", None))
    pair.run()
    pair.tell_bob(RequestAnswered(1, large))
    pair.tell_bob(RequestAnswered(2, large))  # finds the first one's bytes before it
    answers = [(effect.op, type(effect.answer)) for effect in pair.run()[0]]  # type: ignore[union-attr]
    assert answers == [(1, bytes), (3, QueueFull)]


def test_misuse_is_refused_and_changes_nothing() -> None:
    pair = serving(Pair())
    pair.tell_alice(RequestMade(1, BOB, CHAT, b"?", None))
    for wrong in (
        RequestMade(1, BOB, CHAT, b"again", None),
        RequestMade(2, BOB, CHAT, b"?", float("inf")),
        RequestMade(2, BOB, "", b"?", None),
    ):
        with pytest.raises(InvalidArgument):
            pair.tell_alice(wrong)
    pair.run()
    with pytest.raises(TooLarge):
        pair.tell_bob(RequestAnswered(1, bytes(1_000_001)))
    pair.tell_bob(RequestAnswered(1, bytes(1_000_000)))
    assert pair.run()[0] == [RequestCompleted(1, bytes(1_000_000))]


def test_requests_are_not_held_up_by_a_long_queue_of_messages() -> None:
    pair = serving(Pair())
    pair.tell_alice(SendRequested(1, BOB, CHAT, [bytes(1000)] * 3000))
    pair.tell_alice(RequestMade(2, BOB, CHAT, b"?", None))
    first = b"".join(pair.alice.take(1, 1 << 16))
    effects = pair.tell_bob(DataReceived(1, first))
    assert RequestArrived(1, ALICE, CHAT, b"?", None) in effects
