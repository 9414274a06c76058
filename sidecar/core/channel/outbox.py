"""What one yamux session has to send: control frames first, then the woken streams in turn."""

from collections import deque
from collections.abc import Callable, Sequence

from ..errors import InvalidArgument
from ..parameters.channel import INITIAL_WINDOW
from . import frames

Pull = Callable[[int, int], Sequence[bytes | memoryview]]

_LEAST_PULL = 1024  # bytes: a smaller rest of a payload is not worth a frame of its own


class YamuxStream:
    """One yamux stream: who may still send what."""

    __slots__ = (
        "acknowledged",
        "closing",
        "consumed",
        "corked",
        "deferred",
        "ended_here",
        "ended_there",
        "gone",
        "number",
        "queued",
        "receive_window",
        "send_window",
        "unconsumed",
        "window",
        "woken",
    )

    def __init__(self, number: int, window: int, *, acknowledged: bool) -> None:
        self.number = number
        self.window = window  # bytes granted to the remote in all
        self.receive_window = window  # of these, what it may still send
        self.send_window = INITIAL_WINDOW
        self.unconsumed = 0  # bytes handed to the driver and not acknowledged by it
        self.consumed = 0  # bytes acknowledged by the driver and not granted again
        self.acknowledged = acknowledged  # the remote knows of the stream
        self.corked = False  # its protocol must be agreed on before anything is pulled
        self.deferred = False  # its reader says when bytes are consumed, and may be slow
        self.woken = False  # there may be something to pull
        self.queued = False  # it has a place in the outbox's queue
        self.closing = False  # FIN follows what is still to be pulled
        self.ended_here = False  # FIN sent
        self.ended_there = False  # FIN received
        self.gone = False


class YamuxOutbox:
    """Control bytes, and a queue in which every live stream has at most one place."""

    __slots__ = ("_pull", "_ready", "control", "ended")

    def __init__(self, pull: Pull) -> None:
        self._pull = pull
        self._ready: deque[YamuxStream] = deque()
        self.control = bytearray()
        self.ended: list[YamuxStream] = []  # streams whose FIN the last payload has; the session clears it

    def __bool__(self) -> bool:
        return bool(self.control or self._ready)

    def add_control(self, kind: int, flags: int, number: int, length: int) -> None:
        """Queue a frame without a body; control frames go ahead of all that is pulled for streams."""
        self.control += frames.pack(kind, flags, number, length)

    def enqueue(self, stream: YamuxStream) -> None:
        """Give a woken stream a turn, unless it has one, must wait, or may not send."""
        if stream.woken and not stream.queued and not stream.corked and stream.send_window > 0:
            stream.queued = True
            self._ready.append(stream)

    def clear_streams(self) -> None:
        """Pull nothing more."""
        self._ready.clear()

    def next_payload(self, room: int) -> bytes:
        """At most `room` bytes of frames, empty when there is nothing to send.

        Many small frames become one payload: one encryption and one system call for all of them. A stream that wants
        more than is left of a payload waits for the next one, and the others' turn comes first. Control bytes are cut
        anywhere, and all of them go before any stream.
        """
        parts: list[bytes | memoryview] = []
        if self.control:
            parts.append(bytes(self.control[:room]))
            room -= len(parts[0])
            del self.control[: len(parts[0])]
        ready = self._ready
        while ready and room >= frames.HEADER + _LEAST_PULL:
            stream = ready.popleft()
            stream.queued = False
            if stream.gone or stream.send_window <= 0:
                continue  # a window update puts it back
            limit = min(room - frames.HEADER, stream.send_window)
            pulled = self._pull(stream.number, limit)
            size = sum(map(len, pulled))
            if size > limit:
                raise InvalidArgument(f"{size} bytes pulled for stream {stream.number}, at most {limit}")
            if size:
                parts.append(frames.pack(frames.DATA, 0, stream.number, size))
                parts += pulled
                stream.send_window -= size
                room -= size + frames.HEADER
                self.enqueue(stream)
            else:
                stream.woken = False
                if stream.closing:
                    parts.append(frames.pack(frames.DATA, frames.FIN, stream.number, 0))
                    room -= frames.HEADER
                    stream.ended_here = True
                    self.ended.append(stream)
        return b"".join(parts)
