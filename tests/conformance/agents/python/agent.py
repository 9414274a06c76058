"""The agent of the Python client: performs what the runner asks for. ../../README.md has the protocol."""

import asyncio
import gc
import json
import os
import sys
import threading
from collections.abc import Awaitable, Callable
from importlib.metadata import version
from typing import Any

import grpc
import sidecar_client
from byte_streams import Bytes
from calls import CALLS, Request
from feeds import FEEDS, Fault, Feed, ReceiveDurable, Serve
from sidecar_client import Client
from values import described

_LINE = 256 << 20  # bytes
_PATIENCE = 5.0  # seconds for what ends a moment later than its client
_SECONDS = {"wait": "wait_ms"}
_OPTIONS = ("reconnect", "token", "token_file", "tls_ca", "tls_cert", "tls_key")


class Agent:
    """The clients and streams that the runner has named, and the operations under way."""

    def __init__(self) -> None:
        self._clients: dict[str, Client] = {}
        self._streams: dict[str, Feed | Bytes] = {}
        self._owners: dict[str, str] = {}
        self._running: dict[int, asyncio.Task[Any]] = {}
        self._before: set[str] | None = None
        self._own: set[asyncio.Task[Any]] = set()

    async def run(self) -> None:
        self._own.update(asyncio.all_tasks())
        reader = asyncio.StreamReader(limit=_LINE)
        loop = asyncio.get_running_loop()
        pipe, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        _say({"event": "started", "language": "python", "version": version("p2p-sidecar-client")})
        async for line in reader:
            request = json.loads(line)
            task = asyncio.create_task(self._answer(request), name=f"agent {request['op']}")
            self._running[request["id"]] = task
            self._own.add(task)
            task.add_done_callback(self._own.discard)
            await asyncio.sleep(0)  # it begins before the next line is looked at
        pipe.close()
        for task in self._running.values():
            task.cancel()
        for name in list(self._clients):
            await self._close(name)

    async def _answer(self, request: Request) -> None:
        number = request["id"]
        try:
            _say({"id": number, "ok": await self._perform(request)})
        except Fault as fault:
            _say({"id": number, "error": {"type": "AgentError", "kinds": ["AgentError"], "message": str(fault)}})
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - whatever the library raises is the answer
            _say({"id": number, "error": described(error)})
        finally:
            del self._running[number]

    def _perform(self, request: Request) -> Awaitable[Any]:
        op = request["op"]
        if op in CALLS:
            return CALLS[op](self._client(request), request)
        if op in FEEDS:
            return self._open(request)
        own: Callable[[Request], Awaitable[Any]] | None = getattr(self, f"op_{op}", None)
        if own is not None:
            return own(request)
        if op in ("write", "read_bytes", "close_write", "reset"):
            method: Callable[[Request], Awaitable[Any]] = getattr(self._stream(request, Bytes), op)
            return method(request)
        raise Fault(f"no operation {op}")

    def _client(self, request: Request) -> Client:
        if request.get("client") not in self._clients:
            raise Fault(f"no client {request.get('client')}")
        return self._clients[request["client"]]

    def _stream(self, request: Request, kind: Any) -> Any:
        found = self._streams.get(request["stream"])
        if not isinstance(found, kind):
            raise Fault(f"{request['stream']} is no stream, or not one for this")
        return found

    def _keep(self, client: str, name: str, stream: Feed | Bytes) -> None:
        self._streams[name] = stream
        self._owners[name] = client

    # ------------------------------------------------------------ clients

    async def op_connect(self, request: Request) -> Any:
        if self._before is None:
            self._before = await _surroundings()
        chosen = {name: request[name] for name in _OPTIONS if name in request}
        chosen |= {name: request[field] / 1000 for name, field in _SECONDS.items() if field in request}
        client = sidecar_client.connect(request.get("target"), **chosen)
        await client.__aenter__()
        self._clients[request["client"]] = client
        return {"target": client.target}

    async def op_close(self, request: Request) -> Any:
        self._client(request)
        await self._close(request["client"])
        return {}

    async def _close(self, name: str) -> None:
        await self._clients.pop(name).close()
        for stream in [stream for stream, owner in self._owners.items() if owner == name]:
            await self._streams[stream].leave()
            if isinstance(self._streams[stream], Bytes):
                del self._streams[stream], self._owners[stream]  # gRPC keeps what somebody holds a call of

    async def op_cancel(self, request: Request) -> Any:
        if "stream" in request:
            self._stream(request, Feed | Bytes).cancel()
        elif (task := self._running.get(request["operation"])) is not None:
            task.cancel()
        return {}

    async def op_leaks(self, request: Request) -> Any:
        before = self._before or await _surroundings()
        until = asyncio.get_running_loop().time() + _PATIENCE
        gc.collect()  # an error's traceback holds the call that it came from
        while left := sorted(await _surroundings() - before) + self._foreign_tasks():
            if asyncio.get_running_loop().time() > until:
                break
            await asyncio.sleep(0.05)
        return {"left": left}

    def _foreign_tasks(self) -> list[str]:
        return [f"task {task.get_name()}" for task in asyncio.all_tasks() if task not in self._own]

    # ------------------------------------------------------------ streams

    async def _open(self, request: Request) -> Any:
        name = request["client"]
        feed = FEEDS[request["op"]](self._client(request), request, lambda at, stream: self._keep(name, at, stream))
        self._own.add(feed.task)
        feed.task.add_done_callback(self._own.discard)
        try:
            await feed.opened
        except asyncio.CancelledError:
            feed.cancel()
            await asyncio.wait((feed.task,))
            raise
        self._keep(name, request["as"], feed)
        return {}

    async def op_open_stream(self, request: Request) -> Any:
        stream = Bytes(self._client(request).open_stream(request["peer_id"], request["protocols"]))
        opened = await stream.open()
        self._keep(request["client"], request["as"], stream)
        return opened

    async def op_read(self, request: Request) -> Any:
        return await self._stream(request, Feed).read(request)

    async def op_answer(self, request: Request) -> Any:
        self._stream(request, Serve).answer(request)
        return {}

    async def op_settle(self, request: Request) -> Any:
        return {"fresh": await self._stream(request, ReceiveDurable).settle(request)}

    async def op_close_stream(self, request: Request) -> Any:
        await self._stream(request, Feed | Bytes).close()
        return {}


async def _surroundings() -> set[str]:
    """Sockets and threads of this process, with those that gRPC makes once for all of its clients."""
    grpc.aio.init_grpc_aio()
    found = {f"thread {thread.name}" for thread in threading.enumerate()}
    for number in os.listdir("/proc/self/fd") if os.path.isdir("/proc/self/fd") else ():
        try:
            target = os.readlink(f"/proc/self/fd/{number}")
        except OSError:
            continue  # that of the listing itself
        if target.startswith("socket:"):
            found.add(target)
    return found


def _say(line: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(Agent().run())
