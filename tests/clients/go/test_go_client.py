"""The Go client's own tests, run by `make test`: without Go they are skipped; with CI=true that is a failure."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

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
