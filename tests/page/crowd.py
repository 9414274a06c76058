"""A sidecar's API with many peers behind it that are not real: `python -m tests.page.crowd SOCKET PEERS`.

The API is the real one, over the fake node of its own tests. Peers come and go, latencies and counters change. It
ends when its input ends. Some peers and topics have hostile names with more than a hundred peers.
"""

import asyncio
import random
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from sidecar.api.backend import Backend
from sidecar.app import AGENT
from sidecar.core import gossip
from sidecar.core.events import Condition, PeerChange, PeerChanged, PeerView, ScoreView, Standing
from sidecar.core.events import Path as PeerPath
from sidecar.core.histogram import Histogram
from sidecar.core.identity import Identity
from sidecar.core.multiaddr import Multiaddr
from sidecar.core.node.statistics import GossipQueueStatistics, NodeStatistics, SwitchStatistics
from sidecar.core.types import Direction, PeerId
from sidecar.net.statistics import NetStatistics
from sidecar.process.journal import JournalEntry
from tests.api.fakes import Addresses, FakeNode, peer_view, server

HOSTILE = "<img src=x onerror=\"document.body.dataset.owned='yes'\">\x1b[2J\u202e"
_TICK = 0.25  # seconds
_UPTIME = 9000.0
_AGENTS = (AGENT, AGENT, AGENT, "go-libp2p/0.51.0", "js-libp2p/3.3.11")
_PROTOCOLS = (
    "/ipfs/id/1.0.0",
    "/ipfs/ping/1.0.0",
    "/meshsub/1.2.0",
    "/sidecar/main/direct/1",
    "/sidecar/main/kad/1.0.0",
)
# Of each topic: its name, and messages a second.
_TOPICS = (("prices/eur", 96.0), ("prices/usd", 71.0), ("sensors/roof", 23.0), ("news", 4.2), ("chat/general", 1.4),
           ("chat/support", 0.3))  # fmt: skip


@dataclass(slots=True)
class _Statistics(NodeStatistics):
    """With its driver's, which this one has not."""

    net: NetStatistics = field(default_factory=NetStatistics)


def _score(number: int) -> ScoreView:
    """Of the peer with this number: one in thirteen has come too often at once."""
    if number % 13 == 5:
        return ScoreView(-3.2, Standing.NO_MESH, (), 0.0, 0.0, -3.2, 0.0, "grafts during back-off")
    return ScoreView(0.4 * (number * 37 % 71), Standing.GOOD, (), 0.0, 0.0, 0.0, 0.0, "")


class Crowd(FakeNode):
    """`count` peers; `stir` lets some time go by."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.network = "main"
        self._many = count > 100
        self._rng = random.Random(7)
        self._ids = [Identity(number.to_bytes(32, "big")).peer_id for number in range(1, count + 1)]
        self.views = [self._view(number, peer) for number, peer in enumerate(self._ids)]
        self._topics = list(_TOPICS)
        if self._many:
            self._topics += [(HOSTILE, 1.0), *((f"topic/{n}", 1.0) for n in range(33))]
        mesh = min(8, count // 2)
        self._members = [tuple(self._rng.sample(self._ids, mesh)) for _ in self._topics]
        self._age = 0.0
        self._values = dict.fromkeys(("received", "sent", "delivered", "published", "duplicates", "queued"), 0.0)
        self._propagation = Histogram((0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0))
        self._lag = Histogram((0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25))
        for _ in range(12):
            self.stir(2.0, told=False)

    def _view(self, number: int, peer: PeerId) -> PeerView:
        hostile = self._many and number % 10 == 0
        address = Multiaddr.from_text(f"/ip4/10.{number // 62500}.{number // 250 % 250}.{number % 250 + 1}/tcp/4747")
        return peer_view(peer)._replace(
            direction=Direction.INBOUND if self._rng.random() < 0.55 else Direction.OUTBOUND,
            latency=min(1.2, 0.022 * self._rng.lognormvariate(0, 1.3)),
            agent=HOSTILE if hostile else self._rng.choice(_AGENTS),
            protocol_version="sidecar/main",
            protocols=_PROTOCOLS,
            addresses=(address,),
            remote=address,
            connected_since=time.monotonic() - self._rng.uniform(60, 0.9 * _UPTIME),
            score=_score(number),
            path=PeerPath.RELAYED_LIMITED if number % 9 == 4 else PeerPath.DIRECT,
        )

    def addresses(self) -> Addresses:
        here = Multiaddr.from_text("/ip4/10.0.0.5/tcp/4747")
        return Addresses((here,), (), (here,))

    def conditions(self) -> tuple[Condition, ...]:
        return (
            Condition("Listening", True, "Listening", "listening at /ip4/10.0.0.5/tcp/4747", "", 0.0),
            Condition("Bootstrapped", True, "HasPeers", "connected to the mesh", "", 0.0),
        )

    def topics(self) -> list[gossip.TopicView]:
        views = []
        for (name, rate), members in zip(self._topics, self._members, strict=True):
            delivered = int(rate * self._age)
            counts = gossip.TopicCounts(delivered, int(0.1 * delivered), int(2.6 * delivered), 0, delivered // 900)
            views.append(gossip.TopicView(name, True, True, tuple(self._ids), members, counts))
        return views

    def histograms(self) -> dict[str, Histogram]:
        return {"event_loop_lag_seconds": self._lag, "gossip_propagation_seconds": self._propagation}

    def statistics(self) -> NodeStatistics:
        value = {name: int(count) for name, count in self._values.items()}
        counts = gossip.GossipStatistics(
            **{name: value[name] for name in ("received", "sent", "delivered", "published", "duplicates")}
        )
        counts.dropped["queue_full"] = value["delivered"] // 900
        queues = GossipQueueStatistics(
            queued_messages=value["queued"],
            queued_bytes=value["queued"] * 512,
            fullest_queue_bytes=value["queued"] * 390,
        )
        switch = SwitchStatistics(peers_known=3 * len(self.views))
        net = NetStatistics(bytes_in=value["received"] * 412, bytes_out=value["sent"] * 405, dials_failed=2)
        return _Statistics(switch=switch, gossip=counts, gossip_queues=queues, net=net)

    def stir(self, seconds: float, *, told: bool = True) -> None:
        """Latencies change, counters grow; of many peers some leave and come back."""
        self._age += seconds
        load = 1 + 0.25 * self._rng.random()
        for name, rate in (
            ("received", 705),
            ("sent", 610),
            ("delivered", 196),
            ("published", 20),
            ("duplicates", 509),
        ):
            self._values[name] += rate * load * seconds
        self._values["queued"] = self._rng.randrange(24)
        for _ in range(int(8 * seconds)):
            self._propagation.observe(0.012 * self._rng.lognormvariate(0, 0.9))
            self._lag.observe(0.0012 * self._rng.lognormvariate(0, 0.5))
        for index, view in enumerate(self.views):
            if told and self._many and self._rng.random() < (0.003 if view.connected else 0.3):
                self.views[index] = view._replace(connected=not view.connected)
                change = PeerChange.DISCONNECTED if view.connected else PeerChange.CONNECTED
                self.on_news(PeerChanged(change, self.views[index]))
            else:
                self.views[index] = view._replace(latency=(view.latency or 0.1) * self._rng.uniform(0.97, 1.03))


def _tell(backend: Backend) -> None:
    """Some records for the log."""
    now = time.time()
    for ago, severity, part, text in (
        (8998, "info", "net.runtime", "listening on /ip4/10.0.0.5/tcp/4747"),
        (8998, "info", "api.server", "API at unix:/run/sidecar/api.sock"),
        (8996, "warning", "app", "not ready: Bootstrapped: no bootstrap peer has answered yet"),
        (8990, "info", "app", "ready"),
        (
            1240,
            "warning",
            "net.dialer",
            "[9v3kTqPe] cannot be reached: no answer from /ip4/10.0.3.9/tcp/4747 within 5 s",
        ),
        (74, "info", "node", "[h2aXfQ8d] another network: 'staging', this one is 'main'; disconnected"),
    ):
        backend.log.journal.append(JournalEntry(now - ago, severity, part, text, {}))


async def main(socket: str, count: int) -> None:
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), ended.set)
    async with server(Path(socket), Crowd(count)) as (node, backend, _):
        assert isinstance(node, Crowd)
        backend.node_service.started -= _UPTIME
        _tell(backend)
        print("serving", flush=True)
        while not ended.is_set():
            node.stir(_TICK)
            try:
                await asyncio.wait_for(ended.wait(), _TICK)
            except TimeoutError:
                continue


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
