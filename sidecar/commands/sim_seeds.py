"""`sidecar sim run --seeds N`: a scenario with several seeds, each in a process of its own, as many at once as fit."""

import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ..simulate.reading import NODE_BYTES, available_memory
from ..simulate.scenario import Scenario
from ..simulate.writing import SUMMARY
from .common.exit_codes import FAILED, INTERRUPTED
from .common.said import clean, failed, note


class Seeds:
    """Plays the seeds, and hands Ctrl-C on to those that run: each keeps what it has played."""

    def __init__(self, file: Path, scenario: Scenario, seeds: range, folder: Path, *, quiet: bool) -> None:
        self._file = file
        self._scenario = scenario
        self._seeds = seeds
        self._folder = folder
        self._quiet = quiet
        self._running: dict[int, subprocess.Popen[str]] = {}
        self._interrupted = False
        self._lock = threading.Lock()

    def play(self) -> int:
        """Play them all; returns the exit code."""
        before = signal.signal(signal.SIGINT, lambda number, frame: self._interrupt())
        try:
            # What these threads start has SIGINT blocked until it is ready for it: Python, starting, may swallow one.
            block = (signal.SIG_BLOCK, {signal.SIGINT})
            with ThreadPoolExecutor(self._at_once(), initializer=signal.pthread_sigmask, initargs=block) as pool:
                failures = [error for error in pool.map(self._one, self._seeds) if error]
        finally:
            signal.signal(signal.SIGINT, before)
        for seed in self._seeds:
            told = self._folder / str(seed) / SUMMARY
            if told.exists():
                print(clean(f"seed {seed}: {told}"))
        if self._interrupted:
            return failed(INTERRUPTED, "broken off; what was played is kept")
        if failures:
            return failed(FAILED, failures[0])
        print(clean(f"beside others: `sidecar sim compare {self._folder} ...`"))
        return 0

    def _at_once(self) -> int:
        fit = int(available_memory() / (self._scenario.nodes * NODE_BYTES))
        return max(1, min(len(self._seeds), os.cpu_count() or 1, fit))

    def _one(self, seed: int) -> str | None:
        """Play one seed; returns what went wrong."""
        words = [
            *(sys.executable, "-m", "sidecar", "sim", "run", str(self._file), "--quiet"),
            *("--seed", str(seed), "--out", str(self._folder / str(seed))),
        ]
        # A session of its own: the terminal's Ctrl-C reaches it by us alone, and so once.
        with self._lock:
            if self._interrupted:
                return None
            process = self._running[seed] = subprocess.Popen(
                words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True
            )
        said = process.communicate()[1].strip()
        with self._lock:
            del self._running[seed]
        if process.returncode == 0 and not self._quiet:
            note(f"seed {seed} is played")
        return None if process.returncode in (0, INTERRUPTED) else f"seed {seed}: {said}"

    def _interrupt(self) -> None:
        with self._lock:  # which this thread, the only one that is interrupted, never holds otherwise
            self._interrupted = True
            for process in self._running.values():
                process.send_signal(signal.SIGINT)
