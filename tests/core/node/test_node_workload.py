"""The budget of work, on virtual time: who is over it is read more slowly, who goes on is sent away; others notice
nothing."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from sidecar.core import direct, events, gossip, identify
from sidecar.core.direct.messages import RequestFields, encode_openers_frame
from sidecar.core.errors import ConfigError, WorkExceeded
from sidecar.core.events import LogLevel, PeerChange
from sidecar.core.gossip.messages import RPC
from sidecar.core.node import ConfigurationChanged, NodeConfig, WorkConfig
from sidecar.core.node.switch import SimpleHandler
from sidecar.core.varint import encode
from sidecar.sim import LinkModel, SimPeer, Simulation
from sidecar.wire import kademlia_pb2

WORK = WorkConfig(rate=100, burst=200, excess=200, relief=20, patience=3, hold_off=30)
CONFIG = NodeConfig(target_peers=0, dht_server=True, work=WORK)
MODEL = LinkModel(latency=(0.005, 0.01), window=1024)


class Stage:
    """A node that is attacked, an honest publisher, and somebody who floods."""

    def __init__(self, config: NodeConfig = CONFIG) -> None:
        self.simulation = Simulation(7, MODEL)
        self.attacked = self.simulation.add(config)
        self.honest = self.simulation.add(CONFIG)
        self.attacker = self.simulation.add(CONFIG)
        self.attacker.waits = lambda stream: True  # type: ignore[method-assign]  # it may be given another `take`
        for peer in (self.honest, self.attacker):
            self.connect(peer)
            peer.feed(gossip.TopicJoined("news"))
        self.attacked.feed(gossip.TopicJoined("news"))
        self.simulation.run(2)

    def connect(self, peer: SimPeer) -> int:
        target = self.attacked
        return peer.ask(lambda op: events.ConnectRequested(op, target.identity.peer_id, (target.address,)))

    def flood(self, body: bytes) -> None:
        """From now on the attacker's gossip stream carries this again and again, as fast as it is read."""
        node = self.attacker.node
        member = node._services.gossip._members[self.attacked.identity.peer_id]
        assert member.out is not None
        number, honest = member.out.number, self.attacker.take
        frames = (encode(len(body)) + body) * (64 // (len(body) + 1) + 1)
        self.attacker.take = lambda stream: frames if stream == number else honest(stream)  # type: ignore[method-assign]
        for link in self.attacker.links.values():
            link.wake(number)

    def statistics(self) -> dict[str, float]:
        return self.attacked.node.statistics().flat()

    def gone(self) -> list[events.PeerChanged]:
        return [
            change
            for change in self.attacked.news
            if isinstance(change, events.PeerChanged) and change.change is PeerChange.DISCONNECTED
        ]

    def notes(self, text: str) -> list[events.Note]:
        return [note for note in self.attacked.news if isinstance(note, events.Note) and text in note.text]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        RPC(control={"graft": [{"topicID": b"news"}], "prune": [{"topicID": b"news"}]}).SerializeToString(),
        RPC(
            subscriptions=[{"subscribe": True, "topicid": b"x"}, {"subscribe": False, "topicid": b"x"}]
        ).SerializeToString(),
        b"\xff" * 500,
        RPC(control={"idontwant": [{"messageIDs": [b"nothing"]}]}).SerializeToString(),
        RPC(control={"ihave": [{"topicID": b"news", "messageIDs": [b"nothing"]}]}).SerializeToString(),
        RPC(control={"ihave": [{"topicID": b"elsewhere", "messageIDs": [b"nothing"]}]}).SerializeToString(),
        RPC(control={"iwant": [{"messageIDs": [b"nothing"]}]}).SerializeToString(),
        RPC(
            control={"ihave": [{"topicID": b"news", "messageIDs": [b"%d" % n for n in range(9000)]}]}
        ).SerializeToString(),
    ],
    ids=[
        "empty",
        "graft and prune",
        "subscriptions",
        "malformed",
        "IDONTWANT",
        "IHAVE",
        "IHAVE of a topic not joined",
        "IWANT",
        "IHAVE of many ids",
    ],
)
def test_who_floods_is_read_slowly_then_sent_away_with_a_reason_while_others_notice_nothing(body: bytes) -> None:
    stage = Stage()
    stage.flood(body)
    simulation, attacked, honest = stage.simulation, stage.attacked, stage.honest
    simulation.run_until(lambda: stage.statistics()["work_paused_peers"] == 1, 10)
    (slowed, *_) = stage.notes("over its budget")
    assert (slowed.level, slowed.peer) == (LogLevel.WARNING, stage.attacker.identity.peer_id)
    assert "gossip" in slowed.text % slowed.arguments
    sent = 0
    while not stage.gone():
        honest.ask(lambda op, data=b"%d" % sent: gossip.Published(op, "news", [data]))  # type: ignore[misc]
        sent += 1
        simulation.run(0.05)
        assert sent < 1000
    simulation.run(1)
    (left,) = stage.gone()
    assert left.view.peer == stage.attacker.identity.peer_id
    assert isinstance(left.error, WorkExceeded)
    assert "gossip" in str(left.error)
    assert len(stage.notes("sent away")) == 1
    statistics = stage.statistics()
    assert statistics["work_sent_away"] == 1
    assert statistics["work_pauses"] >= 1
    assert statistics["work_paused_peers"] == 0
    # Its budget, what it may be over it, and what was on the way: whatever it sent, no more of it was served.
    assert statistics["work_points_gossip"] <= WORK.rate * sent * 0.05 + 4000
    arrived = [
        message.data
        for item in attacked.news
        if isinstance(item, gossip.MessagesDelivered)
        for message in item.messages
        if message.sender == honest.identity.peer_id
    ]
    assert arrived == [b"%d" % number for number in range(sent)]


def test_who_was_sent_away_is_refused_for_a_while_and_for_longer_the_next_time() -> None:
    stage = Stage()
    simulation, back = stage.simulation, stage.attacker
    back_to_normal = back.take
    for pause in (30, 60):
        stage.attacked.news.clear()
        stage.flood(b"")
        simulation.run_until(lambda: bool(stage.gone()), 60)
        back.take = back_to_normal  # type: ignore[method-assign]
        simulation.run(1)
        op = stage.connect(back)
        simulation.run(1)
        assert not isinstance(back.result(op), events.PeerView) or not back.links
        assert stage.statistics()["work_refused"] > 0
        assert f"refused for {pause} s" in str(stage.gone()[0].error)
        simulation.run(pause)
        op = stage.connect(back)
        simulation.run(5)
        assert isinstance(back.result(op), events.PeerView)
        assert stage.attacker.identity.peer_id in stage.attacked.node._services.switch.peers


def test_who_is_sent_away_for_two_reasons_at_once_is_counted_and_refused_as_for_one() -> None:
    stage = Stage()
    workload, peer = stage.attacked.node._services.workload, stage.attacker.identity.peer_id
    now = stage.simulation.clock.now
    workload.send_away(peer, "one", now)
    workload.send_away(peer, "two", now)
    assert stage.statistics()["work_sent_away"] == 1
    assert workload.refuse(peer, now + WORK.hold_off - 1) is not None
    assert workload.refuse(peer, now + WORK.hold_off + 1) is None


def test_who_behaved_for_long_is_kept_away_no_longer_than_the_first_time() -> None:
    stage = Stage()
    back_to_normal = stage.attacker.take
    said = []
    for pause in (0, 3700, 60):
        stage.simulation.run(pause)
        stage.connect(stage.attacker)
        stage.simulation.run(5)
        stage.attacked.news.clear()
        stage.flood(b"")
        stage.simulation.run_until(lambda: bool(stage.gone()), 60)
        stage.attacker.take = back_to_normal  # type: ignore[method-assign]
        said.append(str(stage.gone()[0].error).rpartition("refused for ")[2])
    assert said == ["30 s", "30 s", "60 s"]


def test_who_goes_over_its_budget_now_and_then_stays() -> None:
    stage = Stage()
    simulation = stage.simulation
    simulation.run(15)  # the questions with which a node joins count too
    member = stage.attacker.node._services.gossip._members[stage.attacked.identity.peer_id]
    for _ in range(20):
        assert member.out is not None
        number, honest, left = member.out.number, stage.attacker.take, [b"\x00" * 300]
        stage.attacker.take = lambda stream, honest=honest, left=left, number=number: (  # type: ignore[method-assign]
            left.pop() if left and stream == number else honest(stream)
        )
        for link in stage.attacker.links.values():
            link.wake(number)
        simulation.run(15)
        stage.attacker.take = honest  # type: ignore[method-assign]
    assert 20 <= stage.statistics()["work_pauses"] <= 22  # a question of the DHT may come at once after one
    assert not stage.gone()


def flood_streams(stage: Stage, protocol: str, data: Callable[[int], bytes], count: int) -> None:
    """The attacker opens streams of a protocol, one after the other, each with bytes of its own."""
    switch = stage.attacker.node._services.switch
    connection = switch.peers[stage.attacked.identity.peer_id].best

    class Flooder:
        name = "flood"
        lasting = False

        def __init__(self) -> None:
            self.left = count

        def opened(self, stream: object, now: float) -> None:
            switch.write(stream, data(self.left))  # type: ignore[arg-type]
            switch.close_write(stream)  # type: ignore[arg-type]
            self.more()

        def more(self) -> None:
            if self.left:
                self.left -= 1
                switch.open_stream(connection, (protocol,), self, None)  # type: ignore[arg-type]

        def take(self, stream: object, limit: int) -> object:
            return stream.out.take(limit)  # type: ignore[attr-defined]

        def waits(self, stream: object) -> bool:
            return bool(stream.out)  # type: ignore[attr-defined]

        def failed(self, state: object, error: object, now: float) -> None: ...
        def received(self, stream: object, data: bytes, now: float) -> None: ...
        def ended(self, stream: object, now: float) -> None: ...
        def closed(self, stream: object, error: object, now: float) -> None: ...

    Flooder().more()
    op = stage.attacker.node.new_op()
    stage.attacker.feed(events.OperationCancelled(op))  # has the effects carried out


def test_identify_pushes_in_a_loop_are_needless_work() -> None:
    stage = Stage()
    flood_streams(stage, identify.IDENTIFY_PUSH, lambda number: b"", 500)
    stage.simulation.run_until(lambda: bool(stage.gone()), 300)
    assert "identify" in str(stage.gone()[0].error)


@pytest.mark.parametrize(
    ("protocol", "data", "kind"),
    [
        (CONFIG.direct_protocol, encode_openers_frame([], [RequestFields(2, "chat", b"", 0, "")], []), "direct"),
        (gossip.PROTOCOLS[0], b"\xff" * 11, "gossip"),
        (CONFIG.kademlia_protocol, b"\xff" * 11, "dht"),
    ],
    ids=["direct", "gossip", "DHT"],
)
def test_who_opens_a_stream_again_and_again_and_breaks_its_protocol_is_sent_away(
    protocol: str, data: bytes, kind: str
) -> None:
    stage = Stage()
    flood_streams(stage, protocol, lambda number: data, 500)
    stage.simulation.run_until(lambda: bool(stage.gone()), 300)
    error = stage.gone()[0].error
    assert isinstance(error, WorkExceeded)
    assert f"mostly {kind}" in str(error)


def test_who_asks_without_end_what_no_app_serves_is_sent_away() -> None:
    stage = Stage()
    attacker = stage.attacker
    target = stage.attacked.identity.peer_id
    attacker.ask(lambda op: direct.RequestMade(op, target, "chat", b"first", None))
    stage.simulation.run(1)
    switch = attacker.node._services.switch
    ((number, link),) = ((number, s) for number, s in switch._streams.items() if s.handler.name == "direct")
    link.handler = Deaf()
    honest = attacker.take
    asked = 1

    def take(stream: int) -> bytes:
        nonlocal asked
        if stream != number:
            return honest(stream)
        requests = [RequestFields(asked + n, "chat", b"", 0, "") for n in range(1, 9)]
        asked += len(requests)
        return encode_openers_frame([], requests, [])

    attacker.take = take  # type: ignore[method-assign]
    attacker.links[number >> events.STREAM_BITS].wake(number)
    stage.simulation.run_until(lambda: bool(stage.gone()), 300)
    assert "mostly direct" in str(stage.gone()[0].error)
    assert stage.statistics()["stream_violations"] == 0


class Deaf(SimpleHandler):
    """Does not read."""

    name = "deaf"

    def received(self, stream: object, data: bytes, now: float) -> None: ...


def test_who_sends_without_end_what_no_app_takes_is_sent_away() -> None:
    stage = Stage()
    attacker = stage.attacker
    target = stage.attacked.identity.peer_id
    attacker.ask(lambda op: direct.SendRequested(op, target, "chat", [b"first"]))
    stage.simulation.run(1)
    switch = attacker.node._services.switch
    ((number, link),) = ((number, s) for number, s in switch._streams.items() if s.handler.name == "direct")
    link.handler = Deaf()  # it does not heed what it is answered
    honest = attacker.take

    def take(stream: int) -> bytes:
        if stream != number:
            return honest(stream)
        return encode_openers_frame([("chat", [b""])], [], []) * 8

    attacker.take = take  # type: ignore[method-assign]
    attacker.links[number >> events.STREAM_BITS].wake(number)
    stage.simulation.run_until(lambda: bool(stage.gone()), 300)
    assert isinstance(stage.gone()[0].error, WorkExceeded)
    assert "direct" in str(stage.gone()[0].error)


def test_peers_of_one_network_have_a_budget_together() -> None:
    work = WorkConfig(rate=1000, burst=2000, excess=2000, relief=20, per_address=2.0, per_network=3.0)
    simulation = Simulation(7, MODEL)
    attacked = simulation.add(replace(CONFIG, work=work), host="192.0.2.1")
    sybils = [simulation.add(CONFIG, host=f"203.0.113.{1 + number // 2}") for number in range(8)]
    other = simulation.add(CONFIG, host="198.51.100.1")
    for peer in (*sybils, other):
        peer.ask(lambda op: events.ConnectRequested(op, attacked.identity.peer_id, (attacked.address,)))
    simulation.run(30)
    workload = attacked.node._services.workload
    now = simulation.clock.now

    def charge(peer: SimPeer, points: float, now: float) -> None:
        workload.charge(peer.identity.peer_id, "dht", points, now, needless=False)

    for peer in sybils:  # each stays within its own budget of 2000
        charge(peer, 900, now)
    statistics = attacked.node.statistics().work
    assert (statistics.pauses, statistics.shared_pauses) == (0, 2)  # 6000 of 7200 are the network's: two came late
    charge(other, 900, now)
    assert attacked.node.statistics().work.paused_peers == 2
    simulation.run(10)  # the others ask for nothing meanwhile, and all are read again
    assert attacked.node.statistics().work.paused_peers == 0
    assert attacked.node.statistics().work.sent_away == 0
    now = simulation.clock.now
    for _ in range(5):  # two of one address
        for peer in sybils[:2]:
            charge(peer, 450, now)
    assert attacked.node.statistics().work.shared_pauses > 2
    for peer in sybils:
        simulation.kill(peer)
    simulation.run(60)
    assert len(workload._of) == 1
    assert sum(shared.peers for shared in workload._shared.values()) == 2  # the address and the network of the other


def test_peers_of_exempt_networks_have_nothing_in_common() -> None:
    stage = Stage()
    workload = stage.attacked.node._services.workload
    assert (workload._of, workload._shared) == ({}, {})


def test_questions_of_the_dht_slow_a_peer_down_and_do_not_send_it_away() -> None:
    stage = Stage()
    message = kademlia_pb2.Message(type=kademlia_pb2.Message.FIND_NODE, key=bytes(32)).SerializeToString()
    flood_streams(stage, CONFIG.kademlia_protocol, lambda number: encode(len(message)) + message, 300)
    stage.simulation.run(90)
    assert not stage.gone()
    statistics = stage.statistics()
    assert statistics["work_points_dht"] >= 20 * 300
    assert statistics["work_pauses"] > 10


def test_many_questions_at_once_are_answered_over_several_turns() -> None:
    stage = Stage(replace(CONFIG, work=WorkConfig()))
    message = kademlia_pb2.Message(type=kademlia_pb2.Message.FIND_NODE, key=bytes(32)).SerializeToString()
    question = encode(len(message)) + message
    flood_streams(stage, CONFIG.kademlia_protocol, lambda number: question * 100, 1)
    turns = []
    while stage.statistics().get("work_points_dht", 0) < 20 * 100:
        before = stage.statistics().get("work_points_dht", 0)
        assert stage.simulation.clock.step()
        turns.append(stage.statistics().get("work_points_dht", 0) - before)
    assert max(turns) <= 20 * 16


def test_budgets_follow_the_configuration_and_contradictions_are_refused() -> None:
    stage = Stage(replace(CONFIG, work=replace(WORK, rate=1e6, burst=1e6, excess=1e6)))
    stage.flood(b"")
    stage.simulation.run(2)
    assert stage.statistics()["work_pauses"] == 0
    stage.attacked.feed(ConfigurationChanged(CONFIG))
    stage.simulation.run(2)
    assert stage.statistics()["work_pauses"] == 1
    with pytest.raises(ConfigError, match="rate"):
        WorkConfig(rate=0)
    with pytest.raises(ConfigError, match="relief"):
        WorkConfig(burst=1, relief=2)
