"""Rows that are measured from app to app: two nodes, and an app of each in a process of its own."""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from bench.clients.processes import build_go
from bench.measure import CpuMeter, resident_mb
from bench.rows import WINDOW_MESSAGES, Cell, window_of
from sidecar.commands.demo_children import environment
from tests.conformance.build import build_js_client
from tests.interop.peer import Peer

SETTLE_SECONDS = 2.0  # until start-up garbage is collected: a guess
PATIENCE = 120.0
_AGENTS = Path(__file__).parent / "clients" / "agents"


class Node(Protocol):
    """A process of a mesh, and its app where it has one."""

    app: Peer
    peer_id: str
    addresses: list[str]
    ready_seconds: float

    @property
    def pid(self) -> int: ...
    async def add_app(self, stack: contextlib.AsyncExitStack, language: str = "Python") -> None: ...


# The commands of the apps, to be followed by the node's socket.
_APPS: Mapping[str, Callable[[str], list[str]]] = {
    "Go": lambda kind: [str(build_go("app")), kind],
    "Python": lambda kind: [sys.executable, "-m", "bench.app"],
    "JavaScript": lambda kind: ["node", str(_AGENTS / "app.js")],
}
LANGUAGES = tuple(_APPS)


def prepare(language: str) -> None:
    """Build what apps in a language need. Raises Unavailable, ToolMissing, BuildFailed."""
    if language == "JavaScript":
        build_js_client()
    elif language == "Go":
        build_go("app")


async def spawn(*command: str, stderr: int, descriptors: Sequence[int] = ()) -> asyncio.subprocess.Process:
    """A process that ends with its input. `descriptors`: those of this process that it gets as well."""
    return await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=stderr,
        pass_fds=descriptors,
        # An installed sidecar has been compiled; where nothing may be written, each start would do that anew.
        env={name: value for name, value in environment().items() if name != "PYTHONDONTWRITEBYTECODE"},
    )


async def spawn_module(module: str, *arguments: str, stderr: int) -> asyncio.subprocess.Process:
    """The same of a module in Python."""
    return await spawn(sys.executable, "-m", module, *arguments, stderr=stderr)


async def end_by_input(process: asyncio.subprocess.Process, patience: float) -> None:
    """End a process by closing its standard input; one that takes longer than `patience` seconds is killed."""
    assert process.stdin is not None
    process.stdin.close()
    try:
        await asyncio.wait_for(process.wait(), patience)
    except TimeoutError:
        process.kill()
        await process.wait()


async def start_app(stack: contextlib.AsyncExitStack, language: str, kind: str, socket: Path) -> Peer:
    """An app in a language beside a node of a kind, `sidecar` or `p2pd`."""
    command = [*_APPS[language](kind), str(socket)]
    app = Peer("app", await spawn(*command, stderr=asyncio.subprocess.PIPE))
    stack.push_async_callback(app.stop)
    return app


def multiple(count: float, unit: int) -> int:
    """About `count`, as a multiple: the acknowledgement of the last message must not wait for more."""
    return max(1, round(count / unit)) * unit


class Recorder(Protocol):
    """What wants to see the processes while they are measured."""

    def recording(self, pids: Mapping[str, int]) -> contextlib.AbstractContextManager[None]: ...


class AppSubject:
    """Two nodes of a kind, from app to app."""

    name: str
    language: str
    most = WINDOW_MESSAGES  # gossip messages on the way without any being lost
    asks = True  # it has direct messages and requests
    recorder: Recorder | None = None

    async def gossip(
        self,
        size: int,
        signed: bool,
        seconds: float,
        window: int = WINDOW_MESSAGES,
        *,
        subscribers: int = 1,
        idle_topics: int = 0,
    ) -> Cell | None:
        """`subscribers`: of the receiving app; `idle_topics`: to which both apps are subscribed beside."""
        window = min(window_of(size), window, self.most)
        async with self.pair(signed) as (sender, receiver):
            await self.subscribe(sender, receiver, signed, max(1, window // 4), subscribers)
            await self.flood(sender, receiver, size, window, window, subscribers)  # waits until the other is known
            for node in (sender, receiver) if idle_topics else ():
                await node.app.call("idle_topics", timeout=PATIENCE, count=idle_topics, signed=signed)
            rate = await self.flood(sender, receiver, size, 2 * window, window, subscribers)
            count = multiple(rate * seconds / 4, window)
            rate = await self.flood(sender, receiver, size, count, window, subscribers)
            count = multiple(rate * seconds, window)
            with self._meter(sender, receiver) as meter:
                rate = await self.flood(sender, receiver, size, count, window, subscribers)
            return Cell(rate=rate, cpu_us=meter.microseconds_per(count))

    async def bundled(self, size: int, seconds: float) -> Cell | None:
        return None

    async def latency(self, size: int, rate: float, seconds: float) -> Cell:
        async with self.pair(signed=True) as (sender, receiver):
            few = min(64, self.most // 4)  # acknowledgements are in the way of what is measured
            await self.subscribe(sender, receiver, signed=True, every=few)
            await self.flood(sender, receiver, size, 16 * few, 4 * few)
            await receiver.app.call("watch")
            count = multiple(rate * seconds, few)
            with self._meter(sender, receiver):
                await sender.app.call("pace", timeout=PATIENCE, size=size, count=count, rate=rate)
            times = (await receiver.app.call("tally"))["latency_ms"]
            return Cell(p50_ms=times["p50"], p99_ms=times["p99"])

    async def receipts(self, size: int, in_flight: int, seconds: float) -> Cell | None:
        if not self.asks:
            return None
        if in_flight == 1:
            return await self._repeat("send_each", "answer", seconds, size=size)
        return await self._repeat("send_many", "answer", seconds, size=size, in_flight=in_flight)

    async def requests(self, size: int, in_flight: int, seconds: float) -> Cell | None:
        if not self.asks:
            return None
        return await self._repeat("request", "answer", seconds, size=size, in_flight=in_flight)

    async def echo(self, size: int, in_flight: int, seconds: float) -> Cell:
        return await self._repeat("echo", "answer_streams", seconds, size=size, in_flight=in_flight)

    async def new_streams(self, seconds: float) -> Cell:
        cell = await self._repeat("new_streams", "answer_streams", seconds)
        return Cell(rate=cell.rate, cpu_us=cell.cpu_us)

    async def bulk(self, both: bool, seconds: float) -> Cell:
        async with self.pair() as (sender, receiver):
            await receiver.app.call("answer_streams")

            async def move(size: int) -> float:
                arguments = {"send": size, "receive": size if both else 0}
                answer = await sender.app.call("bulk", timeout=PATIENCE, peer_id=receiver.peer_id, **arguments)
                return float(answer["seconds"])

            size = 16 << 20
            await move(size)
            size = max(size, round(4 * size / await move(4 * size) * seconds))
            with self._meter(sender, receiver) as meter:
                took = await move(size)
            moved = size * (1 + both)
            return Cell(mb_s=moved / took / 1e6, cpu_us=meter.microseconds_per(moved) * 1e6)

    async def idle_streams(self, count: int) -> Cell | None:
        async with self.pair() as (sender, receiver):
            await receiver.app.call("answer_streams")
            await sender.app.call("new_streams", timeout=PATIENCE, peer_id=receiver.peer_id, count=100)
            pids = [pid for node in (sender, receiver) for pid in (node.pid, node.app.pid)]
            await asyncio.sleep(SETTLE_SECONDS)
            before = resident_mb(pids)
            await sender.app.call("open_streams", timeout=PATIENCE, peer_id=receiver.peer_id, count=count)
            await asyncio.sleep(SETTLE_SECONDS)
            return Cell(mb=resident_mb(pids) - before)

    async def connections(self, seconds: float) -> Cell:
        async with contextlib.AsyncExitStack() as stack:
            dialler, listener = [await self.start_node(stack, alone=True) for _ in range(2)]
            await self._add_apps(stack, dialler, listener)
            arguments: dict[str, Any] = {"peer_id": listener.peer_id, "addresses": listener.addresses}
            arguments["timeout"] = PATIENCE
            answer = await dialler.app.call("connections", count=30, **arguments)
            count = round(30 / answer["seconds"] * seconds)
            with self._meter(dialler, listener) as meter:
                answer = await dialler.app.call("connections", count=count, **arguments)
            return Cell(rate=count / answer["seconds"], cpu_us=meter.microseconds_per(count))

    async def memory(self) -> Cell:
        async with contextlib.AsyncExitStack() as stack:
            node = await self.start_node(stack)
            await asyncio.sleep(SETTLE_SECONDS)
            return Cell(mb=resident_mb([node.pid]))

    async def start(self) -> Cell:
        async with contextlib.AsyncExitStack() as stack:
            return Cell(ms=(await self.start_node(stack)).ready_seconds * 1000)

    async def idle(self, connections: int, seconds: float) -> Cell | None:
        return None

    # ------------------------------------------------------------ of a kind

    async def start_node(self, stack: contextlib.AsyncExitStack, *, signed: bool = True, alone: bool = False) -> Node:
        """A node that is ready. `alone`: it dials nobody by itself."""
        raise NotImplementedError

    # ------------------------------------------------------------ parts of measurements

    @contextlib.asynccontextmanager
    async def pair(self, signed: bool = True) -> AsyncIterator[tuple[Node, Node]]:
        """Two nodes with their apps, connected."""
        async with contextlib.AsyncExitStack() as stack:
            sender, receiver = [await self.start_node(stack, signed=signed) for _ in range(2)]
            await self._add_apps(stack, sender, receiver)
            await sender.app.call("connect", peer_id=receiver.peer_id, addresses=receiver.addresses)
            await self.crowd(stack, receiver)
            yield sender, receiver

    async def crowd(self, stack: contextlib.AsyncExitStack, receiver: Node) -> None:
        """What else is to be there: nothing."""

    async def _add_apps(self, stack: contextlib.AsyncExitStack, *nodes: Node) -> None:
        for node in nodes:
            await node.add_app(stack, self.language)

    @contextlib.contextmanager
    def _meter(self, sender: Node, receiver: Node) -> Iterator[CpuMeter]:
        pids = {"sender": sender.pid, "receiver": receiver.pid}
        pids |= {"sender-app": sender.app.pid, "receiver-app": receiver.app.pid}
        recording = self.recorder.recording(pids) if self.recorder is not None else contextlib.nullcontext()
        with recording, CpuMeter(list(pids.values())) as meter:
            yield meter

    async def subscribe(self, sender: Node, receiver: Node, signed: bool, every: int, subscribers: int = 1) -> None:
        """Make one app ready to flood, the other to count and acknowledge each `every` messages."""
        await sender.app.call("join", signed=signed)
        more = {"subscribers": subscribers} if subscribers > 1 else {}
        await receiver.app.call("listen", signed=signed, ack_to=sender.peer_id, every=every, **more)

    async def flood(
        self, sender: Node, receiver: Node, size: int, count: int, window: int, subscribers: int = 1
    ) -> float:
        """Messages a second; all arrived, else it raises."""
        before = (await receiver.app.call("tally"))["received"]
        answer = await sender.app.call("flood", timeout=PATIENCE, size=size, count=count, window=window)
        received = (await receiver.app.call("tally"))["received"] - before
        if received != count * subscribers:
            raise RuntimeError(f"{self.name}: {received} of {count * subscribers} messages received")
        return float(count / answer["seconds"])

    async def _repeat(self, op: str, prepare: str, seconds: float, **arguments: Any) -> Cell:
        async with self.pair() as (sender, receiver):
            await receiver.app.call(prepare)
            arguments |= {"timeout": PATIENCE, "peer_id": receiver.peer_id}
            warm = 100
            answer = await sender.app.call(op, count=warm, **arguments)
            answer = await sender.app.call(op, count=4 * warm, **arguments)
            count = max(warm, round(4 * warm / answer["seconds"] * seconds / 4))
            answer = await sender.app.call(op, count=count, **arguments)
            count = max(warm, round(count / answer["seconds"] * seconds))
            with self._meter(sender, receiver) as meter:
                answer = await sender.app.call(op, count=count, **arguments)
            times = answer["latency_ms"]
            return Cell(
                rate=count / answer["seconds"],
                cpu_us=meter.microseconds_per(count),
                p50_ms=times["p50"],
                p99_ms=times["p99"],
            )
