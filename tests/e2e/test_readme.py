"""The Python program in the README does what it says (Go's and JavaScript's are tried beside their clients)."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from .processes import PATIENCE, environment, running_pair

README = Path(__file__).parents[2] / "README.md"


@pytest.fixture
def program(tmp_path: Path) -> Path:
    (block,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    file = tmp_path / "program.py"
    file.write_text(block)
    return file


def start(program: Path, socket: Path, *words: str) -> "subprocess.Popen[str]":
    environ = environment(socket.parent) | {"SIDECAR_API": f"unix:{socket}"}
    if "PYTHONPATH" in os.environ:
        environ["PYTHONPATH"] = os.environ["PYTHONPATH"]
    return subprocess.Popen([sys.executable, program, *words], env=environ, stdout=subprocess.PIPE, text=True)


def test_the_front_page(program: Path, tmp_path: Path) -> None:
    """It hears what it publishes; started at another sidecar with the peer id of the first, it is answered there."""
    with running_pair(tmp_path) as (first, second):
        peer = first.json("id")["peer_id"]
        with start(program, first.socket) as serving:
            try:
                assert serving.stdout is not None
                assert serving.stdout.readline() == f"{peer} says hello\n"
                asking = start(program, second.socket, peer)
                out, _ = asking.communicate(timeout=PATIENCE)
                assert asking.returncode == 0
                assert re.fullmatch(r"\w+ says hello\nhello, snake\n", out)  # it may hear the other first
            finally:
                serving.kill()
