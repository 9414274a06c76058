"""What verdicts of an app cost: `python -m bench.verdicts [--messages 100000] [--rounds 3]`.

Two sidecars on loopback. An app of one publishes 100 bytes at a time, unsigned, so that signatures are not what is
measured; an app of the other subscribes. Judged, there is one more app at the other, in a process of its own, which
accepts everything over one stream. Told are what the verdict adds to the time from app to app, one message at a time,
and how many messages a second come through in bulk, with what each costs the sidecar that has them judged. Without Go
its row is left out.
"""

import argparse
import asyncio
import contextlib
import itertools
import statistics
import time
from collections.abc import AsyncIterator, Iterator

import sidecar_client
import uvloop
from sidecar_client import Client, MessageBatch

from bench import page
from bench.clients.processes import Unavailable, agent
from bench.measure import CpuMeter
from bench.sidecars import start_sidecar

_TOPIC, _SIZE = "bench", 100
_EACH = 400  # messages one at a time
_PATIENCE = 60.0
_UNSIGNED = sidecar_client.Signing.STRICT_NO_SIGN
_NOBODY = "nobody"
_JUDGES = (_NOBODY, "Go", "Python")
_numbers = itertools.count()  # the same data again would be the same message


def _payload() -> bytes:
    return b"%0*d" % (_SIZE, next(_numbers))


async def _take(batches: AsyncIterator[MessageBatch], count: int) -> None:
    while count > 0:
        async with asyncio.timeout(_PATIENCE):
            count -= len(await anext(batches))


async def _one_by_one(sender: Client, batches: AsyncIterator[MessageBatch], count: int) -> tuple[float, float]:
    """Milliseconds from app to app: p50 and p99."""
    times: list[float] = []
    for _ in range(count):
        begun = time.perf_counter()
        await sender.publish(_TOPIC, _payload(), signing=_UNSIGNED)
        await _take(batches, 1)
        times.append((time.perf_counter() - begun) * 1000)
    times.sort()
    return statistics.median(times), times[len(times) * 99 // 100]


async def _in_bulk(sender: Client, batches: AsyncIterator[MessageBatch], count: int) -> float:
    """Messages a second, all arrived."""
    datas = [_payload() for _ in range(count)]
    begun = time.perf_counter()
    sending = asyncio.create_task(sender.publish_many(_TOPIC, datas, signing=_UNSIGNED))
    await _take(batches, count)
    rate = count / (time.perf_counter() - begun)
    await sending
    return rate


@contextlib.contextmanager
def _judged_by(judge: str, target: str, count: int) -> Iterator[None]:
    """Have an app judge the topic. Raises Unavailable."""
    if judge == _NOBODY:
        yield
        return
    with agent(judge) as app:
        app.order("judge", target=target, topic=_TOPIC, count=min(count, 1 << 20))
        yield


async def _round(count: int) -> list[str]:
    rows = []
    async with contextlib.AsyncExitStack() as stack:
        first, second = [await start_sidecar(stack, "--peers-target", "0") for _ in range(2)]
        sender = await stack.enter_async_context(sidecar_client.connect(f"unix:{first.socket}"))
        receiver = await stack.enter_async_context(sidecar_client.connect(f"unix:{second.socket}"))
        await sender.connect_peer(addresses=list((await receiver.info()).listening_addresses))
        subscription = await stack.enter_async_context(receiver.subscribe(_TOPIC, signing=_UNSIGNED))
        batches = aiter(subscription.batches())
        await sender.publish(_TOPIC, _payload(), minimum_peers=1, signing=_UNSIGNED)
        await _take(batches, 1)
        unjudged = 0.0
        for judge in _JUDGES:
            try:
                with _judged_by(judge, f"unix:{second.socket}", count):
                    await _one_by_one(sender, batches, _EACH // 4)  # so that everything is open and warm
                    p50, p99 = await _one_by_one(sender, batches, _EACH)
                    await _in_bulk(sender, batches, max(1, count // 10))
                    with CpuMeter((second.pid,)) as meter:
                        rate = await _in_bulk(sender, batches, count)
            except Unavailable as error:
                rows.append(f"| {judge} | {error} | | | |")
                continue
            unjudged = unjudged or p50
            cost = meter.microseconds_per(count)
            rows.append(
                f"| {judge} | {p50:.2f} / {p99:.2f} ms | {p50 - unjudged:.2f} ms | {rate:,.0f}/s | {cost:.1f} us |"
            )
    return rows


async def _run(count: int, rounds: int) -> None:
    print("| judged by | from app to app, p50 / p99 | added, p50 | in bulk | CPU of the sidecar, each |")
    print("|---|---|---|---|---|", flush=True)
    for _ in range(rounds):
        for row in await _round(count):
            print(row, flush=True)
    print(f"\n{page.facts('bench.verdicts')}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.verdicts", description=__doc__.partition("\n")[0])
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_run(arguments.messages, arguments.rounds))


if __name__ == "__main__":
    main()
