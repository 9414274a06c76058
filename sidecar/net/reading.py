"""When what a socket has brought is handled."""

import asyncio
from collections.abc import Callable
from time import monotonic

READ_TURN = 64 * 1024  # bytes of one connection handled at once; a guess
# Seconds in which more may follow before the others have their turn. Bytes of apps' streams take a fraction of the time
# of as many bytes of small messages, and pieces of one turn leave for the app together. A guess.
SHORT_TURN = 0.002


class ReadTurns:
    """Keeps what one connection cannot handle at once: more than a piece's bytes, or any while the node wants none.

    The transport reads only while nothing waits here, so that what waits is bounded by what one read of the socket
    brings; the remote has to wait meanwhile. Its end is handled behind all that came before it.
    """

    __slots__ = (
        "_end",
        "_end_waits",
        "_loop",
        "_paused",
        "_read",
        "_reading",
        "_transport",
        "_turn",
        "_waiting",
        "busy",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        transport: asyncio.Transport,
        read: Callable[[memoryview], None],
        end: Callable[[], object],
    ) -> None:
        """Begin with nothing that waits.

        `read`: handles at most `READ_TURN` bytes.
        `end`: handles the remote's end; the transport is closed after it.
        """
        self._loop = loop
        self._transport = transport
        self._read = read
        self._end = end
        self._waiting: memoryview | None = None
        self._end_waits = False  # the remote's end came, but for what waits
        self._paused = False
        self._reading = True  # what the transport was told
        self._turn: asyncio.Handle | None = None
        self.busy = False
        """Whether what comes has to be held: something waits, or reading is paused."""

    def hold(self, data: bytes) -> None:
        """Keep bytes until their turn.

        The transport may bring more though it was told to pause: what layers had, and what was under way.
        """
        self._waiting = memoryview(data if self._waiting is None else bytes(self._waiting) + data)
        self._arrange()

    def hold_end(self) -> bool:
        """Whether the remote's end has to wait for bytes before it; it is handled behind them then."""
        if self._waiting is not None:
            self._end_waits = True
        return self._waiting is not None

    def pause(self, paused: bool) -> None:
        """Handle no more, or handle again; the remote's end is no exception where bytes wait before it."""
        if paused is not self._paused:
            self._paused = paused
            self._arrange()

    def take_rest(self) -> memoryview | None:
        """What still waits, at the end: no turn follows."""
        if self._turn is not None:
            self._turn.cancel()
        rest, self._waiting = self._waiting, None
        return rest

    def _go_on(self) -> None:
        self._turn = None
        over = monotonic() + SHORT_TURN
        while (waiting := self._waiting) is not None and not self._paused:
            self._waiting = waiting[READ_TURN:] if len(waiting) > READ_TURN else None
            self._read(waiting[:READ_TURN])
            if self._transport.is_closing() or monotonic() >= over:
                break
        self._arrange()

    def _arrange(self) -> None:
        """Read the socket while nothing waits, and what waits in turns, unless the node wants no more of it."""
        wanted = self._waiting is None and not self._paused
        self.busy = not wanted
        transport = self._transport
        if transport.is_closing():
            return
        if self._waiting is not None and not self._paused and self._turn is None:
            self._turn = self._loop.call_soon(self._go_on)
        if wanted and self._end_waits:
            self._end_waits = False
            self._end()
            transport.close()
        elif wanted is not self._reading:
            self._reading = wanted
            if wanted:
                transport.resume_reading()
            else:
                transport.pause_reading()
