"""Containers for tests: podman or docker, the image built by `make image`, and processes that are cleaned up after."""

import json
import os
import re
import shutil
import subprocess
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from .tools import BUILD_SECONDS, PATIENCE, ROOT, ToolMissing, run, tool

BASE = "docker.io/library/python:3.11-slim"
OWN_BASE = "localhost/sidecar-base:latest"
IMAGE = "localhost/sidecar-test:latest"
APP_IMAGE = "localhost/sidecar-example-app-test:latest"
CERTIFICATES = "/etc/ssl/certs"

# Where systemd does not run, as in a container that tests run in, podman's defaults do not work.
CONTAINERS_CONF = """
[containers]
default_ulimits = ["nofile=20000:20000", "nproc=20000:20000"]
[network]
network_backend = "netavark"
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
"""


class Engine:
    """`podman` or `docker` with the flags that this machine needs."""

    def __init__(self, program: str, env: dict[str, str]) -> None:
        self.program = program
        self.name = Path(program).name
        self.env = env
        self.tag = f"sidecartest{uuid.uuid4().hex[:8]}"  # in the name of all that is made
        self._containers: list[str] = []
        self._volumes = set(self._anonymous_volumes())

    @classmethod
    def find(cls, folder: Path) -> Self:
        """The first that works. Raises ToolMissing."""
        env: dict[str, str] = {}
        if not Path("/run/systemd/system").exists() and "CONTAINERS_CONF" not in os.environ:
            (folder / "containers.conf").write_text(CONTAINERS_CONF)
            env["CONTAINERS_CONF"] = str(folder / "containers.conf")
        tried = []
        for name in ("podman", "docker"):
            program = shutil.which(name)
            if program is None:
                continue
            asked = run(program, "info", env=env, check=False)
            if asked.returncode == 0:
                if name == "podman" and shutil.which("nft") is None:
                    tool("iptables")  # without either no container on a network starts, and compose waits for ever
                return cls(program, env)
            tried.append(f"{name} does not work here: {asked.stderr.strip().splitlines()[-1:]}")
        raise ToolMissing("; ".join(tried) or "podman or docker is needed (Debian: apt-get install podman)")

    @property
    def is_podman(self) -> bool:
        return self.name == "podman"

    def __call__(
        self, *words: str, check: bool = True, seconds: float = PATIENCE, stdin: str | None = None
    ) -> "subprocess.CompletedProcess[str]":
        return run(self.program, *words, check=check, seconds=seconds, env=self.env, stdin=stdin)

    # ------------------------------------------------------------ images

    def build_image(self) -> str:
        """`make image`; layers that are there already are used. Raises ToolMissing."""
        flags = [os.environ.get("IMAGE_FLAGS", "")]
        if self.is_podman:
            # Certificates as the host has them: it may be behind a proxy with its own.
            flags += [f"--volume {CERTIFICATES}:{CERTIFICATES}:ro"] if Path(CERTIFICATES).is_dir() else []
            flags += ["--isolation chroot"] if "CONTAINERS_CONF" in self.env else []
            flags += ["--build-arg", f"BASE={self._base()}"]
        command = ("make", "image", f"BUILDER={self.name}", f"IMAGE={IMAGE}", f"IMAGE_FLAGS={' '.join(flags)}")
        run(*command, env=self.env, seconds=BUILD_SECONDS)
        return IMAGE

    def build_app_image(self, sidecar: str) -> str:
        """The example's app, on top of the sidecar's image."""
        flags = ["--isolation", "chroot"] if "CONTAINERS_CONF" in self.env else []
        flags += ["--format", "docker"] if self.is_podman else []
        folder = str(ROOT / "deploy" / "example-app")
        self("build", "--quiet", *flags, "--build-arg", f"SIDECAR={sidecar}", "--tag", APP_IMAGE, folder)
        return APP_IMAGE

    def _base(self) -> str:
        """The base of the build stage: the official one where it can be had, else our own of Debian's packages."""
        for name in (BASE, OWN_BASE):
            if self("image", "exists", name, check=False).returncode == 0:
                return name
        if self("pull", "--quiet", BASE, check=False).returncode == 0:
            return BASE
        tool("mmdebstrap"), tool("buildah")
        run("make", "image-base", env=self.env, seconds=BUILD_SECONDS)
        return OWN_BASE

    def inspect(self, kind: str, name: str) -> Any:
        return json.loads(self("inspect", "--type", kind, name).stdout)[0]

    # ------------------------------------------------------------ containers

    def start(self, image: str, *flags: str, command: Sequence[str] = ()) -> "Container":
        """A container in the background, with a name of its own."""
        name = f"{self.tag}-{len(self._containers)}"
        self._containers.append(name)
        self("run", "--detach", "--name", name, *flags, image, *command)
        return Container(self, name)

    def close(self) -> None:
        for name in self._containers:
            self("rm", "--force", "--volumes", name, check=False)
        # Those of pods and of compose stay behind. One that somebody still uses is not removed.
        for volume in self._anonymous_volumes():
            if volume not in self._volumes:
                self("volume", "rm", volume, check=False)

    def _anonymous_volumes(self) -> list[str]:
        """The volumes that the image asks for and nothing else is mounted at."""
        return re.findall(r"^[0-9a-f]{64}$", self("volume", "ls", "--quiet").stdout, re.MULTILINE)


class Container:
    """One container."""

    def __init__(self, engine: Engine, name: str) -> None:
        self.engine = engine
        self.name = name

    def line(self, beginning: str) -> str:
        """Wait for the line of its log that begins so."""
        return log_line(self.engine, self.name, beginning)

    def log(self) -> str:
        done = self.engine("logs", self.name)
        return done.stdout + done.stderr

    def exec(self, *words: str, flags: Sequence[str] = ()) -> "subprocess.CompletedProcess[str]":
        return self.engine("exec", *flags, self.name, *words, check=False)

    def inspect(self) -> Any:
        return self.engine.inspect("container", self.name)

    def stop(self) -> int:
        """SIGTERM, as `docker stop` and Kubernetes do it; its exit code, 137 where it had to be killed."""
        self.engine("stop", self.name)
        return int(self.inspect()["State"]["ExitCode"])


def log_line(engine: Engine, name: str, beginning: str, seconds: float = 60.0) -> str:
    """Follow a container's log until a line begins so."""
    with subprocess.Popen(
        [engine.program, "logs", "--follow", name],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        env={**os.environ, **engine.env},
    ) as follower:
        assert follower.stdout is not None
        until = time.monotonic() + seconds
        seen = []
        try:
            for line in follower.stdout:
                seen.append(line)
                if line.startswith(beginning):
                    return line.rstrip()
                if time.monotonic() > until:
                    break
        finally:
            follower.kill()
    raise AssertionError(f"{name} says nothing that begins with {beginning!r}:\n{''.join(seen)}")


__all__ = ["BASE", "IMAGE", "ROOT", "Container", "Engine", "log_line"]
