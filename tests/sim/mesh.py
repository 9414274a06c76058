"""Building simulated meshes, and looking at them."""

from collections.abc import Sequence
from dataclasses import replace

from sidecar.core import gossip
from sidecar.core.node import NodeConfig
from sidecar.sim import LinkModel, SimPeer, Simulation

TOPIC = "news"


def build(seed: int, count: int, *, model: LinkModel | None = None, config: NodeConfig | None = None) -> Simulation:
    """`count` peers that know only the first one, started within a second of each other."""
    simulation = Simulation(seed, model)
    config = config or NodeConfig(target_peers=12)
    first = simulation.add(config)
    joining = replace(config, bootstrap=(first.address.with_peer(first.identity.peer_id),))
    for _ in range(count - 1):
        simulation.add(joining)
        simulation.run(1 / count)
    return simulation


def subscribe(peers: Sequence[SimPeer], topic: str = TOPIC) -> None:
    for peer in peers:
        peer.feed(gossip.TopicJoined(topic))


def publish(peer: SimPeer, data: bytes, topic: str = TOPIC) -> int:
    return peer.ask(lambda op: gossip.Published(op, topic, [data]))


def received(peer: SimPeer) -> list[bytes]:
    """The payloads that a peer's apps got, in order."""
    return [
        message.data for item in peer.news if isinstance(item, gossip.MessagesDelivered) for message in item.messages
    ]


def mesh_of(peer: SimPeer, topic: str = TOPIC) -> set[bytes]:
    views = [view for view in peer.node.topics() if view.topic == topic]
    return set(views[0].mesh) if views else set()


def asymmetric_links(peers: Sequence[SimPeer]) -> list[tuple[int, int]]:
    """Pairs of living peers of which only one has the other in its mesh."""
    by_id = {peer.identity.peer_id: peer for peer in peers if peer.alive}
    return [
        (peer.index, by_id[other].index)
        for peer in by_id.values()
        for other in mesh_of(peer)
        if other in by_id and peer.identity.peer_id not in mesh_of(by_id[other])
    ]
