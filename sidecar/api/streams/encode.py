"""OpenStreamResponse and AttachStreamResponse, which are encoded alike, by hand: bytes pass through uncopied."""

from sidecar_client.v1.stream_pb2 import OpenStreamResponse

from ..common.encode import TRUE, field, tag, varint

_DATA, _END, _STATUS = (tag(OpenStreamResponse, name) for name in ("data", "end", "status"))


def stream_bytes(head: bytes, pieces: list[bytes], size: int, end: bool) -> bytes:
    """A response: `head` (encoded), `size` bytes of data in pieces, and whether they are the last."""
    last = _END + TRUE if end else b""
    return b"".join((head, _DATA, varint(size), *pieces, last)) if pieces else head + last


def ended_with(status: bytes) -> bytes:
    """A response: the status that the stream has ended with."""
    return field(_STATUS, status)
