"""gRPC's headers: what is read of a request, what is written of a response."""

import base64

import pytest
from sidecar_client.http2.metadata import encoded

from sidecar.api.common.status import Code
from sidecar.api.server.http2.heads import NotGrpc, Unfit, request_head, trailers
from tests.api.server.frames import HEAD

_MOST = 16_384


def _with(*more: tuple[bytes, bytes], **changed: bytes) -> tuple[tuple[bytes, bytes], ...]:
    names = {name.encode(): value for name, value in changed.items()}
    kept = tuple((name, names.get(name.strip(b":").replace(b"-", b"_"), value)) for name, value in HEAD)
    return (*kept, *more)


def test_a_head_without_what_is_gRPCs_own() -> None:
    more = ((b"authorization", b"Bearer x"), (b"grpc-accept-encoding", b"gzip"), (b"grpc-encoding", b"identity"))
    head = request_head(_with(*more), _MOST)
    assert head.path == b"/a.B/C"
    assert head.timeout is None
    assert head.metadata == [("user-agent", "grpc-go/1.83"), ("authorization", "Bearer x")]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [(b"1H", 3600.0), (b"2M", 120.0), (b"3S", 3.0), (b"250m", 0.25), (b"99999999u", 99.999999), (b"5n", 5e-9)],
)
def test_timeouts(text: bytes, seconds: float) -> None:
    assert request_head(_with((b"grpc-timeout", text)), _MOST).timeout == pytest.approx(seconds)


@pytest.mark.parametrize("text", [b"", b"1", b"s", b"1s", b"123456789S", b"-1S", b"1.5S", b"1S ", "١S".encode()])
def test_timeouts_that_are_none(text: bytes) -> None:
    with pytest.raises(Unfit, match="is no time") as refused:
        request_head(_with((b"grpc-timeout", text)), _MOST)
    assert refused.value.code is Code.INTERNAL


def test_binary_metadata_with_padding_and_without_and_joined() -> None:
    values = (b"YQ==", b"YQ", b"YQ,YmI", b"")
    head = request_head(_with(*((b"key-bin", value) for value in values)), _MOST)
    assert [value for key, value in head.metadata if key == "key-bin"] == [b"a", b"a", b"a", b"bb", b""]
    with pytest.raises(Unfit, match="base64"):
        request_head(_with((b"key-bin", b"?")), _MOST)


def test_what_is_no_call_is_answered_in_HTTPs_words() -> None:
    for changed, status in (
        ({"method": b"GET"}, b"405"),
        ({"content_type": b"application/json"}, b"415"),
        ({"content_type": b"application/grpc-web"}, b"415"),
        ({"content_type": b""}, b"415"),
    ):
        with pytest.raises(NotGrpc) as refused:
            request_head(_with(**changed), _MOST)
        assert refused.value.status == status
    for kind in (b"application/grpc+proto", b"application/grpc;charset=utf-8"):
        request_head(_with(content_type=kind), _MOST)


def test_compression_is_refused_and_what_is_taken_is_told() -> None:
    with pytest.raises(Unfit, match="gzip") as refused:
        request_head(_with((b"grpc-encoding", b"gzip")), _MOST)
    assert refused.value.code is Code.UNIMPLEMENTED
    assert refused.value.more == ((b"grpc-accept-encoding", b"identity"),)


def test_heads_are_bounded_as_HTTP2_counts_them() -> None:
    size = sum(len(name) + len(value) + 32 for name, value in HEAD)
    request_head(HEAD, size)
    with pytest.raises(Unfit, match=f"metadata of {size} bytes, at most {size - 1}") as refused:
        request_head(HEAD, size - 1)
    assert refused.value.code is Code.RESOURCE_EXHAUSTED


def test_trailers() -> None:
    assert trailers(Code.OK, "") == ((b"grpc-status", b"0"),)
    told = dict(trailers(Code.NOT_FOUND, 'no "peer" 100% ü\n', b"\x08\x05"))
    assert told[b"grpc-status"] == b"5"
    assert told[b"grpc-message"] == b'no "peer" 100%25 %C3%BC%0A'
    assert base64.b64decode(told[b"grpc-status-details-bin"]) == b"\x08\x05"
    # Bare at an end, a space would make the header malformed, and clients that check would see none of it.
    assert dict(trailers(Code.NOT_FOUND, " no  peer  "))[b"grpc-message"] == b"%20no  peer%20%20"


def test_metadata_of_a_response() -> None:
    assert encoded((("sidecar-stream", "open"), ("key-bin", b"\0\1"))) == (
        (b"sidecar-stream", b"open"),
        (b"key-bin", b"AAE="),
    )
