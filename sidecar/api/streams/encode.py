"""Responses of byte streams, encoded by hand: bytes pass through uncopied.

OpenStreamResponse and AttachStreamResponse are encoded alike.
"""

from sidecar_client.v1.stream_pb2 import CarryStreamsResponse, IncomingFrame, OpenStreamResponse

from ..common.encode import TRUE, field, tag, varint

_DATA, _END, _STATUS = (tag(OpenStreamResponse, name) for name in ("data", "end", "status"))
_FRAME = tag(CarryStreamsResponse, "frames")
_NUMBER, _FRAME_DATA, _FRAME_END, _WINDOW, _DONE, _FRAME_STATUS = (
    tag(IncomingFrame, name) for name in ("stream", "data", "end", "window", "done", "status")
)


def stream_bytes(head: bytes, pieces: list[bytes], size: int, end: bool) -> bytes:
    """A response: `head` (encoded), `size` bytes of data in pieces, and whether they are the last."""
    last = _END + TRUE if end else b""
    return b"".join((head, _DATA, varint(size), *pieces, last)) if pieces else head + last


def ended_with(status: bytes) -> bytes:
    """A response: the status that the stream has ended with."""
    return field(_STATUS, status)


def stream_frame(
    number: int,
    opened: bytes,
    pieces: list[bytes],
    size: int,
    *,
    end: bool,
    window: int,
    done: bool,
    status: bytes,
) -> list[bytes]:
    """The parts of a frame of a CarryStreamsResponse: what is told of one stream.

    `opened` is encoded, with its tag; `size` bytes of data are in the pieces.
    """
    before = _NUMBER + varint(number) + opened
    if pieces:
        before += _FRAME_DATA + varint(size)
    behind = (_FRAME_END + TRUE if end else b"") + (_WINDOW + varint(window) if window else b"")
    if done:
        behind += _DONE + TRUE
    if status:
        behind += field(_FRAME_STATUS, status)
    return [_FRAME + varint(len(before) + size + len(behind)) + before, *pieces, behind]


def failed(number: int, status: bytes) -> bytes:
    """A frame that says what a stream has failed with."""
    return b"".join(stream_frame(number, b"", [], 0, end=False, window=0, done=False, status=status))
