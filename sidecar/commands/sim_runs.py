"""Runs of simulations, each in a process of its own, as many at once as there are cores and memory for."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ..core.classes import NamedTuple
from ..simulate.memory import available_memory
from ..simulate.settings import Assignment
from ..simulate.writing import RECORDS
from .common.exit_codes import INTERRUPTED

_PAUSE = 5.0  # seconds between two words on progress


class Job(NamedTuple):
    """One run to be made."""

    file: Path
    seed: int
    folder: Path
    """Where its report goes; an older one there is removed before."""
    settings: Sequence[Assignment] = ()


class Runs:
    """Plays jobs, and hands Ctrl-C on to those that run: each keeps what it has played."""

    def __init__(self, memory: float) -> None:
        """`memory`: bytes that the largest run takes; they say how many are played at once."""
        self._memory = memory
        self._running: dict[int, subprocess.Popen[str]] = {}
        self._lock = threading.Lock()
        self.interrupted = False
        """Whether Ctrl-C came: what was not begun until then is not played."""

    def play(self, jobs: Sequence[Job], played: Callable[[Job], None] = lambda job: None) -> list[str]:
        """Play them all; returns what went wrong, a sentence each. `played` is told of each that has ended well."""
        before = signal.signal(signal.SIGINT, lambda number, frame: self._interrupt())
        try:
            for job in jobs:
                (job.folder / RECORDS).unlink(missing_ok=True)
            # What these threads start has SIGINT blocked until it is ready for it: Python, starting, may swallow one.
            block = (signal.SIG_BLOCK, {signal.SIGINT})
            with ThreadPoolExecutor(self._at_once(len(jobs)), "run", signal.pthread_sigmask, block) as pool:
                ends = pool.map(self._one, range(len(jobs)), jobs, [played] * len(jobs))
                return [error for error in ends if error]
        finally:
            signal.signal(signal.SIGINT, before)

    def _at_once(self, jobs: int) -> int:
        fit = int(available_memory() / self._memory)
        return max(1, min(jobs, os.cpu_count() or 1, fit))

    def _one(self, number: int, job: Job, played: Callable[[Job], None]) -> str | None:
        """Play one; returns what went wrong."""
        words = [
            *(sys.executable, "-m", "sidecar", "sim", "run", str(job.file), "--quiet"),
            *("--seed", str(job.seed), "--out", str(job.folder)),
            *(word for setting in job.settings for word in ("--set", setting.text)),
        ]
        # A session of its own: the terminal's Ctrl-C reaches it by us alone, and so once.
        with self._lock:
            if self.interrupted:
                return None
            process = self._running[number] = subprocess.Popen(
                words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True
            )
        said = process.communicate()[1].strip()
        with self._lock:
            del self._running[number]
            if process.returncode == 0:
                played(job)
        if process.returncode in (0, INTERRUPTED):
            return None
        shown = " ".join(["seed", str(job.seed), *(setting.text for setting in job.settings)])
        return f"{shown}: {said.splitlines()[-1] if said else f'ended with {process.returncode}'}"

    def _interrupt(self) -> None:
        # Of the threads this is the only one that is interrupted, and it holds the lock nowhere else.
        with self._lock:
            self.interrupted = True
            for process in self._running.values():
                process.send_signal(signal.SIGINT)


class RunCounter:
    """Says how many of so many runs are over, and how long the others may take."""

    def __init__(self, total: int, say: Callable[[str], None], *, at_most: bool = False) -> None:
        """`at_most`: there may be fewer."""
        self._total = total
        self._say = say
        self._bound = "at most " if at_most else ""
        self._done = 0
        self._began = self._said = time.monotonic()

    def one(self, job: Job) -> None:
        """One is over."""
        self._done += 1
        now = time.monotonic()
        if now - self._said < _PAUSE and self._done < self._total:
            return
        self._said = now
        took = now - self._began
        left = took * (self._total - self._done) / self._done
        self._say(
            f"{self._done} of {self._bound}{self._total} runs, {took:.0f} s; {self._bound}about {left:.0f} s are left"
        )
