"""What it costs a sidecar when somebody who is banned comes again and again.

    python -m bench.gate [--rate 1000] [--seconds 10]

A real sidecar is attacked over loopback. Its CPU is told as a share of one core and for each connection; how long a
ping of an honest peer takes meanwhile shows what others notice. Banned by network: the socket is closed when it is
accepted. Banned by peer: the attacker goes through the handshake, as long as it is let. From many addresses: each of
them is new, so that the short memory of addresses does not help.
"""

import argparse
import asyncio
import contextlib
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import sidecar_client
import uvloop
from sidecar_client import Client

from sidecar.core import events
from sidecar.core.identity import Identity
from sidecar.core.multiaddr import Multiaddr
from sidecar.core.types import PeerId
from sidecar.net.concurrent_dial import Attempt
from sidecar.net.config import NetConfig
from sidecar.net.connection import Connection
from sidecar.net.runtime import Runtime

from .measure import cpu_seconds


class Attacker(Runtime):
    """A node that dials and does nothing else; with `spread` each time from another address of loopback."""

    def __init__(self, seed: int, spread: bool) -> None:
        self.identity = Identity(random.Random(seed).randbytes(32))
        config = NetConfig(max_dials=256, max_queued_dials=100_000, max_connections=10_000, attempt_timeout=2.0)
        super().__init__(self, self.identity, config, lambda effect: None)
        self._spread = spread
        self._dials = 0
        self._sources = 0

    async def _connect(self, attempt: Attempt) -> Connection:
        target, source = attempt.target, None
        if self._spread:
            self._sources += 1
            source = (f"127.{1 + self._sources % 200}.{self._sources // 200 % 250}.7", 0)
        make = partial(self._connection, target.endpoint, attempt)
        _, connection = await self.loop.create_connection(make, target.host, target.port, local_addr=source)
        return connection

    def attack(self, address: Multiaddr, peer: PeerId) -> None:
        self._dials += 1
        self.feed([events.Dial(self._dials, peer, (address,), True)])

    # ------------------------------------------------------------ the node

    def handle(self, input: Any, now: float) -> Sequence[Any]:
        if isinstance(input, list):
            return input
        return ()

    def take(self, stream: int = 0, limit: int = 0) -> Sequence[bytes | memoryview]:
        return ()

    def handle_deadline(self, now: float) -> Sequence[Any]:
        return ()

    def drain(self, now: float) -> Sequence[Any]:
        return ()

    def next_deadline(self) -> float | None:
        return None

    def accepts(self, protocol: str) -> bool:
        return False


async def attacked(
    name: str,
    pid: int,
    victim: Client,
    honest: Client,
    peer: str,
    once: Callable[[], Awaitable[None] | None],
    options: Any,
) -> None:
    """Call `once` at the rate asked for, and print what it cost: as the victim counts, for attackers may be slower."""
    loop = asyncio.get_running_loop()
    pings: list[float] = []

    async def ping() -> None:
        while True:
            pings.append(await honest.ping_peer(peer))
            await asyncio.sleep(0.05)

    async def refused() -> tuple[float, float]:
        counters = await victim.statistics()
        return counters["gate_refused_peers"], counters["net_refused"]

    pinging = asyncio.create_task(ping())
    tasks: set[asyncio.Task[None]] = set()
    handshakes, sockets = await refused()
    before, begun, tries = cpu_seconds([pid]), loop.time(), 0
    while (elapsed := loop.time() - begun) < options.seconds:
        while tries < elapsed * options.rate:
            started = once()
            tries += 1
            if started is not None:
                task = asyncio.ensure_future(started)
                tasks.add(task)
                task.add_done_callback(tasks.discard)
        await asyncio.sleep(0.001)
    took, used = loop.time() - begun, cpu_seconds([pid]) - before
    handshakes, sockets = (after - was for after, was in zip(await refused(), (handshakes, sockets), strict=True))
    await asyncio.gather(*tasks, return_exceptions=True)
    pinging.cancel()
    with contextlib.suppress(asyncio.CancelledError, sidecar_client.SidecarError):
        await pinging
    pings.sort()
    tail = f"{pings[len(pings) // 2] * 1e3:.1f} / {pings[len(pings) * 99 // 100] * 1e3:.1f} ms"
    came = handshakes + sockets
    each = f"{used / came * 1e6:.0f} us" if came else "-"
    shown = f"{came / took:,.0f} | {handshakes / took:,.0f} | {used / took:.1%} | {each} | {tail}"
    print(f"| {name} | {shown} |", flush=True)


def start(home: Path) -> "subprocess.Popen[bytes]":
    """A sidecar of its own, whose API is at `home`/api."""
    home.mkdir()
    command = [sys.executable, "-m", "sidecar", "run", "--state", f"{home}/state", "--socket", f"{home}/api"]
    command += ["--listen", "/ip4/127.0.0.1/tcp/0", "--log-level", "error", "--peers-target", "0"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, env=os.environ | {"HOME": str(home)})


async def bench(place: str, pid: int, options: Any) -> None:
    async with (
        sidecar_client.connect(f"unix:{place}/1/api") as victim,
        sidecar_client.connect(f"unix:{place}/2/api") as honest,
    ):
        await victim.ready(timeout=10)
        info = await victim.info()
        address, peer = Multiaddr.from_text(info.listening_addresses[0]), PeerId.from_text(info.peer_id)
        port = int(address.value("tcp") or 0)
        await honest.connect_peer(info.peer_id, addresses=[str(address)])
        run = partial(attacked, pid=pid, victim=victim, honest=honest, peer=info.peer_id, options=options)
        print("| who comes | a second | handshakes | of a core | CPU for each | an honest peer's ping, p50 / p99 |")
        print("|---|---|---|---|---|---|")
        await run("nobody", once=lambda: None)

        async def socket_only() -> None:
            with contextlib.suppress(OSError):
                reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=("127.0.0.9", 0))
                await reader.read()
                writer.close()

        await victim.ban_peer(network="127.0.0.9")
        await run("banned by network", once=socket_only)
        await victim.allow_peer(network="127.0.0.9")
        for number in range(10_000):
            await victim.ban_peer(network=f"10.{number >> 8 & 255}.{number & 255}.{number % 251}/32")
        await victim.ban_peer(network="127.0.0.9")
        await run("banned by network, among 10,000 other bans", once=socket_only)
        for name, spread in (("banned by peer", False), ("banned by peer, from many addresses", True)):
            attacker = Attacker(7 + spread, spread)
            await victim.ban_peer(str(attacker.identity.peer_id))
            await run(name, once=partial(attacker.attack, address, peer))
            await attacker.close(1.0)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.gate", description=__doc__)
    parser.add_argument("--rate", type=int, default=1000, help="tries a second")
    parser.add_argument("--seconds", type=float, default=10.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        processes = [start(Path(place) / str(number)) for number in (1, 2)]
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(bench(place, processes[0].pid, options))
        finally:
            for process in processes:
                process.terminate()
                process.wait()


if __name__ == "__main__":
    main()
