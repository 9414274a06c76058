"""Addresses of the configuration that cannot be right: refused, or said."""

from dataclasses import replace

import pytest

from sidecar.config import Config
from sidecar.config.kinds import multiaddrs
from sidecar.configure import check_addresses, check_announced
from sidecar.core.errors import ConfigError
from sidecar.core.identity import Identity
from sidecar.core.multiaddr import Multiaddr

IDENTITY = Identity(bytes(32))
OWN, OTHER = IDENTITY.peer_id, Identity(b"o" * 32).peer_id
ADDRESS = Multiaddr.from_text("/ip4/192.0.2.1/tcp/4747")


def configured(*, announce: tuple[Multiaddr, ...] = (), bootstrap: tuple[Multiaddr, ...] = ()) -> Config:
    config = Config()
    return replace(
        config,
        listen=replace(config.listen, announce=announce),
        bootstrap=replace(config.bootstrap, peers=bootstrap),
    )


def test_an_announced_address_names_this_node_or_nobody() -> None:
    for fine in ((), (ADDRESS,), (ADDRESS.with_peer(OWN),)):
        check_announced(configured(announce=fine), OWN)
        assert check_addresses(configured(announce=fine), IDENTITY) == []
    wrong = configured(announce=(ADDRESS.with_peer(OTHER),))
    for check in (lambda: check_announced(wrong, OWN), lambda: check_addresses(wrong, IDENTITY)):
        with pytest.raises(ConfigError, match=f"names another peer than this node, which is {OWN}"):
            check()


def test_more_addresses_than_a_signed_record_holds_are_refused_with_the_numbers() -> None:
    names = tuple(Multiaddr.from_text(f"/dns4/{'n' * 120}{number:02}/tcp/4747") for number in range(64))
    with pytest.raises(ConfigError, match=r"listen\.announce: 64 addresses make a signed record of \d+ bytes, .* 4093"):
        check_addresses(configured(announce=names), IDENTITY)
    many = tuple(Multiaddr.from_text(f"/ip4/192.0.2.1/tcp/{port}") for port in range(1, 66))
    with pytest.raises(ConfigError, match="65 addresses"):
        check_addresses(configured(announce=many), IDENTITY)
    assert check_addresses(configured(announce=many[:64]), IDENTITY) == []


@pytest.mark.parametrize(
    ("announce", "bootstrap", "said"),
    [
        ((ADDRESS, ADDRESS.with_peer(OWN)), (), "a second time"),
        ((Multiaddr.from_text("/ip4/127.0.0.1/tcp/4747"),), (), "from this machine only"),
        ((), (ADDRESS.with_peer(OWN),), "is this node itself, and no other is named"),
        ((), (ADDRESS.with_peer(OWN), ADDRESS.with_peer(OTHER)), "is this node itself"),
        ((), (Multiaddr.from_text(f"/ip4/192.0.2.1/udp/1/quic-v1/p2p/{OTHER}"),), "cannot be dialled"),
        ((), (Multiaddr.from_text(f"/p2p/{OWN}/p2p-circuit/p2p-circuit/p2p/{OTHER}"),), "cannot be dialled"),
        ((), (Multiaddr.from_text(f"/ip4/192.0.2.1/tcp/0/p2p/{OTHER}"),), "port 0"),
        ((), (Multiaddr.from_text("/ip6/::/tcp/4747"),), "this machine itself"),
    ],
)
def test_what_is_doubtful_is_said(announce: tuple[Multiaddr, ...], bootstrap: tuple[Multiaddr, ...], said: str) -> None:
    (doubt,) = check_addresses(configured(announce=announce, bootstrap=bootstrap), IDENTITY)
    assert said in doubt


@pytest.mark.parametrize(
    ("word", "because"),
    [
        ("/ip4/0.0.0.0/tcp/4747", "all addresses of a host"),
        ("/ip6/::/tcp/4747/ws", "all addresses of a host"),
        ("/ip4/224.0.0.1/tcp/4747", "not the address of one host"),
        ("/ip4/192.0.2.1/tcp/0", "port 0"),
        (f"/ip4/192.0.2.1/tcp/1/p2p/{OTHER}/p2p-circuit", "relay"),
        ("/ip4/192.0.2.1/udp/4747/quic-v1", "no TCP or WebSocket"),
        ("/ip4/192.0.2.1", "no TCP or WebSocket"),
        ("/dns4/a..b/tcp/4747", "no DNS name"),
        ("/dns4/-a.example/tcp/4747", "no DNS name"),
        ("/dns4/a b/tcp/4747", "no"),
        (f"/dns4/{'a' * 64}.example/tcp/4747", "no DNS name"),
        (f"/dns6/{'.'.join(['a' * 60] * 5)[:254]}/tcp/4747", "no DNS name"),
    ],
)
def test_an_address_that_nobody_can_dial_is_not_announced(word: str, because: str) -> None:
    with pytest.raises(ValueError, match=because):
        multiaddrs(announced=True).read([word])
    if because == "no DNS name":
        with pytest.raises(ValueError, match=because):
            multiaddrs(dialled=True).read([word])


def test_addresses_in_use_are_announced() -> None:
    words = [
        "/ip4/192.0.2.1/tcp/4747",
        "/ip6/2001:db8::1/tcp/1/ws",
        "/dns4/node-0.mesh_a.example./tcp/4747",
        "/dns/bücher.example/tcp/443/tls/ws",
        f"/dns6/x/tcp/1/p2p/{OWN}",
        "/ip4/192.0.2.1/tcp/443/tls/sni/example.com/ws",
    ]
    assert list(map(str, multiaddrs(announced=True).read(words))) == words
