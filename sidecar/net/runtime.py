"""The driver: carries the node machine's effects out over sockets and feeds it what happens there."""

import asyncio
import contextlib
import errno
import logging
import os
import random
import socket
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING

from ..core import direct, events, gossip
from ..core.channel import Channel, UpgradeObserver
from ..core.errors import Closed, PeerBanned, SelfDial, SidecarError, TooManyConnections, WorkExceeded
from ..core.events import STREAM_BITS
from ..core.gate import Gate
from ..core.identity import Identity
from ..core.mdns.statistics import MdnsStatistics
from ..core.multiaddr import Endpoint, Multiaddr
from ..core.node import NodeEffect, NodeInput, NodeMachine, NodeNews
from ..core.override import override
from ..core.portmap.statistics import PortMappingStatistics
from ..core.types import Direction, KnownEndpoint
from .admission import Admission
from .alarm import Alarm
from .backlog import Backlog
from .circuits import CircuitTransports
from .concurrent_dial import Attempt
from .config import NetConfig
from .connection import Connection
from .dial_history import DialHistory, EndpointTried
from .dialer import Dialer
from .host import ConnectionHost
from .layered import LayeredConnection
from .listener import dialling_socket, let_dial_from, open_socket, reached_at
from .signatures import SignatureWorkers
from .statistics import ConnectionView, Counters, NetStatistics
from .transports import Transports

if TYPE_CHECKING:
    from .multicast import MulticastDns
    from .port_mapping import PortMappings

log = logging.getLogger(__name__)

_EARLY = (errno.ECONNREFUSED, errno.ECONNRESET, errno.EHOSTUNREACH)
_TAKEN = (errno.EADDRNOTAVAIL, errno.EADDRINUSE, errno.EINVAL)
_PUNCH_AGAIN = 0.05  # seconds; a guess
_NOWHERE = Endpoint("", "", 0)  # of what is behind a relay: no host, and nothing is spoken below its own protocols

_UNMAP = 2.0  # seconds at the end for the gateway to remove what it has mapped; a guess
_STALL_CHECKS = 1 / 16  # of the stall time-out: how often connections that bytes wait for are looked at


# (number, direction, remote address) of a new connection -> who is told how its upgrade ends
ObserveUpgrade = Callable[[int, Direction, Multiaddr | None], UpgradeObserver]


class Runtime(ConnectionHost):
    """Runs one node on the running event loop."""

    def __init__(
        self,
        node: NodeMachine,
        identity: Identity,
        config: NetConfig,
        on_news: Callable[[NodeNews], None],
        rng: random.Random | None = None,
        transports: Transports | None = None,
        observe_upgrade: ObserveUpgrade | None = None,
        gate: Gate | None = None,
        endpoints: Sequence[KnownEndpoint] = (),
        on_endpoint_tried: Callable[[EndpointTried], None] = lambda tried: None,
    ) -> None:
        """`on_news` gets every effect of the node that is not the transport's.

        `on_endpoint_tried` is told how attempts at endpoints went, to be remembered for `endpoints` of a later run.
        `gate` is the node's own: who is refused by it neither gets in nor is dialled.
        `endpoints`: what an earlier run has learned of endpoints, the most recent last.
        `observe_upgrade` is asked once a connection who is told how its upgrade ends.
        """
        self.loop = asyncio.get_running_loop()
        self.config = config
        self._node = node
        self._identity = identity
        self._on_news = on_news
        self._transports = transports or Transports()
        self._observe_upgrade = observe_upgrade
        self._alarm = Alarm(self.loop, node.next_deadline, self._on_deadline)
        self._gate = Gate() if gate is None else gate
        self._admission = Admission(config, monotonic())
        history = DialHistory(config, rng or random.Random(), on_endpoint_tried)
        history.restore(endpoints, monotonic())
        self._dialer = Dialer(
            config,
            identity.peer_id,
            history=history,
            gate=self._gate,
            connect=self._connect,
            is_own_endpoint=lambda host, port: (host, port) in self._own_endpoints,
            on_failed=self._on_dial_failed,
            on_resolved=lambda lookup, result: self.feed(events.Resolved(lookup, result)),
        )
        self._punched: Counter[str] = Counter()  # hosts to which a hole is being punched, this node as the client
        self._circuits = CircuitTransports(self.loop, self.feed, self._over_circuit)
        # How a connection is made to a target, by what is next to the wire there.
        self._carriers = {"tcp": self._connect_tcp, "circuit": self._circuits.connect}
        self._counters = Counters()
        self._connections: dict[int, Connection] = {}  # admitted and not lost
        self._next_connection = 1
        self._servers: list[asyncio.Server] = []
        self._listening: list[socket.socket] = []
        self._bound: list[Multiaddr] = []  # where these listen, wildcards as they are
        self._multicast: MulticastDns | None = None
        self._mappings: PortMappings | None = None
        self._own_endpoints: dict[tuple[str, int], None] = {}
        self._inputs: deque[NodeInput] = deque()  # that arose while the node was at work
        self._busy = False
        self._dirty: list[Connection] = []
        self._backlog = Backlog(self.loop, config.max_buffered_total, config.write_stall_timeout * _STALL_CHECKS)
        self._signatures = SignatureWorkers(self.loop, config.verify_workers, self._on_checked)
        self._stopping = False
        self._idle = asyncio.Event()

    # ------------------------------------------------------------ for the app

    async def listen(self, addresses: Sequence[Multiaddr]) -> tuple[Multiaddr, ...]:
        """Listen on all of `addresses` or none; returns where the node is reached.

        Port 0 becomes the port that was given, a wildcard every address of this machine. Raises AddressInUse and
        ConfigError.
        """
        sockets: list[socket.socket] = []
        try:
            for address in addresses:
                self._transports.check_listening(address)
                sockets.append(open_socket(address))
        except BaseException:
            for opened in sockets:
                opened.close()
            raise
        reached: dict[Multiaddr, None] = {}
        for opened, address in zip(sockets, addresses, strict=True):
            endpoint = address.endpoint()
            assert endpoint is not None, "open_socket refuses such addresses"
            found = reached_at(opened, endpoint.suffix)
            host, port = opened.getsockname()[:2]
            self._bound.append(Multiaddr.tcp(host, port, endpoint.suffix))
            reached.update(dict.fromkeys(found))
            self._own_endpoints.update(dict.fromkeys((str(a.parts[0][1]), int(a.parts[1][1])) for a in found))
            server = await self.loop.create_server(
                partial(self._inbound, endpoint), sock=opened, backlog=self.config.backlog
            )
            let_dial_from(opened)
            self._listening.append(opened)
            self._servers.append(server)
        log.info("listening on %s", ", ".join(map(str, reached)) or "nothing")
        return tuple(reached)

    def discover(self, network: str) -> None:
        """Find peers of the mesh `network` on the links of this machine, and be found there, from now on."""
        from .multicast import MulticastDns  # not before it is wanted: it loads a DNS library

        psk = self._transports.psk
        self._multicast = MulticastDns(
            self._identity.peer_id, network, psk, self._bound, lambda peers: self.feed(events.PeersFound(peers))
        )
        self._multicast.open()

    def map_ports(self) -> None:
        """Have the gateway map the ports listened at, from now on, where the configuration wants it."""
        from .gateway import not_asked

        config = self.config.port_mapping
        refusal = not_asked(config, self._bound)
        if refusal is not None:
            self.feed(refusal)
            return
        from .port_mapping import PortMappings  # not before it is wanted: it loads a parser of XML

        # The same after a restart, and known to nobody else: what is signed here is never shown.
        secret = self._identity.sign(b"sidecar: port mapping")
        self._mappings = PortMappings(config, self._bound, secret, self.feed)
        self._mappings.open()

    def feed(self, input: NodeInput) -> None:
        """Hand the node an input of the apps and carry out what it answers.

        Inputs that arise meanwhile wait for their turn. What the node raises about a caller's misuse is raised, unless
        the input had to wait.
        """
        if self._busy:
            self._inputs.append(input)
            return
        self._busy = True
        try:
            self._perform(self._node.handle(input, monotonic()))
        finally:
            self._drain()

    async def close(self, timeout: float) -> None:
        """Stop listening and dialling, say go-away to all, let what is queued leave for `timeout` seconds, then cut."""
        if self._stopping:
            await self._idle.wait()
            return
        self._stopping = True
        if self._multicast is not None:
            self._multicast.close()
        unmapped = None
        if self._mappings is not None:
            unmapped = self.loop.create_task(self._mappings.close(min(timeout, _UNMAP)), name="port mapping's end")
        for server in self._servers:
            server.close()
        await self._dialer.close()
        for connection in reversed(list(self._connections.values())):  # those over circuits before what carries them
            connection.drain()
        if not self._connections:
            self._idle.set()
        try:
            async with asyncio.timeout(timeout):
                await self._idle.wait()
        except TimeoutError:
            log.warning("%d connections did not close within %g s and are cut", len(self._connections), timeout)
            for connection in list(self._connections.values()):
                connection.abort(Closed("the node is shutting down"))
            await self._idle.wait()  # an aborted transport is lost in the loop's next turn
        if unmapped is not None:
            await unmapped
        self._alarm.cancel()
        self._backlog.close()
        await self._signatures.close()

    def connections(self) -> list[ConnectionView]:
        """The open connections, oldest first."""
        return [view for connection in self._connections.values() if (view := connection.view()) is not None]

    def statistics(self) -> NetStatistics:
        """A snapshot of the counters."""
        counters = self._counters
        living = self._connections.values()
        open_ones = [connection for connection in living if connection.open]
        inbound = sum(connection.direction is Direction.INBOUND for connection in open_ones)
        return NetStatistics(
            connections=len(open_ones),
            inbound=inbound,
            outbound=len(open_ones) - inbound,
            relayed=sum(connection.circuit is not None for connection in open_ones),
            half_open=sum(connection.opened_at is None for connection in living),
            streams=sum(connection.streams for connection in living),
            dials_in_flight=self._dialer.in_flight,
            dials_queued=self._dialer.queued,
            dials_held_off=self._dialer.held_off,
            opened=counters.opened,
            opened_inbound=counters.opened_inbound,
            opened_outbound=counters.opened - counters.opened_inbound,
            closed=counters.closed,
            refused=counters.refused,
            dials=counters.dials,
            dials_failed=counters.dials_failed,
            bytes_in=counters.bytes_in + sum(connection.bytes_in for connection in living),
            bytes_out=counters.bytes_out + sum(connection.bytes_out for connection in living),
            buffered=self._backlog.total,
            internal_errors=counters.internal_errors,
            verify_workers=self._signatures.ready,
            verify_worker_bytes=self._signatures.memory(),
            verify_worker_failures=self._signatures.failures,
            handshakes=dict(counters.handshakes),
            refused_by=dict(self._admission.refused),
            closed_by=dict(counters.closed_by),
            port_mapping=PortMappingStatistics() if self._mappings is None else self._mappings.statistics(),
            mdns=MdnsStatistics() if self._multicast is None else self._multicast.statistics(),
        )

    # ------------------------------------------------------------ the node's turns

    @override
    def receive(self, input: NodeInput, now: float) -> bool:
        if self._busy:
            self._inputs.append(input)
            return True
        self._busy = True
        try:
            self._perform(self._node.handle(input, now))
        except Exception:
            self.broken()
            log.exception("internal error while handling %s", type(input).__name__)
            return False
        finally:
            self._drain()
        return True

    @override
    def take(self, stream: int, limit: int) -> Sequence[bytes | memoryview]:
        return self._node.take(stream, limit)

    def _on_deadline(self, now: float) -> None:
        self._busy = True
        try:
            self._perform(self._node.handle_deadline(now))
        except Exception:
            self.broken()
            log.exception("internal error while handling a deadline")
        finally:
            self._drain()

    def _perform(self, effects: Sequence[NodeEffect]) -> None:
        for effect in effects:
            try:
                self._carry_out(effect)
            except Exception:
                self.broken()
                log.exception("internal error while carrying out %s", type(effect).__name__)

    def _drain(self) -> None:
        """Handle the inputs that arose in this turn, and end it."""
        while self._inputs:
            input = self._inputs.popleft()
            try:
                self._perform(self._node.handle(input, monotonic()))
            except Exception:
                self.broken()
                log.exception("internal error while handling %s", type(input).__name__)
        self._busy = False
        self._alarm.arm()

    @override
    def broken(self) -> None:
        self._counters.internal_errors += 1

    # ------------------------------------------------------------ effects

    def _carry_out(self, effect: NodeEffect) -> None:
        """Do what the node wants of the transport; the rest is news. Those first of which there are most."""
        connection: Connection | None
        match effect:
            case events.Wake(stream):
                connection = self._connections.get(stream >> STREAM_BITS)
                if connection is not None:
                    connection.wake(stream)
            case gossip.MessagesDelivered() | gossip.PublishCompleted() | direct.MessagesReceived():
                self._on_news(effect)
            case events.Acknowledge(stream, size):
                connection = self._connections.get(stream >> STREAM_BITS)
                if connection is not None:
                    connection.acknowledge(stream, size)
            case events.CloseWrite(stream):
                connection = self._connections.get(stream >> STREAM_BITS)
                if connection is not None:
                    connection.close_write(stream)
            case events.ResetStream(stream):
                connection = self._connections.get(stream >> STREAM_BITS)
                if connection is not None:
                    connection.reset(stream)
            case events.Defer(stream):
                connection = self._connections.get(stream >> STREAM_BITS)
                if connection is not None:
                    connection.defer(stream)
            case events.OpenStream(number, token, protocols):
                connection = self._connections.get(number)
                if connection is not None and connection.open:
                    error = connection.open_stream(token, protocols, monotonic())
                    if error is not None:
                        self.feed(events.StreamFailed(token, error))
            case events.PauseReading(number) | events.ResumeReading(number):
                connection = self._connections.get(number)
                if connection is not None:
                    connection.pause(isinstance(effect, events.PauseReading))
            case events.MeasureLatency(number, value):
                connection = self._connections.get(number)
                if connection is not None:
                    connection.measure(value)
            case events.CloseConnection(number, cause):
                connection = self._connections.get(number)
                if connection is not None and connection.open:
                    connection.close(cause)
            case gossip.CheckSignatures(batch, checks):
                self._signatures.check(batch, checks)
            case events.Dial():
                self._counters.dials += 1
                self._dialer.dial(effect)
            case events.Resolve():
                self._dialer.resolve(effect)
            case (
                events.CircuitOpened()
                | events.CircuitFailed()
                | events.CircuitReceived()
                | events.CircuitTaken()
                | events.CircuitEnded()
                | events.CircuitLost()
            ):
                self._circuits.carry_out(effect)
            case _:
                self._on_news(effect)

    # ------------------------------------------------------------ connections

    def _inbound(self, endpoint: Endpoint) -> Connection:
        return self._connection(endpoint, None)

    async def _connect(self, attempt: Attempt) -> Connection:
        return await self._carriers["tcp" if attempt.target.relay is None else "circuit"](attempt)

    def _over_circuit(self, attempt: Attempt | None) -> Connection:
        """A connection that has a circuit for a socket; the key of a private network is used there too."""
        return self._connection(_NOWHERE, attempt)

    async def _connect_tcp(self, attempt: Attempt) -> Connection:
        request = attempt.dial.request
        punch = request.punch is not None
        # Who asks whether strangers come in is not to be dialled from a port to which it has opened its NAT itself.
        if not attempt.other_port and (punch or (self.config.dial_from_listener and not request.apart)):
            with self._punching(attempt):
                connected = await self._connect_from_listener(attempt, punch)
            if connected is not None:
                make = partial(self._connection, attempt.target.endpoint, attempt)
                _, connection = await self.loop.create_connection(make, sock=connected)
                return connection
        _, connection = await self.loop.create_connection(
            partial(self._connection, attempt.target.endpoint, attempt),
            attempt.target.host,
            attempt.target.port,
        )
        return connection

    @contextlib.contextmanager
    def _punching(self, attempt: Attempt) -> Iterator[None]:
        """The attempt is under way, which may be a hole that is punched with this node as the client.

        Then the other side's dial, as the server, may get through to the port listened at before this side's does, or
        where that never would: from a NAT that takes another port for it.
        """
        host = attempt.target.host
        if attempt.dial.request.punch is not Direction.OUTBOUND:
            yield
            return
        self._punched[host] += 1
        try:
            yield
        finally:
            self._punched[host] -= 1
            if not self._punched[host]:
                del self._punched[host]

    async def _connect_from_listener(self, attempt: Attempt, punch: bool) -> socket.socket | None:
        """A socket connected from a port listened at; None where that cannot be: any other may do. Raises OSError."""
        target = attempt.target
        while True:
            dialling = dialling_socket(self._listening, target.host)
            if dialling is None:
                return None
            try:
                await self.loop.sock_connect(dialling, (target.host, target.port))
            except OSError as error:
                dialling.close()
                if (
                    punch and error.errno in _EARLY
                ):  # the other side's NAT is not open yet: its own packet is on the way
                    await asyncio.sleep(_PUNCH_AGAIN)
                    continue
                if error.errno in _TAKEN:  # the same two ports are, or were a moment ago, connected already
                    return None
                raise
            except BaseException:
                dialling.close()
                raise
            return dialling

    def _connection(self, endpoint: Endpoint, attempt: Attempt | None) -> Connection:
        punched = None if attempt is None else attempt.dial.request.punch
        direction = punched or (Direction.INBOUND if attempt is None else Direction.OUTBOUND)
        stack = self._transports.stack(endpoint, dialled=attempt is not None)
        if stack is None:
            return Connection(self, self._number(), direction, attempt)
        return LayeredConnection(self, self._number(), direction, attempt, stack=stack, suffix=endpoint.suffix)

    def _number(self) -> int:
        number, self._next_connection = self._next_connection, self._next_connection + 1
        return number

    @override
    def admit(self, connection: Connection) -> Channel | None:
        now = monotonic()
        attempt = connection.attempt
        if self._stopping:
            reason: str | None = "the node is shutting down"
            self._admission.refused["stopping"] += 1
        elif connection.circuit is None and (refusal := self._refuse_host(connection)) is not None:
            self._counters.refused += 1  # the gate counts them too; a line for each would be half of an attack
            log.debug("connection with %s refused: %s", connection.remote, refusal)
            if attempt is not None:
                attempt.fail(refusal)
            return None
        elif attempt is None:
            reason = self._admission.refuse_inbound(connection.remote_host, now)
        else:
            reason = self._admission.refuse_outbound()
        if reason is not None:
            self._counters.refused += 1
            log.warning("connection with %s refused: %s", connection.remote, reason)
            if attempt is not None:
                attempt.fail(TooManyConnections(reason))
            return None
        if attempt is None and connection.circuit is None and connection.remote_host in self._punched:
            connection.direction = Direction.OUTBOUND
        self._connections[connection.number] = connection
        observe = self._observe_upgrade
        apart = attempt is not None and attempt.dial.request.apart
        expected = connection.circuit.peer if connection.circuit is not None else None
        return Channel(
            Identity(os.urandom(32)) if apart else self._identity,
            dialer=connection.direction is Direction.OUTBOUND,
            expected_peer=attempt.target.expected if attempt else expected,
            limits=self.config.channel,
            pull=connection.pull,
            accepts=_nothing if apart else self._node.accepts,
            ephemeral=os.urandom(32),
            now=now,
            on_upgraded=observe and observe(connection.number, connection.direction, connection.remote),
        )

    def _refuse_host(self, connection: Connection) -> SidecarError | None:
        return self._gate.refuse_address(connection.remote_host)

    @override
    def refuse_peer(self, connection: Connection) -> SidecarError | None:
        assert connection.peer is not None, "the handshake has shown it"
        refusal = self._gate.refuse_peer(connection.peer)
        if refusal is None:  # the address may have been banned meanwhile
            return self._refuse_host(connection) if connection.circuit is None else None
        if connection.attempt is None and connection.circuit is None:
            self._admission.suspects.add(connection.remote_host, monotonic())
        return refusal

    @override
    def refuse_upgraded(self, connection: Connection) -> SidecarError | None:
        attempt, peer = connection.attempt, connection.peer
        assert peer is not None, "the handshake has shown it"
        if peer == self._identity.peer_id:
            itself = "itself, or a second node with the same identity"
            return SelfDial(f"{connection.remote} has this node's own key: {itself}")
        if attempt is not None and not attempt.finish(peer):
            return Closed("another address answered first")
        return None

    @override
    def opened(self, connection: Connection, now: float) -> bool:
        attempt, peer, public_key = connection.attempt, connection.peer, connection.public_key
        remote, local = connection.remote, connection.local
        if peer is None or public_key is None or remote is None or local is None:
            raise RuntimeError("a channel is ready before it is secured")
        if attempt is None:
            self._admission.handshake_over(connection.remote_host)
        self._counters.opened += 1
        self._counters.opened_inbound += connection.direction is Direction.INBOUND
        self._counters.handshakes["completed"] += 1
        log.debug("%r: connected", connection)
        dial = attempt.dial.number if attempt else None
        limited = connection.circuit is not None and connection.circuit.limited
        number, direction = connection.number, connection.direction
        failed = tuple(attempt.dial.in_vain) if attempt else ()
        near = connection.circuit is not None and connection.circuit.near
        opened = events.ConnectionOpened(
            number, peer, public_key, direction, remote, local, dial, limited, failed, near
        )
        if connection.circuit is not None:
            self.feed(events.CircuitSecured(connection.circuit.stream))
        return self.receive(opened, now)

    @override
    def ended(self, connection: Connection, error: SidecarError | None) -> None:
        self._counters.closed += 1
        self._counters.closed_by[_name(error)] += 1
        if isinstance(error, WorkExceeded) and connection.attempt is None and connection.circuit is None:
            self._admission.suspects.add(connection.remote_host, monotonic())
        if error is None or type(error) in (Closed, PeerBanned):
            log.debug("%r: closed: %s", connection, error or "in order")
        else:
            log.warning("%r: closed: %s", connection, error)
        self._circuit_over(connection, error)
        self.receive(events.ConnectionClosed(connection.number, error), monotonic())

    def _circuit_over(self, connection: Connection, error: SidecarError | None) -> None:
        if connection.circuit is not None:
            self.feed(events.CircuitOver(connection.circuit.stream, error))

    @override
    def upgrade_failed(self, connection: Connection, error: SidecarError | None) -> None:
        self._counters.handshakes[_name(error)] += 1
        self._circuit_over(connection, error)
        if connection.attempt is not None:
            connection.attempt.fail(error or Closed("closed during the handshake"))
            return
        self._admission.handshake_over(connection.remote_host)
        if isinstance(error, PeerBanned):
            log.debug("%r: refused: %s", connection, error)
        elif not self._stopping:
            log.warning("%r: handshake failed: %s", connection, error)

    @override
    def lost(self, connection: Connection) -> None:
        del self._connections[connection.number]
        if connection.attempt is None:
            self._admission.release_inbound(connection.remote_host)
        else:
            self._admission.release_outbound()
        self._counters.bytes_in += connection.bytes_in
        self._counters.bytes_out += connection.bytes_out
        if self._stopping and not self._connections:
            self._idle.set()

    def _on_dial_failed(self, dial: int, error: SidecarError, failed: tuple[Multiaddr, ...]) -> None:
        self._counters.dials_failed += 1
        self.feed(events.DialFailed(dial, error, failed))

    def _on_checked(self, batch: int, reasons: Sequence[str | None]) -> None:
        self.receive(gossip.SignaturesChecked(batch, reasons), monotonic())

    # ------------------------------------------------------------ bytes that wait

    @override
    def pump_soon(self, connection: Connection) -> None:
        # So all that a turn has for a connection leaves in one write.
        if not self._dirty:
            self.loop.call_soon(self._flush)
        self._dirty.append(connection)

    def _flush(self) -> None:
        dirty, self._dirty = self._dirty, []
        for connection in dirty:
            connection.pump()
        self._busy = True
        try:
            self._perform(self._node.drain(monotonic()))
        except Exception:
            self.broken()
            log.exception("internal error while looking at what bytes taken have set off")
        finally:
            self._drain()

    @override
    def account(self, connection: Connection, change: int) -> None:
        self._backlog.account(connection, change)


def _nothing(protocol: str) -> bool:
    """For connections apart: no stream of the remote is answered."""
    return False


def _name(error: SidecarError | None) -> str:
    """What an end is counted under."""
    return type(error).__name__ if error else "order"
