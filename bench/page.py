"""The pages in docs/ that benchmarks write: the facts at their end, and where they go."""

import datetime
import os
import platform
import subprocess
import sys
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"


def output(*command: str) -> str:
    """What a command says."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "not found"


def processor() -> str:
    """The processor's name."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def facts(module: str) -> str:
    """How a page's figures were taken, when, and on what."""
    return f"""- command: `{" ".join(["python -m", module, *sys.argv[1:]])}`
- date: {datetime.datetime.now(datetime.UTC):%Y-%m-%d}
- machine: {os.cpu_count()} x {processor()}, {platform.system()} {platform.release()}
- Python {platform.python_version()}, {output("go", "version")}, Node {output("node", "--version")}"""


def replaced(page: str, begin: str, end: str, part: str) -> str:
    """The page with this part between its marks. Raises ValueError where it has not each of them once, in order."""
    head, _, rest = page.partition(begin)
    _, _, tail = rest.partition(end)
    if page.count(begin) != 1 or page.count(end) != 1 or end in head:
        raise ValueError(f"the page has no {begin} and {end}")
    return f"{head}{begin}\n\n{part.rstrip()}\n\n{end}{tail}"


def publish(page: str, name: str, *, only_print: bool) -> None:
    """Print a page, or write it as docs/NAME."""
    if only_print:
        print(page)
    else:
        (DOCS / name).write_text(page)
        print(f"written: {DOCS / name}", file=sys.stderr)
