"""Apps that send and receive while things happen to their sidecars."""

import asyncio
import contextlib
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Any

from sidecar_client import Client, Durable, Lagged, Request, SendOutcome, SidecarError

from bench.chaos.node import PATIENCE, Node
from sidecar.core.override import override

_LOOK = 0.02  # seconds between two looks at whether something has come about


async def until(reached: Callable[[], bool], patience: float = PATIENCE) -> bool:
    """Wait for something; whether it came about in time."""

    async def ask() -> bool:
        return reached()

    return await until_true(ask, patience)


async def until_true(ask: Callable[[], Awaitable[bool]], patience: float = PATIENCE) -> bool:
    """The same of something that has to be asked for."""
    deadline = time.monotonic() + patience
    while not await ask():
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(_LOOK)
    return True


@contextlib.asynccontextmanager
async def running(*work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Tasks that end with this; one that has failed is told at the end."""
    tasks = [asyncio.ensure_future(each) for each in work]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(result, Exception):
                raise RuntimeError(f"an app failed: {result!r}") from result


async def store(client: Client, to: str, protocol: str, text: str, ttl: float | None = None) -> None:
    """Send a durable message again and again until it is known to be stored. Raises TimeoutError."""
    async with asyncio.timeout(PATIENCE):
        while True:
            with contextlib.suppress(SidecarError):
                receipt = await client.send(to, protocol, text.encode(), durable=Durable(ttl), request_id=text)
                if receipt.outcome is SendOutcome.STORED:
                    return
            await asyncio.sleep(_LOOK)


class Reader:
    """An app that notes what it gets, by its text."""

    got: Mapping[str, object]

    def missing(self, texts: Iterable[str]) -> list[str]:
        """Those of the texts that it has not got."""
        return [text for text in texts if text not in self.got]

    def has(self, texts: Iterable[str]) -> bool:
        """Whether it has got them all."""
        return not self.missing(texts)


class Inbox(Reader):
    """An app that settles all durable messages of a protocol. Those of one sender are numbered texts: `NAME-NUMBER`."""

    def __init__(self, node: Node, protocol: str) -> None:
        self._node = node
        self._protocol = protocol
        self.got: dict[str, int] = {}  # how often each was delivered
        self.settled: dict[str, None] = {}
        self.faults: list[str] = []
        self._last: dict[str, int] = {}  # number, by the senders' names

    async def run(self) -> None:
        """Until it is cancelled, over all restarts of the sidecar."""
        while True:
            with contextlib.suppress(SidecarError):
                async with self._node.connect() as client, client.receive_durable(self._protocol) as messages:
                    async for message in messages:
                        self._note(message.data.decode())
                        if await message.acknowledge():
                            self.settled[message.data.decode()] = None
            await asyncio.sleep(_LOOK)

    def _note(self, text: str) -> None:
        if text in self.settled:
            self.faults.append(f"{text} came again after its settlement was confirmed")
        first = text not in self.got
        self.got[text] = self.got.get(text, 0) + 1
        name, _, number = text.rpartition("-")
        if first and number.isdigit():
            if int(number) < self._last.get(name, -1):
                self.faults.append(f"{text} came after {name}-{self._last[name]}")
            self._last[name] = int(number)


class Listener(Reader):
    """An app that reads a topic, and goes on behind the last message that it has when it lost its sidecar."""

    def __init__(self, node: Node, topic: str) -> None:
        self._node = node
        self._topic = topic
        self.got: dict[str, float] = {}  # monotonic seconds
        self.gaps = 0
        self.repeated: list[str] = []
        self.there = asyncio.Event()

    async def run(self) -> None:
        """Until it is cancelled, over all restarts of the sidecar."""
        cursor = b""
        while True:
            with contextlib.suppress(SidecarError):
                async with (
                    self._node.connect() as client,
                    client.subscribe(self._topic, cursor=cursor) as subscription,
                ):
                    self.there.set()
                    async for item in subscription.events():
                        if isinstance(item, Lagged):
                            self.gaps += 1
                        else:
                            self._note(item.data.decode())
                            cursor = item.cursor
            await asyncio.sleep(_LOOK)

    def _note(self, text: str) -> None:
        if text in self.got:
            self.repeated.append(text)
        self.got.setdefault(text, time.monotonic())


class Worker(ABC):
    """An app that does the next piece of its work at a rate; a sidecar that is away makes it late."""

    def __init__(self, node: Node, rate: float) -> None:
        """`rate`: pieces a second."""
        self._node = node
        self._interval = 1.0 / rate
        self._stopping = False

    def stop(self) -> None:
        """Do what is under way, and nothing more."""
        self._stopping = True

    async def run(self) -> None:
        """Until it is stopped."""
        due = time.monotonic()
        async with self._node.connect() as client:
            number = 0
            while not self._stopping:
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                await self._work(client, number)
                number += 1
                due = max(due + self._interval, time.monotonic() - 1.0)

    @abstractmethod
    async def _work(self, client: Client, number: int) -> None:
        """Do the piece with this number, counted from 0."""


class Publisher(Worker):
    """An app that publishes numbered texts on a topic, `NAME-NUMBER`, each until it is known to have gone out."""

    def __init__(self, node: Node, topic: str, name: str, rate: float, minimum_peers: int = 1) -> None:
        """`rate`: messages a second. `minimum_peers`: of the topic, which each message waits for."""
        super().__init__(node, rate)
        self._topic = topic
        self._minimum_peers = minimum_peers
        self._name = name
        self.published: dict[str, float] = {}  # when each was first tried, monotonic seconds

    @override
    async def _work(self, client: Client, number: int) -> None:
        text = f"{self._name}-{number}"
        self.published[text] = time.monotonic()
        while True:
            with contextlib.suppress(SidecarError):
                await client.publish(
                    self._topic,
                    text.encode(),
                    minimum_peers=self._minimum_peers,
                    request_id=text,
                    timeout=PATIENCE,
                )
                return
            await asyncio.sleep(_LOOK)


class Sender(Worker):
    """An app that sends numbered durable messages to some peers in turn, `NAME>NUMBER OF PEER-NUMBER`."""

    def __init__(self, node: Node, others: Sequence[Node], protocol: str, name: str, rate: float) -> None:
        super().__init__(node, rate)
        self._others = others
        self._protocol = protocol
        self._name = name
        self.stored: list[tuple[Node, str]] = []

    @override
    async def _work(self, client: Client, number: int) -> None:
        to = self._others[number % len(self._others)]
        text = f"{self._name}>{number % len(self._others)}-{number}"
        await store(client, to.peer_id, self._protocol, text)
        self.stored.append((to, text))


class Asker(Worker):
    """An app that makes requests of some peers in turn, each once, and counts how they ended."""

    def __init__(self, node: Node, others: Sequence[Node], protocol: str, rate: float) -> None:
        super().__init__(node, rate)
        self._others = others
        self._protocol = protocol
        self.ended: Counter[str] = Counter()
        self.longest = 0.0  # seconds that one took, however it ended

    @override
    async def _work(self, client: Client, number: int) -> None:
        begun = time.monotonic()
        to = self._others[number % len(self._others)]
        try:
            answer = await client.request(to.peer_id, self._protocol, b"%d" % number, timeout=PATIENCE)
            self.ended["answered" if answer == b"%d" % number else "wrong"] += 1
        except SidecarError as error:
            self.ended[type(error).__name__] += 1
        self.longest = max(self.longest, time.monotonic() - begun)


async def echo(node: Node, protocol: str) -> None:
    """An app that answers requests with what they ask, over all restarts of its sidecar."""

    async def answer(request: Request) -> bytes:
        return request.data

    while True:
        with contextlib.suppress(SidecarError):
            async with node.connect() as client, client.serve(protocol, answer):
                await asyncio.Event().wait()
        await asyncio.sleep(_LOOK)
