"""A sidecar as a process that all kinds of things can be done to."""

import asyncio
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import sidecar_client
from sidecar_client import Client

from bench.apps import end_by_input, spawn

PATIENCE = 60.0  # seconds; what takes longer has failed
_SIDECAR = (sys.executable, "-m", "sidecar")


class Node:
    """A sidecar that can be ended in all ways and started again with the same state, at the same port."""

    def __init__(
        self,
        home: Path,
        *flags: str,
        program: Sequence[str] = _SIDECAR,
        listen: str = "/ip4/127.0.0.1/tcp/0",
        descriptors: Sequence[int] = (),
    ) -> None:
        """`home`: a folder to make. `program`: what is run in place of `python -m sidecar`, with the same arguments.

        `descriptors`: those of this process that it gets as well.
        """
        home.mkdir(exist_ok=True)
        (home / "config.toml").touch()  # an empty one, so that the user's own is not read
        self.home = home
        self.state = home / "state"
        self.socket = home / "api"
        self.log = home / "log"
        self.flags = list(flags)
        self.listen = listen
        self.program = program
        self.peer_id = self.address = ""
        self._descriptors = descriptors
        self._process: asyncio.subprocess.Process

    async def start(self, until: str = "  address") -> None:
        """Run it until it has said a line that begins so; by default where it listens. Raises RuntimeError."""
        options = ["--config", str(self.home / "config.toml"), "--state", str(self.state), "--log-level", "warning"]
        options += ["--socket", str(self.socket), "--listen", self.listen, *self.flags]
        with self.log.open("ab") as log:
            self._process = await spawn(
                *self.program, "run", "--until-eof", *options, stderr=log.fileno(), descriptors=self._descriptors
            )
        assert self._process.stdout is not None
        async with asyncio.timeout(PATIENCE):
            line = ""
            while not line.startswith(until):
                line = (await self._process.stdout.readline()).decode()
                if not line:
                    status = await self._process.wait()
                    raise RuntimeError(f"a sidecar ended, status {status}: {self.log.read_text()[-2000:]}")
                if line.startswith("  address"):
                    self.address = line.split()[-1]
                    self.listen, _, self.peer_id = self.address.partition("/p2p/")

    @property
    def pid(self) -> int:
        return self._process.pid

    async def kill(self) -> None:
        """SIGKILL."""
        self._process.kill()
        await self._process.wait()

    async def terminate(self) -> int:
        """SIGTERM, which lets it drain; its status."""
        self._process.terminate()
        async with asyncio.timeout(PATIENCE):
            return await self._process.wait()

    def freeze(self) -> None:
        """SIGSTOP: it is there, and does nothing."""
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    async def stop(self) -> None:
        """End it in order, if it has not ended."""
        if self._process.returncode is None:
            self.thaw()
            await end_by_input(self._process, PATIENCE)

    def connect(self, token_file: Path | None = None) -> Client:
        return sidecar_client.connect(f"unix:{self.socket}", wait=PATIENCE, token_file=token_file)
