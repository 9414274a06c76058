"""Messages of AutoNAT v2, by the bytes of the specification's schema."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.autonat import (
    DialData,
    DialDataRequest,
    DialRequest,
    DialResponse,
    decode,
    decode_dial_back,
    encode_data,
    encode_data_request,
    encode_dial_back,
    encode_request,
    encode_response,
)
from sidecar.core.buffer import FrameDecoder
from sidecar.core.errors import ProtocolError
from sidecar.core.multiaddr import Multiaddr

ADDRESS = Multiaddr.from_text("/ip4/192.0.2.1/tcp/4001")


def body(frame: bytes) -> bytes:
    (found,) = FrameDecoder(8192).receive(frame)
    return found


def test_bytes_are_those_of_the_schema() -> None:
    address = bytes.fromhex("04c0000201060fa1")
    request = b"\x0a\x08" + address + b"\x11" + (7).to_bytes(8, "little")
    assert encode_request([ADDRESS], 7) == bytes([2 + len(request)]) + b"\x0a" + bytes([len(request)]) + request
    assert body(encode_response(DialResponse(200, 1, 200))).hex() == "120808c801100118c801"
    assert body(encode_data_request(1, 30_000)).hex() == "1a06080110b0ea01"
    assert encode_dial_back(7) == b"\x09\x09" + (7).to_bytes(8, "little")


def test_what_is_written_is_read() -> None:
    assert decode(body(encode_request([ADDRESS], 2**64 - 1))) == DialRequest((ADDRESS,), 2**64 - 1)
    assert decode(body(encode_data_request(3, 99_999))) == DialDataRequest(3, 99_999)
    assert decode(body(encode_response(DialResponse(100)))) == DialResponse(100)
    assert decode_dial_back(body(encode_dial_back(2**63))) == 2**63


@pytest.mark.parametrize("size", [1, 3_999, 4_000, 4_001, 30_000, 99_999, 100_000])
def test_dial_data_has_just_the_size_asked_for_in_small_messages(size: int) -> None:
    messages = [decode(frame) for frame in FrameDecoder(8192).receive(encode_data(size))]
    sizes = [message.size for message in messages if isinstance(message, DialData)]
    assert sum(sizes) == size
    assert max(sizes) <= 4096
    assert len(sizes) == len(messages)


def test_addresses_that_cannot_be_read_keep_their_places() -> None:
    broken = b"\x0a\x02\xff\xff" + b"\x0a\x08" + ADDRESS.to_bytes()
    assert decode(b"\x0a" + bytes([len(broken)]) + broken) == DialRequest((None, ADDRESS), 0)


def test_only_the_first_fifty_addresses_are_read() -> None:
    message = decode(body(encode_request([ADDRESS] * 80, 1)))
    assert isinstance(message, DialRequest)
    assert len(message.addresses) == 50


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_a_protocol_error(data: bytes) -> None:
    for read in (decode, decode_dial_back):
        try:
            read(data)  # type: ignore[operator]
        except ProtocolError:
            continue
