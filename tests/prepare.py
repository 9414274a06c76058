"""Builds and installs what the tests need beside the Python packages: peers, agents, clients, and some programs.

`python -m tests.prepare [STEP ...]` does what `make test` needs, or what is named, beside the tests that need none of
it, and says how far. A test that needs a part of it asks for it by `ensure`, and waits where it is just being made.
What is there already costs nothing.
"""

import fcntl
import os
import shutil
import sys
import time
from collections.abc import Callable

from tests.conformance.build import build as build_agent
from tests.interop.build import CORE, ROOT, BuildFailed, ToolMissing, run_tool
from tests.interop.build import build as build_peer
from tests.missing import MUST

_BIN = ROOT / ".tools" / "bin"
_LOCKS = ROOT / ".cache" / "prepare"


def found(program: str) -> str | None:
    """Where a program is: installed for this checkout, or on the PATH."""
    return shutil.which(program, path=f"{_BIN}{os.pathsep}{os.environ.get('PATH', '')}")


def _make(program: str) -> None:
    """Install a program by its make target, unless it is there. Raises BuildFailed."""
    if found(program) is None:
        run_tool(["make", "-s", program], ROOT)


def _make_router() -> None:
    """The router that port mapping is tested with, where it can be used. Raises ToolMissing, BuildFailed."""
    if os.geteuid() != 0:
        raise ToolMissing("miniupnpd: network namespaces take root")
    _make("miniupnpd")


def _silent(_: str) -> None:
    """`build_peer` need not say what `main` says."""


# In the order in which the tests want them. The tests build everything else by themselves: it takes seconds.
STEPS: dict[str, tuple[tuple[str, ...], Callable[[], object]]] = {
    "promtool": ((), lambda: _make("promtool")),
    "miniupnpd": (("ip", "nft", "sysctl"), _make_router),
    "js client": (("node", "npm"), lambda: build_agent("js")),
    **{f"{name} peer": ((), lambda name=name: build_peer(name, _silent)) for name in sorted(CORE, reverse=True)},  # type: ignore[misc]
    "go client": (("go",), lambda: build_agent("go")),
    "grpcurl": (("go",), lambda: _make("grpcurl")),
}
SLOW = ("grpcurl",)  # of `make test-slow` alone


def ensure(step: str) -> None:
    """Have a step done, by whoever is first. Raises ToolMissing, BuildFailed."""
    tools, do = STEPS[step]
    for tool in tools:
        if shutil.which(tool) is None:
            raise ToolMissing(f"{step}: `{tool}` is not installed")
    _LOCKS.mkdir(parents=True, exist_ok=True)
    with (_LOCKS / f"{step.replace(' ', '-')}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        do()


def main() -> None:
    """Do the steps that are named, else all; a step that fails is said, and fails the tests that need it."""
    steps = sys.argv[1:] or [step for step in STEPS if step not in SLOW]
    if unknown := set(steps) - set(STEPS):
        sys.exit(f"no step {', '.join(sorted(unknown))}; there are {', '.join(STEPS)}")
    os.nice(10)  # the tests that run meanwhile measure their patience in seconds
    for number, step in enumerate(steps, start=1):
        begun = time.monotonic()
        try:
            ensure(step)
            what = f"ready after {time.monotonic() - begun:.0f} s"
        except (ToolMissing, BuildFailed) as error:
            what = f"cannot be had{'' if MUST else ', its tests are skipped'}: {str(error).strip().splitlines()[0]}"
        print(f"[{number} of {len(steps)}] {step}: {what}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
