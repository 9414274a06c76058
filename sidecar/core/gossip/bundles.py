"""Bundles: the data of one signed message that has many in it (docs/protocols.md, "Bundles").

The mark, how many there are, and each with its length before it. To a node that knows nothing of bundles it is data
like any other. Only who has checked the signature opens one: before, its number of messages is a claim.
"""

from collections.abc import Sequence

from ..errors import ProtocolError
from ..parameters.bundles import MAX_BUNDLED
from ..varint import decode, encode

MARKS = b"\0/sidecar/"
"""How the marks of all payloads begin that mean something to nodes: no message in a bundle may, this one's included."""
MARK = b"\0/sidecar/bundle/1\0"
OVERHEAD = len(MARK) + 2
"""Bytes of a bundle beside its messages and their lengths, at most."""
_LENGTHS = [encode(size) for size in range(4096)]  # looked up, not computed, once a message
_PLACES = [place.to_bytes(2, "big") for place in range(MAX_BUNDLED)]
_NUMBERS = 1 << 64
_WEIGHT = 16  # messages of a bundle that cost a node as much as checking a signature; measured: 3 us and 45


def weight(count: int) -> int:
    """What serving a message with so many in it costs, in checks of a signature."""
    return 1 + count // _WEIGHT


def pack(messages: Sequence[bytes]) -> bytes:
    """The data of a message that has these in it: 1 to `MAX_BUNDLED`, none of which begins as a mark does."""
    lengths = _LENGTHS
    pieces = [b""] * (2 * len(messages))
    try:
        pieces[::2] = [lengths[len(data)] for data in messages]
    except IndexError:
        pieces[::2] = [encode(len(data)) for data in messages]
    pieces[1::2] = messages
    return b"".join((MARK, encode(len(messages)), *pieces))


def claimed(data: bytes) -> int:
    """How many messages data says to have: at least 1, at most `MAX_BUNDLED`; 1 where it is no bundle."""
    if not data.startswith(MARK):
        return 1
    try:
        count = decode(data, len(MARK))
    except ProtocolError:
        return 1
    return max(1, min(MAX_BUNDLED, count[0])) if count is not None else 1


def unpack(data: bytes, seqno: int) -> list[bytes]:
    """The messages of a bundle, whose message has this sequence number. Raises ProtocolError."""
    header = decode(data, len(MARK))
    if header is None:
        raise ProtocolError(f"bundle of {len(data)} bytes is cut short")
    count, offset = header
    if not 1 <= count <= MAX_BUNDLED:
        raise ProtocolError(f"bundle of {count} messages, from 1 to {MAX_BUNDLED}")
    if seqno + count > _NUMBERS:
        raise ProtocolError(f"bundle of {count} messages with the number {seqno}: theirs end beyond 64 bits")
    end = len(data)
    messages: list[bytes] = []
    for _ in range(count):
        if offset >= end:
            raise ProtocolError(f"bundle of {end} bytes ends before the last of its {count} messages")
        size = data[offset]
        start = offset + 1
        if size >= 0x80:
            length = decode(data, offset)
            if length is None:
                raise ProtocolError(f"bundle of {end} bytes is cut short")
            size, start = length
        offset = start + size
        messages.append(data[start:offset])
    if offset != end:
        raise ProtocolError(f"bundle of {end} bytes whose {count} messages end at {offset}")
    if data.find(MARKS, len(MARK)) >= 0 and any(message.startswith(MARKS) for message in messages):
        raise ProtocolError(f"a message in a bundle begins with {MARKS!r}, as marks do")
    return messages


def inner_ids(identifier: bytes, count: int) -> list[bytes]:
    """The ids of the messages in a bundle: that of its message, and the place of each in two bytes."""
    return [identifier + place for place in _PLACES[:count]]
