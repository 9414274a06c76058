"""The demo's cast: nodes with their apps, and how a failure names those concerned."""

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator, Coroutine, Sequence
from pathlib import Path
from typing import Any

import sidecar_client
from sidecar_client import Client, NodeInfo

from ..core.types import PeerId
from ..store.directory import PEERS_FILE
from .demo_children import Actor, Child, ChildGone, environment

_START = 15.0  # seconds for a process to start and say so
_STOP = 5.0  # seconds for one to end in order


class DemoFailed(Exception):
    """Something that the demo shows did not happen; `concerned` are the processes whose logs may say why."""

    def __init__(self, message: str, concerned: Sequence[Child]) -> None:
        super().__init__(message)
        self.concerned = concerned

    def logs(self) -> str:
        """The tails of the logs of those concerned."""
        return "".join(
            f"the end of {child.log.name} ({child.how_it_ended()}):\n{child.tail()}" for child in self.concerned
        )


async def together(*steps: Coroutine[Any, Any, None]) -> None:
    """Do the steps at once; the first that fails ends the others, and its error is raised."""
    try:
        async with asyncio.TaskGroup() as tasks:
            for step in steps:
                tasks.create_task(step)
    except BaseExceptionGroup as group:
        raise group.exceptions[0] from None


class DemoNode:
    """A sidecar and an app that uses it, and this process's own client to look at it."""

    def __init__(self, number: int, directory: Path, network: str) -> None:
        self.number = number
        self.name = f"node {number}"
        self._home = directory / f"node{number}"
        self._home.mkdir(mode=0o700, exist_ok=True)
        self._network = network
        self.api = f"unix:{self._home / 'api.sock'}"
        self.sidecar = Child(self.name, directory / f"node{number}.log")
        self.app = Actor(f"the app of {self.name}", directory / f"app{number}.log")
        self._client: Client | None = None
        self.info: NodeInfo | None = None

    async def start(self, bootstrap: str | None) -> None:
        """Start the sidecar and wait until it is ready."""
        arguments = ["run", "--until-eof", "--config", str(self._config_file())]
        arguments += ["--network", self._network, "--log-format", "text", "--listen", "/ip4/127.0.0.1/tcp/0"]
        arguments += ["--state", str(self._home), "--socket", str(self._home / "api.sock")]
        if bootstrap is not None:
            arguments += ["--bootstrap", bootstrap]
        await self.sidecar.start("sidecar", arguments, environment())
        async with self.within(_START, "was not ready", self.sidecar):
            if self._client is None:
                self._client = await sidecar_client.connect(self.api, wait=_START).__aenter__()
            async for readiness in self.client.watch_readiness():
                if readiness.ready:
                    break
            self.info = await self.client.info()

    async def start_app(self) -> None:
        """Start the app and wait until it listens, receives and serves."""
        async with self.within(_START, "its app did not get going", self.app, self.sidecar):
            await self.app.begin("sidecar.commands.demo_app", ["--api", self.api], environment())
            for event in ("subscribed", "receiving", "serving"):
                await self.app.event(event, _START)

    @property
    def client(self) -> Client:
        """The client of its API; only once it was started."""
        assert self._client is not None, "not started"
        return self._client

    @property
    def peer_id(self) -> str:
        """Who it is, which stays the same when it is started again; only once it was started."""
        assert self.info is not None, "not started"
        return self.info.peer_id

    @property
    def address(self) -> str:
        """Where others can dial it, its peer id included."""
        assert self.info is not None, "not started"
        return f"{self.info.listening_addresses[0]}/p2p/{self.info.peer_id}"

    async def meets(self, others: Sequence["DemoNode"], timeout: float) -> None:
        """Wait until it is connected to all of the others and knows who they are."""
        missing = {other.peer_id: other.name for other in others}
        async with self.within(timeout, "did not find all the others", self.sidecar):
            async for event in self.client.watch_peers():
                if event.peer is not None and event.peer.connected and event.peer.identified:
                    missing.pop(event.peer.peer_id, None)
                if not missing:
                    return

    async def remembers(self, others: Sequence["DemoNode"], timeout: float) -> None:
        """Wait until it has written the others down, which it does a moment after it has met them."""
        async with self.within(timeout, "did not write down whom it met", self.sidecar):
            while not {other.peer_id for other in others} <= self._on_disk():  # noqa: ASYNC110 - nobody tells of another's file
                await asyncio.sleep(0.1)

    def _on_disk(self) -> set[str]:
        with contextlib.closing(sqlite3.connect(f"file:{self._home / PEERS_FILE}?mode=ro", uri=True)) as peers:
            return {str(PeerId(row[0])) for row in peers.execute("SELECT peer FROM peers")}

    @contextlib.asynccontextmanager
    async def within(self, timeout: float, what: str, *concerned: Child) -> AsyncIterator[None]:
        """Bound a step, and say whose it was when it fails."""
        try:
            async with asyncio.timeout(timeout):
                yield
        except TimeoutError:
            raise DemoFailed(f"{self.name}: {what} within {timeout:g} seconds", concerned) from None
        except (ChildGone, sidecar_client.SidecarError) as error:
            raise DemoFailed(f"{self.name}: {what}: {error}", concerned) from None

    async def kill(self) -> None:
        """SIGKILL the sidecar; its app stays."""
        await self.sidecar.kill()

    async def stop(self) -> int:
        """SIGTERM the sidecar; its exit code."""
        return await self.sidecar.stop(_STOP)

    async def end(self) -> None:
        """End everything that belongs to it."""
        if self._client is not None:
            client, self._client = self._client, None
            await client.__aexit__(None, None, None)
        for child in (self.app, self.sidecar):
            if child.running:
                await child.stop(_STOP)

    def _config_file(self) -> Path:
        """An empty one, so that the demo does not depend on the user's."""
        file = self._home / "config.toml"
        file.touch()
        return file
