"""gRPC's framing of messages within a stream (`grpc/doc/PROTOCOL-HTTP2.md`, "Length-Prefixed-Message")."""

import struct

from ..codes import Code

_PREFIX = struct.Struct("!BI")  # whether it is compressed, and the length in bytes
PREFIX = _PREFIX.size


def prefix(length: int) -> bytes:
    """What goes before a message of so many bytes."""
    return _PREFIX.pack(0, length)


class Unreadable(Exception):
    """Bytes behind which no message can be found any more."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = code
        """What the call ends with."""


class MessageReader:
    """Finds the messages in a stream's bytes."""

    __slots__ = ("_begun", "_max", "_missing", "_parts", "_remedy")

    def __init__(self, max_message: int, remedy: str = "") -> None:
        """`max_message`: bytes of the largest that is taken. `remedy`: what to say to who sends a larger one."""
        self._max = max_message
        self._remedy = remedy
        self._begun = b""  # of a prefix
        self._parts: list[bytes] = []  # of a message, joined once it is whole
        self._missing = 0

    @property
    def amid(self) -> bool:
        """Whether a message has begun and not ended."""
        return bool(self._begun or self._missing)

    def receive(self, data: bytes) -> list[bytes]:
        """The messages that these bytes complete. Raises Unreadable."""
        size = len(data)
        messages: list[bytes] = []
        start = 0
        if self._missing:
            start = self._missing
            if size < start:
                self._parts.append(data)
                self._missing -= size
                return messages
            self._parts.append(data[:start])
            messages.append(b"".join(self._parts))
            self._parts = []
            self._missing = 0
        elif self._begun:
            data = self._begun + data
            size = len(data)
            self._begun = b""
        while size - start >= PREFIX:
            body = start + PREFIX
            length = self._length(data, start)
            start = body + length
            if start > size:
                self._parts = [data[body:]]
                self._missing = start - size
                return messages
            messages.append(data[body:start])
        self._begun = data[start:]
        return messages

    def _length(self, data: bytes, start: int) -> int:
        compressed, length = _PREFIX.unpack_from(data, start)
        if compressed:
            raise Unreadable(Code.INTERNAL, f"a message is marked as compressed ({compressed}), and its call is not")
        if length > self._max:
            # In gRPC's own words, by which clients know what was too large.
            message = f"Received message larger than max ({length} vs. {self._max}){self._remedy}"
            raise Unreadable(Code.RESOURCE_EXHAUSTED, message)
        return int(length)
