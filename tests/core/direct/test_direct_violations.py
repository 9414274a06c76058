"""What a peer may not do, and any bytes at all."""

import pytest
from direct_pair import ALICE, BOB, CHAT, Pair
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.core import varint
from sidecar.core.direct import (
    DataReceived,
    DirectConfig,
    DirectEffect,
    DirectRouter,
    LinkAccepted,
    LinkOpened,
    LinkViolated,
    LinkWoken,
    MessagesHandled,
    MessagesReceived,
    ProtocolsChanged,
    RequestAnswered,
    RequestArrived,
    RequestCompleted,
    RequestMade,
    RequestWithdrawn,
    SendCompleted,
    SendOutcome,
    SendRequested,
)
from sidecar.core.direct.messages import RequestFields, encode_acceptors_frame, encode_openers_frame
from sidecar.core.errors import Closed, ConfigError, FrameTooLarge, ProtocolError
from sidecar.core.parameters.direct import MAX_FRAME

ASK = RequestFields(1, CHAT, b"?", 0)


def acceptor() -> DirectRouter:
    router = DirectRouter(DirectConfig(), now=0.0)
    router.handle(ProtocolsChanged((CHAT,), (CHAT,)), 0.0)
    assert router.handle(LinkAccepted(ALICE, 1), 0.0) == []
    return router


def opener() -> DirectRouter:
    """Has written messages 1 to 3 and request 1, and has two more messages waiting for nothing but a `take`."""
    router = DirectRouter(DirectConfig(), now=0.0)
    router.handle(SendRequested(1, BOB, CHAT, [b"x"] * 3), 0.0)
    router.handle(RequestMade(2, BOB, CHAT, b"?", None), 0.0)
    router.handle(LinkOpened(BOB, 1), 0.0)
    assert router.take(1, 1 << 16)
    router.handle(SendRequested(3, BOB, CHAT, [b"y"] * 2), 0.0)
    return router


def feed(router: DirectRouter, data: bytes, size: int) -> list[DirectEffect]:
    effects: list[DirectEffect] = []
    for at in range(0, len(data), size):
        effects += router.handle(DataReceived(1, data[at : at + size]), 0.0)
    return [effect for effect in effects if not isinstance(effect, LinkWoken)]


HEAD = encode_openers_frame([(CHAT, [b"good"])], [ASK], [])


@pytest.mark.parametrize("size", [1, 5, 1 << 20])
@pytest.mark.parametrize(
    "bad",
    [
        b"\x00",
        b"\x01\xff",
        b"\x81\x80\x00",
        varint.encode(MAX_FRAME + 1),
        encode_acceptors_frame([(1, 1, SendOutcome.DELIVERED)], []),
        encode_openers_frame([(CHAT, [])], [], []),
        encode_openers_frame([], [ASK._replace(id=3)], []),
        encode_openers_frame([], [ASK._replace(id=1)], []),
        encode_openers_frame([], [], [2]),
        encode_openers_frame([], [], [0]),
        b"\x06\x0a\x04\x0a\x02\xff\xfe",
    ],
    ids=[
        "empty frame",
        "garbage",
        "varint not minimal",
        "oversize",
        "receipts from the opener",
        "empty batch",
        "request number left out",
        "request number twice",
        "cancel of the future",
        "cancel of nothing",
        "protocol not UTF-8",
    ],
)
def test_an_openers_violation_is_the_last_thing_in_whatever_pieces_it_comes(bad: bytes, size: int) -> None:
    router = acceptor()
    effects = feed(router, HEAD + bad + HEAD, size)
    news = [effect for effect in effects if not isinstance(effect, LinkViolated)]
    arrived = [MessagesReceived(1, ALICE, CHAT, 1, [b"good"]), RequestArrived(1, ALICE, CHAT, b"?", None)]
    assert sorted(map(repr, news[:2])) == sorted(map(repr, arrived))
    assert news[2:] == [RequestWithdrawn(1)]
    (violated,) = (effect for effect in effects if isinstance(effect, LinkViolated))
    assert isinstance(violated.error, ProtocolError)
    assert router.next_deadline() is None
    assert router.handle(MessagesHandled(1, 1, 1, SendOutcome.DELIVERED), 0.0) == []
    assert router.handle(RequestAnswered(1, b"!"), 0.0) == []
    assert router.handle(LinkAccepted(ALICE, 2), 0.0) == []


@pytest.mark.parametrize("size", [1, 1 << 20])
@pytest.mark.parametrize(
    "bad",
    [
        encode_openers_frame([(CHAT, [b"x"])], [], []),
        encode_acceptors_frame([(1, 1, SendOutcome.DELIVERED), (1, 1, SendOutcome.DELIVERED)], []),
        encode_acceptors_frame([(3, 2, SendOutcome.DELIVERED)], []),
        encode_acceptors_frame([(0, 1, SendOutcome.DELIVERED)], []),
        encode_acceptors_frame([(1, 0, SendOutcome.DELIVERED)], []),
        encode_acceptors_frame([(1, 2**63, SendOutcome.DELIVERED)], []),
        encode_acceptors_frame([], [(2, b"")]),
        encode_acceptors_frame([], [(0, b"")]),
    ],
    ids=["messages", "twice", "too many", "number 0", "none", "huge", "response of the future", "response to nothing"],
)
def test_an_acceptors_violation_ends_all_that_was_written(bad: bytes, size: int) -> None:
    router = opener()
    effects = feed(router, bad, size)
    (violated,) = (effect for effect in effects if isinstance(effect, LinkViolated))
    assert isinstance(violated.error, ProtocolError)
    (request,) = (effect for effect in effects if isinstance(effect, RequestCompleted))
    assert isinstance(request.answer, Closed)
    sends = {effect.op: effect.outcomes for effect in effects if isinstance(effect, SendCompleted)}
    assert sends[1][-1].outcome is SendOutcome.UNKNOWN
    assert [tuple(span) for span in sends[3]] == [(0, 2, SendOutcome.UNREACHABLE)]
    assert router.next_deadline() is None


def test_an_oversize_frame_is_named_by_its_size() -> None:
    (violated,) = acceptor().handle(DataReceived(1, varint.encode(MAX_FRAME + 1)), 0.0)
    assert isinstance(violated, LinkViolated)
    assert isinstance(violated.error, FrameTooLarge)
    assert str(MAX_FRAME) in str(violated.error)


def test_a_response_for_a_request_answered_already_is_ignored() -> None:
    router = opener()
    answer = encode_acceptors_frame([], [(1, b"!")])
    assert router.handle(DataReceived(1, answer), 0.0) == [RequestCompleted(2, b"!")]
    assert router.handle(DataReceived(1, answer), 0.0) == []


def test_an_outcome_of_a_later_version_is_unknown() -> None:
    data = encode_acceptors_frame([(1, 3, SendOutcome.TIMED_OUT)], [])
    (completed,) = opener().handle(DataReceived(1, data.replace(b"\x18\x05", b"\x18\x63")), 0.0)
    assert isinstance(completed, SendCompleted)
    assert completed.outcomes[0].outcome is SendOutcome.UNKNOWN


@pytest.mark.parametrize("what", ["receipts", "responses"])
def test_a_peer_that_never_reads_its_answers_is_stopped(what: str) -> None:
    router = acceptor()
    one = encode_openers_frame([(CHAT, [b"x"]), ("/nobody/1", [b"x"])] * 1000, [], [])
    for turn in range(100):
        if what == "responses":
            asks = [RequestFields(turn * 1000 + number, "/nobody/1", b"", 0) for number in range(1, 1001)]
            one = encode_openers_frame([], asks, [])
        effects = router.handle(DataReceived(1, one), 0.0)
        for effect in effects:
            if isinstance(effect, MessagesReceived):
                router.handle(MessagesHandled(1, effect.first, len(effect.messages), SendOutcome.DELIVERED), 0.0)
        if any(isinstance(effect, LinkViolated) for effect in effects):
            break
    else:
        pytest.fail("answers pile up without bound")


@settings(max_examples=100, deadline=None)
@given(st.lists(st.binary(min_size=1, max_size=60), max_size=5), st.booleans())
def test_no_bytes_raise_anything(bodies: list[bytes], framed: bool) -> None:
    data = b"".join(varint.encode(len(body)) + body if framed else body for body in bodies)
    for router in (acceptor(), opener()):
        effects = feed(router, data, 1 << 20)
        assert sum(isinstance(effect, LinkViolated) for effect in effects) <= 1


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_every_message_gets_exactly_one_outcome(data: st.DataObject) -> None:
    pair = Pair(
        DirectConfig(window=1 << 20), DirectConfig(max_unhandled=1 << 20), piece=data.draw(st.integers(1, 9000))
    )
    pair.tell_bob(ProtocolsChanged((CHAT,), ()))
    sizes = data.draw(st.lists(st.lists(st.integers(0, 400), min_size=1, max_size=12), min_size=1, max_size=8))
    completed: dict[int, int] = {}
    unhandled: list[tuple[int, int]] = []

    def note(alice: list[DirectEffect], bob: list[DirectEffect]) -> None:
        unhandled.extend((e.first, len(e.messages)) for e in bob if isinstance(e, MessagesReceived))
        for effect in alice:
            assert isinstance(effect, SendCompleted)
            assert effect.op not in completed
            completed[effect.op] = 0
            for first, count, _ in effect.outcomes:
                assert first == completed[effect.op]
                completed[effect.op] += count

    for op, batch in enumerate(sizes):
        protocol = data.draw(st.sampled_from([CHAT, "/nobody/1"]))
        pair.tell_alice(SendRequested(op, BOB, protocol, [bytes(size) for size in batch]))
        note(*pair.run())
        if unhandled and data.draw(st.booleans()):
            first, count = unhandled.pop(data.draw(st.integers(0, len(unhandled) - 1)))
            cut = data.draw(st.integers(0, count))
            for low, number in ((first + cut, count - cut), (first, cut)):
                if number:
                    pair.tell_bob(
                        MessagesHandled(
                            1, low, number, data.draw(st.sampled_from([SendOutcome.DELIVERED, SendOutcome.REFUSED]))
                        )
                    )
            note(*pair.run())
    note(*pair.wait(21.0))
    assert completed == {op: len(batch) for op, batch in enumerate(sizes)}


@pytest.mark.parametrize(
    "wrong", [{"max_message": 0}, {"max_message": 1 << 20}, {"window": 1}, {"request_window": 0}, {"idle_timeout": 0.0}]
)
def test_bounds_that_cannot_work_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        DirectConfig(**wrong)
