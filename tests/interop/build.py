"""Builds the peer programs of `tests/interop/peers` into `.cache/interop`, once for each content of their folder.

`python -m tests.interop.build` builds them all.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
PEERS = Path(__file__).parent / "peers"
CACHE = ROOT / ".cache" / "interop"
BUILD_SECONDS = 1800  # on two idle cores a cold `go build` takes 40-90 s, cargo 3-6 minutes


class ToolMissing(Exception):
    """The language of a peer program is not installed here."""


class BuildFailed(Exception):
    """A peer program does not build; the message ends with the tool's output."""


def run_tool(command: Sequence[str], folder: Path, seconds: int = BUILD_SECONDS) -> None:
    """Run a tool of a build to its end. Raises BuildFailed."""
    try:
        done = subprocess.run(
            command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=seconds
        )
    except subprocess.TimeoutExpired as error:
        raise BuildFailed(f"{' '.join(command)}: not done in {seconds} s") from error
    if done.returncode:
        raise BuildFailed(f"{' '.join(command)}: exit status {done.returncode}\n{done.stdout}{done.stderr}")


def _build_go(source: Path, target: Path) -> None:
    target.mkdir()
    run_tool(["go", "build", "-mod=readonly", "-o", str(target / "peer"), "."], source)


def _build_js(source: Path, target: Path) -> None:
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("node_modules"))
    run_tool(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"], target)


def _build_rust(source: Path, target: Path) -> None:
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("target"))
    _name_registry(target)
    objects = CACHE / "cargo-target"  # kept, so that a change of the program does not compile rust-libp2p again
    run_tool(["nice", "cargo", "build", "--release", "--locked", "--target-dir", str(objects)], target)
    shutil.copy2(objects / "release" / "peer", target / "peer")


def _name_registry(folder: Path) -> None:
    """Complete a Cargo.lock that leaves out the packages' `source`, as ours does; cargo tells the registry's name."""
    lock = folder / "Cargo.lock"
    pinned = lock.read_text()
    lock.unlink()
    run_tool(["cargo", "generate-lockfile"], folder)
    source = next(line for line in lock.read_text().splitlines() if line.startswith("source = "))
    lock.write_text(pinned.replace("\nchecksum = ", f"\n{source}\nchecksum = "))


def _build_py(source: Path, target: Path) -> None:
    """An environment of its own, since py-libp2p needs an older protobuf; the project's own uv makes it."""
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    uv = Path(sys.executable).with_name("uv")
    run_tool([str(uv), "venv", "-q", "--relocatable", "--python", sys._base_executable, "venv"], target)
    run_tool(
        [str(uv), "pip", "install", "-q", "--python", "venv/bin/python", "--require-hashes", "-r", "requirements.txt"],
        target,
    )


# name: tools that must be there, how it is built, how it is run in the built folder
_RECIPES: dict[str, tuple[tuple[str, ...], Callable[[Path, Path], None], Callable[[Path], list[str]]]] = {
    "go": (("go",), _build_go, lambda built: [str(built / "peer")]),
    "js": (("node", "npm"), _build_js, lambda built: ["node", "--experimental-websocket", str(built / "peer.js")]),
    "py": ((), _build_py, lambda built: [str(built / "venv" / "bin" / "python"), str(built / "peer.py")]),
    "rust": (("cargo",), _build_rust, lambda built: [str(built / "peer")]),
}
NAMES = tuple(_RECIPES)
CORE = ("go", "js")  # what the suite runs against; the others take long to build and belong to `make interop`


def _content_key(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        if path.is_file() and "node_modules" not in relative.parts:
            digest.update(f"{relative} {path.stat().st_size}\n".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def build(name: str, say: Callable[[str], None] = print) -> list[str]:
    """Build the peer program of a language unless the cache has it.

    Args:
        name: one of `NAMES`.
        say: told before a build begins, since it takes a while.

    Returns:
        The command that starts it, to be followed by its options.

    Raises:
        ToolMissing: the compiler or runtime is not installed.
        BuildFailed: with the output of the tool.
    """
    tools, recipe, command = _RECIPES[name]
    for tool in tools:
        if shutil.which(tool) is None:
            raise ToolMissing(f"the {name} peer needs `{tool}`, which is not installed")
    built = CACHE / f"{name}-{_content_key(PEERS / name)}"
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not built.exists():
            say(f"building the {name} peer for interop tests (once, about a minute) ...")
            for stale in CACHE.glob(f"{name}-*"):
                shutil.rmtree(stale)
            unfinished = CACHE / f"{name}-unfinished-{os.getpid()}"
            recipe(PEERS / name, unfinished)
            unfinished.rename(built)
    return command(built)


if __name__ == "__main__":
    try:
        for peer_name in NAMES:
            print(f"{peer_name}: {' '.join(build(peer_name))}")
    except (ToolMissing, BuildFailed) as failure:
        sys.exit(str(failure))
