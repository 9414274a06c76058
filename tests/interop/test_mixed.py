"""One mesh of all implementations: sparse, with one node of each kind killed and brought back while messages pass."""

import asyncio
import itertools
import random
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path

from sidecar_client import Subscription

from tests.interop.cells import LANGUAGES, NETWORK, cell
from tests.interop.ours import Ours, our_sidecar
from tests.interop.peer import TIMEOUT, Peer, Stage

TOPIC = "mixed"
OURS = 4
THEIRS = 2  # of each implementation
MESSAGES = 1000
AT_ONCE = 10
PATIENCE = 4 * TIMEOUT
STEPS = (
    1,
    5,
)  # node i is linked with i + 1 and i + 5: four links each, fewer than gossipsub's D, so all are in the mesh


class Node:
    """A place in the mesh, ours or theirs, and whatever process fills it at the moment."""

    def __init__(self, kind: str, name: str, home: Path) -> None:
        self.kind, self.name, self._home = kind, name, home
        self.got: Counter[bytes] = Counter()
        self._stack = AsyncExitStack()
        self._node: Ours | Peer | None = None
        self._changed = asyncio.Event()
        self._reading: asyncio.Task[None] | None = None

    @property
    def up(self) -> bool:
        return self._node is not None

    @property
    def peer_id(self) -> str:
        assert self._node is not None
        return self._node.peer_id

    @property
    def address(self) -> str:
        assert self._node is not None
        return self._node.address

    async def start(self, stage: Stage) -> None:
        """Start and subscribe; what it receives from now on is counted anew."""
        self.got.clear()
        if self.kind == "ours":
            flags = ("--peers-target", "0", "--dht-mode", "client")
            ours = self._node = await self._stack.enter_async_context(our_sidecar(self._home, *flags))
            subscription = await self._stack.enter_async_context(ours.client.subscribe(TOPIC, skip_local=True))
            self._reading = asyncio.create_task(self._read_ours(subscription))
        else:
            peer = self._node = await stage.start(self.kind, self.name, network=NETWORK)
            await peer.call("subscribe", topic=TOPIC)
            self._reading = asyncio.create_task(self._read_theirs(peer))

    async def kill(self) -> None:
        """As a crash would."""
        node, self._node = self._node, None
        assert node is not None
        assert self._reading is not None
        self._reading.cancel()
        if isinstance(node, Ours):
            node.process.popen.kill()
            await self._stack.aclose()
        else:
            node.kill()
        await asyncio.gather(self._reading, return_exceptions=True)

    async def stop(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
        await self._stack.aclose()

    async def connect(self, other: "Node") -> None:
        if isinstance(self._node, Ours):
            await self._node.client.connect_peer(addresses=[other.address], timeout=TIMEOUT)
        elif self._node is not None:
            await self._node.call("connect", address=other.address)

    async def meshed(self, other: "Node") -> None:
        """Wait until the other is in our gossip mesh, where we are one of theirs: they tell."""
        if isinstance(self._node, Peer):
            await self._node.event("graft", topic=TOPIC, peer_id=other.peer_id, timeout=PATIENCE)

    async def publish(self, data: bytes) -> None:
        if isinstance(self._node, Ours):
            await self._node.client.publish(TOPIC, data, minimum_peers=1, timeout=TIMEOUT)
        elif self._node is not None:
            await self._node.publish(TOPIC, data)

    async def until_got(self, wanted: set[bytes]) -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                while not wanted <= self.got.keys():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise AssertionError(f"{self.name} has not got {sorted(wanted - self.got.keys())}") from None

    def _count(self, data: bytes) -> None:
        self.got[data] += 1
        self._changed.set()

    async def _read_ours(self, subscription: Subscription) -> None:
        async for message in subscription:
            self._count(message.data)

    async def _read_theirs(self, peer: Peer) -> None:
        while True:
            self._count((await peer.message(TOPIC, timeout=10 * PATIENCE))["data"])


class Mesh:
    """All nodes, their links, and what was published by whom."""

    def __init__(self, home: Path, rng: random.Random) -> None:
        kinds = [*itertools.repeat("ours", OURS), *(name for name in LANGUAGES for _ in range(THEIRS))]
        rng.shuffle(kinds)
        self.nodes = [Node(kind, f"{kind}-{number}", home / str(number)) for number, kind in enumerate(kinds)]
        count = len(self.nodes)
        self.links = [(i, (i + step) % count) for i in range(count) for step in STEPS]
        self._rng = rng
        self._numbers = itertools.count()

    async def link(self, fresh: list[Node]) -> None:
        """Connect nodes that have just started, and wait until gossip's mesh has their links."""
        pairs = [(self.nodes[one], self.nodes[other]) for one, other in self.links]
        pairs = [(one, other) for one, other in pairs if one in fresh or other in fresh]
        for one, other in pairs:  # who has just started dials: others may still refuse to, after dials that failed
            await (one.connect(other) if one in fresh else other.connect(one))
        both = pairs + [(other, one) for one, other in pairs]
        await asyncio.gather(*(one.meshed(other) for one, other in both if one in fresh))

    def choose_one_of_each(self) -> list[Node]:
        """One node of each kind, such that the others stay connected."""
        while True:
            chosen = [
                self._rng.choice([node for node in self.nodes if node.kind == kind]) for kind in ("ours", *LANGUAGES)
            ]
            if self._connected([node for node in self.nodes if node not in chosen]):
                return chosen

    def _connected(self, nodes: list[Node]) -> bool:
        alive = {self.nodes.index(node) for node in nodes}
        reached, frontier = set[int](), [min(alive)]
        while frontier:
            here = frontier.pop()
            reached.add(here)
            for one, other in self.links:
                for there in (other,) if one == here else (one,) if other == here else ():
                    if there in alive - reached:
                        frontier.append(there)
        return reached == alive

    async def publish(self, count: int, sources: list[Node]) -> None:
        """Publish so many messages from random nodes, and wait until all other of these nodes have them."""
        for _ in range(count // AT_ONCE):
            part = {b"message %d" % next(self._numbers): self._rng.choice(sources) for _ in range(AT_ONCE)}
            await asyncio.gather(*(source.publish(data) for data, source in part.items()))
            for node in sources:
                try:
                    await node.until_got({data for data, source in part.items() if source is not node})
                except AssertionError as error:
                    raise AssertionError(f"{error} of {[(d, s.name) for d, s in part.items()]}") from None


@cell("mixed mesh", "12 nodes, one of each kind killed and back: every message once", each=False)
def test_every_message_once(tmp_path: Path) -> None:
    seed = random.randrange(1 << 32)

    async def scenario() -> None:
        mesh = Mesh(tmp_path, random.Random(seed))
        async with Stage() as stage, AsyncExitStack() as ends:
            for node in mesh.nodes:
                ends.push_async_callback(node.stop)
                await node.start(stage)
            await mesh.link(mesh.nodes)
            chosen = mesh.choose_one_of_each()
            staying = [node for node in mesh.nodes if node not in chosen]

            await mesh.publish(MESSAGES // 4, mesh.nodes)
            # While they die and while they return, the others go on.
            await asyncio.gather(mesh.publish(MESSAGES // 4, staying), *(node.kill() for node in chosen))

            async def back() -> None:
                for node in chosen:
                    await node.start(stage)
                await mesh.link(chosen)

            await asyncio.gather(mesh.publish(MESSAGES // 4, staying), back())
            await mesh.publish(MESSAGES // 4, mesh.nodes)
            for node in mesh.nodes:
                assert set(node.got.values()) == {1}, (node.name, node.got.most_common(3))

    try:
        asyncio.run(scenario())
    except BaseException as error:
        error.add_note(f"seed {seed}")
        raise
