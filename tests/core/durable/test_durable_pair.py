"""Durable messages between two sides, whatever happens between and to them."""

from pathlib import Path

import pytest
from durable_pair import PROTOCOL, Pair

from sidecar.core.durable import Outcome
from sidecar.store.durable import Settles


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return Pair(tmp_path)


def test_what_is_sent_arrives_in_order_and_is_settled_once(pair: Pair) -> None:
    sender, receiver = pair.sides
    receiver.receive()
    assert sender.send(b"a", b"b", b"c") == [1, 2, 3]
    pair.settle_down()
    delivered = receiver.deliver()
    assert [each.data for each in delivered] == [b"a", b"b", b"c"]
    assert [each.sequence for each in delivered] == [1, 2, 3]
    assert receiver.settle(delivered) == []
    pair.settle_down()
    assert [(row.sequence, row.outcome) for row in sender.outcomes()] == [(n, Outcome.DONE) for n in (1, 2, 3)]
    assert sender.store.outbox.count == receiver.store.inbox.count == 0
    assert receiver.deliver() == []
    assert receiver.store.inbox.confirmed(sender.peer)


def test_nobody_is_sent_to_who_has_never_received_the_protocol_and_then_it_comes(pair: Pair) -> None:
    sender, receiver = pair.sides
    sender.send(b"early")
    pair.settle_down()
    assert receiver.store.inbox.count == 0
    receiver.receive()
    pair.settle_down()
    assert [each.data for each in receiver.deliver()] == [b"early"]


def test_a_peer_that_is_away_gets_it_when_it_is_back(pair: Pair) -> None:
    sender, receiver = pair.sides
    receiver.receive()
    pair.reachable = False
    sender.send(b"1", b"2")
    pair.settle_down()
    for _ in range(20):
        pair.pass_time(60.0)
        pair.settle_down()
    pair.reachable = True
    pair.pass_time(301.0)
    pair.settle_down()
    assert [each.data for each in receiver.deliver()] == [b"1", b"2"]


def test_a_rejection_and_its_reason_reach_the_sender_although_it_was_away(pair: Pair) -> None:
    sender, receiver = pair.sides
    receiver.receive()
    sender.send(b"bad")
    pair.settle_down()
    pair.break_links()
    pair.reachable = False
    pair.settle_down()
    receiver.settle(receiver.deliver(), Settles.REJECT, "no such order")
    pair.settle_down()
    receiver.crash()
    pair.reachable = True
    pair.pass_time(301.0)
    pair.settle_down()
    assert [(row.outcome, row.reason) for row in sender.outcomes()] == [(Outcome.REJECTED, "no such order")]


def test_what_is_delivered_too_often_becomes_a_dead_letter_and_can_be_retried(pair: Pair) -> None:
    sender, receiver = pair.sides
    receiver.receive()
    sender.send(b"poison", b"fine")
    pair.settle_down()
    for _ in range(3):
        poison, fine = receiver.deliver(max_deliveries=3)
    assert (poison.data, poison.attempt) == (b"poison", 3)
    receiver.settle([fine])
    assert receiver.deliver(max_deliveries=3) == []
    pair.settle_down()
    outcomes = {row.sequence: row.outcome for row in sender.outcomes()}
    assert outcomes == {1: Outcome.DEAD_LETTER, 2: Outcome.DONE}
    rows, _ = receiver.store.inbox.rows(True, None, None, 0, 10, 100)
    assert rows[0].data == b"poison"
    receiver.store.begin()
    assert receiver.store.inbox.retry([], PROTOCOL) == len(rows)
    receiver.store.commit()
    again = receiver.deliver()
    assert (again[0].data, again[0].attempt, again[0].sequence) == (b"poison", 1, 1)
    assert receiver.settle(again) == []
    pair.settle_down()
    assert {row.sequence: row.outcome for row in sender.outcomes()} == outcomes


def test_what_expires_here_leaves_no_gap_and_order_goes_on(pair: Pair) -> None:
    sender, receiver = pair.sides
    receiver.receive()
    pair.reachable = False
    sender.send(b"long")
    sender.send(b"short", ttl=10.0)
    sender.send(b"last")
    pair.settle_down()
    pair.pass_time(11.0)
    sender.expire()
    assert [(row.sequence, row.outcome) for row in sender.outcomes()] == [(2, Outcome.EXPIRED)]
    pair.reachable = True
    pair.pass_time(301.0)
    pair.settle_down()
    delivered = receiver.deliver()
    assert [(each.sequence, each.data) for each in delivered] == [(1, b"long"), (3, b"last")]
    receiver.settle(delivered)
    pair.settle_down()
    assert sender.store.outbox.count == 0


def test_what_the_receiver_holds_expires_there_and_the_sender_is_told(pair: Pair) -> None:
    sender, receiver = pair.sides
    receiver.receive()
    sender.send(b"short", ttl=10.0)
    pair.settle_down()
    pair.pass_time(11.0)
    sender.expire()
    assert sender.outcomes() == []
    receiver.expire()
    pair.settle_down()
    assert [row.outcome for row in sender.outcomes()] == [Outcome.EXPIRED]
    assert receiver.deliver() == []


def test_a_stale_settlement_changes_nothing(pair: Pair) -> None:
    sender, receiver = pair.sides
    receiver.receive()
    sender.send(b"x")
    pair.settle_down()
    (first,) = receiver.deliver()
    (second,) = receiver.deliver()
    assert receiver.settle([first]) == [first.id]
    assert receiver.settle([second]) == []
    assert receiver.settle([second]) == [second.id]


def test_a_request_id_is_sent_once_also_after_a_restart_and_after_its_outcome(pair: Pair) -> None:
    sender, receiver = pair.sides
    receiver.receive()
    assert sender.send(b"a", b"b", requests=["k", "k"]) == [1, 1]
    sender.crash()
    assert sender.send(b"a", requests=["k"]) == [1]
    pair.settle_down()
    receiver.settle(receiver.deliver())
    pair.settle_down()
    assert [row.outcome for row in sender.outcomes()] == [Outcome.DONE]
    assert sender.send(b"a", requests=["k"]) == [1]
    assert sender.store.outbox.count == 0


def test_a_sender_restored_from_a_copy_begins_anew_and_loses_nothing(pair: Pair, tmp_path: Path) -> None:
    sender, receiver = pair.sides
    receiver.receive()
    sender.send(b"1")
    pair.settle_down()
    receiver.settle(receiver.deliver())
    pair.settle_down()
    sender.store.close()
    copy = sender.path.read_bytes()
    sender.crash_from_closed()
    sender.send(b"2", b"3")
    pair.settle_down()
    assert len(receiver.deliver()) == 2
    sender.store.close()
    for file in sender.path.parent.glob(f"{sender.path.name}*"):
        file.unlink()
    sender.path.write_bytes(copy)
    sender.crash_from_closed()
    sender.send(b"other 2")
    pair.settle_down()
    data = [each.data for each in receiver.deliver()]
    assert data == [b"2", b"3", b"other 2"]
    assert sender.router.conflicts == 1


def test_a_full_disk_stops_nothing_for_ever(pair: Pair) -> None:
    sender, receiver = pair.sides
    receiver.receive()
    receiver.failing = True
    sender.send(b"1", b"2")
    pair.settle_down()
    receiver.failing = False
    pair.pass_time(2.0)
    pair.settle_down()
    assert [each.data for each in receiver.deliver()] == [b"1", b"2"]


@pytest.mark.parametrize("lacks", ["room", "an app"])
def test_a_receiver_that_takes_nothing_for_longer_than_a_link_is_kept_gets_it_in_the_end(
    pair: Pair, lacks: str
) -> None:
    sender, receiver = pair.sides
    if lacks == "room":
        receiver.receive()
        receiver.failing = True
    sender.send(b"1")
    for _ in range(10):
        pair.pass_time(301.0)
        pair.settle_down()
    receiver.failing = False
    if lacks == "an app":
        receiver.receive()
    for _ in range(3):
        pair.pass_time(301.0)
        pair.settle_down()
    assert [each.data for each in receiver.deliver()] == [b"1"]


@pytest.mark.parametrize("seed", range(12))
def test_whatever_breaks_nothing_is_lost_and_nothing_confirmed_comes_again(tmp_path: Path, seed: int) -> None:
    pair = Pair(tmp_path, seed=seed)
    sender, receiver = pair.sides
    rng = pair.rng
    receiver.receive()
    sent: list[bytes] = []
    confirmed: dict[int, None] = {}
    first_seen: list[int] = []
    for _ in range(600):
        match rng.choices(
            ("step", "send", "app", "break", "crash sender", "crash receiver", "cut", "time"),
            (60, 8, 10, 2, 1, 1, 2, 6),
        )[0]:
            case "step":
                pair.step()
            case "send":
                batch = [b"%d" % (len(sent) + index) for index in range(rng.randint(1, 5))]
                sender.send(*batch)
                sent += batch
            case "app":
                delivered = receiver.deliver(rng.randint(1, 8))
                for each in delivered:
                    assert each.sequence not in confirmed
                    if each.sequence not in first_seen:
                        first_seen.append(each.sequence)
                settled = delivered[: rng.randint(0, len(delivered))]
                assert receiver.settle(settled) == []
                confirmed.update(dict.fromkeys(each.sequence for each in settled))
            case "break":
                pair.break_links()
            case "crash sender":
                sender.crash()
            case "crash receiver":
                receiver.crash()
            case "cut":
                pair.reachable = not pair.reachable
            case "time":
                pair.pass_time(rng.choice((0.5, 5.0, 61.0)))
    pair.reachable = True
    for _ in range(10):
        pair.pass_time(301.0)
        pair.settle_down()
        delivered = receiver.deliver(10_000, max_deliveries=10_000)
        first_seen += [each.sequence for each in delivered if each.sequence not in first_seen]
        assert not [each for each in delivered if each.sequence in confirmed]
        receiver.settle(delivered)
        pair.settle_down()
    assert first_seen == list(range(1, len(sent) + 1)), seed
    outcomes = sender.outcomes()
    assert sorted(row.sequence for row in outcomes) == list(range(1, len(sent) + 1))
    assert {row.outcome for row in outcomes} <= {Outcome.DONE}
    assert sender.store.outbox.count == receiver.store.inbox.count == 0
    assert receiver.store.inbox.confirmed(sender.peer)
    assert not sender.violations
    assert not receiver.violations
