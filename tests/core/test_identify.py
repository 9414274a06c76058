import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.core.buffer import FrameDecoder
from sidecar.core.errors import FrameTooLarge, ProtocolError, TooLarge
from sidecar.core.identify import IdentifyInfo, IdentifyReader, decode, encode
from sidecar.core.identify.messages import MAX_MESSAGE, MAX_MESSAGES, MAX_SENT
from sidecar.core.identity import Identity
from sidecar.core.multiaddr import Multiaddr

KEY = Identity(bytes(range(32))).public_key
FULL = IdentifyInfo(
    protocol_version="sidecar/test",
    agent="sidecar/0.1.0",
    public_key=KEY,
    listen_addresses=(Multiaddr.from_text("/ip4/1.2.3.4/tcp/4001"), Multiaddr.from_text("/ip6/::1/tcp/4001")),
    observed_address=Multiaddr.from_text("/ip4/5.6.7.8/tcp/9"),
    protocols=("/ipfs/id/1.0.0", "/ipfs/ping/1.0.0"),
    signed_record=b"an envelope",
)
GOLDEN = (
    "9c01"  # 156 bytes
    "0a24" + KEY.to_bytes().hex() + "1208"
    "0401020304060fa1"
    "1214"
    "29" + "00" * 15 + "01"
    "060fa1"
    "1a0e" + b"/ipfs/id/1.0.0".hex() + "1a10" + b"/ipfs/ping/1.0.0".hex() + "2208"
    "0405060708060009"
    "2a0c" + b"sidecar/test".hex() + "320d" + b"sidecar/0.1.0".hex() + "420b" + b"an envelope".hex()
)


def read(data: bytes, size: int = 1 << 20) -> IdentifyInfo:
    reader = IdentifyReader()
    for at in range(0, len(data), size):
        reader.receive(data[at : at + size])
    return reader.finish()


def test_the_bytes_are_those_of_the_specification() -> None:
    assert encode(FULL).hex() == GOLDEN


@pytest.mark.parametrize("size", [1, 7, 1000])
@pytest.mark.parametrize("info", [FULL, IdentifyInfo(), IdentifyInfo(agent="")])
def test_what_is_written_is_read_again_in_pieces_of_any_size(info: IdentifyInfo, size: int) -> None:
    assert read(encode(info), size) == info


def test_a_large_signed_record_travels_in_a_message_of_its_own_and_is_merged() -> None:
    info = IdentifyInfo(agent="a" * 100, protocols=("/x/1",), signed_record=bytes(MAX_SENT - 50))
    data = encode(info)
    assert data[0] < 0x80  # the first message holds the small fields alone
    assert read(data) == info


def messages(data: bytes) -> list[bytes]:
    """The bodies of a stream's messages."""
    return FrameDecoder(MAX_MESSAGE).receive(data)


def test_what_one_message_cannot_hold_travels_in_several_and_nothing_is_lost() -> None:
    protocols = tuple(f"/protocol/{number:04}/1.0.0" for number in range(300))
    names = tuple(Multiaddr.from_text(f"/dns4/{'n' * 60}{number:03}/tcp/4747") for number in range(50))
    info = IdentifyInfo(
        agent="x", public_key=KEY, listen_addresses=names, protocols=protocols, signed_record=b"r" * 4093
    )
    data = encode(info)
    assert read(data) == info
    bodies = messages(data)
    assert len(bodies) > 2
    assert max(map(len, bodies)) <= MAX_SENT
    first = decode(bodies[0])  # all that rust-libp2p reads
    assert first.public_key == KEY
    assert first.protocols[:9] == protocols[:9]
    assert first.listen_addresses[:10] == names[:10]


def test_more_than_peers_read_is_refused_with_the_numbers() -> None:
    name = "/dns4/" + "/tls/sni/".join("n" * 255 for _ in range(3)) + "/tcp/1"
    huge = tuple(Multiaddr.from_text(f"{name}{number:03}") for number in range(100, 164))
    with pytest.raises(TooLarge, match="13 messages of up to 3930"):
        encode(IdentifyInfo(listen_addresses=huge))
    with pytest.raises(TooLarge, match="up to 4097"):
        encode(IdentifyInfo(signed_record=bytes(MAX_SENT - 2)))


def test_a_push_changes_only_what_it_says() -> None:
    pushed = FULL.updated(IdentifyInfo(protocols=("/new/1",)))
    assert pushed.protocols == ("/new/1",)
    assert pushed.listen_addresses == FULL.listen_addresses
    assert pushed.agent == FULL.agent


def test_unknown_addresses_repeats_and_bad_text_do_not_hurt() -> None:
    webrtc = bytes.fromhex("0401020304910200099802")  # /ip4/1.2.3.4/udp/9/webrtc-direct
    address = b"\x04abcd"
    fields = ((2, webrtc), (2, address), (2, address), (2, b""), (4, b"?"), (3, b"/a\xff"), (3, b""))
    body = b"".join(bytes((field << 3 | 2, len(value))) + value for field, value in fields)
    info = decode(body + b"\x32\x04a\x1b\xff\n")
    assert info.listen_addresses == (Multiaddr.from_text("/ip4/97.98.99.100"),)
    assert info.observed_address is None
    assert info.protocols == ("/a�",)
    assert info.agent == "a���"


@pytest.mark.parametrize(
    "data",
    [b"", b"\x05\x0a", b"\x01\xff", b"\x02\x0a\x05", b"\x03\x0a\x01\x07", b"\x02\x32\x00" * (MAX_MESSAGES + 1)],
    ids=["nothing", "cut short", "garbage", "bad length", "bad key", "too many"],
)
def test_a_malformed_stream_is_a_violation(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        read(data)


def test_an_oversize_message_is_refused_by_its_length_alone() -> None:
    with pytest.raises(FrameTooLarge):
        IdentifyReader().receive(b"\x81\x40")  # 8193


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_but_a_protocol_error(body: bytes) -> None:
    try:
        decode(body)
    except ProtocolError:
        pass
    else:
        assert len(decode(body).listen_addresses) <= 64


def test_a_message_that_a_polkadot_node_sent_is_read() -> None:
    """By rust-libp2p on the Kusama network; from the tests of Emerald's crawler, a few of its many fields left out."""
    body = bytes.fromhex(
        "2a0e2f7375627374726174652f312e30"
        "323b7061726974792d706f6c6b61646f742f76302e372e31382d66633130306536352d"
        "7838365f36342d6c696e75782d676e752028756e6b6e6f776e29"
        "0a2408011220a2aa2a4251027b5ef2d1c79700aa20eebf47c493df4ebfd7c1aa71f202bc28c9"
        "121d36187032702e6363332d322e6b7573616d612e6e6574776f726b067594"
        "12080422d90d3b067594"
        "1208040a0a0a01067594"
        "2208040a000188066364"
        "1a132f7375627374726174652f6b736d6363332f35"
        "1a102f697066732f70696e672f312e302e30"
        "1a0e2f697066732f69642f312e302e30"
    )
    info = decode(body)
    assert info.protocol_version == "/substrate/1.0"
    assert info.agent == "parity-polkadot/v0.7.18-fc100e65-x86_64-linux-gnu (unknown)"
    assert info.public_key is not None
    assert str(info.public_key.peer_id()).startswith("12D3KooW")
    assert [str(address) for address in info.listen_addresses] == [
        "/dns4/p2p.cc3-2.kusama.network/tcp/30100",
        "/ip4/34.217.13.59/tcp/30100",
        "/ip4/10.10.10.1/tcp/30100",
    ]
    assert str(info.observed_address) == "/ip4/10.0.1.136/tcp/25444"
    assert info.protocols == ("/substrate/ksmcc3/5", "/ipfs/ping/1.0.0", "/ipfs/id/1.0.0")


def test_the_limit_of_gossip_travels_in_a_field_of_our_own() -> None:
    told = encode(IdentifyInfo(agent="x", gossip_max_rpc=1 << 20))
    reader = IdentifyReader()
    reader.receive(told)
    assert reader.finish() == IdentifyInfo(agent="x", gossip_max_rpc=1 << 20)
    plain = encode(IdentifyInfo(agent="x"))
    assert told[1:].startswith(plain[1:])  # what others read of it is as before
