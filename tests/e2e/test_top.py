"""`sidecar top` in a real terminal, a pseudo one, and in a pipe."""

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from .processes import PATIENCE, Process, command, environment, running, running_pair

_SEQUENCE = re.compile(r"\x1b\[(\??[0-9;]*)([A-Za-z])")


class Terminal:
    """A command in a pseudo terminal, and what its screen shows: as much of a terminal as `top` uses."""

    def __init__(self, sidecar: Process, *words: str, rows: int = 30, columns: int = 100) -> None:
        self._main, self._side = pty.openpty()
        self.rows = rows
        self.resize(rows, columns)
        self.before = termios.tcgetattr(self._side)
        self._text = ""
        self.lines: list[str] = []
        self.popen = subprocess.Popen(
            [sys.executable, "-m", "sidecar", *words, "--api", str(sidecar.socket)],
            stdin=self._side,
            stdout=self._side,
            stderr=self._side,
            env=environment(sidecar.home) | {"TERM": "xterm"},
            start_new_session=True,
        )

    def resize(self, rows: int, columns: int) -> None:
        self.rows = rows
        fcntl.ioctl(self._side, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def press(self, keys: bytes) -> None:
        os.write(self._main, keys)

    def settings(self) -> list[object]:
        return termios.tcgetattr(self._side)

    def until(self, text: str, *, gone: bool = False) -> None:
        """Read until the screen shows this, or no longer does."""
        end = time.monotonic() + PATIENCE
        while (text in self.screen()) == gone or len(self.lines) < self.rows:  # a frame may come in pieces
            ready, _, _ = select.select([self._main], [], [], max(0.0, end - time.monotonic()))
            assert ready, f"{text!r} does not {'go' if gone else 'come'}:\n{self.screen()}"
            self._take()

    def rest(self) -> str:
        """All that came, once the command has ended."""
        while select.select([self._main], [], [], 0)[0]:
            self._take()
        return self._text

    def screen(self) -> str:
        return "\n".join(self.lines)

    def _take(self) -> None:
        text = os.read(self._main, 65536).decode()
        self._text += text
        _, cleared, after = text.rpartition("\x1b[2J")
        if cleared:  # for another size
            self.lines, text = [], after
        # Lines are only ever written as a whole, each after a move to its beginning.
        for part in re.split(r"(?=\x1b\[\d+;1H)", text):
            match = re.match(r"\x1b\[(\d+);1H(.*)", part, re.DOTALL)
            if match:
                row = int(match[1])
                self.lines += [""] * (row - len(self.lines))
                self.lines[row - 1] = _SEQUENCE.sub("", match[2])

    def close(self) -> None:
        self.popen.kill()
        self.popen.wait()
        os.close(self._main)
        os.close(self._side)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Process, Process]]:
    with running_pair(tmp_path_factory.mktemp("top")) as pair:
        yield pair


@pytest.fixture
def top(pair: tuple[Process, Process]) -> Iterator[Terminal]:
    terminal = Terminal(pair[0], "top", "--interval", "0.2")
    yield terminal
    terminal.close()


def test_the_screen_shows_the_peer_and_q_gives_the_terminal_back(top: Terminal, pair: tuple[Process, Process]) -> None:
    top.until(pair[1].json("id")["peer_id"][-8:])
    assert "ready" in top.screen().splitlines()[0]
    assert top.settings() != top.before, "single keys"
    top.press(b"q")
    assert top.popen.wait(PATIENCE) == 0
    assert top.settings() == top.before
    assert top.rest().endswith("\x1b[?1049l"), "the other screen is left"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_gives_the_terminal_back_too(top: Terminal, number: signal.Signals, code: int) -> None:
    top.until("q quits")
    top.popen.send_signal(number)
    assert top.popen.wait(PATIENCE) == code
    assert top.settings() == top.before


def test_the_window_may_change_its_size(top: Terminal) -> None:
    top.until("q quits")
    assert len(top.lines) == 30
    top.resize(12, 60)
    top.popen.send_signal(signal.SIGWINCH)
    top.until(top.lines[-1], gone=True)
    top.until("q quits")
    assert (len(top.lines), {len(line) for line in top.lines}) == (12, {60})


def test_a_sidecar_that_ends_and_comes_back_is_told_of(tmp_path: Path) -> None:
    with running_pair(tmp_path) as (first, _):
        terminal = Terminal(first, "top", "--interval", "0.2")
        terminal.until("q quits")
        first.popen.kill()
        first.ended()
        terminal.until("trying again")
        assert "GONE" in terminal.screen()
        with running(first.home):
            terminal.until("trying again", gone=True)
            assert "GONE" not in terminal.screen()
        terminal.close()


def test_in_a_pipe_it_prints_everything_once(pair: tuple[Process, Process]) -> None:
    peer_id = pair[1].json("id")["peer_id"]
    done = pair[0].command("top")
    assert (done.returncode, done.stderr) == (0, "")
    assert peer_id[-8:] in done.stdout
    assert "\x1b" not in done.stdout
    assert done.stdout == "\n".join(line.rstrip() for line in done.stdout.splitlines()) + "\n"


def test_for_scripts_it_prints_documents(pair: tuple[Process, Process]) -> None:
    document = pair[0].json("top", "--once")
    assert pair[1].json("id")["peer_id"] in document["peers"]
    assert document["totals"]["rates"]["received"] >= 0
    with subprocess.Popen(
        [sys.executable, "-m", "sidecar", "top", "--json", "--interval", "0.2", "--api", str(pair[0].socket)],
        stdout=subprocess.PIPE,
        env=environment(pair[0].home),
    ) as popen:
        assert popen.stdout is not None
        times = [json.loads(popen.stdout.readline())["time"] for _ in range(3)]
        popen.kill()
    assert times == sorted(set(times))


def test_without_a_sidecar_it_says_so(tmp_path: Path) -> None:
    done = command(tmp_path, "top", "--api", str(tmp_path / "none.sock"))
    assert (done.returncode, done.stdout) == (3, "")
    assert "sidecar run" in done.stderr
