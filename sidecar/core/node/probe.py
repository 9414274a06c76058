"""Probes in the node: marked messages on a topic, and answers to them on streams of their own (docs/protocols.md)."""

from collections.abc import Iterable
from dataclasses import replace

from .. import gossip, probe
from ..buffer import FrameDecoder
from ..errors import (
    NotFound,
    NotSupported,
    ProtocolError,
    ResourceExhausted,
    SidecarError,
    TooLarge,
    Unreachable,
)
from ..events import LogLevel, OperationCancelled
from ..histogram import Histogram
from ..identity import Identity
from ..override import override
from ..types import PeerId
from .dialling import Dialling
from .gossip import GossipService
from .kademlia import KademliaService
from .operations import Operations
from .probe_watch import Done, ProbeWatch
from .service import Follower, Service
from .switch import Peer, SimpleHandler, Stream, StreamHandler, Switch

# As for the propagation of messages, which this measures to the end.
_BOUNDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_ECHO = 8  # bytes
_MAX_ECHOED = 256  # bytes that an answerer sends back on one stream; a guess, some ten times what a prober asks
_READING = 20.0  # points of work that an answer counts, and a probe: some 100 us


class _Answering:
    """We answer a probe: reaching the prober, then echoing what it sends."""

    __slots__ = ("came", "direct", "echoed", "message", "prober")

    def __init__(self, message: probe.ProbeMessage, prober: PeerId, came: float, *, direct: bool) -> None:
        self.message = message
        self.prober = prober
        self.came = came
        self.direct = direct  # whether the message came from the prober itself
        self.echoed = 0


class _Prober:
    """Somebody whom we answer just now. `made`: it is connected for that alone."""

    __slots__ = ("answers", "made")

    def __init__(self, made: bool) -> None:
        self.made = made
        self.answers = 0  # under way


class _Answered:
    """A peer answers our probe: its answer, then our echoes."""

    __slots__ = ("decoder", "echo", "left", "received", "run", "sent_at", "shortest", "timing")

    def __init__(self) -> None:
        self.decoder = FrameDecoder(probe.MAX_ANSWER)
        self.run: probe.ProbeRun | None = None
        self.timing: probe.Timing | None = None
        self.left = 0
        self.echo = b""
        self.received = b""
        self.sent_at = 0.0
        self.shortest = float("inf")


class ProbeService(SimpleHandler, Service[probe.ProbeRequested], Follower[OperationCancelled]):
    """Probes for apps, and answers the probes of others at a bounded rate."""

    name = "probe"

    def __init__(
        self,
        switch: Switch,
        dialling: Dialling,
        operations: Operations,
        gossip: GossipService,
        kademlia: KademliaService,
        identity: Identity,
        in_use: tuple[StreamHandler, ...],
        now: float,
    ) -> None:
        """`in_use`: a stream of such a handler means that an app has business with the peer."""
        self._switch = switch
        self._dialling = dialling
        self._operations = operations
        self._gossip = gossip
        self._kademlia = kademlia
        self._identity = identity
        self._in_use = in_use
        self._config = switch.config.probe
        self._protocol = switch.config.probe_protocol
        self._runs: dict[int, probe.ProbeRun] = {}  # by operation
        self._ends: dict[int, Done] = {}
        self._bounds = probe.AnswerBounds(self._config, now)
        self._probers: dict[PeerId, _Prober] = {}
        self._counts = probe.ProbeStatistics()
        self.delays = Histogram(_BOUNDS)
        switch.register(self._protocol, self)
        gossip.intercept(probe.MARK, self._arrived)
        self._watch = ProbeWatch(switch, operations.new, self._begin, self._counts, now)

    def statistics(self) -> probe.ProbeStatistics:
        """A copy of the counters."""
        counts = self._counts
        return replace(
            counts,
            in_time_share=self._watch.share,
            ignored=dict(counts.ignored),
            refused=dict(counts.refused),
            judged=dict(counts.judged),
            unjudged=dict(counts.unjudged),
        )

    # ------------------------------------------------------------ the prober: publishing

    @override
    def handle(self, arrived: probe.ProbeRequested, now: float) -> None:
        under_way = sum(op in self._operations for op in self._runs)
        if not self._operations.begin(arrived.op):
            return
        error: SidecarError | None = None
        if under_way >= self._config.max_runs:
            error = ResourceExhausted(f"{under_way} probes of this node are under way, at most that many")
        else:
            error = self._begin(arrived, lambda run, result, now: self._operations.complete(arrived.op, result), now)
        if error is not None:
            self._operations.complete(arrived.op, error)

    def followed(self, arrived: OperationCancelled, now: float) -> None:
        """An operation is not wanted any more."""
        self._runs.pop(arrived.op, None)
        self._ends.pop(arrived.op, None)

    def _begin(self, asked: probe.ProbeRequested, done: Done, now: float, within: float = 0.0) -> SidecarError | None:
        """Begin a probe, or say why that cannot be. `within`: seconds in which receivers should have its messages."""
        error = self._refusal(asked)
        if error is None:
            identifier = self._switch.rng.randbytes(probe.ID_BYTES)
            run = probe.ProbeRun(asked, identifier, now, self._config.surplus, within)
            self._runs[asked.op], self._ends[asked.op] = run, done
            self._publish(run, now)
        return error

    def _refusal(self, asked: probe.ProbeRequested) -> SidecarError | None:
        """Why a probe cannot be begun."""
        topic = self._topic(asked.topic)
        if topic is None:
            return NotFound(f"nobody here or connected is in the topic {asked.topic[:64]!r}")
        if not topic.peers:
            return Unreachable(f"no peer of the topic {asked.topic[:64]!r} is connected")
        mute = len(topic.peers) - len(self._able(topic.peers))
        if mute and not asked.exposed:
            return NotSupported(
                f"{mute} of {len(topic.peers)} peers of the topic do not speak {self._protocol}: their apps would be "
                "given the probe's messages"
            )
        return None

    def _topic(self, name: str) -> gossip.TopicView | None:
        return next((view for view in self._gossip.router.topics() if view.topic == name), None)

    def _able(self, peers: Iterable[PeerId]) -> list[PeerId]:
        """Those of these that speak the protocol."""
        table = self._switch.peers
        return [peer for peer in peers if (known := table.get(peer)) is not None and known.speaks(self._protocol)]

    def _publish(self, run: probe.ProbeRun, now: float) -> None:
        """Publish the next message, and see to what follows it."""
        asked = run.asked
        if self._runs.get(asked.op) is not run:
            return
        topic = self._topic(asked.topic)
        peers, mesh = (topic.peers, topic.mesh) if topic is not None else ((), ())
        rate = self._rate(asked.answers, max(len(peers), run.receivers))
        # Who is connected because it has answered would be told directly, sooner than without the probe.
        table = self._switch.peers
        guests = [
            peer
            for peer in peers
            if peer not in mesh and (known := table.get(peer)) is not None and known.since > run.begun
        ]
        number = run.next
        run.publishing(now, rate, [p for p in self._able(peers) if probe.asks(run.id, number, rate, p)])
        message = probe.ProbeMessage(run.id, number, rate, asked.topic, self._switch.advertised())
        payload = probe.encode_probe(self._identity, message, asked.size)

        def published(completed: gossip.PublishCompleted, now: float) -> None:
            outcome = completed.receipts[0].outcome
            if outcome is gossip.PublishOutcome.SENT:
                self._counts.messages_published += 1
            elif outcome is gossip.PublishOutcome.TOO_LARGE:
                error = TooLarge(f"a probe of {len(payload)} bytes is over the bound on gossip messages")
                self._end(run, error, now)
            else:
                run.failed(number)

        options = None if asked.sign is None else gossip.TopicOptions(asked.sign)
        op = self._operations.new()
        self._gossip.publish(gossip.Published(op, asked.topic, [payload], options=options, without=guests), published)
        if run.complete:
            patience = self._config.patience + run.within
            self._switch.deadlines.at(now + patience, lambda now: self._end(run, run.summary(), now))
        else:
            self._switch.deadlines.at(now + asked.interval, lambda now: self._publish(run, now))

    def _rate(self, answers: int, peers: int) -> int:
        """Of every 2^32 receivers, how many are asked, so that about so many answer; `peers` of the topic are known."""
        receivers = max(self._kademlia.router.network_size() - 1, peers, 1)
        return max(1, min(probe.WHOLE, answers * probe.WHOLE // receivers))

    def _end(self, run: probe.ProbeRun, result: probe.ProbeSummary | SidecarError, now: float) -> None:
        op = run.asked.op
        if self._runs.get(op) is run:
            del self._runs[op]
            self._ends.pop(op)(run, result, now)

    # ------------------------------------------------------------ the prober: answers

    def _read_answer(self, stream: Stream, state: _Answered, data: bytes, now: float) -> None:
        for frame in state.decoder.receive(data):
            if state.timing is not None:
                raise ProtocolError("a second answer on one stream")
            answer = probe.decode_answer(frame)
            self._counts.answers_received += 1
            run = next((run for run in self._runs.values() if run.id == answer.id), None)
            judged = "unknown" if run is None else run.judge(stream.peer.id, answer, now)
            if run is None or isinstance(judged, str):
                self._ignore(run, str(judged))
                self._switch.reset(stream)
                return
            state.run, state.timing, state.left = run, judged, self._config.echoes
            self._echo(stream, state, now)

    def _echo(self, stream: Stream, state: _Answered, now: float) -> None:
        state.left -= 1
        state.echo = self._switch.rng.randbytes(_ECHO)
        state.received = b""
        state.sent_at = now
        self._switch.write(stream, state.echo)

    def _read_echo(self, stream: Stream, state: _Answered, data: bytes, now: float) -> None:
        state.received += data[: _ECHO + 1]
        if not state.echo.startswith(state.received):
            raise ProtocolError("other bytes came back than were sent")
        if len(state.received) < _ECHO:
            return
        state.echo = b""
        state.shortest = min(state.shortest, now - state.sent_at)
        if state.left:
            self._echo(stream, state, now)
            return
        self._switch.close_write(stream)
        run, timing = state.run, state.timing
        assert run is not None
        assert timing is not None
        if self._runs.get(run.asked.op) is not run:  # it ended meanwhile
            self._ignore(None, "unknown")
            return
        measured = run.measured(timing, state.shortest)
        if isinstance(measured, str):
            self._ignore(run, measured)
        else:
            self.delays.observe(measured.delay)
            if run.asked.op in self._operations:  # an app waits for it
                self._switch.emit(probe.ProbeAnswered(run.asked.op, measured))

    def _ignore(self, run: probe.ProbeRun | None, why: str) -> None:
        self._counts.ignored[why] += 1
        if run is not None:
            run.ignored += 1

    # ------------------------------------------------------------ the answerer

    def _arrived(self, message: gossip.GossipMessage, now: float) -> None:
        """A marked message came, which no app gets."""
        if message.local:
            return
        self._counts.messages_received += 1
        try:
            asked, envelope = probe.read_probe(message.data)
        except SidecarError as error:
            self._refuse(message.received_from, "malformed", error)
            return
        # Whatever the prober wants: all of the network answer no more than this together.
        most = self._rate(self._config.network_answers, 0)
        if not asked._replace(rate=min(asked.rate, most)).asks(self._switch.local):
            return
        refusal = self._bounds.read(now)
        if refusal is not None:
            self._refuse(message.received_from, refusal)
            return
        try:
            prober = probe.prober_of(envelope)
        except SidecarError as error:
            self._refuse(message.received_from, "forged", error)
            return
        if asked.topic != message.topic or (message.sender is not None and message.sender != prober):
            self._refuse(message.received_from, "forged")
            return
        refusal = self._bounds.answer(prober, asked.id, asked.number, now)
        if refusal is None and sum(each.answers for each in self._probers.values()) >= self._config.max_answering:
            refusal = "too_many"
        if refusal is not None:
            self._refuse(prober, refusal)
            return
        self._answer(_Answering(asked, prober, now, direct=message.received_from == prober), now)

    def _answer(self, state: _Answering, now: float) -> None:
        prober = self._probers.get(state.prober)
        if prober is None:
            prober = self._probers[state.prober] = _Prober(made=state.prober not in self._switch.peers)
        prober.answers += 1

        def reached(result: Peer | SidecarError, now: float) -> None:
            if isinstance(result, SidecarError):
                self.failed(state, result, now)
            else:
                self._switch.open_stream(result.best, (self._protocol,), self, state)

        self._dialling.reach(state.prober, state.message.addresses, reached, now, search=True, passing=True)

    def _refuse(self, peer: PeerId, why: str, error: SidecarError | None = None) -> None:
        self._counts.refused[why] += 1
        self._switch.note(LogLevel.DEBUG, peer, "probe: not answered: %s", error or why)

    def _done(self, state: _Answering) -> None:
        """An answer is over: let go of a connection that was made for such, unless it has come to be of use."""
        prober = self._probers[state.prober]
        prober.answers -= 1
        if prober.answers:
            return
        del self._probers[state.prober]
        peer = self._switch.peers.get(state.prober)
        if peer is None or not prober.made or self._gossip.memberships()[0].get(peer.id):
            return
        if not any(each.handler in self._in_use for c in peer.connections for each in c.streams.values()):
            self._switch.disconnect(peer, None)

    # ------------------------------------------------------------ streams

    @override
    def opened(self, stream: Stream, now: float) -> None:
        self._switch.expire(stream, now)
        state = stream.state
        if isinstance(state, _Answering):
            asked = state.message
            held = round((now - state.came) * 1e6)
            self._switch.write(stream, probe.encode_answer(probe.Answer(asked.id, asked.number, held, state.direct)))
            self._counts.answers_sent += 1
        else:
            self._switch.charge(stream.peer.id, "probe", _READING, now)
            stream.state = _Answered()

    @override
    def failed(self, state: object, error: SidecarError, now: float) -> None:
        if isinstance(state, _Answering):
            self._refuse(state.prober, "unreachable", error)
            self._done(state)

    @override
    def received(self, stream: Stream, data: bytes, now: float) -> None:
        state = stream.state
        if isinstance(state, _Answered):
            if state.timing is None:
                try:
                    self._read_answer(stream, state, data, now)
                except ProtocolError:
                    self._ignore(None, "malformed")
                    raise
            elif state.echo:
                self._read_echo(stream, state, data, now)
        elif isinstance(state, _Answering):
            state.echoed += len(data)
            if state.echoed > _MAX_ECHOED:
                raise ProtocolError(f"{state.echoed} bytes to be sent back, at most {_MAX_ECHOED}")
            self._switch.write(stream, data)

    @override
    def ended(self, stream: Stream, now: float) -> None:
        self._switch.close_write(stream)
        self._over(stream)

    @override
    def closed(self, stream: Stream, error: SidecarError, now: float) -> None:
        self._over(stream)

    def _over(self, stream: Stream) -> None:
        state, stream.state = stream.state, None
        if isinstance(state, _Answering):
            self._done(state)
        elif isinstance(state, _Answered) and state.echo:
            self._ignore(state.run, "unfinished")
