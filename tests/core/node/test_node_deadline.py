"""The node's one deadline: services say when theirs move, so that it need not ask their machines after every input."""

import random
from collections.abc import Callable
from dataclasses import replace
from math import inf

import pytest

from sidecar.core import direct, durable, events, gossip
from sidecar.core.node import Node, NodeConfig, NodeInput
from sidecar.core.node.direct import DirectMessageService
from sidecar.core.node.durable import DurableMessageService
from sidecar.core.node.gossip import GossipService
from sidecar.core.node.history import HistoryService
from sidecar.core.node.kademlia import KademliaService
from sidecar.core.parameters import HistoryConfig
from sidecar.core.parameters.gossip import GossipConfig
from sidecar.sim import LinkModel, SimPeer, Simulation

# Publishers wait for room in short queues behind a narrow uplink, and sign over several turns.
NARROW = LinkModel(uplink=200_000, window=8192)
CONFIG = NodeConfig(
    target_peers=4,
    gossip=GossipConfig(queue_max_messages=4, sign_burst=2, heartbeat_interval=0.3),
    history=HistoryConfig(topics=("kept",), settle=0.1),
)
KEPT = (GossipService, KademliaService, DirectMessageService, DurableMessageService, HistoryService)
TOPICS = ("a", "b", "c")


def chosen(rng: random.Random, others: list[SimPeer], now: float) -> Callable[[int], NodeInput]:
    """Something that an app may ask of a node, for an operation's number."""
    other, topic = rng.choice(others).identity.peer_id, rng.choice(TOPICS)
    data = [rng.randbytes(rng.choice((10, 4000))) for _ in range(rng.choice((1, 1, 9)))]
    inputs: list[Callable[[int], NodeInput]] = [
        lambda op: gossip.TopicJoined(topic),
        lambda op: gossip.TopicJoined("kept", gossip.TopicOptions(keep=True)),
        lambda op: gossip.Published(op, "kept", data),
        lambda op: gossip.TopicLeft(topic),
        lambda op: gossip.Published(op, topic, data, wait=True, minimum_peers=1),
        lambda op: gossip.PublishCancelled(op - 1),
        lambda op: direct.ProtocolsChanged(("d",), ("q",)),
        lambda op: direct.SendRequested(op, other, "d", data),
        lambda op: direct.RequestMade(op, other, "q", data[0], now + rng.random()),
        lambda op: direct.RequestCancelled(op - 1),
        lambda op: durable.OutgoingChanged([durable.Outgoing(other, "d", 1, 1, op, 0)]),
        lambda op: durable.OutgoingLoaded(other, "d", 1, 1, [durable.Item(data[0], 60.0)]),
        lambda op: events.FindPeerRequested(op, other),
        lambda op: events.ClosestPeersRequested(op, data[0][:32]),
        lambda op: events.AdvertiseRequested(op, topic),
        lambda op: events.RecordRequested(op, topic.encode(), 0),
        lambda op: events.DisconnectRequested(op, other),
        lambda op: events.OperationCancelled(op - 1),
    ]
    return rng.choice(inputs)


@pytest.mark.parametrize("seed", range(3))
def test_a_services_deadline_is_never_later_than_its_machines(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Node.next_deadline
    kept: dict[str, set[float]] = {}

    def checked(node: Node) -> float | None:
        services = [service for service in node._services.every if service.keeps_time]
        assert len(services) == len(KEPT)
        for service in services:
            assert isinstance(service, KEPT)
            real = service.router.next_deadline()
            assert service.due <= (inf if real is None else real), f"seed {seed}: {service.name}"
            kept.setdefault(service.name, set()).add(service.due)
        due = asked(node)
        assert due is not None
        assert due <= min(service.due for service in services)
        return due

    monkeypatch.setattr(Node, "next_deadline", checked)
    rng = random.Random(seed)
    simulation = Simulation(seed, NARROW)
    first = simulation.add(CONFIG)
    joining = replace(CONFIG, bootstrap=(first.address.with_peer(first.identity.peer_id),))
    peers = [first, *(simulation.add(joining) for _ in range(6))]
    for _ in range(400):
        peer = rng.choice(peers)
        if not peer.alive:
            peer.start()
        elif rng.random() < 0.02:
            simulation.kill(peer)
        else:
            peer.ask(chosen(rng, peers, simulation.clock.now))
        simulation.run(rng.random() * 0.2)
    assert {name: len(dues) > 20 for name, dues in kept.items()} == dict.fromkeys(
        ("gossip", "dht", "direct", "durable", "history"), True
    )
