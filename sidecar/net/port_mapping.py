"""Port mapping on sockets: finds the gateway, carries what the machine says to it, and tells how things stand."""

import asyncio
import contextlib
import logging
import math
import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from itertools import chain
from time import monotonic

from ..core.errors import DeadlineExceeded, SidecarError, Unreachable
from ..core.events import PortMapping, PortMappingState, PortsMapped
from ..core.multiaddr import Multiaddr
from ..core.networks import Scope
from ..core.override import override
from ..core.portmap.http import HttpAnswer
from ..core.portmap.mapper import MapperReport, PortMapper
from ..core.portmap.method import Gateway, GatewayRequest
from ..core.portmap.statistics import PortMappingStatistics
from .alarm import Alarm
from .config import PortMappingConfig
from .gateway import default_gateway
from .gateway_sockets import GatewayEars, GatewaySockets, fetch

log = logging.getLogger(__name__)

_LOOK_AGAIN = 60.0  # seconds between two looks at the routes; a guess
_HTTP_TIMEOUT = 5.0  # seconds for a whole request; a guess

_NONE_REMEDY = (
    "Turn on UPnP or NAT-PMP at the router, or forward the port by hand and name the outside address in "
    "listen.announce; set nat.mapping to off if neither is wanted."
)
_DOUBLE_REMEDY = (
    "The router is behind another NAT, its provider's or a second router's: map the port there too, ask the provider "
    "for a public address, or be reached through a relay (relay.relays)."
)


_ORDER = (  # the states, that first of which there is most to say
    PortMappingState.MAPPED,
    PortMappingState.ASKING,
    PortMappingState.REFUSED,
    PortMappingState.NO_ANSWER,
    PortMappingState.OFF,
    PortMappingState.NO_GATEWAY,
)


class PortMappings:
    """Has the gateways map the ports that this node listens at, from `open` to `close`.

    IPv4's by any protocol; IPv6's by PCP, which opens a hole in a firewall there: the address stays what it is.
    """

    def __init__(
        self,
        config: PortMappingConfig,
        bound: Sequence[Multiaddr],
        secret: bytes,
        on_changed: Callable[[PortsMapped], None],
    ) -> None:
        """`bound`: where this node listens, wildcards as they are. `secret`: as `PortMapper` has it."""
        self._on_changed = on_changed
        self._told: PortsMapped | None = None
        kinds = {endpoint.kind for address in bound if (endpoint := address.endpoint()) is not None}
        self._families = [
            GatewayPorts(family, replace(config, protocols=spoken), bound, secret, self._tell)
            for family, spoken in (("ip4", config.protocols), ("ip6", tuple({"pcp"} & set(config.protocols))))
            if family in kinds and spoken
        ]

    def open(self) -> None:
        """Look for the gateways, and ask them."""
        for family in self._families:
            family.open()

    async def close(self, timeout: float) -> None:
        """Have the mappings removed, and wait for the gateways to say so for at most `timeout` seconds."""
        await asyncio.gather(*(family.close(timeout) for family in self._families))

    def statistics(self) -> PortMappingStatistics:
        """A snapshot of the counters, of all gateways together."""
        counts = [family.statistics() for family in self._families]
        names = (field.name for field in fields(PortMappingStatistics))
        return PortMappingStatistics(**{name: sum(getattr(each, name) for each in counts) for name in names})

    def _tell(self) -> None:
        said = [family.told for family in self._families if family.told is not None]
        told, before = together(said), self._told
        if told == before:
            return
        self._told = told
        # A renewal changes when it ends, and no more: that is no news.
        if before is None or told.message != before.message:
            level = logging.WARNING if told.mappings and told.remedy else logging.INFO
            log.log(level, "port mapping: %s", told.message)
        self._on_changed(told)


def together(said: Sequence[PortsMapped]) -> PortsMapped:
    """What there is to say of several gateways: of those that map, else of the one that has come furthest."""
    mapping = [each for each in said if each.mappings]
    if len(mapping) < 2:
        return min(said, key=lambda each: _ORDER.index(each.state))
    message = "; ".join(each.message for each in mapping)
    return mapping[0]._replace(message=message, mappings=tuple(chain(*(each.mappings for each in mapping))))


class GatewayPorts(GatewayEars):
    """The same of one family of IP: "ip4" or "ip6"."""

    def __init__(
        self,
        family: str,
        config: PortMappingConfig,
        bound: Sequence[Multiaddr],
        secret: bytes,
        on_changed: Callable[[], None],
    ) -> None:
        """`on_changed` is called whenever `told` may have changed."""
        self._family = family
        self._loop = asyncio.get_running_loop()
        self._config = config
        self._bound = bound
        self._on_changed = on_changed
        self._mapper = PortMapper(config.protocols, config.lifetime, random.Random(), secret)
        self._alarm = Alarm(self._loop, self._mapper.next_deadline, self._on_deadline)
        self._gateway: Gateway | None = None
        self._why_not = ""  # why the gateway that there is is not asked
        self._sockets: GatewaySockets | None = None
        self._again: asyncio.TimerHandle | None = None
        self._requests: set[asyncio.Task[None]] = set()
        self.told: PortsMapped | None = None
        """How things stand; None before `open`."""
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
        found = default_gateway(self._family)
        if found != self._gateway:
            self._gateway = found
            self._part()
        self._why_not = self._refusal(found)
        asked = None if self._why_not else found
        if asked is not None and self._sockets is None:
            try:
                self._sockets = GatewaySockets(self._loop, asked, self)
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
        if self._family == "ip6" and Scope.of(Multiaddr.tcp(gateway.own, 0)) is not Scope.PUBLIC:
            return f"this machine has no public address of IPv6, only {gateway.own}"
        # At home every machine has a public address of IPv6, and none of IPv4.
        usual = gateway if self._family == "ip4" else default_gateway("ip4")
        if usual is None or self._config.mode != "auto":
            return ""
        if Scope.of(Multiaddr.tcp(usual.own, 0)) is Scope.PUBLIC:
            return f"this machine has a public address, {usual.own}"
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
            here = ("0.0.0.0" if self._family == "ip4" else "::", gateway.own)
            if endpoint is not None and endpoint.kind == self._family and endpoint.host in here:
                found.append((endpoint.port, endpoint.suffix))
        return found

    def _part(self) -> None:
        if self._sockets is not None:
            self._sockets.close()
            self._sockets = None

    # ------------------------------------------------------------ what the machine says and hears

    @override
    def heard(self, data: bytes, host: str, port: int) -> None:
        self._mapper.receive_datagram(data, host, port, monotonic())
        self._go_on()

    @override
    def announced(self, data: bytes, host: str) -> None:
        self._mapper.receive_announcement(data, host, monotonic())
        self._go_on()

    @override
    def unreachable(self) -> None:
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
            told = self._describe()
            if told != self.told:
                self.told = told
                self._on_changed()

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

    def _describe(self) -> PortsMapped:
        report, gateway = self._mapper.report(), self._gateway
        if gateway is None:
            linux = sys.platform == "linux"
            message = "there is no default route over a gateway" if linux else "the gateway is found on Linux only"
            return PortsMapped(PortMappingState.NO_GATEWAY, message)
        if self._why_not:
            return PortsMapped(PortMappingState.OFF, self._why_not, gateway=gateway.host)
        mappings = self._mappings(report, gateway)
        if mappings:
            at = ", ".join(f"{mapping.address} to port {mapping.port}" for mapping in mappings)
            does = "maps"
            if all(mapping.address.ip == gateway.own for mapping in mappings):
                does, at = "lets peers in at", ", ".join(str(mapping.address) for mapping in mappings)
            message = f"the gateway {gateway.host} {does} {at} ({report.protocol})"
            inside = all(Scope.of(mapping.address) is not Scope.PUBLIC for mapping in mappings)
            if inside:
                message += "; that address is not public either: the gateway is behind another NAT"
            remedy = _DOUBLE_REMEDY if inside else ""
            return PortsMapped(report.state, message, remedy, gateway.host, report.protocol, mappings)
        if report.state is PortMappingState.ASKING:
            return PortsMapped(report.state, f"the gateway {gateway.host} is being asked", gateway=gateway.host)
        # Where nobody has said that it is wanted, nothing is to be done.
        remedy = _NONE_REMEDY if self._config.mode == "on" and self._family == "ip4" else ""
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
