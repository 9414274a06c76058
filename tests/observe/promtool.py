"""promtool, which comes with Prometheus (Debian: the package prometheus)."""

import subprocess
from pathlib import Path

from tests.interop.build import BuildFailed
from tests.missing import MUST, not_there
from tests.prepare import ensure, found


def promtool(*words: str, given: str = "", cwd: Path | None = None) -> "subprocess.CompletedProcess[str]":
    """Run it. With CI=true it is installed first; otherwise the test is skipped where it is not there."""
    if MUST:
        try:
            ensure("promtool")
        except BuildFailed as error:
            not_there(error)
    program = found("promtool")
    if program is None:
        not_there("promtool is not there; `make promtool` installs it")
    return subprocess.run([program, *words], input=given, capture_output=True, text=True, timeout=60, cwd=cwd)
