"""The Go client's own tests, run by `make test`: without Go they are skipped; with CI=true that is a failure."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.e2e.processes import running

MODULE = "github.com/p2p-sidecar/sidecar/clients/go"
CLIENT = Path(__file__).parents[3] / "clients/go"
STATICCHECK = "honnef.co/go/tools/cmd/staticcheck@v0.8.2"


@pytest.fixture(scope="session", autouse=True)
def _go() -> None:
    if shutil.which("go") is None:
        missing = "the Go client's tests need `go`, which is not installed"
        if os.environ.get("CI") == "true":
            pytest.fail(f"{missing}, and this run must have it", pytrace=False)
        pytest.skip(missing)


def go(*words: str, folder: Path = CLIENT) -> str:
    """Run go; what it says."""
    done = subprocess.run(
        ["go", *words], cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, f"go {' '.join(words)}\n{done.stdout}{done.stderr}"
    return done.stdout


def test_code() -> None:
    """Formatted, vetted, and its go.mod complete."""
    unformatted = subprocess.run(
        ["gofmt", "-l", "."], cwd=CLIENT, capture_output=True, text=True, check=True, timeout=60
    )
    assert unformatted.stdout == ""
    go("vet", "./...")
    go("mod", "tidy", "-diff")


def test_staticcheck() -> None:
    go("run", STATICCHECK, "./...")


def test_unit_tests() -> None:
    """Against a sidecar written in Go; nothing may be left running behind them."""
    go("test", "-timeout", "300s", "./...")


def test_the_readme_in_a_module_of_its_own(tmp_path: Path) -> None:
    """Its programs are built by a module that knows this one by its path, and run beside a real sidecar."""
    programs = re.findall(r"```go\n(package main\n.*?)```", (CLIENT / "README.md").read_text(), re.DOTALL)
    assert len(programs) == 3
    app = tmp_path / "app"
    for number, text in enumerate(programs):
        (app / f"program{number}").mkdir(parents=True)
        (app / f"program{number}" / "main.go").write_text(text)
    go("mod", "init", "example.org/app", folder=app)
    go("mod", "edit", "-require", f"{MODULE}@v0.0.0", "-replace", f"{MODULE}={CLIENT}", folder=app)
    go("mod", "tidy", folder=app)
    assert go("vet", "./...", folder=app) == ""
    go("build", "-o", str(tmp_path / "bin") + "/", "./...", folder=app)
    with running(tmp_path / "sidecar") as sidecar:
        sidecar.line("  address")
        said = [
            subprocess.run(
                [tmp_path / "bin" / f"program{number}"],
                env={**os.environ, "SIDECAR_API": str(sidecar.socket)},
                capture_output=True,
                text=True,
                check=True,
                timeout=60,
            ).stdout
            for number in range(3)
        ]
    assert said[0] == "sent to 0 peers\nhello\n"
    assert said[1].startswith("nobody there: ")
    assert said[2] == "news one\n"
