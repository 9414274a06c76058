"""`sidecar sim run --seeds N`: a scenario with several seeds."""

from collections.abc import Sequence
from pathlib import Path

from ..simulate.memory import needed_memory
from ..simulate.pictures import lacking
from ..simulate.scenario import Scenario
from ..simulate.writing import PAGE, SUMMARY
from .common.exit_codes import FAILED, INTERRUPTED
from .common.said import clean, failed, note
from .sim_runs import Job, Runs


def play_seeds(file: Path, scenario: Scenario, seeds: Sequence[int], folder: Path, *, quiet: bool) -> int:
    """Play them all, each into a folder of its own; returns the exit code."""
    runs = Runs(needed_memory(scenario))
    jobs = [Job(file, seed, folder / str(seed), scenario.settings) for seed in seeds]
    failures = runs.play(jobs, lambda job: None if quiet else note(f"seed {job.seed} is played"))
    lacks = lacking()
    for job in jobs:
        told = job.folder / (SUMMARY if lacks else PAGE)
        if told.exists():
            print(clean(f"seed {job.seed}: {told}"))
    if lacks:
        note(f"there is no {PAGE}: {lacks}")
    if runs.interrupted:
        return failed(INTERRUPTED, "broken off; what was played is kept")
    if failures:
        return failed(FAILED, failures[0])
    print(clean(f"beside others: `sidecar sim compare {folder} ...`"))
    return 0
