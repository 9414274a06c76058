"""What both ends of a link have in common: bytes in and out, one timer, an end."""

from abc import ABC, abstractmethod

from ..buffer import FrameDecoder, SendBuffer
from ..errors import ProtocolError, SidecarError
from ..parameters.direct import MAX_FRAME
from ..types import PeerId
from .events import CloseLink, Link, LinkViolated, LinkWoken
from .shared import Shared, Timer

FRAME_TARGET = 1 << 16  # bytes: enough that a frame's own cost vanishes, little enough that most waits as plain items


class LinkEnd(ABC):
    """One end of one link. `links` is the router's table, which it leaves when it ends."""

    def __init__(self, shared: Shared, links: "dict[Link, LinkEnd]", peer: PeerId, link: Link) -> None:
        self.peer = peer
        self.link = link
        self._shared = shared
        self._links = links
        self._decoder = FrameDecoder(MAX_FRAME)
        self._frame = SendBuffer()  # what is left of the frame being written
        self._awake = False
        self._last_active = shared.now
        self._timer = Timer(shared.deadlines, self._on_timer)
        links[link] = self

    def take(self, limit: int) -> list[bytes | memoryview]:
        """At most `limit` bytes to write."""
        if limit <= 0:
            return []
        taken: list[bytes | memoryview] = []
        while limit > 0:
            if not self._frame:
                self._frame.push(self._next_frame())
            size = self._frame.size
            pieces = self._frame.take(limit)
            if not pieces:
                break
            limit -= size - self._frame.size
            taken += pieces
        if taken:
            self._last_active = self._shared.now
        else:
            self._awake = False
        return taken

    def wake(self) -> None:
        """Say that there is something to take, unless that has been said or there is nothing."""
        if not self._awake and self._has_work():
            self._awake = True
            self._shared.effects.append(LinkWoken(self.link))

    def receive(self, data: bytes) -> None:
        """Take bytes of the remote."""
        self._last_active = self._shared.now
        frames, error = self._decoder.cut(data)
        try:
            for frame in frames:
                self._on_frame(frame)
        except ProtocolError as violation:
            error = violation
        self._on_read()
        if error is not None:
            self.violated(error)
        else:
            self.wake()

    def violated(self, error: SidecarError) -> None:
        """End the link since the remote broke the protocol."""
        self._shared.effects.append(LinkViolated(self.link, error))
        self.end(error, broken=True)

    def end(self, error: SidecarError | None, broken: bool = False) -> None:
        """The link is no more; `broken` when it is the remote's fault."""
        del self._links[self.link]
        self._timer.cancel()
        self._frame.clear()
        self._on_end(error, broken)

    def _close_when_idle(self, now: float, patience: float) -> bool:
        """Close the link in order when nothing went over it for `patience` seconds; the caller knows of no work."""
        if now < self._last_active + patience:  # the very sum that the timer was set to: no rounding in between
            return False
        self._shared.effects.append(CloseLink(self.link))
        self.end(None)
        return True

    @property
    @abstractmethod
    def busy(self) -> bool:
        """Whether something waits to be written, or for an answer."""

    @abstractmethod
    def _has_work(self) -> bool:
        """Whether `_next_frame` would give one."""

    @abstractmethod
    def _next_frame(self) -> bytes:
        """The next frame with its length, of about FRAME_TARGET bytes or one larger item; empty when there is none."""

    @abstractmethod
    def _on_frame(self, body: bytes) -> None:
        """Serve a frame. Raises ProtocolError."""

    @abstractmethod
    def _on_read(self) -> None:
        """All frames of one read are served."""

    @abstractmethod
    def _on_timer(self, now: float) -> float | None:
        """Do what is due; returns when to look again, None when the link has ended."""

    @abstractmethod
    def _on_end(self, error: SidecarError | None, broken: bool) -> None:
        """Give up all work of the link."""
