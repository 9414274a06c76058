"""Hole punching on virtual time: both sides dial at one moment, and the relayed connection goes in order."""

from collections.abc import Callable
from dataclasses import replace

from sidecar.core import events, gossip, streams
from sidecar.core.errors import StreamReset
from sidecar.core.multiaddr import Multiaddr
from sidecar.core.node import NodeConfig
from sidecar.core.parameters import RelayConfig
from sidecar.core.relay import DCUTR, Punch, PunchType, encode_punch
from sidecar.sim import SimPeer, Simulation

QUIET = NodeConfig(target_peers=0, redial_base=1.0, dht_server=False)


class Pair:
    """Two peers behind NATs, one of which has a place with a relay, and is sought by the other."""

    def __init__(self, opens: Callable[[SimPeer], bool] = lambda other: True, *, punch: bool = True) -> None:
        self.simulation = Simulation(1)
        self.relay = self.simulation.add(replace(QUIET, relay=RelayConfig(server=True)))
        where = self.relay.address.with_peer(self.relay.identity.peer_id)
        self.hidden = self.simulation.add(replace(QUIET, relay=RelayConfig((where,))))
        self.seeker = self.simulation.add(replace(QUIET, relay=RelayConfig((where,), punch=punch)))
        for peer in (self.hidden, self.seeker):
            peer.reached_by = lambda dialler: False
            peer.punched_by = opens
            peer.feed(gossip.TopicJoined("t"))
        self.simulation.run(15)
        self.circuit = Multiaddr.from_text(f"{where}/p2p-circuit")

    def connect(self, seconds: float = 60) -> None:
        target = self.hidden.identity.peer_id
        self.op = self.seeker.ask(lambda op: events.ConnectRequested(op, target, (self.circuit,)))
        self.simulation.run(seconds)

    def views(self) -> list[events.PeerView | None]:
        """How the two see each other."""
        one, two = self.seeker, self.hidden
        return [one.node.peer(two.identity.peer_id), two.node.peer(one.identity.peer_id)]


def test_a_relayed_connection_becomes_direct() -> None:
    pair = Pair()
    pair.connect()
    for view in pair.views():
        assert view is not None
        assert view.connected
        assert view.remote is not None
        assert not view.remote.is_relayed
        assert view.connections == 1  # the relayed one is gone
    statistics = pair.hidden.node.statistics().punch
    assert (statistics.begun, statistics.tries, statistics.succeeded) == (1, 1, 1)
    told = [
        news.view.path
        for news in pair.seeker.news
        if isinstance(news, events.PeerChanged) and news.view.peer == pair.hidden.identity.peer_id
    ]
    assert told[0] is events.Path.RELAYED_LIMITED
    assert told[-1] is events.Path.DIRECT  # those who watch hear of it
    assert pair.relay.node.statistics().relay.circuits_ended == {"order": 1}
    (topic,) = pair.seeker.node.topics()
    assert pair.hidden.identity.peer_id in topic.peers  # the relayed one was limited


def test_who_cannot_be_dialled_is_not_waited_for_long() -> None:
    pair = Pair()
    pair.connect(4)  # a dial that nobody answers takes longer
    for view in pair.views():
        assert view is not None
        assert view.path is events.Path.DIRECT


def test_who_asked_is_the_server() -> None:
    pair = Pair()
    pair.connect()
    one, two = pair.views()
    assert one is not None
    assert two is not None
    assert (one.direction, two.direction) == (events.Direction.OUTBOUND, events.Direction.INBOUND)


def test_where_no_hole_opens_it_stays_relayed() -> None:
    pair = Pair(lambda other: False)
    pair.connect(60)
    for view in pair.views():
        assert view is not None
        assert view.remote is not None
        assert view.remote.is_relayed
    statistics = pair.hidden.node.statistics().punch
    assert (statistics.tries, statistics.succeeded, statistics.failed) == (3, 0, {"no_answer": 1})
    assert statistics.under_way == 0


def test_a_peer_that_does_not_punch_is_left_alone() -> None:
    pair = Pair(punch=False)
    pair.connect()
    assert pair.hidden.node.statistics().punch.failed == {"not_supported": 1}


def test_a_peer_that_offers_the_exchange_later_is_asked_once_more() -> None:
    pair = Pair(punch=False)
    pair.connect()
    for others in ((), ("/app/1",), ("/app/2",)):
        pair.seeker.feed(streams.ProtocolsAccepted((DCUTR, *others)))  # told by identify/push
        pair.simulation.run(1)
        assert pair.hidden.node.statistics().punch.begun == 2


def test_a_peer_that_can_be_dialled_is() -> None:
    pair = Pair()
    pair.seeker.reached_by = lambda dialler: True
    pair.connect()
    statistics = pair.hidden.node.statistics().punch
    assert (statistics.tries, statistics.succeeded) == (0, 1)
    assert all(view is not None and view.connections == 1 for view in pair.views())


def test_the_exchange_is_for_relayed_connections_only() -> None:
    pair = Pair()
    relay = pair.relay.identity.peer_id
    op = pair.seeker.ask(lambda op: streams.StreamRequested(op, relay, (DCUTR,)))
    pair.simulation.run(2)
    made = pair.seeker.result(op)
    assert isinstance(made, streams.StreamMade)
    victims = tuple(Multiaddr.from_text(f"/ip4/10.9.9.{number}/tcp/22") for number in range(1, 9))
    dials = pair.relay.dials
    pair.seeker.feed(streams.BytesWritten(made.stream, encode_punch(Punch(PunchType.CONNECT, victims))))
    pair.seeker.feed(streams.BytesWritten(made.stream, encode_punch(Punch(PunchType.SYNC))))
    pair.simulation.run(5)
    (lost,) = [each for each in pair.seeker.news if isinstance(each, streams.StreamLost)]
    assert isinstance(lost.error, StreamReset)
    assert pair.relay.dials == dials
