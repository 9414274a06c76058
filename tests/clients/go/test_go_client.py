"""The Go client's own tests, run by `make test`: without Go they are skipped; with CI=true that is a failure."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.e2e.processes import PATIENCE, Process, running_pair
from tests.missing import not_there

MODULE = "github.com/p2p-sidecar/sidecar/clients/go"
CLIENT = Path(__file__).parents[3] / "clients/go"


@pytest.fixture(scope="session", autouse=True)
def _go() -> None:
    if shutil.which("go") is None:
        not_there("the Go client's tests need `go`, which is not installed")


def go(*words: str, folder: Path = CLIENT) -> str:
    """Run go; what it says."""
    done = subprocess.run(
        ["go", *words], cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, f"go {' '.join(words)}\n{done.stdout}{done.stderr}"
    return done.stdout


def test_what_only_an_example_needs_is_not_asked_of_apps() -> None:
    assert "sqlite" not in (CLIENT / "go.mod").read_text() + (CLIENT / "go.sum").read_text()


def test_licence() -> None:
    """A module in a folder is packed without what lies above it."""
    assert (CLIENT / "LICENSE").read_bytes() == (CLIENT.parents[1] / "LICENSE").read_bytes()


def test_unit_tests() -> None:
    """Against a sidecar written in Go; nothing may be left running behind them."""
    go("test", "-timeout", "300s", "./...")


def built(text: str, place: Path) -> list[Path]:
    """The programs in a page, built by a module that knows this one by its path."""
    programs = re.findall(r"```go\n(package main\n.*?)```", text, re.DOTALL)
    assert len(programs) == text.count("```go\n"), "a program is whole, so that it can be run"
    app = place / "app"
    for number, program in enumerate(programs):
        (app / f"program{number}").mkdir(parents=True)
        (app / f"program{number}" / "main.go").write_text(program)
    go("mod", "init", "example.org/app", folder=app)
    go("mod", "edit", "-require", f"{MODULE}@v0.0.0", "-replace", f"{MODULE}={CLIENT}", folder=app)
    go("mod", "tidy", folder=app)
    assert go("vet", "./...", folder=app) == ""
    go("build", "-o", str(place / "bin") + "/", "./...", folder=app)
    return [place / "bin" / f"program{number}" for number in range(len(programs))]


def test_the_front_page(tmp_path: Path) -> None:
    """Each Go program of the README hears what it publishes; where it asks a peer, that is at the other sidecar."""
    text = (CLIENT.parents[1] / "README.md").read_text()
    if "```go\n" not in text:
        pytest.skip("there is no Go on the front page")
    programs = built(text, tmp_path)
    with running_pair(tmp_path) as (first, second):
        for program in programs:
            environ = {**os.environ, "SIDECAR_API": str(second.socket)}
            with subprocess.Popen([program], env=environ, stdout=subprocess.PIPE, text=True) as serving:
                try:
                    assert serving.stdout is not None
                    serving.stdout.readline()  # it has heard itself, and serves
                    peer = second.json("id")["peer_id"]
                    environ["SIDECAR_API"] = str(first.socket)
                    done = subprocess.run(
                        [program, peer], env=environ, capture_output=True, text=True, timeout=PATIENCE, check=False
                    )
                    assert done.returncode == 0, done.stderr
                    assert re.fullmatch(r"\w+ says hello\nhello, gopher\n", done.stdout)  # it may hear the other first
                finally:
                    serving.kill()


def test_the_readme_in_a_module_of_its_own(tmp_path: Path) -> None:
    """Its programs are built by a module of their own, and run beside real sidecars."""
    programs = built((CLIENT / "README.md").read_text(), tmp_path)
    assert len(programs) == 4

    def run(number: int, sidecar: Process, *words: str) -> str:
        program, environ = programs[number], {**os.environ, "SIDECAR_API": str(sidecar.socket)}
        done = subprocess.run([program, *words], env=environ, capture_output=True, text=True, timeout=PATIENCE)
        assert done.returncode == 0, done.stderr
        return done.stdout

    with running_pair(tmp_path) as (first, second):
        assert run(0, first) == "sent to 0 peers\nhello\n"
        assert run(1, first).startswith("nobody there: ")
        assert run(2, first) == "news one\n"
        environ = {**os.environ, "SIDECAR_API": str(second.socket)}
        with subprocess.Popen([programs[3]], env=environ, stdout=subprocess.PIPE, text=True) as accepting:
            try:
                assert accepting.stdout is not None
                assert accepting.stdout.readline() == "accepting\n"
                assert run(3, first, second.json("id")["peer_id"]) == "1000 published, heard hello\n"
            finally:
                accepting.kill()
