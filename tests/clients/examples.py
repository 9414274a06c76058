"""What the tests of the clients' examples share: a running example, and the story of the one that keeps gossip."""

import contextlib
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO

from tests.e2e.processes import PATIENCE, Process, environment, running


class Example:
    """A running example, for the sidecar whose home this is."""

    def __init__(self, home: Path, *command: str | Path, stdin: int | IO[bytes] = subprocess.PIPE) -> None:
        environ = environment(home) | {"SIDECAR_API": str(home / "api.sock")}
        if "PYTHONPATH" in os.environ:
            environ["PYTHONPATH"] = os.environ["PYTHONPATH"]
        self.popen = subprocess.Popen(
            command,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environ,
            text=True,
            bufsize=1,
        )

    def say(self, text: str) -> None:
        assert self.popen.stdin is not None
        self.popen.stdin.write(f"{text}\n")

    def line(self) -> str:
        assert self.popen.stdout is not None
        line = self.popen.stdout.readline()
        if not line:
            assert self.popen.stderr is not None
            raise AssertionError(self.popen.stderr.read())
        return line.rstrip("\n")

    def end(self) -> str:
        """End its input; what else it printed. It must end in order."""
        out, err = self.popen.communicate(timeout=PATIENCE)
        assert (self.popen.returncode, err) == (0, "")
        return out


class Kept:
    """What an ingest has kept."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def rows(self, query: str) -> list[tuple[object, ...]]:
        with contextlib.closing(sqlite3.connect(self._path)) as database:
            return database.execute(query).fetchall()

    def wait_for(self, count: int) -> None:
        """Wait until it has so many messages, or more."""
        while self.rows(f"SELECT count(*) >= {count} FROM messages") != [(1,)]:
            pass


def publishing(sidecar: Process, first: int, count: int) -> "subprocess.Popen[str]":
    """Numbers are being published."""
    popen = subprocess.Popen(
        [sys.executable, "-m", "sidecar", "publish", "news", "--lines", "--api", str(sidecar.socket)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment(sidecar.home),
    )
    assert popen.stdin is not None
    popen.stdin.write("".join(f"{number}\n" for number in range(first, first + count)))
    popen.stdin.close()
    return popen


def publish(sidecar: Process, first: int, count: int) -> None:
    """Publish numbers."""
    with publishing(sidecar, first, count) as popen:
        assert popen.wait(PATIENCE) == 0, popen.stdout and popen.stdout.read()


def keep_exactly_once(place: Path, ingest: Callable[[Process, Path], Example]) -> None:
    """Gossip on `news` is kept exactly once, whoever is killed. `ingest` starts the example for a database."""
    path = place / "news.db"
    kept = Kept(path)

    def begin(sidecar: Process) -> Example:
        example = ingest(sidecar, path)
        assert example.line() == f"keeping news in {path}"
        return example

    with running(place / "1") as first:
        address = first.line("  address").split()[-1]
        first.line("Ready after")
        peer_id = address.rpartition("/")[2]
        with running(place / "2", "--bootstrap", address) as second:
            second.line("Ready after")
            example = begin(second)
            first.json("publish", "news", "begin", "--peers", "1")
            kept.wait_for(1)
            with publishing(first, 0, 2000) as popen:
                kept.wait_for(2)
                example.popen.kill()  # wherever it is now
                example.popen.wait()
                assert popen.wait(PATIENCE) == 0
            publish(first, 2000, 2000)
            example = begin(second)
            publish(first, 4000, 1000)
            kept.wait_for(5001)
            example.popen.terminate()
            assert example.end() == ""
            wanted = [(b"begin", peer_id), *((b"%d" % number, peer_id) for number in range(5000))]
            assert kept.rows("SELECT data, sender FROM messages ORDER BY number") == wanted
            assert kept.rows("SELECT * FROM gaps") == []
            example = begin(second)
            second.popen.kill()
            second.ended()
        with running(place / "2", "--bootstrap", address) as second:
            second.line("Ready after")
            first.json("publish", "news", "after the restart", "--peers", "1")
            kept.wait_for(5002)
            assert kept.rows("SELECT * FROM gaps") == [(5001, None, "RESTARTED")]
            assert kept.rows("SELECT data FROM messages WHERE number > 5001") == [(b"after the restart",)]
            example.popen.terminate()
            assert example.end() == ""
