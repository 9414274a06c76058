"""A server that does to its clients what a test says, frame by frame."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import ngh2
from sidecar_client.v1 import node_pb2

from tests.api.server.frames import prefixed

HEAD = ((b":status", b"200"), (b"content-type", b"application/grpc"))
OK = ((b"grpc-status", b"0"),)


class Caller:
    """A client that has connected."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, settings: dict[str, int]) -> None:
        self.session = ngh2.Connection(ngh2.Role.SERVER, ngh2.Configuration(auto_window_update=False))
        self.session.initiate_connection({ngh2.Setting[name]: value for name, value in settings.items()})
        self.session.set_local_window_size(1 << 30)
        self.reader = reader
        self.writer = writer
        self.heard: list[Any] = []
        self._told = 0

    def flush(self) -> None:
        """Send what the session has."""
        self.writer.write(self.session.data_to_send())

    async def read(self) -> bool:
        """What comes next; False at the end."""
        self.flush()
        try:
            data = await self.reader.read(65_536)
        except ConnectionError:
            return False
        if not data:
            return False
        self.session.receive_data(data)
        self.heard += self.session.events()
        self.flush()
        return True

    async def event(self, kind: type[Any]) -> Any:
        """The next event of that kind, or of one that has not been asked for yet."""
        while True:
            while self._told < len(self.heard):
                found = self.heard[self._told]
                self._told += 1
                if isinstance(found, kind):
                    return found
            assert await self.read(), f"the client has gone, without {kind.__name__}"

    async def call(self) -> int:
        """The stream of the next call."""
        return int((await self.event(ngh2.RequestReceived)).stream_id)

    def answer(self, stream: int, message: bytes, status: tuple[tuple[bytes, bytes], ...] = OK) -> None:
        """Answer a call."""
        self.session.send_response(stream, HEAD)
        self.session.send_data(stream, prefixed(message))
        self.session.send_trailers(stream, status)
        self.flush()

    def answer_node(self, stream: int, network: str = "odd") -> None:
        """Answer a call of `info`."""
        self.answer(stream, node_pb2.GetNodeResponse(node=node_pb2.Node(network=network)).SerializeToString())

    async def gone(self) -> None:
        """Read until the client has gone."""
        while await self.read():
            pass


Script = Callable[[Caller], Awaitable[None]]


@contextlib.asynccontextmanager
async def odd_server(path: Path, *scripts: Script, settings: dict[str, int] | None = None) -> AsyncIterator[str]:
    """Its address. The first connection gets the first script, and so on; at the end each must have come to its end."""
    left = list(scripts)
    tasks: list[asyncio.Task[None]] = []

    async def play(script: Script, caller: Caller) -> None:
        try:
            await script(caller)
        finally:
            caller.writer.close()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert left, "a connection more than there are scripts"
        tasks.append(asyncio.create_task(play(left.pop(0), Caller(reader, writer, settings or {}))))

    listening = await asyncio.start_unix_server(accept, str(path))
    try:
        yield f"unix:{path}"
        await asyncio.gather(*tasks)
        assert not left, "connections that nobody made"
    finally:
        listening.close()
        for task in tasks:
            task.cancel()
