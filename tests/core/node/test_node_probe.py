"""Probes on virtual time: what they tell agrees with what happened, apps see none, and forged answers do not count."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

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


@pytest.mark.parametrize(("there", "back"), [(0.1, 0.04), (0.04, 0.1)], ids=["slow there", "slow back"])
def test_where_the_ways_differ_the_delay_is_off_by_half_of_that(there: float, back: float) -> None:
    simulation = Simulation(1, LinkModel(between=lambda rng, one, other: there if one == 1 else back))
    prober, other = (simulation.add(NodeConfig(target_peers=0, dht_server=False)) for _ in range(2))
    subscribe([prober, other])
    prober.ask(lambda op: events.ConnectRequested(op, other.identity.peer_id, (other.address,)))
    simulation.run(3)
    truth = Truth(simulation, prober)
    ask(prober, 3)
    simulation.run(10)
    assert list(truth.delays.values()) == pytest.approx([there] * 3, abs=1e-6)
    assert [answer.delay for answer in answers(prober)] == pytest.approx([there + (back - there) / 2] * 3, abs=1e-6)


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


# ---------------------------------------------------------------- in the background


def watching(config: ProbeConfig, *, latency: tuple[float, float] = (0.05, 0.15), count: int = 4) -> Simulation:
    """Peers of which the first probes in the background."""
    simulation = Simulation(5, LinkModel(latency=latency))
    plain = NodeConfig(target_peers=0, dht_server=False)
    peers = [simulation.add(replace(plain, probe=config) if not number else plain) for number in range(count)]
    for other in peers[1:]:
        known = other.identity.peer_id, (other.address,)
        peers[0].ask(lambda op, known=known: events.ConnectRequested(op, *known))  # type: ignore[misc]
    subscribe(peers)
    return simulation


def notes(peer: SimPeer) -> list[tuple[str, str]]:
    """What the node said of its background probes: level and text."""
    return [
        (item.level.name, item.text % item.arguments)
        for item in peer.news
        if isinstance(item, events.Note) and "topic" in item.text
    ]


WATCH = ProbeConfig(topics=(TOPIC,), interval=10.0, objective=0.4, window=5)


def test_an_objective_that_is_met_is_told_by_the_figures_alone() -> None:
    simulation = watching(WATCH)
    prober = simulation.peers[0]
    simulation.run(200)
    told = prober.node.statistics().probe
    assert 10 <= told.messages_published <= 40
    assert (told.objective, told.objective_share, told.in_time_share) == (0.4, 0.99, 1.0)
    assert told.judged["in_time"] == sum(told.judged.values()) >= 3 * (told.messages_published - 1)
    assert sum(told.unjudged.values()) == 0
    assert notes(prober) == []
    assert answers(prober) == []  # no app has asked
    assert prober.node.histograms()["gossip_probe_seconds"].total > 0


def test_messages_in_the_background_come_at_random_and_not_all_at_once() -> None:
    simulation = watching(replace(WATCH, topics=(TOPIC, "other"), interval=20.0))
    subscribe(simulation.peers, "other")
    prober = simulation.peers[0]
    published = []
    for second in range(300):
        before = prober.node.statistics().probe.messages_published
        simulation.run(1)
        published += [second] * (prober.node.statistics().probe.messages_published - before)
    assert 20 <= len(published) <= 40  # 15 of either topic, on average
    assert len({second % 10 for second in published}) > 5


def test_an_objective_that_is_missed_is_said_once_and_again_when_it_is_met() -> None:
    simulation = watching(replace(WATCH, objective=0.12), latency=(0.1, 0.14))
    prober, *others = simulation.peers
    slow = [peer for peer in others if simulation.latency(prober, peer) > 0.12]
    assert 0 < len(slow) < len(others)
    simulation.run(200)
    told = prober.node.statistics().probe
    assert told.judged["late"] == len(slow) / len(others) * sum(told.judged.values()) > 0
    assert told.in_time_share == pytest.approx(1 - len(slow) / len(others))
    ((level, text),) = notes(prober)
    assert level == "WARNING"
    share = 100 * (1 - len(slow) / len(others))
    assert text == (
        f"{share:.1f} % of 15 receivers on topic 'news' had the last 5 messages within 0.12 s; probe.share is 0.99"
    )
    for peer in slow:
        simulation.kill(peer)
    simulation.run(200)
    assert prober.node.statistics().probe.in_time_share == 1.0
    assert [level for level, _ in notes(prober)] == ["WARNING", "INFO"]


def test_who_owes_an_answer_and_gives_none_did_not_have_it_in_time() -> None:
    simulation = watching(WATCH)
    prober, mute, *_ = simulation.peers
    mute.node._services.gossip._marked = lambda message, now: None
    simulation.run(150)
    told = prober.node.statistics().probe
    assert told.judged["silent"] == told.judged["in_time"] / 2 > 0
    assert told.in_time_share == pytest.approx(2 / 3)
    silent = told.judged["silent"]
    simulation.kill(mute)  # who is not there any more owes nothing
    simulation.run(150)
    assert prober.node.statistics().probe.judged["silent"] <= silent + 1
    assert prober.node.statistics().probe.in_time_share == 1.0


def test_a_topic_that_cannot_be_probed_is_said_once_until_it_can() -> None:
    simulation = watching(replace(WATCH, topics=("nobody's",)))
    prober, other, *_ = simulation.peers
    simulation.run(100)
    missing = prober.node.statistics().probe.unjudged["no_topic"]
    assert missing > 3
    simulation.peers[0].feed(gossip.TopicJoined("nobody's"))
    simulation.run(100)
    told = prober.node.statistics().probe
    assert told.unjudged["no_topic"] == missing
    assert told.unjudged["no_peers"] > 3
    assert told.in_time_share == 1.0
    other.feed(gossip.TopicJoined("nobody's"))
    simulation.run(100)
    assert prober.node.statistics().probe.judged["in_time"] > 3
    assert notes(prober) == [
        ("WARNING", 'topic "nobody\'s" cannot be probed: nobody here or connected is in the topic "nobody\'s"'),
        ("INFO", 'topic "nobody\'s" is probed again'),
    ]


def test_apps_may_probe_as_often_beside_it() -> None:
    simulation = watching(replace(WATCH, topics=(TOPIC, "other", "third")))
    subscribe(simulation.peers, "other")
    subscribe(simulation.peers, "third")
    prober = simulation.peers[0]
    simulation.run_until(lambda: len(prober.node._services.probe._runs) >= 2, 100)
    ops = [ask(prober, 1) for _ in range(prober.config.probe.max_runs)]
    simulation.run(10)
    assert [summary(prober, op).answers for op in ops] == [3] * len(ops)


def test_without_topics_nothing_is_published() -> None:
    simulation = watching(ProbeConfig())
    simulation.run(200)
    told = simulation.peers[0].node.statistics().probe
    assert (told.messages_published, told.objective, sum(told.unjudged.values())) == (0, 0.0, 0)


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


class Raw(NamedTuple):
    """Bytes in place of an answer. `echoes`: whether what comes is sent back."""

    data: bytes
    echoes: bool = True


def forge(prober: SimPeer, liar: SimPeer, *made: probe.Answer | Raw) -> None:
    """Send answers of one's own making, each on a stream."""
    node = liar.node._services

    class Liar:
        name, lasting = "probe", False

        def opened(self, stream: object, now: float) -> None:
            made = stream.state  # type: ignore[attr-defined]
            node.switch.write(stream, made.data if isinstance(made, Raw) else probe.encode_answer(made))  # type: ignore[arg-type]

        def received(self, stream: object, data: bytes, now: float) -> None:
            if not isinstance(stream.state, Raw) or stream.state.echoes:  # type: ignore[attr-defined]
                node.switch.write(stream, data)  # type: ignore[arg-type]

        def failed(self, state: object, error: object, now: float) -> None: ...
        def ended(self, stream: object, now: float) -> None: ...
        def closed(self, stream: object, error: object, now: float) -> None: ...
        def take(self, stream: object, limit: int) -> object:
            return stream.out.take(limit)  # type: ignore[attr-defined]

        def waits(self, stream: object) -> bool:
            return bool(stream.out)  # type: ignore[attr-defined]

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


def test_answers_that_break_their_form_or_were_not_asked_for_are_counted_and_ignored() -> None:
    simulation = joined(3)
    prober, liar, other = simulation.peers
    for peer in (liar, other):
        peer.node._services.gossip._marked = lambda message, now: None
    op = ask(prober, 1)
    service = prober.node._services.probe
    (run,) = service._runs.values()
    simulation.run(1)
    message = run._messages[0]
    message.rate = 1  # so that nobody is drawn
    forge(prober, liar, probe.Answer(run.id, 0, 0, False))
    simulation.run(1)
    message.rate = probe.WHOLE
    forge(
        prober,
        liar,
        Raw(b"\x03abc"),
        Raw(b"\xff\xff\x7f"),
        Raw(probe.encode_answer(probe.Answer(run.id, 0, 0, False)) * 2),
    )
    forge(prober, other, Raw(probe.encode_answer(probe.Answer(run.id, 0, 0, False)), echoes=False))
    simulation.run(40)
    ignored = {why: count for why, count in prober.node.statistics().probe.ignored.items() if count}
    # The one that came twice on its stream was malformed the second time, and so not finished the first time.
    assert ignored == {"not_asked": 1, "malformed": 3, "unfinished": 2}
    assert answers(prober) == []
    assert summary(prober, op).answers == 0


def test_a_delay_that_the_way_back_makes_negative_does_not_count() -> None:
    simulation = joined(3)
    prober, liar, other = simulation.peers
    for peer in (liar, other):
        peer.node._services.gossip._marked = lambda message, now: None
    op = ask(prober, 1)
    (run,) = prober.node._services.probe._runs.values()
    simulation.run(1)
    # The stream and its answer take three ways: half a one is left for the message, less than the way back took.
    held = 1 + 2.5 * simulation.latency(prober, liar)
    forge(prober, liar, probe.Answer(run.id, 0, round(held * 1e6), False))
    simulation.run(20)
    assert prober.node.statistics().probe.ignored["below_zero"] == 1
    assert answers(prober) == []
    assert summary(prober, op).ignored == 1
