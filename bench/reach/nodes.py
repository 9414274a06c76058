"""Sidecars in places, as processes of their own, and the Python client that calls them."""

import asyncio
import contextlib
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path

import sidecar_client
from sidecar_client import Client, Peer, SidecarError

from bench.apps import end_by_input
from bench.reach.places import Host, Internet
from bench.reach.rules import PORTS
from sidecar.commands.demo_children import environment

_START = 120.0  # seconds for a node to start, and for its place with the relay
_END = 20.0
_AT_ONCE = 3  # nodes that start at the same time
_LOOK = 0.1
_PROTOCOL = "/reach/1"
_ASK = 20.0
_NAMES = ("ip4", "ip6")
_SETTINGS = {"network": "reach", "log-level": "debug", "peers-target": "0", "peers-outbound": "0", "dht-mode": "client"}
"""Of every node: it seeks nobody by itself but the relay, so that each connection is one that was asked for."""


class LabFailed(Exception):
    """Something that has nothing to do with reach did not happen; a sentence."""


class Node:
    """A sidecar in a place."""

    def __init__(self, title: str, host: Host, port: int = PORTS[0]) -> None:
        self.title = title
        self.host = host
        self.port = port
        self.client: Client
        self.peer_id = ""
        self._log = Path()

    @property
    def listening(self) -> tuple[str, ...]:
        """Where it listens, in multiaddrs; first of IPv4."""
        return tuple(f"/{_NAMES[':' in address]}/{address}/tcp/{self.port}" for address in self.host.addresses)

    async def start(self, stack: contextlib.AsyncExitStack, home: Path, settings: dict[str, str]) -> None:
        """Until it answers its API. Raises LabFailed."""
        home.mkdir()
        self._log = home / "log"
        (home / "config.toml").touch()  # an empty one, so that the user's own is not read
        options = {**_SETTINGS, "config": str(home / "config.toml"), "state": str(home / "state")}
        options |= {"socket": str(home / "api"), **settings}
        words = [text for name, value in options.items() for text in (f"--{name}", value)]
        words += [text for address in self.listening for text in ("--listen", address)]
        with self._log.open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                *self.host.command(sys.executable, "-m", "sidecar", "run", "--until-eof", *words),
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=log,
                env=environment(),
                pass_fds=(self.host.namespace,),
                start_new_session=True,  # the terminal's Ctrl-C is for us; it ends with its input, so with us
            )
        stack.push_async_callback(end_by_input, process, _END)
        self.client = await stack.enter_async_context(sidecar_client.connect(f"unix:{home / 'api'}", wait=_START))
        try:
            self.peer_id = (await self.client.info()).peer_id
        except SidecarError as error:
            raise LabFailed(f"{self.title} did not start: {error}; {self.log()}") from error
        await stack.enter_async_context(self.client.serve(_PROTOCOL, self._answer))

    async def _answer(self, request: sidecar_client.Request) -> bytes:
        return self.title.encode()

    def log(self) -> str:
        """The end of what it has said."""
        return self._log.read_text(errors="replace")[-2000:]

    def logged(self) -> int:
        """How many bytes it has said."""
        return self._log.stat().st_size

    def said(self, since: int, *words: str) -> bool:
        """Whether a line of its log has all these words, after so many bytes."""
        with self._log.open("rb") as log:
            log.seek(since)
            return any(all(word.encode() in line for word in words) for line in log)

    async def peer(self, other: "Node") -> Peer | None:
        """What it knows of another that it is connected to."""
        try:
            found = await self.client.peer(other.peer_id)
        except SidecarError:
            return None
        return found if found.connected else None

    async def asks(self, other: "Node") -> None:
        """Have the other one's app answer a question. Raises SidecarError."""
        answer = await self.client.request(other.peer_id, _PROTOCOL, b"who is there?", timeout=_ASK)
        if answer != other.title.encode():
            raise LabFailed(f"{self.title} has asked {other.title}, and {answer!r} answered")

    async def has(self, name: str) -> float:
        """One of its counters or gauges."""
        return (await self.client.statistics()).get(name, 0.0)


class Fleet:
    """A relay, and nodes that have a place with it."""

    def __init__(self, internet: Internet, home: Path) -> None:
        self._home = home
        self._stack = contextlib.AsyncExitStack()
        self.relay = Node("the relay", internet.relay)
        self.nodes: list[Node] = []

    async def __aenter__(self) -> "Fleet":
        self._home.mkdir()
        return self

    async def __aexit__(self, *reason: object) -> None:
        await self._stack.aclose()

    async def start(self, nodes: Sequence[Node], settings: dict[str, str], relay: dict[str, str]) -> None:
        """Until all are there and have their places. Raises LabFailed."""
        await self.relay.start(self._stack, self._home / "relay", {"relay-server": "true", **relay})
        gate = asyncio.Semaphore(_AT_ONCE)

        async def start(number: int, node: Node) -> None:
            async with gate:
                both = {"relay": self.at_relay(node), **settings}
                await node.start(self._stack, self._home / str(number), both)
                await until(partial(_placed, node), _START, f"{node.title} got no place with the relay")

        await asyncio.gather(*(start(number, node) for number, node in enumerate(nodes)))
        self.nodes.extend(nodes)

    def at_relay(self, node: Node) -> str:
        """The relay's address for a node: of the version of IP that it has."""
        own = {address.split("/")[1] for address in node.listening}
        address = next(address for address in self.relay.listening if address.split("/")[1] in own)
        return f"{address}/p2p/{self.relay.peer_id}"

    def circuit(self, dialler: Node, node: Node) -> str:
        """The address of a node through the relay, for another one."""
        return f"{self.at_relay(dialler)}/p2p-circuit/p2p/{node.peer_id}"

    async def seen(self, node: Node) -> tuple[str, ...]:
        """Where a node may be dialled: at the address that the relay sees, and at those that it listens at."""
        there = await self.relay.peer(node)
        if there is None:
            raise LabFailed(f"the relay has lost {node.title}; {node.log()}")
        return tuple(dict.fromkeys((there.remote_address, *node.listening)))

    async def part(self, one: Node, other: Node) -> None:
        """End what connects two nodes, and wait until both know."""
        for node, peer in ((one, other), (other, one)):
            with contextlib.suppress(SidecarError):
                await node.client.disconnect_peer(peer.peer_id)
        for node, peer in ((one, other), (other, one)):
            await until(partial(_apart, node, peer), _END, f"{node.title} keeps {peer.title}")


async def _placed(node: Node) -> bool:
    return await node.has("relay_places") >= 1


async def _apart(node: Node, peer: Node) -> bool:
    return await node.peer(peer) is None


async def until(holds: Callable[[], Awaitable[bool]], limit: float, otherwise: str) -> float:
    """Wait for something; returns the seconds that took. Raises LabFailed."""
    begun = time.monotonic()
    while not await holds():
        if time.monotonic() - begun > limit:
            raise LabFailed(otherwise)
        await asyncio.sleep(_LOOK)
    return time.monotonic() - begun
