"""What one peer that floods a sidecar costs it, and the others.

    python -m bench.attack [--seconds 15] [--kinds control,dht]

Five sidecars on loopback; an app of one publishes 100 messages of 100 bytes a second, an app of another, the attacked
one, receives them. An attacker joins and sends its kind of nonsense as fast as it is read (`bench.attacker`). Told are
the times from app to app before and during the attack, the CPU of the attacked sidecar as a share of one core, what
its memory grew by, how many of the honest messages came, and when the attacker was sent away.
"""

import argparse
import asyncio
import contextlib
import subprocess
import time

from bench import page
from bench.apps import spawn_module
from bench.attacker import KINDS
from bench.measure import CpuMeter, resident_mb
from bench.sidecars import start_sidecar

_RATE, _SIZE = 100, 100
_QUIET = 4.0  # seconds measured before an attack


async def _measure(kind: str, seconds: float) -> str:
    async with contextlib.AsyncExitStack() as stack:
        sidecars = [await start_sidecar(stack) for _ in range(5)]
        for sidecar in sidecars:
            await sidecar.add_app(stack)
        attacked, sender, *others = sidecars
        for sidecar in (sender, *others):
            await sidecar.app.call("connect", addresses=attacked.addresses)
        await sender.app.call("join", signed=True)
        for sidecar in (attacked, *others):
            await sidecar.app.call("listen", signed=True, ack_to=sender.peer_id, every=1 << 30)
        # The first message is to find subscribers: wait for the mesh.
        await asyncio.sleep(2)

        async def publish(duration: float) -> tuple[int, int, dict[str, float]]:
            before = (await attacked.app.call("tally"))["received"]
            await attacked.app.call("watch")
            count = round(_RATE * duration)
            await sender.app.call("stream_at", timeout=120, size=_SIZE, count=count, rate=_RATE)
            await asyncio.sleep(1)
            tally = await attacked.app.call("tally")
            return count, tally["received"] - before, tally["latency_ms"]

        _, _, quiet = await publish(_QUIET)
        memory = resident_mb([attacked.pid])
        attacker = await spawn_module(
            "bench.attacker", attacked.addresses[0], kind, "main", "bench", stderr=subprocess.DEVNULL
        )
        assert attacker.stdout is not None
        assert attacker.stdin is not None
        begun = time.monotonic()

        async def watch() -> str:
            assert attacker.stdout is not None
            said = (await attacker.stdout.readline()).decode().strip()
            return f"after {time.monotonic() - begun:.1f} s" if said.startswith("sent away") else said

        watching = asyncio.create_task(watch())
        with CpuMeter([attacked.pid]) as meter:
            sent, received, during = await publish(seconds)
            took = time.monotonic() - begun
        grown = resident_mb([attacked.pid]) - memory
        attacker.stdin.close()
        gone = await watching
        await attacker.wait()
        return (
            f"| {kind} | {quiet['p50']:.1f} / {quiet['p99']:.1f} ms | {during['p50']:.1f} / {during['p99']:.1f} ms | "
            f"{meter.seconds / took:.0%} | {grown:+.0f} MB | {received} of {sent} | {gone} |"
        )


async def _run(kinds: list[str], seconds: float) -> None:
    print("| attack | before, p50 / p99 | during | CPU | memory | arrived | sent away |")
    print("|---|---|---|---|---|---|---|", flush=True)
    for kind in kinds:
        print(await _measure(kind, seconds), flush=True)
    print(f"\n{page.facts('bench.attack')}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.attack", description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=15.0, help="of each attack")
    parser.add_argument("--kinds", default="", help="only these, separated by commas")
    arguments = parser.parse_args()
    kinds = [kind for kind in KINDS if not arguments.kinds or kind in arguments.kinds.split(",")]
    asyncio.run(_run(kinds, arguments.seconds))


if __name__ == "__main__":
    main()
