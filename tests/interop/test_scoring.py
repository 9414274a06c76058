"""Sidecars and peers that score each other, in one mesh under load: whoever behaves well is never below 0."""

import asyncio
import base64
import itertools
import os
import time
from contextlib import AsyncExitStack, aclosing
from pathlib import Path
from typing import Any

from sidecar_client import PeerEventType, Subscription

from tests.interop.cells import NETWORK, cell
from tests.interop.ours import Ours, our_sidecar
from tests.interop.peer import TIMEOUT, Peer, Stage

# Seconds: 600 heartbeats take a minute. Of py-libp2p 0.8.1 that shows what a heartbeat of a second hides. Its program
# (`peers/py/gossip.py`) takes the first of these out of the measurement; the others are its own, and are few enough.
#
#     router = GossipSub([PROTOCOL_ID], 3, 2, 4)
#     # IHAVE and IWANT are counted by the second, whatever the heartbeat is: what comes once in each of these, and a
#     # little early, is misbehaviour (a penalty for spam by IHAVE, in the parts of a failure), 50 points each time.
#     for _ in range(11): router._check_ihave_rate_limit("A", "one"); time.sleep(0.09)
#     router.scorer.ihave_spam_penalties  # {"A": 5.0}
#     # B gets the GRAFTs of A as well, be it in a back-off or not; and C is pruned without one, and grafted again soon.
#     router.emit_control_message = show
#     await router._emit_control_msgs({"A": ["one"], "B": ["two"]}, {"C": ["one"]}, {})
#     # A: graft one. B: graft one, two. C: prune one, backoff 0; router.back_off is {}
#     # Back-offs end with a whole second of the clock: one of a second, begun at 0.8, is over after 0.2.
#     router._add_back_off("A", "one", False, 1)
BEAT = 0.1
RATE = 5  # messages a second that are expected of the steady topic; there are more, unless the machine is overloaded
DEGREE = 4  # of seven others each has so few in its mesh: the others get IHAVE
SIZES = (100, 700, 1500, 6000)  # bytes; go announces from 1024 on by IDONTWANT, we and js from 512
STEADY, FLEETING = "steady", "fleeting"
PATIENCE = 2 * TIMEOUT
COUNTED = ("grafts_sent", "grafts_received", "prunes_sent", "prunes_received", "ihave_ids_received", "iwant_ids_sent",
           "iwant_ids_received", "idontwant_ids_sent", "idontwant_ids_received")  # fmt: skip


class Node:
    """A sidecar of ours or a peer, and what has reached it on the steady topic."""

    def __init__(self, node: Ours | Peer) -> None:
        self.node = node
        self.got: set[str] = set()  # as base64
        self.changed = asyncio.Event()
        self._fleeting: Any = None

    @property
    def peer_id(self) -> str:
        return self.node.peer_id

    async def connect(self, other: "Node") -> None:
        if isinstance(self.node, Ours):
            await self.node.client.connect_peer(addresses=[other.node.address], timeout=TIMEOUT)
        else:
            await self.node.call("connect", address=other.node.address)

    async def join(self, ends: AsyncExitStack, tasks: asyncio.TaskGroup) -> None:
        """Subscribe to the steady topic."""
        if isinstance(self.node, Ours):
            subscription = await ends.enter_async_context(self.node.client.subscribe(STEADY, skip_local=True))
            reading = tasks.create_task(self._read(subscription))
            ends.callback(reading.cancel)
        else:
            self.node.divert("message", self._take)
            self.node.divert("idontwant", lambda line: None)
            await self.node.call("subscribe", topic=STEADY)

    async def come_or_go(self) -> None:
        """Subscribe to the fleeting topic, or leave it."""
        if isinstance(self.node, Peer):
            await self.node.call("unsubscribe" if self._fleeting else "subscribe", topic=FLEETING)
            self._fleeting = not self._fleeting
        elif self._fleeting is None:
            self._fleeting = self.node.client.subscribe(FLEETING)
            await self._fleeting.__aenter__()
        else:
            await self._fleeting.__aexit__(None, None, None)
            self._fleeting = None

    async def publish(self, topic: str, data: bytes) -> None:
        if isinstance(self.node, Ours):
            await self.node.client.publish(topic, data, minimum_peers=1, timeout=TIMEOUT)
        else:
            await self.node.publish(topic, data)

    async def until_got(self, wanted: set[str]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not wanted <= self.got:
                self.changed.clear()
                await self.changed.wait()
        self.got -= wanted

    async def knows(self, count: int, topic: str) -> None:
        """Wait until it knows so many others to be in a topic."""
        async with asyncio.timeout(PATIENCE):
            while True:
                if isinstance(self.node, Ours):
                    known = sum(found.peers for found in await self.node.client.topics() if found.name == topic)
                else:
                    known = len((await self.node.call("topic_peers", topic=topic))["peers"])
                if known >= count:
                    return

    def _take(self, line: dict[str, Any]) -> None:
        if line["topic"] == STEADY:
            self.got.add(line["data"])
            self.changed.set()

    async def _read(self, subscription: Subscription) -> None:
        async for message in subscription:
            self.got.add(encoded(message.data))
            self.changed.set()


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


class Watched:
    """The scores that a sidecar gives to peers, over the whole of a test."""

    def __init__(self, ours: Ours, theirs: set[str]) -> None:
        self._ours, self._theirs = ours, theirs
        self.lowest: dict[str, float] = {}
        self.fallen: list[str] = []

    async def look(self) -> None:
        async for peer in self._ours.client.peers(connected_only=True):
            if peer.peer_id in self._theirs and peer.score is not None:
                self.lowest[peer.peer_id] = min(peer.score.score, self.lowest.get(peer.peer_id, peer.score.score))

    async def follow(self) -> None:
        """Note whoever passes a threshold, were it for a moment."""
        async with aclosing(self._ours.client.watch_peers()) as events:
            async for event in events:
                if event.type is PeerEventType.SCORED and event.peer is not None and event.peer.peer_id in self._theirs:
                    self.fallen.append(f"{event.peer.peer_id}: {event.reason}")


async def keep_scores(
    language: str, home: Path, *, each: int, beats: int, degree: int | None = None, rate: int = 0
) -> dict[str, int]:
    """Let so many of each kind gossip for so long; what our counters show then, added up.

    `rate`: messages a second that are expected of the steady topic; 0: not known, and nobody is blamed for few (P3).
    """
    beat_ms = int(BEAT * 1000)
    expected = f"{STEADY}={rate}"
    flags = ["--peers-target", "0", "--dht-mode", "client", "--api-linger", "0"]
    flags += ["--gossip-heartbeat-interval", str(BEAT)]
    if rate:
        flags += ["--score-expected-rates", expected]
    if degree is not None:
        flags += ["--gossip-degree", str(degree), "--gossip-degree-low", str(degree - 1), "--gossip-degree-out", "1"]
        flags += ["--gossip-degree-high", str(degree + 1)]
    async with Stage() as stage, asyncio.TaskGroup() as tasks, AsyncExitStack() as ends:
        sidecars = [await ends.enter_async_context(our_sidecar(home / str(number), *flags)) for number in range(each)]
        peers = [
            await stage.start(
                language, f"peer{number}", network=NETWORK, heartbeat_ms=beat_ms, degree=degree,
                expected_rate=expected if rate else None,
            )
            for number in range(each)
        ]  # fmt: skip
        ours, theirs = [Node(sidecar) for sidecar in sidecars], [Node(peer) for peer in peers]
        nodes = [node for pair in zip(ours, theirs, strict=True) for node in pair]
        watches = [Watched(sidecar, {peer.peer_id for peer in peers}) for sidecar in sidecars]
        for watch in watches:
            ends.callback(tasks.create_task(watch.follow()).cancel)
        for one, other in itertools.combinations(nodes, 2):
            await one.connect(other)
        for node in nodes:
            await node.join(ends, tasks)
        stayers = [*ours[1:], *theirs[1:]]  # in the fleeting topic; the first of each kind comes and goes
        for node in stayers:
            await node.come_or_go()
        for node in nodes:
            await node.knows(len(nodes) - 1, STEADY)
        for node in stayers:
            await node.knows(len(stayers) - 1, FLEETING)

        publishers = nodes[:-2] + theirs[-1:] if each > 2 else nodes  # one of ours only passes on
        sizes = itertools.cycle(SIZES)
        began, count = time.monotonic(), 0
        while time.monotonic() < began + beats * BEAT:
            count += len(publishers)
            batch = {node: os.urandom(next(sizes)) for node in publishers}
            await asyncio.gather(*(node.publish(STEADY, data) for node, data in batch.items()))
            await asyncio.gather(*(node.publish(FLEETING, data) for node, data in batch.items() if node in stayers))
            for node in nodes:
                await node.until_got({encoded(data) for source, data in batch.items() if source is not node})
            await asyncio.gather(ours[0].come_or_go(), theirs[0].come_or_go(), *(watch.look() for watch in watches))

        pace = count / (time.monotonic() - began)
        assert pace > rate, f"{pace:.1f} messages a second: too busy a machine for a topic of {rate} a second"
        us = {sidecar.peer_id for sidecar in sidecars}
        told = [await peer.call("scores") for peer in peers]
        for scores in told:
            assert us <= scores["lowest"].keys()
            below = {name: scores["lowest"][name] for name in us if scores["lowest"][name] < 0}
            assert not below, (below, {name: scores.get("parts", {}).get(name) for name in below})
        for watch in watches:
            assert watch.lowest.keys() == {peer.peer_id for peer in peers}
            assert min(watch.lowest.values()) >= 0, watch.fallen
            assert not watch.fallen
        lowest = [peer_scores["lowest"][name] for peer_scores in told for name in us]
        charged = max((s["penalties"].get(name, 0) for s in told if "penalties" in s for name in us), default="?")
        print(f"their lowest of us {min(lowest):.2f}, ours of them {min(min(w.lowest.values()) for w in watches):.2f}")
        print(f"the most misbehaviour that they counted of us: {charged}")
        counted = [await sidecar.client.statistics() for sidecar in sidecars]
        return {name: sum(int(counts[f"gossip_{name}"]) for counts in counted) for name in COUNTED}


@cell("scoring", "a mesh that publishes, comes and goes: nobody's score of the other falls below 0", quick=True)
def test_scores_stay_at_0_or_above(language: str, tmp_path: Path) -> None:
    counted = asyncio.run(keep_scores(language, tmp_path, each=2, beats=20))
    assert counted["grafts_received"]
    assert counted["grafts_sent"]


@cell("scoring", "the same for 600 heartbeats among eight, with P3, IHAVE, IWANT, IDONTWANT, GRAFT and PRUNE")
def test_scores_stay_at_0_or_above_for_600_heartbeats(language: str, tmp_path: Path) -> None:
    counted = asyncio.run(keep_scores(language, tmp_path, each=4, beats=600, degree=DEGREE, rate=RATE))
    print(counted)
    assert all(counted.values()), counted
