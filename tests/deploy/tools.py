"""Where the tools of the deployment's tests are, and what is said where one is missing."""

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
PATIENCE = 120.0  # seconds; only a hang reaches it
BUILD_SECONDS = 1800.0

# Each tool, and where it comes from.
SOURCES = {
    "hadolint": "make tools",
    "helm": "make tools, with Go",
    "kubernetes-validate": "make tools",
    "podman-compose": "make tools",
    "podman": "Debian: apt-get install podman runc netavark aardvark-dns iptables catatonit",
    "iptables": "Debian: apt-get install iptables; podman only suggests it",
    "buildah": "Debian: apt-get install buildah",
    "mmdebstrap": "Debian: apt-get install mmdebstrap",
    "systemd-analyze": "Debian: apt-get install systemd",
}


class ToolMissing(Exception):
    """A tool is not here; the message says how to get it."""


def tool(name: str) -> str:
    """The program's path. Raises ToolMissing."""
    places = (str(ROOT / ".tools" / "bin"), os.environ.get("PATH", ""), str(Path.home() / "go" / "bin"))
    found = shutil.which(name, path=os.pathsep.join(places))
    if found is None:
        raise ToolMissing(f"{name} is needed ({SOURCES[name]})")
    return found


def definitions() -> Path:
    """The folder with the definitions of the Prometheus operator's resources. Raises ToolMissing."""
    folder = ROOT / ".tools" / "crds"
    if not (folder / ".installed").exists():
        raise ToolMissing("the definitions of the monitors are needed (make tools, with Go)")
    return folder


def run(
    *words: str,
    check: bool = True,
    seconds: float = PATIENCE,
    env: Mapping[str, str] | None = None,
    stdin: str | None = None,
    folder: Path = ROOT,
) -> "subprocess.CompletedProcess[str]":
    """Run a tool to its end; with `check`, anything but success fails the test with what the tool has said."""
    done = subprocess.run(
        list(words),
        capture_output=True,
        text=True,
        timeout=seconds,
        env={**os.environ, **(env or {})},
        cwd=folder,
        **({"stdin": subprocess.DEVNULL} if stdin is None else {"input": stdin}),
    )
    if check and done.returncode:
        raise AssertionError(f"{shown(words)}: exit status {done.returncode}\n{done.stdout}{done.stderr}")
    return done


def shown(words: Sequence[str]) -> str:
    return " ".join([Path(words[0]).name, *words[1:]])
