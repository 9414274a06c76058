"""Child processes for the demo: their output kept, and none of them left behind.

Each child has a pipe as its standard input that only this process holds open, and ends when it closes. So the children
end with this process, however it ends, SIGKILL included.
"""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_TAIL = 20  # lines of a log shown after a failure


class Child:
    """One process, `python -m module ...`, its standard error going to a file."""

    def __init__(self, name: str, log: Path) -> None:
        self.name = name
        self.log = log
        self._process: asyncio.subprocess.Process | None = None

    async def start(
        self, module: str, arguments: list[str], environ: Mapping[str, str], *, speaks: bool = False
    ) -> None:
        """Start it. `speaks`: it writes lines on standard output, which `lines` gives."""
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                module,
                *arguments,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE if speaks else log,
                stderr=log,
                env=dict(environ),
                start_new_session=True,  # the terminal's Ctrl-C is for us; we end the children in order
            )

    @property
    def process(self) -> asyncio.subprocess.Process:
        """The process; only once it is started."""
        assert self._process is not None, "not started"
        return self._process

    @property
    def started(self) -> bool:
        """Whether it ever was."""
        return self._process is not None

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.returncode is None

    async def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        if self.running:
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()
            await self.process.wait()

    async def stop(self, patience: float) -> int:
        """SIGTERM, and SIGKILL after `patience` seconds; returns its exit code, negative for a signal."""
        if self.running:
            with contextlib.suppress(ProcessLookupError):
                self.process.terminate()
            try:
                await asyncio.wait_for(self.process.wait(), patience)
            except TimeoutError:
                await self.kill()
        code = self.process.returncode
        assert code is not None
        return code

    def how_it_ended(self) -> str:
        """Words that follow its name in a sentence."""
        code = self.process.returncode
        if code is None:
            return "is running"
        return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"

    def tail(self) -> str:
        """The last lines of its log."""
        try:
            with self.log.open(errors="replace") as log:
                return "".join(f"  | {line.rstrip()}\n" for line in deque(log, maxlen=_TAIL))
        except OSError as error:
            return f"  | no log: {error}\n"


class ChildGone(Exception):
    """A child ended while something was still expected of it."""


class Actor(Child):
    """A child that takes orders and tells events, both as lines of JSON."""

    def __init__(self, name: str, log: Path) -> None:
        super().__init__(name, log)
        self._events: deque[dict[str, Any]] = deque()
        self._changed = asyncio.Event()
        self._silent = False  # it will tell no more
        self._reader: asyncio.Task[None] | None = None

    async def begin(self, module: str, arguments: list[str], environ: Mapping[str, str]) -> None:
        """Start it, and read the events that it tells."""
        await self.start(module, arguments, environ, speaks=True)
        self._reader = asyncio.create_task(self._read(), name=f"events of {self.name}")

    def order(self, **order: Any) -> None:
        """Tell it to do something."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(order).encode() + b"\n")

    async def event(self, kind: str, timeout: float, **fields: Any) -> dict[str, Any]:
        """The next event of a kind with these fields, which is then used up. Raises TimeoutError and Gone."""
        async with asyncio.timeout(timeout):
            while True:
                for event in self._events:
                    if event["event"] == kind and all(event.get(name) == value for name, value in fields.items()):
                        self._events.remove(event)
                        return event
                if self._silent:
                    await self.process.wait()
                    raise ChildGone(f"{self.name} {self.how_it_ended()}")
                self._changed.clear()
                await self._changed.wait()

    async def _read(self) -> None:
        assert self.process.stdout is not None
        try:
            async for line in self.process.stdout:
                self._events.append(json.loads(line))
                self._changed.set()
        finally:
            self._silent = True
            self._changed.set()


def environment() -> dict[str, str]:
    """This process's environment without anything that would configure a sidecar or a client."""
    return {name: value for name, value in os.environ.items() if not name.startswith("SIDECAR_")}
