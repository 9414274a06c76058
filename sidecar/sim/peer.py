"""One simulated peer: the node machine, and a driver for it that knows only virtual time."""

import random
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from ..core import events, gossip, history
from ..core.errors import NotSupported, SelfDial, SidecarError, Unreachable, WrongPeer
from ..core.identity import Identity
from ..core.multiaddr import Multiaddr
from ..core.node import Node, NodeConfig, NodeEffect, NodeInput, NodeNews
from ..core.types import Direction
from .circuit import Circuit
from .history import MemoryHistory

if TYPE_CHECKING:
    from .network import Link, Simulation

_TAKE = 64 * 1024  # bytes asked of the node at a time, as the socket driver does


class ConnectionBounds(Protocol):
    """What bounds a peer's connections; as the socket driver's `Admission` does."""

    refused: Counter[str]
    """Connections, by the bound that they would have broken."""

    def refuse_inbound(self, host: str, now: float) -> str | None:
        """Count an inbound, half-open connection from an IP address, or return the bound that it would break."""

    def handshake_over(self, host: str) -> None:
        """An inbound connection is no longer half-open."""

    def release_inbound(self, host: str) -> None:
        """An inbound connection is gone."""

    def refuse_outbound(self) -> str | None:
        """Count an outbound connection, or return the bound that it would break."""

    def release_outbound(self) -> None:
        """An outbound connection is gone."""


class SimPeer:
    """A node of the simulation. What it tells its apps is collected in `news`; `ask` makes it do something."""

    def __init__(
        self, simulation: "Simulation", index: int, identity: Identity, config: NodeConfig, host: str | None = None
    ) -> None:
        self.simulation = simulation
        self.index = index
        self.identity = identity
        self.config = config
        own = f"10.{index >> 16 & 255}.{index >> 8 & 255}.{index & 255}"
        self.address = Multiaddr.tcp(own, 4001) if host is None else Multiaddr.tcp(host, 1024 + index % 60_000)
        self.news: list[NodeNews] = []
        self.listener: Callable[[NodeNews], None] | None = None
        self.make: Callable[..., Node] = Node
        """What makes its node, with the arguments of `Node`; for a peer that does not behave as one."""
        self.history: MemoryHistory | None = MemoryHistory(config.history) if config.history.topics else None
        """What it keeps of topics, over its restarts."""
        self.links: dict[int, Link] = {}
        self.circuits: dict[int, Circuit] = {}
        """Connections through relays, by the streams that carry them."""
        self.carried: dict[int, Circuit] = {}
        """The same by their own numbers."""
        self.refused_circuits: list[SidecarError | None] = []
        """Those that others opened and that failed in their handshake: why."""
        self.reached_by: Callable[[SimPeer], bool] = lambda dialler: True
        """Whether a dial of that peer comes through: a NAT lets none in."""
        self.admission: ConnectionBounds | None = None  # None: it takes any number of connections
        self.dials = 0  # since the beginning
        self.vain: Counter[str] = Counter()  # of these, those that led to nobody, or to another one; by IP address
        self.wall_ns = 1_700_000_000_000_000_000  # what its wall clock showed when virtual time began
        self.pace = 1.0  # seconds that its clocks count in one of virtual time
        self.sequence: int | None = None  # what the next start is told of the runs before
        self.alive = False
        self._timer = float("inf")
        self._fed = False  # within `feed`, which asks for the next deadline at its end
        self._uplink_free = 0.0
        self._downlink_free = 0.0
        self._connections = 0
        self._starts = 0
        self.punched_by: Callable[[SimPeer], bool] = lambda other: True
        """Whether its NAT shows that peer the port that others see: then both come through that dial at one moment."""
        self._punching: dict[int, events.Dial] = {}  # by the index of the peer at the other side
        self._attempts: dict[int, tuple[events.Dial, list[Multiaddr]]] = {}  # dials that want a circuit

    # ------------------------------------------------------------ life

    def start(self) -> None:
        """Begin, or begin again after `Simulation.kill`, with the same identity and no memory."""
        self._starts += 1
        rng = random.Random(f"{self.simulation.seed}/{self.index}/{self._starts}")
        self._entropy = random.Random(f"{self.simulation.seed}/{self.index}/{self._starts}/entropy")
        now = self.now()
        wall_ns = self.wall_ns + int(now * 1e9)
        sequence = self.sequence
        self.node = self.make(
            self.config,
            self.identity,
            now=now,
            wall_ns=wall_ns,
            rng=rng,
            sequence=sequence,
            verify=self.simulation.verdicts.verify,
            open_record=self.simulation.verdicts.open_record,
        )
        self.alive = True
        self.circuits.clear()
        self.carried.clear()
        self._attempts.clear()
        self._timer = float("inf")
        self.feed(events.AddressesChanged((self.address,), ()))

    def now(self) -> float:
        """Seconds by its own monotonic clock."""
        return self.simulation.clock.now * self.pace

    def ask(self, make: Callable[[int], NodeInput]) -> int:
        """Feed `make(op)` with a new operation number, and return that."""
        op = self.node.new_op()
        self.feed(make(op))
        return op

    def result(self, op: int) -> object:
        """What an operation was answered with; raises LookupError while it has not been."""
        for item in self.news:
            if isinstance(item, events.OperationCompleted) and item.op == op:
                return item.result
        raise LookupError(f"operation {op} is not answered")

    def feed(self, arrived: NodeInput) -> None:
        """Give the node an input and carry out what comes of it."""
        if self.alive:
            effects = self.node.handle(arrived, self.simulation.clock.now * self.pace)
            if effects:
                outer, self._fed = self._fed, True
                self._carry_out(effects)
                self._fed = outer
            if not self._fed:
                self._arm()

    def _arm(self) -> None:
        due = self.node.next_deadline()
        if due is not None and due < self._timer:
            self._timer = due
            self.simulation.clock.at(due / self.pace, self._on_timer, (due, self._starts))

    def _on_timer(self, due: float, starts: int) -> None:
        if due != self._timer or starts != self._starts or not self.alive:
            return  # a nearer one was armed since, or that node is no more
        self._timer = float("inf")
        # Its clock may be a rounding short of what it was set for.
        self._carry_out(self.node.handle_deadline(max(due, self.now())))
        self._arm()

    # ------------------------------------------------------------ effects

    def _carry_out(self, effects: Sequence[NodeEffect]) -> None:
        for effect in effects:
            match effect:  # the frequent ones first
                case events.Wake(stream):
                    link = self.links.get(stream >> events.STREAM_BITS) or self.carried.get(
                        stream >> events.STREAM_BITS
                    )
                    if link is not None:
                        link.wake(stream)
                case events.Note():
                    self._tell(effect)
                case gossip.MessagesDelivered() | gossip.HistoryRepeated():
                    if self.history is not None:
                        self.history.store(effect, self.now())
                    self._tell(effect)
                case history.LoadHistoryKeys() | history.FindHistoryKeys() | history.LoadHistoryBodies():
                    self._ask_store(effect)
                case events.CloseWrite(stream):
                    link = self.links.get(stream >> events.STREAM_BITS) or self.carried.get(
                        stream >> events.STREAM_BITS
                    )
                    if link is not None:
                        link.close_write(stream)
                case events.OpenStream():
                    self._open_stream(effect)
                case events.Dial():
                    self._dial(effect)
                case events.Resolve():
                    self._resolve(effect)
                case events.ResetStream(stream):
                    link = self.links.get(stream >> events.STREAM_BITS) or self.carried.get(
                        stream >> events.STREAM_BITS
                    )
                    if link is not None:
                        link.reset(stream)
                case events.Defer(stream):
                    link = self.links.get(stream >> events.STREAM_BITS) or self.carried.get(
                        stream >> events.STREAM_BITS
                    )
                    if link is not None:
                        link.defer(stream)
                case events.Acknowledge(stream, size):
                    link = self.links.get(stream >> events.STREAM_BITS) or self.carried.get(
                        stream >> events.STREAM_BITS
                    )
                    if link is not None:
                        link.acknowledge(stream, size)
                case events.PauseReading(connection) | events.ResumeReading(connection):
                    link = self.links.get(connection) or self.carried.get(connection)
                    if link is not None:
                        link.pause(isinstance(effect, events.PauseReading))
                case events.MeasureLatency(connection, _):
                    link = self.links.get(connection) or self.carried.get(connection)
                    if link is not None:
                        link.measure()
                case gossip.CheckSignatures(number, checks):
                    self._check(number, checks)
                case events.CircuitReceived(stream, data):
                    if stream in self.circuits:
                        self.circuits[stream].received(data)
                case events.CircuitTaken(stream, size):
                    if stream in self.circuits:
                        self.circuits[stream].taken(size)
                case events.CircuitOpened():
                    self._circuit_opened(effect)
                case events.CircuitFailed(attempt, error):
                    self._circuit_failed(attempt, error)
                case events.CircuitEnded(stream):
                    if stream in self.circuits:
                        self.circuits[stream].ended(None)
                case events.CircuitLost(stream, error):
                    if stream in self.circuits:
                        self.circuits[stream].ended(error)
                case events.CloseConnection(connection, error):
                    link = self.links.get(connection) or self.carried.get(connection)
                    if link is not None:
                        link.close(error)
                case _:
                    self._tell(effect)

    def _tell(self, news: NodeNews) -> None:
        if self.simulation.keep_news:
            self.news.append(news)
        if self.listener is not None:
            self.listener(news)

    def _ask_store(self, asked: history.StoreEffect) -> None:
        """Answer as a store would: from what is there now, but later; not at all where there is none."""
        store = self.history
        if store is not None:
            answer = store.answer(asked, self.now())
            self._later(0.0, lambda: self.feed(answer))

    def _check(self, number: int, checks: Sequence[gossip.SignatureCheck]) -> None:
        """Answer as another process would: later, though it costs no virtual time."""
        reasons = self.simulation.verdicts.verify(checks)
        self._later(0.0, lambda: self.feed(gossip.SignaturesChecked(number, reasons)))

    def _dial(self, dial: events.Dial) -> None:
        self.dials += 1
        simulation = self.simulation
        targets = [simulation.at_address(address.without_peer()) for address in dial.addresses]
        reached = (peer for peer in targets if peer is not None and peer.reached_by(self))
        target = next(reached, None)
        other = next((peer for peer in targets if peer is not None), None)
        if dial.punch is not None and target is None and other is not None:
            self._punch(dial, dial.punch, other)
            return
        relayed = [address for address in dial.addresses if address.is_relayed]
        if target is None and relayed:
            self._want_circuit(dial, relayed)
            return
        if target is None or not simulation.connected(self, target):
            self._later(self._patience(dial), lambda: self._dial_failed(dial, Unreachable("no answer")))
            return
        # TCP's and Noise's round trips: three ways there, two back
        there, back = simulation.latency(self, target), simulation.latency(target, self)
        delay = 3 * there + 2 * back

        def arrive() -> None:
            if not target.alive or not simulation.connected(self, target):
                self._dial_failed(dial, Unreachable("connection refused"), target)
            elif dial.peer is not None and target.identity.peer_id != dial.peer:
                self._dial_failed(dial, WrongPeer(f"{target.identity.peer_id} answered instead of {dial.peer}"), target)
            elif target is self:
                self._dial_failed(dial, SelfDial("this node itself answered"))
            elif (refused := simulation.connect(self, target, dial.dial, (there, back), apart=dial.apart)) is not None:
                self._dial_failed(dial, Unreachable(refused))

        self._later(delay, arrive)

    def _punch(self, dial: events.Dial, side: Direction, other: "SimPeer") -> None:
        """Dial a peer behind a NAT, which opens for this one when it dials as well."""
        answer = other._punching.pop(self.index, None)
        if answer is not None and self.punched_by(other) and other.punched_by(self):
            one, two, first, second = self, other, dial, answer
            if side is Direction.INBOUND:
                one, two, first, second = other, self, answer, dial

            def meet() -> None:
                self.simulation.connect(one, two, first.dial, None, second.dial)

            self._later(self.simulation.latency(self, other), meet)
            return
        self._punching[other.index] = dial

        def overdue() -> None:
            if self._punching.get(other.index) is dial:
                del self._punching[other.index]
                self._dial_failed(dial, Unreachable("no answer"))

        if answer is not None:
            other._dial_failed(answer, Unreachable("no answer"))
        self._later(self._patience(dial), overdue)

    def _patience(self, dial: events.Dial) -> float:
        longest = self.simulation.model.dial_timeout
        return longest if dial.within is None else min(longest, dial.within)

    def _want_circuit(self, dial: events.Dial, addresses: list[Multiaddr]) -> None:
        """Try one relay after the other."""
        address, *rest = addresses
        relay = address.relay
        peer = dial.peer or address.peer_id
        if peer is None or relay is None or relay.peer_id is None:
            self._dial_failed(dial, Unreachable("not an address of a peer behind a relay"))
            return
        self._attempts[dial.dial] = (dial, rest)
        wanted = events.CircuitWanted(dial.dial, peer, relay.peer_id, relay.without_peer(), dial.force)
        self._later(0.0, lambda: self.feed(wanted))

    def _circuit_opened(self, opened: events.CircuitOpened) -> None:
        dial = None
        if opened.attempt is not None:
            dial = opened.attempt
            del self._attempts[dial]
        self.circuits[opened.stream] = Circuit(self, opened, dial)

    def _circuit_failed(self, attempt: int, error: SidecarError) -> None:
        dial, rest = self._attempts.pop(attempt)
        if rest:
            self._want_circuit(dial, rest)
        else:
            self._dial_failed(dial, error)

    def entropy(self) -> bytes:
        """32 bytes that are random enough here."""
        return self._entropy.randbytes(32)

    def _resolve(self, asked: events.Resolve) -> None:
        simulation = self.simulation
        found = simulation.behind(asked.address)
        result = found or Unreachable(f"{asked.address}: no such name")
        self._later(simulation.model.latency[0], lambda: self.feed(events.Resolved(asked.lookup, result)))

    def _dial_failed(self, dial: events.Dial, error: SidecarError, target: "SimPeer | None" = None) -> None:
        """`target`: whom it came to, alone of the addresses."""
        self.vain.update(address.ip for address in dial.addresses[:1] if address.ip is not None)
        failed = dial.addresses if target is None else (target.address,)
        self.feed(events.DialFailed(dial.dial, error, tuple(address.without_peer() for address in failed)))

    def _later(self, delay: float, action: Callable[[], None]) -> None:
        clock, starts = self.simulation.clock, self._starts

        def unless_restarted() -> None:
            if starts == self._starts and self.alive:
                action()

        clock.at(clock.now + delay, unless_restarted)

    def _open_stream(self, asked: events.OpenStream) -> None:
        link = self.links.get(asked.connection) or self.carried.get(asked.connection)
        if link is not None:
            link.open_stream(asked)

    # ------------------------------------------------------------ what links call

    def sends(self, size: int, uplink: float) -> float:
        """When `size` bytes have left, behind all that waits for the uplink of so many bytes a second."""
        self._uplink_free = max(self._uplink_free, self.simulation.clock.now) + size / uplink
        return self._uplink_free

    def receives(self, size: int, downlink: float) -> float:
        """When `size` bytes that begin to arrive now are here, behind all else that waits before the downlink."""
        self._downlink_free = max(self._downlink_free, self.simulation.clock.now) + size / downlink
        return self._downlink_free

    def attach(self, link: "Link") -> int:
        """A new connection's number at this end."""
        self._connections += 1
        self.links[self._connections] = link
        return self._connections

    def carry(self, circuit: "Circuit") -> int:
        """The number of a new connection through a relay."""
        self._connections += 1
        self.carried[self._connections] = circuit
        return self._connections

    @property
    def host(self) -> str:
        """Its IP address."""
        return self.address.ip or ""

    def detach(self, number: int) -> "Link | None":
        """A connection is over at this end; None where it was before."""
        link = self.links.pop(number, None)
        if link is not None and self.admission is not None:
            if link.outbound:
                self.admission.release_outbound()
            else:
                self.admission.release_inbound(link.far.peer.host)
        return link

    def opened(
        self, number: int, other: "SimPeer", direction: Direction, dial: int | None, identity: Identity | None = None
    ) -> None:
        """A link is there; `dial` is the number of this peer's own `Dial`, None at the other end.

        `identity`: the one that the other shows, where it is not its own.
        """
        identity = identity or other.identity
        self.feed(
            events.ConnectionOpened(
                number, identity.peer_id, identity.public_key, direction, other.address, self.address, dial
            )
        )

    def accepted(self, protocols: tuple[str, ...]) -> str | None:
        """The first of the protocols that this node answers."""
        return next((protocol for protocol in protocols if self.node.accepts(protocol)), None)

    def take(self, stream: int) -> bytes:
        """Bytes of a stream; `taken` is to be called after a round of it."""
        return b"".join(self.node.take(stream, _TAKE))

    def waits(self, stream: int) -> bool:
        """Whether `take` may have more; False where it surely has none, so that it is not called in vain."""
        return self.node.waits(stream)

    def taken(self) -> None:
        """Carry out what came of bytes being taken."""
        if self.alive:
            effects = self.node.drain(self.now())
            if effects:
                self._carry_out(effects)
            if not self._fed:
                self._arm()


def admit(dialler: SimPeer, target: SimPeer) -> str | None:
    """Count a connection between the two, or return the bound that it would break."""
    refused = None if dialler.admission is None else dialler.admission.refuse_outbound()
    if refused is not None or target.admission is None:
        return refused
    refused = target.admission.refuse_inbound(dialler.host, target.now())
    if refused is None:
        target.admission.handshake_over(dialler.host)
    elif dialler.admission is not None:
        dialler.admission.release_outbound()
    return refused


def not_supported(protocols: tuple[str, ...]) -> NotSupported:
    """The error of a stream that was refused."""
    return NotSupported(f"the peer speaks none of {', '.join(protocols)}")
