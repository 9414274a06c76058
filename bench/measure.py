"""What is read from outside of the measured processes: CPU time and resident memory, from Linux' /proc."""

import os
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

_TICKS = os.sysconf("SC_CLK_TCK")
_PROC = Path("/proc")


def _stat(pid: int) -> list[str]:
    # The second field, a name in brackets, may hold blanks: what follows it starts with the state.
    return (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()


def family(pids: Iterable[int]) -> list[int]:
    """The processes and all their descendants that are alive."""
    children: dict[int, list[int]] = {}
    for entry in _PROC.iterdir():
        if entry.name.isdigit():
            try:
                parent = int(_stat(int(entry.name))[1])
            except (FileNotFoundError, ProcessLookupError):
                continue  # ended meanwhile
            children.setdefault(parent, []).append(int(entry.name))
    found = list(pids)
    for pid in found:  # grows as it goes
        found += children.get(pid, [])
    return found


def cpu_seconds(pids: Iterable[int]) -> float:
    """User and system time of processes with all their threads and descendants, ended ones included."""
    total = 0
    for pid in family(pids):
        user, system, ended_user, ended_system = _stat(pid)[11:15]
        total += int(user) + int(system) + int(ended_user) + int(ended_system)
    return total / _TICKS


def resident_mb(pids: Iterable[int]) -> float:
    """Resident memory of processes with their descendants, in units of 10^6 bytes."""
    pages = sum(int((_PROC / str(pid) / "statm").read_text().split()[1]) for pid in family(pids))
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


class CpuMeter:
    """CPU time that processes spend inside a `with` block, read in ticks of 10 ms: measure for seconds."""

    def __init__(self, pids: Iterable[int]) -> None:
        self._pids = list(pids)
        self.seconds = 0.0

    def __enter__(self) -> Self:
        self._before = cpu_seconds(self._pids)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.seconds = cpu_seconds(self._pids) - self._before

    def microseconds_per(self, count: int) -> float:
        """The same, divided by what was done."""
        return self.seconds / count * 1e6
