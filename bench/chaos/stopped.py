"""One of six nodes stops (SIGSTOP) for a minute, so that it holds its connections and reads nothing, and goes on.

The five others publish on a topic, and one of them sends durable messages to the one that stops. Spans of time with all
nodes at work and spans without the one alternate in one run, and of each are measured how long messages among the five
others take.
"""

import asyncio
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from bench.chaos.mesh import history, mesh
from bench.chaos.node import PATIENCE, Node
from bench.chaos.scene import Found, Plan, Scene
from bench.chaos.traffic import Inbox, Listener, Publisher, Sender, running, until

_TOPIC, _DURABLE = "chaos-stopped", "/chaos/stopped/1"
_NODES = 6
_WORSE = 1.2  # times that the others' p99 may be what it is while all work
_CATCH_UP = 30.0  # seconds that the one has for what a topic with history owes it
_CHANGE = 5.0  # seconds after it goes on, or a start, that do not count as all at work; at most half of a span


class _Span(NamedTuple):
    """A time with or without the one."""

    stopped: bool
    begun: float
    ended: float


class _Apps:
    """All apps of all nodes; the last node is the one that stops."""

    def __init__(self, nodes: list[Node], rate: float) -> None:
        """`rate`: publications a second and node, and durable messages a second."""
        *others, self._one = nodes
        self.listeners = [Listener(node, _TOPIC) for node in nodes]
        self.publishers = [Publisher(node, _TOPIC, f"p{number}", rate) for number, node in enumerate(others)]
        self.sender, self.inbox = Sender(others[0], [self._one], _DURABLE, "s", rate), Inbox(self._one, _DURABLE)

    async def play(self, span: float, spans: int) -> list[_Span]:
        """Let them work, and stop the one now and then."""
        async with running(*(listener.run() for listener in self.listeners), self.inbox.run()):
            for listener in self.listeners:
                await listener.there.wait()
            loads = [asyncio.ensure_future(publisher.run()) for publisher in self.publishers]
            loads.append(asyncio.ensure_future(self.sender.run()))
            try:
                measured = await _spans(self._one, span, spans)
            finally:
                self._one.thaw()
                for publisher in self.publishers:
                    publisher.stop()
                self.sender.stop()
                async with asyncio.timeout(2 * PATIENCE):
                    await asyncio.gather(*loads)
            await until(lambda: not self.unsettled())
            await until(lambda: not any(listener.missing(self.published) for listener in self.listeners), _CATCH_UP)
        return measured

    @property
    def published(self) -> dict[str, float]:
        return {text: at for publisher in self.publishers for text, at in publisher.published.items()}

    def unsettled(self) -> list[str]:
        return [text for _, text in self.sender.stored if text not in self.inbox.settled]

    def p99(self, spans: Iterable[_Span]) -> float:
        """Of what the others published within these spans, until the others had it; seconds."""
        delays = [
            listener.got[text] - at
            for text, at in self.published.items()
            if any(span.begun <= at < span.ended for span in spans)
            for listener in self.listeners[:-1]
            if text in listener.got
        ]
        return sorted(delays)[int(len(delays) * 0.99)]


async def play(place: Path, span: float, spans: int, rate: float, *, kept: bool, judge: bool) -> Found:
    """`span`: seconds of each; `spans`: how often the one stops. `rate`: publications a second and node.

    `kept`: the topic has a history. `judge`: hold the others' p99 to its bound; where few messages are measured, it
    says little.
    """
    flags = history(_TOPIC) if kept else ()
    nodes = [Node(place / f"node-{number}", *flags) for number in range(_NODES)]
    async with mesh(nodes):
        apps = _Apps(nodes, rate)
        measured = await apps.play(span, spans)
    faults = list(apps.inbox.faults)
    lost, published = len(apps.unsettled()), apps.published
    if lost:
        faults.append(f"{lost} durable messages are lost")
    missed = len(apps.listeners[-1].missing(published))
    if kept and missed:
        faults.append(f"{missed} messages of a topic with history did not reach the one that stopped")
    among = sum(len(listener.missing(published)) for listener in apps.listeners[:-1])
    if among:
        faults.append(f"{among} deliveries among the others are missing")
    without = apps.p99([each for each in measured if each.stopped])
    with_all = apps.p99([each for each in measured if not each.stopped])
    if judge and without > _WORSE * with_all:
        faults.append(f"the others' p99 is {without / with_all:.2f} times what it is while all work")
    return Found(
        f"{spans} stops of {span:.0f} s between spans as long; p99 among the others {without * 1000:.1f} ms, while all "
        f"work {with_all * 1000:.1f} ms: {without / with_all:.2f} times; durable messages for the one: {lost} of "
        f"{len(apps.sender.stored):,} lost; topic {'with' if kept else 'without'} history: it missed {missed:,} of "
        f"{len(published):,}",
        faults,
    )


async def _spans(one: Node, span: float, spans: int) -> list[_Span]:
    """With all, without the one, with all, and so on."""
    measured = []
    for number in range(2 * spans + 1):
        if number % 2:
            one.freeze()
        else:
            one.thaw()
        begun = time.monotonic()
        await asyncio.sleep(span)
        begun += 0.0 if number % 2 else min(_CHANGE, span / 2)
        measured.append(_Span(bool(number % 2), begun, time.monotonic()))
    return measured


async def _play(place: Path, plan: Plan) -> Found:
    if plan.short:
        return await play(place, 3.0, 1, 4.0, kept=True, judge=False)
    return await play(place, 60.0, 2, 10.0, kept=True, judge=True)


SCENE = Scene(
    "stopped",
    "one of six nodes is stopped (SIGSTOP) for 60 s and goes on: the others' p99 of a topic stays within 1.2 times, "
    "and it gets everything: what is durable, and a topic with history",
    _play,
)
