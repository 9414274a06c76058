"""Flame graphs of a row of the benchmark, one of each Python process, while it is measured.

    python -m bench.profile ROW [--subject sidecar] [--seconds 5] [--out profiles]
    python -m bench.profile ROW --libraries

`make profile ROW="new stream"` installs py-spy first. ROW is a part of one title. Both sidecars are recorded, and the
apps too where they are in Python (`--subject "sidecar, Python"`). Processes in Go have profiles of their own kind. What
is read out of the processes slows them a little, so the row's figures are not for the table. `--libraries` has Linux's
`perf` say instead which part of each process' CPU is spent in which library and in the kernel, those in Go included.
"""

import argparse
import asyncio
import contextlib
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from bench.measure import cpu_seconds
from bench.rows import ROWS
from bench.run import app_subjects

_SPY = Path(sys.executable).with_name("py-spy")
_PATIENCE = 60.0  # seconds, for a graph to be drawn
_SUFFIX = {"flamegraph": "svg", "raw": "txt", "speedscope": "json"}


class Libraries:
    """Records by perf which library, program or the kernel each process spends its CPU in."""

    def __init__(self, folder: Path, rate: int) -> None:
        """`folder`: for perf's files; `rate`: samples a second."""
        self._folder, self._rate = folder, rate
        self.cpu: dict[str, float] = {}
        """Seconds of CPU of each process meanwhile."""
        self.shares: dict[str, list[tuple[str, float]]] = {}
        """Of each process: what the CPU was spent in, and the share in percent, the largest first."""

    @contextlib.contextmanager
    def recording(self, pids: Mapping[str, int]) -> Iterator[None]:
        """Record the processes until the block ends."""
        with contextlib.ExitStack() as stack:
            running = {process: self._begin(process, pid) for process, pid in pids.items()}
            before = {process: cpu_seconds([pid]) for process, pid in pids.items()}
            stack.callback(self._end, running)
            yield
            self.cpu = {process: cpu_seconds([pid]) - before[process] for process, pid in pids.items()}

    def _path(self, process: str) -> Path:
        return self._folder / f"{process}.perf"

    def _begin(self, process: str, pid: int) -> "subprocess.Popen[bytes]":
        command = ["perf", "record", "-q", "-F", str(self._rate), "-o", str(self._path(process)), "-p", str(pid)]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def _end(self, running: "Mapping[str, subprocess.Popen[bytes]]") -> None:
        for one in running.values():
            one.send_signal(signal.SIGINT)
        for process, one in running.items():
            one.wait(_PATIENCE)
            command = ["perf", "report", "-i", str(self._path(process)), "--no-children", "--sort", "dso"]
            said = subprocess.run(command, capture_output=True, text=True, check=False).stdout
            self.shares[process] = library_shares(said)


def library_shares(said: str) -> list[tuple[str, float]]:
    """What `perf report --sort dso` says, as names and percent."""
    lines = (line.split() for line in said.splitlines() if line.strip() and not line.startswith("#"))
    return [(words[1].partition(".")[0].strip("[]"), float(words[0].rstrip("%"))) for words in lines]


class Recordings:
    """Records processes by py-spy into files of a folder, named after the row and the process."""

    def __init__(self, folder: Path, name: str, form: str, rate: int, native: bool) -> None:
        """`form`: what py-spy writes; `rate`: samples a second; `native`: with frames of C."""
        self._folder, self._name, self._form, self._rate, self._native = folder, name, form, rate, native
        self.written: list[Path] = []
        self.cpu: dict[str, float] = {}
        """Seconds of CPU of each process meanwhile, those in Go included."""

    @contextlib.contextmanager
    def recording(self, pids: Mapping[str, int]) -> Iterator[None]:
        """Record those of the processes that run Python, until the block ends."""
        self._folder.mkdir(parents=True, exist_ok=True)
        running = [self._begin(process, pid) for process, pid in pids.items() if _runs_python(pid)]
        before = {process: cpu_seconds([pid]) for process, pid in pids.items()}
        try:
            yield
        finally:
            self.cpu = {process: cpu_seconds([pid]) - before[process] for process, pid in pids.items()}
            for one in running:
                one.send_signal(signal.SIGINT)  # it draws what it has
            for one in running:
                one.wait(_PATIENCE)

    def _begin(self, process: str, pid: int) -> "subprocess.Popen[bytes]":
        path = self._folder / f"{self._name}.{process}.{_SUFFIX[self._form]}"
        command = [str(_SPY), "record", "--pid", str(pid), "--output", str(path), "--format", self._form]
        command += ["--rate", str(self._rate), "--duration", "3600"]  # the end comes by a signal
        self.written.append(path)
        more = ["--native"] if self._native else []
        return subprocess.Popen([*command, *more], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _runs_python(pid: int) -> bool:
    return Path(f"/proc/{pid}/exe").resolve().name.startswith("python")


def file_name(title: str) -> str:
    """A row's title as the beginning of a file's name."""
    words = "".join(letter if letter.isalnum() else " " for letter in title.partition(":")[0]).split()
    return "-".join(words).lower()


def main() -> None:
    """Record as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("row", help="a part of the row's title")
    parser.add_argument("--subject", default="sidecar", help='"sidecar", "sidecar, Python", ...')
    parser.add_argument("--seconds", type=float, default=5.0, help="that are recorded, about")
    parser.add_argument("--out", type=Path, default=Path("profiles"), help="the folder")
    parser.add_argument("--format", default="flamegraph", choices=_SUFFIX)
    parser.add_argument("--rate", type=int, default=250, help="samples a second")
    parser.add_argument("--libraries", action="store_true", help="shares of libraries and the kernel, by perf")
    parser.add_argument("--native", action="store_true", help="with frames of C, where the libraries have symbols")
    options = parser.parse_args()
    if options.libraries and shutil.which("perf") is None:
        sys.exit("perf is not installed: it is in Debian's package linux-perf")
    if not options.libraries and not _SPY.exists():
        sys.exit("py-spy is not installed: make profile ROW=...")
    rows = [row for row in ROWS if options.row in row.title]
    subjects = [subject for subject in app_subjects("") if subject.name == options.subject]
    if not rows or not subjects:
        sys.exit(f"no row or no subject of that name; rows: {', '.join(row.title for row in ROWS)}")
    for row in rows if options.libraries else ():
        with tempfile.TemporaryDirectory(prefix="sidecar-perf-") as folder:
            libraries = Libraries(Path(folder), options.rate)
            subjects[0].recorder = libraries
            print(f"{row.title}: {asyncio.run(row.measure(subjects[0], options.seconds))}")
        all_seconds = sum(libraries.cpu.values())
        for process, shares in libraries.shares.items():
            parts = ", ".join(f"{name} {share:.0f} %" for name, share in shares if share >= 1)
            print(f"  {process} {libraries.cpu[process] / all_seconds:.0%} of the CPU: {parts}")
    for row in rows if not options.libraries else ():
        recordings = Recordings(options.out, file_name(row.title), options.format, options.rate, options.native)
        subjects[0].recorder = recordings
        print(f"{row.title}: {asyncio.run(row.measure(subjects[0], options.seconds))}")
        print(f"  CPU: {', '.join(f'{process} {seconds:.2f} s' for process, seconds in recordings.cpu.items())}")
        for path in recordings.written:
            print(f"  {path}")


if __name__ == "__main__":
    main()
