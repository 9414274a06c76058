"""Sidecars as processes, for benchmarks."""

import asyncio
import contextlib
import os
import tempfile
import time
from pathlib import Path

from bench.apps import end_by_input, spawn_module, start_app
from tests.interop.peer import Peer

_START_SECONDS = 30.0
_END_SECONDS = 15.0


class Sidecar:
    """One `sidecar run`, and its app where it has one."""

    def __init__(self, process: asyncio.subprocess.Process, socket: Path) -> None:
        self._process = process
        self.socket = socket
        self.ready_seconds = 0.0
        self.said: list[str] = []  # lines until it was ready
        self.app: Peer
        self.peer_id = ""
        self.addresses: list[str] = []

    @property
    def pid(self) -> int:
        return self._process.pid

    async def add_app(self, stack: contextlib.AsyncExitStack, language: str = "Python") -> None:
        """Start its app, in Python unless said otherwise."""
        self.app = await start_app(stack, language, "sidecar", self.socket)
        info = await self.app.call("info")
        self.peer_id, self.addresses = info["peer_id"], info["addresses"]

    async def stop(self) -> None:
        """Close its input, which ends it."""
        await end_by_input(self._process, _END_SECONDS)


async def start_sidecar(stack: contextlib.AsyncExitStack, *flags: str, until: bytes = b"Ready") -> Sidecar:
    """A sidecar that has said a line which begins so, with state and socket of its own."""
    home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sidecar-bench-")))
    (home / "config.toml").touch()  # an empty one, so that the user's own is not read
    options = ["--config", str(home / "config.toml"), "--state", str(home / "state"), "--socket", str(home / "api")]
    options += ["--listen", "/ip4/127.0.0.1/tcp/0", "--log-level", "error", *flags]
    if engine := os.environ.get("API_ENGINE", ""):
        options += ["--api-engine", engine]
    started = time.monotonic()
    process = await spawn_module("sidecar", "run", "--until-eof", *options, stderr=asyncio.subprocess.DEVNULL)
    sidecar = Sidecar(process, home / "api")
    stack.push_async_callback(sidecar.stop)
    assert process.stdout is not None
    async with asyncio.timeout(_START_SECONDS):
        while not (line := await process.stdout.readline()).startswith(until):
            if not line:
                raise RuntimeError(f"a sidecar ended, status {await process.wait()}")
            sidecar.said.append(line.decode().strip())
    sidecar.ready_seconds = time.monotonic() - started
    return sidecar
