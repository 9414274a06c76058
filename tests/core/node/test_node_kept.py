"""Kept topics in the node: what travelled goes with what is delivered, probes go nowhere, and backfill follows."""

from sidecar.core import events, gossip, probe
from sidecar.core.node import NodeConfig
from sidecar.core.parameters import HistoryConfig
from sidecar.sim import SimPeer, Simulation

TOPIC = "news"
KEPT = gossip.TopicOptions(keep=True)
KEEPING = NodeConfig(target_peers=0, history=HistoryConfig(topics=("*",)))


def connected() -> tuple[Simulation, SimPeer, SimPeer]:
    simulation = Simulation(1)
    one, other = simulation.add(KEEPING), simulation.add(KEEPING)
    for peer in (one, other):
        peer.feed(gossip.TopicJoined(TOPIC, KEPT))
    one.ask(lambda op: events.ConnectRequested(op, other.identity.peer_id, (other.address,)))
    simulation.run(5)
    return simulation, one, other


def deliveries(peer: SimPeer) -> list[gossip.MessagesDelivered]:
    return [item for item in peer.news if isinstance(item, gossip.MessagesDelivered)]


def test_probes_of_a_kept_topic_are_not_kept() -> None:
    simulation, one, other = connected()
    one.ask(lambda op: probe.ProbeRequested(op=op, messages=5, interval=0.02, answers=8, topic=TOPIC))
    for number in range(20):
        one.ask(lambda op, number=number: gossip.Published(op, TOPIC, [b"%d" % number]))  # type: ignore[misc]
        simulation.run(0.005)
    simulation.run(5)
    assert other.node.statistics().probe.messages_received > 0
    for peer in (one, other):
        assert peer.history is not None
        assert len(peer.history.topics[TOPIC]) == 20
        for delivered in deliveries(peer):
            assert len(delivered.raws) == len(delivered.messages) > 0
            for message, raw in zip(delivered.messages, delivered.raws, strict=True):
                assert message.data in raw


def test_backfill_follows_what_is_said_of_keeping() -> None:
    simulation, one, _ = connected()
    (view,) = one.node.history()
    assert (view.topic, view.peers) == (TOPIC, 1)
    one.feed(gossip.TopicJoined(TOPIC))
    assert one.node.history() == []
    one.feed(gossip.TopicJoined(TOPIC, KEPT))
    (view,) = one.node.history()
    assert (view.topic, view.peers) == (TOPIC, 1)
    one.feed(gossip.TopicLeft(TOPIC))
    assert one.node.history() == []
    simulation.run(5)
