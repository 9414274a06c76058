"""Builds the agents, each with the client beside it in this checkout.

`python -m tests.conformance.build` builds them all.
"""

import fcntl
import os
import shutil
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tests.interop import build as build_tools
from tests.interop.build import ROOT, BuildFailed, ToolMissing

AGENTS = Path(__file__).parent / "agents"
CLIENTS = ROOT / "clients"
CACHE = ROOT / ".cache" / "conformance"
_BUILD_SECONDS = 900  # a cold Go build takes 40 s on two idle cores


run_tool = partial(build_tools.run_tool, seconds=_BUILD_SECONDS)


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
