"""What the tests of the clients' examples share: a running example, and the stories of `ingest` and `app`."""

import contextlib
import json
import os
import socket
import sqlite3
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
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
        """End its input; what else it printed. It must end in order, and complain of nothing."""
        out, err = self.popen.communicate(timeout=PATIENCE)
        assert self.popen.returncode == 0, err
        assert [line for line in err.splitlines() if " INFO " not in line] == []  # Go logs streams that are lost
        return out


Start = Callable[..., Example]


@contextlib.contextmanager
def starting(command: Callable[[str], Sequence[str | Path]]) -> Iterator[Start]:
    """Starts examples by their names, whose commands are these, and kills those that still run at the end."""
    with contextlib.ExitStack() as stack:

        def start(home: Path, name: str, *words: str, **environ: str) -> Example:
            settings = [f"{key}={value}" for key, value in environ.items()]
            example = Example(home, "env", *settings, *command(name), *words)
            stack.enter_context(example.popen)
            stack.callback(example.popen.kill)
            return example

        yield start


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


class App:
    """A running example `app`, and what it says over HTTP."""

    def __init__(self, example: Example) -> None:
        self.example = example
        self.port = int(self.example.line().removeprefix("serving HTTP at port "))

    def ask(self, path: str, data: bytes | None = None) -> tuple[int, str]:
        """The status and the text."""
        try:
            response = urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", data, PATIENCE)
        except urllib.error.HTTPError as error:
            response = error
        with response:
            return response.status, response.read().decode().removesuffix("\n")

    def wait_for(self, path: str, data: bytes | None = None, wanted: str = "") -> str:
        """Ask until the answer is good, and has this text."""
        while True:
            status, text = self.ask(path, data)
            if status == 200 and wanted in text:
                return text


def outlive_the_sidecar(place: Path, start: Callable[[Path], Example]) -> None:
    """An app begins before its sidecar, and outlives it. `start` starts the example at any port for a home."""
    home = place / "1"
    home.mkdir()
    app = App(start(home))
    assert app.ask("/healthz") == (200, "alive")
    status, why = app.ask("/readyz")
    assert status == 503
    assert why.startswith(("not connected to the sidecar yet", "no sidecar answers"))
    assert app.ask("/heard")[0] == 503
    with running(place / "2") as second:
        address = second.line("  address").split()[-1]
        other = App(start(second.home))
        other.example.line()
        with running(home, "--bootstrap", address) as first:
            first.line("Ready after")
            peer_id = app.example.line().removeprefix("working as ")
            app.wait_for("/readyz")
            other.wait_for("/say", b"hello", wanted='{"outcome":"SENT","peers":1}')
            heard = json.loads(app.wait_for("/heard", wanted="hello"))
            assert heard[0] == {"from": second.json("id")["peer_id"], "text": "hello"}
            assert other.wait_for(f"/ask?peer={peer_id}") == str(len(heard))
            assert other.ask("/ask?peer=nonsense")[0] == 503
            assert app.ask("/say", bytes(70_000)) == (413, "at most 65536 bytes")
            assert app.ask("/nothing")[0] == 404
            first.popen.kill()
            first.ended()
        status, why = app.ask("/readyz")
        assert status == 503
        assert "no sidecar answers at" in why
        assert app.ask("/healthz") == (200, "alive")
        with running(home, "--bootstrap", address) as first:
            first.line("Ready after")
            app.wait_for("/readyz")
            assert int(other.wait_for(f"/ask?peer={peer_id}")) >= len(heard)
            other.wait_for("/say", b"again", wanted='{"outcome":"SENT","peers":1}')
            app.wait_for("/heard", wanted="again")
            end_in_the_middle(app)
        end_in_the_middle(other)


def end_in_the_middle(app: App) -> None:
    """End an app that is at work: it finishes that, and ends in order."""
    with socket.create_connection(("127.0.0.1", app.port), PATIENCE) as busy:
        busy.sendall(b"POST /say HTTP/1.1\r\nHost: app\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n")
        assert busy.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        busy.sendall(b"by")
        app.example.popen.terminate()
        with contextlib.suppress(ConnectionRefusedError, ConnectionResetError):
            while True:
                socket.create_connection(("127.0.0.1", app.port), PATIENCE).close()
        busy.sendall(b"e!")
        assert busy.recv(1000).startswith(b"HTTP/1.1 200 OK\r\n")
    assert app.example.end() in ("", "missed messages (how many is not known): the sidecar has restarted\n")
