"""The node machine: joins the protocols on one set of connections.

Values go in (`core.events`, and the inputs of gossip, direct messages and byte streams), effects come out. It owns no
socket, clock or entropy; `sidecar.net` runs it on real ones, `sidecar.sim` on virtual time.
"""

import random
from collections.abc import Sequence
from typing import NamedTuple

from .. import events, gossip
from ..errors import NotFound, SidecarError
from ..events import PeerView
from ..gate import Gate
from ..histogram import Histogram
from ..identity import Identity
from ..multiaddr import Multiaddr
from ..types import PeerId
from .config import ConfigurationChanged, NodeConfig
from .directing import Directing
from .discovering import Discovering
from .finding import Finding
from .gating import Gating
from .gossiping import Gossiping
from .identifying import Identifying
from .operations import Operations
from .pinging import Pinging
from .reach import Reach
from .readiness import Readiness
from .streaming import Streaming
from .switch import Buffers, Connection, Peer, Switch
from .trimming import Trimming
from .unity import Unity
from .workload import Workload


class NodeAddresses(NamedTuple):
    """A node's own addresses."""

    listening: tuple[Multiaddr, ...]
    announced: tuple[Multiaddr, ...]
    observed: tuple[Multiaddr, ...]


class Node:
    """One node of the mesh.

    `now` is monotonic seconds, `wall_ns` nanoseconds of the wall clock. `sequence`: the numbers of messages, peer
    records and signed values begin above it; they have to be above those of every run before, or peers take what is
    new for old. None: above `wall_ns`, which does only where the clock is never set back. `gate` says who may connect;
    the driver asks the same one.
    """

    def __init__(
        self,
        config: NodeConfig,
        identity: Identity,
        *,
        now: float,
        wall_ns: int,
        rng: random.Random,
        sequence: int | None = None,
        gate: Gate | None = None,
    ) -> None:
        sequence = wall_ns if sequence is None else sequence
        self.gate = gate = Gate() if gate is None else gate
        self.config = config
        self.identity = identity
        self._switch = switch = Switch(config, identity, rng)
        self._workload = workload = Workload(switch)
        self._operations = Operations(switch)
        self._reach = reach = Reach(switch, gate)
        self._pinging = Pinging(switch)
        self._identifying = Identifying(switch, reach, sequence)
        self._finding = Finding(switch, reach, self._pinging, now, wall_ns)
        self._unity = Unity(switch, reach, self._finding)
        self._discovering = Discovering(switch, self._finding, self._operations, identity, sequence)
        reach.listeners.append(self._discovering)  # behind the one that fills the table
        self._gossiping = Gossiping(switch, reach, self._identifying, workload, identity, now, sequence)
        self._directing = Directing(switch, reach, now)
        self._streaming = Streaming(switch, reach, self._operations, self._identifying)
        self._gating = Gating(switch, reach, self._finding, self._operations, gate)
        in_use = (self._directing, self._streaming)
        self._trimming = Trimming(switch, self._gossiping, self._finding, in_use, self._gating.protects)
        self._readiness = Readiness(switch, reach, self._unity, now)
        self._started = False
        reach.connected = self._on_connected
        reach.holds_off = workload.refuse
        self._unity.changed = self._readiness.update
        reach.probe = self._pinging.ping
        reach.protects = self._gating.protects
        reach.listeners.append(self)

    # ------------------------------------------------------------ the machine

    def handle(self, arrived: object, now: float) -> list[object]:
        """Take one input; returns what to do. Raises what the input's own description names (a caller's misuse)."""
        match arrived:
            case events.StreamsReceived():
                self._switch.on_streams_received(arrived, now)
                self._gossiping.flush(now)
                self._directing.flush(now)
            case gossip.TopicJoined() | gossip.TopicLeft() | gossip.Published() | gossip.PublishCancelled():
                self._gossiping.feed(arrived, now)
            case events.StreamOpened():
                self._switch.on_stream_opened(arrived, now)
                self._gossiping.flush(now)
            case events.StreamFailed():
                self._switch.on_stream_failed(arrived, now)
            case events.StreamEnded(stream):
                self._switch.on_stream_ended(stream, now)
            case events.StreamGone():
                self._switch.on_stream_reset(arrived, now)
            case events.WorkCaused(connection, points):
                self._on_work(connection, points, now)
            case events.ConnectionOpened():
                self._reach.on_opened(arrived, now)
                self._trimming.look(now)
            case events.ConnectionClosed():
                self._on_closed(arrived, now)
            case events.DialFailed():
                self._reach.on_dial_failed(arrived, now)
                self._readiness.update(now)
            case events.Resolved():
                self._reach.entrances.on_resolved(arrived, now)
                self._readiness.update(now)
            case events.AddressesChanged():
                self._on_addresses(arrived, now)
            case ConfigurationChanged(config):
                self.config = self._switch.config = config
                self._reach.configured()
                self._readiness.update(now)
            case events.OperationCancelled(op):
                self._operations.cancel(op)
                self._discovering.cancel(op, now)
            case _:
                services = (self._streaming, self._directing, self._discovering, self._gating)
                if not any(service.accept(arrived, now) for service in services):
                    self._on_request(arrived, now)
        return self._effects()

    def handle_deadline(self, now: float) -> list[object]:
        """Do what is due."""
        self._switch.deadlines.run(now)
        for machine in (self._gossiping, self._finding, self._directing):
            due = machine.router.next_deadline()
            if due is not None and due <= now:
                machine.handle_deadline(now)
        self._streaming.handle_deadline(now)
        self._gossiping.flush(now)
        return self._effects()

    def next_deadline(self) -> float:
        """When `handle_deadline` wants to be called, in monotonic seconds."""
        first = self._gossiping.router.next_deadline()
        # Asked after every read and write: `min` over a generator took three times as long.
        for due in (
            self._switch.deadlines.next(),
            self._finding.router.next_deadline(),
            self._directing.router.next_deadline(),
            self._streaming.next_deadline(),
        ):
            if due is not None and due < first:
                first = due
        return first

    def take(self, stream: int, limit: int) -> Buffers:
        """Bytes for a stream, at most `limit`; nothing when there are none now."""
        return self._switch.take(stream, limit)

    def accepts(self, protocol: str) -> bool:
        """Whether inbound streams of a protocol are answered."""
        return protocol in self._switch.handlers

    def new_op(self) -> int:
        """A number for an operation of an app."""
        return self._operations.new()

    def _effects(self) -> list[object]:
        effects, self._switch.effects = self._switch.effects, []
        return effects

    # ------------------------------------------------------------ inputs

    def _on_addresses(self, changed: events.AddressesChanged, now: float) -> None:
        self._switch.listening, self._switch.announced = changed.listening, changed.announced
        self._readiness.update(now)
        if self._started:
            self._identifying.advertise(now)
        else:
            self._started = True
            self._reach.start(now)

    def _on_connected(self, connection: Connection, now: float) -> None:
        self._workload.opened(connection.peer, connection.number)
        self._identifying.connected(connection, now)

    def _on_work(self, number: int, points: float, now: float) -> None:
        connection = self._switch.connections.get(number)
        if connection is not None:
            self._switch.charge(connection.peer.id, "frames", points, now)

    def _on_closed(self, closed: events.ConnectionClosed, now: float) -> None:
        connection = self._switch.connections.get(closed.connection)
        self._reach.on_closed(closed, now)
        if connection is not None and not connection.peer.connections:
            self._gossiping.forget(connection.peer)
            self._identifying.forget(connection.peer)
            self._workload.gone(connection.peer.id)
        self._readiness.update(now)

    def _on_request(self, asked: object, now: float) -> None:
        match asked:
            case events.ConnectRequested(op, peer, addresses):
                if self._operations.begin(op):
                    self._connect(op, peer, addresses, now)
            case events.DisconnectRequested(op, peer):
                if self._operations.begin(op):
                    present = self._switch.peers.get(peer)
                    if present is None:
                        self._operations.complete(op, NotFound(f"not connected to {peer}"))
                    else:
                        self._switch.disconnect(present, None)
                        self._operations.complete(op, None)
            case events.PingRequested(op, peer):
                if self._operations.begin(op):
                    self._ping(op, peer, now)
            case events.FindPeerRequested(op, peer):
                if self._operations.begin(op):
                    self._find(op, peer, now)
            case _:
                raise TypeError(f"not an input of the node: {type(asked).__name__}")

    def _connect(self, op: int, peer: PeerId | None, addresses: Sequence[Multiaddr], now: float) -> None:
        def reached(result: Peer | SidecarError, now: float) -> None:
            done = result if isinstance(result, SidecarError) else self._reach.view(result.id)
            self._operations.complete(op, done)

        if peer is None:
            self._reach.reach_anyone(addresses, reached, now, insist=True)
        else:
            self._reach.reach(peer, addresses, reached, now, search=True, insist=True)

    def _ping(self, op: int, peer: PeerId, now: float) -> None:
        def reached(result: Peer | SidecarError, now: float) -> None:
            if isinstance(result, SidecarError):
                self._operations.complete(op, result)
            else:
                self._pinging.ping(result.best, now, lambda answer, now: self._operations.complete(op, answer))

        self._reach.reach(peer, (), reached, now, search=True, insist=True)

    def _find(self, op: int, peer: PeerId, now: float) -> None:
        known = self._switch.book.addresses(peer)
        if peer == self._switch.local:
            self._operations.complete(op, self._switch.advertised())
        elif known and peer in self._switch.peers:
            self._operations.complete(op, known)
        else:

            def found(addresses: tuple[Multiaddr, ...], now: float) -> None:
                result = addresses or known or NotFound(f"{peer} is neither known here nor found in the DHT")
                self._operations.complete(op, result)

            self._finding.find(peer, found, now)

    # ------------------------------------------------------------ peers come and go

    def peer_ready(self, peer: Peer, now: float) -> None:
        self._pinging.watch(peer, now)
        self._readiness.update(now)

    def peer_updated(self, peer: Peer, now: float) -> None:
        pass

    def peer_gone(self, peer: Peer, now: float) -> None:
        pass

    # ------------------------------------------------------------ views

    @property
    def peer_id(self) -> PeerId:
        return self._switch.local

    @property
    def network(self) -> str:
        return self.config.network

    def addresses(self) -> NodeAddresses:
        """Where this node listens, what it announces, and what others see it as, most often seen first."""
        observed = tuple(address for address, _ in self._identifying.observed.most_common())
        return NodeAddresses(self._switch.listening, self._switch.announced, observed)

    def protocols(self) -> tuple[str, ...]:
        """The protocol ids that inbound streams are answered for."""
        return tuple(self._switch.handlers)

    def peers(self, *, known: bool = False) -> list[PeerView]:
        """Connected peers; with `known` all of the address book and those protected as well."""
        ids = dict.fromkeys(self._switch.peers)
        if known:
            ids.update(dict.fromkeys((*self._switch.book.peers(), *self.gate.protected())))
        return [self._reach.view(peer) for peer in ids]

    def peer(self, peer: PeerId) -> PeerView | None:
        """What is known of a peer, or None when nothing is."""
        if peer in self._switch.peers or peer in self._switch.book:
            return self._reach.view(peer)
        return None

    def topics(self) -> list[gossip.TopicView]:
        return self._gossiping.router.topics()

    def histograms(self) -> dict[str, Histogram]:
        """What is counted by size, by name; to be read only. See `Histogram` in the schema for what they mean."""
        propagation = self._gossiping.router.propagation()
        return {
            "gossip_propagation_seconds": propagation.delays,
            "gossip_echo_seconds": propagation.echoes,
            "dht_lookup_duration_seconds": self._finding.router.durations(),
        }

    def conditions(self) -> tuple[events.Condition, ...]:
        """The conditions of readiness; the node is ready when all are met."""
        return self._readiness.conditions()

    def statistics(self) -> dict[str, int | float]:
        """Counters since the start and sizes as they are, by name."""
        switch = self._switch
        return {
            "peers_connected": len(switch.peers),
            "peers_ready": sum(peer.ready for peer in switch.peers.values()),
            "peers_known": len(switch.book),
            "connections": len(switch.connections),
            "operations_open": len(self._operations),
            **switch.counters,
            **{f"stream_bytes_received_{name}": traffic.received for name, traffic in switch.traffic.items()},
            **{f"stream_bytes_sent_{name}": traffic.sent for name, traffic in switch.traffic.items()},
            **self._gossiping.statistics(),
            **self._finding.statistics(),
            **self._discovering.statistics(),
            **self._directing.statistics(),
            **self._streaming.statistics(),
            **self._gating.statistics(),
            **self._trimming.statistics(),
            **self._workload.statistics(),
            **self._unity.statistics(),
        }
