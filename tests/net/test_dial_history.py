"""Back-off of peers and endpoints, what is kept of it, and the order in which addresses are tried."""

import random
from itertools import pairwise

from sidecar.core.identity import Identity
from sidecar.core.multiaddr import Multiaddr
from sidecar.core.peers import KnownAddress, Origin
from sidecar.core.types import PeerId
from sidecar.net.config import NetConfig
from sidecar.net.dial_history import DialHistory, EndpointTried
from sidecar.net.resolve import Target


def target(host: str = "192.0.2.1", port: int = 1, expected: PeerId | None = None) -> Target:
    return Target(Multiaddr.tcp(host, port), host, port, expected)


def test_back_off_doubles_to_its_bound_and_a_success_ends_it() -> None:
    history = DialHistory(NetConfig(backoff_base=1.0, backoff_max=8.0), random.Random(1))
    waits = []
    for _ in range(6):
        history.failed(target(), 100.0)
        waits.append(history.wait(target(), 100.0))
    for wait, expected in zip(waits, (1, 2, 4, 8, 8, 8), strict=True):
        assert 0.75 * expected <= wait <= 1.25 * expected
    assert history.wait(target(), 111.0) == 0
    assert history.wait(target(expected=PeerId(b"x")), 100.0) == 0
    history.succeeded(target(), 120.0)
    assert history.wait(target(), 120.0) == 0


A_PEER, OTHER_PEER = (Identity(bytes([number]) * 32).peer_id for number in (1, 2))


def stranger(number: int) -> PeerId:
    return Identity(number.to_bytes(32, "big")).peer_id


def test_an_endpoint_where_one_identity_after_the_other_is_not_found_is_dialled_ever_less() -> None:
    history = DialHistory(NetConfig(), random.Random(1))
    dials = []
    for step in range(3600):  # two new ids for it in a second, for half an hour
        now, made_up = step / 2, target(expected=stranger(100 + step))
        if not history.wait(made_up, now):
            history.failed(made_up, now)
            dials.append(now)
    assert 30 <= len(dials) <= 50  # seven while it doubles, then one a minute
    assert max(later - earlier for earlier, later in pairwise(dials)) <= 76


def test_what_strangers_fail_at_holds_neither_the_holder_off_nor_who_is_trusted() -> None:
    history = DialHistory(NetConfig(), random.Random(1))
    for step in range(10):
        history.failed(target(expected=stranger(100 + step)), 100.0, A_PEER)  # it is alive: that one answered
    assert history.holder(target()) == A_PEER
    assert history.wait(target(expected=A_PEER), 100.0) == 0
    assert history.wait(target(), 100.0) == 0
    assert history.wait(target(port=2, expected=OTHER_PEER), 100.0) == 0
    assert history.wait(target(expected=OTHER_PEER), 100.0, trusted=True) == 0
    assert 45 <= history.wait(target(expected=OTHER_PEER), 100.0) <= 75  # one that has moved there is tried after that
    history.failed(target(expected=OTHER_PEER), 200.0)
    assert history.wait(target(expected=OTHER_PEER), 200.0, trusted=True) >= 0.75  # its own failure
    history.succeeded(target(expected=OTHER_PEER), 300.0)
    assert history.holder(target()) == OTHER_PEER
    assert history.wait(target(expected=stranger(999)), 300.0) == 0
    history.failed(target(expected=stranger(998)), 300.0, OTHER_PEER)
    assert history.wait(target(expected=stranger(999)), 300.0) <= 1.25  # it counts from one again


def test_failures_of_an_endpoint_long_ago_do_not_count() -> None:
    history = DialHistory(NetConfig(backoff_max=100.0), random.Random(1))
    for step in range(10):
        history.failed(target(expected=stranger(100 + step)), 0.0)
    history.failed(target(expected=stranger(200)), 1000.0)
    assert history.wait(target(expected=A_PEER), 1000.0) <= 1.25


def test_what_is_kept_of_endpoints_makes_the_same_waits_after_a_restart_under_any_clock() -> None:
    news: list[EndpointTried] = []
    history = DialHistory(NetConfig(), random.Random(1), news.append)
    for step in range(4):
        history.failed(target(expected=stranger(100 + step)), 1000.0, A_PEER)
    history.succeeded(target("192.0.2.2", expected=A_PEER), 1000.0)
    history.succeeded(target("192.0.2.2", expected=A_PEER), 1001.0)  # nothing new
    assert [(tried.endpoint.failures, tried.failed) for tried in news] == [
        *((step + 1, stranger(100 + step)) for step in range(4)),
        (0, None),
    ]
    kept = {tried.endpoint[:3]: tried.endpoint for tried in news}
    for start in (0.0, 5.0, 1e9):
        again = DialHistory(NetConfig(), random.Random(2))
        again.restore(kept.values(), start)
        assert 6 <= again.wait(target(expected=stranger(300)), start) <= 10
        assert again.wait(target(expected=A_PEER), start) == 0
        assert again.wait(target("192.0.2.2", expected=stranger(300)), start) == 0
        assert again.holder(target("192.0.2.2")) == A_PEER


def test_identities_remembered_at_one_endpoint_are_bounded_and_its_holder_stays() -> None:
    history = DialHistory(NetConfig(), random.Random(1))
    history.succeeded(target(expected=A_PEER), 1.0)
    for step in range(100):
        history.failed(target(expected=stranger(100 + step)), 2.0)
    (endpoint,) = history._endpoints.values()
    assert len(endpoint.records) <= 8
    assert history.order([target(port=2, expected=A_PEER), target(expected=A_PEER)])[0].port == 1


def test_addresses_are_tried_in_a_sensible_order_and_few_are_remembered() -> None:
    history = DialHistory(NetConfig(max_endpoints=3), random.Random(1))
    public, private, loopback, once, lately = (
        target(host) for host in ("203.0.114.9", "10.0.0.1", "::1", "198.51.1.1", "198.51.1.2")
    )
    history.succeeded(once, 1.0)
    history.succeeded(lately, 2.0)
    assert history.order([public, private, once, loopback, lately]) == [lately, once, loopback, private, public]
    for port in range(10):
        history.failed(target(port=port), 0.0)
    assert len(history) == 3


def websocket(host: str) -> Target:
    return Target(Multiaddr.tcp(host, 1, "/ws"), host, 1, A_PEER)


def test_ipv6_and_ipv4_take_turns_and_websocket_and_relays_come_behind() -> None:
    history = DialHistory(NetConfig(), random.Random(1))
    four = [target(f"203.0.114.{number}", expected=A_PEER) for number in (1, 2, 3)]
    six = [target(f"2a00:db8::{number}", expected=A_PEER) for number in (1, 2)]
    web = [websocket("203.0.114.9"), websocket("2a00:db8::9")]
    relay = Multiaddr.tcp("203.0.114.8", 1).with_peer(OTHER_PEER)
    behind = Target(Multiaddr.from_text(f"{relay}/p2p-circuit"), "there", 0, A_PEER, relay)
    found = history.order([behind, *web, *four, *six])
    assert found == [six[0], four[0], six[1], four[1], four[2], web[1], web[0], behind]


def test_what_the_core_knows_of_an_earlier_run_counts_until_this_one_knows_more() -> None:
    history = DialHistory(NetConfig(), random.Random(1))
    worked, failed, new = (target(port=port, expected=A_PEER) for port in (1, 2, 3))
    known = [
        KnownAddress(worked.address, Origin.RECORD, succeeded_at=-5.0),
        KnownAddress(failed.address, Origin.RECORD, failed_at=-5.0),
    ]
    assert history.order([failed, new, worked], known) == [worked, new, failed]
    history.succeeded(new, 1.0)
    assert history.order([failed, worked, new], known) == [new, worked, failed]
    history.succeeded(failed, 2.0)
    assert history.order([worked, new, failed], known) == [failed, new, worked]
    history.failed(failed, 3.0)
    assert history.order([failed, worked, new], known) == [new, worked, failed]
