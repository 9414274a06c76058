"""Sessions of backfill between nodes that mean well: each gets what it lacks, and knows when that is all."""

from itertools import pairwise

import pytest
from history_mesh import CONFIG, TOPIC, Mesh, MeshNode, ScriptedPeer, configured, message

from sidecar.core import history
from sidecar.core.history.messages import Done, Nudge, Open, Opened, Reason, Reconcile, SessionRefused


@pytest.mark.parametrize("chunk", [0, 1, 7])
def test_two_nodes_get_what_each_of_them_lacks_whatever_the_pieces_are(chunk: int) -> None:
    mesh = Mesh(chunk)
    one, other = MeshNode(mesh, 1, messages=range(100)), MeshNode(mesh, 2, messages=range(50, 200))
    mesh.connect(one, other)
    mesh.run(20)
    assert one.has == other.has == {message(number) for number in range(200)}
    assert sorted(one.history_delivered) == sorted(message(number) for number in range(100, 200))
    assert one.violations == other.violations == []
    assert one.idle
    assert other.idle


def test_a_node_that_comes_late_gets_all_that_is_kept_within_seconds() -> None:
    mesh = Mesh()
    nodes = [MeshNode(mesh, number, messages=range(9000)) for number in (1, 2)]
    late = MeshNode(mesh, 3)
    mesh.connect(*nodes, late)
    mesh.run(3)
    assert late.has == nodes[0].has
    assert len(late.history_delivered) == 9000  # each once
    mesh.run(10)
    assert late.router.statistics().topics_complete == 1
    assert late.view.complete_since == pytest.approx(mesh.now - CONFIG.max_age, abs=15)
    assert late.view.complete_until == pytest.approx(mesh.now, abs=15)


def test_what_one_node_got_goes_on_to_those_that_have_no_contact_with_its_source() -> None:
    mesh = Mesh()
    chain = [MeshNode(mesh, number) for number in range(1, 7)]
    for one, other in pairwise(chain):
        mesh.connect(one, other)
    mesh.run(20)
    source = MeshNode(mesh, 9, messages=range(300))
    mesh.connect(source, chain[0])
    mesh.run(5)
    assert [len(node.has) for node in chain] == [300] * 6


def test_nothing_is_asked_of_a_peer_of_bad_score_and_nothing_answered() -> None:
    mesh = Mesh()
    one, other = MeshNode(mesh, 1, messages=range(5)), MeshNode(mesh, 2, messages=range(5, 10))
    one.scores[other.peer] = -1.0
    mesh.connect(one, other)
    mesh.run(10)
    assert len(one.has) == len(other.has) == 5
    assert one.router.statistics().refused["busy"] > 0
    assert sum(one.router.statistics().asked.values()) == 0


def test_what_is_young_is_left_to_gossip_and_what_was_said_just_before_a_peer_came_is_got_once_it_is_not() -> None:
    mesh = Mesh()
    config = configured(settle=2.0)
    one, other = MeshNode(mesh, 1, config), MeshNode(mesh, 2, config)
    other.keep(range(5), age=0.0)
    mesh.connect(one, other)
    mesh.run(1.5)
    assert one.has == set()
    mesh.run(1.0)
    assert one.has == other.has


def test_more_than_one_session_compares_is_compared_piece_by_piece() -> None:
    mesh = Mesh()
    config = configured(max_keys=64)
    one, other = MeshNode(mesh, 1, config), MeshNode(mesh, 2, config)
    for number in range(500):
        other.keep([number], age=10.0 + number)
    mesh.connect(one, other)
    mesh.run(60)
    assert one.has == other.has
    assert len(one.history_delivered) == 500
    assert one.view.complete_since is not None


def test_what_peers_have_no_room_for_is_not_missed_and_not_claimed_to_be_complete() -> None:
    mesh = Mesh()
    small = configured(max_bytes=400)
    nodes = [MeshNode(mesh, 1, small), MeshNode(mesh, 2, small), MeshNode(mesh, 3)]
    for node in nodes[:2]:
        for number in range(200):
            node.keep([number], age=1000.0 - number)
    kept = len(nodes[0].has)
    assert 40 < kept < 80
    mesh.connect(*nodes)
    mesh.run(30)
    assert nodes[2].has == nodes[0].has
    since = nodes[2].view.complete_since
    assert since is not None
    assert since == pytest.approx(mesh.now - 30 - 1000 + 200 - kept, abs=15)


def test_messages_of_other_ages_than_the_others_are_looked_up_before_they_are_asked_for() -> None:
    """A node got them long before, outside of what is compared: that is no difference."""
    mesh = Mesh()
    config = configured(max_age=100.0)
    one, other = MeshNode(mesh, 1, config), MeshNode(mesh, 2, config)
    one.keep(range(10), age=105.0)
    other.keep(range(10), age=95.0)
    mesh.connect(one, other)
    mesh.run(4)
    assert one.history_delivered == []
    assert one.router.statistics().asked["agreed"] > 0
    assert one.view.complete_since is not None


def test_what_this_node_refuses_is_got_once_and_does_not_keep_it_from_being_complete() -> None:
    mesh = Mesh()
    one, other = MeshNode(mesh, 1), MeshNode(mesh, 2, messages=range(20))
    one.refuses = lambda raw: raw.endswith(b"7")
    mesh.connect(one, other)
    mesh.run(20)
    assert len(one.has) == 18
    assert other.router.statistics().sent == 20
    assert one.view.complete_since is not None


def test_complete_is_said_once_two_peers_agree_and_taken_back_when_something_older_is_found() -> None:
    mesh = Mesh()
    nodes = [MeshNode(mesh, number, messages=range(10)) for number in range(1, 4)]
    mesh.connect(*nodes[:2])
    mesh.run(5)
    assert nodes[0].view.complete_since is not None  # by the only peer that there is
    until = nodes[0].view.complete_until
    nodes[2].keep([99], age=1000.0)
    mesh.connect(nodes[0], nodes[2])
    mesh.run(1)
    assert message(99) in nodes[0].has
    found = nodes[0].view.complete_until
    assert found is None or (until is not None and found < until - 900)
    mesh.run(20)
    assert nodes[0].view.complete_until is not None
    assert nodes[0].view.complete_until > mesh.now - 30


def test_peers_that_do_not_keep_the_topic_or_lie_have_no_say_in_whether_it_is_complete() -> None:
    mesh = Mesh()
    one, other = MeshNode(mesh, 1, messages=range(10)), MeshNode(mesh, 2, messages=range(10))
    stranger, liar = MeshNode(mesh, 3), ScriptedPeer(mesh, 4)
    stranger.feed(history.HistoryTopicLeft(TOPIC))
    liar.says = lambda frame: [Done(0, ())]
    mesh.connect(one, other, stranger, liar)
    mesh.run(30)
    assert one.view.complete_since is not None
    assert other.view.complete_since is not None
    assert stranger.router.statistics().refused["topic"] == 2  # each has asked once
    mesh.run(400)
    assert stranger.router.statistics().refused["topic"] == 4


def test_an_empty_peer_is_no_witness() -> None:
    mesh = Mesh()
    one, empty = MeshNode(mesh, 1, messages=range(1000)), ScriptedPeer(mesh, 2)
    empty.says = lambda frame: [Opened(frame.oldest)] if isinstance(frame, Open) else [_nothing()]
    mesh.connect(one, empty)
    mesh.run(10)
    mesh.run(300)
    assert 0 < one.router.statistics().asked["agreed"] < 15  # it is not asked again and again
    assert one.view.complete_since is None


def _nothing() -> "Reconcile":
    return Reconcile(b"\x61\x00\x00\x02\x00")


# ---------------------------------------------------------------- bounds of what is served


def test_sessions_are_bounded_in_all_and_for_each_peer_and_topic() -> None:
    mesh = Mesh()
    node = MeshNode(mesh, 1, messages=range(5))
    peers = [ScriptedPeer(mesh, number) for number in range(2, 9)]
    begin = Open(TOPIC, 0, 1_000_000)
    for peer in peers:
        peer.ask(node, begin)
    mesh.run(0.1)
    heard = [peer.heard for peer in peers]
    assert heard.count([Opened(1_000_000)]) == CONFIG.serving
    refused = [frame for frames in heard for frame in frames if isinstance(frame, SessionRefused)]
    assert [frame.reason for frame in refused] == [Reason.BUSY] * 3
    assert all(500 <= frame.retry_after <= 1500 for frame in refused)
    served = next(peer for peer in peers if peer.heard == [Opened(1_000_000)])
    served.ask(node, begin)
    served.ask(node, Open("other", 0, 1000))
    mesh.run(0.1)
    assert sorted(frame.reason for frame in served.heard if isinstance(frame, SessionRefused)) == [
        Reason.BUSY,
        Reason.TOPIC,
    ]
    assert node.charged[served.peer] > 0
    mesh.run(200)  # they say nothing more
    assert node.idle


def test_a_peer_gets_so_many_bytes_a_second() -> None:
    mesh = Mesh()
    config = configured(serving_rate_per_peer=1000.0, window=100)
    one, other = MeshNode(mesh, 1), MeshNode(mesh, 2, config, messages=range(400))
    size = sum(len(raw) + 16 for raw in other.has)
    mesh.connect(one, other)
    mesh.run(size / 1000 / 2)
    assert 1000 < other.router.statistics().sent_bytes < size * 0.8
    mesh.run(40)
    assert one.has == other.has


def test_a_peer_whose_disk_refuses_says_so_and_is_asked_again() -> None:
    mesh = Mesh()
    one, other = MeshNode(mesh, 1), MeshNode(mesh, 2, messages=range(5))
    other.store.failing = True
    mesh.connect(one, other)
    mesh.run(5)
    assert other.router.statistics().refused["disk"] > 0
    assert one.has == set()
    other.store.failing = False
    mesh.run(30)
    assert one.has == other.has


def test_a_node_whose_own_disk_refuses_tries_again_later() -> None:
    mesh = Mesh()
    one, other = MeshNode(mesh, 1), MeshNode(mesh, 2, messages=range(5))
    one.store.failing = True
    mesh.connect(one, other)
    mesh.run(5)
    assert 0 < one.router.statistics().asked["failed"] < 20
    one.store.failing = False
    mesh.run(60)
    assert one.has == other.has


# ---------------------------------------------------------------- ends in the middle


def test_a_session_survives_nothing_of_a_peer_that_goes_while_the_store_is_slow() -> None:
    mesh = Mesh()
    one, other = MeshNode(mesh, 1, messages=range(5)), MeshNode(mesh, 2, messages=range(5, 10))
    one.unanswered = []
    mesh.connect(one, other)
    mesh.run(1)
    assert one.unanswered
    waiting, one.unanswered = one.unanswered, None
    mesh.part(one, other)
    for asked in waiting:
        one.answer(asked)
    mesh.run(20)
    assert one.idle
    assert other.idle
    mesh.connect(one, other)
    mesh.run(20)
    assert len(one.has) == len(other.has) == 10


def test_a_topic_that_is_left_takes_its_sessions_with_it() -> None:
    mesh = Mesh()
    one, other = MeshNode(mesh, 1, messages=range(5)), MeshNode(mesh, 2, messages=range(5, 10))
    one.unanswered = []
    mesh.connect(one, other)
    mesh.run(1)
    one.feed(history.HistoryTopicLeft(TOPIC))
    for asked in one.unanswered:
        one.answer(asked)
    mesh.run(30)
    assert one.idle
    assert one.router.statistics().topics == 0
    assert other.router.statistics().asked["refused"] > 0  # the topic has no history there


def test_a_store_that_never_answers_holds_up_nothing_for_ever() -> None:
    mesh = Mesh()
    one, other = MeshNode(mesh, 1, messages=range(5)), MeshNode(mesh, 2, messages=range(5, 10))
    one.unanswered = []
    mesh.connect(one, other)
    mesh.run(1)
    one.unanswered = None
    mesh.run(300)
    assert len(one.has) == len(other.has) == 10


def test_peers_that_nudge_are_asked_and_who_got_something_nudges() -> None:
    mesh = Mesh()
    node, source, witness = MeshNode(mesh, 1), MeshNode(mesh, 2), ScriptedPeer(mesh, 3)
    witness.says = lambda frame: None
    mesh.connect(node, source)
    mesh.run(10)
    mesh.connect(node, witness)
    mesh.run(10)
    source.keep(range(5))
    assert node.has == set()
    asked = ScriptedPeer(mesh, 2)  # it has the same id: what it says comes from the peer that is in the topic
    mesh.parties[source.peer] = source
    asked.ask(node, Nudge([TOPIC, "another"]))
    mesh.run(2)
    assert node.has == source.has
    assert Nudge([TOPIC]) in witness.heard


def test_who_is_offered_what_it_has_by_now_asks_nobody() -> None:
    mesh = Mesh()
    node, peer = MeshNode(mesh, 1, messages=range(5)), ScriptedPeer(mesh, 2)
    peer.says = lambda frame: None
    mesh.connect(node, peer)
    mesh.run(200)
    sessions = peer.sessions
    keys = [history.key_of(message(number)) for number in range(6)]
    peer.ask(node, Open(TOPIC, 0, 1_000_000), Done(5, keys[:5]))
    mesh.run(1)
    assert peer.sessions == sessions
    peer.ask(node, Open(TOPIC, 0, 1_000_000), Done(1, keys[5:]))
    mesh.run(1)
    assert peer.sessions == sessions + 1
