"""Runs a sidecar whose wall clock is off by what a file says, from one moment to the next.

    python -m bench.chaos.clocked FILE run ...

Nothing of the sidecar knows of it: the two functions of `time` that tell the wall clock are replaced before it is
imported. Monotonic clocks, the system's, and the times of files stay as they are.
"""

import mmap
import runpy
import struct
import sys
import time
from pathlib import Path

_SECONDS = struct.Struct("=d")


class Offset:
    """How far the clock of a process is off; `set` changes it while the process runs."""

    def __init__(self, file: Path) -> None:
        self._file = file
        file.write_bytes(_SECONDS.pack(0.0))

    def set(self, seconds: float) -> None:
        """In one write, so that no half of it is read."""
        with self._file.open("r+b", buffering=0) as file:
            file.write(_SECONDS.pack(seconds))

    def program(self) -> tuple[str, ...]:
        """What to run in place of `python -m sidecar`."""
        return (sys.executable, "-m", "bench.chaos.clocked", str(self._file))


def _replace_clock(file: Path) -> None:
    with file.open("rb") as opened:
        offset = mmap.mmap(opened.fileno(), _SECONDS.size, access=mmap.ACCESS_READ)
    seconds, nanoseconds = time.time, time.time_ns

    def shifted() -> float:
        return seconds() + float(_SECONDS.unpack_from(offset)[0])

    def shifted_ns() -> int:
        return nanoseconds() + int(_SECONDS.unpack_from(offset)[0] * 1e9)

    time.time, time.time_ns = shifted, shifted_ns


if __name__ == "__main__":
    _replace_clock(Path(sys.argv[1]))
    del sys.argv[1]
    runpy.run_module("sidecar", run_name="__main__", alter_sys=True)
