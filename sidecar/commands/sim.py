"""`sidecar sim`."""

import argparse
import gc
import json
import resource
import signal
import sys
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from ..config.kinds import Kind, seconds, size
from ..core.errors import ConfigError, InvalidArgument
from ..simulate.compare import ComparedNumber, compare, load_runs, told
from ..simulate.compare_page import compare_page
from ..simulate.pictures import lacking
from ..simulate.play import Play
from ..simulate.reading import load_scenario
from ..simulate.report import Run, records
from ..simulate.settings import Assignment, number_or_text, read_settings
from ..simulate.summary import summary
from ..simulate.tune import Limits
from ..simulate.values import positive
from ..simulate.writing import PAGE, SUMMARY, Cost, write
from .common.exit_codes import FAILED, INTERRUPTED, USAGE_WRONG
from .common.said import clean, failed, note
from .sim_seeds import play_seeds
from .sim_sweep import sweep
from .sim_tune import tune

_DEAD = 0.2  # of the number of nodes: so many have to die until they are cleared away; a guess
_MOMENTS = 120
_SOON = 1.0  # virtual seconds that say nothing of the rest: a network that is placed does nearly all its work in them
_LATE = 0.3  # of the time until now, by which the rest is estimated; a guess
_TERMINAL, _FILE = 0.5, 30.0  # seconds between two words on progress: on a terminal, and in what may be kept


_TUNE_SEEDS = 5  # with all of which limits have to hold


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.usage = (
        "sidecar sim run SCENARIO.toml [--set KEY=VALUE] [--out FOLDER] [--seed N] [--seeds N] [--quiet] [--json]\n"
        "       sidecar sim sweep SCENARIO.toml --set KEY=VALUE,VALUE ... [--out FOLDER] [--seed N] [--seeds N] "
        "[--quiet] [--json]\n"
        "       sidecar sim tune SCENARIO.toml [--p99 TIME] [--copies N] [--bandwidth BYTES] [--out FOLDER] [--seed N] "
        "[--seeds N] [--quiet] [--json]\n"
        "       sidecar sim compare FOLDER FOLDER [--page FILE.html] [--json]"
    )
    parser.add_argument(
        "action",
        choices=["run", "sweep", "tune", "compare"],
        help="play a scenario and write a report of it; play all combinations of some settings; find the cheapest "
        "configuration that keeps limits; put two reports side by side",
    )
    parser.add_argument(
        "paths", metavar="PATH", type=Path, nargs="+", help="the scenario; or two reports, or folders with several each"
    )
    parser.add_argument("--out", metavar="FOLDER", type=Path, help="where the report goes; default: sim/NAME-SEED")
    parser.add_argument("--seed", metavar="N", type=int, help="in place of the scenario's; equal seeds, equal reports")
    parser.add_argument(
        "--seeds",
        metavar="N",
        type=int,
        help=f"so many runs, on all cores, each with the next seed; default: 1, of `tune` {_TUNE_SEEDS}",
    )
    parser.add_argument(
        "--set",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="a key of the nodes' configuration or of the scenario, in place of the file's value; `sweep` takes "
        "several values, with commas between them",
    )
    parser.add_argument(
        "--p99", metavar="TIME", help="`tune`: in which 99 %% of deliveries have to arrive, such as 500ms"
    )
    parser.add_argument("--copies", metavar="N", help="`tune`: copies that a node may get of a message")
    parser.add_argument(
        "--bandwidth", metavar="BYTES", help="`tune`: bytes that a node may send a second, such as 20KiB"
    )
    parser.add_argument("--page", metavar="FILE", type=Path, help="compare: write a page with both in each picture")
    parser.add_argument("--quiet", action="store_true", help="say nothing while it runs")
    parser.add_argument("--json", action="store_true", help="one JSON document: the report's totals, or the comparison")
    parser.epilog = "Ctrl-C ends a run early and keeps the report of what was played. More: docs/simulation.md."


def run(options: argparse.Namespace) -> int:
    wanted = {"compare": 2}.get(options.action, 1)
    if options.page is not None and options.action != "compare":
        return failed(USAGE_WRONG, f"--page goes with `sidecar sim compare`; a run writes its own, {PAGE}")
    if len(options.paths) != wanted:
        what = {1: "one scenario", 2: "two folders"}[wanted]
        return failed(USAGE_WRONG, f"`sidecar sim {options.action}` takes {what}, not {len(options.paths)}")
    if options.action == "compare":
        return _compare(options)
    for name, value, least in (("seed", options.seed, 0), ("seeds", options.seeds, 1)):
        if value is not None and value < least:
            return failed(USAGE_WRONG, f"--{name} {value}: allowed: a whole number from {least} on")
    try:
        return {"sweep": _sweep, "tune": _tune, "run": _play}[options.action](options)
    except ConfigError as error:
        return failed(USAGE_WRONG, error)
    except InvalidArgument as error:
        return failed(FAILED, error)
    except OSError as error:
        if error.filename is None:  # of the output, which nobody reads any more, or which has no room
            raise
        return failed(FAILED, f"{error.filename}: {error.strerror}")


def _sweep(options: argparse.Namespace) -> int:
    if not options.set:
        return failed(USAGE_WRONG, "`sidecar sim sweep` needs what to vary, such as --set gossip.degree=4,6,8")
    return sweep(
        options.paths[0],
        options.set,
        options.seed,
        options.seeds or 1,
        options.out,
        quiet=options.quiet,
        as_json=options.json,
    )


def _tune(options: argparse.Namespace) -> int:
    if options.set:
        return failed(USAGE_WRONG, "--set is for `run` and `sweep`; `tune` searches by itself")
    limits = Limits(
        _limit("p99", options.p99, seconds(0.001, 3600)),
        _limit("copies", options.copies, positive(1000, "copies")),
        _limit("bandwidth", options.bandwidth, size(1, 2**40)),
    )
    if not limits.named():
        return failed(USAGE_WRONG, "`sidecar sim tune` needs a limit: --p99, --copies or --bandwidth")
    return tune(
        options.paths[0],
        limits,
        options.seed,
        options.seeds or _TUNE_SEEDS,
        options.out,
        quiet=options.quiet,
        as_json=options.json,
    )


def _limit(name: str, text: str | None, kind: Kind) -> float | None:
    if text is None:
        return None
    try:
        return float(kind.read(number_or_text(text)))
    except ValueError as error:
        raise ConfigError(f"--{name} {text}: {error}; allowed: {kind.allowed}") from None


def _compare(options: argparse.Namespace) -> int:
    try:
        one, other = (load_runs(folder) for folder in options.paths)
    except OSError as error:
        return failed(FAILED, f"{error.filename}: {error.strerror}")
    except InvalidArgument as error:
        return failed(FAILED, error)
    rows = compare(one, other)
    names = (str(options.paths[0]), str(options.paths[1]))
    if options.page is not None and (complaint := _write_page(options.page, names, (one, other), rows)) is not None:
        return failed(FAILED, complaint)
    if options.json:
        fields = [
            {
                "name": row.name,
                "unit": row.unit,
                "a": row.one and row.one._asdict(),
                "b": row.other and row.other._asdict(),
                "ratio": row.ratio,
                "apart": row.apart,
            }
            for row in rows
        ]
        print(json.dumps({"a": names[0], "b": names[1], "figures": fields}))
        return 0
    for line in told(names, (one, other), rows):
        print(clean(line))
    return 0


def _write_page(
    file: Path, names: tuple[str, str], sets: tuple[Sequence[Run], Sequence[Run]], rows: Sequence[ComparedNumber]
) -> str | None:
    """Write a comparison's page; returns what went wrong."""
    if (lacks := lacking()) is not None:
        return f"--page {file}: {lacks}"
    try:
        file.write_text(compare_page(names, sets, rows), encoding="utf-8")
    except InvalidArgument as error:
        return str(error)
    except OSError as error:
        return f"{file}: {error.strerror}"
    return None


def _play(options: argparse.Namespace) -> int:
    settings = []
    for key, values in read_settings(options.set):
        if len(values) > 1:
            raise ConfigError(f"--set {key}: `run` takes one value; `sidecar sim sweep` plays several")
        settings.append(Assignment(key, values[0]))
    scenario = load_scenario(options.paths[0], settings)
    seed = scenario.seed if options.seed is None else options.seed
    if options.seeds is not None and options.seeds > 1:
        if options.json:
            return failed(USAGE_WRONG, "--json goes with a single seed; `sidecar sim compare --json` reads several")
        folder = options.out or Path("sim") / scenario.name
        return play_seeds(options.paths[0], scenario, range(seed, seed + options.seeds), folder, quiet=options.quiet)
    folder = options.out or Path("sim") / f"{scenario.name}-{seed}"
    folder.mkdir(parents=True, exist_ok=True)  # before the run, which may take long
    wall, cpu = time.monotonic(), time.process_time()
    # What nodes have stays, and what they drop is hardly ever garbage in circles: looking for that took a tenth of the
    # time and found a hundredth of the memory. Only a node that has died is all circles.
    gc.disable()
    play = Play(scenario, seed)
    before = signal.signal(signal.SIGINT, lambda number, frame: _interrupt(play, frame))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # blocked where `Runs` has started this
    progress, meter = Progress(scenario.duration, quiet=options.quiet), CpuMeter(scenario.duration)
    cleared = 0

    def played(over: float) -> None:
        nonlocal cleared
        if play.deaths - cleared > _DEAD * scenario.nodes:
            cleared = play.deaths
            gc.collect()
        progress.told(over)
        meter.told(over)

    try:
        play.run(played)
    finally:
        signal.signal(signal.SIGINT, before)
        progress.end()
        gc.enable()
    cost = Cost(time.monotonic() - wall, time.process_time() - cpu, _peak_memory(), meter.points)
    report = records(play)
    write(folder, report, cost)
    lacks = lacking()
    if options.json:
        totals = [record for record in report if record["record"] != "message"]
        print(json.dumps({"folder": str(folder), "records": totals}))
    else:
        for line in summary(report):
            print(clean(line))
        begin = SUMMARY if lacks else PAGE
        print(f"\nit took {cost.wall_seconds:.1f} s; the whole report is in {clean(str(folder))} (begin with {begin})")
    if lacks:
        note(f"there is no {PAGE}: {lacks}")
    if not report[0]["whole"]:
        return failed(
            INTERRUPTED, f"broken off after {report[0]['played']:.1f} of {scenario.duration:g} virtual seconds"
        )
    return 0


def _interrupt(play: Play, frame: FrameType | None) -> None:
    """The first Ctrl-C ends the run in order; a second one, at once."""
    if play.simulation.clock.stopped:
        raise KeyboardInterrupt
    play.stop()


def _peak_memory() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


class CpuMeter:
    """Notes what the processor does meanwhile, at some hundred moments."""

    def __init__(self, duration: float) -> None:
        self._step = duration / _MOMENTS
        self._begun = time.process_time()
        self.points: list[tuple[float, float]] = []
        """Virtual seconds, and the CPU seconds until then."""

    def told(self, over: float) -> None:
        """So many virtual seconds are over."""
        if over >= self._step * (len(self.points) + 1):
            self.points.append((round(over, 3), round(time.process_time() - self._begun, 4)))


class Progress:
    """Says how far a run is and how long the rest may take: in one line of a terminal, else in new ones."""

    def __init__(self, duration: float, *, quiet: bool) -> None:
        self._duration = duration
        self._quiet = quiet
        self._terminal = sys.stderr.isatty()
        self._began = self._said = time.monotonic()
        self._marks = deque([(self._began, 0.0)])
        """How far it was when: of late, and once before. Joining takes far longer than what comes after it."""
        self._width = 0

    def told(self, over: float) -> None:
        """So many virtual seconds are over."""
        now = time.monotonic()
        if self._quiet or now - self._said < (_TERMINAL if self._terminal else _FILE) or over <= 0:
            return
        self._said = now
        self._marks.append((now, over))
        while len(self._marks) > 2 and self._marks[1][0] <= now - _LATE * (now - self._began):
            self._marks.popleft()
        since, before = self._marks[0]
        text = f"{over:.1f} of {self._duration:g} virtual seconds, {now - self._began:.0f} s"
        if over > before and over >= _SOON:
            left = (now - since) * (self._duration - over) / (over - before)
            text += f"; about {left:.0f} s are left"
        if not self._terminal:
            note(text)
            return
        sys.stderr.write("\r" + text.ljust(self._width))
        sys.stderr.flush()
        self._width = len(text)

    def end(self) -> None:
        """Leave the line clean."""
        if self._width:
            sys.stderr.write("\r" + " " * self._width + "\r")
            sys.stderr.flush()
