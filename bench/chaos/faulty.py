"""Runs a sidecar above a disk that does to its databases what a file says, from one moment to the next.

    python -m bench.chaos.faulty FILE run ...

Nothing of the sidecar knows of it: a layer is put below the sqlite3 module (`tests.store.disk_below`) before it opens
anything. It takes no rights, so that it can be had in any CI; the key and the logs are not databases, and are not met.
"""

import runpy
import sys
import time
from pathlib import Path

from bench.chaos.scene import Skipped
from tests.store.disk_below import FULL, IOERR, OK, READONLY, Asked, interposed, why_not

_REFUSALS = {"full": FULL, "read-only": READONLY, "failing": IOERR}


class FaultyDisk:
    """What the disk below a process does; `set` changes it while the process runs."""

    def __init__(self, file: Path) -> None:
        """Raises Skipped."""
        if why_not():
            raise Skipped(why_not())
        self._file = file
        self.set("")

    def set(self, fault: str) -> None:
        """One of `full`, `read-only`, `failing`, `slow SECONDS` (each write and each fsync); or "": it is well."""
        draft = self._file.with_suffix(".draft")
        draft.write_text(fault)
        draft.replace(self._file)

    def program(self) -> tuple[str, ...]:
        """What to run in place of `python -m sidecar`."""
        return (sys.executable, "-m", "bench.chaos.faulty", str(self._file))


def _below(file: Path, asked: Asked) -> int:
    fault, _, seconds = file.read_text().partition(" ")
    if fault == "slow":
        time.sleep(float(seconds))
    elif (fault and asked.kind in ("write", "truncate", "open")) or (fault == "failing" and asked.kind == "sync"):
        return _REFUSALS[fault]
    return OK


if __name__ == "__main__":
    control = Path(sys.argv[1])
    del sys.argv[1]
    with interposed(lambda asked: _below(control, asked)):
        runpy.run_module("sidecar", run_name="__main__", alter_sys=True)
