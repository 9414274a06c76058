"""Builds the agents, each with the client beside it in this checkout.

`python -m tests.conformance.build` builds them all.
"""

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
AGENTS = Path(__file__).parent / "agents"
CLIENTS = ROOT / "clients"
CACHE = ROOT / ".cache" / "conformance"
_BUILD_SECONDS = 900  # a cold Go build takes 40 s on two idle cores


class ToolMissing(Exception):
    """The language of an agent is not installed here."""


class BuildFailed(Exception):
    """An agent or its client does not build; the message ends with the tool's output."""


def run_tool(command: Sequence[str], folder: Path) -> None:
    try:
        done = subprocess.run(
            command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_BUILD_SECONDS
        )
    except subprocess.TimeoutExpired as error:
        raise BuildFailed(f"{' '.join(command)}: not done in {_BUILD_SECONDS} s") from error
    if done.returncode:
        raise BuildFailed(f"{' '.join(command)}: exit status {done.returncode}\n{done.stdout}{done.stderr}")


def _build_python() -> list[str]:
    return [sys.executable, str(AGENTS / "python" / "agent.py")]


def _build_go() -> list[str]:
    """Go's own cache knows what has changed."""
    program = CACHE / "go-agent"
    run_tool(["go", "build", "-mod=readonly", "-o", str(program), "."], AGENTS / "go")
    return [str(program)]


def build_js_client() -> None:
    """Compile `clients/js`, unless what is there is younger than its sources. Raises BuildFailed."""
    client = CLIENTS / "js"
    installed = client / "node_modules" / ".package-lock.json"
    if not installed.exists() or installed.stat().st_mtime < (client / "package-lock.json").stat().st_mtime:
        run_tool(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"], client)
        os.utime(installed)
    built = client / "dist" / "index.js"
    sources = [path for path in (client / "src").rglob("*") if path.is_file()]
    if not built.exists() or built.stat().st_mtime < max(path.stat().st_mtime for path in sources):
        run_tool(["npm", "run", "build", "--silent"], client)
        os.utime(built)


def _build_js() -> list[str]:
    build_js_client()
    return ["node", str(AGENTS / "js" / "agent.js")]


# language: tools that must be there, how the agent is built; each gives the command that starts it
_RECIPES: dict[str, tuple[tuple[str, ...], Callable[[], list[str]]]] = {
    "python": ((), _build_python),
    "go": (("go",), _build_go),
    "js": (("node", "npm"), _build_js),
}
LANGUAGES = tuple(name for name in _RECIPES if (AGENTS / name).is_dir())
REFERENCE = "python"  # the client that watches from beside
SHOWN = {"python": "Python", "go": "Go", "js": "JavaScript"}


def build(language: str) -> list[str]:
    """Build what needs building; the command that starts the agent. Raises ToolMissing, BuildFailed."""
    tools, recipe = _RECIPES[language]
    for tool in tools:
        if shutil.which(tool) is None:
            raise ToolMissing(f"the {language} client's agent needs `{tool}`, which is not installed")
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{language}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return recipe()


if __name__ == "__main__":
    try:
        for name in LANGUAGES:
            print(f"{name}: {' '.join(build(name))}")
    except (ToolMissing, BuildFailed) as failure:
        sys.exit(str(failure))
