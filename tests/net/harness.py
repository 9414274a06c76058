"""Nodes that echo, over real loopback sockets, and a way to wait for what they see."""

import asyncio
import functools
import inspect
import random
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import pytest
import uvloop

from sidecar.core import events
from sidecar.core.buffer import SendBuffer
from sidecar.core.channel import ChannelLimits
from sidecar.core.gate import Gate
from sidecar.core.identity import Identity
from sidecar.core.multiaddr import Multiaddr
from sidecar.net.config import NetConfig
from sidecar.net.runtime import Runtime
from sidecar.net.transports import Transports

ECHO, SINK, FLOOD = "/echo/1", "/sink/1", "/flood/1"
FLOOD_SIZE = 1024 * 1024  # a whole window
LOOPBACK = Multiaddr.from_text("/ip4/127.0.0.1/tcp/0")
T = TypeVar("T")


def on_loops(*factories: Callable[[], asyncio.AbstractEventLoop]) -> Callable[[Any], Any]:
    """Run a coroutine test on each kind of loop; it must leave no task behind."""

    def decorate(test: Callable[..., Coroutine[Any, Any, None]]) -> Any:
        @pytest.mark.parametrize("factory", factories, ids=lambda factory: factory.__module__)
        @functools.wraps(test)
        def run(factory: Callable[[], asyncio.AbstractEventLoop], **fixtures: Any) -> None:
            async def bounded() -> None:
                async with asyncio.timeout(15):
                    await test(**fixtures)
                left = asyncio.all_tasks() - {asyncio.current_task()}
                assert not left, left

            with asyncio.Runner(loop_factory=factory) as runner:
                runner.run(bounded())

        signature = inspect.signature(test)
        factory = inspect.Parameter("factory", inspect.Parameter.KEYWORD_ONLY)
        run.__signature__ = signature.replace(  # type: ignore[attr-defined]  # what pytest gives arguments by
            parameters=[*signature.parameters.values(), factory]
        )
        return run

    return decorate


both_loops = on_loops(asyncio.new_event_loop, uvloop.new_event_loop)
one_loop = on_loops(asyncio.new_event_loop)


class EchoNode:
    """A node machine that sends back what it receives on `/echo/1`, swallows `/sink/1`, sends a megabyte on `/flood/1`,
    and keeps what it was told."""

    def __init__(self) -> None:
        self.inputs: list[Any] = []
        self.out: dict[int, SendBuffer] = {}
        self.received: dict[int, bytearray] = {}
        self.protocols: dict[int, str] = {}
        self.accept = {ECHO, SINK, FLOOD}
        self.deadline: float | None = None
        self.deadlines: list[float] = []
        self.on_input: Callable[[Any], Sequence[Any]] = lambda input: ()
        self._watchers: list[tuple[Callable[[Any], bool], asyncio.Future[Any]]] = []

    def handle(self, input: Any, now: float) -> list[Any]:
        effects = list(self.on_input(input))
        match input:
            case events.StreamOpened(stream, protocol, token):
                self.protocols[stream] = protocol if token is None else ""
                self.received[stream] = bytearray()
                if self.protocols[stream] == FLOOD:
                    effects += self.write(stream, bytes(FLOOD_SIZE))
            case events.StreamsReceived(_, chunks):
                for stream, data in chunks:
                    self.received[stream] += data
                    if self.protocols[stream] == ECHO:
                        effects += self.write(stream, data)
            case events.StreamEnded(stream):
                effects.append(events.CloseWrite(stream))
            case list():
                effects += input
        self.inputs.append(input)
        for match_, future in self._watchers:
            if not future.done() and match_(input):
                future.set_result(input)
        self._watchers = [watcher for watcher in self._watchers if not watcher[1].done()]
        return effects

    def write(self, stream: int, data: bytes) -> list[Any]:
        self.out.setdefault(stream, SendBuffer()).push(data)
        return [events.Wake(stream)]

    def take(self, stream: int, limit: int) -> Sequence[bytes | memoryview]:
        return self.out[stream].take(limit) if stream in self.out else ()

    def drain(self, now: float) -> list[Any]:
        return []

    def handle_deadline(self, now: float) -> list[Any]:
        self.deadlines.append(now)
        self.deadline = None
        return list(self.on_input("deadline"))

    def next_deadline(self) -> float | None:
        return self.deadline

    def accepts(self, protocol: str) -> bool:
        return protocol in self.accept

    async def until(self, match_: Callable[[Any], bool]) -> Any:
        """The first input, past or to come, that matches."""
        for input in self.inputs:
            if match_(input):
                return input
        future = asyncio.get_running_loop().create_future()
        self._watchers.append((match_, future))
        return await future

    async def saw(self, kind: type[T], count: int = 1) -> T:
        """The `count`-th input of a kind."""

        def enough(input: Any) -> bool:
            return len(self.all(kind)) >= count

        await self.until(enough)
        return self.all(kind)[count - 1]

    def all(self, kind: type[T]) -> list[T]:
        return [input for input in self.inputs if isinstance(input, kind)]


class Host:
    """An echo node and its runtime."""

    def __init__(
        self, seed: int, config: NetConfig, transports: Transports | None = None, gate: Gate | None = None
    ) -> None:
        self.identity = Identity(bytes([seed]) * 32)
        self.node = EchoNode()
        self.news: list[Any] = []
        self.runtime = Runtime(
            self.node,
            self.identity,
            config,
            self.news.append,
            random.Random(seed),
            transports,
            gate=gate,
            on_endpoint_tried=self.news.append,
        )
        self.addresses: tuple[Multiaddr, ...] = ()
        self._numbers = 0

    @property
    def peer(self) -> Any:
        return self.identity.peer_id

    def do(self, *effects: Any) -> None:
        """Have the node ask for effects."""
        self.runtime.feed(list(effects))

    def dial(self, addresses: Sequence[Multiaddr], peer: Any = None, *, force: bool = False) -> int:
        self._numbers += 1
        self.do(events.Dial(self._numbers, peer, tuple(addresses), force))
        return self._numbers

    async def dial_failed(self, number: int) -> Any:
        found = await self.node.until(lambda input: isinstance(input, events.DialFailed) and input.dial == number)
        return found.error

    async def connect(self, other: "Host") -> events.ConnectionOpened:
        number = self.dial(other.addresses, other.peer)
        return await self.node.until(lambda input: isinstance(input, events.ConnectionOpened) and input.dial == number)

    async def open_stream(self, connection: int, protocol: str = ECHO) -> int:
        self._numbers += 1
        token = self._numbers
        self.do(events.OpenStream(connection, token, (protocol,)))
        opened = await self.node.until(lambda input: isinstance(input, events.StreamOpened) and input.token == token)
        return opened.stream

    async def received(self, stream: int, size: int) -> bytes:
        node = self.node
        if len(node.received.get(stream, b"")) < size:
            await node.until(lambda _: len(node.received.get(stream, b"")) >= size)
        return bytes(node.received[stream])


@asynccontextmanager
async def hosts(count: int, config: NetConfig | None = None, **limits: Any) -> AsyncIterator[list[Host]]:
    """Listening hosts on loopback; closed at the end, and checked for leftovers."""
    config = config or NetConfig(channel=ChannelLimits(**limits))
    made = [Host(seed + 1, config) for seed in range(count)]
    try:
        for host in made:
            host.addresses = await host.runtime.listen([LOOPBACK])
        yield made
    finally:
        await asyncio.gather(*(host.runtime.close(2.0) for host in made))
    for host in made:
        assert host.runtime.statistics().connections == 0
        assert host.runtime.statistics().buffered == 0


def closed(connection: int) -> Callable[[Any], bool]:
    return lambda input: isinstance(input, events.ConnectionClosed) and input.connection == connection
