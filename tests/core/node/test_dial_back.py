"""The server of AutoNAT v2 among askers that mean harm: whom it dials, and what they pay."""

from collections.abc import Callable

import pytest

from sidecar.core import autonat, events
from sidecar.core.buffer import FrameDecoder
from sidecar.core.errors import SidecarError
from sidecar.core.multiaddr import Multiaddr
from sidecar.core.node import NodeConfig
from sidecar.core.node.switch import SimpleHandler, Stream, Switch
from sidecar.core.parameters import AutonatConfig
from sidecar.sim import SimPeer, Simulation

ALONE = NodeConfig(target_peers=0, target_outbound=0, autonat=AutonatConfig(ask=False))
VICTIM = Multiaddr.tcp("203.0.113.1", 4001)


class Asker(SimpleHandler):
    """Asks as no node would, and keeps what it is answered."""

    name = "autonat"

    def __init__(self, switch: Switch) -> None:
        self.switch = switch
        self.decoder = FrameDecoder(autonat.MAX_MESSAGE)
        self.answers: list[autonat.messages.Message] = []
        self.error: SidecarError | None = None
        self.pays: Callable[[autonat.DialDataRequest], bytes] = lambda asked: b""

    def ask(self, server: SimPeer, frames: bytes) -> None:
        connection = self.switch.peers[server.identity.peer_id].best
        self.switch.open_stream(connection, (autonat.DIAL_REQUEST,), self, frames)

    def opened(self, stream: Stream, now: float) -> None:
        assert isinstance(stream.state, bytes)
        self.switch.write(stream, stream.state)

    def received(self, stream: Stream, data: bytes, now: float) -> None:
        for frame in self.decoder.receive(data):
            message = autonat.decode(frame)
            self.answers.append(message)
            if isinstance(message, autonat.DialDataRequest):
                self.switch.write(stream, self.pays(message))

    def closed(self, stream: Stream, error: SidecarError, now: float) -> None:
        self.error = error


class Scene:
    """A server, one that asks it, and a victim."""

    def __init__(self) -> None:
        self.simulation = Simulation(1)
        self.server = self.simulation.add(ALONE, host="192.0.2.1")
        self.peer = self.simulation.add(ALONE, host="198.51.100.1")
        self.victim = self.simulation.add(ALONE, host="203.0.113.1")
        to = self.server
        self.peer.ask(lambda op: events.ConnectRequested(op, to.identity.peer_id, (to.address,)))
        self.simulation.run(5)
        self.switch = self.peer.node._services.switch
        self.dials: list[tuple[Multiaddr, ...]] = []
        dial = self.server._dial

        def noted(asked: events.Dial) -> None:
            self.dials.append(asked.addresses)
            dial(asked)

        self.server._dial = noted  # type: ignore[method-assign]

    def ask(self, *addresses: Multiaddr, frames: bytes | None = None, paying: bool = False, run: float = 30) -> Asker:
        asker = Asker(self.switch)
        if paying:
            asker.pays = lambda asked: autonat.encode_data(asked.size)
        asker.ask(self.server, autonat.encode_request(addresses, 7) if frames is None else frames)
        effects, self.peer.node._services.turn.effects = self.peer.node._services.turn.effects, []
        self.peer._carry_out(effects)
        self.simulation.run(run)
        return asker

    @property
    def counts(self) -> autonat.DialBackStatistics:
        return self.server.node.statistics().dial_back


@pytest.fixture
def scene() -> Scene:
    return Scene()


REFUSED = [autonat.DialResponse(autonat.DIAL_REFUSED)]


def test_a_victim_is_not_dialled_before_more_is_paid_than_it_costs(scene: Scene) -> None:
    asker = scene.ask(VICTIM)
    (wanted,) = asker.answers
    assert isinstance(wanted, autonat.DialDataRequest)
    assert 30_000 <= wanted.size <= 100_000
    assert not scene.dials
    assert scene.counts.broken == 1
    assert asker.error is not None, "it has had its time"


def test_who_pays_gets_one_dial_and_the_victim_learns_of_nobody(scene: Scene) -> None:
    asker = scene.ask(VICTIM, Multiaddr.tcp("203.0.113.2", 1), paying=True)
    assert scene.dials == [(VICTIM,)]
    assert asker.answers[1:] == [autonat.DialResponse(autonat.OK, 0, autonat.DIAL_ERROR)], "another key is there"
    assert scene.counts.dial_data_bytes >= 30_000
    assert scene.counts.not_reached == 1
    known = [view.peer for view in scene.victim.node.peers(known=True)]
    assert scene.server.identity.peer_id not in known


@pytest.mark.parametrize(
    "text",
    [
        "/ip4/10.1.2.3/tcp/4001",
        "/ip4/127.0.0.1/tcp/22",
        "/ip4/169.254.169.254/tcp/80",
        "/ip4/100.64.0.1/tcp/80",
        "/ip6/fd00::1/tcp/1",
        "/ip6/::ffff:10.1.2.3/tcp/1",
        "/ip4/192.0.2.9/tcp/0",
        "/ip4/192.0.2.9/udp/4001/quic-v1",
        "/dnsaddr/example.org",
        "/ip4/198.51.100.1/tcp/4001/p2p/12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN",
    ],
)
def test_what_strangers_may_not_have_dialled_is_refused(scene: Scene, text: str) -> None:
    assert scene.ask(Multiaddr.from_text(text), paying=True).answers == REFUSED
    assert not scene.dials
    assert scene.counts.refused == 1


def test_the_first_address_that_may_be_dialled_is(scene: Scene) -> None:
    asker = scene.ask(Multiaddr.tcp("10.0.0.1", 1), scene.peer.address)
    assert scene.dials == [(scene.peer.address,)]
    (answer,) = asker.answers  # the nonce is none that it knows, so it resets the stream
    assert answer == autonat.DialResponse(autonat.OK, 1, autonat.DIAL_BACK_ERROR)
    assert scene.counts.not_delivered == 1
    assert len(scene.server.links) == 1


def test_requests_beyond_the_rate_are_rejected(scene: Scene) -> None:
    answers = [scene.ask(Multiaddr.tcp("10.0.0.1", 1), run=0.5).answers for _ in range(14)]
    assert answers[:12] == [REFUSED] * 12
    assert answers[12:] == [[autonat.DialResponse(autonat.REQUEST_REJECTED)]] * 2
    assert (scene.counts.requests, scene.counts.rejected) == (14, 2)


def test_two_at_once_are_enough(scene: Scene) -> None:
    waiting = [scene.ask(VICTIM, run=0.5) for _ in range(2)]
    assert scene.ask(VICTIM, run=0.5).answers == [autonat.DialResponse(autonat.REQUEST_REJECTED)]
    assert all(isinstance(asker.answers[0], autonat.DialDataRequest) for asker in waiting)


@pytest.mark.parametrize(
    "frames",
    [
        b"\xff\xff\x7f",  # a message of two megabytes
        b"\x03\xff\xff\xff",
        b"\x00",  # of no kind
        autonat.encode_data(4000),  # paid before anything was asked
        autonat.encode_response(autonat.DialResponse(autonat.OK)),
        autonat.encode_request([VICTIM], 7) * 2,
    ],
    ids=["oversize", "malformed", "empty", "data first", "response", "two requests"],
)
def test_what_breaks_the_protocol_ends_the_stream_and_is_forgotten(scene: Scene, frames: bytes) -> None:
    asker = scene.ask(frames=frames)
    assert asker.error is not None
    assert not scene.dials
    assert scene.counts.broken == 1
    assert not scene.server.node._services.dial_back._open


def test_tiny_pieces_of_data_are_not_taken(scene: Scene) -> None:
    asker = Asker(scene.switch)
    asker.pays = lambda asked: autonat.encode_data(50)
    asker.ask(scene.server, autonat.encode_request([VICTIM], 7))
    effects, scene.peer.node._services.turn.effects = scene.peer.node._services.turn.effects, []
    scene.peer._carry_out(effects)
    scene.simulation.run(5)
    assert asker.error is not None
    assert not scene.dials


def test_who_leaves_while_it_is_dialled_leaves_nothing(scene: Scene) -> None:
    scene.ask(VICTIM, paying=True, run=0.5)
    scene.simulation.kill(scene.peer)
    scene.simulation.run(30)
    assert not scene.server.node._services.dial_back._open
    assert not scene.server.links
