"""The small parts of the driver: admission, back-off, order of addresses, timers, repeated warnings."""

import random
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from sidecar.core.errors import DialBackoff, DialTimeout, InvalidArgument, SidecarError, WrongPeer
from sidecar.core.events import Dial
from sidecar.core.identity import Identity
from sidecar.core.multiaddr import Multiaddr
from sidecar.core.types import PeerId
from sidecar.net.addresses import DialHistory, PlaceTried
from sidecar.net.alarm import Alarm
from sidecar.net.config import NetConfig
from sidecar.net.limits import SUSPECT_RATE, SUSPECT_TIME, Admission, Origin
from sidecar.net.race import Race
from sidecar.net.resolve import Target

A, B = Origin.of("192.0.2.1"), Origin.of("192.0.2.2")


def target(host: str = "192.0.2.1", port: int = 1, expected: PeerId | None = None) -> Target:
    return Target(Multiaddr.tcp(host, port), host, port, expected)


def test_one_address_is_an_ipv4_address_or_an_ipv6_network() -> None:
    assert A.address != B.address
    assert A.network == B.network != Origin.of("192.0.3.1").network
    one, other = Origin.of("2001:db8::1"), Origin.of("2001:db8:0:1::1")
    assert one == Origin.of("2001:db8::ffff:2%eth0")
    assert one.address != other.address
    assert one.network == other.network != Origin.of("2001:db8:1::1").network
    assert Origin.of("::ffff:192.0.2.1") == A
    assert Origin.of("0.0.0.1") != Origin.of("::1")  # the same number in another version


def test_admission_counts_and_forgets() -> None:
    config = NetConfig(
        max_connections=5, reserved_outbound=1, max_per_address=3, max_half_open=3, max_half_open_per_address=2
    )
    admission = Admission(config, 0.0)
    assert admission.refuse_inbound(A, 0.0) is None
    assert admission.refuse_inbound(A, 0.0) is None
    assert "handshake from one address" in (admission.refuse_inbound(A, 0.0) or "")
    assert admission.refuse_inbound(B, 0.0) is None
    assert admission.refuse_inbound(B, 0.0) == "3 connections in their handshake"
    admission.handshake_over(A)
    admission.handshake_over(A)
    assert admission.refuse_inbound(A, 0.0) is None
    assert "4 connections, at most 4" in (admission.refuse_inbound(B, 0.0) or "")
    assert admission.refuse_outbound() is None  # its own place
    assert admission.refuse_outbound() == "5 connections, at most 5"
    admission.release_outbound()
    admission.release_inbound(A)
    admission.handshake_over(A)
    assert admission.refuse_inbound(A, 0.0) is None
    admission.release_inbound(B)
    admission.handshake_over(B)
    assert admission.refuse_inbound(A, 0.0) == "3 connections from one address"
    for _ in range(3):
        admission.release_inbound(A)
    admission.handshake_over(A)
    assert (admission.total, admission.half_open) == (0, 0)
    assert not admission._per_address
    assert not admission._per_network
    assert not admission._half_open


def test_a_network_has_a_bound_of_its_own() -> None:
    admission = Admission(NetConfig(max_per_network=2), 0.0)
    assert admission.refuse_inbound(A, 0.0) is None
    assert admission.refuse_inbound(B, 0.0) is None
    assert admission.refuse_inbound(Origin.of("192.0.2.3"), 0.0) == "2 connections from one network"
    assert admission.refuse_inbound(Origin.of("192.0.3.3"), 0.0) is None
    admission.release_inbound(A)
    assert admission.refuse_inbound(Origin.of("192.0.2.3"), 0.0) is None


def test_an_address_that_a_banned_peer_came_from_is_let_in_now_and_then() -> None:
    admission = Admission(NetConfig(accept_rate=1000, accept_burst=1000, max_per_address=10_000), 0.0)
    assert admission.refuse_inbound(A, 0.0) is None
    admission.handshake_over(A)
    admission.suspects.add(A.address, 0.0)
    let_in = 0
    for tick in range(10_000):  # ten seconds, a thousand tries each
        refusal = admission.refuse_inbound(A, tick / 1000)
        if refusal is None:
            let_in += 1
            admission.handshake_over(A)
            admission.suspects.add(A.address, tick / 1000)
        else:
            assert "banned peer" in refusal
    assert let_in <= SUSPECT_RATE * 11
    assert admission.refuse_inbound(B, 10.0) is None  # neither the address beside it nor the bound of all suffers
    tries = [admission.refuse_inbound(A, 10.0 + SUSPECT_TIME) is None for _ in range(20)]
    assert all(tries)  # forgotten


def test_connections_come_in_at_a_bounded_rate() -> None:
    admission = Admission(NetConfig(accept_rate=10, accept_burst=2), 0.0)
    assert [admission.refuse_inbound(A, now) is None for now in (0.0, 0.0, 0.0, 0.05, 0.1, 0.1)] == [
        True, True, False, False, True, False,
    ]  # fmt: skip


@pytest.mark.parametrize("wrong", [{"max_dials": 0}, {"backoff_base": -1.0}, {"reserved_outbound": 1024}])
def test_bounds_that_make_no_sense(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument, match=next(iter(wrong))):
        NetConfig(**wrong)


def test_back_off_doubles_to_its_bound_and_a_success_ends_it() -> None:
    book = DialHistory(NetConfig(backoff_base=1.0, backoff_max=8.0), random.Random(1))
    waits = []
    for _ in range(6):
        book.failed(target(), 100.0)
        waits.append(book.wait(target(), 100.0))
    for wait, expected in zip(waits, (1, 2, 4, 8, 8, 8), strict=True):
        assert 0.75 * expected <= wait <= 1.25 * expected
    assert book.wait(target(), 111.0) == 0
    assert book.wait(target(expected=PeerId(b"x")), 100.0) == 0
    book.succeeded(target(), 120.0)
    assert book.wait(target(), 120.0) == 0


A_PEER, OTHER_PEER = (Identity(bytes([number]) * 32).peer_id for number in (1, 2))


def stranger(number: int) -> PeerId:
    return Identity(number.to_bytes(32, "big")).peer_id


def test_a_place_where_one_identity_after_the_other_is_not_found_is_dialled_ever_less() -> None:
    book = DialHistory(NetConfig(), random.Random(1))
    dials = []
    for step in range(3600):  # two new ids for it in a second, for half an hour
        now, made_up = step / 2, target(expected=stranger(100 + step))
        if not book.wait(made_up, now):
            book.failed(made_up, now)
            dials.append(now)
    assert 30 <= len(dials) <= 50  # seven while it doubles, then one a minute
    assert max(later - earlier for earlier, later in pairwise(dials)) <= 76


def test_what_strangers_fail_at_holds_neither_the_holder_off_nor_who_is_trusted() -> None:
    book = DialHistory(NetConfig(), random.Random(1))
    for step in range(10):
        book.failed(target(expected=stranger(100 + step)), 100.0, A_PEER)  # it is alive: that one answered
    assert book.holder(target()) == A_PEER
    assert book.wait(target(expected=A_PEER), 100.0) == 0
    assert book.wait(target(), 100.0) == 0
    assert book.wait(target(port=2, expected=OTHER_PEER), 100.0) == 0
    assert book.wait(target(expected=OTHER_PEER), 100.0, trusted=True) == 0
    assert 45 <= book.wait(target(expected=OTHER_PEER), 100.0) <= 75  # one that has moved there is tried after that
    book.failed(target(expected=OTHER_PEER), 200.0)
    assert book.wait(target(expected=OTHER_PEER), 200.0, trusted=True) >= 0.75  # its own failure
    book.succeeded(target(expected=OTHER_PEER), 300.0)
    assert book.holder(target()) == OTHER_PEER
    assert book.wait(target(expected=stranger(999)), 300.0) == 0
    book.failed(target(expected=stranger(998)), 300.0, OTHER_PEER)
    assert book.wait(target(expected=stranger(999)), 300.0) <= 1.25  # it counts from one again


def test_failures_of_a_place_long_ago_do_not_count() -> None:
    book = DialHistory(NetConfig(backoff_max=100.0), random.Random(1))
    for step in range(10):
        book.failed(target(expected=stranger(100 + step)), 0.0)
    book.failed(target(expected=stranger(200)), 1000.0)
    assert book.wait(target(expected=A_PEER), 1000.0) <= 1.25


def test_what_is_kept_of_places_makes_the_same_waits_after_a_restart_under_any_clock() -> None:
    news: list[PlaceTried] = []
    book = DialHistory(NetConfig(), random.Random(1), news.append)
    for step in range(4):
        book.failed(target(expected=stranger(100 + step)), 1000.0, A_PEER)
    book.succeeded(target("192.0.2.2", expected=A_PEER), 1000.0)
    book.succeeded(target("192.0.2.2", expected=A_PEER), 1001.0)  # nothing new
    assert [(tried.place.failures, tried.failed) for tried in news] == [
        *((step + 1, stranger(100 + step)) for step in range(4)),
        (0, None),
    ]
    kept = {tried.place[:3]: tried.place for tried in news}
    for start in (0.0, 5.0, 1e9):
        again = DialHistory(NetConfig(), random.Random(2))
        again.restore(kept.values(), start)
        assert 6 <= again.wait(target(expected=stranger(300)), start) <= 10
        assert again.wait(target(expected=A_PEER), start) == 0
        assert again.wait(target("192.0.2.2", expected=stranger(300)), start) == 0
        assert again.holder(target("192.0.2.2")) == A_PEER


def test_identities_remembered_at_one_place_are_bounded_and_its_holder_stays() -> None:
    book = DialHistory(NetConfig(), random.Random(1))
    book.succeeded(target(expected=A_PEER), 1.0)
    for step in range(100):
        book.failed(target(expected=stranger(100 + step)), 2.0)
    (place,) = book._places.values()
    assert len(place.records) <= 8
    assert book.order([target(port=2, expected=A_PEER), target(expected=A_PEER)])[0].port == 1


def test_addresses_are_tried_in_a_sensible_order_and_few_are_remembered() -> None:
    book = DialHistory(NetConfig(address_entries=3), random.Random(1))
    public, private, loopback, once, lately = (
        target(host) for host in ("203.0.114.9", "10.0.0.1", "::1", "198.51.1.1", "198.51.1.2")
    )
    book.succeeded(once, 1.0)
    book.succeeded(lately, 2.0)
    assert book.order([public, private, once, loopback, lately]) == [lately, once, loopback, private, public]
    for port in range(10):
        book.failed(target(port=port), 0.0)
    assert len(book) == 3


def test_a_race_remembers_what_tells_most() -> None:
    race = Race(Dial(1, None, ()))
    for error in (DialBackoff("a"), WrongPeer("b"), DialTimeout("c"), SidecarError("d")):
        race.failed(error)
    assert str(race.error) == "b"


class Clock:
    """As much of an event loop and of `time` as an alarm needs."""

    def __init__(self) -> None:
        self.now = 0.0
        self.timers: list[tuple[float, Callable[[], None]]] = []

    def time(self) -> float:
        return self.now

    def call_at(self, due: float, callback: Callable[[], None]) -> "Clock":
        self.timers.append((due, callback))
        return self

    def cancel(self) -> None:
        self.timers.pop()

    def fire(self, now: float) -> None:
        self.now = now
        self.timers.pop()[1]()


def test_an_alarm_keeps_one_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr("sidecar.net.alarm.monotonic", clock.time)
    due: float | None = None
    fired: list[float] = []
    loop: Any = clock
    alarm = Alarm(loop, lambda: due, fired.append)
    alarm.arm()
    assert not clock.timers
    due = 5.0
    alarm.arm()
    due = 9.0
    alarm.arm()  # later: the timer stays, and looks again when it fires
    assert [when for when, _ in clock.timers] == [5.0]
    due = 3.0
    alarm.arm()
    assert [when for when, _ in clock.timers] == [3.0]
    due = 4.0
    clock.fire(3.0)
    assert (fired, [when for when, _ in clock.timers]) == ([], [4.0])
    clock.fire(3.9996)  # uvloop is early
    assert fired == [4.0]
    alarm.cancel()
    assert not clock.timers
