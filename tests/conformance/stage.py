"""What scenarios are played on: sidecars, relays before them, and agents; most are shared by all plays of a run."""

import asyncio
import itertools
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sidecar.api.guard import quota
from sidecar.api.guard.tokens import TOKENS_FILE, TokenFile
from tests.e2e.processes import Process, environment

from .agent import Agent
from .build import build

SHARED: dict[str, dict[str, Any]] = {
    "one": {"flags": ["--dht-namespaces", "signed=signed", "--dht-namespaces", "best=greatest"]},
    "two": {"joins": "one", "flags": ["--dht-namespaces", "signed=signed", "--dht-namespaces", "best=greatest"]},
    "three": {"joins": "one", "flags": ["--dht-namespaces", "signed=signed", "--dht-namespaces", "best=greatest"]},
}
"""Three sidecars that know each other. Scenarios leave them as they found them, but for topics and records."""


def free_port() -> int:
    """A TCP port of loopback that nobody has."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


class Sidecar:
    """A sidecar that may be down."""

    def __init__(
        self, home: Path, flags: list[str], *, ready: bool = True, tokens: Mapping[str, Any] | None = None
    ) -> None:
        """`tokens`: scopes (`allow`) and quotas, by name."""
        self.home = home
        self.tokens = {name: str(home / f"{name}.token") for name in tokens or {}}
        self._wanted = dict(tokens or {})
        self._token_file = TokenFile(home / "state" / TOKENS_FILE)  # not by its command, which takes half a second
        self.socket = home / "api.sock"
        self.peer_id = ""
        self.address = ""
        self._flags = flags
        self._ready = ready
        self._process: Process | None = None
        self._heard = 0

    @property
    def target(self) -> str:
        return f"unix:{self.socket}"

    @property
    def process(self) -> Process:
        assert self._process is not None, "it has been started"
        return self._process

    async def start(self) -> None:
        """Start and wait until it is ready. After the first start it listens at the same address again."""
        await asyncio.to_thread(self._start)

    def _start(self) -> None:
        while self._wanted:
            self._token_file.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            name, wanted = self._wanted.popitem()
            quotas = quota.read({field: value for field, value in wanted.items() if field != "allow"})
            _, text = self._token_file.create(name, wanted["allow"], None, time.time(), quotas)
            Path(self.tokens[name]).write_text(text)
        listen = ["--listen", self.address.split("/p2p/")[0]] if self.address else []
        self._process = Process(self.home, *self._flags, *listen)
        self.peer_id = self._process.line("  peer id").split()[-1]
        self.address = self._process.line("  address").split()[-1]
        self._process.line("Ready after" if self._ready else "Not ready yet")

    async def stop(self) -> None:
        """SIGTERM, and wait for its end in order."""
        process, self._process = self.process, None
        status = await asyncio.to_thread(process.terminate)
        assert status == 0, f"exit status {status}\n{process.log()}"

    async def revoke(self, name: str) -> None:
        """End one of its tokens."""
        self._token_file.revoke(name)

    async def kill(self) -> None:
        """SIGKILL."""
        process, self._process = self.process, None
        process.popen.kill()
        await asyncio.to_thread(process.ended)

    async def end(self) -> None:
        if self._process is not None:
            await self.kill()

    def complaints(self) -> list[str]:
        """Errors that it has logged and nobody has asked about yet: whatever apps do, there are none."""
        log = self.home / "stderr"
        lines = log.read_text().splitlines() if log.exists() else []
        found = [line for line in lines[self._heard :] if " ERROR " in line or line.startswith("Traceback")]
        self._heard = len(lines)
        return found

    @property
    def last_words(self) -> str:
        """The end of its log."""
        log = self.home / "stderr"
        return "\n".join(log.read_text().splitlines()[-20:]) if log.exists() else "(never started)"


class Listener:
    """A TCP address at which no peer is: `silent`, where connections come up and nobody says a word, or `garbage`."""

    def __init__(self, kind: str) -> None:
        self._words = {"silent": b"", "garbage": b"HTTP/1.1 400 Bad Request\r\n\r\n"}[kind]
        self._server: asyncio.Server | None = None
        self._ends = asyncio.Event()

    async def start(self) -> str:
        """Its address."""
        self._server = await asyncio.start_server(self._taken, "127.0.0.1", 0)
        return f"/ip4/127.0.0.1/tcp/{self._server.sockets[0].getsockname()[1]}"

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        self._ends.set()

    async def _taken(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._words:
            writer.write(self._words)
        else:
            await self._ends.wait()
        writer.close()


class Stage:
    """Use it with `async with`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.numbers = itertools.count(1)
        self._commands: dict[str, list[str]] = {}
        self._agents: dict[str, Agent] = {}
        self._shared: dict[str, asyncio.Task[Sidecar]] = {}

    async def __aenter__(self) -> "Stage":
        return self

    async def __aexit__(self, *_: object) -> None:
        for language in list(self._agents):
            await self.dismiss(language)
        for starting in self._shared.values():
            sidecar = await starting
            await sidecar.end()

    # ------------------------------------------------------------ agents

    async def command(self, language: str) -> list[str]:
        """Raises ToolMissing, BuildFailed."""
        if language not in self._commands:
            self._commands[language] = await asyncio.to_thread(build, language)
        return self._commands[language]

    async def new_agent(self, language: str, variables: Mapping[str, str] | None = None) -> Agent:
        """An agent of one's own, with variables in its environment."""
        home = self.folder / "home"
        home.mkdir(exist_ok=True)
        return await Agent.start(
            language, await self.command(language), environment(home) | dict(variables or {}), self.folder
        )

    async def agent(self, key: str, language: str) -> Agent:
        """The agent that all plays of a `key` share."""
        if key not in self._agents:
            self._agents[key] = await self.new_agent(language)
        return self._agents[key]

    async def dismiss(self, key: str) -> None:
        agent = self._agents.pop(key, None)
        if agent is not None:
            await agent.kill()

    # ------------------------------------------------------------ sidecars

    async def sidecar(self, name: str) -> Sidecar:
        """One of `SHARED`, started when it is needed first."""
        if name not in self._shared:
            self._shared[name] = asyncio.create_task(self._start(name), name=f"starting {name}")
        return await asyncio.shield(self._shared[name])

    async def _start(self, name: str) -> Sidecar:
        sidecar = await self.new_sidecar(self.folder / name, SHARED[name])
        await sidecar.start()
        return sidecar

    async def new_sidecar(self, home: Path, wanted: Mapping[str, Any]) -> Sidecar:
        """One that has not been started."""
        flags = list(wanted.get("flags", []))
        if "joins" in wanted:
            flags += ["--bootstrap", (await self.sidecar(wanted["joins"])).address]
        return Sidecar(home, flags, ready=wanted.get("ready", True), tokens=wanted.get("tokens"))
