import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.core.errors import FrameTooLarge, ProtocolError, TooLarge
from sidecar.core.identity import Identity
from sidecar.core.multiaddr import Multiaddr
from sidecar.core.records import (
    PeerRecord,
    check_peer_record,
    fitting,
    make_peer_record,
    open_envelope,
    open_peer_record,
    seal,
)
from sidecar.core.records.messages import MAX_ENVELOPE, MAX_SENT, PeerRecordFields, encode_peer_record

ALICE, MALLORY = Identity(bytes(range(32))), Identity(bytes(32))
ADDRESSES = (Multiaddr.from_text("/ip4/192.0.2.0/tcp/42"), Multiaddr.from_text("/ip4/198.51.100.0/tcp/42"))


def test_an_envelope_opens_to_what_was_sealed() -> None:
    data = seal(ALICE, "purpose", b"\x01", b"payload")
    assert open_envelope(data, "purpose") == (ALICE.public_key, b"\x01", b"payload")


def test_an_envelope_is_the_bytes_of_the_specification() -> None:
    signature = ALICE.sign(b"\x07purpose\x01\x01\x07payload")
    expected = b"\x0a\x24" + ALICE.public_key.to_bytes() + b"\x12\x01\x01\x1a\x07payload\x2a\x40" + signature
    assert seal(ALICE, "purpose", b"\x01", b"payload") == expected


def test_a_signature_for_another_purpose_is_not_valid() -> None:
    with pytest.raises(ProtocolError, match="signature"):
        open_envelope(seal(ALICE, "purpose", b"\x01", b"payload"), "another")


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_any_changed_byte_is_noticed(data: st.DataObject) -> None:
    sealed = seal(ALICE, "purpose", b"\x01", b"payload")
    at = data.draw(st.integers(0, len(sealed) - 1))
    changed = sealed[:at] + bytes((sealed[at] ^ data.draw(st.integers(1, 255)),)) + sealed[at + 1 :]
    with pytest.raises(ProtocolError):
        open_envelope(changed, "purpose")


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300))
def test_garbage_is_a_protocol_error(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        open_peer_record(data)


def test_an_oversize_envelope_is_refused() -> None:
    with pytest.raises(FrameTooLarge):
        open_envelope(seal(ALICE, "purpose", b"", bytes(MAX_ENVELOPE)), "purpose")


def test_a_key_that_cannot_be_checked_is_a_protocol_error() -> None:
    with pytest.raises(ProtocolError):
        open_envelope(b"\x0a\x05\x08\x02\x12\x01\x07", "purpose")


def test_a_peer_record_opens_to_what_was_made() -> None:
    assert open_peer_record(make_peer_record(ALICE, 7, ADDRESSES)) == PeerRecord(ALICE.peer_id, 7, ADDRESSES)


def test_the_form_that_the_specification_proposes_is_read_too() -> None:
    payload = encode_peer_record(PeerRecordFields(bytes(ALICE.peer_id), 7, [ADDRESSES[0].to_bytes(), b"\x7f"]))
    sealed = seal(ALICE, "libp2p-routing-state", b"/libp2p/routing-state-record", payload)
    assert open_peer_record(sealed) == PeerRecord(ALICE.peer_id, 7, ADDRESSES[:1])


def test_a_record_for_another_peer_is_refused() -> None:
    payload = encode_peer_record(PeerRecordFields(bytes(ALICE.peer_id), 7, []))
    with pytest.raises(ProtocolError, match="another peer"):
        open_peer_record(seal(MALLORY, "libp2p-peer-record", b"\x03\x01", payload))


def test_another_payload_is_no_peer_record() -> None:
    with pytest.raises(ProtocolError, match="no peer record"):
        open_peer_record(seal(ALICE, "libp2p-peer-record", b"\x03\x02", b""))


def test_addresses_are_bounded_in_both_directions() -> None:
    assert len(open_peer_record(make_peer_record(ALICE, 1, ADDRESSES * 50)).addresses) == 64
    payload = encode_peer_record(PeerRecordFields(bytes(ALICE.peer_id), 7, [b"\x04abcd"] * 65))
    with pytest.raises(ProtocolError, match="65 addresses"):
        open_peer_record(seal(ALICE, "libp2p-peer-record", b"\x03\x01", payload))


def test_a_record_is_never_larger_than_what_peers_read() -> None:
    identity = ALICE
    names = tuple(Multiaddr.from_text(f"/dns4/{'n' * 120}{number:02}/tcp/4747") for number in range(64))
    with pytest.raises(TooLarge, match=r"64 addresses make a signed record of [89]\d{3} bytes, .* at most 4093"):
        check_peer_record(identity, names)
    kept = fitting(identity, names)
    assert 0 < len(kept) < 64
    check_peer_record(identity, kept)
    with pytest.raises(TooLarge):
        check_peer_record(identity, names[: len(kept) + 1])
    made = make_peer_record(identity, 1, names)
    assert len(made) <= MAX_SENT
    assert open_peer_record(made).addresses == kept == names[: len(kept)]
    with pytest.raises(TooLarge, match=r"65 addresses: .* at most 64"):
        check_peer_record(identity, ADDRESSES[:1] * 65)


def test_the_envelope_of_go_libp2ps_own_test_opens() -> None:
    """Its record/envelope_test.go; nim-libp2p checks the same bytes."""
    data = bytes.fromhex(
        "0a24080112206f1581709bb7b1ef030d210db18e3b0ba1c776fba65d8cdaad05415142d189f8"
        "12102f6c69627032702f7465737464617461"
        "1a0c68656c6c6f20776f726c6421"
        "2a401178673b51dfa842aad17e465e25d646ad16628916b964c3fb10c711fee87872"
        "bdd4e4646f58c277cdff09704913d8be1aec6322de8d3d0bb852120374aece08"
    )
    key, payload_type, payload = open_envelope(data, "libp2p-testing")
    assert (payload_type, payload) == (b"/libp2p/testdata", b"hello world!")
    assert key.data.hex() == "6f1581709bb7b1ef030d210db18e3b0ba1c776fba65d8cdaad05415142d189f8"


def test_a_peer_record_that_go_libp2p_sealed_opens() -> None:
    key = "0801122079b5562e8fe654f94078b112e8a98ba7901f853ae695bed7e0e3910bad049664"
    data = bytes.fromhex(
        "0a24" + key + "12020301"
        "1a50"
        "0a260024" + key + "1088ef99abc5e88c9111"
        "1a0d0a0b047f00000191020fa1cd03"
        "1a0d0a0b04c0a8000a91022328cd03"
        "2a40d85c6ac219c546773786025106fb199fa63b456e808af9cdbed155efd4dc1114"
        "cf7eb912a0b1cc2adfcb129f4fe54bdc47fb03987733be3107fed37c6495e30a"
    )
    record = open_peer_record(data)
    assert record.peer == bytes.fromhex("0024" + key)
    assert record.seq == 0x1122334455667788
    assert [str(address) for address in record.addresses] == [
        "/ip4/127.0.0.1/udp/4001/quic-v1",
        "/ip4/192.168.0.10/udp/9000/quic-v1",
    ]


def test_a_peer_record_of_another_peer_than_expected_is_refused() -> None:
    data = make_peer_record(ALICE, 1, ADDRESSES)
    assert open_peer_record(data, ALICE.peer_id) == PeerRecord(ALICE.peer_id, 1, ADDRESSES)
    with pytest.raises(ProtocolError, match="not of"):
        open_peer_record(data, MALLORY.peer_id)
