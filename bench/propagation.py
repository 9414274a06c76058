"""How messages spread through a simulated mesh: copies, bytes and delays, and who misses what when nodes are killed.

`python -m bench.propagation --nodes 200 --connections 20 --seeds 1,2,3` prints a line for each seed and their mean.
`--set flood_peers=8` sets a parameter of gossip (`GossipConfig`). Time is virtual: equal arguments give equal figures
on any machine, and what two lines differ in is due to the code or the parameters.
"""

import argparse
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from statistics import mean

from sidecar.core import events, gossip
from sidecar.core.node import NodeConfig, NodeNews
from sidecar.core.parameters import GossipConfig
from sidecar.sim import LinkModel, SimPeer, Simulation

TOPIC = "news"
_SETTLE = 15.0  # virtual seconds until the mesh is at rest
_SPREAD = 8.0  # virtual seconds in which a message may arrive: three heartbeats of gossip and more


class Mesh:
    """Nodes joined at random, each by as many connections, and what became of the messages they publish."""

    def __init__(
        self,
        seed: int,
        nodes: int,
        connections: int,
        config: GossipConfig,
        model: LinkModel,
        options: gossip.TopicOptions,
    ) -> None:
        self.rng = random.Random(f"propagation {seed}")
        self.simulation = Simulation(seed, model)
        self.taken = 0  # bytes that left nodes
        self.published: dict[bytes, float] = {}
        self.arrived: dict[bytes, list[float]] = {}  # delays at others than the publisher
        self._got: dict[bytes, set[int]] = {}
        # Only the connections that are made here: no lookups, and nothing sought.
        node = NodeConfig(target_peers=1, high_water=0, dht_server=False, gossip=config)
        for _ in range(nodes):
            peer = self.simulation.add(node)
            peer.listener = self._listener(peer)
            self._count_bytes(peer)
            peer.feed(gossip.TopicJoined(TOPIC, options))
            self.simulation.run(1 / nodes)
        self._connect(connections)
        self.simulation.run(_SETTLE)

    def _listener(self, peer: SimPeer) -> Callable[[NodeNews], None]:
        def listen(news: NodeNews) -> None:
            if isinstance(news, gossip.MessagesDelivered):
                for message in news.messages:
                    self._got[message.data].add(peer.index)
                    if not message.local:
                        self.arrived[message.data].append(self.simulation.clock.now - self.published[message.data])
            peer.news.clear()

        return listen

    def _count_bytes(self, peer: SimPeer) -> None:
        take = peer.node.take

        def counted(stream: int, limit: int) -> Sequence[bytes]:
            buffers = take(stream, limit)
            self.taken += sum(map(len, buffers))
            return buffers

        peer.node.take = counted  # type: ignore[method-assign]

    def _connect(self, connections: int) -> None:
        peers = self.simulation.peers
        pairs: set[tuple[int, int]] = set()
        for peer in peers:
            others = self.rng.sample([other for other in peers if other is not peer], connections // 2)
            for other in others:
                pair = min(peer.index, other.index), max(peer.index, other.index)
                if pair not in pairs:
                    pairs.add(pair)
                    target = other.identity.peer_id
                    peer.ask(lambda op: events.ConnectRequested(op, target, (other.address,)))  # noqa: B023  at once
            self.simulation.run(1 / len(peers))

    # ------------------------------------------------------------ what is measured

    def publish(self, peer: SimPeer, size: int) -> bytes:
        """Have a peer publish so many random bytes."""
        data = self.rng.randbytes(size)
        self.published[data] = self.simulation.clock.now
        self.arrived[data], self._got[data] = [], set()
        peer.ask(lambda op: gossip.Published(op, TOPIC, [data]))
        return data

    def missed(self, datas: Sequence[bytes], peers: Sequence[SimPeer]) -> int:
        """Deliveries that did not happen."""
        return sum(peer.index not in self._got[data] for data in datas for peer in peers)

    def degrees(self) -> list[int]:
        """Mesh links of each living node."""
        return [
            len(view.mesh)
            for peer in self.simulation.peers
            if peer.alive
            for view in peer.node.topics()
            if view.topic == TOPIC
        ]

    def received(self) -> int:
        """Copies that came in, those asked for by IWANT too."""
        return sum(peer.node.statistics().gossip.received for peer in self.simulation.peers)

    def counted(self, name: str) -> int:
        """The sum of one of gossip's counters."""
        return sum(getattr(peer.node.statistics().gossip, name) for peer in self.simulation.peers)

    def kill(self, share: float, *, silently: bool) -> list[SimPeer]:
        """End a share of the nodes in one instant; those that are left.

        `silently`: as when the power fails, so that the others notice only when keep-alive has run out.
        """
        peers = self.simulation.peers
        dead = self.rng.sample(peers, int(len(peers) * share))
        indexes = {peer.index for peer in dead}
        alive = [peer for peer in peers if peer.index not in indexes]
        if silently:
            self.simulation.partition([alive, dead])
            for peer in dead:
                peer.alive = False
        else:
            for peer in dead:
                self.simulation.kill(peer)
        return alive


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that so large a share does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def measure(seed: int, options: argparse.Namespace, config: GossipConfig) -> dict[str, float]:
    """The figures of one run; milliseconds, copies and kilobytes for each node and message."""
    model = LinkModel(latency=(options.latency[0], options.latency[1]), jitter=options.jitter)
    topic = gossip.TopicOptions(sign=not options.unsigned)
    mesh = Mesh(seed, options.nodes, options.connections, config, model, topic)
    run, peers = mesh.simulation.run, mesh.simulation.peers
    publishers = mesh.rng.sample(peers, min(options.publishers, len(peers))) if options.publishers else peers

    def some(count: int, among: Sequence[SimPeer]) -> list[bytes]:
        datas = []
        for _ in range(count):
            datas.append(mesh.publish(mesh.rng.choice(among), options.size))
            run(0.05)
        return datas

    some(options.warm, publishers)  # so that what nodes learn of each other is known
    run(_SPREAD)
    degree = mean(mesh.degrees())
    received, taken, asked = mesh.received(), mesh.taken, mesh.counted("iwant_messages_sent")
    datas = some(options.messages, publishers)
    run(_SPREAD)
    share = len(datas) * len(peers)
    delays = [delay * 1000 for data in datas for delay in mesh.arrived[data]]
    last = [max(mesh.arrived[data], default=0.0) * 1000 for data in datas]
    figures = {
        "degree": degree,
        "copies": (mesh.received() - received) / share,
        "of these by IWANT": (mesh.counted("iwant_messages_sent") - asked) / share,
        "KB": (mesh.taken - taken) / share / 1000,
        "p50": quantile(delays, 0.5),
        "p99": quantile(delays, 0.99),
        "last": mean(last),
        "missed": mesh.missed(datas, peers),
    }
    if options.kill:
        received = mesh.received()
        alive = mesh.kill(options.kill, silently=options.silently)
        datas = some(options.messages, [peer for peer in publishers if peer in alive] or alive)
        run(_SPREAD)
        delays = [delay * 1000 for data in datas for delay in mesh.arrived[data]]
        figures |= {
            "copies, killed": (mesh.received() - received) / (len(datas) * len(alive)),
            "p50, killed": quantile(delays, 0.5),
            "p99, killed": quantile(delays, 0.99),
            "missed, killed": mesh.missed(datas, alive),
        }
    return figures


def _configured(settings: Sequence[str]) -> GossipConfig:
    kinds = {field.name: type(field.default) for field in fields(GossipConfig)}
    values: dict[str, object] = {}
    for setting in settings:
        name, _, text = setting.partition("=")
        if name not in kinds:
            raise SystemExit(f"--set {setting}: gossip has no parameter {name!r}")
        values[name] = text == "true" if kinds[name] is bool else kinds[name](text)
    return replace(GossipConfig(), **values)  # type: ignore[arg-type]


def main() -> None:
    """Measure as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=100)
    parser.add_argument("--connections", type=int, default=20, help="of each node, on average")
    parser.add_argument("--seeds", type=lambda text: [int(seed) for seed in text.split(",")], default=[1, 2, 3])
    parser.add_argument("--messages", type=int, default=40)
    parser.add_argument("--warm", type=int, default=40, help="messages before it is measured: nodes learn from them")
    parser.add_argument("--publishers", type=int, default=0, help="so many nodes publish; 0: all of them, at random")
    parser.add_argument("--unsigned", action="store_true", help="messages name no author")
    parser.add_argument("--size", type=int, default=1024, help="bytes of each message")
    parser.add_argument(
        "--latency", type=float, nargs=2, default=(0.005, 0.08), help="one way, from and to, in seconds"
    )
    parser.add_argument(
        "--jitter", type=float, default=0.0, help="share of the latency that is added at most, anew each time"
    )
    parser.add_argument("--kill", type=float, default=0.2, help="share of the nodes that end in one instant")
    parser.add_argument("--silently", action="store_true", help="let nobody notice their end before keep-alive does")
    parser.add_argument("--set", action="append", default=[], dest="settings", metavar="NAME=VALUE")
    parser.add_argument("--json", action="store_true", help="print JSON lines")
    options = parser.parse_args()
    config = _configured(options.settings)
    rows = []
    for seed in options.seeds:
        rows.append(measure(seed, options, config))
        _show(f"seed {seed}", rows[-1], options.json)
    if len(rows) > 1:
        _show("mean", {name: mean(row[name] for row in rows) for name in rows[0]}, options.json)


def _show(name: str, figures: dict[str, float], as_json: bool) -> None:
    if as_json:
        print(json.dumps({"run": name, **figures}), flush=True)
    else:
        print(f"{name:8}", "  ".join(f"{key} {value:.4g}" for key, value in figures.items()), flush=True)


if __name__ == "__main__":
    main()
