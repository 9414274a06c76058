"""SubscribeResponse, encoded by hand: each message of a topic once, for all its readers."""

from collections.abc import Iterator, Sequence
from typing import Protocol

from google.protobuf.timestamp_pb2 import Timestamp
from sidecar_client.v1.pubsub_pb2 import SubscribeResponse, TopicMessage, ValidateResponse

from ...core.types import PeerId
from ...core.varint import encode
from ..common.encode import TRUE, VARINTS, LagReason, field, peer_field, tag, varint
from ..common.encode import lagged as lagged_in

PIECE_BYTES = 65_536  # about where a joined piece ends, so that 1 MiB batches fill well
PIECE_ITEMS = 1024

_ITEM = tag(SubscribeResponse, "messages")
_LAGGED = tag(SubscribeResponse, "lagged")
_POSITION = tag(SubscribeResponse, "cursor")
_TOPIC, _DATA, _SENDER, _ID, _CURSOR, _TIME, _LOCAL, _HISTORY = (
    tag(TopicMessage, name)
    for name in ("topic", "data", "sender", "message_id", "cursor", "receive_time", "local", "history")
)
_FIRST = tag(ValidateResponse, "first")
_SECONDS, _NANOSECONDS = (tag(Timestamp, name) for name in ("seconds", "nanos"))
_CURSOR_BYTES = 16


class TopicItem(Protocol):
    """What of a gossip message goes to subscribers."""

    @property
    def id(self) -> bytes:
        """The message's id."""

    @property
    def sender(self) -> PeerId | None:
        """Whose signature it has."""

    @property
    def data(self) -> bytes:
        """The payload."""


def topic_pieces(
    topic: str,
    messages: Sequence[TopicItem],
    *,
    epoch: bytes,
    first: int,
    wall_ns: int,
    local: bool,
    history: bool = False,
) -> Iterator[tuple[int, bytes]]:
    """Encode messages as items of a SubscribeResponse.

    Yields (count, joined items), each of about `PIECE_BYTES`. `first` is the counter of the first message's cursor,
    `epoch` the 8 bytes before it. `history`: a peer brought them that had them before.
    """
    seconds, nanoseconds = divmod(wall_ns, 1_000_000_000)
    when = _SECONDS + varint(seconds) + (_NANOSECONDS + varint(nanoseconds) if nanoseconds else b"")
    marks = (_LOCAL + TRUE if local else b"") + (_HISTORY + TRUE if history else b"")
    fixed = field(_TOPIC, topic.encode()) + field(_TIME, when) + marks
    cursor = _CURSOR + varint(_CURSOR_BYTES) + epoch
    base = len(fixed) + len(cursor) + 8 + len(_DATA) + len(_ID)
    counter = first
    parts: list[bytes] = []
    size = 0
    started = counter
    for message in messages:
        data, identifier, peer = message.data, message.id, message.sender
        length, id_length = len(data), len(identifier)
        prefix = VARINTS[length] if length < 2048 else encode(length)
        id_prefix = VARINTS[id_length] if id_length < 2048 else encode(id_length)
        sender = b"" if peer is None else peer_field(_SENDER, peer)
        whole = base + len(sender) + len(prefix) + length + len(id_prefix) + id_length
        parts += (
            _ITEM,
            VARINTS[whole] if whole < 2048 else encode(whole),
            fixed,
            sender,
            _DATA,
            prefix,
            data,
            _ID,
            id_prefix,
            identifier,
            cursor,
            counter.to_bytes(8, "big"),
        )
        counter += 1
        size += whole
        if size >= PIECE_BYTES or counter - started >= PIECE_ITEMS:
            yield counter - started, b"".join(parts)
            parts, size, started = [], 0, counter
    if parts:
        yield counter - started, b"".join(parts)


def judged_pieces(
    topic: str, messages: Sequence[TopicItem], *, wall_ns: int, local: bool
) -> Iterator[tuple[int, bytes]]:
    """Encode messages that are to be judged, as `topic_pieces` but without cursors."""
    seconds, nanoseconds = divmod(wall_ns, 1_000_000_000)
    when = _SECONDS + varint(seconds) + (_NANOSECONDS + varint(nanoseconds) if nanoseconds else b"")
    fixed = field(_TOPIC, topic.encode()) + field(_TIME, when) + (_LOCAL + TRUE if local else b"")
    base = len(fixed) + len(_DATA)
    parts: list[bytes] = []
    size = count = 0
    for message in messages:
        data, name, peer = message.data, message.id, message.sender
        length, name_length = len(data), len(name)
        prefix = VARINTS[length] if length < 2048 else encode(length)
        sender = b"" if peer is None else peer_field(_SENDER, peer)
        identifier = (_ID, VARINTS[name_length] if name_length < 2048 else encode(name_length), name) if name else ()
        whole = base + len(sender) + len(prefix) + length + sum(map(len, identifier))
        parts += (
            _ITEM,
            VARINTS[whole] if whole < 2048 else encode(whole),
            fixed,
            sender,
            _DATA,
            prefix,
            data,
            *identifier,
        )
        count += 1
        size += whole
        if size >= PIECE_BYTES or count >= PIECE_ITEMS:
            yield count, b"".join(parts)
            parts, size, count = [], 0, 0
    if parts:
        yield count, b"".join(parts)


def numbered(first: int) -> bytes:
    """The number of the first message to be judged in a response, as its field."""
    return _FIRST + encode(first)


def cursor(epoch: bytes, counter: int) -> bytes:
    """The cursor behind the message with this counter."""
    return epoch + counter.to_bytes(8, "big")


def position(cursor: bytes) -> bytes:
    """Where the stream stands, as a field of the response."""
    return field(_POSITION, cursor)


def lagged(missed: int | None, reason: LagReason) -> bytes:
    """What was missed before the response's messages, as its field; `missed` None where nobody knows how much."""
    return lagged_in(_LAGGED, missed, reason)
