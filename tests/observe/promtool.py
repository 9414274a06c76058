"""promtool, which comes with Prometheus (Debian: the package prometheus)."""

import shutil
import subprocess
from pathlib import Path

from tests.missing import not_there


def promtool(*words: str, given: str = "", cwd: Path | None = None) -> "subprocess.CompletedProcess[str]":
    """Run it; skips the test where it is not installed, unless CI=true."""
    found = shutil.which("promtool")
    if found is None:
        not_there("promtool is not there; Debian's package prometheus has it")
    return subprocess.run([found, *words], input=given, capture_output=True, text=True, timeout=60, cwd=cwd)
