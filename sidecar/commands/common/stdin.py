"""Standard input read beside a running event loop."""

import asyncio
import contextlib
import os
import threading
from collections.abc import AsyncIterator

_CHUNK = 65_536
_WAITING = 4  # chunks read ahead


async def chunks() -> AsyncIterator[bytes]:
    """The bytes of standard input, as they come.

    A thread reads, since a file cannot be polled and making a terminal non-blocking would outlive us. It is a daemon:
    a command that ends does not wait for more input.
    """
    loop = asyncio.get_running_loop()
    waiting: asyncio.Queue[bytes] = asyncio.Queue(_WAITING)

    def read() -> None:
        with contextlib.suppress(RuntimeError, asyncio.CancelledError):  # the loop has ended
            while True:
                try:
                    chunk = os.read(0, _CHUNK)
                except OSError:
                    chunk = b""
                asyncio.run_coroutine_threadsafe(waiting.put(chunk), loop).result()
                if not chunk:
                    return

    threading.Thread(target=read, name="standard input", daemon=True).start()
    while chunk := await waiting.get():
        yield chunk


async def lines() -> AsyncIterator[bytes]:
    """The lines of standard input without their ends, as they come."""
    rest = b""
    async for chunk in chunks():
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            yield line.removesuffix(b"\r")
    if rest:
        yield rest
