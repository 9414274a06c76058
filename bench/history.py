"""What topic history costs: CPU and messages a second with it and without, and that nothing is missing on disk.

    python -m bench.history [--pairs 2] [--rounds 4] [--seconds 2]

Three pairs of sidecars gossip messages of 100 B from app to app in turns: one without history, one that keeps the topic
on disk at both ends, one that keeps another topic. CPU is that of the two sidecars for each message; a flood ends when
the receiver has everything. At the end what is on disk is counted, and read back by a subscriber. Apps and sidecars
share the machine, which should be idle otherwise.
"""

import argparse
import asyncio
import contextlib
import statistics
import sys
import time
from collections.abc import AsyncIterator
from typing import NamedTuple

import sidecar_client
from sidecar_client.v1 import pubsub_pb2

from bench.apps import Node
from bench.gossip_pair import KINDS, GossipPair, cpu_ns
from bench.sidecars import Sidecar

_FEW = ("--api-history-messages", "1000")  # in memory, so that what is read back comes from the disk
FLAGS: dict[str, tuple[str, ...]] = {
    "without": _FEW,
    "with history": (*_FEW, "--history-topics", "*"),
    "history of another topic": (*_FEW, "--history-topics", "another"),
}


class Round(NamedTuple):
    """The sidecars' CPU for a message in microseconds, and messages a second, of each kind of pair."""

    cpu: dict[str, float]
    rate: dict[str, float]


class Reread(NamedTuple):
    """What a subscriber read back from disk: messages, a second, and the sidecar's CPU for each in microseconds."""

    messages: int
    rate: float
    cpu: float


class _Pair(GossipPair):
    """One that counts what it sent."""

    sent = 0

    async def flood(
        self, sender: Node, receiver: Node, size: int, count: int, window: int, subscribers: int = 1
    ) -> float:
        """As any, and counted."""
        self.sent += count
        return await super().flood(sender, receiver, size, count, window, subscribers)


@contextlib.asynccontextmanager
async def _asked(sidecar: Node) -> AsyncIterator[sidecar_client.Client]:
    assert isinstance(sidecar, Sidecar)
    async with sidecar_client.connect(f"unix:{sidecar.socket}") as client:
        yield client


async def _stored(client: sidecar_client.Client, sent: int) -> None:
    """Wait until all that was sent is on disk; raises RuntimeError where it is not to come."""
    deadline = time.monotonic() + 10.0
    while True:
        topics = (await client._pubsub.ListTopics(pubsub_pb2.ListTopicsRequest())).topics
        found = next((topic for topic in topics if topic.stored_messages), None)
        stored, gap = (found.stored_messages, found.history_gap) if found is not None else (0, "")
        if stored == sent:
            return
        if gap or time.monotonic() > deadline:
            raise RuntimeError(f"{stored} of {sent} messages are on disk; {gap or 'no reason is given'}")
        await asyncio.sleep(0.05)


async def _read_back(pair: _Pair) -> Reread:
    """Read everything of the receiver's disk. Raises RuntimeError where something is missing."""
    assert isinstance(pair.receiver, Sidecar)
    async with _asked(pair.sender) as client:
        await _stored(client, pair.sent)
    async with _asked(pair.receiver) as client:
        await _stored(client, pair.sent)
        topics = (await client._pubsub.ListTopics(pubsub_pb2.ListTopicsRequest())).topics
        name = next(topic.name for topic in topics if topic.stored_messages)
        before, started, count = cpu_ns(pair.receiver.pid), time.monotonic(), 0
        request = pubsub_pb2.SubscribeRequest(topics=[name], from_beginning=True)
        call = client._pubsub.Subscribe(request)
        while count < pair.sent:
            response = await call.read()
            if response.HasField("lagged"):
                raise RuntimeError(f"a reader of everything was told of a gap: {response.lagged}")
            count += len(response.messages)
        took = time.monotonic() - started
        call.cancel()
        return Reread(count, count / took, (cpu_ns(pair.receiver.pid) - before) / count / 1e3)


async def rounds(signed: bool, pairs: int, number: int, seconds: float) -> tuple[list[Round], list[Reread]]:
    """Interleaved rounds; which pair begins changes from one to the next."""
    found: list[Round] = []
    read: list[Reread] = []
    kind = "signed" if signed else "unsigned"
    for started in range(pairs):
        async with contextlib.AsyncExitStack() as stack:
            each = {
                name: await stack.enter_async_context(_Pair.started(signed, *flags)) for name, flags in FLAGS.items()
            }
            for pair in each.values():
                await pair.settle(seconds)
            for pair in each.values():
                pair.count = each["without"].count
            names = list(each)
            for turn in range(number):
                shift = (started + turn) % len(names)
                costs = {name: await each[name].measure() for name in names[shift:] + names[:shift]}
                found.append(
                    Round({name: cost[0] for name, cost in costs.items()}, {n: cost[1] for n, cost in costs.items()})
                )
                print(f"{kind}: {found[-1]}", file=sys.stderr, flush=True)
            read.append(await _read_back(each["with history"]))
    return found, read


def table(kind: str, found: list[Round], read: list[Reread]) -> str:
    """Medians, and the ratios of rounds to that without history."""
    lines = [f"{kind} gossip 100 B", f"{'':28}{'CPU':>10}{'ratio':>8}{'messages/s':>13}{'ratio':>8}"]
    for name in FLAGS:
        cpu = statistics.median(one.cpu[name] for one in found)
        rate = statistics.median(one.rate[name] for one in found)
        more = statistics.median(one.cpu[name] / one.cpu["without"] for one in found)
        less = statistics.median(one.rate[name] / one.rate["without"] for one in found)
        lines.append(f"  {name:26}{cpu:7.2f} us{more:8.3f}{rate:13,.0f}{less:8.3f}")
    messages = sum(one.messages for one in read)
    rate, cpu = (statistics.median(one[place] for one in read) for place in (1, 2))
    lines.append(f"  all of {messages:,} messages on both disks; read back at {rate:,.0f}/s, {cpu:.2f} us each")
    return "\n".join(lines)


async def run(pairs: int, number: int, seconds: float) -> str:
    """Measure each kind."""
    tables = []
    for kind, signed in KINDS.items():
        tables.append(table(kind, *await rounds(signed, pairs, number, seconds)))
    return "\n".join(tables)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=2, help="how often sidecars are started anew")
    parser.add_argument("--rounds", type=int, default=4, help="with each of them")
    parser.add_argument("--seconds", type=float, default=2.0, help="for each pair of a round")
    options = parser.parse_args()
    print(asyncio.run(run(options.pairs, options.rounds, options.seconds)))
