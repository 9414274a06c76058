"""Running commands beside the JavaScript client."""

import subprocess
from pathlib import Path

from tests.conformance.build import CLIENTS
from tests.e2e.processes import PATIENCE

CLIENT = CLIENTS / "js"


def run(*command: str, folder: Path = CLIENT, seconds: float = PATIENCE) -> None:
    """Run a command, which must succeed."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=seconds)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"
