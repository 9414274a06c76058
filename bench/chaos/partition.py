"""A network is cut in two, 20 to 80 percent of its nodes, while all publish on a topic, and is whole again.

Each node has a network namespace of its own; a router in user space carries packets between them, and none across the
cut. It takes Linux and root. A minute is shorter than it takes all connections across the cut to be given up, and
longer than what neighbours remember of a topic.
"""

import asyncio
import sys
import time
from collections.abc import Callable
from pathlib import Path

from bench.chaos.mesh import history, mesh
from bench.chaos.node import PATIENCE, Node
from bench.chaos.scene import Found, Plan, Scene, Skipped
from bench.chaos.traffic import Listener, Publisher, running, until
from bench.namespaces import LabUnavailable
from bench.probes.lab import Host, hosts_of, routed

_TOPIC = "chaos-partition"
_DELAY = 0.002  # seconds one way
_HEALED = 5.0  # seconds after which all must have all
_BEFORE = 3.0  # seconds of messages before the cut


class _Apps:
    """A listener and a publisher of each node."""

    def __init__(self, nodes: list[Node], rate: float) -> None:
        """`rate`: messages a second, of all together."""
        self.listeners = [Listener(node, _TOPIC) for node in nodes]
        self.publishers = [
            Publisher(node, _TOPIC, f"p{number}", rate / len(nodes), minimum_peers=0)
            for number, node in enumerate(nodes)
        ]

    async def play(self, cut: Callable[[], None], heal: Callable[[], None], seconds: float, after: float) -> float:
        """Let them work while the network is cut for so long, and after; the moment of the heal."""
        async with running(*(listener.run() for listener in self.listeners)):
            for listener in self.listeners:
                await listener.there.wait()
            loads = [asyncio.ensure_future(publisher.run()) for publisher in self.publishers]
            try:
                await asyncio.sleep(_BEFORE)
                cut()
                await asyncio.sleep(seconds)
                heal()
                healed = time.monotonic()
                await asyncio.sleep(after)
            finally:
                for publisher in self.publishers:
                    publisher.stop()
                async with asyncio.timeout(PATIENCE):
                    await asyncio.gather(*loads)
            await until(lambda: not self.missing(time.monotonic(), time.monotonic()), _HEALED)
        return healed

    @property
    def published(self) -> dict[str, float]:
        return {text: at for publisher in self.publishers for text, at in publisher.published.items()}

    def missing(self, moment: float, published_until: float) -> int:
        """Deliveries of what was published until some moment that had not happened at another one."""
        texts = [text for text, at in self.published.items() if at < published_until]
        return sum(listener.got.get(text, moment) >= moment for text in texts for listener in self.listeners)


def _delays(count: int, cut: int) -> list[list[float | None]]:
    """One way, between all; `cut`: none between so many and the others."""
    return [[_DELAY if (one < cut) == (other < cut) else None for other in range(count)] for one in range(count)]


async def play(place: Path, nodes: int, cut: int, seconds: float, after: float, rate: float, *, kept: bool) -> Found:
    """`cut`: how many are apart, for `seconds`; it goes on for `after` seconds then.

    `rate`: messages a second, of all together. `kept`: the topic has a history.
    """
    whole = [[_DELAY] * nodes for _ in range(nodes)]
    flags = history(_TOPIC) if kept else ()
    try:
        with (
            hosts_of(nodes) as hosts,
            routed([host.device for host in hosts], whole, [[host.address] for host in hosts]) as set_delays,
        ):
            sidecars = [_node(place / f"node-{number}", host, flags) for number, host in enumerate(hosts)]
            async with mesh(sidecars):
                apps = _Apps(sidecars, rate)
                healed = await apps.play(
                    lambda: set_delays(_delays(nodes, cut)), lambda: set_delays(whole), seconds, after
                )
    except LabUnavailable as error:
        raise Skipped(str(error)) from None
    return _found(apps, f"{cut} of {nodes} nodes apart for {seconds:.0f} s", kept, healed)


def _node(home: Path, host: Host, flags: tuple[str, ...]) -> Node:
    return Node(
        home,
        *flags,
        program=host.command(sys.executable, "-m", "sidecar"),
        listen=f"/ip4/{host.address}/tcp/4747",
        descriptors=host.descriptors,
    )


def _found(apps: _Apps, what: str, kept: bool, healed: float) -> Found:
    published = [text for text, at in apps.published.items() if at < healed]
    owed = len(published) * len(apps.listeners)
    then, late = apps.missing(healed, healed), apps.missing(healed + _HEALED, healed)
    ever = apps.missing(time.monotonic(), time.monotonic())
    last = max(
        (listener.got[text] - healed for text in published for listener in apps.listeners if text in listener.got),
        default=0.0,
    )
    faults = []
    if late:
        faults.append(f"{late:,} of {owed:,} deliveries are missing {_HEALED:.0f} s after the heal")
    if ever:
        faults.append(f"{ever:,} deliveries never happened")
    repeated = sum(len(listener.repeated) for listener in apps.listeners)
    if repeated:
        faults.append(f"{repeated} deliveries happened twice")
    kind = "with" if kept else "without"
    return Found(
        f"{what}, {len(published):,} messages published until the heal; topic {kind} history: deliveries missing at "
        f"the heal {then:,} of {owed:,}, {_HEALED:.0f} s later {late:,}, at the end {ever:,}; the last of them came "
        f"{max(0.0, last):.1f} s after the heal",
        faults,
    )


async def _play(place: Path, plan: Plan) -> Found:
    return await (
        play(place, 4, 1, 3.0, 6.0, 10.0, kept=True) if plan.short else play(place, 10, 2, 60.0, 20.0, 50.0, kept=True)
    )


SCENE = Scene(
    "partition",
    "the network is cut in two, 2 nodes and 8, for 60 s under 50 messages a second, and heals: all have all within "
    "5 s, by topic history",
    _play,
)
