"""Unsigned varints as multiformats and protobuf write them."""

from .errors import ProtocolError

MAX_LENGTH = 9  # multiformats/unsigned-varint: "for security ... a maximum of 9 bytes"


def encode(value: int) -> bytes:
    """The shortest encoding of `value` (0 <= value < 2**63)."""
    if value < 0x80:
        return bytes((value,))
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def framed(body: bytes) -> bytes:
    """The body behind its length: how most protocols put a message on a stream."""
    return encode(len(body)) + body


def decode(data: bytes | bytearray | memoryview, offset: int = 0) -> tuple[int, int] | None:
    """Read a varint at `offset`: (value, offset behind it), or None when more bytes are needed.

    Raises ProtocolError when it is longer than nine bytes or not the shortest encoding.
    """
    value = shift = 0
    for position in range(offset, min(len(data), offset + MAX_LENGTH)):
        byte = data[position]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if byte == 0 and shift:
                raise ProtocolError("varint is not minimal")
            return value, position + 1
        shift += 7
    if len(data) - offset >= MAX_LENGTH:
        raise ProtocolError(f"varint longer than {MAX_LENGTH} bytes")
    return None
