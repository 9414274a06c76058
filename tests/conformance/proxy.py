"""A relay between an app and its sidecar that counts calls, and can hold, cut or refuse what goes through it."""

import asyncio
from pathlib import Path

_PREFACE = len(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
_HEAD = 9  # bytes before each HTTP/2 frame (RFC 9113, 4.1)
_DATA, _HEADERS = 0, 1
_PADDED = 0x8
_MESSAGE_HEAD = 5  # bytes before each gRPC message: compressed or not, and its length
_PIECE = 1 << 16


class Counter:
    """Counts calls and messages in what an app writes on one connection."""

    def __init__(self) -> None:
        self.calls = 0
        self.messages = 0
        self._skip = _PREFACE
        self._buffer = bytearray()
        self._streams: dict[int, bytearray] = {}  # what has come of each call's next message

    def feed(self, data: bytes) -> None:
        self._buffer += data
        if self._skip:
            dropped = min(self._skip, len(self._buffer))
            del self._buffer[:dropped]
            self._skip -= dropped
        while len(self._buffer) >= _HEAD:
            length = int.from_bytes(self._buffer[:3], "big")
            if len(self._buffer) < _HEAD + length:
                return
            kind, flags = self._buffer[3], self._buffer[4]
            stream = int.from_bytes(self._buffer[5:9], "big") & 0x7FFFFFFF
            payload = bytes(self._buffer[_HEAD : _HEAD + length])
            del self._buffer[: _HEAD + length]
            if kind == _HEADERS:
                self.calls += 1
            elif kind == _DATA:
                self._on_data(stream, payload[1 : len(payload) - payload[0]] if flags & _PADDED else payload)

    def _on_data(self, stream: int, data: bytes) -> None:
        waiting = self._streams.setdefault(stream, bytearray())
        waiting += data
        while len(waiting) >= _MESSAGE_HEAD:
            length = int.from_bytes(waiting[1:_MESSAGE_HEAD], "big")
            if len(waiting) < _MESSAGE_HEAD + length:
                return
            self.messages += 1
            del waiting[: _MESSAGE_HEAD + length]


class Proxy:
    """Listens on a Unix socket and relays each connection to the sidecar's.

    Modes: `pass`; `refuse`, where connections are taken and ended at once; `hold`, where what the app writes is taken
    and kept until the next `pass`; `mute`, where what the sidecar writes is.
    """

    def __init__(self, socket: Path, target: Path) -> None:
        self.socket = socket
        self.tries = 0
        self._target = target
        self._mode = "pass"
        self._changed = asyncio.Event()
        self._counters: list[Counter] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._held = 0
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await asyncio.start_unix_server(self._taken, self.socket)

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        await self.cut()

    def become(self, mode: str) -> None:
        self._mode = mode
        self._tell()

    async def cut(self) -> None:
        """End all connections, as a lost one ends. Further ones are taken as before."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def counts(self) -> dict[str, int]:
        """Calls and messages of apps so far; `held` are the bytes kept by `hold`, `tries` the connections made."""
        return {
            "tries": self.tries,
            "calls": sum(counter.calls for counter in self._counters),
            "messages": sum(counter.messages for counter in self._counters),
            "held": self._held,
        }

    async def change(self) -> None:
        """Wait until the counts or the mode change."""
        await self._changed.wait()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _taken(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.tries += 1
        self._tell()
        try:
            if self._mode != "refuse":
                await self._relay(reader, writer)
        except (OSError, asyncio.CancelledError):
            pass  # cut, or either side has gone
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, to_there = await asyncio.open_unix_connection(self._target)
        counter = Counter()
        self._counters.append(counter)
        try:
            async with asyncio.TaskGroup() as group:
                up = group.create_task(self._up(reader, to_there, counter))
                down = group.create_task(self._down(there, writer))
                await asyncio.wait((up, down), return_when=asyncio.FIRST_COMPLETED)
                up.cancel()
                down.cancel()
        except* OSError:
            pass
        finally:
            to_there.transport.abort()

    async def _up(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, counter: Counter) -> None:
        while data := await reader.read(_PIECE):
            counter.feed(data)
            self._held += len(data)
            self._tell()
            while self._mode == "hold":
                await self.change()
            self._held -= len(data)
            writer.write(data)
            await writer.drain()

    async def _down(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(_PIECE):
            while self._mode == "mute":
                await self.change()
            writer.write(data)
            await writer.drain()
