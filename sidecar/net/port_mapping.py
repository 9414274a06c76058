"""Port mapping on sockets: finds the gateway, carries what the machine says to it, and tells how things stand."""

import asyncio
import contextlib
import logging
import math
import random
import socket
from collections.abc import Callable, Sequence
from time import monotonic

from ..core.errors import DeadlineExceeded, SidecarError, Unreachable
from ..core.events import PortMapping, PortMappingState, PortsMapped
from ..core.multiaddr import Multiaddr
from ..core.networks import Scope
from ..core.portmap import announcement, ssdp
from ..core.portmap.http import HttpAnswer, HttpReader
from ..core.portmap.mapper import MapperReport, PortMapper
from ..core.portmap.method import Datagram, DatagramAsking, Gateway, GatewayRequest
from ..core.portmap.statistics import PortMappingStatistics
from .alarm import Alarm
from .config import PortMappingConfig
from .gateway import default_gateway

log = logging.getLogger(__name__)

_LOOK_AGAIN = 60.0  # seconds between two looks at the routes; a guess
_HTTP_TIMEOUT = 5.0  # seconds for a whole request; a guess
_READ = 16_384  # bytes at once
_MAX_DATAGRAM = 4096  # bytes; what is longer is no answer of these protocols

_NONE_REMEDY = (
    "Turn on UPnP or NAT-PMP at the router, or forward the port by hand and name the outside address in "
    "listen.announce; set nat.mapping to off if neither is wanted."
)
_DOUBLE_REMEDY = (
    "The router is behind another NAT, its provider's or a second router's: map the port there too, ask the provider "
    "for a public address, or be reached through a relay (relay.relays)."
)


class PortMappings:
    """Has the gateway map the ports that this node listens at, from `open` to `close`."""

    def __init__(
        self, config: PortMappingConfig, bound: Sequence[Multiaddr], on_changed: Callable[[PortsMapped], None]
    ) -> None:
        """`bound`: where this node listens, wildcards as they are."""
        self._loop = asyncio.get_running_loop()
        self._config = config
        self._bound = bound
        self._on_changed = on_changed
        # PCP's nonces must not be foreseen: the system's entropy, not a generator.
        self._mapper = PortMapper(config.protocols, config.lifetime, random.SystemRandom())
        self._alarm = Alarm(self._loop, self._mapper.next_deadline, self._on_deadline)
        self._gateway: Gateway | None = None
        self._why_not = ""  # why the gateway that there is is not asked
        self._sockets: _Sockets | None = None
        self._again: asyncio.TimerHandle | None = None
        self._requests: set[asyncio.Task[None]] = set()
        self._told: PortsMapped | None = None
        self._released = asyncio.Event()
        self._closing = False

    def open(self) -> None:
        """Look for the gateway, and ask it."""
        self._look()

    async def close(self, timeout: float) -> None:
        """Have the mappings removed, and wait for the gateway to say so for at most `timeout` seconds."""
        if self._closing:
            return
        self._closing = True
        if self._again is not None:
            self._again.cancel()
        self._mapper.release(monotonic())
        self._go_on()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._released.wait()
        if not self._mapper.released:
            log.warning("the gateway has not said within %g s that the ports are not mapped any more", timeout)
        self._alarm.cancel()
        for request in self._requests:
            request.cancel()
        if self._requests:
            await asyncio.wait(self._requests)
        self._part()

    def statistics(self) -> PortMappingStatistics:
        """A snapshot of the counters."""
        return self._mapper.statistics()

    # ------------------------------------------------------------ whom to ask

    def _look(self) -> None:
        """Follow the routes as they change."""
        found = default_gateway()
        if found != self._gateway:
            self._gateway = found
            self._part()
        self._why_not = self._refusal(found)
        asked = None if self._why_not else found
        if asked is not None and self._sockets is None:
            try:
                self._sockets = _Sockets(self._loop, asked, self)
            except OSError as error:
                log.info("port mapping: no socket toward the gateway %s: %s", asked.host, error.strerror or error)
        self._mapper.relink(asked if self._sockets is not None else None, self._ports(found), monotonic())
        self._again = self._loop.call_at(math.ceil(self._loop.time() + _LOOK_AGAIN), self._look)
        self._go_on()

    def _refusal(self, gateway: Gateway | None) -> str:
        """Why this gateway is not asked; empty: it is."""
        if gateway is None:
            return ""
        if not self._ports(gateway):
            return "this node does not listen at the address that the gateway would send to"
        own = Multiaddr.tcp(gateway.own, 0)
        if self._config.mode == "auto" and Scope.of(own) is Scope.PUBLIC:
            return f"this machine has a public address, {gateway.own}"
        return ""

    def _ports(self, gateway: Gateway | None) -> list[int]:
        """The ports that are listened at where the gateway would send what comes in."""
        return [] if gateway is None else list(dict.fromkeys(port for port, _ in self._listening(gateway)))

    def _listening(self, gateway: Gateway) -> list[tuple[int, str]]:
        """These ports, each with what is spoken there."""
        found = []
        for address in self._bound:
            endpoint = address.endpoint()
            # A wildcard of IPv6 takes IPv6 alone.
            if endpoint is not None and endpoint.kind == "ip4" and endpoint.host in ("0.0.0.0", gateway.own):
                found.append((endpoint.port, endpoint.suffix))
        return found

    def _part(self) -> None:
        if self._sockets is not None:
            self._sockets.close()
            self._sockets = None

    # ------------------------------------------------------------ what the machine says and hears

    def heard(self, data: bytes, host: str, port: int) -> None:
        """A datagram to a socket that requests leave from."""
        self._mapper.receive_datagram(data, host, port, monotonic())
        self._go_on()

    def announced(self, data: bytes, host: str) -> None:
        """A datagram to the group that gateways announce themselves to."""
        self._mapper.receive_announcement(data, host, monotonic())
        self._go_on()

    def unreachable(self) -> None:
        """Nothing listens at the gateway's port."""
        self._mapper.unreachable(monotonic())
        self._go_on()

    def _on_deadline(self, now: float) -> None:
        self._mapper.handle_deadline(now)
        self._go_on()

    def _go_on(self) -> None:
        """Send what there is to be sent, and tell what has changed."""
        while True:
            datagrams, requests = self._mapper.datagrams_to_send(), self._mapper.requests_to_make()
            if not datagrams and not requests:
                break
            for datagram in datagrams:
                if self._sockets is not None:
                    self._sockets.send(datagram)
            for request in requests:
                task = self._loop.create_task(self._fetch(request), name="port mapping")
                self._requests.add(task)
                task.add_done_callback(self._requests.discard)
        self._alarm.arm()
        if self._closing:
            if self._mapper.released:
                self._released.set()
        else:
            self._tell()

    async def _fetch(self, request: GatewayRequest) -> None:
        answer: HttpAnswer | SidecarError
        try:
            async with asyncio.timeout(_HTTP_TIMEOUT):
                answer = await fetch(request, "" if self._gateway is None else self._gateway.own)
        except TimeoutError:
            answer = DeadlineExceeded(f"no answer within {_HTTP_TIMEOUT:g} s")
        except OSError as error:
            answer = Unreachable(error.strerror or str(error))
        except SidecarError as error:
            answer = error
        self._mapper.receive_answer(request.number, answer, monotonic())
        self._go_on()

    # ------------------------------------------------------------ how things stand

    def _tell(self) -> None:
        told, before = self._describe(), self._told
        if told == before:
            return
        self._told = told
        # A renewal changes when it ends, and no more: that is no news.
        if before is None or told.message != before.message:
            level = logging.WARNING if told.mappings and told.remedy else logging.INFO
            log.log(level, "port mapping: %s", told.message)
        self._on_changed(told)

    def _describe(self) -> PortsMapped:
        report, gateway = self._mapper.report(), self._gateway
        if gateway is None:
            return PortsMapped(PortMappingState.NO_GATEWAY, "there is no default route over a gateway")
        if self._why_not:
            return PortsMapped(PortMappingState.OFF, self._why_not, gateway=gateway.host)
        mappings = self._mappings(report, gateway)
        if mappings:
            at = ", ".join(f"{mapping.address} to port {mapping.port}" for mapping in mappings)
            message = f"the gateway {gateway.host} maps {at} ({report.protocol})"
            inside = all(Scope.of(mapping.address) is not Scope.PUBLIC for mapping in mappings)
            if inside:
                message += "; that address is not public either: the gateway is behind another NAT"
            remedy = _DOUBLE_REMEDY if inside else ""
            return PortsMapped(report.state, message, remedy, gateway.host, report.protocol, mappings)
        if report.state is PortMappingState.ASKING:
            return PortsMapped(report.state, f"the gateway {gateway.host} is being asked", gateway=gateway.host)
        remedy = _NONE_REMEDY if self._config.mode == "on" else ""  # else nobody has said that it is wanted
        reasons = "; ".join(f"{protocol}: {reason}" for protocol, reason in report.reasons.items())
        message = f"the gateway {gateway.host} maps no port ({reasons})"
        return PortsMapped(report.state, message, remedy, gateway.host)

    def _mappings(self, report: MapperReport, gateway: Gateway) -> tuple[PortMapping, ...]:
        found = []
        for mapped in report.mapped:
            for port, suffix in self._listening(gateway):
                if port == mapped.port:
                    address = Multiaddr.tcp(mapped.host, mapped.external_port, suffix)
                    found.append(PortMapping(address, port, mapped.ends_at))
        return tuple(found)


async def fetch(request: GatewayRequest, own: str) -> HttpAnswer:
    """The answer to a request, made from the address `own`. Raises OSError and ProtocolError."""
    reader, writer = await asyncio.open_connection(
        request.host, request.port, local_addr=(own, 0), family=socket.AF_INET, limit=_READ
    )
    try:
        writer.write(request.data)
        http = HttpReader()
        while data := await reader.read(_READ):
            answer = http.receive(data)
            if answer is not None:
                return answer
        return http.end()
    finally:
        writer.transport.abort()


class _Sockets:
    """Toward one gateway: for datagrams to its port, for searches, and for what gateways announce."""

    def __init__(self, loop: asyncio.AbstractEventLoop, gateway: Gateway, owner: PortMappings) -> None:
        """Raises OSError."""
        self._loop = loop
        self._owner = owner
        self._gateway = gateway
        self._closed = False
        with contextlib.ExitStack() as opened:
            # Connected: so what others send is not even received, and that nothing listens there is told.
            self._direct = opened.enter_context(_udp(gateway.own))
            self._direct.connect((gateway.host, DatagramAsking.port))
            self._search = opened.enter_context(_udp(gateway.own))
            self._search.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(gateway.own))
            self._search.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 2)  # as UPnP wants it
            self._sockets = opened.pop_all()
        loop.add_reader(self._direct, self._read_direct)
        loop.add_reader(self._search, self._read_search)
        self._group: socket.socket | None = None
        try:
            self._group = _group()
            loop.add_reader(self._group, self._read_group, self._group)
        except OSError as error:  # another program has it for itself: what the gateway forgets is found out later
            log.debug("port mapping: announcements of gateways are not heard: %s", error.strerror or error)

    def send(self, datagram: Datagram) -> None:
        """What does not leave is lost, as datagrams are; but that nobody listens is said."""
        try:
            if datagram.host == self._gateway.host:
                self._direct.send(datagram.data)
            else:
                self._search.sendto(datagram.data, (datagram.host, datagram.port))
        except ConnectionRefusedError:
            self._loop.call_soon(self._refused)
        except OSError as error:
            log.debug("port mapping: %s", error.strerror or error)

    def _refused(self) -> None:
        if not self._closed:
            self._owner.unreachable()

    def _read_direct(self) -> None:
        try:
            data = self._direct.recv(_MAX_DATAGRAM + 1)
        except ConnectionRefusedError:
            self._owner.unreachable()
        except OSError:
            return
        else:
            self._owner.heard(data, self._gateway.host, DatagramAsking.port)

    def _read_search(self) -> None:
        with contextlib.suppress(OSError):
            data, (host, _) = self._search.recvfrom(_MAX_DATAGRAM + 1)
            self._owner.heard(data, host, ssdp.PORT)

    def _read_group(self, group: socket.socket) -> None:
        with contextlib.suppress(OSError):
            data, (host, _) = group.recvfrom(_MAX_DATAGRAM + 1)
            self._owner.announced(data, host)

    def close(self) -> None:
        self._closed = True
        for opened in (self._direct, self._search):
            self._loop.remove_reader(opened)
        self._sockets.close()
        if self._group is not None:
            self._loop.remove_reader(self._group)
            self._group.close()


def _udp(own: str) -> socket.socket:
    opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        opened.setblocking(False)
        opened.bind((own, 0))
    except BaseException:
        opened.close()
        raise
    return opened


def _group() -> socket.socket:
    """Bound to the group of announcements itself, so that nothing else comes in."""
    opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        opened.setblocking(False)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "SO_REUSEPORT"):  # other programs listen there too
            with contextlib.suppress(OSError):
                opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        opened.bind((announcement.GROUP, announcement.PORT))
    except BaseException:
        opened.close()
        raise
    return opened
