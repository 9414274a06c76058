"""The JavaScript examples beside real sidecars. (The chat and the service: `test_js_package.py`.)"""

import contextlib
import json
import socket
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.clients.examples import Example, keep_exactly_once
from tests.clients.js.tools import CLIENT, run
from tests.e2e.processes import PATIENCE, running

EXAMPLES = CLIENT / "examples"
Start = Callable[..., Example]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts examples, and kills those that still run."""
    with contextlib.ExitStack() as stack:

        def start(home: Path, name: str, *words: str, **environ: str) -> Example:
            settings = [f"{key}={value}" for key, value in environ.items()]
            example = Example(home, "env", *settings, "node", EXAMPLES / name, *words)
            stack.enter_context(example.popen)
            stack.callback(example.popen.kill)
            return example

        yield start


def test_gossip_is_kept_exactly_once_whoever_is_killed(tmp_path: Path, start: Start) -> None:
    run("npm", "ci", "--prefer-offline", "--ignore-scripts", "--silent", folder=EXAMPLES / "ingest")
    keep_exactly_once(tmp_path, lambda sidecar, path: start(sidecar.home, "ingest/ingest.js", str(path), "news"))


class App:
    """A running `app.js`, and what it says over HTTP."""

    def __init__(self, start: Start, home: Path) -> None:
        self.example = start(home, "app.js", PORT="0")
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


def test_an_app_that_starts_before_its_sidecar_and_outlives_it(tmp_path: Path, start: Start) -> None:
    home = tmp_path / "1"
    home.mkdir()
    app = App(start, home)
    assert app.ask("/healthz") == (200, "alive")
    status, why = app.ask("/readyz")
    assert status == 503
    assert why.startswith(("not connected to the sidecar yet", "no sidecar answers"))
    assert app.ask("/heard")[0] == 503
    with running(tmp_path / "2") as second:
        address = second.line("  address").split()[-1]
        other = App(start, second.home)
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
            assert app.ask("/nothing") == (404, "nothing here")
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
