"""Processes that check signatures for the node: started when there is much to check, replaced when they die.

Nothing is let through and nothing is lost, whatever they do: a batch that a process did not answer goes to another one,
and one that two of them did not answer is checked here, as are all while none is ready.
"""

import asyncio
import contextlib
import logging
import os
import sys
from collections import deque
from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path
from typing import cast

from ..core.classes import NamedTuple
from ..core.gossip import SignatureCheck, verify_batch
from ..core.gossip.signing import SIGN_PREFIX
from ..core.override import override
from .verify_worker import CHECK, COUNT, READY

log = logging.getLogger(__name__)

_PATIENCE = 5.0  # seconds until a process that does not answer is killed; a batch takes some hundredths of one
_PAUSE = 10.0  # seconds until another one is started after some died one after the other
_FAILURES = 3  # deaths without an answer between them that make so many
_IDLE = 300.0  # seconds without a batch after which they end: each has some megabytes
_END = 1.0  # seconds for a process to end when it is told to
_CARRIED = 2  # processes that may fail at a batch before it is checked here
_COMMAND = (sys.executable, "-m", f"{__package__}.verify_worker")

Answered = Callable[[int, Sequence[str | None]], None]


class _Batch(NamedTuple):
    number: int
    checks: Sequence[SignatureCheck]
    failures: int


class SignatureWorkers:
    """Up to `most` processes; `check` hands a batch out, and `answered` is called with its verdicts, later."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        most: int,
        answered: Answered,
        *,
        command: Sequence[str] = _COMMAND,
        patience: float = _PATIENCE,
    ) -> None:
        """`command` starts a process, `patience` is how many seconds it may take for a batch."""
        self._loop = loop
        self._most = most
        self._answered = answered
        self._command = command
        self._patience = patience
        self._workers: dict[_Worker, None] = {}
        self._starting: set[asyncio.Task[None]] = set()
        self._idle: asyncio.TimerHandle | None = None
        self._used = 0.0
        self._paused_until = 0.0
        self._in_a_row = 0  # deaths without an answer between them
        self._closed = False
        self.failures = 0
        """Processes that died or were killed since they did not answer."""

    def check(self, number: int, checks: Sequence[SignatureCheck]) -> None:
        """Have a batch checked; its verdicts come by `answered`, never within this call."""
        self._used = self._loop.time()
        if self._idle is None and not self._closed:
            self._idle = self._loop.call_later(_IDLE, self._look_if_idle)
        self._hand_out(_Batch(number, checks, 0))

    @property
    def ready(self) -> int:
        """How many processes are there for work."""
        return sum(worker.ready for worker in self._workers)

    def memory(self) -> int:
        """Resident bytes of the processes that no other one shares, as far as the system tells."""
        return sum(_private_bytes(worker.pid) for worker in self._workers if worker.pid)

    async def close(self) -> None:
        """End the processes, within a second or so; what is still open is not answered."""
        self._closed = True
        if self._idle is not None:
            self._idle.cancel()
        for task in list(self._starting):
            task.cancel()
        await asyncio.gather(*self._starting, return_exceptions=True)
        workers = list(self._workers)
        for worker in workers:
            worker.end()
        if workers:
            _, late = await asyncio.wait([worker.gone for worker in workers], timeout=_END)
            for worker in workers:
                if worker.gone in late:
                    worker.kill()
            if late:
                await asyncio.wait(late, timeout=_END)

    # ------------------------------------------------------------

    def _hand_out(self, batch: _Batch) -> None:
        if self._closed:
            return
        self._start_missing()
        ready = [worker for worker in self._workers if worker.ready]
        if not ready or batch.failures >= _CARRIED:
            self._loop.call_soon(self._check_here, batch)
            return
        min(ready, key=lambda worker: len(worker.open)).send(batch)

    def _check_here(self, batch: _Batch) -> None:
        if not self._closed:
            self._answered(batch.number, verify_batch(batch.checks))

    def _start_missing(self) -> None:
        if self._loop.time() < self._paused_until:
            return
        for _ in range(self._most - len(self._workers) - len(self._starting)):
            task = self._loop.create_task(self._start(), name="start of a signature worker")
            self._starting.add(task)
            task.add_done_callback(self._starting.discard)

    async def _start(self) -> None:
        try:
            await self._loop.subprocess_exec(
                lambda: _Worker(self, self._loop, self._patience),
                *self._command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=None,
            )
        except OSError as error:
            log.warning("a process that checks signatures could not be started: %s", error)
            self._failed()

    def _failed(self) -> None:
        self.failures += 1
        self._in_a_row += 1
        if self._in_a_row >= _FAILURES:
            self._in_a_row = 0
            self._paused_until = self._loop.time() + _PAUSE
            log.warning("signatures are checked in the node's own process for %g s", _PAUSE)

    def _look_if_idle(self) -> None:
        self._idle = None
        left = self._used + _IDLE - self._loop.time()
        if left <= 0:
            for worker in self._workers:
                worker.end()
        elif self._workers or self._starting:
            self._idle = self._loop.call_later(left, self._look_if_idle)

    # ------------------------------------------------------------ told by the processes

    def came(self, worker: "_Worker") -> None:
        """A process runs, though it is not ready yet."""
        self._workers[worker] = None
        if self._closed:
            worker.end()

    def answer(self, batch: _Batch, good: bytes) -> None:
        """A process has checked a batch."""
        self._in_a_row = 0
        self._answered(batch.number, [None if each else "signature" for each in good])

    def went(self, worker: "_Worker") -> None:
        """A process is gone, and with it the verdicts that it owed."""
        self._workers.pop(worker, None)
        owed = list(worker.open)
        worker.open.clear()
        if not worker.ending:
            log.warning("a process that checks signatures ended: %s; its %d batches are kept", worker.how, len(owed))
            self._failed()
        for first, batch in enumerate(owed):
            self._hand_out(batch._replace(failures=batch.failures + (not first)))


class _Worker(asyncio.SubprocessProtocol):
    """One process: the batches that it has, in order, and the answers as they come."""

    def __init__(self, workers: SignatureWorkers, loop: asyncio.AbstractEventLoop, patience: float) -> None:
        self._workers = workers
        self._loop = loop
        self._patience = patience
        self._answers = bytearray()
        self._watch: asyncio.TimerHandle | None = None
        self.open: deque[_Batch] = deque()
        self.ready = False
        self.ending = False
        self.how = "by itself"
        self.gone: asyncio.Future[None] = loop.create_future()
        self.pid = 0

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.SubprocessTransport, transport)
        self.pid = self._transport.get_pid()
        self._rewatch()
        self._workers.came(self)

    @override
    def pipe_data_received(self, fd: int, data: bytes) -> None:
        if not self.ready:
            self.ready, data = True, data[len(READY) :]
        self._answers += data
        while self.open and len(self._answers) >= len(self.open[0].checks):
            batch = self.open.popleft()
            good = bytes(self._answers[: len(batch.checks)])
            del self._answers[: len(batch.checks)]
            self._workers.answer(batch, good)
        self._rewatch()

    @override
    def process_exited(self) -> None:
        if self.how == "by itself":
            self.how = f"exit code {self._transport.get_returncode()}"
        self.ready = False
        if self._watch is not None:
            self._watch.cancel()
        if not self.gone.done():
            self.gone.set_result(None)
        self._workers.went(self)
        self._transport.close()

    def send(self, batch: _Batch) -> None:
        """Hand a batch over."""
        checks = batch.checks
        self.open.append(batch)
        heads = [
            CHECK.pack(key.type, len(key.data), len(signature), len(SIGN_PREFIX) + len(content))
            for key, content, signature in checks
        ]
        bodies = ((key.data, signature, SIGN_PREFIX, content) for key, content, signature in checks)
        stdin = cast(asyncio.WriteTransport, self._transport.get_pipe_transport(0))
        stdin.write(b"".join((COUNT.pack(len(checks)), *heads, *chain.from_iterable(bodies))))
        if self._watch is None:
            self._rewatch()

    def end(self) -> None:
        """Let it finish what it has and end."""
        self.ending, self.ready = True, False
        stdin = self._transport.get_pipe_transport(0)
        if stdin is not None:
            stdin.close()

    def kill(self) -> None:
        """End it at once."""
        with contextlib.suppress(ProcessLookupError):  # it has ended, and that is told next
            self._transport.kill()

    def _rewatch(self) -> None:
        """Give it time for the next batch, or to become ready."""
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        if self.open or not self.ready:
            self._watch = self._loop.call_later(self._patience, self._hangs)

    def _hangs(self) -> None:
        self._watch = None
        self.how = f"no answer for {self._patience:g} s: killed"
        self.kill()


def _private_bytes(pid: int) -> int:
    """What a process has in memory beside what files give it; 0 where the system does not tell."""
    try:
        resident, shared = Path(f"/proc/{pid}/statm").read_text().split()[1:3]
    except (OSError, ValueError):
        return 0
    return (int(resident) - int(shared)) * os.sysconf("SC_PAGE_SIZE")
