"""The programs in the README do what it says."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from .processes import PATIENCE, environment, running

README = Path(__file__).parents[2] / "README.md"


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    place = tmp_path_factory.mktemp("programs")
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    files = [place / f"program{number}.py" for number in range(len(blocks))]
    for file, block in zip(files, blocks, strict=True):
        file.write_text(block)
    return files


def start(program: Path, socket: Path, *words: str) -> "subprocess.Popen[str]":
    environ = environment(socket.parent) | {"SIDECAR_API": f"unix:{socket}"}
    if "PYTHONPATH" in os.environ:
        environ["PYTHONPATH"] = os.environ["PYTHONPATH"]
    return subprocess.Popen([sys.executable, program, *words], env=environ, stdout=subprocess.PIPE, text=True)


def test_the_quick_start_hears_itself(programs: list[Path], tmp_path: Path) -> None:
    with running(tmp_path) as sidecar:
        peer = sidecar.line("  peer id").split()[-1]
        sidecar.line("Ready after")
        out, _ = start(programs[0], sidecar.socket).communicate(timeout=PATIENCE)
        assert out == f"sent to 0 peers\n{peer} says hello\n"


def test_a_peer_is_asked_and_answers(programs: list[Path], tmp_path: Path) -> None:
    with running(tmp_path / "1") as first:
        address = first.line("  address").split()[-1]
        with running(tmp_path / "2", "--bootstrap", address) as second:
            second.line("Ready after")
            serving = start(programs[1], first.socket)
            assert serving.stdout is not None
            peer = serving.stdout.readline().strip()
            out, _ = start(programs[1], second.socket, peer).communicate(timeout=PATIENCE)
            serving.kill()
            serving.communicate()
            assert out == "hello, it is me\n"
