"""Streams that bring items: opened, read when the runner asks, closed or cancelled."""

import asyncio
import sys
from collections.abc import AsyncIterable, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any

from byte_streams import Bytes
from calls import Request, options
from sidecar_client import (
    ByteStream,
    Client,
    DirectBatch,
    DirectMessage,
    DurableMessage,
    Message,
    MessageBatch,
    OutboxEvent,
    PeerEvent,
    Refused,
    ValidationFallback,
    Verdict,
)
from sidecar_client import Request as Asked
from values import Digest, described, payload, plain, shown

KINDS = {
    "Lagged": "lagged",
    "NodeEvent": "event",
    "Readiness": "readiness",
    "Announcement": "announcement",
    "FoundPeer": "found",
    "ProbeAnswer": "answer",
    "ProbeSummary": "summary",
    "OutboxEvent": "outcome",
}
Keep = Callable[[str, Bytes], None]


class Fault(Exception):
    """The runner asks for what there is not."""


class Reading:
    """One `read`: it takes items until it has what was asked for."""

    def __init__(self, request: Request) -> None:
        self._left: int | None = request.get("count")
        self._until = payload(request["until"]) if "until" in request else None
        self._digest = bool(request.get("digest"))
        self._items: list[Any] = []
        self._count = self._bytes = 0
        self._payloads, self._ids = Digest(), Digest()
        self.done = False

    def add(self, value: Any) -> None:
        if isinstance(value, MessageBatch | DirectBatch):
            if value.lagged is not None:
                self._add(value.lagged)
            for message in value.messages:
                self._add(message)
        else:
            self._add(value)

    def _add(self, value: Any) -> None:
        message = isinstance(value, Message | DirectMessage)
        if message and self._until is not None and value.data == self._until:
            self.done = True
        if self._left is not None:
            self._left -= 1
            self.done = self.done or self._left <= 0
        if not (message and self._digest):
            item = _item(value)
            self._items.append(item | {"at": self._count} if self._digest else item)
            return
        self._count += 1
        self._bytes += len(value.data)
        self._payloads.add(value.data)
        if isinstance(value, Message):
            self._ids.add(value.message_id)

    def answer(self) -> dict[str, Any]:
        found: dict[str, Any] = {"items": self._items}
        if self._digest:
            found |= {"count": self._count, "bytes": self._bytes}
            found |= {"digest": self._payloads.hex(), "ids_digest": self._ids.hex()}
        return found


def _item(value: Any) -> dict[str, Any]:
    if isinstance(value, dict):
        return value
    if isinstance(value, PeerEvent):
        peer_id = value.peer.peer_id if value.peer is not None else None
        return {"kind": "peer", "type": value.type.name, "peer_id": peer_id, "reason": value.reason}
    return {"kind": KINDS.get(type(value).__name__, "message"), **plain(value)}


class Feed:
    """A stream with a task of its own, in which its `async with` block lives: as an app would have it."""

    def __init__(self, client: Client, request: Request, keep: Keep) -> None:
        self.client = client
        self.request = request
        self.keep = keep
        self.ended: dict[str, Any] | None = None
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._demands: asyncio.Queue[tuple[Reading, asyncio.Future[None]] | None] = asyncio.Queue()
        self._reading = False
        self.task = asyncio.create_task(self._live(), name=f"agent stream {request['as']}")

    def open(self) -> Any:
        """The `async with` block: an asynchronous context manager that gives an iterator of items."""
        raise NotImplementedError

    @property
    def missed(self) -> int | None:
        return None

    async def _live(self) -> None:
        try:
            async with self.open() as items:
                self.opened.set_result(None)
                while (demand := await self._demands.get()) is not None:
                    await self._read(items, *demand)
                    if self.ended is not None:
                        return
            self.ended = {}
        except asyncio.CancelledError as error:
            self.ended = described(error)
        except Exception as error:  # noqa: BLE001 - whatever the library raises is the answer
            if self.opened.done():
                self.ended = described(error)
            else:
                self.opened.set_exception(error)
        finally:
            if not self.opened.done():
                self.opened.cancel()

    async def _read(self, items: AsyncIterator[Any], reading: Reading, answered: asyncio.Future[None]) -> None:
        self._reading = True
        try:
            while not reading.done:
                reading.add(await anext(items))
        except StopAsyncIteration:
            self.ended = {}
        except BaseException as error:
            self.ended = described(error)
            raise
        finally:
            self._reading = False
            if not answered.done():
                answered.set_result(None)

    async def read(self, request: Request) -> dict[str, Any]:
        reading = Reading(request)
        if not self.task.done():
            answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._demands.put_nowait((reading, answered))
            await asyncio.wait((answered, self.task), return_when=asyncio.FIRST_COMPLETED)
        return {**reading.answer(), "end": self.ended, "missed": self.missed}

    def cancel(self) -> None:
        self.task.cancel()

    async def leave(self) -> None:
        """The client has been closed: whoever still reads is told by the library."""
        self._demands.put_nowait(None)
        await asyncio.wait((self.task,))

    async def close(self) -> None:
        if self._reading:
            self.task.cancel()
        self._demands.put_nowait(None)
        await asyncio.wait((self.task,))


class _Messages(Feed):
    """Subscriptions and receivers."""

    stream: Any = None

    @property
    def missed(self) -> int | None:
        return None if self.stream is None else self.stream.missed

    @asynccontextmanager
    async def _using(self, stream: Any) -> AsyncIterator[AsyncIterator[Any]]:
        via = self.request.get("via", "events")
        self.stream = stream
        async with stream:
            yield aiter(stream) if via == "messages" else stream.batches() if via == "batches" else stream.events()


class Subscribe(_Messages):
    def open(self) -> Any:
        chosen = options(
            self.request,
            "signing",
            "policy",
            "queue_messages",
            "queue_bytes",
            "skip_local",
            "expected_rate",
            "from_beginning",
        )
        if "start_time_ms" in self.request:
            chosen["start_time"] = self.request["start_time_ms"] / 1000
        if "cursor" in self.request:
            chosen["cursor"] = payload(self.request["cursor"])
        return self._using(self.client.subscribe(self.request["topics"], **chosen))


class Receive(_Messages):
    def open(self) -> Any:
        chosen = options(self.request, "queue_messages")
        return self._using(self.client.receive(self.request["protocols"], **chosen))


class ReceiveDurable(Feed):
    """Its deliveries are numbered, to be settled by `settle`."""

    @asynccontextmanager
    async def open(self) -> AsyncIterator[AsyncIterator[Any]]:
        self._delivered: list[DurableMessage] = []
        async with self.client.receive_durable(
            self.request["protocols"], **options(self.request, "max_open")
        ) as receiver:
            yield self._items(receiver)

    async def _items(self, receiver: AsyncIterable[DurableMessage]) -> AsyncIterator[Any]:
        async for message in receiver:
            self._delivered.append(message)
            yield {
                "kind": "delivery",
                "delivery": len(self._delivered) - 1,
                "peer_id": message.peer_id,
                "protocol": message.protocol,
                "data": shown(message.data),
                "attempt": message.attempt,
                "message_id": plain(message.message_id),
            }

    async def settle(self, request: Request) -> bool:
        message = self._delivered[request["delivery"]]
        if "reject" in request:
            return await message.reject(request["reject"])
        if "delay_ms" in request:
            return await message.delay(request["delay_ms"] / 1000)
        return await message.acknowledge()


class WatchOutbox(Feed):
    @asynccontextmanager
    async def open(self) -> AsyncIterator[AsyncIterator[OutboxEvent]]:
        chosen = options(self.request, "peer_id", "protocol")
        if "from_cursor" in self.request:
            chosen["cursor"] = self.request["from_cursor"]
        async with self.client.watch_outbox(**chosen) as watch:
            yield aiter(watch)


class WatchReadiness(Feed):
    def open(self) -> Any:
        return aclosing(self.client.watch_readiness())


class WatchEvents(Feed):
    def open(self) -> Any:
        return aclosing(self.client.watch_events())


class WatchPeers(Feed):
    def open(self) -> Any:
        return aclosing(self.client.watch_peers())


class FindPeers(Feed):
    def open(self) -> Any:
        return aclosing(self.client.find_peers(self.request["name"], **options(self.request, "limit")))


class Probe(Feed):
    def open(self) -> Any:
        chosen = options(self.request, "answers", "size", "signing", "exposed")
        if "message_count" in self.request:
            chosen["messages"] = self.request["message_count"]
        if "interval_ms" in self.request:
            chosen["interval"] = self.request["interval_ms"] / 1000
        return aclosing(self.client.probe(self.request["topic"], **chosen))


class Advertise(Feed):
    @asynccontextmanager
    async def open(self) -> AsyncIterator[AsyncIterator[Any]]:
        chosen = {"ttl": self.request["ttl_ms"] / 1000} if "ttl_ms" in self.request else {}
        async with self.client.advertise(self.request["name"], **chosen) as advertisement:
            yield advertisement.announcements()


class Validate(Feed):
    @asynccontextmanager
    async def open(self) -> AsyncIterator[AsyncIterator[Any]]:
        self._items: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        chosen = options(self.request, "max_waiting")
        if "fallback" in self.request:
            chosen["fallback"] = ValidationFallback[self.request["fallback"]]
        async with self.client.validate(self.request["topics"], self._judge, **chosen):
            yield self._queue()

    async def _queue(self) -> AsyncIterator[dict[str, Any]]:
        while True:
            yield await self._items.get()

    def _judge(self, message: Message) -> Verdict:
        self._items.put_nowait(
            {"kind": "judged", "topic": message.topic, "data": plain(message.data), "local": message.local}
        )
        return {b"r": Verdict.REJECT, b"i": Verdict.IGNORE}.get(message.data[:1], Verdict.ACCEPT)


class Serve(Feed):
    @asynccontextmanager
    async def open(self) -> AsyncIterator[AsyncIterator[Any]]:
        behaviour = self.request["behaviour"]
        handler = {"echo": self._echo, "hold": self._hold}.get(str(behaviour), self._gather)
        self._items: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._held: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._gathered: list[asyncio.Event] = []
        self._number = 0
        async with self.client.serve(self.request["protocols"], handler, **options(self.request, "concurrency")):
            yield self._queue()

    async def _queue(self) -> AsyncIterator[dict[str, Any]]:
        while True:
            yield await self._items.get()

    async def _echo(self, asked: Asked) -> bytes:
        return asked.data

    async def _hold(self, asked: Asked) -> bytes:
        number = self._number
        self._number += 1
        told = self._held[number] = asyncio.get_running_loop().create_future()
        self._items.put_nowait({"kind": "request", "request": number, **plain(asked)})
        try:
            answer = await told
        except asyncio.CancelledError:
            self._items.put_nowait({"kind": "withdrawn", "request": number})
            raise
        finally:
            del self._held[number]
        if "refuse" in answer:
            raise Refused(answer["refuse"])
        if answer.get("fail"):
            raise RuntimeError("the handler fails, as it was told to")
        return payload(answer["data"])

    async def _gather(self, asked: Asked) -> bytes:
        """All wait for the last; each then sets free the one before it."""
        returned = asyncio.Event()
        self._gathered.append(returned)
        place = len(self._gathered)
        if place == self.request["behaviour"]["gather"]:
            returned.set()
        await returned.wait()
        if place > 1:
            self._gathered[place - 2].set()
        return asked.data

    def answer(self, request: Request) -> None:
        told = self._held.get(request["request"])
        if told is None or told.done():
            raise Fault(f"no handler waits for an answer to request {request['request']}")
        told.set_result(request)


class AcceptStreams(Feed):
    @asynccontextmanager
    async def open(self) -> AsyncIterator[AsyncIterator[Any]]:
        async with (
            self.client.accept_streams(self.request["protocols"]) as acceptor,
            asyncio.TaskGroup() as group,
        ):
            if self.request["behaviour"] == "echo":
                accepting = group.create_task(self._echo_all(acceptor, group), name="agent accepting")
                yield _nothing()
                accepting.cancel()
            else:
                yield self._taken_up(acceptor)

    async def _echo_all(self, acceptor: AsyncIterator[ByteStream], group: asyncio.TaskGroup) -> None:
        async for stream in acceptor:
            group.create_task(self._echo(stream), name="agent echo")

    async def _echo(self, stream: ByteStream) -> None:
        try:
            async with stream:
                async for piece in stream:
                    await stream.write(piece)
        except Exception as error:  # noqa: BLE001 - one broken stream must not end the others
            print(f"echo: {error!r}", flush=True, file=sys.stderr)

    async def _taken_up(self, acceptor: AsyncIterator[ByteStream]) -> AsyncIterator[dict[str, Any]]:
        number = 0
        async for stream in acceptor:
            name = f"{self.request['as']}.{number}"
            number += 1
            taken = Bytes(stream)
            try:
                await taken.open()
            except Exception as error:  # noqa: BLE001 - whatever the library raises is the item
                yield {"kind": "failed", "error": described(error)}
                continue
            self.keep(name, taken)
            yield {"kind": "stream", "stream": name, "peer_id": stream.peer_id, "protocol": stream.protocol}


async def _nothing() -> AsyncIterator[Any]:
    await asyncio.Event().wait()
    yield None


FEEDS: dict[str, type[Feed]] = {
    "subscribe": Subscribe,
    "receive": Receive,
    "receive_durable": ReceiveDurable,
    "watch_outbox": WatchOutbox,
    "watch_readiness": WatchReadiness,
    "watch_events": WatchEvents,
    "watch_peers": WatchPeers,
    "advertise": Advertise,
    "find_peers": FindPeers,
    "probe": Probe,
    "serve": Serve,
    "validate": Validate,
    "accept_streams": AcceptStreams,
}
