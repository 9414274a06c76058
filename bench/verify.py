"""How many signed messages a sidecar takes in: `python -m bench.verify [--messages 60000] [--rounds 3]`.

A peer on loopback sends messages of 100 bytes that were signed beforehand, as fast as they are read, to a sidecar with
one subscriber. So all but the receiving side costs next to nothing. Told are messages a second and CPU for each, of the
sidecar with its workers, without workers (`gossip.verify_workers` 0) and with one, in turn.
"""

import argparse
import asyncio
import contextlib
import os
import time

import uvloop

from bench import page
from bench.attacker import Attacker, signed_block
from bench.measure import CpuMeter, resident_mb
from bench.sidecars import start_sidecar
from sidecar.core import events
from sidecar.core.identity import Identity
from sidecar.core.multiaddr import Multiaddr


async def _measure(workers: int, count: int) -> str:
    block = signed_block(b"bench", count)
    async with contextlib.AsyncExitStack() as stack:
        sidecar = await start_sidecar(stack, "--gossip-verify-workers", str(workers), "--peers-target", "0")
        await sidecar.add_app(stack)
        await sidecar.app.call("listen", signed=True, ack_to=sidecar.peer_id, every=1 << 30)
        await asyncio.sleep(1)
        sender = Attacker(Identity(os.urandom(32)), "ihave", "main", b"bench", block)
        target = Multiaddr.from_text(sidecar.addresses[0])
        with CpuMeter([sidecar.pid]) as meter:
            begun = time.monotonic()
            sender.runtime.feed([events.Dial(1, target.peer_id, (target.without_peer(),), True)])
            while (await sidecar.app.call("tally"))["received"] < count:
                await asyncio.sleep(0.05)
                if sender.over.done():
                    raise RuntimeError(sender.over.result())
            took = time.monotonic() - begun
        memory = resident_mb([sidecar.pid])
        await sender.runtime.close(1.0)
        return f"| {workers} | {count / took:,.0f}/s | {meter.microseconds_per(count):.0f} us | {memory:.0f} MB |"


async def _run(count: int, rounds: int) -> None:
    print("| workers | messages | CPU of the sidecar for each | its memory |")
    print("|---|---|---|---|", flush=True)
    for _ in range(rounds):
        for workers in (0, 1):
            print(await _measure(workers, count), flush=True)
    print(f"\n{page.facts('bench.verify')}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.verify", description=__doc__.partition("\n")[0])
    parser.add_argument("--messages", type=int, default=60_000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_run(arguments.messages, arguments.rounds))


if __name__ == "__main__":
    main()
