"""Whom an address belongs to, and from where it can be reached."""

import pytest

from sidecar.core.multiaddr import Multiaddr
from sidecar.core.networks import LOCAL_NETWORKS, AddressGroup, Grouping, Network, Scope, in_one_lan


def at(host: str, rest: str = "/tcp/4747") -> Multiaddr:
    return Multiaddr.from_text(f"/{'ip6' if ':' in host else 'ip4'}/{host}{rest}")


def test_a_group_is_an_ipv4_address_or_an_ipv6_network() -> None:
    one, neighbour = AddressGroup.of("192.0.2.1"), AddressGroup.of("192.0.2.2")
    assert one.address != neighbour.address
    assert one.network == neighbour.network != AddressGroup.of("192.0.3.1").network
    one, other = AddressGroup.of("2001:db8::1"), AddressGroup.of("2001:db8:0:1::1")
    assert one == AddressGroup.of("2001:db8::ffff:2%eth0")
    assert one.address != other.address
    assert one.network == other.network != AddressGroup.of("2001:db8:1::1").network
    assert AddressGroup.of("::ffff:192.0.2.1") == AddressGroup.of("192.0.2.1")
    assert AddressGroup.of("0.0.0.1") != AddressGroup.of("::1")  # the same number in another version
    with pytest.raises(ValueError, match="does not appear"):
        AddressGroup.of("example.org")


@pytest.mark.parametrize(
    ("host", "scope"),
    [
        ("127.0.0.1", Scope.LOOPBACK),
        ("127.255.255.254", Scope.LOOPBACK),
        ("0.0.0.0", Scope.LOOPBACK),
        ("::1", Scope.LOOPBACK),
        ("::", Scope.LOOPBACK),
        ("::ffff:127.0.0.1", Scope.LOOPBACK),
        ("169.254.169.254", Scope.LINK),
        ("fe80::1%eth0", Scope.LINK),
        ("10.255.255.255", Scope.PRIVATE),
        ("172.16.0.1", Scope.PRIVATE),
        ("172.31.255.255", Scope.PRIVATE),
        ("192.168.1.1", Scope.PRIVATE),
        ("100.64.0.1", Scope.PRIVATE),
        ("100.127.255.255", Scope.PRIVATE),
        ("fd12:3456::1", Scope.PRIVATE),
        ("::ffff:10.0.0.1", Scope.PRIVATE),
        ("11.0.0.0", Scope.PUBLIC),
        ("172.32.0.0", Scope.PUBLIC),
        ("100.128.0.0", Scope.PUBLIC),
        ("128.0.0.1", Scope.PUBLIC),
        ("::2", Scope.PUBLIC),
        ("fec0::1", Scope.PUBLIC),
        ("2001:db8::1", Scope.PUBLIC),
    ],
)
def test_scopes(host: str, scope: Scope) -> None:
    assert AddressGroup.of(host).scope is scope
    assert Grouping().exempts(host) is (scope is not Scope.PUBLIC)


def test_scopes_name_their_networks() -> None:
    assert Network.from_text("10.0.0.0/8") in Scope.PRIVATE.networks
    assert not Scope.PUBLIC.networks
    assert sum((scope.networks for scope in Scope), ()) == LOCAL_NETWORKS


def test_a_relayed_peer_and_one_behind_a_name_have_no_group() -> None:
    relay = "/p2p/12D3KooWGC6TvWhfapngX6wvJHMYvKpDMXPb3ZnCZ6dMoaMtimQ5/p2p-circuit"
    assert AddressGroup.of_multiaddr(at("192.0.2.1")) == AddressGroup.of("192.0.2.1")
    assert AddressGroup.of_multiaddr(at("192.0.2.1", "/tcp/4747" + relay)) is None
    assert AddressGroup.of_multiaddr(Multiaddr.from_text("/dns4/example.org/tcp/4747")) is None


def test_exempt_networks_are_not_counted() -> None:
    grouping = Grouping()
    assert grouping.of(at("192.0.2.1")) == AddressGroup.of("192.0.2.1")
    assert grouping.of(at("10.0.0.1")) is None
    assert grouping.of(Multiaddr.from_text("/dns4/example.org/tcp/4747")) is None
    assert grouping.of(None) is None
    other = Grouping((Network.from_text("192.0.2.0/24"),))
    assert other.of(at("192.0.2.1")) is None
    assert other.of(at("10.0.0.1")) == AddressGroup.of("10.0.0.1")
    assert Grouping(()).of(at("127.0.0.1")) == AddressGroup.of("127.0.0.1")


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.168.1.2", "192.168.1.250", True),
        ("192.168.1.2", "192.168.2.2", False),
        ("10.1.2.3", "192.168.1.2", False),
        ("fd00:1:2:3::1", "fd00:1:2:3:ffff::9", True),
        ("fd00:1:2:3::1", "fd00:1:2:4::1", False),
        ("198.51.100.1", "198.51.100.2", False),
        ("169.254.1.1", "169.254.1.2", False),
        ("127.0.0.1", "127.0.0.2", False),
    ],
)
def test_one_lan_is_one_small_private_network(one: str, other: str, same: bool) -> None:
    assert in_one_lan(Multiaddr.tcp(one, 1), Multiaddr.tcp(other, 2)) is same


def test_who_is_behind_a_relay_is_in_no_lan() -> None:
    relay = Multiaddr.tcp("192.168.1.2", 1)
    behind = Multiaddr.from_text(f"{relay}/p2p/12D3KooWGFiCQ2uEohUETjLq4xRUsTtNHcW4Hg95TPw8i7i9AcRs/p2p-circuit")
    assert not in_one_lan(relay, behind)
