"""Messages out of the bytes that travelled, when they were verified long ago: what was kept of a topic."""

import hashlib
from collections.abc import Sequence
from itertools import compress

from ..classes import NamedTuple
from ..errors import ProtocolError
from ..types import PeerId
from .bundles import MARK, inner_ids, unpack
from .messages import SignedLayout, UnsignedLayout, parse_message

_AUTHORS = 1024  # whose ids are made once


class StoredMessage(NamedTuple):
    """What apps get of a message."""

    id: bytes
    sender: PeerId | None
    data: bytes


class StoredMessages:
    """Takes apart what was kept of one topic."""

    def __init__(self, topic: str, *, sign: bool) -> None:
        """`sign`: whether the topic's messages are signed."""
        name = topic.encode()
        self._sign = sign
        self._signed = SignedLayout(PeerId(b""), name)  # whose messages, does not matter where they are recognised
        self._unsigned = UnsignedLayout(name)
        self._authors: dict[bytes, PeerId] = {}

    def open(self, raw: bytes, mask: bytes | None = None) -> list[StoredMessage]:
        """The message, or those of a bundle: of these, where there is a `mask`, the ones whose bits are set.

        Raises ProtocolError where it is none.
        """
        identifier, author, data = self._parts(raw)
        if author is None or not data.startswith(MARK):
            return [StoredMessage(identifier, author, data)]
        inner = unpack(data, int.from_bytes(identifier[-8:], "big"))
        names = inner_ids(identifier, len(inner))
        messages = [StoredMessage(name, author, each) for name, each in zip(names, inner, strict=True)]
        return messages if mask is None else list(compress(messages, _bits(mask)))

    def id(self, raw: bytes) -> bytes:
        """The id of what travelled; of a bundle the outer one. Raises ProtocolError."""
        return self._parts(raw)[0]

    def _parts(self, raw: bytes) -> tuple[bytes, PeerId | None, bytes]:
        """Its id, its author, where there is one, and its data."""
        if not self._sign:
            found = self._unsigned.match((raw,), 0)
            data = found[0] if found else parse_message(raw).data or b""
            return hashlib.sha256(data).digest(), None, data
        fields = self._signed.match(raw) or parse_message(raw)
        sender, seqno = fields.sender, fields.seqno
        if sender is None or seqno is None:
            raise ProtocolError(f"message of {len(raw)} bytes was kept without its sender and number")
        author = self._authors.get(sender)
        if author is None:
            if len(self._authors) >= _AUTHORS:
                self._authors.clear()
            author = self._authors[sender] = PeerId(sender)
        return sender + seqno, author, fields.data or b""


def accepted_mask(identifier: bytes, ids: Sequence[bytes], count: int) -> bytes | None:
    """Which messages of a bundle with so many in it these are, by their ids; None where they are all."""
    if len(ids) == count:
        return None
    mask = bytearray((count + 7) // 8)
    for name in ids:
        place = int.from_bytes(name[len(identifier) :], "big")
        mask[place // 8] |= 1 << place % 8
    return bytes(mask)


def _bits(mask: bytes) -> list[bool]:
    return [bool(byte >> place & 1) for byte in mask for place in range(8)]
