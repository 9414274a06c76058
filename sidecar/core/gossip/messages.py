"""Gossipsub's encodings.

RPCs are parsed by protobuf; messages stay the bytes that came, since bytes are what is hashed, verified and forwarded;
what we send is put together by hand from pieces that are encoded once.
"""

import sys
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import accumulate

from google.protobuf.message import DecodeError

from ...wire.gossip_pb2 import RPC as RPC  # these for the rest of the room
from ...wire.gossip_pb2 import ControlExtensions as ControlExtensions
from ...wire.gossip_pb2 import ControlMessage as ControlMessage
from ...wire.gossip_pb2 import ControlPrune as ControlPrune
from ...wire.gossip_pb2 import Named as Named
from ...wire.gossip_pb2 import PeerInfo as PeerInfo
from ..classes import NamedTuple
from ..errors import ProtocolError
from ..types import PeerId
from ..varint import encode

_SIGNATURE = 5  # field number; `key` is 6
_LENGTH_DELIMITED = 2
_MAX_TAG = 2**32 - 1  # protobuf's
# `publish` field header for each short message's length: looked up, not computed, once a message.
_HEADERS = [b"\x12" + encode(size) for size in range(4096)]
_AGE = encode(5365450 << 3)  # header of `age_ms`
_LAZY = 5365451  # field number of `lazy_links` and of `named`
_NAMED = encode(_LAZY << 3 | _LENGTH_DELIMITED)
_BUNDLES = 5365452  # field number of `bundles`
# By the size of an RPC: how it begins where it has nothing but an IDONTWANT of one id.
_ONE_IDONTWANT = [b""] * 6 + [bytes((0x1A, size - 2, 0x2A, size - 4, 0x0A, size - 6)) for size in range(6, 130)]
RESUME = b"\x18\x01"  # the entry of Named that asks for messages in place of ids
MAX_AGE = 3_600_000  # milliseconds in a topic; beyond that nobody asks
_MATCHED_AT_ONCE = 1024  # so that a list of many topics is not copied once for each


class BundleBytes(bytes):
    """A message that has others in it, as it travels: `messages` says how many. It counts as these wherever it goes."""

    messages: int

    @classmethod
    def of(cls, raw: bytes, messages: int) -> "BundleBytes":
        """The bytes of a message with so many in it."""
        made = cls(raw)
        made.messages = messages
        return made


def count_messages(raws: Sequence[bytes]) -> int:
    """How many messages these are, with those in bundles."""
    if BundleBytes not in set(map(type, raws)):  # at C speed, since most are none
        return len(raws)
    return sum(raw.messages if isinstance(raw, BundleBytes) else 1 for raw in raws)


class RpcChunk(NamedTuple):
    """One whole frame with messages, shared by the queues of all peers that get it."""

    frame: bytes
    messages: int  # those in bundles are counted one by one

    @property
    def body_size(self) -> int:
        """Bytes of the RPC, without its length."""
        size = len(self.frame)
        return next(size - prefix for prefix in range(1, size + 1) if len(encode(size - prefix)) == prefix)


class Fields(NamedTuple):
    """One message taken apart. `content` is what the signature covers, without the prefix."""

    sender: bytes | None
    data: bytes | None
    seqno: bytes | None
    topic: bytes | None
    signature: bytes | None
    key: bytes | None
    content: bytes


class NamedIds(NamedTuple):
    """An entry of Named, as `match_named` takes it apart."""

    topicID: bytes
    messageIDs: Sequence[bytes]
    resume: bool = False


def match_message(body: bytes) -> bytes | None:
    """The message of an RPC that has nothing but one. None for any other RPC: `decode_rpc` reads that.

    At rest most RPCs are of this kind or the next two, and protobuf takes several times as long.
    """
    size = len(body) - 2
    if size >= 1 << 7:  # the length takes a second byte, and a third
        size -= 1
        if size >= 1 << 14:
            size -= 1
    header = _header(size) if size >= 0 else b"\x12\x00\x00"
    return body[len(header) :] if body.startswith(header) and len(header) + size == len(body) else None


def match_idontwant(body: bytes) -> bytes | None:
    """The id in an RPC that has nothing but an IDONTWANT of one message, as sidecars and others write it; else None."""
    size = len(body)
    return body[6:] if 6 <= size < 130 and body.startswith(_ONE_IDONTWANT[size]) else None


def match_named(body: bytes) -> NamedIds | None:
    """What is in an RPC that has nothing but one entry of Named with one id, as sidecars write it; else None."""
    size, start = len(body), len(_NAMED) + 3
    if not body.startswith(_NAMED) or not start < size < start + 126:
        return None
    topic_end = start + body[start - 1]
    if topic_end + 2 > size or body[start - 3] != size - start + 2 or body[start - 2] != 0x0A:
        return None
    if body[topic_end] != 0x12 or body[topic_end + 1] != size - topic_end - 2:
        return None
    return NamedIds(body[start:topic_end], (body[topic_end + 2 :],))


def decode_rpc(body: bytes) -> RPC:
    """Parse an RPC without its length prefix. Raises ProtocolError."""
    try:
        return RPC.FromString(body)
    except DecodeError:
        raise ProtocolError(f"gossip RPC of {len(body)} bytes is malformed") from None


# ---------------------------------------------------------------- messages


def parse_message(raw: bytes) -> Fields:
    """Take a message apart, keeping its bytes. Raises ProtocolError.

    The signature covers the message without `signature` and `key` as other implementations encode it: known fields in
    order of their numbers, the last of each, then the unknown ones. Where the bytes are laid out so already, and those
    two come last, the content is a slice.
    """
    values: list[bytes | None] = [None] * 7
    unknown: list[bytes] = []
    offset, end = 0, len(raw)
    previous, ordered, signed_end = 0, True, -1
    while offset < end:
        start = offset
        tag, offset = _varint(raw, offset)
        if tag > _MAX_TAG:
            raise ProtocolError(f"gossip message with a field tag of {tag.bit_length()} bits, at most 32")
        number, wire_type = tag >> 3, tag & 7
        if wire_type == _LENGTH_DELIMITED:
            length, offset = _varint(raw, offset)
            value_start, offset = offset, offset + length
            if offset > end:
                raise ProtocolError(f"gossip message of {end} bytes is cut short")
        else:
            value_start, offset = offset, _skip(raw, offset, wire_type)
        if 0 < number < 7:
            if wire_type != _LENGTH_DELIMITED:
                raise ProtocolError(f"field {number} of a gossip message has wire type {wire_type}")
            values[number] = raw[value_start:offset]
            # A length that ends in a zero byte, and a tag of more than one, are not the shortest encodings.
            shortest = tag == raw[start] and (value_start - start == 2 or raw[value_start - 1] != 0)
            ordered = ordered and number > previous and shortest
            previous = number
            if number >= _SIGNATURE and signed_end < 0:
                signed_end = start
        else:
            if number == 0:
                raise ProtocolError("field 0 in a gossip message")
            unknown.append(raw[start:offset])
            ordered = False
    if ordered:
        content = raw[:signed_end] if signed_end >= 0 else raw
    else:
        known = [field(number, value) for number in (1, 2, 3, 4) if (value := values[number]) is not None]
        content = b"".join((*known, *unknown))
    return Fields(values[1], values[2], values[3], values[4], values[5], values[6], content)


def claimed_author(raw: bytes) -> bytes:
    """Whose message it says it is, where that is the first of its fields, as nearly everybody writes it; else empty."""
    return raw[2 : 2 + raw[1]] if len(raw) > 1 and raw[0] == 0x0A and raw[1] < 0x80 else b""


def _varint(data: bytes, offset: int) -> tuple[int, int]:
    """A protobuf varint, which may be longer than needed, unlike those of multiformats."""
    value = shift = 0
    for position in range(offset, min(len(data), offset + 10)):
        byte = data[position]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position + 1
        shift += 7
    raise ProtocolError(f"gossip message of {len(data)} bytes has a varint that is cut short or too long")


def _skip(data: bytes, offset: int, wire_type: int) -> int:
    """The offset behind a value that is not length-delimited."""
    if wire_type == 0:
        return _varint(data, offset)[1]
    if wire_type not in (1, 5):  # groups: nobody sends them
        raise ProtocolError(f"gossip message with wire type {wire_type}")
    offset += 8 if wire_type == 1 else 4
    if offset > len(data):
        raise ProtocolError(f"gossip message of {len(data)} bytes is cut short")
    return offset


def field(number: int, value: bytes) -> bytes:
    """A length-delimited protobuf field with a number below 16."""
    return bytes((number << 3 | _LENGTH_DELIMITED,)) + encode(len(value)) + value


class UnsignedLayout:
    """Makes and recognises the usual encoding of a topic's unsigned messages: data, then topic.

    All else in such a message is constant, so that two comparisons take it apart; other encodings of the same are
    left to `parse_message`.
    """

    __slots__ = ("_tail", "envelope")

    def __init__(self, topic: bytes) -> None:
        self._tail = field(4, topic)
        self.envelope = len(self._tail)  # bytes without the data

    def encode(self, messages: Sequence[bytes]) -> list[bytes]:
        """The messages of these payloads, in order."""
        tail, headers = self._tail, _HEADERS
        try:
            return [headers[len(data)] + data + tail for data in messages]
        except IndexError:
            return [b"".join((_header(len(data)), data, tail)) for data in messages]

    def match(self, raws: Sequence[bytes], start: int) -> list[bytes]:
        """The data of the messages from `start` on, up to the first that is not of this layout."""
        tail = self._tail
        behind = len(tail)
        headers = _HEADERS
        found: list[bytes] = []
        for raw in raws[start : start + _MATCHED_AT_ONCE]:
            size = len(raw) - behind - 2
            if size >= 1 << 7:  # the length of the data takes a second byte, and a third
                size -= 1
                if size >= 1 << 14:
                    size -= 1
            # A negative size finds a header that cannot fit: such a message begins with the tail's first byte.
            header = headers[size] if size < 4096 else b"\x12" + encode(size)
            if not (raw.endswith(tail) and raw.startswith(header)):
                break
            found.append(raw[len(header) : -behind])
        return found


class SignedLayout:
    """Makes and recognises the usual encoding of a topic's signed messages: from, data, seqno, topic, signature.

    Recognised is what an Ed25519 author signs: 38 bytes of peer id, which contain the key.
    """

    __slots__ = ("_head", "_tail", "_topic", "envelope")

    def __init__(self, sender: PeerId, topic: bytes) -> None:
        self._topic = topic
        self._head = field(1, sender)
        self._tail = field(4, topic)
        # With sequence number and signature, without the data.
        self.envelope = len(self._head) + 10 + len(self._tail) + 66

    def encode(self, data: bytes, seqno: bytes) -> bytes:
        """The message before it is signed: what the signature covers, without the prefix."""
        return b"".join((self._head, _header(len(data)), data, b"\x1a\x08", seqno, self._tail))

    def sealed(self, content: bytes, signature: bytes) -> bytes:
        """The message with its signature."""
        return content + b"\x2a\x40" + signature

    def match(self, raw: bytes) -> Fields | None:
        """Take a message of this layout apart, or None: the work of `parse_message` in a few comparisons."""
        signature_start = len(raw) - 64
        content_end = signature_start - 2
        seqno_end = content_end - len(self._tail)
        data_end = seqno_end - 10
        size = data_end - 42
        if size < 0:
            return None
        if size >= 1 << 7:  # the length of the data takes a second byte, and a third
            size -= 1
            if size >= 1 << 14:
                size -= 1
        header = _header(size)
        if not (
            raw.startswith(b"\n&")
            and raw.startswith(header, 40)
            and raw.startswith(b"\x1a\x08", data_end)
            and raw.startswith(self._tail, seqno_end)
            and raw.startswith(b"\x2a\x40", content_end)
        ):
            return None
        return Fields(
            raw[2:40],
            raw[40 + len(header) : data_end],
            raw[data_end + 2 : seqno_end],
            self._topic,
            raw[signature_start:],
            None,
            raw[:content_end],
        )


def max_payload(envelope: int, max_rpc: int) -> int:
    """The largest data of a message whose other fields take `envelope` bytes, alone in an RPC of `max_rpc` bytes."""

    def rpc_size(size: int) -> int:
        message = envelope + 1 + len(encode(size)) + size
        return 1 + len(encode(message)) + message

    size = max(0, max_rpc - envelope)
    while size and rpc_size(size) > max_rpc:
        size -= 1
    return size


# ---------------------------------------------------------------- frames


def split_chunk(chunk: RpcChunk) -> list[bytes]:
    """The messages of a chunk of our own making."""
    return list(decode_rpc(chunk.frame[-chunk.body_size :]).publish)


def build_chunks(raws: Sequence[bytes], max_bytes: int, max_count: int) -> list[RpcChunk]:
    """Join messages into frames of at most `max_bytes` (unless one alone is larger) and `max_count` messages."""
    headers = [_header(len(raw)) for raw in raws]
    pieces = [b""] * (2 * len(raws))
    pieces[::2], pieces[1::2] = headers, raws
    total = sum(map(len, pieces))
    if len(raws) == 1 or (len(raws) <= max_count and total + 3 <= max_bytes):
        return [RpcChunk(b"".join((encode(total), *pieces)), count_messages(raws))]
    chunks: list[RpcChunk] = []
    ends = list(accumulate(map(len, pieces), initial=0))[::2]
    first = 0
    while first < len(raws):
        # 3: the length prefix of every frame that holds more than one message
        behind = bisect_right(ends, ends[first] + max_bytes - 3) - 1
        behind = min(max(behind, first + 1), first + max_count)
        frame = b"".join((encode(ends[behind] - ends[first]), *pieces[2 * first : 2 * behind]))
        chunks.append(RpcChunk(frame, count_messages(raws[first:behind])))
        first = behind
    return chunks


def _header(size: int) -> bytes:
    return _HEADERS[size] if size < 4096 else b"\x12" + encode(size)


# ---------------------------------------------------------------- control


def encode_subscription(topic: bytes, age: int | None) -> bytes:
    """An announcement: in the topic since `age` milliseconds, or (None) not any more."""
    if age is None:
        return field(1, b"\x08\x00" + field(2, topic))
    return field(1, b"\x08\x01" + field(2, topic) + _AGE + encode(min(age, MAX_AGE)))


def encode_graft(topic: bytes) -> bytes:
    """A GRAFT, as an entry of ControlMessage."""
    return field(3, field(1, topic))


def encode_prune(topic: bytes, peers: Iterable[tuple[PeerId, bytes | None]], backoff: int | None) -> bytes:
    """A PRUNE with peer exchange; `backoff` in seconds, None for peers of gossipsub 1.0."""
    pieces = [field(1, topic)]
    for peer, record in peers:
        pieces.append(field(2, field(1, peer) + (field(2, record) if record is not None else b"")))
    if backoff is not None:
        pieces.append(b"\x18" + encode(backoff))
    return field(4, b"".join(pieces))


def encode_extensions(*, lazy_links: bool) -> bytes:
    """The frame that says first on a stream what we can do beyond gossipsub 1.3: bundles, and perhaps lazy links."""
    known = (_LAZY, _BUNDLES) if lazy_links else (_BUNDLES,)
    body = field(3, field(6, b"".join(encode(number << 3) + b"\x01" for number in known)))
    return encode(len(body)) + body


def encode_ids(ids: Sequence[bytes]) -> bytes:
    """Message ids as the entries of Named."""
    size = len(ids[0])
    if all(len(identifier) == size for identifier in ids):
        header = b"\x12" + encode(size)
        return header + header.join(ids)
    return b"".join(field(2, identifier) for identifier in ids)


def encode_named(named: Mapping[bytes, Sequence[bytes]], max_bytes: int) -> list[bytes]:
    """Whole frames with the ids that are named, by topic; each piece is of `encode_ids`."""
    if len(named) == 1:
        ((topic, pieces),) = named.items()
        if len(pieces) == 1:
            return _encode_piece(topic, pieces[0], max_bytes)
    return _encode_pieces(named, max_bytes)


@lru_cache(maxsize=16)  # several peers are told the same
def _encode_piece(topic: bytes, piece: bytes, max_bytes: int) -> list[bytes]:
    return _encode_pieces({topic: (piece,)}, max_bytes)


def _encode_pieces(named: Mapping[bytes, Sequence[bytes]], max_bytes: int) -> list[bytes]:
    entries: list[bytes] = []
    for topic, pieces in named.items():
        head = field(1, topic)
        for piece in pack(pieces, max_bytes - len(head) - 16):
            entries.append(_NAMED + encode(len(head) + len(piece)) + head + piece)
    return [encode(len(body)) + body for body in pack(entries, max_bytes - 8)]


def encode_ihaves(topic: bytes, ids: Sequence[bytes], max_bytes: int) -> list[bytes]:
    """IHAVE entries of at most `max_bytes` each."""
    head = field(1, topic)
    return [field(1, head + piece) for piece in _split_ids(2, ids, max_bytes - len(head) - 8)]


def encode_iwants(ids: Sequence[bytes], max_bytes: int) -> list[bytes]:
    """IWANT entries of at most `max_bytes` each."""
    return [field(2, piece) for piece in _split_ids(1, ids, max_bytes - 8)]


def encode_idontwants(ids: Sequence[bytes], count: int) -> list[bytes]:
    """Whole frames, each with at most `count` ids: what one RPC may tell."""
    if len(ids) == 1:
        return [_encode_idontwant(ids[0])]
    entries = [b"".join(field(1, identifier) for identifier in ids[i : i + count]) for i in range(0, len(ids), count)]
    bodies = [field(3, field(5, entry)) for entry in entries]
    return [encode(len(body)) + body for body in bodies]


@lru_cache(maxsize=16)  # several peers are told the same
def _encode_idontwant(identifier: bytes) -> bytes:
    body = field(3, field(5, field(1, identifier)))
    return encode(len(body)) + body


def _split_ids(number: int, ids: Sequence[bytes], max_bytes: int) -> list[bytes]:
    return pack([field(number, identifier) for identifier in ids], max_bytes)


def pack(items: Sequence[bytes], max_bytes: int, max_items: int = sys.maxsize) -> list[bytes]:
    """Join items in order into as few pieces of at most `max_bytes` and `max_items` as that allows.

    A larger item stands alone.
    """
    pieces: list[bytes] = []
    pending: list[bytes] = []
    size = 0
    for item in items:
        if pending and (size + len(item) > max_bytes or len(pending) == max_items):
            pieces.append(b"".join(pending))
            pending, size = [], 0
        pending.append(item)
        size += len(item)
    if pending:
        pieces.append(b"".join(pending))
    return pieces


def control_frames(
    subscriptions: Sequence[bytes], control: Sequence[bytes], max_bytes: int, max_items: int = sys.maxsize
) -> list[bytes]:
    """Whole frames with the entries of ControlMessage and, before them, subscriptions; at most `max_items` of each."""
    bodies = pack(subscriptions, max_bytes - 8, max_items)
    wrapped = [field(3, piece) for piece in pack(control, max_bytes - 8, max_items)]
    if bodies and wrapped and len(bodies[-1]) + len(wrapped[0]) <= max_bytes - 8:
        bodies[-1] += wrapped.pop(0)
    return [encode(len(body)) + body for body in (*bodies, *wrapped)]
