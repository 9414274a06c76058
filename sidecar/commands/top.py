"""`sidecar top`."""

import argparse
import asyncio
import contextlib
import os
import shutil
import signal
import sys
import termios
import tty
from typing import Any

from ..board.board import Board
from ..board.screen import draw, plain
from ..process.standard_streams import output
from .common.client import Output, add_client_flags
from .common.exit_codes import USAGE_WRONG
from .common.following import following
from .common.said import failed

_ENTER = "\x1b[?1049h\x1b[?25l\x1b[?7l"  # another screen, no cursor, no wrapping at the right edge
_LEAVE = "\x1b[?7h\x1b[?25h\x1b[?1049l"
_UP, _DOWN, _PAGE_UP, _PAGE_DOWN = b"\x1b[A", b"\x1b[B", b"\x1b[5~", b"\x1b[6~"
_PAGE = 10
_LAST_LINES = 0.5  # seconds for the terminal to take them


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--once", action="store_true", help="print everything once, without colours, and end")
    parser.add_argument(
        "--interval", type=_interval, default=1.0, metavar="SECONDS", help="between two looks, 0.2 to 60; default: 1"
    )
    add_client_flags(parser, timeout=False)
    parser.epilog = (
        "q or Ctrl-C ends it, the arrows scroll the peers. Where standard output is no terminal, --once is meant.\n"
        "--json prints a document with each look, or with --once one; rates are per second, None where not known yet."
    )


def run(options: argparse.Namespace) -> int:
    screen = sys.stdout.isatty() and not options.json and not options.once
    if screen and not sys.stdin.isatty():
        return failed(
            USAGE_WRONG, "standard input is no terminal, from which keys could come; --once prints everything once"
        )
    once = options.once or not (screen or options.json)

    async def look(board: Board) -> int:
        if screen:
            return await _Top(board).show()
        out = Output(options.json)
        version = await board.newer(0)  # the second one: rates need two
        while True:
            version = await board.newer(version)
            assert board.snapshot is not None
            await out.record(board.snapshot, *([] if options.json else plain(board.snapshot)))
            if once:
                return 0

    return following(options, options.interval, look)


class _Top:
    """The screen, drawn anew with each snapshot, each key and each change of the window's size."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._terminal = _Terminal()
        self._ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._first_peer = 0
        self._redraw = asyncio.Event()
        self._drawn: list[str] = []
        self._colour = "NO_COLOR" not in os.environ

    async def show(self) -> int:
        """Until `q` is pressed or a signal comes; returns the exit code."""
        loop = asyncio.get_running_loop()
        await self._board.newer(0)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._end, 128 + number)
        loop.add_signal_handler(signal.SIGWINCH, self._draw_all)
        loop.add_signal_handler(signal.SIGTSTP, self._pause)
        self._terminal.enter()
        looking = asyncio.create_task(self._keep_looking(), name="looking")
        drawing = asyncio.create_task(self._keep_drawing(), name="drawing")
        drawing.add_done_callback(self._failed)
        loop.add_reader(sys.stdin.fileno(), self._key)
        try:
            return await self._ended
        finally:
            loop.remove_reader(sys.stdin.fileno())
            looking.cancel()
            drawing.cancel()
            self._terminal.leave()

    async def _keep_looking(self) -> None:
        version = self._board.version
        while True:
            version = await self._board.newer(version)
            self._redraw.set()

    async def _keep_drawing(self) -> None:
        while True:
            self._redraw.clear()
            await output.put(self._changes().encode())  # keys and signals are heard though the terminal has stopped
            await self._redraw.wait()

    def _end(self, code: int) -> None:
        if not self._ended.done():
            self._ended.set_result(code)

    def _failed(self, drawing: "asyncio.Task[None]") -> None:
        """Drawing only ends when it fails, or when all of this ends."""
        error = None if drawing.cancelled() else drawing.exception()
        if error is not None and not self._ended.done():
            self._ended.set_exception(error)

    def _pause(self) -> None:
        """Ctrl-Z: leave a terminal that the shell can use; SIGCONT lets the next line run."""
        self._terminal.leave()
        os.kill(os.getpid(), signal.SIGSTOP)
        self._terminal.enter()
        self._draw_all()

    def _key(self) -> None:
        keys = os.read(sys.stdin.fileno(), 64)
        if not keys or b"q" in keys or b"Q" in keys:
            self._end(0)
            return
        steps = keys.count(_DOWN) - keys.count(_UP) + _PAGE * (keys.count(_PAGE_DOWN) - keys.count(_PAGE_UP))
        peers: dict[str, Any] = self._board.snapshot["peers"] if self._board.snapshot else {}
        self._first_peer = max(0, min(self._first_peer + steps, len(peers) - 1))
        self._redraw.set()

    def _draw_all(self) -> None:
        self._drawn = []
        self._redraw.set()

    def _changes(self) -> str:
        """What shows the lines that have changed: a whole screen each second would flicker over a slow connection."""
        assert self._board.snapshot is not None
        width, height = shutil.get_terminal_size()
        lines = draw(self._board.snapshot, width, height, colour=self._colour, first_peer=self._first_peer)
        changes = ""
        if len(self._drawn) != len(lines):
            self._drawn = [""] * len(lines)
            changes = "\x1b[2J"
        for row, (old, new) in enumerate(zip(self._drawn, lines, strict=True), start=1):
            if old != new:
                changes += f"\x1b[{row};1H{new}"
        self._drawn = lines
        return changes


class _Terminal:
    """The terminal as a screen that takes single keys, and as it was before."""

    def __init__(self) -> None:
        self._keys = sys.stdin.fileno()
        self._before = termios.tcgetattr(self._keys)

    def enter(self) -> None:
        tty.setcbreak(self._keys)
        output.write(_ENTER)

    def leave(self) -> None:
        with contextlib.suppress(OSError, termios.error):  # the terminal itself may be gone
            output.write(_LEAVE)
            output.flush(_LAST_LINES)
            termios.tcsetattr(self._keys, termios.TCSANOW, self._before)  # without waiting for one that has stopped


def _interval(text: str) -> float:
    value = float(text)
    if not 0.2 <= value <= 60:
        raise argparse.ArgumentTypeError(f"{text} is not a number of seconds from 0.2 to 60")
    return value
