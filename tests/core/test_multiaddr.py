from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.core.errors import InvalidMultiaddr
from sidecar.core.multiaddr import Endpoint, Multiaddr
from sidecar.core.types import PeerId

PEER = "QmcgpsyWgH8Y8ajJz1Cu72KnS5uo2Aa2LpzU7kinSupNKC"
PEER_HEX = "a503221220d52ebb89d85b02a284948203a62ff28389c57c9f42beec4ec20db76a68911c0b"
ED25519 = "12D3KooWCryG7Mon9orvQxcS1rYZjotPgpwoJNHHKcLLfE4Hf5mV"

# The first four are go-multiaddr's; the others follow from the table of protocols of multiformats/multiaddr.
VECTORS = [
    ("/ip4/127.0.0.1/udp/1234", "047f000001910204d2"),
    ("/ip4/127.0.0.1/tcp/4321", "047f0000010610e1"),
    ("/ip4/127.0.0.1/udp/1234/ip4/127.0.0.1/tcp/4321", "047f000001910204d2047f0000010610e1"),
    (f"/p2p/{PEER}", PEER_HEX),
    ("/ip6/2001:8a0:7ac5:4201:3ac9:86ff:fe31:7095/tcp/8000", "29200108a07ac542013ac986fffe317095061f40"),
    ("/ip6/::ffff:127.0.0.1/udp/0", "29" + "00" * 10 + "ffff7f00000191020000"),
    ("/ip6zone/eth0/ip6/fe80::1", "2a046574683029fe80" + "00" * 13 + "01"),
    (
        "/dns/example.com/tcp/443/tls/sni/a.example/ws",
        "350b6578616d706c652e636f6d0601bbc003c10309612e6578616d706c65dd03",
    ),
    ("/dns4/a/tcp/1", "360161060001"),
    ("/dns6/a/tcp/1", "370161060001"),
    ("/dnsaddr/bootstrap.libp2p.io", "3813626f6f7473747261702e6c69627032702e696f"),
    ("/ip4/1.2.3.4/udp/9/quic-v1", "040102030491020009cd03"),
    ("/ip4/1.2.3.4/tcp/9/wss", "0401020304060009de03"),
    (f"/ip4/127.0.0.1/tcp/9/p2p/{PEER}/p2p-circuit", "047f000001060009" + PEER_HEX + "a202"),
]


@pytest.mark.parametrize(("text", "encoded"), VECTORS)
def test_text_and_bytes_are_the_same_address(text: str, encoded: str) -> None:
    address = Multiaddr.from_text(text)
    assert address.to_bytes().hex() == encoded
    again = Multiaddr.from_bytes(bytes.fromhex(encoded))
    assert (str(again), again, hash(again)) == (text, address, hash(address))
    assert repr(address) == f"Multiaddr({text})"


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("/ip4/0.0.0.0//////", "/ip4/0.0.0.0"),
        ("/tcp/1234////", "/tcp/1234"),
        ("/ip6/0:0:0:0:0:0:0:1", "/ip6/::1"),
        ("/tcp/007", "/tcp/7"),
        (f"/ipfs/{PEER}", f"/p2p/{PEER}"),
        ("/p2p/bafzbeigvf25ytwc3akrijfecaotc74udrhcxzh2cx3we5qqnw5vgrei4bm", f"/p2p/{PEER}"),
        ("/p2p/k51qzi5uqu5dhb6l8spkdx7yxafegfkee5by8h7lmjh2ehc2sgg34z7c15vzqs", f"/p2p/{ED25519}"),
    ],
)
def test_other_spellings_of_an_address(text: str, canonical: str) -> None:
    assert str(Multiaddr.from_text(text)) == canonical


@pytest.mark.parametrize(
    "text",
    # Those of go-multiaddr's failing ones that concern the protocols known here, and our own.
    [
        "",
        "/",
        "ip4/1.2.3.4",
        "/ip4",
        "/ip4/::1",
        "/ip4/fdpsofodsajfdoisa",
        "/ip4/01.2.3.4",
        "/ip6",
        "/ip6/fe80::1%eth0",
        "/ip6zone",
        "/ip6zone/",
        "/udp",
        "/tcp/jfodsajfidosajfoidsa",
        "/tcp",
        "/tcp/65536",
        "/tcp/-1",
        "/tcp/+1",
        "/tcp/1_0",
        "/tcp/١",
        "/tcp/000001",
        "/ip4/127.0.0.1/udp/jfodsajfidosajfoidsa",
        "/ip4/127.0.0.1/udp",
        "/ip4/127.0.0.1/tcp",
        "/ip4/127.0.0.1/p2p",
        "/ip4/127.0.0.1/p2p/tcp",
        "/ip4/127.0.0.1//tcp/1",
        "/ip4/127.0.0.1/quic-v1/1234",
        "/p2p/QmcgpsyWgH8Y8ajJz1Cu72",
        f"/p2p/{PEER}55555",
        "/dns",
        "/dns4",
        "/dns6",
        "/dns/" + "a" * 256,
        "/dns/a\x00b",
        "/nonsense/1",
        "/p2p-circuit" * 600,
    ],
)
def test_what_is_no_address_is_named(text: str) -> None:
    with pytest.raises(InvalidMultiaddr) as caught:
        Multiaddr.from_text(text)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    "encoded",
    [
        "",
        "04",
        "047f0000",
        "0610",
        "84007f000001",  # a code that is not minimal
        "9999",
        "3500",
        "35056100",
        "3501ff",
        "350561622f6364",  # a name with a slash: its text would be another address
        "35020a0d",
        "358002" + "61" * 256,
        "a50303122000",
        "91020009ffffffffffffffffff7f",
        "a202" * 600,
    ],
)
def test_malformed_bytes_are_refused(encoded: str) -> None:
    with pytest.raises(InvalidMultiaddr):
        Multiaddr.from_bytes(bytes.fromhex(encoded))


def test_the_peer_at_the_end() -> None:
    peer = PeerId.from_text(ED25519)
    plain = Multiaddr.from_text("/ip4/1.2.3.4/tcp/5")
    named = plain.with_peer(peer)
    assert str(named) == f"/ip4/1.2.3.4/tcp/5/p2p/{ED25519}"
    assert named == Multiaddr.from_text(str(named))
    assert (named.peer_id, plain.peer_id) == (peer, None)
    assert (named.without_peer(), plain.without_peer()) == (plain, plain)
    assert named.with_peer(PeerId.from_text(PEER)).peer_id == PeerId.from_text(PEER)
    relayed = Multiaddr.from_text(f"/ip4/1.2.3.4/tcp/5/p2p/{PEER}/p2p-circuit")
    assert relayed.peer_id is None
    assert relayed.with_peer(peer).peer_id == peer


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("/ip4/1.2.3.4/tcp/5", ("ip4", "1.2.3.4", 5)),
        (f"/dns4/example.com/tcp/5/p2p/{PEER}", ("dns4", "example.com", 5)),
        ("/ip6/::1/tcp/0", ("ip6", "::1", 0)),
        ("/ip4/1.2.3.4/udp/5", None),
        ("/ip4/1.2.3.4/tcp/5/ws", ("ip4", "1.2.3.4", 5, True)),
        ("/ip4/1.2.3.4/tcp/5/wss", ("ip4", "1.2.3.4", 5, True, True)),
        (f"/dns4/a.b/tcp/5/tls/ws/p2p/{PEER}", ("dns4", "a.b", 5, True, True)),
        ("/ip4/1.2.3.4/tcp/5/tls/sni/a.b/ws", ("ip4", "1.2.3.4", 5, True, True, "a.b")),
        ("/dns/a.b/wss", ("dns", "a.b", 443, True, True)),
        ("/ip4/1.2.3.4/ws", ("ip4", "1.2.3.4", 80, True)),
        ("/ip4/1.2.3.4/tcp/5/tls", None),
        ("/ip4/1.2.3.4/tcp/5/ws/ws", None),
        ("/ip4/1.2.3.4/udp/5/ws", None),
        ("/ip4/1.2.3.4", None),
        (f"/ip4/1.2.3.4/tcp/5/p2p/{PEER}/p2p-circuit", None),
        (f"/p2p/{PEER}/ip4/1.2.3.4/tcp/5", None),
        ("/dnsaddr/example.com", None),
        ("/tcp/5", None),
    ],
)
def test_the_endpoint_of_a_tcp_or_websocket_address(text: str, endpoint: tuple[Any, ...] | None) -> None:
    assert Multiaddr.from_text(text).endpoint() == (endpoint and Endpoint(*endpoint))


def test_the_address_of_a_socket() -> None:
    assert str(Multiaddr.tcp("127.0.0.1", 80)) == "/ip4/127.0.0.1/tcp/80"
    assert str(Multiaddr.tcp("fe80::1%eth0", 80)) == "/ip6/fe80::1/tcp/80"
    assert Multiaddr.from_text("/dns4/a/tcp/1").value("ip4", "dns4") == "a"
    assert Multiaddr.from_text("/dns4/a/tcp/1").value("udp") is None
    with pytest.raises(InvalidMultiaddr):
        Multiaddr.tcp("example.com", 80)


KNOWN = st.sampled_from([bytes.fromhex(encoded) for _, encoded in VECTORS])


@settings(max_examples=100, deadline=None)
@given(st.one_of(st.binary(max_size=40), st.builds(lambda a, b: a + b, KNOWN, st.one_of(KNOWN, st.binary(max_size=6)))))
def test_whatever_bytes_are_read_have_a_text_that_reads_as_the_same(data: bytes) -> None:
    try:
        address = Multiaddr.from_bytes(data)
    except InvalidMultiaddr:
        return
    assert address.to_bytes() == data
    assert Multiaddr.from_text(str(address)) == address


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=30), st.sampled_from(["", "/ip4/", "/dns/", "/tcp/", "/p2p/", "/ip6/"]))
def test_no_text_raises_anything_else(text: str, head: str) -> None:
    try:
        address = Multiaddr.from_text(head + text)
    except InvalidMultiaddr:
        return
    assert Multiaddr.from_bytes(address.to_bytes()) == address
