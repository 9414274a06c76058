"""What a sidecar costs that is connected and has nothing to do.

    python -m bench.idle [--peers 20] [--settle 60] [--seconds 120] [--rounds 1] [--subscribed]

One sidecar is measured; the others, whole ones, share a process of their own and find each other through it. After
`--settle` seconds, in which the network joins, its CPU time is read for `--seconds`, in nanoseconds by the kernel's
scheduler, and how often its threads slept and woke. `--subscribed`: each has an app that is subscribed to one topic.
"""

import argparse
import asyncio
import contextlib
import os
import subprocess
import time
from pathlib import Path
from typing import NamedTuple

import sidecar_client

from bench import page
from bench.app import TOPIC
from bench.apps import PATIENCE, spawn_module
from bench.sidecars import start_sidecar


class Usage(NamedTuple):
    """What threads of a process have used: seconds of CPU, and how often they went to sleep by themselves."""

    seconds: float
    sleeps: int

    def since(self, before: "Usage") -> "Usage":
        """What was used since."""
        return Usage(self.seconds - before.seconds, self.sleeps - before.sleeps)


def usage(pid: int, *, main: bool = False) -> Usage:
    """What all threads of a process that are alive have used; `main`: only its first one."""
    seconds, sleeps = 0.0, 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        if main and task.name != str(pid):
            continue
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # ended meanwhile
            seconds += int((task / "schedstat").read_text().split()[0]) / 1e9
            status = (task / "status").read_text()
            sleeps += int(status.partition("\nvoluntary_ctxt_switches:")[2].split()[0])
    return Usage(seconds, sleeps)


class Idle(NamedTuple):
    """What was measured: the sidecar's connections, what all its threads used and what the first, in how long."""

    connections: int
    all: Usage
    main: Usage
    seconds: float

    def row(self, subscribed: bool) -> str:
        """A row of the table."""
        peers = f"{self.connections}{', subscribed' if subscribed else ''}"
        return (
            f"| {peers} | {self.all.seconds / self.seconds:.3%} | {self.main.seconds / self.seconds:.3%} | "
            f"{self.all.sleeps / self.seconds:.1f} | {self.main.sleeps / self.seconds:.1f} |"
        )


async def measure(peers: int, settle: float, seconds: float, subscribed: bool) -> Idle:
    """A sidecar among so many others; `settle`: seconds before it counts."""
    async with contextlib.AsyncExitStack() as stack:
        measured = await start_sidecar(stack)
        app = await stack.enter_async_context(sidecar_client.connect(str(measured.socket)))
        if subscribed:
            await stack.enter_async_context(app.subscribe(TOPIC))
        info = await app.info()
        address = f"{info.listening_addresses[0].partition('/p2p/')[0]}/p2p/{info.peer_id}"
        state = "subscribed" if subscribed else "alone"
        helper = await spawn_module("bench.idle_peers", address, str(peers), state, stderr=subprocess.DEVNULL)
        assert helper.stdout is not None
        assert helper.stdin is not None
        try:
            async with asyncio.timeout(PATIENCE):
                if (await helper.stdout.readline()).strip() != b"Ready":
                    raise RuntimeError("the other sidecars did not become ready")
            await asyncio.sleep(settle)
            before, main_before, begun = usage(measured.pid), usage(measured.pid, main=True), time.monotonic()
            await asyncio.sleep(seconds)
            used = usage(measured.pid).since(before)
            main = usage(measured.pid, main=True).since(main_before)
            took = time.monotonic() - begun
            connections = len([peer async for peer in app.peers(connected_only=True)])
            return Idle(connections, used, main, took)
        finally:
            helper.stdin.close()
            await helper.wait()


async def run(peers: int, settle: float, seconds: float, rounds: int, subscribed: bool) -> None:
    print("| connections | CPU, of one core | of this the event loop | wake-ups a second | of the event loop |")
    print("|---|---|---|---|---|", flush=True)
    for _ in range(rounds):
        print((await measure(peers, settle, seconds, subscribed)).row(subscribed), flush=True)
    print(f"\n{page.facts('bench.idle')}\n- load of the machine at the end: {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", type=int, default=20, help="other sidecars, all connected")
    parser.add_argument("--settle", type=float, default=60.0, help="seconds before it counts")
    parser.add_argument("--seconds", type=float, default=120.0, help="seconds that count")
    parser.add_argument("--rounds", type=int, default=1, help="how often, with sidecars started anew")
    parser.add_argument("--subscribed", action="store_true", help="each has an app subscribed to one topic")
    options = parser.parse_args()
    asyncio.run(run(options.peers, options.settle, options.seconds, options.rounds, options.subscribed))
