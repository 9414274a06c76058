"""Relays on virtual time: places, circuits and their bounds, with the real channel on top of the circuit's bytes."""

from dataclasses import replace

import pytest

from sidecar.core import direct, events, gossip, streams
from sidecar.core.autonat import Reachability
from sidecar.core.errors import Refused, SidecarError, Unreachable, WrongPeer
from sidecar.core.identity import Identity
from sidecar.core.multiaddr import Multiaddr
from sidecar.core.node import NodeConfig
from sidecar.core.node.relay_server import _Half
from sidecar.core.parameters import RelayConfig
from sidecar.core.relay import (
    HOP,
    STOP,
    CircuitFault,
    Hop,
    HopType,
    RelayStanding,
    RelayStatus,
    Reservation,
    Stop,
    StopType,
    decode_hop,
    decode_stop,
    encode_hop,
    encode_stop,
    make_voucher,
)
from sidecar.core.types import PeerId
from sidecar.sim import SimPeer, Simulation

QUIET = NodeConfig(target_peers=0, redial_base=1.0, dht_server=False)
UNLIMITED = RelayConfig(server=True, circuit_duration=0.0, circuit_data=0)
LIMITED = RelayConfig(server=True)


def where(peer: SimPeer) -> Multiaddr:
    return peer.address.with_peer(peer.identity.peer_id)


class Stage:
    """A relay, one peer that has a place with it and cannot be dialled, and one that seeks it."""

    def __init__(self, relay: RelayConfig = UNLIMITED, *, dht: bool = False) -> None:
        self.dht = dht
        self.simulation = Simulation(1)
        self.relay = self.simulation.add(replace(QUIET, relay=relay))
        self.hidden = self.hide()
        self.seeker = self.seek()
        self.simulation.run(15)

    def hide(self, **relay: int) -> SimPeer:
        """A peer that nobody reaches by its own address, with a place at the relay."""
        return self._hidden(RelayConfig((where(self.relay),), punch=False, **relay))

    def seek(self) -> SimPeer:
        """One without a place."""
        return self._hidden(RelayConfig(punch=False))

    def _hidden(self, relay: RelayConfig) -> SimPeer:
        hidden = self.simulation.add(replace(QUIET, relay=relay, dht_server=self.dht))
        hidden.reached_by = lambda dialler: False
        return hidden

    @property
    def target(self) -> PeerId:
        return self.hidden.identity.peer_id

    @property
    def circuit(self) -> Multiaddr:
        """Where the hidden peer is reached."""
        return Multiaddr.from_text(f"{where(self.relay)}/p2p-circuit")

    def connect(self, seeker: SimPeer | None = None, target: PeerId | None = None) -> object:
        seeker, target = seeker or self.seeker, target or self.target
        op = seeker.ask(lambda op: events.ConnectRequested(op, target, (self.circuit,)))
        self.simulation.run(10)
        return seeker.result(op)

    def send(self, size: int) -> direct.SendOutcome:
        op = self.seeker.ask(lambda op: direct.SendRequested(op, self.target, "p", (bytes(size),)))
        self.simulation.run(10)
        (done,) = [each for each in self.seeker.news if isinstance(each, direct.SendCompleted) and each.op == op]
        return done.outcomes[0].outcome


def speak(peer: SimPeer, to: SimPeer, protocol: str, *messages: bytes) -> bytes:
    """Say something on a byte stream of the peer, as an app can on any protocol; returns what came back."""
    op = peer.ask(lambda op: streams.StreamRequested(op, to.identity.peer_id, (protocol,)))
    peer.simulation.run(2)
    made = peer.result(op)
    assert isinstance(made, streams.StreamMade), made
    for message in messages:
        peer.feed(streams.BytesWritten(made.stream, message))
    peer.simulation.run(2)
    came = (each for each in peer.news if isinstance(each, streams.BytesArrived) and each.stream == made.stream)
    return b"".join(each.data for each in came)


def standing(peer: SimPeer, relay: SimPeer) -> RelayStanding:
    """What a peer thinks of a relay."""
    found = peer.node._services.relay_client._standings.known(relay.identity.peer_id)
    assert found is not None
    return found


def body(framed: bytes) -> bytes:
    """A short message without its length."""
    length = framed[0] if framed[0] < 0x80 else (framed[0] & 0x7F) | framed[1] << 7
    return framed[-length:]


def test_where_a_relay_sees_a_peer_goes_with_its_id() -> None:
    peer, seen = Identity(bytes(32)).peer_id, (Multiaddr.tcp("198.51.100.7", 4747),)
    for hop in (Hop(HopType.STATUS, peer, status=100, addresses=seen), Hop(HopType.CONNECT, peer)):
        assert decode_hop(body(encode_hop(hop))) == hop
    for stop in (Stop(StopType.CONNECT, peer, addresses=seen), Stop(StopType.STATUS, status=100)):
        assert decode_stop(body(encode_stop(stop))) == stop


# ---------------------------------------------------------------- places


def test_a_place_is_held_and_announced() -> None:
    stage = Stage()
    assert stage.hidden.node.statistics().relay.places == 1
    assert stage.relay.node.statistics().relay.reservations == 1
    view = stage.relay.node.peer(stage.target)
    assert view is not None
    assert stage.circuit in view.addresses


def test_a_place_is_renewed_and_ends_with_the_relay() -> None:
    stage = Stage(replace(UNLIMITED, reservation_ttl=100.0))
    stage.simulation.run(500)
    statistics = stage.hidden.node.statistics().relay
    assert statistics.places == 1
    assert statistics.places_granted == 7  # the first, and every 75 s
    stage.simulation.kill(stage.relay)
    stage.simulation.run(60)
    assert stage.hidden.node.statistics().relay.places == 0
    assert stage.circuit not in stage.hidden.node.addresses().relayed
    stage.relay.start()
    stage.simulation.run(120)
    assert stage.hidden.node.statistics().relay.places == 1


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_place_is_held_by_a_clock_that_is_an_hour_wrong(hours: int) -> None:
    stage = Stage(replace(UNLIMITED, reservation_ttl=3600.0))
    stage.simulation.kill(stage.hidden)
    stage.hidden.wall_ns += hours * 3600 * 10**9
    stage.hidden.start()
    stage.simulation.run(60)
    for _ in range(3 * 60):
        stage.simulation.run(60)
        assert stage.relay.node.statistics().relay.reservations == 1, "the relay knows of a place"
        assert stage.hidden.node.statistics().relay.places == 1
    assert stage.hidden.node.statistics().relay.places_failed == {}


def test_relays_are_found_in_the_mesh() -> None:
    simulation = Simulation(3)
    relay = simulation.add(replace(QUIET, target_peers=4, dht_server=True, relay=UNLIMITED))
    others = [
        simulation.add(replace(QUIET, target_peers=4, dht_server=True, bootstrap=(where(relay),))) for _ in range(4)
    ]
    simulation.run(60)
    wants = RelayConfig(find=True, reservations=1)
    hidden = simulation.add(replace(QUIET, target_peers=1, bootstrap=(where(others[0]),), relay=wants))
    simulation.run(200)
    assert hidden.node.statistics().relay.places == 1
    assert relay.node.statistics().relay.reservations == 1


def test_a_node_that_nobody_reaches_finds_relays_by_itself_and_gives_the_places_back() -> None:
    simulation = Simulation(3)
    relay = simulation.add(replace(QUIET, relay=UNLIMITED))
    wants = RelayConfig(find_unreachable=True, reservations=1)
    node = simulation.add(replace(QUIET, target_peers=1, bootstrap=(where(relay),), relay=wants))
    verdict = [Reachability.UNKNOWN]
    node.node._services.relay_client._unreachable = lambda: verdict[0] is Reachability.UNREACHABLE
    simulation.run(60)
    assert (node.node.statistics().relay.places, node.node.statistics().relay.places_wanted) == (0, 0)
    verdict[0] = Reachability.UNREACHABLE
    simulation.run(60)
    assert (node.node.statistics().relay.places, node.node.statistics().relay.places_wanted) == (1, 1)
    assert node.node.addresses().relayed
    verdict[0] = Reachability.CONFIRMED
    simulation.run(60)
    statistics = node.node.statistics().relay
    assert (statistics.places, statistics.places_wanted, statistics.places_lost) == (0, 0, 0)
    assert not node.node.addresses().relayed


def test_of_the_relays_that_are_found_the_one_that_did_best_is_asked_and_a_liar_is_not() -> None:
    simulation = Simulation(3)
    relays = [simulation.add(replace(QUIET, relay=UNLIMITED)) for _ in range(3)]
    wants = RelayConfig(find=True, reservations=1)
    bootstrap = tuple(map(where, relays))
    node = simulation.add(replace(QUIET, target_peers=3, bootstrap=bootstrap, relay=wants))
    client = node.node._services.relay_client
    lied, plain, good = (client._candidate(relay.identity.peer_id, (), 0.0) for relay in relays)
    assert lied is not None
    assert good is not None
    for each in (lied, plain, good):
        assert each is not None
        each.retry_at = 5.0  # they are there when one is chosen
    client._of(good, 0.0).add(5.0, 0.0)
    client._of(lied, 0.0).add(9.0, 0.0)
    client._of(lied, 0.0).lied(0.0)
    simulation.run(60)
    assert [relay.node.statistics().relay.reservations for relay in relays] == [0, 0, 1]
    simulation.kill(relays[2])
    simulation.run(120)
    assert [relay.node.statistics().relay.reservations for relay in relays[:2]] == [0, 1]
    simulation.kill(relays[1])
    simulation.run(600)
    assert relays[0].node.statistics().relay.reservations == 0
    assert node.node.statistics().relay.places_lost == 2


def test_places_are_bounded_in_all_and_by_address() -> None:
    simulation = Simulation(2)
    bounds = RelayConfig(server=True, max_reservations=6, max_reservations_per_address=4)
    relay = simulation.add(replace(QUIET, relay=bounds, exempt_networks=()))
    wants = replace(QUIET, relay=RelayConfig((where(relay),)))
    alike = [simulation.add(wants, host="198.51.100.7") for _ in range(6)]
    simulation.run(20)
    assert sum(peer.node.statistics().relay.places for peer in alike) == 4
    others = [simulation.add(wants, host=f"198.51.{number}.1") for number in range(1, 5)]
    simulation.run(20)
    assert sum(peer.node.statistics().relay.places for peer in others) == 2
    statistics = relay.node.statistics().relay
    assert statistics.reservations == 6
    assert statistics.requests_refused["reservation_refused"] >= 4
    assert all(
        peer.node.statistics().relay.places_failed["Refused"]
        for peer in others
        if not peer.node.statistics().relay.places
    )


def test_thousands_of_requests_cost_places_for_nobody_else() -> None:
    stage = Stage()
    op = stage.seeker.ask(lambda op: events.ConnectRequested(op, stage.relay.identity.peer_id, (where(stage.relay),)))
    stage.simulation.run(2)
    assert isinstance(stage.seeker.result(op), events.PeerView)
    for _ in range(2000):
        stage.seeker.ask(lambda op: streams.StreamRequested(op, stage.relay.identity.peer_id, (HOP,)))
    stage.simulation.run(1)
    made = [each.result for each in stage.seeker.news if isinstance(each, events.OperationCompleted)]
    for each in made:
        if isinstance(each, streams.StreamMade):
            stage.seeker.feed(streams.BytesWritten(each.stream, encode_hop(Hop(HopType.RESERVE))))
    stage.simulation.run(20)
    assert len(stage.relay.node.statistics().relay.requests_refused) <= 1
    assert stage.relay.node.statistics().relay.reservations <= 2
    assert stage.relay.node.statistics().work.points["relay"] > 50_000
    assert isinstance(stage.connect(stage.hide()), events.PeerView)


# ---------------------------------------------------------------- circuits


def test_a_peer_behind_a_relay_is_reached() -> None:
    stage = Stage()
    view = stage.connect()
    assert isinstance(view, events.PeerView), view
    assert view.remote == stage.circuit
    assert stage.send(1000) is direct.SendOutcome.NO_SUBSCRIBER
    there = stage.hidden.node.peer(stage.seeker.identity.peer_id)
    assert there is not None
    assert there.connected
    statistics = stage.relay.node.statistics().relay
    assert (statistics.circuits, statistics.circuits_opened) == (1, 1)


def test_gossip_and_the_dht_leave_limited_connections_alone() -> None:
    for relay, gossiping in ((UNLIMITED, 1), (LIMITED, 0)):
        stage = Stage(relay, dht=True)
        for peer in (stage.hidden, stage.seeker):
            peer.feed(gossip.TopicJoined("t"))
        view = stage.connect()
        assert isinstance(view, events.PeerView)
        assert stage.send(100) is direct.SendOutcome.NO_SUBSCRIBER  # what apps send goes
        there = (peer for topic in stage.seeker.node.topics() for peer in topic.peers)
        assert len([peer for peer in there if peer == stage.target]) == gossiping
        table = [peer for bucket in stage.seeker.node.routing_table() for peer in bucket.peers]
        assert table.count(stage.target) == gossiping


def test_a_limited_circuit_ends_at_its_time() -> None:
    stage = Stage(replace(LIMITED, circuit_duration=30.0))
    assert isinstance(stage.connect(), events.PeerView)
    stage.simulation.run(30)
    assert not [view for view in stage.seeker.node.peers() if view.peer == stage.target]
    assert stage.relay.node.statistics().relay.circuits_ended == {"time": 1}
    assert stage.relay.node.statistics().relay.circuits == 0


def test_a_limited_circuit_ends_with_its_bytes() -> None:
    stage = Stage(LIMITED)
    assert isinstance(stage.connect(), events.PeerView)
    outcome = stage.send(200 * 1024)
    assert outcome in (direct.SendOutcome.UNKNOWN, direct.SendOutcome.UNREACHABLE)
    assert stage.relay.node.statistics().relay.circuits_ended == {"data": 1}
    assert stage.relay.node.statistics().relay.relayed_bytes <= 2 * 128 * 1024


def test_circuits_of_one_peer_are_bounded() -> None:
    stage = Stage(replace(UNLIMITED, max_circuits_per_peer=2))
    seekers = [stage.seek() for _ in range(3)]
    answers = [stage.connect(seeker) for seeker in seekers]
    assert [isinstance(answer, events.PeerView) for answer in answers] == [True, True, False]
    assert isinstance(answers[2], Refused)
    assert stage.relay.node.statistics().relay.requests_refused == {"resource_limit_exceeded": 1}


def test_inbound_circuits_are_bounded() -> None:
    stage = Stage()
    full = stage.hide(max_inbound=1)
    stage.simulation.run(10)
    seekers = [stage.seek() for _ in range(2)]
    answers = [stage.connect(seeker, full.identity.peer_id) for seeker in seekers]
    assert [isinstance(answer, events.PeerView) for answer in answers] == [True, False]
    assert full.node.statistics().circuits.refused == {"full": 1}


def test_no_circuit_over_a_circuit() -> None:
    stage = Stage(UNLIMITED)
    # The hidden peer is a relay too, which is reached only through the first one.
    nested = stage.simulation.add(replace(QUIET, relay=replace(UNLIMITED, relays=(where(stage.relay),))))
    nested.reached_by = lambda dialler: False
    stage.simulation.run(10)
    assert isinstance(stage.connect(stage.seeker, nested.identity.peer_id), events.PeerView)
    answer = body(speak(stage.seeker, nested, HOP, encode_hop(Hop(HopType.RESERVE))))
    assert decode_hop(answer).status == RelayStatus.PERMISSION_DENIED


# ---------------------------------------------------------------- who lies


def test_a_relay_that_connects_to_another_peer_is_found_out() -> None:
    """Noise shows who answers, whatever the relay says."""
    stage = Stage()
    other = stage.hide()
    stage.simulation.run(10)
    server = stage.relay.node._services.relay_server  # a relay that joins whom it likes
    honest = server._connect
    server._connect = lambda stream, request, target, now: honest(stream, request, other.identity.peer_id, now)  # type: ignore[method-assign]
    answer = stage.connect()
    assert isinstance(answer, WrongPeer | Unreachable), answer
    assert not [view for view in stage.seeker.node.peers() if view.peer == stage.target]
    assert not [view for view in other.node.peers() if view.peer == stage.seeker.identity.peer_id]
    assert stage.seeker.node.statistics().circuits.faults == {"other_peer": 1}
    assert standing(stage.seeker, stage.relay).points(stage.simulation.clock.now) < -2


class Liar:
    """Somebody who says yes to circuits, and then does what a test wants."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.peer = stage.simulation.add(QUIET)
        self.peer.feed(streams.ProtocolsAccepted((HOP,)))

    @property
    def circuit(self) -> Multiaddr:
        return Multiaddr.from_text(f"{where(self.peer)}/p2p-circuit")

    def lie(self, target: PeerId, lie: str) -> object:
        """Have the seeker ask for a circuit; what came of it."""
        stage = self.stage
        before = len(self._arrived())
        op = stage.seeker.ask(lambda op: events.ConnectRequested(op, target, (self.circuit,)))
        stage.simulation.run(1)
        (arrived,) = self._arrived()[before:]
        yes = encode_hop(Hop(HopType.STATUS, status=RelayStatus.OK))
        answers = {"garbled": yes + b"\x05rude\n", "malformed": b"\x02\x08\x09"}
        self.peer.feed(streams.BytesWritten(arrived.stream, answers.get(lie, yes)))
        if lie == "dropped":
            stage.simulation.run(1)
            self.peer.feed(streams.StreamAbandoned(arrived.stream))
        stage.simulation.run(60)
        return stage.seeker.result(op)

    def _arrived(self) -> list[streams.StreamArrived]:
        return [news for news in self.peer.news if isinstance(news, streams.StreamArrived)]


@pytest.mark.parametrize(
    ("lie", "fault"), [("silent", "silent"), ("garbled", "garbled"), ("malformed", "garbled"), ("dropped", "dropped")]
)
def test_a_relay_whose_circuits_come_to_nothing_loses_its_standing(lie: str, fault: str) -> None:
    stage = Stage()
    liar = Liar(stage)
    for number in range(1, 4):
        assert isinstance(liar.lie(Identity(bytes([number]) * 32).peer_id, lie), SidecarError)
        assert stage.seeker.node.statistics().circuits.faults == {fault: number}
    told = standing(stage.seeker, liar.peer)
    assert told.points(stage.simulation.clock.now) < -2.9
    assert told.trusted(stage.simulation.clock.now) is (fault == "dropped")  # others at its far end may do that


def test_one_peer_behind_a_relay_is_no_verdict_on_it() -> None:
    stage = Stage()
    liar = Liar(stage)
    for number in range(1, 6):
        liar.lie(stage.target, "garbled")
        assert stage.seeker.node.statistics().circuits.faults == {"garbled": number}
        assert standing(stage.seeker, liar.peer).points(stage.simulation.clock.now) > -2.1


@pytest.mark.parametrize(("seconds", "faults"), [(3, {"dropped": 1}), (30, {})])
def test_a_circuit_that_is_cut_within_seconds_counts_against_its_relay(seconds: int, faults: dict[str, int]) -> None:
    stage = Stage()
    stage.seeker.ask(lambda op: events.ConnectRequested(op, stage.target, (stage.circuit,)))
    stage.simulation.run(seconds)
    (circuit,) = {
        stream.state.circuit
        for stream in stage.relay.node._services.switch._streams.values()
        if isinstance(stream.state, _Half)
    }
    stage.relay.node._services.relay_server._cut(circuit, "time")
    stage.relay.feed(events.Resolved(0, ()))  # whatever makes it say so
    stage.simulation.run(2)
    assert stage.seeker.node.statistics().circuits.faults == faults


def test_a_limit_that_is_used_up_is_no_fault() -> None:
    stage = Stage(replace(UNLIMITED, circuit_data=20_000))
    assert isinstance(stage.connect(), events.PeerView)
    stage.send(19_000)
    assert list(stage.relay.node.statistics().relay.circuits_ended) == ["data"]
    assert stage.seeker.node.statistics().circuits.faults == {}


def test_what_others_open_counts_against_no_relay() -> None:
    """Else whoever wants could have a node leave its relays."""
    stage = Stage()
    stage.seeker.ask(lambda op: events.ConnectRequested(op, stage.relay.identity.peer_id, (where(stage.relay),)))
    stage.simulation.run(2)
    for _ in range(5):
        speak(stage.seeker, stage.relay, HOP, encode_hop(Hop(HopType.CONNECT, stage.target)), b"garbage")
    assert stage.hidden.node.statistics().circuits.opened_inbound == 5
    assert stage.hidden.node.statistics().circuits.faults == {}
    assert standing(stage.hidden, stage.relay).points(stage.simulation.clock.now) > 0


def test_a_place_with_a_relay_that_was_found_and_lies_is_given_up_for_another() -> None:
    simulation = Simulation(3)
    relays = [simulation.add(replace(QUIET, relay=UNLIMITED)) for _ in range(2)]
    wants = RelayConfig(find=True, reservations=1)
    node = simulation.add(replace(QUIET, target_peers=2, bootstrap=tuple(map(where, relays)), relay=wants))
    simulation.run(60)
    (first,) = [relay for relay in relays if relay.node.statistics().relay.reservations]
    (second,) = [relay for relay in relays if relay is not first]
    for number in range(1, 6):
        behind = Identity(bytes([number]) * 32).peer_id
        standing(node, first).blame(CircuitFault.OTHER_PEER, behind, simulation.clock.now)
    simulation.run(180)
    assert second.node.statistics().relay.reservations == 1
    assert node.node.statistics().relay.places == 1
    assert all(address.relay.peer_id == second.identity.peer_id for address in node.node.addresses().relayed)


def test_circuits_from_strangers_are_refused() -> None:
    stage = Stage()
    op = stage.seeker.ask(lambda op: events.ConnectRequested(op, stage.relay.identity.peer_id, (where(stage.relay),)))
    stage.simulation.run(2)
    assert isinstance(stage.seeker.result(op), events.PeerView)
    somebody = Identity(bytes(range(32))).peer_id
    answer = speak(stage.seeker, stage.relay, STOP, encode_stop(Stop(StopType.CONNECT, somebody)))
    assert decode_stop(body(answer)).status == RelayStatus.PERMISSION_DENIED
    assert stage.relay.node.statistics().circuits.refused == {"stranger": 1}


@pytest.mark.parametrize(
    ("message", "status"),
    [
        (encode_hop(Hop(HopType.CONNECT)), RelayStatus.MALFORMED_MESSAGE),
        (encode_hop(Hop(HopType.STATUS, status=100)), RelayStatus.UNEXPECTED_MESSAGE),
        (b"\x03\xff\xff\xff", RelayStatus.MALFORMED_MESSAGE),
        (b"\x02\x08\x09", RelayStatus.MALFORMED_MESSAGE),
        (encode_hop(Hop(HopType.CONNECT, Identity(bytes(32)).peer_id)), RelayStatus.NO_RESERVATION),
    ],
)
def test_requests_that_are_none_are_answered(message: bytes, status: RelayStatus) -> None:
    stage = Stage()
    answer = speak(stage.hidden, stage.relay, HOP, message)
    assert decode_hop(body(answer)).status == status
    assert stage.relay.node.statistics().relay.requests_refused == {status.name.lower(): 1}


def test_oversize_requests_end_their_stream() -> None:
    stage = Stage()
    assert speak(stage.hidden, stage.relay, HOP, b"\xff\xff\x7f" + bytes(100)) == b""
    assert stage.relay.node.statistics().switch.stream_violations == 1


@pytest.mark.parametrize("lie", ["voucher", "past", "nothing"])
def test_places_that_are_none_are_not_taken(lie: str) -> None:
    stage = Stage()
    liar = stage.simulation.add(QUIET)
    liar.feed(streams.ProtocolsAccepted((HOP,)))
    client = stage.simulation.add(replace(QUIET, relay=RelayConfig((where(liar),))))
    stage.simulation.run(4)
    arrived = [each for each in liar.news if isinstance(each, streams.StreamArrived)]
    expire = (liar.wall_ns // 10**9) + 1000
    voucher = make_voucher(liar.identity, client.identity.peer_id, expire)
    if lie == "voucher":
        voucher = make_voucher(stage.seeker.identity, client.identity.peer_id, expire)
    place = Reservation(expire if lie != "past" else 1, (liar.address,), voucher)
    answer = Hop(HopType.STATUS, reservation=place if lie != "nothing" else None, status=RelayStatus.OK)
    liar.feed(streams.BytesWritten(arrived[0].stream, encode_hop(answer)))
    stage.simulation.run(2)
    assert client.node.statistics().relay.places == 0
    assert client.node.statistics().relay.places_failed == {"ProtocolError": 1}
    assert not standing(client, liar).trusted(client.simulation.clock.now)


def test_a_relay_that_never_answers_is_given_up() -> None:
    stage = Stage()
    liar = stage.simulation.add(QUIET)
    liar.feed(streams.ProtocolsAccepted((HOP,)))
    address = Multiaddr.from_text(f"{where(liar)}/p2p-circuit")
    op = stage.seeker.ask(lambda op: events.ConnectRequested(op, stage.target, (address,)))
    stage.simulation.run(60)
    assert isinstance(stage.seeker.result(op), SidecarError)
    assert stage.seeker.node.statistics().circuits.failed == {"DeadlineExceeded": 1}
