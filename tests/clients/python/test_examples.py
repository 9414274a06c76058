"""The examples, as a user runs them, against real sidecars."""

import contextlib
import json
import os
import pty
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import pytest

from tests.e2e.processes import PATIENCE, Process, environment, running, running_pair

ROOT = Path(__file__).resolve().parents[3]
EXAMPLES = ROOT / "clients/python/examples"


class Example:
    """A running example, beside a sidecar."""

    def __init__(self, sidecar: Process, name: str, *words: str, stdin: int | IO[bytes] = subprocess.PIPE) -> None:
        environ = environment(sidecar.home) | {"SIDECAR_API": str(sidecar.socket)}
        if "PYTHONPATH" in os.environ:
            environ["PYTHONPATH"] = os.environ["PYTHONPATH"]
        self.popen = subprocess.Popen(
            [sys.executable, "-W", "error", EXAMPLES / name, *words],
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


Start = Callable[..., Example]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts examples, and kills those that still run."""
    with contextlib.ExitStack() as stack:

        def start(*arguments: object, **options: object) -> Example:
            example = Example(*arguments, **options)  # type: ignore[arg-type]
            stack.enter_context(example.popen)
            stack.callback(example.popen.kill)
            return example

        yield start


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Process, Process]]:
    place = tmp_path_factory.mktemp("pair")
    with running_pair(place) as (first, second):
        yield first, second


def test_a_chat(pair: tuple[Process, Process], start: Start) -> None:
    first, second = pair
    ann = start(first, "chat.py", "ann")
    master, terminal = pty.openpty()  # bob sits at a terminal
    try:
        bob = start(second, "chat.py", "bob", f"unix:{second.socket}", stdin=terminal)
        carl = start(second, "chat.py", "carl")
        assert ann.line() == "You are ann. Type, and end with Ctrl-D."
        assert bob.line() == "You are bob. Type, and end with Ctrl-D."
        assert carl.line() == "You are carl. Type, and end with Ctrl-D."
        first.command("publish", "chat", '{"from": "ad\\u0007ele", "text": "hello"}', "--peers", "1")
        first.command("publish", "chat", "no chat message", "--peers", "1")
        assert [chat.line() for chat in (ann, bob, carl)] == ["ad?ele: hello"] * 3
        ann.say("hello, bób")
        assert (bob.line(), carl.line()) == ("ann: hello, bób", "ann: hello, bób")
        os.write(master, b"hello, ann\n\n")
        assert (ann.line(), carl.line()) == ("bob: hello, ann", "bob: hello, ann")
        os.write(master, b"\x04")  # Ctrl-D
        assert [chat.end() for chat in (bob, ann, carl)] == [""] * 3
    finally:
        os.close(master)
        os.close(terminal)


def test_a_chat_says_what_it_sends(pair: tuple[Process, Process], start: Start) -> None:
    first, second = pair
    listening = subprocess.Popen(
        [sys.executable, "-m", "sidecar", "subscribe", "chat", "--count", "1", "--raw", "--api", str(second.socket)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(second.home),
        text=True,
    )
    with listening:
        assert listening.stderr is not None
        listening.stderr.readline()
        ann = start(first, "chat.py", "ann")
        ann.line()
        ann.say("grüß dich")
        assert ann.end() == ""
        out, _ = listening.communicate(timeout=PATIENCE)
        assert json.loads(out) == {"from": "ann", "text": "grüß dich"}


def test_a_service(pair: tuple[Process, Process], start: Start) -> None:
    first, second = pair
    nobody = start(second, "service.py", "ask", "one two")
    assert nobody.popen.communicate(timeout=PATIENCE) == ("", "service: nobody serves it\n")
    serving = start(first, "service.py", "serve")
    peer_id = serving.line().removeprefix("serving as ")
    assert start(second, "service.py", "ask", "one two three").end() == '{"words": 3, "letters": 11}\n'
    assert start(second, "service.py", "ask", "one two", peer_id).end() == '{"words": 2, "letters": 6}\n'
    wrong = start(second, "service.py", "ask", "one", "nonsense")
    assert wrong.popen.communicate(timeout=PATIENCE)[1].startswith("service: ")
    serving.popen.send_signal(signal.SIGINT)
    assert serving.end() == ""


class Kept:
    """What an ingest has kept."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def rows(self, query: str) -> list[tuple[object, ...]]:
        with contextlib.closing(sqlite3.connect(self._path)) as database:
            return database.execute(query).fetchall()

    def wait_for(self, count: int) -> None:
        while self.rows("SELECT count(*) FROM messages") != [(count,)]:
            pass


def publish(sidecar: Process, first: int, count: int) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "sidecar", "publish", "news", "--lines", "--api", str(sidecar.socket)],
        input="".join(f"{number}\n" for number in range(first, first + count)),
        capture_output=True,
        text=True,
        env=environment(sidecar.home),
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr


def test_gossip_is_kept_exactly_once_whoever_is_killed(tmp_path: Path, start: Start) -> None:
    path = tmp_path / "news.db"
    with running(tmp_path / "1") as first:
        address = first.line("  address").split()[-1]
        first.line("Ready after")
        peer_id = address.rpartition("/")[2]
        with running(tmp_path / "2", "--bootstrap", address) as second:
            second.line("Ready after")
            ingest = start(second, "ingest.py", str(path), "news")
            assert ingest.line() == f"keeping news in {path}"
            first.json("publish", "news", "begin", "--peers", "1")
            kept = Kept(path)
            kept.wait_for(1)
            publish(first, 0, 2000)
            ingest.popen.kill()  # wherever it is now
            publish(first, 2000, 2000)
            ingest = start(second, "ingest.py", str(path), "news")
            ingest.line()
            publish(first, 4000, 1000)
            kept.wait_for(5001)
            ingest.popen.terminate()
            assert ingest.end() == ""
            wanted = [(b"begin", peer_id), *((b"%d" % number, peer_id) for number in range(5000))]
            assert kept.rows("SELECT data, sender FROM messages ORDER BY number") == wanted
            assert kept.rows("SELECT * FROM gaps") == []
            ingest = start(second, "ingest.py", str(path), "news")
            ingest.line()
            second.popen.kill()
            second.ended()
        with running(tmp_path / "2", "--bootstrap", address) as second:
            second.line("Ready after")
            first.json("publish", "news", "after the restart", "--peers", "1")
            kept.wait_for(5002)
            assert kept.rows("SELECT * FROM gaps") == [(5001, None, "RESTARTED")]
            assert kept.rows("SELECT data FROM messages WHERE number > 5001") == [(b"after the restart",)]


def test_the_examples_are_typed() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", *EXAMPLES.glob("*.py")], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout


def test_each_says_how_it_is_used() -> None:
    for example in EXAMPLES.glob("*.py"):
        done = subprocess.run([sys.executable, example], capture_output=True, text=True)
        assert done.returncode == 1
        assert f"python {example.name} " in done.stderr
