"""Pings: echoing theirs, and measuring the way to a peer for latency, for apps and for the routing table."""

from collections.abc import Callable

from .. import events
from ..deadlines import Deadline
from ..errors import DeadlineExceeded, SidecarError
from ..override import override
from ..ping import PING, Pinger, PingResponder
from .service import Service
from .switch import Peer, PeerConnection, SimpleHandler, Stream, Switch

Answer = Callable[[float | SidecarError, float], None]
_TOGETHER = 1 / 6  # of the interval between two pings of a peer: who is due within it is pinged with the first; a guess
_AT_ONCE = 16  # peers pinged in one turn: about a millisecond's work; a guess
_NEXT = 0.01  # seconds until the next turn of that kind
_SMOOTHING = 0.1  # share of a new round trip in the latency shown, as go-libp2p's peerstore weighs it


class _Ping:
    """One ping under way, on a stream of its own."""

    __slots__ = ("answer", "deadline", "pinger")

    def __init__(self, pinger: Pinger, answer: Answer) -> None:
        self.pinger = pinger
        self.answer: Answer | None = answer
        self.deadline: Deadline | None = None


class PingService(SimpleHandler, Service[events.LatencyMeasured]):
    """Both sides of libp2p ping, and the latency of connected peers.

    That is measured by the muxer's pings, for which no stream is opened; over a connection where they are not answered,
    by libp2p's.
    """

    name = "ping"

    def __init__(self, switch: Switch) -> None:
        self._switch = switch
        self._due: dict[Peer, float] = {}  # when to measure the latency of peers again
        self._timer: Deadline | None = None  # for the first of them
        self._timer_at = 0.0
        switch.register(PING, self, housekeeping=True)

    def ping(self, connection: PeerConnection, now: float, answer: Answer) -> None:
        """Ping over a connection; `answer` gets the round trip in seconds, or the error."""
        ping = _Ping(Pinger(self._switch.rng), answer)
        timeout = self._switch.config.ping_timeout
        self._switch.open_stream(connection, (PING,), self, ping)
        late = DeadlineExceeded(f"no answer to a ping within {timeout:g} s")
        ping.deadline = self._switch.deadlines.at(now + timeout, lambda now: self._finish(ping, late, now))

    def peer_ready(self, peer: Peer, now: float) -> None:
        """Measure the peer now and then from here on."""
        self._measure(peer, now)

    @override
    def handle(self, arrived: events.LatencyMeasured, now: float) -> None:
        connection = self._switch.connections.get(arrived.connection)
        if connection is not None:
            connection.unanswered = False
            _smooth(connection.peer, arrived.round_trip)

    def peer_lost(self, peer: Peer, now: float) -> None:
        """Measure it no more."""
        self._due.pop(peer, None)

    def _measure(self, peer: Peer, now: float) -> None:
        connection = peer.best
        if connection.unanswered:
            self.ping(connection, now, lambda answer, now: self._measure_again(peer, now))
        else:
            connection.unanswered = True
            self._switch.emit(events.MeasureLatency(connection.number, self._switch.rng.getrandbits(32)))
            self._measure_again(peer, now)

    def _measure_again(self, peer: Peer, now: float) -> None:
        if peer.connections:
            pause = self._switch.config.ping_interval * (0.75 + self._switch.rng.random() / 2)  # so that many spread
            self._due[peer] = now + pause
            self._wake_at(now + pause)

    def _wake_at(self, when: float) -> None:
        if self._timer is not None:
            if self._timer_at <= when:
                return
            self._timer.cancel()
        self._timer, self._timer_at = self._switch.deadlines.at(when, self._measure_some), when

    def _measure_some(self, now: float) -> None:
        """Measure who is due, and who will be soon: waking up costs more than a ping."""
        self._timer = None
        soon = now + self._switch.config.ping_interval * _TOGETHER
        for peer in [peer for peer, due in self._due.items() if due <= soon][:_AT_ONCE]:
            del self._due[peer]
            self._measure(peer, now)
        if self._due:
            self._wake_at(max(min(self._due.values()), now + _NEXT))

    @override
    def opened(self, stream: Stream, now: float) -> None:
        if isinstance(stream.state, _Ping):
            if stream.state.answer is None:  # too late
                self._switch.reset(stream)
            else:
                self._switch.expire(stream, now)
                self._switch.write(stream, stream.state.pinger.start(now))
        else:
            stream.state = PingResponder()

    @override
    def received(self, stream: Stream, data: bytes, now: float) -> None:
        state = stream.state
        if isinstance(state, _Ping):
            round_trip = state.pinger.receive(data, now)
            if round_trip is not None:
                self._switch.close_write(stream)
                _smooth(stream.peer, round_trip)
                self._finish(state, round_trip, now)
        elif isinstance(state, PingResponder) and not stream.write_closed:
            echo = state.receive(data, len(stream.out))
            self._switch.charge(stream.peer.id, "ping", max(1, len(echo) // 32), now)
            if echo:
                self._switch.write(stream, echo)

    @override
    def ended(self, stream: Stream, now: float) -> None:
        self._switch.close_write(stream)

    @override
    def closed(self, stream: Stream, error: SidecarError, now: float) -> None:
        if isinstance(stream.state, _Ping):
            self._finish(stream.state, error, now)

    @override
    def failed(self, state: object, error: SidecarError, now: float) -> None:
        if isinstance(state, _Ping):
            self._finish(state, error, now)

    def _finish(self, ping: _Ping, result: float | SidecarError, now: float) -> None:
        if ping.deadline is not None:
            ping.deadline.cancel()
        answer, ping.answer = ping.answer, None
        if answer is not None:
            answer(result, now)


def _smooth(peer: Peer, round_trip: float) -> None:
    """Take a round trip, in seconds, into the latency shown."""
    old = peer.latency
    peer.latency = round_trip if old is None else old + _SMOOTHING * (round_trip - old)
