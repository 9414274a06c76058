"""The examples, as a user runs them, against real sidecars."""

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import pytest

from tests.clients.examples import Example, keep_exactly_once
from tests.e2e.processes import PATIENCE, Process, environment, running_pair

ROOT = Path(__file__).resolve().parents[3]
EXAMPLES = ROOT / "clients/python/examples"


Start = Callable[..., Example]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts examples, and kills those that still run."""
    with contextlib.ExitStack() as stack:

        def start(sidecar: Process, name: str, *words: str, stdin: int | IO[bytes] = subprocess.PIPE) -> Example:
            command = [sys.executable, "-W", "error", EXAMPLES / name, *words]
            example = Example(sidecar.home, *command, stdin=stdin)
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
        for text in ('{"from": "ad\\u0007ele", "text": "hello"}', "no chat message"):
            published = first.command("publish", "chat", text, "--peers", "1")
            assert published.returncode == 0, published.stderr
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


def test_gossip_is_kept_exactly_once_whoever_is_killed(tmp_path: Path, start: Start) -> None:
    keep_exactly_once(tmp_path, lambda sidecar, path: start(sidecar, "ingest.py", str(path), "news"))


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
