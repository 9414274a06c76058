"""Byte streams: the operations on one that is open."""

import asyncio
import hashlib
from typing import Any

from sidecar_client import ByteStream
from values import INLINE, generated, payload, shown


class Bytes:
    """One byte stream, whose `async with` block lasts until the runner closes, resets or cancels it."""

    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream
        self._running: set[asyncio.Task[Any]] = set()
        self._over = False

    async def open(self) -> dict[str, Any]:
        await self._stream.__aenter__()
        return {"peer_id": self._stream.peer_id, "protocol": self._stream.protocol}

    async def write(self, request: dict[str, Any]) -> dict[str, Any]:
        with self._cancellable():
            if "run" not in request:
                data = payload(request["data"])
                await self._stream.write(data)
                return {"bytes": len(data)}
            run = request["run"]
            for number in range(run["count"]):
                await self._stream.write(generated(run["seed"], number, run["size"]))
            return {"bytes": run["count"] * run["size"]}

    async def read_bytes(self, request: dict[str, Any]) -> dict[str, Any]:
        with self._cancellable():
            left = request.get("size")
            whole, head, size = hashlib.sha256(), b"", 0
            while left is None or left > 0:
                piece = await self._stream.read(1 << 18 if left is None else min(left, 1 << 18))
                if not piece:
                    break
                whole.update(piece)
                size += len(piece)
                if size <= INLINE:
                    head += piece
                left = None if left is None else left - len(piece)
            data = shown(head) if size <= INLINE else {"size": size, "sha256": whole.hexdigest()}
            return {"data": data, "ended": self._stream.at_end}

    async def close_write(self, request: dict[str, Any]) -> dict[str, Any]:
        with self._cancellable():
            await self._stream.close_write()
        return {}

    async def reset(self, request: dict[str, Any]) -> dict[str, Any]:
        self._stream.reset()
        return {}

    async def close(self) -> None:
        if not self._over:
            self._over = True
            await self._stream.__aexit__(None, None, None)

    def cancel(self) -> None:
        """What cancelling the task does that holds the block."""
        for task in self._running:
            task.cancel()
        asyncio.create_task(self.leave(), name="agent leaving a stream")  # noqa: RUF006 - ends in one turn

    async def leave(self) -> None:
        """Leave the block as an error does."""
        if not self._over:
            self._over = True
            await self._stream.__aexit__(asyncio.CancelledError, asyncio.CancelledError(), None)

    def _cancellable(self) -> "_Running":
        return _Running(self._running)


class _Running:
    """Keeps the present task among those that `cancel` ends."""

    def __init__(self, running: set[asyncio.Task[Any]]) -> None:
        self._all = running

    def __enter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._all.add(task)

    def __exit__(self, *_: object) -> None:
        self._all.discard(self._task)
