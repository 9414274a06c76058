"""Probes on virtual time: what they tell agrees with what happened, apps see none, and forged answers do not count."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from sidecar.core import events, gossip, probe
from sidecar.core.errors import InvalidArgument, NotFound, NotSupported, ResourceExhausted, TooLarge, Unreachable
from sidecar.core.node import NodeConfig
from sidecar.core.parameters import ProbeConfig
from sidecar.core.types import PeerId
from sidecar.sim import LinkModel, SimPeer, Simulation
from tests.sim.mesh import TOPIC, build, publish, received, subscribe

FAR = LinkModel(latency=(0.05, 0.15))


def ask(peer: SimPeer, messages: int = 20, **more: object) -> int:
    asked = {"interval": 1.0, "answers": 32, "topic": TOPIC, **more}
    return peer.ask(lambda op: probe.ProbeRequested(op=op, messages=messages, **asked))  # type: ignore[arg-type]


def answers(peer: SimPeer) -> list[probe.ProbeAnswer]:
    return [item.answer for item in peer.news if isinstance(item, probe.ProbeAnswered)]


def summary(peer: SimPeer, op: int) -> probe.ProbeSummary:
    result = peer.result(op)
    assert isinstance(result, probe.ProbeSummary)
    return result


def joined(count: int = 20, *, config: NodeConfig | None = None, seed: int = 3) -> Simulation:
    """Peers that found each other, and by now are connected all to all."""
    simulation = build(seed, count, model=FAR, config=config)
    subscribe(simulation.peers)
    simulation.run(8)
    return simulation


def sparse(count: int = 20, seed: int = 3) -> Simulation:
    """Peers of which each is connected to six, so that most messages take several hops."""
    simulation = Simulation(seed, FAR)
    config = NodeConfig(target_peers=0, dht_server=False)
    peers = [simulation.add(config) for _ in range(count)]
    subscribe(peers)
    for place, peer in enumerate(peers):
        for step in (1, 4, 9):
            other = peers[(place + step) % count]
            known = other.identity.peer_id, (other.address,)
            peer.ask(lambda op, known=known: events.ConnectRequested(op, *known))  # type: ignore[misc]
    simulation.run(8)
    return simulation


def connected(peer: SimPeer) -> set[PeerId]:
    return {view.peer for view in peer.node.peers() if view.connected}


class Truth:
    """When every node got each message of a probe, by the one clock of the simulation."""

    def __init__(self, simulation: Simulation, prober: SimPeer) -> None:
        self.published: dict[int, float] = {}
        self.delays: dict[tuple[bytes, int], float] = {}
        for peer in simulation.peers:
            self._watch(simulation, peer, peer is prober)

    def _watch(self, simulation: Simulation, peer: SimPeer, prober: bool) -> None:
        service = peer.node._services.gossip
        marked = service._marked

        def note(message: gossip.GossipMessage, now: float) -> None:
            number = probe.read_probe(message.data)[0].number
            if prober:
                self.published[number] = now
            else:
                self.delays[peer.identity.peer_id, number] = now - self.published[number]
            marked(message, now)

        service._marked = note


def quantile(values: Sequence[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


@pytest.mark.parametrize("make", [lambda: joined(12), sparse], ids=["joined", "sparse"])
def test_what_a_probe_tells_is_what_happened(make: Callable[[], Simulation]) -> None:
    simulation = make()
    prober = simulation.peers[7]
    truth = Truth(simulation, prober)
    op = ask(prober)
    simulation.run(26)
    told = answers(prober)
    whole = summary(prober, op)
    others = len(simulation.peers) - 1
    assert len(truth.delays) == 20 * others
    assert len(told) == whole.answers
    assert whole.published == 20
    assert whole.share == 1.0
    assert whole.answered == whole.expected > 0
    assert whole.answers >= 0.95 * 20 * others
    assert whole.peers == others
    assert whole.receivers == pytest.approx(others, rel=0.05)
    for answer in told:
        assert answer.delay == pytest.approx(truth.delays[answer.peer, answer.number], abs=1e-6)
    measured, real = [answer.delay for answer in told], list(truth.delays.values())
    for share in (0.5, 0.99):
        assert quantile(measured, share) == pytest.approx(quantile(real, share), rel=0.1)
    bounds = prober.node.histograms()["gossip_probe_seconds"]
    assert sum(bounds.counts) == whole.answers
    assert bounds.total == pytest.approx(sum(measured))


def test_a_sample_stands_for_all() -> None:
    simulation = sparse()
    prober = simulation.peers[11]
    truth = Truth(simulation, prober)
    op = ask(prober, 60, answers=2, interval=0.5)
    simulation.run(36)
    whole = summary(prober, op)
    assert whole.share < 0.5
    assert whole.answers < 0.5 * 60 * 19
    assert whole.receivers == pytest.approx(19, rel=0.15)
    measured, real = [answer.delay for answer in answers(prober)], list(truth.delays.values())
    for share in (0.5, 0.99):
        assert quantile(measured, share) == pytest.approx(quantile(real, share), rel=0.1)


def test_more_receivers_than_were_expected_are_asked_less_often() -> None:
    simulation = sparse(40)
    prober = simulation.peers[0]
    op = ask(prober, 20, answers=1)  # of the six that it knows of; there are 39
    simulation.run(26)
    whole = summary(prober, op)
    assert prober.node._services.probe.statistics().ignored["too_many"] == whole.ignored > 0
    assert whole.share < 1 / 12
    assert whole.answers < 20 * 4 / 2


def test_apps_see_no_probes_and_cannot_make_any() -> None:
    simulation = joined(6)
    prober = simulation.peers[1]
    ask(prober, 3)
    publish(prober, b"a real one")
    simulation.run(10)
    assert [received(peer) for peer in simulation.peers] == [[b"a real one"]] * 6
    with pytest.raises(InvalidArgument, match="marks the messages of probes"):
        publish(prober, probe.MARK + b"made up")


def test_a_connection_made_for_an_answer_ends_with_it() -> None:
    simulation = sparse()
    prober = simulation.peers[9]
    before = connected(prober)
    ask(prober, 1)
    simulation.run(0.6)
    assert connected(prober) > before
    simulation.run(5)
    assert len({answer.peer for answer in answers(prober)}) == 19
    mesh = {peer for view in prober.node.topics() for peer in view.mesh}
    assert connected(prober) - before <= mesh  # which may have taken some in


def test_who_answers_a_probe_wants_the_prober_no_more_than_before() -> None:
    simulation = Simulation(1)
    prober, answerer = (simulation.add(NodeConfig(target_peers=0, dht_server=False)) for _ in range(2))
    subscribe([prober, answerer])
    prober.ask(lambda op: events.ConnectRequested(op, answerer.identity.peer_id, (answerer.address,)))
    simulation.run(3)
    ask(prober, 1)
    simulation.run(5)
    assert len(answers(prober)) == 1
    assert not answerer.node._services.switch.peers[prober.identity.peer_id].wanted  # so it is let go when it is idle


def test_without_what_it_needs_a_probe_is_refused() -> None:
    simulation = joined(3)
    first, second, _ = simulation.peers
    assert isinstance(first.result(ask(first, topic="nobody's")), NotFound)
    first.feed(gossip.TopicJoined("mine alone"))
    assert isinstance(first.result(ask(first, topic="mine alone")), Unreachable)
    for _ in range(first.config.probe.max_runs):
        ask(first, 100)
    assert isinstance(first.result(ask(first)), ResourceExhausted)
    op = ask(second, size=2 << 20)
    simulation.run(1)
    assert isinstance(second.result(op), TooLarge)


def test_peers_without_the_protocol_hinder_unless_that_is_wanted() -> None:
    simulation = joined(3)
    prober, plain, _ = simulation.peers
    known = prober.node._services.switch.peers[plain.identity.peer_id]
    assert known.info is not None
    protocols = tuple(name for name in known.info.protocols if name != prober.config.probe_protocol)
    known.info = replace(known.info, protocols=protocols)
    result = prober.result(ask(prober))
    assert isinstance(result, NotSupported)
    assert str(result).startswith("1 of 2 peers of the topic do not speak /sidecar/main/probe/1")
    op = ask(prober, 1, exposed=True)
    simulation.run(10)
    assert summary(prober, op).expected == 1


def test_a_cancelled_probe_publishes_no_more() -> None:
    simulation = joined(3)
    prober, other, _ = simulation.peers
    op = ask(prober, 100)
    simulation.run(3.5)
    prober.feed(events.OperationCancelled(op))
    simulation.run(10)
    assert other.node.statistics().probe.messages_received == 4
    assert prober.node._services.probe._runs == {}


# ---------------------------------------------------------------- abuse


def payload(prober: SimPeer, number: int, *, topic: str = TOPIC, rate: int = probe.WHOLE) -> bytes:
    asked = probe.ProbeMessage(bytes(16), number, rate, topic, (prober.address,))
    return probe.encode_probe(prober.identity, asked, 0)


def slip(peer: SimPeer, data: bytes) -> None:
    """Publish a marked message past the node's own check, as another implementation could."""
    service = peer.node._services.gossip
    service._mark = None
    publish(peer, data)
    service._mark = probe.MARK


def refused(peer: SimPeer) -> dict[str, int]:
    return {why: count for why, count in peer.node.statistics().probe.refused.items() if count}


def test_who_probes_too_often_is_not_answered() -> None:
    bounds = ProbeConfig(prober_rate=2, burst=3)
    simulation = joined(3, config=NodeConfig(probe=bounds))
    prober, other, _ = simulation.peers
    for number in range(20):
        slip(prober, payload(prober, number))
    simulation.run(5)
    assert other.node.statistics().probe.answers_sent == 6
    assert refused(other) == {"prober_rate": 14}
    # Nobody has asked for these answers here.
    assert prober.node.statistics().probe.ignored["unknown"] == 12


def test_who_probes_in_the_name_of_others_is_not_answered() -> None:
    simulation = joined(3)
    liar, victim, other = simulation.peers
    slip(liar, payload(victim, 0))  # signed by another than who published it
    slip(liar, payload(liar, 1, topic="elsewhere"))
    slip(liar, probe.MARK + b"\x05hello")
    broken = bytearray(payload(liar, 2))
    broken[-1] ^= 1
    slip(liar, bytes(broken))
    simulation.run(5)
    assert refused(other) == {"forged": 3, "malformed": 1}
    assert other.node.statistics().probe.answers_sent == 0
    assert victim.node.statistics().probe.answers_received == 0
    assert [received(peer) for peer in (victim, other)] == [[], []]


def test_a_message_is_answered_once() -> None:
    simulation = joined(3)
    prober, other, _ = simulation.peers
    slip(prober, payload(prober, 0))
    slip(prober, payload(prober, 0) + b"\0")  # new to gossip
    simulation.run(5)
    assert other.node.statistics().probe.answers_sent == 1
    assert refused(other) == {"repeated": 1}


def test_whatever_the_prober_wants_the_network_answers_no_more_than_so_much() -> None:
    simulation = joined(10, config=NodeConfig(probe=ProbeConfig(network_answers=2)))
    prober = simulation.peers[0]
    op = ask(prober, 20, interval=0.2)
    simulation.run(10)
    whole = summary(prober, op)
    assert whole.expected == 20 * 9
    assert 20 < whole.answers < 20 * 4


def forge(prober: SimPeer, liar: SimPeer, *made: probe.Answer) -> None:
    """Send answers of one's own making, each on a stream, without ever echoing."""
    node = liar.node._services

    class Liar:
        name, lasting = "probe", False

        def opened(self, stream: object, now: float) -> None:
            node.switch.write(stream, probe.encode_answer(stream.state))  # type: ignore[attr-defined, arg-type]

        def received(self, stream: object, data: bytes, now: float) -> None:
            node.switch.write(stream, data)  # type: ignore[arg-type]

        def failed(self, state: object, error: object, now: float) -> None: ...
        def ended(self, stream: object, now: float) -> None: ...
        def closed(self, stream: object, error: object, now: float) -> None: ...
        def take(self, stream: object, limit: int) -> object:
            return stream.out.take(limit)  # type: ignore[attr-defined]

    connection = node.switch.peers[prober.identity.peer_id].best
    for answer in made:
        node.switch.open_stream(connection, (prober.config.probe_protocol,), Liar(), answer)  # type: ignore[arg-type]
    liar._carry_out(liar.node._end_turn(liar.simulation.clock.now))


def test_forged_answers_are_counted_and_ignored() -> None:
    simulation = joined(3)
    prober, liar, _ = simulation.peers
    for peer in simulation.peers[1:]:  # only forged answers come
        peer.node._services.gossip._marked = lambda message, now: None
    op = ask(prober, 2, interval=5.0)
    (run,) = prober.node._services.probe._runs.values()
    simulation.run(1)
    forge(
        prober,
        liar,
        probe.Answer(bytes(16), 0, 0, False),  # of no probe
        probe.Answer(run.id, 1, 0, False),  # of a message that is not out
        probe.Answer(run.id, 0, 60_000_000, False),  # held for longer than it was there
        probe.Answer(run.id, 0, 0, True),  # believed: nobody can know better
        probe.Answer(run.id, 0, 0, True),
    )
    simulation.run(15)
    ignored = {why: count for why, count in prober.node.statistics().probe.ignored.items() if count}
    assert ignored == {"unknown": 2, "below_zero": 1, "repeated": 1}
    assert len(answers(prober)) == 1
    assert summary(prober, op).ignored == 3  # that of no probe is nobody's
