"""Real sidecars behind delays: what their apps see, and what a probe says."""

import asyncio
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from pathlib import Path
from typing import NamedTuple

import sidecar_client
from sidecar_client import Client, ProbeAnswer

from bench.apps import end_by_input
from bench.probes.lab import Host, lab
from bench.probes.plan import SETTINGS, TOPIC, Plan, number_of
from bench.probes.traces import arrivals
from sidecar.commands.demo_children import environment

_START = 120.0  # seconds for all to start, and for the mesh
_END = 20.0
_REST = 8.0  # seconds after the last message of an app; three heartbeats of gossip, and more
_PATIENCE = 60.0  # for a probe's visitors to leave again
_LOOK = 0.25
_PRIORITY = -10  # so that what else the machine does disturbs less; only where it is allowed


class Delay(NamedTuple):
    """How long a message took to a node; seconds."""

    round: int
    receiver: int
    seconds: float


class Both(NamedTuple):
    """How long one message of a probe took to a node: what the probe says, and what was the case."""

    told: float
    true: float


class Live(NamedTuple):
    """All that was seen."""

    edges: list[tuple[int, int]]
    """Who was connected to whom, as the sidecars themselves say it before the first round."""
    apps: list[Delay]
    """From an app's call of publish until another app has the message."""
    probes: list[Delay]
    same: list[Both]
    wire: list[Delay]
    """Of the probes' own messages: from the first byte that left the prober until a node read the message."""
    missed: int
    """Deliveries to apps that did not happen."""
    unanswered: int
    """Answers that did not come."""
    rewired: int
    """Rounds before which other connections were there than before the first."""
    load: list[float]
    """Of the machine, after each round."""


class _Node:
    """A sidecar, and an app of it."""

    def __init__(self, number: int, host: Host, home: Path) -> None:
        self.number = number
        self.host = host
        self.home = home
        self.client: Client
        self.peer_id = ""

    @property
    def trace(self) -> Path:
        return self.home / "trace.jsonl"

    @property
    def address(self) -> str:
        return f"/ip4/{self.host.address}/tcp/4747"

    async def start(self, stack: contextlib.AsyncExitStack) -> None:
        """Until it answers its API."""
        self.home.mkdir()
        (self.home / "config.toml").touch()  # an empty one, so that the user's own is not read
        files = {"config": "config.toml", "state": "state", "socket": "api", "trace-wire": "trace.jsonl"}
        options = {name: str(self.home / file) for name, file in files.items()}
        options |= {"listen": self.address, "log-level": "error"}
        options |= {key.replace(".", "-").replace("_", "-"): value for key, value in SETTINGS.items()}
        words = [text for name, value in options.items() for text in (f"--{name}", value)]
        with (self.home / "log").open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                *self.host.command(sys.executable, "-m", "sidecar", "run", "--until-eof", *words),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,  # a few lines, as it is ready
                stderr=log,
                env=environment(),
                pass_fds=self.host.descriptors,
                start_new_session=True,  # the terminal's Ctrl-C is for us; it ends with its input, so with us
            )
        stack.push_async_callback(end_by_input, process, _END)
        assert process.stdout is not None
        async with asyncio.timeout(_START):
            if not await process.stdout.readline():
                said = (self.home / "log").read_text(errors="replace").strip()
                raise RuntimeError(f"sidecar {self.number} did not start: {said}")
        self.client = await stack.enter_async_context(sidecar_client.connect(f"unix:{self.home / 'api'}"))
        self.peer_id = (await self.client.info()).peer_id


class _Apps:
    """Who is subscribed, and when each got which message."""

    def __init__(self, plan: Plan, nodes: Sequence[_Node]) -> None:
        self._plan = plan
        self._nodes = nodes
        self._published: list[tuple[int, float]] = []  # round and moment, by number
        self.delays: list[Delay] = []

    async def listen(self, node: _Node, subscription: sidecar_client.Subscription) -> None:
        async for message in subscription:
            now = time.monotonic()
            number = number_of(message.data)
            if number is not None:
                in_round, published = self._published[number]
                self.delays.append(Delay(in_round, node.number, now - published))

    async def publish(self, in_round: int, node: _Node) -> None:
        """The messages of a round."""
        begun = time.monotonic()
        for number in range(self._plan.messages):
            await asyncio.sleep(begun + number * self._plan.interval - time.monotonic())
            payload = self._plan.payload(len(self._published))
            self._published.append((in_round, time.monotonic()))
            await node.client.publish(TOPIC, payload)
        await asyncio.sleep(_REST)

    @property
    def missed(self) -> int:
        return len(self._published) * (len(self._nodes) - 1) - len(self.delays)


async def measure(plan: Plan, say: Callable[[str], None]) -> Live:
    """Start the sidecars, measure, and end them. Raises LabUnavailable; RuntimeError where one does not start."""
    with contextlib.suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, _PRIORITY)
    async with contextlib.AsyncExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="probes-")))
        hosts = stack.enter_context(lab(plan.delays()))
        nodes = [_Node(number, host, home / str(number)) for number, host in enumerate(hosts)]
        say(f"starting {plan.nodes} sidecars")
        await asyncio.gather(*(node.start(stack) for node in nodes))
        await _connect(plan, nodes)
        apps = _Apps(plan, nodes)
        listeners = await stack.enter_async_context(_Tasks())
        for node in nodes:
            subscription = await stack.enter_async_context(node.client.subscribe(TOPIC, skip_local=True))
            listeners.begin(apps.listen(node, subscription))
        await _settled(plan, nodes)
        return await _rounds(plan, nodes, apps, say)


class _Tasks:
    """Tasks that end with this."""

    def __init__(self) -> None:
        self._running: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> "_Tasks":
        return self

    def begin(self, work: Coroutine[None, None, None]) -> None:
        self._running.append(asyncio.ensure_future(work))

    async def __aexit__(self, *_: object) -> None:
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)


async def _connect(plan: Plan, nodes: Sequence[_Node]) -> None:
    await asyncio.gather(
        *(
            nodes[one].client.connect_peer(nodes[other].peer_id, addresses=[nodes[other].address], timeout=_START)
            for one, other in plan.pairs()
        )
    )


async def _settled(plan: Plan, nodes: Sequence[_Node]) -> None:
    """Wait until everybody has all its neighbours in its mesh."""
    wanted = 2 * len(plan.steps)

    async def whole() -> bool:
        meshes = [topic for node in nodes for topic in await node.client.topics() if topic.name == TOPIC]
        return [len(topic.mesh_peer_ids) for topic in meshes] == [wanted] * len(nodes)

    try:
        await _until(whole, _START)
    except TimeoutError:
        raise RuntimeError(f"after {_START:g} s not everybody has its neighbours in its mesh") from None


async def _edges(nodes: Sequence[_Node]) -> list[tuple[int, int]]:
    """Who is connected to whom, as they themselves say it."""
    numbers = {node.peer_id: node.number for node in nodes}
    found: dict[tuple[int, int], None] = {}
    for node in nodes:
        async for peer in node.client.peers(connected_only=True):
            other = numbers[peer.peer_id]
            found[min(node.number, other), max(node.number, other)] = None
    return sorted(found)


async def _quiet(nodes: Sequence[_Node], edges: Sequence[tuple[int, int]]) -> bool:
    """Wait until only these connections are left; whether that came to be."""

    async def as_before() -> bool:
        return await _edges(nodes) == edges

    try:
        await _until(as_before, _PATIENCE)
    except TimeoutError:
        return False
    return True


async def _until(done: Callable[[], Awaitable[bool]], patience: float) -> None:
    """Ask again and again. Raises TimeoutError."""
    async with asyncio.timeout(patience):
        while not await done():  # noqa: ASYNC110  nothing tells of meshes
            await asyncio.sleep(_LOOK)


async def _rounds(plan: Plan, nodes: Sequence[_Node], apps: _Apps, say: Callable[[str], None]) -> Live:
    edges = await _edges(nodes)
    numbers = {node.peer_id: node.number for node in nodes}
    answers: list[list[ProbeAnswer]] = []
    rewired, load = 0, []
    for in_round, publisher in enumerate(plan.publishers()):
        rewired += not await _quiet(nodes, edges)
        say(f"round {in_round + 1} of {plan.rounds}: apps of sidecar {publisher}")
        await apps.publish(in_round, nodes[publisher])
        say(f"round {in_round + 1} of {plan.rounds}: probes of sidecar {publisher}")
        told = nodes[publisher].client.probe(
            TOPIC, messages=plan.messages, interval=plan.interval, answers=plan.nodes, size=plan.size
        )
        answers.append([news async for news in told if isinstance(news, ProbeAnswer)])
        load.append(os.getloadavg()[0])
    probes = [
        Delay(in_round, numbers[answer.peer_id], answer.delay)
        for in_round, found in enumerate(answers)
        for answer in found
    ]
    true = arrivals([node.trace for node in nodes])
    wire = [
        Delay(in_round, receiver, seconds)
        for in_round, messages in enumerate(true)
        for delays in messages.values()
        for receiver, seconds in delays.items()
    ]
    same = [
        Both(answer.delay, true[in_round][answer.number][numbers[answer.peer_id]])
        for in_round, found in enumerate(answers)
        for answer in found
        if numbers[answer.peer_id] in true[in_round].get(answer.number, {})
    ]
    owed = plan.rounds * plan.messages * (plan.nodes - 1)
    return Live(edges, apps.delays, probes, same, wire, apps.missed, owed - len(probes), rewired, load)
