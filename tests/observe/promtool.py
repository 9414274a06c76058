"""promtool, which comes with Prometheus (Debian: the package prometheus)."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest


def promtool(*words: str, given: str = "", cwd: Path | None = None) -> "subprocess.CompletedProcess[str]":
    """Run it; skips the test where it is not installed, unless CI=true."""
    found = shutil.which("promtool")
    if found is None:
        missing = "promtool is not there; Debian's package prometheus has it"
        if os.environ.get("CI") == "true":
            pytest.fail(f"{missing}, and with CI=true it must be", pytrace=False)
        pytest.skip(missing)
    return subprocess.run([found, *words], input=given, capture_output=True, text=True, timeout=60, cwd=cwd)
