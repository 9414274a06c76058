"""Runs every cell of the interop matrix, prints the table, and writes it into docs/interop.md.

`python -m tests.interop.run [PYTEST ARGUMENT ...]`: with arguments (`-k ws`, a file) it is only printed.
"""

import asyncio
import datetime
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from sidecar import __version__
from tests.interop.build import NAMES, ROOT, BuildFailed, ToolMissing, build
from tests.interop.peer import Peer

DOCUMENT = ROOT / "docs" / "interop.md"
BEGIN, END = "<!-- written by make interop: begin -->", "<!-- written by make interop: end -->"
GROUPS = (
    "connection",
    "keys",
    "basics",
    "kad-dht",
    "gossip",
    "gossip 1.3",
    "scoring",
    "byte streams",
    "private network",
    "WebSocket",
    "reachability",
    "relays",
    "punching",
    "discovery",
    "churn",
    "mixed mesh",
    "refusals",
)
AT_ONCE = 2  # runs side by side; most of a cell's time is waiting
_NO_TESTS = 5  # pytest's exit status where the arguments name no test of a part
_printing = threading.Lock()
_SIGNS = {"passed": "yes", "failed": "**NO**"}


class Result(NamedTuple):
    """What became of one test."""

    group: str
    shown: str
    language: str
    role: str
    outcome: str
    reason: str


class Table:
    """The matrix: a row for what is shown, a column for each implementation, and the reasons for what is not."""

    def __init__(self, results: list[Result]) -> None:
        self._cells: dict[tuple[str, str], dict[str, list[Result]]] = defaultdict(lambda: defaultdict(list))
        for result in results:
            self._cells[result.group, result.shown][result.language].append(result)
        self._reasons: dict[str, int] = {}

    def markdown(self) -> str:
        """Rows in the order of `GROUPS`, then of the tests; raises KeyError for a group that is none."""
        order = {group: number for number, group in enumerate(GROUPS)}
        rows = sorted(self._cells, key=lambda row: order[row[0]])
        lines = ["| group | shown | " + " | ".join(NAMES) + " |", "|---" * (2 + len(NAMES)) + "|"]
        last = ""
        for group, shown in rows:
            cells = [self._cell(self._cells[group, shown][language]) for language in NAMES]
            lines.append(f"| {group if group != last else ''} | {shown} | " + " | ".join(cells) + " |")
            last = group
        if self._reasons:
            lines += ["", "Not offered, as the implementation or its program says:", ""]
            lines += [f"{number}. {reason}" for reason, number in self._reasons.items()]
        return "\n".join(lines)

    def _cell(self, results: list[Result]) -> str:
        """`yes` where every test passed; where that depends on who dials, each for itself."""
        marks: dict[str, list[str]] = defaultdict(list)
        for result in results:
            marks[self._mark(result)].append(result.role)
        if len(marks) < 2:
            return next(iter(marks), "")
        return "; ".join(f"{mark} ({', '.join(dict.fromkeys(filter(None, roles)))})" for mark, roles in marks.items())

    def _mark(self, result: Result) -> str:
        if result.outcome == "skipped":
            reason = f"{result.language}: {result.reason.removeprefix('not offered: ').splitlines()[0]}"
            return f"no [{self._reasons.setdefault(reason, len(self._reasons) + 1)}]"
        return _SIGNS[result.outcome]


def read_results(path: Path) -> list[Result]:
    """A test with all implementations at once counts for each of them."""
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return [
        Result(line["group"], line["shown"], language, line["role"], line["outcome"], line["reason"])
        for line in lines
        for language in line["languages"]
    ]


async def _agents() -> dict[str, str]:
    agents = {}
    for name in NAMES:
        peer = await Peer.start(name, "version")
        agents[name] = peer.agent
        await peer.stop()
    return agents


def _run(part: str, wanted: str, results: Path, arguments: list[str]) -> int:
    """Run the cells of one implementation, or those that need all of them; pytest's exit status."""
    environment = os.environ | {"INTEROP": wanted, "INTEROP_PART": part, "INTEROP_RESULTS": str(results)}
    command = [sys.executable, "-m", "pytest", "-q", "-m", "cell", "-p", "no:cacheprovider"]
    command += arguments or ["tests/interop"]
    done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    with _printing:  # whole, so that the logs of a failing cell are not mixed with those of another
        print(f"--- {wanted}, {part}", done.stdout.decode(errors="replace"), sep="\n", flush=True)
    return 0 if done.returncode == _NO_TESTS else done.returncode


def _write(table: str, agents: dict[str, str], count: int) -> None:
    date = datetime.datetime.now(datetime.UTC).date().isoformat()
    versions = ", ".join(agents.values())
    text = f"sidecar {__version__} with {versions}; {count} tests on {date}, by `make interop`.\n\n{table}\n"
    document = DOCUMENT.read_text()
    head, rest = document.split(BEGIN)
    tail = rest.split(END)[1]
    DOCUMENT.write_text(f"{head}{BEGIN}\n{text}{END}{tail}")


def main(arguments: list[str]) -> int:
    """The exit status of pytest, or 1 when a peer does not build."""
    try:
        for name in NAMES:
            build(name)
    except (ToolMissing, BuildFailed) as error:
        print(error, file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "results.jsonl"
        runs = [("together", "all"), *(("each", name) for name in NAMES)]
        with ThreadPoolExecutor(AT_ONCE) as pool:
            statuses = list(pool.map(lambda run: _run(*run, path, arguments), runs))
        results = read_results(path)
    status = max(statuses)
    table = Table(results).markdown()
    print(table)
    if not arguments:
        _write(table, asyncio.run(_agents()), len(results))
        print(f"written to {DOCUMENT.relative_to(ROOT)}")
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
