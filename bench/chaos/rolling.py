"""All nodes of a mesh are restarted in order, one after the other, while their apps go on.

Each node has apps: one sends durable messages to the others, one settles those that come, one publishes on a topic, one
reads it, and one makes requests of the others, which another one answers. A node is told to end (SIGTERM), drains, is
started again, and once it is ready the next one's turn comes.
"""

import asyncio
import time
from collections import Counter
from functools import partial
from pathlib import Path

from bench.chaos.mesh import history, mesh
from bench.chaos.node import PATIENCE, Node
from bench.chaos.scene import Found, Plan, Scene
from bench.chaos.traffic import Asker, Inbox, Listener, Publisher, Sender, echo, running, until, until_true

_TOPIC, _DURABLE, _ASK = "chaos-rolling", "/chaos/rolling/1", "/chaos/rolling/ask/1"
_REST = 1.0  # seconds of traffic between two restarts
_CATCH_UP = 30.0  # seconds for what a topic with history owes


class _Apps:
    """All apps of all nodes."""

    def __init__(self, nodes: list[Node], rate: float) -> None:
        """`rate`: of each kind of message, a second and node."""
        self._nodes = nodes
        self.inboxes = [Inbox(node, _DURABLE) for node in nodes]
        self.listeners = [Listener(node, _TOPIC) for node in nodes]
        self.publishers = [Publisher(node, _TOPIC, f"p{number}", rate) for number, node in enumerate(nodes)]
        self.senders, self.askers = [], []
        for number, node in enumerate(nodes):
            others = [other for other in nodes if other is not node]
            self.senders.append(Sender(node, others, _DURABLE, f"s{number}", rate))
            self.askers.append(Asker(node, others, _ASK, rate))

    async def play(self, rounds: int, kept: bool, faults: list[str]) -> float:
        """Let them work while all nodes are restarted; the longest restart in seconds. `kept`: with history."""
        receiving = [inbox.run() for inbox in self.inboxes] + [echo(node, _ASK) for node in self._nodes]
        async with running(*receiving, *(listener.run() for listener in self.listeners)):
            for listener in self.listeners:
                await listener.there.wait()
            working: list[Publisher | Sender | Asker] = [*self.publishers, *self.senders, *self.askers]
            loads = [asyncio.ensure_future(each.run()) for each in working]
            try:
                slowest = await _restart_all(self._nodes, rounds, faults)
            finally:
                for each in working:
                    each.stop()
                async with asyncio.timeout(2 * PATIENCE):
                    await asyncio.gather(*loads)
            await until(lambda: not self.unsettled())
            await until(lambda: not self.missed(), _CATCH_UP if kept else 0.0)
        for node in self._nodes:
            if not await until_true(partial(_outbox_empty, node)):
                faults.append(f"{node.home.name} has messages in its outbox for ever")
        return slowest

    @property
    def stored(self) -> int:
        return sum(len(sender.stored) for sender in self.senders)

    def unsettled(self) -> list[str]:
        """Durable messages that were stored and did not come to their end."""
        inboxes = {id(node): inbox for node, inbox in zip(self._nodes, self.inboxes, strict=True)}
        stored = (each for sender in self.senders for each in sender.stored)
        return [text for to, text in stored if text not in inboxes[id(to)].settled]

    @property
    def published(self) -> list[str]:
        return [text for publisher in self.publishers for text in publisher.published]

    def missed(self) -> int:
        """Deliveries of the topic that did not happen."""
        published = self.published
        return sum(len(listener.missing(published)) for listener in self.listeners)

    def requests(self) -> tuple[Counter[str], float]:
        """How they ended, and how many seconds the longest took."""
        return sum((asker.ended for asker in self.askers), Counter()), max(asker.longest for asker in self.askers)


async def play(place: Path, nodes: int, rate: float, rounds: int, *, kept: bool) -> Found:
    """`rate`: of each kind of message, a second and node. `kept`: the topic has a history."""
    flags = history(_TOPIC) if kept else ()
    sidecars = [Node(place / f"node-{number}", *flags) for number in range(nodes)]
    faults: list[str] = []
    async with mesh(sidecars):
        apps = _Apps(sidecars, rate)
        slowest = await apps.play(rounds, kept, faults)
    if lost := apps.unsettled():
        faults.append(f"{len(lost)} durable messages were not settled, such as {lost[0]}")
    faults += [fault for inbox in apps.inboxes for fault in inbox.faults]
    missed = apps.missed()
    if kept and missed:
        faults.append(f"{missed} deliveries of a topic with history are missing")
    ended, longest = apps.requests()
    answered = ended.pop("answered", 0)
    if ended.pop("wrong", 0):
        faults.append("a request was answered with another's answer")
    failed = ", ".join(f"{name} {count}" for name, count in sorted(ended.items())) or "none"
    return Found(
        f"{rounds * nodes} restarts, at most {slowest:.1f} s from SIGTERM until ready again; {len(lost)} of "
        f"{apps.stored:,} durable messages lost; topic {'with' if kept else 'without'} history: {missed} of "
        f"{len(apps.published) * nodes:,} deliveries missed; requests: {answered:,} answered, failed: {failed}; the "
        f"longest took {longest:.1f} s",
        faults,
    )


async def _restart_all(sidecars: list[Node], rounds: int, faults: list[str]) -> float:
    """One after the other; the longest time from SIGTERM until one is ready again."""
    slowest = 0.0
    for node in sidecars * rounds:
        await asyncio.sleep(_REST)
        begun = time.monotonic()
        status = await node.terminate()
        if status != 0:
            faults.append(f"{node.home.name} ended with status {status} at SIGTERM")
        await node.start(until="Ready after")
        slowest = max(slowest, time.monotonic() - begun)
    await asyncio.sleep(_REST)
    return slowest


async def _outbox_empty(node: Node) -> bool:
    async with node.connect() as client:
        return not await client.outbox()


async def _play(place: Path, plan: Plan) -> Found:
    return await (play(place, 3, 10.0, 1, kept=True) if plan.short else play(place, 5, 20.0, 3, kept=True))


SCENE = Scene(
    "rolling",
    "rolling restart of 5 nodes under load (SIGTERM, drain, start, ready, the next): no durable message is lost or "
    "comes out of order; a topic with history misses none",
    _play,
)
