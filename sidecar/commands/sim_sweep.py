"""`sidecar sim sweep`: a scenario with every combination of some settings."""

import json
from collections.abc import Sequence
from pathlib import Path

from ..core.errors import InvalidArgument
from ..simulate.compare import load_runs
from ..simulate.memory import needed_memory
from ..simulate.pictures import lacking
from ..simulate.reading import load_scenario
from ..simulate.settings import read_settings
from ..simulate.sweep import Combination, Settings, combinations, combined, sweep_records, sweep_told
from ..simulate.sweep_page import sweep_page
from ..simulate.writing import RECORDS
from .common.exit_codes import FAILED, INTERRUPTED
from .common.said import clean, failed, note
from .sim_runs import Job, RunCounter, Runs

SWEEP, SWEEP_PAGE = "sweep.jsonl", "sweep.html"


def sweep(
    file: Path, written: Sequence[str], seed: int | None, seeds: int, out: Path | None, *, quiet: bool, as_json: bool
) -> int:
    """Play it; returns the exit code. `written`: what stands behind each `--set`. Raises ConfigError, OSError."""
    ranges = read_settings(written)
    wanted = combinations(ranges, seeds)
    scenarios = [load_scenario(file, settings) for settings in wanted]  # so that what is wrong is told before it begins
    plain = scenarios[0]
    first = plain.seed if seed is None else seed
    folder = out or Path("sim") / f"{plain.name}-sweep"
    folder.mkdir(parents=True, exist_ok=True)
    digits = len(str(len(wanted)))
    jobs = {
        number: [
            Job(file, each, folder / f"{number:0{digits}}" / str(each), settings)
            for each in range(first, first + seeds)
        ]
        for number, settings in enumerate(wanted, 1)
    }
    every = [job for some in jobs.values() for job in some]
    progress = RunCounter(len(every), lambda text: None if quiet else note(text))
    runs = Runs(max(map(needed_memory, scenarios)))
    failures = runs.play(every, progress.one)
    found = [
        combination
        for number, settings in enumerate(wanted, 1)
        if (combination := of_jobs(number, settings, jobs[number])).seeds
    ]
    records = list(sweep_records(plain.name, found, len(wanted)))
    (folder / SWEEP).write_text("".join(json.dumps(record) + "\n" for record in records))
    lacks = lacking()
    if lacks is None:
        (folder / SWEEP_PAGE).write_text(sweep_page(plain.name, found, len(wanted)), encoding="utf-8")
    if as_json:
        print(json.dumps({"folder": str(folder), "records": records}))
    else:
        for line in sweep_told(plain.name, found, len(wanted)):
            print(clean(line))
        print()
        begin = SWEEP if lacks else SWEEP_PAGE
        print(clean(f"all of it is in {folder} (begin with {begin}; there is a folder for each combination)"))
        if lacks and not quiet:
            note(f"there is no {SWEEP_PAGE}: {lacks}")
    if runs.interrupted:
        return failed(INTERRUPTED, f"broken off; {len(found)} of {len(wanted)} combinations were played")
    return failed(FAILED, failures[0]) if failures else 0


def of_jobs(number: int, settings: Settings, jobs: Sequence[Job]) -> Combination:
    """What the jobs' reports say, as far as there are any. Raises OSError, InvalidArgument."""
    runs = [run for job in jobs if (job.folder / RECORDS).exists() for run in load_runs(job.folder)]
    for run in runs:
        if run[0].get("settings") != dict(settings):
            raise InvalidArgument(f"the runs of combination {number} have other settings than asked for")
    return combined(number, settings, runs)
