"""The JavaScript client: its own tests, which need no sidecar, and its checks."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.conformance.build import ToolMissing, build

CLIENT = Path(__file__).resolve().parents[3] / "clients/js"
PATIENCE = 120.0  # seconds; only a hang reaches it


@pytest.fixture(scope="module", autouse=True)
def _built() -> None:
    """What npm installs is there, and the client is compiled."""
    try:
        build("js")
    except ToolMissing as missing:
        if os.environ.get("CI") == "true":
            pytest.fail(f"{missing}, and with CI=true it must be", pytrace=False)
        pytest.skip(str(missing))


def run(*command: str) -> None:
    done = subprocess.run(command, cwd=CLIENT, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"


def test_units() -> None:
    run("npm", "test", "--silent")


def test_lint() -> None:
    run("npm", "run", "lint", "--silent")


def test_every_exported_thing_is_documented() -> None:
    # Without links to sources, which it makes of git's remote: a checkout need not have one.
    run("node_modules/.bin/typedoc", "--emit", "none", "--disableSources")
