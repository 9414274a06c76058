"""The two byte queues of every stream: cutting what arrives into frames, and what leaves into pieces."""

from collections.abc import Sequence

from .errors import FrameTooLarge, ProtocolError
from .varint import decode

Buffers = Sequence[bytes | memoryview]
"""Pieces of bytes, to be sent one behind the other."""


class FrameDecoder:
    """Cuts a byte stream into frames that a varint length precedes.

    Holds at most one unfinished frame of `max_frame` bytes. An announced length above that raises FrameTooLarge
    before a byte of it is kept; one of at most `max_skipped` is passed over instead, and counted, so that it costs
    nothing of what follows it.
    """

    __slots__ = ("_buffer", "_skip", "max_frame", "max_skipped", "skipped", "skipped_bytes")

    def __init__(self, max_frame: int, max_skipped: int = 0) -> None:
        self.max_frame = max_frame
        self.max_skipped = max_skipped
        self.skipped = 0  # frames
        self.skipped_bytes = 0  # of these, as announced
        self._skip = 0  # bytes of one that are still to come
        self._buffer = bytearray()

    def receive(self, data: bytes) -> list[bytes]:
        """The bodies of all frames that `data` completes. Raises FrameTooLarge, ProtocolError."""
        frames, error = self.cut(data)
        if error is not None:
            raise error
        return frames

    def cut(self, data: bytes) -> tuple[list[bytes], ProtocolError | None]:
        """As `receive`, but gives the frames before a bad one too, with the error that `receive` would raise.

        So the frames are the same in whatever pieces the bytes come. After an error nothing more can be read.
        """
        if self._skip:
            passed = min(self._skip, len(data))
            self._skip -= passed
            data = data[passed:]
        buffer = self._buffer
        if buffer:
            buffer += data
            source: bytes | bytearray = buffer
        else:
            source = data  # the common case: whole frames, nothing copied but the bodies
        frames: list[bytes] = []
        offset, end = 0, len(source)
        while offset < end:
            length = source[offset]
            start = offset + 1
            if length >= 0x80:
                try:
                    header = decode(source, offset)
                except ProtocolError as error:
                    return frames, error
                if header is None:
                    break
                length, start = header
            if self.max_frame < length <= self.max_skipped:
                self.skipped += 1
                self.skipped_bytes += length
                self._skip = max(0, start + length - end)
                offset = min(end, start + length)
                continue
            if length > self.max_frame:
                return frames, FrameTooLarge(f"frame of {length} bytes, at most {self.max_frame}")
            if start + length > end:
                break
            frames.append(bytes(source[start : start + length]))
            offset = start + length
        if source is buffer:
            del buffer[:offset]
        elif offset < end:
            buffer += data[offset:]
        return frames, None

    def __len__(self) -> int:
        """Bytes held of an unfinished frame."""
        return len(self._buffer)


class SendBuffer:
    """Bytes on their way out: pushed whole, taken in pieces without copying more than a cut needs."""

    __slots__ = ("_pieces", "size")

    def __init__(self) -> None:
        # A list takes a tenth of an empty deque's memory, and every stream has a buffer.
        self._pieces: list[bytes | memoryview] = []
        self.size = 0

    def push(self, data: bytes) -> None:
        """Put bytes behind those that wait; they are kept, not copied."""
        if data:
            self._pieces.append(data)
            self.size += len(data)

    def take(self, limit: int) -> list[bytes | memoryview]:
        """Remove at most `limit` bytes from the front."""
        pieces = self._pieces
        if self.size <= limit:
            self._pieces, self.size = [], 0
            return pieces
        whole, left = 0, limit
        while left > 0 and len(pieces[whole]) <= left:
            left -= len(pieces[whole])
            whole += 1
        taken = pieces[:whole]
        del pieces[:whole]
        if left > 0:
            view = memoryview(pieces[0])
            taken.append(view[:left])
            pieces[0] = view[left:]
        self.size -= max(0, limit)
        return taken

    def clear(self) -> None:
        """Drop all that waits: nobody will take it."""
        self._pieces.clear()
        self.size = 0

    def __len__(self) -> int:
        return self.size

    def __bool__(self) -> bool:
        return self.size > 0
