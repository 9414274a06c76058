"""What is open toward apps and what is under way for them, and how both end when the sidecar stops."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ...core.errors import Closed
from .outlet import Outlet


class Lifetime:
    """The way from serving over draining, in which nothing new is taken on, to the end."""

    def __init__(self) -> None:
        self._draining = False
        self._closing = False
        self._drained = asyncio.Event()
        self._busy: list[Callable[[], bool]] = []
        self._streams: dict[Outlet, bool] = {}  # whether its app asks there, and is answered

    @property
    def streams(self) -> int:
        """How many streams are open."""
        return len(self._streams)

    def refusing(self) -> bool:
        """Whether the sidecar drains: it takes nothing new on."""
        return self._draining

    def check_accepting(self) -> None:
        """Raises Closed once the sidecar drains."""
        if self._draining:
            raise _closed()

    def check_open(self) -> None:
        """Raises Closed once the sidecar stops."""
        if self._closing:
            raise _closed()

    @contextmanager
    def stream(self, stream: Outlet, *, asking: bool = False) -> Iterator[None]:
        """While a stream is open, it is ended when the sidecar stops. Raises Closed.

        `asking`: it has nothing to say but answers. So it ends once the sidecar drains and all are given; an app that
        keeps it open then hears at once that it has to ask elsewhere.
        """
        self.check_open()
        self._streams[stream] = asking
        if asking and self._draining:
            stream.part(_closed())
        try:
            yield
        finally:
            del self._streams[stream]

    def await_end_of(self, busy: Callable[[], bool]) -> None:
        """Wait, when draining, until this is false; `settled` says when to ask again."""
        self._busy.append(busy)

    def settled(self) -> None:
        """Something that was under way has ended."""
        if self._draining and not any(busy() for busy in self._busy):
            self._drained.set()

    async def drain(self, timeout: float) -> None:
        """Take nothing new on, and give what is under way up to `timeout` seconds to end."""
        self._draining = True
        for stream, asking in list(self._streams.items()):
            if asking:
                stream.part(_closed())
        self.settled()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._drained.wait(), timeout)

    def close(self) -> None:
        """Every stream delivers what it holds, then ends with Closed; nothing new is taken on."""
        if not self._closing:
            self._closing = True
            for stream in list(self._streams):
                stream.end(_closed())


def _closed() -> Closed:
    """A fresh one for each stream: an exception raised in many places would gather their tracebacks."""
    return Closed("the sidecar is stopping")
