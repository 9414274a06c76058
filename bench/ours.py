"""Benchmark rows of the sidecar: two sidecar processes, and an app of each in a process of its own."""

import asyncio
import contextlib
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from bench.measure import CpuMeter, resident_mb
from bench.rows import Cell
from sidecar.commands.demo_children import environment
from tests.interop.peer import Peer

# Unacknowledged messages, as with the peers.
_WINDOW_MESSAGES = 1024
_WINDOW_BYTES = 4 << 20
_SETTLE_SECONDS = 2.0  # as with the peers
_PATIENCE = 120.0
_START_SECONDS = 30.0


class _Sidecar:
    """One `sidecar run`, and its app where it has one."""

    def __init__(self, process: asyncio.subprocess.Process, socket: Path, ready_seconds: float) -> None:
        self._process = process
        self.socket = socket
        self.ready_seconds = ready_seconds
        self.said: list[str] = []  # lines until it was ready
        self.app: Peer
        self.peer_id = ""
        self.addresses: list[str] = []

    @property
    def pid(self) -> int:
        return self._process.pid

    async def add_app(self, stack: contextlib.AsyncExitStack) -> None:
        self.app = Peer("app", await _spawn("bench.app", str(self.socket), stderr=asyncio.subprocess.PIPE))
        stack.push_async_callback(self.app.stop)
        info = await self.app.call("info")
        self.peer_id, self.addresses = info["peer_id"], info["addresses"]

    async def stop(self) -> None:
        """Close its input, which ends it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            await asyncio.wait_for(self._process.wait(), 15)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()


async def _spawn(module: str, *arguments: str, stderr: int) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        module,
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=stderr,
        env=environment(),
    )


async def _start(stack: contextlib.AsyncExitStack, *flags: str) -> _Sidecar:
    home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sidecar-bench-")))
    (home / "config.toml").touch()  # an empty one, so that the user's own is not read
    options = ["--config", str(home / "config.toml"), "--state", str(home / "state"), "--socket", str(home / "api")]
    options += ["--listen", "/ip4/127.0.0.1/tcp/0", "--log-level", "error", *flags]
    started = time.monotonic()
    process = await _spawn("sidecar", "run", "--until-eof", *options, stderr=asyncio.subprocess.DEVNULL)
    sidecar = _Sidecar(process, home / "api", 0.0)
    stack.push_async_callback(sidecar.stop)
    assert process.stdout is not None
    async with asyncio.timeout(_START_SECONDS):
        while not (line := await process.stdout.readline()).startswith(b"Ready"):
            if not line:
                raise RuntimeError(f"a sidecar ended, status {await process.wait()}")
            sidecar.said.append(line.decode().strip())
    sidecar.ready_seconds = time.monotonic() - started
    return sidecar


def _multiple(count: float, unit: int) -> int:
    """About `count`, as a multiple: the acknowledgement of the last message must not wait for more."""
    return max(1, round(count / unit)) * unit


class SidecarSubject:
    """Two sidecars, from app to app over gRPC."""

    name = "sidecar"

    async def gossip(self, size: int, signed: bool, seconds: float) -> Cell:
        window = max(16, min(_WINDOW_MESSAGES, _WINDOW_BYTES // size))
        async with self._pair() as (sender, receiver):
            await self._subscribe(sender, receiver, signed, window // 4)
            await self._flood(sender, receiver, size, window, window)  # waits for the subscription to be known
            rate = await self._flood(sender, receiver, size, 2 * window, window)
            rate = await self._flood(sender, receiver, size, _multiple(rate * seconds / 4, window), window)
            count = _multiple(rate * seconds, window)
            with self._meter(sender, receiver) as meter:
                rate = await self._flood(sender, receiver, size, count, window)
            return Cell(rate=rate, cpu_us=meter.microseconds_per(count))

    async def latency(self, size: int, rate: float, seconds: float) -> Cell:
        async with self._pair() as (sender, receiver):
            few = 64  # acknowledgements are in the way of what is measured
            await self._subscribe(sender, receiver, signed=True, every=few)
            await self._flood(sender, receiver, size, 16 * few, 4 * few)
            await receiver.app.call("watch")
            count = _multiple(rate * seconds, few)
            await sender.app.call("pace", timeout=_PATIENCE, size=size, count=count, rate=rate)
            times = (await receiver.app.call("tally"))["latency_ms"]
            return Cell(p50_ms=times["p50"], p99_ms=times["p99"])

    async def receipts(self, size: int, in_flight: int, seconds: float) -> Cell:
        if in_flight == 1:
            return await self._repeat("send_each", seconds, size=size)
        return await self._repeat("send_many", seconds, size=size, in_flight=in_flight)

    async def requests(self, size: int, in_flight: int, seconds: float) -> Cell:
        return await self._repeat("request", seconds, size=size, in_flight=in_flight)

    async def bulk(self, both: bool, seconds: float) -> Cell:
        async with self._pair() as (sender, receiver):
            await receiver.app.call("answer_streams")

            async def move(size: int) -> float:
                arguments = {"send": size, "receive": size if both else 0}
                answer = await sender.app.call("bulk", timeout=_PATIENCE, peer_id=receiver.peer_id, **arguments)
                return float(answer["seconds"])

            size = 16 << 20
            await move(size)
            size = max(size, round(4 * size / await move(4 * size) * seconds))
            with self._meter(sender, receiver) as meter:
                took = await move(size)
            moved = size * (1 + both)
            return Cell(mb_s=moved / took / 1e6, cpu_us=meter.microseconds_per(moved) * 1e6)

    async def new_streams(self, seconds: float) -> Cell:
        async with self._pair() as (sender, receiver):
            await receiver.app.call("answer_streams")
            arguments: dict[str, Any] = {"timeout": _PATIENCE, "peer_id": receiver.peer_id}
            warm = 100
            await sender.app.call("new_streams", count=warm, **arguments)
            answer = await sender.app.call("new_streams", count=4 * warm, **arguments)
            count = max(warm, round(4 * warm / answer["seconds"] * seconds))
            with self._meter(sender, receiver) as meter:
                answer = await sender.app.call("new_streams", count=count, **arguments)
            return Cell(rate=count / answer["seconds"], cpu_us=meter.microseconds_per(count))

    async def idle_streams(self, count: int) -> Cell:
        async with self._pair() as (sender, receiver):
            await receiver.app.call("answer_streams")
            await sender.app.call("new_streams", timeout=_PATIENCE, peer_id=receiver.peer_id, count=100)
            pids = [pid for sidecar in (sender, receiver) for pid in (sidecar.pid, sidecar.app.pid)]
            await asyncio.sleep(_SETTLE_SECONDS)
            before = resident_mb(pids)
            await sender.app.call("open_streams", timeout=_PATIENCE, peer_id=receiver.peer_id, count=count)
            await asyncio.sleep(_SETTLE_SECONDS)
            return Cell(mb=resident_mb(pids) - before)

    async def connections(self, seconds: float) -> Cell:
        async with contextlib.AsyncExitStack() as stack:
            # Otherwise the nodes would seek each other by themselves after each disconnection.
            dialler, listener = [await _start(stack, "--peers-target", "0") for _ in range(2)]
            await dialler.add_app(stack)
            await listener.add_app(stack)
            arguments: dict[str, Any] = {"peer_id": listener.peer_id, "addresses": listener.addresses}
            arguments["timeout"] = _PATIENCE
            answer = await dialler.app.call("connections", count=30, **arguments)
            count = round(30 / answer["seconds"] * seconds)
            with self._meter(dialler, listener) as meter:
                answer = await dialler.app.call("connections", count=count, **arguments)
            return Cell(rate=count / answer["seconds"], cpu_us=meter.microseconds_per(count))

    async def memory(self) -> Cell:
        async with contextlib.AsyncExitStack() as stack:
            sidecar = await _start(stack)
            await asyncio.sleep(_SETTLE_SECONDS)
            return Cell(mb=resident_mb([sidecar.pid]))

    async def start(self) -> Cell:
        async with contextlib.AsyncExitStack() as stack:
            return Cell(ms=(await _start(stack)).ready_seconds * 1000)

    @contextlib.asynccontextmanager
    async def _pair(self, *flags: str) -> AsyncIterator[tuple[_Sidecar, _Sidecar]]:
        async with contextlib.AsyncExitStack() as stack:
            sender, receiver = [await _start(stack, *flags) for _ in range(2)]
            await sender.add_app(stack)
            await receiver.add_app(stack)
            await sender.app.call("connect", addresses=receiver.addresses)
            yield sender, receiver

    def _meter(self, *sidecars: _Sidecar) -> CpuMeter:
        return CpuMeter([pid for sidecar in sidecars for pid in (sidecar.pid, sidecar.app.pid)])

    async def _subscribe(self, sender: _Sidecar, receiver: _Sidecar, signed: bool, every: int) -> None:
        await sender.app.call("join", signed=signed)
        await receiver.app.call("listen", signed=signed, ack_to=sender.peer_id, every=every)

    async def _flood(self, sender: _Sidecar, receiver: _Sidecar, size: int, count: int, window: int) -> float:
        """Messages a second; all arrived, else it raises."""
        before = (await receiver.app.call("tally"))["received"]
        answer = await sender.app.call("flood", timeout=_PATIENCE, size=size, count=count, window=window)
        received = (await receiver.app.call("tally"))["received"] - before
        if received != count:
            raise RuntimeError(f"{self.name}: {received} of {count} messages received")
        return float(count / answer["seconds"])

    async def _repeat(self, op: str, seconds: float, **arguments: Any) -> Cell:
        async with self._pair() as (sender, receiver):
            await receiver.app.call("answer")
            arguments |= {"timeout": _PATIENCE, "peer_id": receiver.peer_id}
            warm = 100
            answer = await sender.app.call(op, count=warm, **arguments)
            answer = await sender.app.call(op, count=4 * warm, **arguments)
            count = max(warm, round(4 * warm / answer["seconds"] * seconds))
            with self._meter(sender, receiver) as meter:
                answer = await sender.app.call(op, count=count, **arguments)
            times = answer["latency_ms"]
            return Cell(
                rate=count / answer["seconds"],
                cpu_us=meter.microseconds_per(count),
                p50_ms=times["p50"],
                p99_ms=times["p99"],
            )
