"""Hole punching on virtual time: both sides dial at one moment, and the relayed connection goes in order."""

import sys
from collections.abc import Callable
from dataclasses import replace

import pytest

from sidecar.core import events, gossip, streams
from sidecar.core.errors import StreamReset
from sidecar.core.multiaddr import Multiaddr
from sidecar.core.networks import Scope
from sidecar.core.node import NodeConfig
from sidecar.core.node.relay_server import RelayServer
from sidecar.core.parameters import RelayConfig
from sidecar.core.relay import DCUTR, Punch, PunchType, encode_punch
from sidecar.sim import SimPeer, Simulation

QUIET = NodeConfig(target_peers=0, redial_base=1.0, dht_server=False)


class Pair:
    """Two peers behind NATs, one of which has a place with a relay, and is sought by the other."""

    def __init__(
        self,
        opens: Callable[[SimPeer], bool] = lambda other: True,
        *,
        punch: bool = True,
        hosts: tuple[str | None, str | None, str | None] = (None, None, None),
    ) -> None:
        """`hosts`: the IP addresses of the relay, of who has the place, and of who seeks it."""
        self.simulation = Simulation(1)
        self.relay = self.simulation.add(replace(QUIET, relay=RelayConfig(server=True)), host=hosts[0])
        where = self.relay.address.with_peer(self.relay.identity.peer_id)
        self.hidden = self.simulation.add(replace(QUIET, relay=RelayConfig((where,))), host=hosts[1])
        self.seeker = self.simulation.add(replace(QUIET, relay=RelayConfig((where,), punch=punch)), host=hosts[2])
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


# ---------------------------------------------------------------- beside AutoNAT


def test_nobody_is_asked_for_a_dial_back_through_a_relay() -> None:
    """It may come in where a hole is being punched, and strangers do not."""
    pair = Pair(lambda other: False, hosts=("192.0.2.1", "198.51.100.1", "203.0.113.1"))
    assert pair.relay.node.statistics().dial_back.requests > 0
    pair.relay.node._services.reachability.upkeep = lambda now: None  # type: ignore[method-assign]
    before = [peer.node.statistics().dial_back.requests for peer in (pair.hidden, pair.seeker)]
    pair.connect(300)
    assert [peer.node.statistics().dial_back.requests for peer in (pair.hidden, pair.seeker)] == before


def test_a_hole_to_a_peer_that_is_to_dial_back_is_kept() -> None:
    pair = Pair()
    switch = pair.hidden.node._services.switch
    switch.asked_back[pair.seeker.identity.peer_id] = None
    pair.connect()
    for view in pair.views():
        assert view is not None
        assert (view.path, view.connections) == (events.Path.DIRECT, 1)


# ---------------------------------------------------------------- behind one NAT

HOME, OTHER_HOME, RELAY = "198.51.100.7", "198.51.100.8", "192.0.2.1"


class Lan:
    """Two peers that reach each other at private addresses alone, and a relay on the internet.

    Where it sees them is `hosts`, and `inside` where they listen.
    """

    def __init__(
        self, hosts: tuple[str, str] = (HOME, HOME), inside: tuple[str, str] = ("192.168.1.2", "192.168.1.3")
    ) -> None:
        self.pair = pair = Pair(lambda other: False, hosts=(RELAY, *hosts))
        self.inside = {}
        self.dials: dict[SimPeer, list[events.Dial]] = {pair.hidden: [], pair.seeker: []}
        for peer, other, host in zip((pair.hidden, pair.seeker), (pair.seeker, pair.hidden), inside, strict=True):
            address = self.inside[peer] = Multiaddr.tcp(host, 4747)
            pair.simulation._by_address[address] = peer
            peer.feed(events.AddressesChanged((address,), ()))
            self._note(peer)
            peer.reached_by = lambda dialler, peer=peer, other=other: (  # type: ignore[misc]
                dialler is other and self.inside[peer] in self.dials[dialler][-1].addresses
            )
        pair.simulation.run(15)

    def _note(self, peer: SimPeer) -> None:
        dial = peer._dial

        def noted(asked: events.Dial) -> None:
            self.dials[peer].append(asked)
            dial(asked)

        peer._dial = noted  # type: ignore[method-assign]

    def connect(self) -> None:
        self.pair.connect()

    @property
    def knocked(self) -> list[Multiaddr]:
        """At which addresses that are not public anybody has dialled."""
        every = (address for dials in self.dials.values() for dial in dials for address in dial.addresses)
        return [address for address in every if not address.is_relayed and Scope.of(address) is not Scope.PUBLIC]


def test_two_behind_one_nat_meet_at_their_addresses_inside() -> None:
    lan = Lan()
    lan.connect()
    for view in lan.pair.views():
        assert view is not None
        assert view.path is events.Path.DIRECT
    assert set(lan.knocked) == {lan.inside[lan.pair.seeker]}


@pytest.mark.parametrize(
    ("hosts", "inside"),
    [
        ((HOME, OTHER_HOME), ("192.168.1.2", "192.168.1.3")),  # two homes, as most are
        ((HOME, HOME), ("192.168.1.2", "192.168.2.3")),  # two networks behind one carrier's NAT
        ((HOME, HOME), ("192.168.1.2", "127.0.0.1")),
        ((HOME, HOME), ("192.168.1.2", "169.254.1.3")),
    ],
)
def test_nobody_knocks_at_doors_of_a_network_that_need_not_be_the_same(
    hosts: tuple[str, str], inside: tuple[str, str]
) -> None:
    lan = Lan(hosts, inside)
    lan.connect()
    assert lan.knocked == []
    for view in lan.pair.views():
        assert view is not None
        assert view.path is events.Path.RELAYED_LIMITED


def test_a_peer_that_says_so_is_not_behind_the_same_nat() -> None:
    """Our public address is no secret: only the relay is believed that somebody else is seen there."""
    lan = Lan((HOME, OTHER_HOME))
    liar = lan.pair.seeker.node._services.hole_punching
    liar._own = lambda connection: (Multiaddr.tcp(HOME, 4747), Multiaddr.tcp("192.168.1.9", 22))  # type: ignore[method-assign]
    lan.connect()
    assert lan.pair.hidden.node.statistics().punch.tries > 0
    assert lan.knocked == []


def test_a_relay_is_believed_about_the_address_alone_at_which_it_sees_this_node() -> None:
    lan = Lan((HOME, OTHER_HOME))
    server = sys.modules[RelayServer.__module__]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(server, "_seen_beside", lambda one, other: (one.remote,))  # where the other end is, to each
        lan.connect()
    assert lan.knocked == []


def test_a_relay_tells_nobody_another_address_than_its_own() -> None:
    pair = Pair(lambda other: False, hosts=(RELAY, HOME, OTHER_HOME))
    apart = [opened for opened in opened_circuits(pair) if opened.near]
    assert apart == []


def opened_circuits(pair: Pair) -> list[events.CircuitOpened]:
    """What both were told of their circuits."""
    told: list[events.CircuitOpened] = []
    for peer in (pair.hidden, pair.seeker):
        carry_out = peer._carry_out
        peer._carry_out = lambda effects, carry_out=carry_out: (  # type: ignore[method-assign,assign,misc]
            told.extend(each for each in effects if isinstance(each, events.CircuitOpened)),
            carry_out(effects),
        )
    pair.connect(5)
    assert len(told) == 2
    return told
