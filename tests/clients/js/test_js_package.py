"""The JavaScript client as an app has it: packed, installed alone, and the programs that come with it."""

import shutil
import signal
import subprocess
from pathlib import Path

from tests.clients.js.npm_tools import CLIENT
from tests.e2e.processes import PATIENCE, Process, environment, running


def start(program: Path, sidecar: Process, *words: str) -> "subprocess.Popen[str]":
    environ = environment(sidecar.home) | {"SIDECAR_API": str(sidecar.socket)}
    pipe = subprocess.PIPE
    return subprocess.Popen(["node", program, *words], env=environ, stdin=pipe, stdout=pipe, text=True, bufsize=1)


def test_a_chat(app: Path, tmp_path: Path) -> None:
    shutil.copy(CLIENT / "examples/chat.js", app)
    with running(tmp_path) as sidecar:
        sidecar.line("Ready after")
        with start(app / "chat.js", sidecar, "ann") as ann:
            assert ann.stdout is not None
            assert ann.stdout.readline() == "You are ann. Type, and end with Ctrl-D.\n"
            sidecar.command(
                "publish", "chat", '{"from": "b\\u0007ob", "text": "hello"}'
            )  # nobody else is there: it says so by its status
            assert ann.stdout.readline() == "b?ob: hello\n"
            assert ann.communicate("hi\n", timeout=PATIENCE)[0] == "(nobody else is connected yet)\n"
            assert ann.returncode == 0


def test_a_service(app: Path, tmp_path: Path) -> None:
    shutil.copy(CLIENT / "examples/service.js", app)
    with running(tmp_path / "1") as first:
        address = first.line("  address").split()[-1]
        with running(tmp_path / "2", "--bootstrap", address) as second:
            second.line("Ready after")
            with start(app / "service.js", first, "serve") as serving:
                assert serving.stdout is not None
                peer = serving.stdout.readline().split()[-1]
                for words in (("one two three",), ("one two three", peer)):
                    with start(app / "service.js", second, "ask", *words) as asking:
                        assert asking.communicate(timeout=PATIENCE)[0] == '{"words":3,"letters":11}\n'
                serving.send_signal(signal.SIGINT)
                assert serving.wait(PATIENCE) == 0
