"""Who may come in: counts, rates, bounds, suspects."""

from typing import Any

import pytest

from sidecar.core.errors import InvalidArgument
from sidecar.net.admission import SUSPECT_RATE, SUSPECT_TIME, Admission
from sidecar.net.config import NetConfig

A, B = "192.0.2.1", "192.0.2.2"


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
    assert admission.refuse_inbound("192.0.2.3", 0.0) == "2 connections from one network"
    assert admission.refuse_inbound("192.0.3.3", 0.0) is None
    admission.release_inbound(A)
    assert admission.refuse_inbound("192.0.2.3", 0.0) is None


def test_one_address_and_one_network_come_in_at_a_bounded_rate() -> None:
    config = NetConfig(accept_rate_per_address=3, accept_rate_per_network=5, max_per_address=1000, max_per_network=1000)
    admission = Admission(config, 0.0)
    assert [admission.refuse_inbound(A, 0.0) is None for _ in range(5)] == [True, True, True, False, False]
    assert admission.refuse_inbound(A, 0.0) == "more than 3 connections a second from one address"
    assert [admission.refuse_inbound(B, 0.0) is None for _ in range(3)] == [True, True, False]
    assert admission.refuse_inbound(B, 0.0) == "more than 5 connections a second from one network"
    assert admission.refuse_inbound("198.51.100.1", 0.0) is None
    assert admission.refuse_inbound(A, 0.4) is None
    assert [admission.refuse_inbound("127.0.0.1", 0.0) for _ in range(50)] == [None] * 50
    assert (admission.refused["address_rate"], admission.refused["network_rate"]) == (3, 2)
    assert admission.refused.total() == 5


def test_the_rates_of_many_places_are_a_bounded_memory() -> None:
    many = 10**6
    admission = Admission(NetConfig(accept_rate=many, accept_burst=many, max_connections=many, max_half_open=many), 0.0)
    for number in range(20_000):
        admission.refuse_inbound(f"{20 + number // 10_000}.{number // 100 % 100}.{number % 100}.1", 0.0)
    assert len(admission._address_rates._buckets) <= 4096


def test_exempt_networks_may_hold_any_number() -> None:
    config = NetConfig(max_per_address=2, max_per_network=2)
    admission = Admission(config, 0.0)
    for host in ("127.0.0.1", "10.1.2.3", "172.17.0.1", "fd00::1", "::ffff:192.168.0.1"):
        assert [admission.refuse_inbound(host, 0.0) for _ in range(3)] == [None] * 3
    for _ in range(3):  # what was let in is given back as any other
        admission.handshake_over("10.1.2.3")
        admission.release_inbound("10.1.2.3")
    assert [admission.refuse_inbound("192.0.2.1", 0.0) for _ in range(3)] == [
        None, None, "2 connections from one address",
    ]  # fmt: skip
    strict = Admission(NetConfig(max_per_address=2, exempt_networks=()), 0.0)
    assert [strict.refuse_inbound("127.0.0.1", 0.0) is None for _ in range(3)] == [True, True, False]


def test_handshakes_of_one_exempt_address_are_bounded_as_all_are() -> None:
    admission = Admission(NetConfig(max_half_open_per_address=1), 0.0)
    assert admission.refuse_inbound("127.0.0.1", 0.0) is None
    assert "handshake from one address" in (admission.refuse_inbound("127.0.0.1", 0.0) or "")


def test_an_address_that_a_banned_peer_came_from_is_let_in_now_and_then() -> None:
    admission = Admission(NetConfig(accept_rate=1000, accept_burst=1000, max_per_address=10_000), 0.0)
    assert admission.refuse_inbound(A, 0.0) is None
    admission.handshake_over(A)
    admission.suspects.add(A, 0.0)
    let_in = 0
    for tick in range(10_000):  # ten seconds, a thousand tries each
        refusal = admission.refuse_inbound(A, tick / 1000)
        if refusal is None:
            let_in += 1
            admission.handshake_over(A)
            admission.suspects.add(A, tick / 1000)
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
