"""Peers that lie, in sessions: each lie is bounded, named and charged, and honest peers still make a node complete."""

from collections.abc import Callable, Sequence
from itertools import count

import pytest
from history_mesh import TOPIC, Mesh, MeshNode, ScriptedPeer, configured, message

from sidecar.core import history
from sidecar.core.history import key_of, reconcile
from sidecar.core.history.messages import (
    Bodies,
    Done,
    Frame,
    Nudge,
    Open,
    Opened,
    Reason,
    Reconcile,
    SessionRefused,
    TravellingBody,
    Want,
)
from sidecar.core.history.reconcile import KeySet
from sidecar.core.parameters.history import MAX_NUDGED

BEGIN = Open(TOPIC, 0, 1_000_000)
_NUMBERS = count()
Says = Callable[[Frame], Sequence[Frame] | None]


def claiming(keys: Sequence[bytes], bodies: Says) -> Says:
    """A peer that reconciles in order, with these keys, and says `bodies` to a Want."""
    own = KeySet(sorted(keys))

    def says(frame: Frame) -> Sequence[Frame] | None:
        match frame:
            case Open(_, _, oldest):
                return [Opened(oldest)]
            case Reconcile(told):
                return [Reconcile(reconcile.answer(own, told))]
            case Want():
                return bodies(frame)
            case _:
                return ()

    return says


def wanted(frame: Frame) -> Want:
    assert isinstance(frame, Want)
    return frame


def forged(frame: Frame) -> Sequence[Frame]:
    return [Bodies([TravellingBody(b"forged", 1000, 0)]), Bodies((), len(wanted(frame).keys))]


def other_bodies(frame: Frame) -> Sequence[Frame]:
    """Valid messages, but not those of the keys."""
    return [Bodies([TravellingBody(message(777), 1000, 0)]), Bodies((), len(wanted(frame).keys))]


def unasked(frame: Frame) -> Sequence[Frame]:
    return [Bodies([TravellingBody(message(1), 1000, 99)])]


def repeated(frame: Frame) -> Sequence[Frame]:
    return [Bodies([TravellingBody(message(1), 1000, 0)] * 2)]


def too_many_settled(frame: Frame) -> Sequence[Frame]:
    return [Bodies((), 1000)]


def endless(frame: Frame) -> Sequence[Frame]:
    """Of all keys always another fingerprint."""
    match frame:
        case Open(_, _, oldest):
            return [Opened(oldest)]
        case Reconcile(told):
            return [Reconcile(b"\x61\x00\x00\x01" + key_of(told)[:16])]
        case _:
            return ()


def huge(frame: Frame) -> Sequence[Frame]:
    """Ever more keys."""
    match frame:
        case Open(_, _, oldest):
            return [Opened(oldest)]
        case Reconcile(told):
            keys = sorted(key_of(told + b"%d" % next(_NUMBERS)) for _ in range(1000))
            middle = b"\x01\x01\xff"
            keys = [key for key in keys if key < b"\xff"]
            rest = b"\x00\x00\x01" + bytes(16)
            length = bytes((len(keys) >> 7 | 0x80, len(keys) & 0x7F))
            return [Reconcile(b"\x61" + middle + b"\x02" + length + b"".join(keys) + rest)]
        case _:
            return ()


@pytest.mark.parametrize(
    ("says", "told"),
    [
        (claiming([key_of(message(1))], forged), "not valid"),
        (claiming([key_of(message(1))], other_bodies), "not valid"),
        (claiming([key_of(message(1))], unasked), "not asked for"),
        (claiming([key_of(message(1))], repeated), "not asked for"),
        (claiming([key_of(message(1))], too_many_settled), "1000 of 1 keys"),
        (endless, "messages of one reconciliation"),
        (huge, "keys in one session"),
        (lambda frame: [Opened(10**12)], "asked were"),
        (lambda frame: [Want([bytes(32)])], "Want out of place"),
        (lambda frame: [Opened(1000), Opened(1000)], "Opened out of place"),
    ],
)
def test_a_lie_ends_the_session_and_the_liar_is_left_alone(says: Says, told: str) -> None:
    mesh = Mesh()
    config = configured(max_keys=20_000)
    node, liar = MeshNode(mesh, 1, config), ScriptedPeer(mesh, 2)
    liar.says = says
    mesh.connect(node, liar)
    mesh.run(25)
    assert [(peer, told in text) for peer, text in node.violations] == [(liar.peer, True)]
    assert liar.sessions == 1  # for half a minute
    mesh.run(40)
    assert liar.sessions == 2
    mesh.run(100)
    assert liar.sessions == 3  # the pause doubles
    honest = MeshNode(mesh, 3, config, messages=range(100))
    mesh.connect(node, honest)
    mesh.run(5)
    assert node.has == honest.has
    mesh.run(10)
    assert node.idle


def test_keys_without_messages_are_counted_and_no_agreement() -> None:
    mesh = Mesh()
    node, liar, honest = MeshNode(mesh, 1), ScriptedPeer(mesh, 2), MeshNode(mesh, 3, messages=range(10))
    keys = [key_of(message(number)) for number in range(5000)]
    liar.says = claiming(keys, lambda frame: [Bodies((), len(wanted(frame).keys))])
    mesh.connect(node, liar)
    mesh.run(20)
    statistics = node.router.statistics()
    assert statistics.gone == 5000
    assert statistics.asked["partial"] == liar.sessions == 1
    assert node.view.complete_since is None
    mesh.connect(node, honest)
    mesh.run(5)
    assert node.has == honest.has


@pytest.mark.parametrize("silent_after", [Open, Reconcile, Want])
def test_silent_peers_hold_up_others_for_seconds_at_most(silent_after: type) -> None:
    mesh = Mesh()
    node = MeshNode(mesh, 1)
    silent = [ScriptedPeer(mesh, number) for number in range(2, 5)]
    for peer in silent:
        answers = claiming([key_of(message(1))], lambda frame: ())
        peer.says = lambda frame, answers=answers: () if isinstance(frame, silent_after) else answers(frame)
    mesh.connect(node, *silent)
    mesh.run(1)
    honest = MeshNode(mesh, 9, messages=range(50))
    mesh.connect(node, honest)
    mesh.run(31)
    assert node.has == honest.has
    assert len(node.router._shared.sessions) <= 3


def test_a_peer_that_trickles_holds_up_nobody_for_longer_than_a_session_may_take() -> None:
    mesh = Mesh()
    node, trickling = MeshNode(mesh, 1), ScriptedPeer(mesh, 2)
    keys = [key_of(message(number)) for number in range(1000)]

    def slowly(frame: Frame) -> Sequence[Frame]:
        told = Bodies((), 1)
        mesh.later(14.0, lambda: [trickling.say(link, told) for link in trickling._decoders])  # type: ignore[func-returns-value]
        return ()

    trickling.says = claiming(keys, slowly)
    mesh.connect(node, trickling)
    mesh.run(85)
    assert node.idle
    assert trickling.sessions == 1  # and then it is left alone


def test_nudges_by_the_thousand_cost_few_sessions_and_are_charged() -> None:
    mesh = Mesh()
    node, liar = MeshNode(mesh, 1, messages=range(10)), ScriptedPeer(mesh, 2)
    liar.says = claiming([key_of(message(number)) for number in range(10)], forged)
    mesh.connect(node, liar)
    mesh.run(10)
    before = liar.sessions
    for _ in range(3000):
        liar.ask(node, Nudge([TOPIC] * MAX_NUDGED))
        mesh.run(0.01)
    assert liar.sessions - before < 10  # in 30 s
    assert node.router.statistics().nudges_ignored > 2900
    assert node.charged[liar.peer] > 2900 * 4
    mesh.run(20)
    assert node.idle


@pytest.mark.parametrize(
    "frames",
    [
        [Want([bytes(32)])],
        [Reconcile(b"\x61")],
        [Done(0, ())],
        [Opened(1000)],
        [BEGIN, BEGIN],
        [BEGIN, Nudge([TOPIC])],
        [BEGIN, Want([bytes(32)])],  # before it was answered
    ],
)
def test_frames_out_of_place_end_the_asked_side(frames: Sequence[Frame]) -> None:
    mesh = Mesh()
    node, peer = MeshNode(mesh, 1), ScriptedPeer(mesh, 2)
    peer.ask(node, *frames)
    mesh.run(0.015)
    assert [who for who, _ in node.violations] == [peer.peer]
    mesh.run(1)
    assert node.idle


def test_a_second_want_before_the_first_is_answered_ends_it() -> None:
    mesh = Mesh()
    node, peer = MeshNode(mesh, 1, messages=range(10)), ScriptedPeer(mesh, 2)
    want = Want([key_of(message(1))])
    link = peer.ask(node, BEGIN)
    mesh.run(0.1)
    peer.say(link, want, want)
    mesh.run(0.1)
    assert [text for _, text in node.violations] == ["Want out of place"]


def test_rounds_are_bounded_at_the_asked_side_too() -> None:
    mesh = Mesh()
    node, peer = MeshNode(mesh, 1, configured(max_rounds=10), messages=range(100)), ScriptedPeer(mesh, 2)
    link = peer.ask(node, BEGIN)
    mesh.run(0.1)
    peer.say(link, *[Reconcile(b"\x61\x00\x00\x01" + bytes(16))] * 11)
    mesh.run(1)
    assert ["messages of one reconciliation" in text for _, text in node.violations] == [True]


def test_streams_of_one_peer_are_bounded() -> None:
    mesh = Mesh()
    node, peer = MeshNode(mesh, 1), ScriptedPeer(mesh, 2)
    for _ in range(100):
        peer.ask(node)
    mesh.run(1)
    assert len(node.router._shared.sessions) == 4
    assert len(node.violations) == 96
    mesh.run(60)  # and those that say nothing end
    assert node.idle


def test_sessions_one_after_the_other_are_refused_when_they_are_too_many() -> None:
    mesh = Mesh()
    node, peer = MeshNode(mesh, 1, messages=range(10)), ScriptedPeer(mesh, 2)
    for _ in range(100):
        peer.ask(
            node,
            BEGIN,
        )
        mesh.run(0.03)
        for link in list(mesh._ends):
            mesh.close(link)
    refused = [frame for frame in peer.heard if isinstance(frame, SessionRefused)]
    assert 60 < len(refused) < 90
    assert {frame.reason for frame in refused} == {Reason.BUSY}
    assert node.charged[peer.peer] >= 20 * len(refused)


def test_keys_are_loaded_for_others_at_a_rate() -> None:
    mesh = Mesh()
    node = MeshNode(mesh, 1)
    node.store.answer = lambda asked, now: history.HistoryKeysLoaded(  # type: ignore[method-assign, assignment]
        asked.session, [number.to_bytes(32, "big") for number in range(120_000)], 1000.0
    )
    peers = [ScriptedPeer(mesh, number) for number in range(2, 30)]
    for number, peer in enumerate(peers):
        link = peer.ask(node, Open(TOPIC, number, 1_000_000))  # no two ask for the same
        mesh.run(0.05)
        peer.say(link, Done(0, ()))
        mesh.run(0.01)
    served = [peer for peer in peers if any(isinstance(frame, Opened) for frame in peer.heard)]
    assert 9 <= len(served) <= 13
    mesh.run(60)
    assert node.idle


def test_offers_that_are_not_true_lead_to_a_session_that_finds_it_out() -> None:
    mesh = Mesh()
    node, liar = MeshNode(mesh, 1, messages=range(10)), ScriptedPeer(mesh, 2)
    own = [key_of(message(number)) for number in range(10)]
    liar.says = claiming(own, forged)
    mesh.connect(node, liar)
    mesh.run(10)
    before = liar.sessions
    for number in range(30):
        liar.ask(node, BEGIN, Done(1, [key_of(b"made up %d" % number)]))
        mesh.run(1)
    assert 0 < liar.sessions - before <= 31
    assert node.view.complete_since is not None


def test_answers_of_the_store_to_sessions_that_are_over_are_ignored() -> None:
    mesh = Mesh()
    node = MeshNode(mesh, 1)
    for answer in (
        history.HistoryKeysLoaded(99, [bytes(32)], 10.0),
        history.HistoryKeysFound(99, [bytes(32)]),
        history.HistoryBodiesLoaded(99, ()),
        history.HistoryLinkFailed(99, ValueError()),  # type: ignore[arg-type]
        history.BroughtJudged(99, 5),
        history.HistoryLinkClosed(99),
        history.HistoryDataReceived(99, b"x"),
    ):
        node.feed(answer)
    assert node.router.statistics().brought == 0
    node.feed(history.HistoryLinkOpened(99, 7))  # it was asked for, and is not wanted any more
    assert node.idle
