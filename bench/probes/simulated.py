"""The same nodes, connections, delays and messages on virtual time."""

from collections.abc import Callable, Sequence

from bench.probes.live import Delay
from bench.probes.plan import SETTINGS, TOPIC, Plan, number_of
from sidecar.config import load
from sidecar.configure import node_config
from sidecar.core import events, gossip
from sidecar.core.node import NodeNews
from sidecar.sim import LinkModel, SimPeer, Simulation

_SETTLE = 15.0  # virtual seconds until the meshes are at rest
_REST = 8.0


def simulate(plan: Plan, edges: Sequence[tuple[int, int]], seed: int) -> list[Delay]:
    """`edges`: who connects to whom. The delays are the plan's; `seed` is of all else that is drawn."""
    delays = plan.delays()
    simulation = Simulation(
        seed, LinkModel(between=lambda rng, one, other: delays[one - 1][other - 1]), keep_news=False
    )
    config = node_config(load({}, SETTINGS, None).config, "sidecar/simulated", ())
    peers = [simulation.add(config) for _ in range(plan.nodes)]
    found: list[Delay] = []
    published: list[tuple[int, float]] = []

    def listener(receiver: int) -> Callable[[NodeNews], None]:
        def listen(news: NodeNews) -> None:
            if not isinstance(news, gossip.MessagesDelivered):
                return
            for message in news.messages:
                number = number_of(message.data)
                if number is not None and not message.local:
                    in_round, at = published[number]
                    found.append(Delay(in_round, receiver, simulation.clock.now - at))

        return listen

    for number, peer in enumerate(peers):
        peer.listener = listener(number)
        peer.feed(gossip.TopicJoined(TOPIC))
    for one, other in edges:
        _connect(peers[one], peers[other])
    simulation.run(_SETTLE)
    for in_round, publisher in enumerate(plan.publishers()):
        for _ in range(plan.messages):
            data = plan.payload(len(published))
            published.append((in_round, simulation.clock.now))
            peers[publisher].ask(lambda op, data=data: gossip.Published(op, TOPIC, [data]))  # type: ignore[misc]
            simulation.run(plan.interval)
        simulation.run(_REST)
    return found


def _connect(one: SimPeer, other: SimPeer) -> None:
    known = other.identity.peer_id, (other.address,)
    one.ask(lambda op: events.ConnectRequested(op, *known))
