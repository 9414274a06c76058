"""HTTP/2 frames by hand, and a client of the binding's that speaks to a machine in memory."""

import struct
from collections.abc import Iterable
from typing import Any

import ngh2

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
END_STREAM, END_HEADERS, ACK = 0x1, 0x4, 0x1

HEAD = (
    (b":method", b"POST"),
    (b":scheme", b"http"),
    (b":path", b"/a.B/C"),
    (b":authority", b"localhost"),
    (b"te", b"trailers"),
    (b"content-type", b"application/grpc"),
    (b"user-agent", b"grpc-go/1.83"),
)


def frame(kind: int, payload: bytes = b"", *, flags: int = 0, stream: int = 0) -> bytes:
    """One frame, as RFC 9113 has it in section 4.1."""
    return struct.pack("!I", len(payload))[1:] + bytes([kind, flags]) + struct.pack("!I", stream) + payload


def greeting() -> bytes:
    """What a client's connection begins with."""
    return PREFACE + frame(SETTINGS)


def prefixed(message: bytes, compressed: int = 0) -> bytes:
    """A message as gRPC frames it."""
    return struct.pack("!BI", compressed, len(message)) + message


def block(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """A header block without compression: literals that are not indexed (RFC 7541, section 6.2.2)."""
    return b"".join(b"\0" + _text(name) + _text(value) for name, value in headers)


def _text(text: bytes) -> bytes:
    if len(text) < 127:
        return bytes([len(text)]) + text
    left = len(text) - 127
    length = b"\x7f"
    while left >= 128:
        length += bytes([left % 128 + 128])
        left //= 128
    return length + bytes([left]) + text


def request(stream: int, *messages: bytes, path: bytes = b"/a.B/C", more: Iterable[tuple[bytes, bytes]] = ()) -> bytes:
    """A whole call, by hand."""
    headers = [(name, path if name == b":path" else value) for name, value in HEAD]
    body = b"".join(map(prefixed, messages))
    head = frame(HEADERS, block((*headers, *more)), flags=END_HEADERS, stream=stream)
    return head + frame(DATA, body, flags=END_STREAM, stream=stream)


def client(**settings: int) -> ngh2.Connection:
    """A client's side."""
    made = ngh2.Connection(
        ngh2.Role.CLIENT,
        ngh2.Configuration(peer_max_concurrent_streams=100_000, max_send_header_block_length=1 << 20),
    )
    made.initiate_connection({ngh2.Setting[name]: value for name, value in settings.items()})
    return made


def received(events: Iterable[Any], stream: int) -> tuple[list[tuple[bytes, bytes]], bytes, list[tuple[bytes, bytes]]]:
    """Head, data and trailers of a stream, out of a client's events; what has not come is empty."""
    head: list[tuple[bytes, bytes]] = []
    data = b""
    trailers: list[tuple[bytes, bytes]] = []
    for event in events:
        match event:
            case ngh2.ResponseReceived(stream_id=found) if found == stream:
                head = list(event.headers)
            case ngh2.DataReceived(stream_id=found) if found == stream:
                data += event.data
            case ngh2.TrailersReceived(stream_id=found) if found == stream:
                trailers = list(event.headers)
    return head, data, trailers
