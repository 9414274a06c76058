"""What verdicts of an app cost: `python -m bench.verdicts [--messages 50000] [--rounds 3]`.

Two sidecars on loopback. An app of one publishes 100 bytes at a time; an app of the other judges them, which accepts
everything, and subscribes. Told are how many verdicts a second one stream carries, messages published in bulk, and what
a verdict adds to the time from app to app, one message at a time.
"""

import argparse
import asyncio
import contextlib
import itertools
import statistics
import time
from collections.abc import AsyncIterator

import sidecar_client
import uvloop
from sidecar_client import Client, Message, ValidationFallback, Verdict

from bench import page
from bench.sidecars import start_sidecar

_TOPIC, _SIZE = "bench", 100
_EACH = 400  # messages one at a time
_PATIENCE = 60.0
_UNSIGNED = sidecar_client.Signing.STRICT_NO_SIGN  # so that signatures are not what is measured
_numbers = itertools.count()  # the same data again would be the same message


def _accept(_: Message) -> Verdict:
    return Verdict.ACCEPT


async def _one_by_one(sender: Client, messages: AsyncIterator[Message]) -> tuple[float, float]:
    """Milliseconds from app to app: p50 and p99."""
    times: list[float] = []
    for _ in range(_EACH):
        begun = time.perf_counter()
        await sender.publish(_TOPIC, b"%0*d" % (_SIZE, next(_numbers)), signing=_UNSIGNED)
        async with asyncio.timeout(_PATIENCE):
            await anext(messages)
        times.append((time.perf_counter() - begun) * 1000)
    times.sort()
    return statistics.median(times), times[len(times) * 99 // 100]


async def _in_bulk(sender: Client, messages: AsyncIterator[Message], count: int) -> float:
    """Messages a second, all arrived."""
    begun = time.perf_counter()
    datas = [b"%0*d" % (_SIZE, next(_numbers)) for _ in range(count)]
    sending = asyncio.create_task(sender.publish_many(_TOPIC, datas, signing=_UNSIGNED))
    for _ in range(count):
        async with asyncio.timeout(_PATIENCE):
            await anext(messages)
    await sending
    return count / (time.perf_counter() - begun)


async def _round(count: int) -> list[str]:
    rows = []
    async with contextlib.AsyncExitStack() as stack:
        first, second = [await start_sidecar(stack, "--peers-target", "0") for _ in range(2)]
        sender = await stack.enter_async_context(sidecar_client.connect(f"unix:{first.socket}"))
        receiver = await stack.enter_async_context(sidecar_client.connect(f"unix:{second.socket}"))
        await sender.connect_peer(addresses=list((await receiver.info()).listening_addresses))
        subscription = await stack.enter_async_context(receiver.subscribe(_TOPIC, signing=_UNSIGNED))
        messages = aiter(subscription)
        await sender.publish(_TOPIC, b"first", minimum_peers=1, signing=_UNSIGNED)
        await anext(messages)
        for judged in (False, True):
            async with contextlib.AsyncExitStack() as judging:
                if judged:
                    await judging.enter_async_context(
                        receiver.validate(
                            _TOPIC, _accept, fallback=ValidationFallback.HOLD, max_waiting=min(count, 1 << 20)
                        )
                    )
                p50, p99 = await _one_by_one(sender, messages)
                rate = await _in_bulk(sender, messages, count)
            rows.append(f"| {'judged' if judged else 'not judged'} | {p50:.2f} / {p99:.2f} ms | {rate:,.0f}/s |")
    return rows


async def _run(count: int, rounds: int) -> None:
    print("| messages | from app to app, p50 / p99 | in bulk |")
    print("|---|---|---|", flush=True)
    for _ in range(rounds):
        for row in await _round(count):
            print(row, flush=True)
    print(f"\n{page.facts('bench.verdicts')}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.verdicts", description=__doc__.partition("\n")[0])
    parser.add_argument("--messages", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_run(arguments.messages, arguments.rounds))


if __name__ == "__main__":
    main()
