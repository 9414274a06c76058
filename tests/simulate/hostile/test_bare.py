"""Hostile nodes without a node beneath: what their peers see of them."""

import random

from sidecar.core import events
from sidecar.core.buffer import FrameDecoder
from sidecar.core.errors import Unreachable
from sidecar.core.gossip.messages import decode_rpc, encode_subscription
from sidecar.core.identify import IDENTIFY, IdentifyReader
from sidecar.core.identity import Identity
from sidecar.core.multiaddr import Multiaddr
from sidecar.core.node import NodeConfig, NodeEffect
from sidecar.core.parameters.gossip import PROTOCOLS
from sidecar.core.records import open_peer_record
from sidecar.core.types import Direction
from sidecar.core.varint import encode
from sidecar.simulate.hostile import BareNode, Surroundings
from sidecar.simulate.hostile.sybil import Silent

OWN, OTHER = Identity(b"\x01" * 32), Identity(b"\x02" * 32)
HERE, THERE = Multiaddr.tcp("192.0.2.1", 4001), Multiaddr.tcp("192.0.2.2", 4001)
GOSSIP = PROTOCOLS[0]


class Bench:
    """A silent sybil that has dialled its only target, and collects what it does."""

    def __init__(self) -> None:
        config = NodeConfig()
        around = Surroundings(random.Random(1), 0.0, lambda name: (), {}, lambda name: (), config)
        targets = [(OTHER.peer_id, THERE)]
        self.node = BareNode(
            config, OWN, now=0.0, wall_ns=1, rng=random.Random(1), conduct=Silent(around), targets=targets
        )
        self.effects: list[NodeEffect] = [*self.node.handle(events.AddressesChanged((HERE,), ()), 0.0)]
        self.effects += self.node.handle_deadline(0.0)

    def connected(self, connection: int = 1, dial: int | None = None) -> None:
        opened = events.ConnectionOpened(
            connection, OTHER.peer_id, OTHER.public_key, Direction.OUTBOUND, THERE, HERE, dial
        )
        self.effects = [*self.node.handle(opened, 1.0)]

    def feed(self, *arrived: events.TransportInput, now: float = 1.0) -> list[NodeEffect]:
        return [effect for each in arrived for effect in self.node.handle(each, now)]

    def said(self, stream: int) -> bytes:
        return b"".join(self.node.take(stream, 1 << 16))


def stream(connection: int, number: int) -> int:
    return connection << events.STREAM_BITS | number


def test_it_dials_its_targets_and_comes_back_to_them() -> None:
    bench = Bench()
    (dial,) = bench.effects
    assert isinstance(dial, events.Dial)
    assert (dial.peer, dial.addresses) == (OTHER.peer_id, (THERE,))
    assert bench.node.handle_deadline(5.0) == ()  # that one is under way
    bench.feed(events.DialFailed(dial.dial, Unreachable("no answer")))
    (again,) = bench.node.handle_deadline(10.0)
    assert isinstance(again, events.Dial)
    bench.connected(dial=again.dial)
    assert bench.node.handle_deadline(15.0) == ()
    bench.feed(events.ConnectionClosed(1, None))
    (third,) = bench.node.handle_deadline(20.0)
    assert isinstance(third, events.Dial)


def test_it_gives_up_where_it_is_never_let_in() -> None:
    bench = Bench()
    dials = 0
    for beat in range(100):
        for effect in bench.effects:
            assert isinstance(effect, events.Dial)
            dials += 1
            bench.feed(events.DialFailed(effect.dial, Unreachable("refused")))
        bench.effects = [*bench.node.handle_deadline(5.0 * (beat + 1))]
    assert dials == 12


def test_identify_says_that_it_gossips_and_signs_its_address() -> None:
    bench = Bench()
    bench.connected()
    assert bench.node.accepts(IDENTIFY)
    number = stream(1, 2)
    effects = bench.feed(events.StreamOpened(number, IDENTIFY, None))
    assert effects == [events.Wake(number), events.CloseWrite(number)]
    reader = IdentifyReader()
    reader.receive(bench.said(number))
    info = reader.finish()
    assert info.protocol_version == NodeConfig().protocol_version
    assert info.protocols == (IDENTIFY, *PROTOCOLS)
    assert info.signed_record is not None
    assert open_peer_record(info.signed_record, OWN.peer_id).addresses == (HERE,)
    assert not bench.node.accepts(NodeConfig().kademlia_protocol)  # the conduct does not tap it


def test_its_conduct_gossips_on_the_stream_that_it_opens_and_on_the_next_one() -> None:
    bench = Bench()
    bench.connected()
    (opening,) = bench.effects
    assert isinstance(opening, events.OpenStream)
    assert opening.protocols == PROTOCOLS
    ours, theirs = stream(1, 1), stream(1, 2)
    subscription = encode_subscription(b"news", 0)
    arrived = events.StreamsReceived(1, ((theirs, encode(len(subscription)) + subscription),))
    effects = bench.feed(
        events.StreamOpened(ours, GOSSIP, opening.token), events.StreamOpened(theirs, GOSSIP, None), arrived
    )
    assert effects == [events.Wake(ours)]
    (frame,) = FrameDecoder(1 << 16).receive(bench.said(ours))
    assert [graft.topicID for graft in decode_rpc(frame).control.graft] == [b"news"]
    bench.feed(events.StreamGone(ours))  # the peer resets it
    (anew,) = bench.node.handle_deadline(2.0)
    assert isinstance(anew, events.OpenStream)
    assert bench.feed(events.StreamOpened(stream(1, 3), GOSSIP, anew.token)) == [events.Wake(stream(1, 3))]


def test_a_second_connection_takes_over_when_the_first_one_ends() -> None:
    bench = Bench()
    bench.connected(1)
    bench.connected(2)
    assert bench.effects == []  # one stream is enough
    (opening,) = bench.feed(events.ConnectionClosed(1, None))
    assert isinstance(opening, events.OpenStream)
    assert opening.connection == 2
