"""Benchmark rows of go-libp2p-daemon ("p2pd"): two daemons, and an app of each in Go, by its control protocol.

It is in no registry: whoever wants it measured builds it and names the program, `make bench P2PD=PATH`.
"""

import asyncio
import contextlib
import tempfile
import time
from pathlib import Path

from bench.apps import AppSubject, Node, spawn, start_app
from bench.rows import Cell
from tests.interop.peer import Peer

_START_SECONDS = 30.0


class Daemon:
    """One daemon, and its app where it has one."""

    def __init__(self, process: asyncio.subprocess.Process, socket: Path) -> None:
        self._process = process
        self.socket = socket
        self.ready_seconds = 0.0
        self.app: Peer
        self.peer_id = ""
        self.addresses: list[str] = []

    @property
    def pid(self) -> int:
        return self._process.pid

    async def add_app(self, stack: contextlib.AsyncExitStack, language: str = "Go") -> None:
        """Start its app."""
        self.app = await start_app(stack, language, "p2pd", self.socket)
        info = await self.app.call("info")
        self.peer_id, self.addresses = info["peer_id"], info["addresses"]

    async def stop(self) -> None:
        """It ends by a signal only."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()


class DaemonSubject(AppSubject):
    """Two daemons, from app to app over its control protocol."""

    name = "p2pd"
    language = "Go"
    # What it hands out is dropped without a word where one of its queues of 32 is full: subscription, validation, peer.
    most = 32
    asks = False

    def __init__(self, program: Path) -> None:
        """Name the daemon's program."""
        self._program = program

    async def idle_streams(self, count: int) -> Cell | None:
        return None  # its resource manager takes 64 streams of a protocol from a peer, and has no flag for more

    async def start_node(self, stack: contextlib.AsyncExitStack, *, signed: bool = True, alone: bool = False) -> Node:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="p2pd-bench-")))
        options = ["-listen", f"/unix{home / 'control'}", "-hostAddrs", "/ip4/127.0.0.1/tcp/0"]
        options += ["-pubsub", "-dhtServer", f"-pubsubSign={str(signed).lower()}"]
        started = time.monotonic()
        process = await spawn(str(self._program), *options, stderr=asyncio.subprocess.DEVNULL)
        daemon = Daemon(process, home / "control")
        stack.push_async_callback(daemon.stop)
        assert process.stdout is not None
        async with asyncio.timeout(_START_SECONDS):
            # Its last lines are its addresses; it listens before it says anything.
            while not (line := await process.stdout.readline()).startswith(b"Peer Addrs"):
                if not line:
                    raise RuntimeError(f"p2pd ended, status {await process.wait()}")
        daemon.ready_seconds = time.monotonic() - started
        return daemon
