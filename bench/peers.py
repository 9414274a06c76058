"""Benchmark rows of go-, js- and rust-libp2p, by the peer programs of the interop tests.

`python -m bench.peers` measures just these; `bench.run` puts them beside the sidecar.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from bench.measure import CpuMeter, resident_mb
from bench.rows import WINDOW_MESSAGES, Cell, window_of
from tests.interop.peer import Peer, Stage, join

_TOPIC = "bench"
_ECHO = "/interop/echo/1"
_SETTLE_SECONDS = 2.0  # until start-up garbage is collected: a guess
_PATIENCE = 120.0
_RUST_MESSAGE = 60_000  # its RPCs end at 65,536 bytes by default, with the signature and all else around the data


class PeerSubject:
    """Two nodes of another implementation, each in a process of its own."""

    def __init__(self, language: str, *, max_message: int | None = None) -> None:
        """Name the implementation, one of `build.NAMES`; rows of gossip above `max_message` bytes do not apply."""
        self.name = f"{language}-libp2p"
        self.language = language
        self._max_message = max_message

    async def gossip(self, size: int, signed: bool, seconds: float, window: int = WINDOW_MESSAGES) -> Cell | None:
        if self._max_message is not None and size > self._max_message:
            return None
        window = min(window_of(size), window)
        async with self._pair("strict" if signed else "none") as (sender, receiver):
            await self._subscribe(sender, receiver)
            rate = await self._flood(sender, receiver, size, 2 * window, window)
            rate = await self._flood(sender, receiver, size, max(window, round(rate * seconds / 4)), window)
            count = max(window, round(rate * seconds))
            with CpuMeter([sender.pid, receiver.pid]) as meter:
                rate = await self._flood(sender, receiver, size, count, window)
            return Cell(rate=rate, cpu_us=meter.microseconds_per(count))

    async def bundled(self, size: int, seconds: float) -> Cell | None:
        return None  # nobody else has bundles

    async def latency(self, size: int, rate: float, seconds: float) -> Cell:
        async with self._pair("strict") as (sender, receiver):
            await self._subscribe(sender, receiver)
            await self._flood(sender, receiver, size, 1000, 64)
            count = round(rate * seconds)
            await sender.call("flood", timeout=_PATIENCE, topic=_TOPIC, size=size, count=count, window=count, rate=rate)
            times = (await receiver.call("tally", topic=_TOPIC))["latency_ms"]
            return Cell(p50_ms=times["p50"], p99_ms=times["p99"])

    async def receipts(self, size: int, in_flight: int, seconds: float) -> Cell | None:
        return None  # libp2p has no direct messages

    async def requests(self, size: int, in_flight: int, seconds: float) -> Cell | None:
        return None  # nor requests: its echoes stand beside ours

    async def echo(self, size: int, in_flight: int, seconds: float) -> Cell:
        async with self._pair("strict") as (sender, receiver):
            arguments: dict[str, Any] = {"peer_id": receiver.peer_id, "size": size, "in_flight": in_flight}
            warm = 1000
            answer = await sender.call("echo_many", timeout=_PATIENCE, count=warm, **arguments)
            answer = await sender.call("echo_many", timeout=_PATIENCE, count=4 * warm, **arguments)
            count = round(4 * warm / answer["seconds"] * seconds)
            with CpuMeter([sender.pid, receiver.pid]) as meter:
                answer = await sender.call("echo_many", timeout=_PATIENCE, count=count, **arguments)
            times = answer["latency_ms"]
            return Cell(
                rate=count / answer["seconds"],
                cpu_us=meter.microseconds_per(count),
                p50_ms=times["p50"],
                p99_ms=times["p99"],
            )

    async def bulk(self, both: bool, seconds: float) -> Cell:
        async with self._pair("strict") as (sender, receiver):

            async def move(size: int) -> float:
                arguments = {"send": size, "receive": size if both else 0}
                answer = await sender.call("bulk", timeout=_PATIENCE, peer_id=receiver.peer_id, **arguments)
                if (answer["sent"], answer["received"]) != (size, arguments["receive"]):
                    raise RuntimeError(f"{self.name}: {answer['sent']} and {answer['received']} of {arguments}")
                return float(answer["seconds"])

            size = 16 << 20
            await move(size)
            size = max(size, round(4 * size / await move(4 * size) * seconds))
            with CpuMeter([sender.pid, receiver.pid]) as meter:
                took = await move(size)
            moved = size * (1 + both)
            return Cell(mb_s=moved / took / 1e6, cpu_us=meter.microseconds_per(moved) * 1e6)

    async def new_streams(self, seconds: float) -> Cell:
        async with self._pair("strict") as (sender, receiver):
            arguments: dict[str, Any] = {"timeout": _PATIENCE, "peer_id": receiver.peer_id}
            warm = 100
            await sender.call("new_streams", count=warm, **arguments)
            answer = await sender.call("new_streams", count=4 * warm, **arguments)
            count = max(warm, round(4 * warm / answer["seconds"] * seconds))
            with CpuMeter([sender.pid, receiver.pid]) as meter:
                answer = await sender.call("new_streams", count=count, **arguments)
            return Cell(rate=count / answer["seconds"], cpu_us=meter.microseconds_per(count))

    async def idle_streams(self, count: int) -> Cell:
        async with self._pair("strict") as (sender, receiver):
            await sender.call("new_streams", timeout=_PATIENCE, peer_id=receiver.peer_id, count=100)
            await asyncio.sleep(_SETTLE_SECONDS)
            before = resident_mb([sender.pid, receiver.pid])
            for _ in range(count):
                await sender.call("stream_open", peer_id=receiver.peer_id, protocol=_ECHO)
            await asyncio.sleep(_SETTLE_SECONDS)
            return Cell(mb=resident_mb([sender.pid, receiver.pid]) - before)

    async def connections(self, seconds: float) -> Cell:
        async with Stage() as stage:
            dialler = await stage.start(self.language, "dialler", listen=None)
            listener = await stage.start(self.language, "listener")
            arguments: dict[str, Any] = {"timeout": _PATIENCE, "address": listener.address}
            answer = await dialler.call("connections", count=30, **arguments)
            count = round(30 / answer["seconds"] * seconds)
            with CpuMeter([dialler.pid, listener.pid]) as meter:
                answer = await dialler.call("connections", count=count, **arguments)
            return Cell(rate=count / answer["seconds"], cpu_us=meter.microseconds_per(count))

    async def memory(self) -> Cell:
        async with Stage() as stage:
            peer = await stage.start(self.language, "idle", dht="server")
            await asyncio.sleep(_SETTLE_SECONDS)
            return Cell(mb=resident_mb([peer.pid]))

    async def start(self) -> Cell:
        async with Stage() as stage:
            peer = await stage.start(self.language, "starter", dht="server")
            return Cell(ms=peer.ready_seconds * 1000)

    async def idle(self, connections: int, seconds: float) -> Cell | None:
        return None  # only the sidecar's is measured

    @contextlib.asynccontextmanager
    async def _pair(self, sign: str) -> AsyncIterator[tuple[Peer, Peer]]:
        async with Stage() as stage:
            sender = await stage.start(self.language, "sender", sign=sign)
            receiver = await stage.start(self.language, "receiver", sign=sign)
            await sender.call("connect", address=receiver.address)
            await receiver.event("identified", peer_id=sender.peer_id)
            yield sender, receiver

    async def _subscribe(self, sender: Peer, receiver: Peer) -> None:
        await join(sender, receiver, _TOPIC, quiet=True, ack_to=sender.peer_id)

    async def _flood(self, sender: Peer, receiver: Peer, size: int, count: int, window: int) -> float:
        """Messages a second; all arrived, else it raises."""
        answer = await sender.call("flood", timeout=_PATIENCE, topic=_TOPIC, size=size, count=count, window=window)
        tally = await receiver.call("tally", topic=_TOPIC)
        if tally["received"] != count:
            raise RuntimeError(f"{self.name}: {tally['received']} of {count} messages received")
        return float(count / answer["seconds"])


def subjects() -> list[PeerSubject]:
    """The implementations that are measured, built or not."""
    return [PeerSubject("go"), PeerSubject("js"), PeerSubject("rust", max_message=_RUST_MESSAGE)]


if __name__ == "__main__":
    from bench.run import main

    main(only_peers=True)
