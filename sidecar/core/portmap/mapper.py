"""The machine: has a gateway map ports, by whichever protocol it speaks, and keeps them mapped.

Datagrams and HTTP answers go in; datagrams, HTTP requests and a report come out.
"""

import ipaddress
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace

from ..classes import NamedTuple
from ..errors import ProtocolError, SidecarError
from ..events import PortMappingState
from . import announcement
from .http import HttpAnswer
from .method import (
    AskingMethod,
    Datagram,
    DatagramAsking,
    Denied,
    EpochWatch,
    Gateway,
    GatewayRequest,
    Granted,
    NotSpoken,
    Outcome,
    Restarted,
)
from .natpmp import NatPmp
from .pcp import Pcp
from .statistics import PortMappingStatistics
from .upnp import Upnp

MAX_PORTS = 8
"""A guess: nodes listen at one or two."""
_AGAIN = 60.0, 3600.0  # seconds until a gateway that maps nothing is asked again: at first, and at most; guesses
_MOST_WAIT = 1800.0  # seconds for which a gateway's "no" is believed; RFC 6887, section 8.3
_LEAST_PAUSE = 4.0  # seconds between two requests for one port; RFC 6887, section 11.2.1
_SPREAD = 1.0  # seconds over which many nodes of one network ask again after their gateway has begun anew; a guess


class MappedPort(NamedTuple):
    """The gateway's `host` and `external_port` lead to the `port` of this machine, until `ends_at`."""

    port: int
    host: str
    external_port: int
    ends_at: float


class MapperReport(NamedTuple):
    """How things stand. `protocol`: by which it was mapped; `reasons`: by protocol, why the last attempts failed."""

    state: PortMappingState
    protocol: str
    mapped: tuple[MappedPort, ...]
    reasons: Mapping[str, str]


class _Port:
    """One port of this machine."""

    __slots__ = ("asking", "mapped", "protocol", "renew_at")

    def __init__(self) -> None:
        self.asking = False
        self.mapped: MappedPort | None = None
        self.protocol = ""
        self.renew_at: float | None = None  # when to ask for it (again)


class PortMapper:
    """Asks one gateway for ports: by one protocol after the other, then by the one that has worked."""

    def __init__(self, protocols: Sequence[str], lifetime: float, rng: random.Random, secret: bytes) -> None:
        """`protocols`: in the order in which they are tried. `lifetime`: seconds that are asked for.

        `secret`: at most 64 bytes that only this node knows, the same after a restart; PCP's nonces are made from it.
        """
        self._protocols = protocols
        self._lifetime = lifetime
        self._rng = rng
        self._secret = secret
        self._counts = PortMappingStatistics()
        self._gateway: Gateway | None = None
        self._ports: dict[int, _Port] = {}
        self._untried: list[str] = []
        self._method: AskingMethod | None = None
        self._proven = False  # it has mapped a port
        self._reasons: dict[str, str] = {}
        self._refused = False  # in this round, somebody has said no
        self._wait = 0.0  # seconds: the longest that was told in this round
        self._retry_at: float | None = None
        self._began = 0.0  # when the last round did
        self._failures = 0  # rounds in a row
        self._reask_after = 0.0
        self._announced: dict[int, EpochWatch] = {}
        self._releasing = False
        self._number = 0
        self._under_way: dict[int, tuple[AskingMethod, int]] = {}  # HTTP requests: whose, and their numbers there

    # ------------------------------------------------------------ what there is

    def relink(self, gateway: Gateway | None, ports: Sequence[int], now: float) -> None:
        """The gateway there is now, and the ports to map; another gateway, or another address here, begins anew."""
        wanted = list(dict.fromkeys(ports))[:MAX_PORTS]
        if self._releasing or (gateway == self._gateway and wanted == list(self._ports)):
            return
        self._gateway = gateway
        self._ports = {port: _Port() for port in wanted}
        self._method = None
        self._failures = 0
        self._retry_at = None
        self._announced.clear()
        self._reasons = {}
        if gateway is not None and wanted:
            self._begin(now)

    def report(self) -> MapperReport:
        """How things stand."""
        mapped = [(port.mapped, port.protocol) for port in self._ports.values() if port.mapped is not None]
        if mapped:
            state = PortMappingState.MAPPED
        elif self._gateway is None:
            state = PortMappingState.NO_GATEWAY
        elif self._method is not None:
            state = PortMappingState.ASKING
        else:
            state = PortMappingState.REFUSED if self._refused else PortMappingState.NO_ANSWER
        return MapperReport(
            state, mapped[0][1] if mapped else "", tuple(each for each, _ in mapped), dict(self._reasons)
        )

    def statistics(self) -> PortMappingStatistics:
        """A snapshot."""
        return replace(self._counts, mappings=sum(port.mapped is not None for port in self._ports.values()))

    # ------------------------------------------------------------ what comes in

    def receive_datagram(self, data: bytes, host: str, port: int, now: float) -> None:
        """A datagram to one of the sockets that requests leave from; `host`, `port`: who it is from."""
        method, gateway = self._method, self._gateway
        right = isinstance(method, DatagramAsking) == (port == DatagramAsking.port)
        if method is None or gateway is None or host != gateway.host or not right:
            self._counts.strays += 1
            return
        self._take(method.receive_datagram(data, now), now)

    def receive_announcement(self, data: bytes, host: str, now: float) -> None:
        """A datagram to the group that gateways announce themselves to."""
        gateway = self._gateway
        if gateway is None or host != gateway.host:
            self._counts.strays += 1
            return
        try:
            told = announcement.decode(data)
        except ProtocolError:
            self._counts.malformed += 1
            return
        first = told.version not in self._announced
        restarted = self._announced.setdefault(told.version, EpochWatch()).restarted(told.epoch, now)
        hosts = {port.mapped.host for port in self._ports.values() if port.mapped is not None}
        moved = told.host is not None and hosts and told.host not in hosts and ":" not in gateway.host
        if first or restarted or moved:
            self._ask_all_again(now)

    def unreachable(self, now: float) -> None:
        """Nothing listens where the datagrams to the gateway go."""
        if self._method is not None:
            self._take(self._method.unreachable(now), now)

    def receive_answer(self, number: int, answer: HttpAnswer | SidecarError, now: float) -> None:
        """The answer to an HTTP request, or why there is none: a ProtocolError where it is malformed."""
        method, inner = self._under_way.pop(number, (None, 0))
        if method is not None and method is self._method:
            self._take(method.receive_answer(inner, answer, now), now)

    # ------------------------------------------------------------ what goes out

    def datagrams_to_send(self) -> list[Datagram]:
        """Datagrams, each to be sent once."""
        if self._method is None:
            return []
        datagrams, self._method.datagrams = self._method.datagrams, []
        return datagrams

    def requests_to_make(self) -> list[GatewayRequest]:
        """HTTP requests, each to be answered by `receive_answer`; one at a time, as long as the gateway is the same."""
        if self._method is None:
            return []
        requests, self._method.requests = self._method.requests, []
        made = []
        for request in requests:
            self._number += 1
            self._under_way[self._number] = self._method, request.number
            made.append(request._replace(number=self._number))
        return made

    # ------------------------------------------------------------ time

    def next_deadline(self) -> float | None:
        """When `handle_deadline` wants to be called."""
        moments = [self._retry_at, None if self._method is None else self._method.next_deadline()]
        for port in self._ports.values():
            moments += [port.renew_at, None if port.mapped is None else port.mapped.ends_at]
        return min((moment for moment in moments if moment is not None), default=None)

    def handle_deadline(self, now: float) -> None:
        """Repeat, give up, renew, forget, begin anew: what is due."""
        if self._method is not None:
            self._take(self._method.handle_deadline(now), now)
        if self._releasing:
            return
        for port in self._ports.values():
            if port.mapped is not None and port.mapped.ends_at <= now:
                port.mapped = None
                self._counts.lost += 1
        if self._retry_at is not None and self._retry_at <= now:
            self._begin(now)
        for number, port in self._ports.items():
            if port.renew_at is not None and port.renew_at <= now:
                port.renew_at = None
                if self._method is not None and not port.asking:
                    self._ask(number, port, now)

    # ------------------------------------------------------------ the end

    def release(self, now: float) -> None:
        """Have all mappings removed; nothing is asked for any more. It is done when `released`."""
        self._releasing = True
        self._retry_at = None
        holds = next((port.protocol for port in self._ports.values() if port.mapped is not None), "")
        if self._gateway is not None and holds and (self._method is None or self._method.name != holds):
            self._method = self._make(holds, self._gateway)  # the gateway has not answered of late: perhaps it does now
        for number, port in self._ports.items():
            port.renew_at = None
            if self._method is not None and (port.mapped is not None or port.asking):
                external = number if port.mapped is None else port.mapped.external_port
                self._method.release(number, external, now)
            port.mapped = None

    @property
    def released(self) -> bool:
        """Whether the gateway has answered, or will not."""
        return self._method is None or not self._method.busy

    # ------------------------------------------------------------

    def _begin(self, now: float) -> None:
        """Try all protocols in turn."""
        self._began = now
        self._untried = list(self._protocols)
        self._reasons = {}
        self._refused, self._wait = False, 0.0
        self._next_method(now)

    def _begin_again(self, now: float) -> None:
        """The same, unless that was a moment ago, as with a gateway that maps and then breaks."""
        if now - self._began >= _AGAIN[0]:
            self._begin(now)
        else:
            self._untried = []
            self._next_method(now)

    def _next_method(self, now: float) -> None:
        gateway = self._gateway
        self._method = self._retry_at = None
        self._proven = False
        for port in self._ports.values():
            port.asking, port.renew_at = False, None
        if gateway is None:
            return
        if not self._untried:
            least, most = _AGAIN
            pause = min(least * 2**self._failures, most)
            self._failures = min(self._failures + 1, 16)
            pause = max(pause, min(self._wait, _MOST_WAIT))
            self._retry_at = now + pause * (1 + self._rng.random() / 10)
            return
        self._method = self._make(self._untried.pop(0), gateway)
        for number, port in self._ports.items():
            self._ask(number, port, now)

    def _make(self, name: str, gateway: Gateway) -> AskingMethod:
        match name:
            case "pcp":
                return Pcp(gateway, self._counts, self._secret)
            case "nat-pmp":
                return NatPmp(gateway, self._counts)
            case _:
                return Upnp(gateway, self._counts, self._rng)

    def _ask(self, number: int, port: _Port, now: float) -> None:
        assert self._method is not None, "only asked where there is one"
        port.asking = True
        self._method.ask(number, 0 if port.mapped is None else port.mapped.external_port, self._lifetime, now)

    def _ask_all_again(self, now: float) -> None:
        """The gateway has begun anew, or has another address: soon, but however often it says so, not more often."""
        if self._releasing:
            return
        at = max(now + self._rng.random() * _SPREAD, self._reask_after)
        self._reask_after = at + _LEAST_PAUSE
        if self._method is None:
            self._retry_at = at
        for port in self._ports.values():
            port.renew_at = at

    def _take(self, outcomes: Sequence[Outcome], now: float) -> None:
        if self._releasing or self._method is None:
            return
        name = self._method.name
        for outcome in outcomes:
            match outcome:
                case Granted():
                    self._on_granted(outcome, now)
                case Denied(number, reason, wait):
                    self._on_denied(self._ports[number], reason, wait)
                case NotSpoken(reason):
                    self._reasons[name] = reason
                    if self._proven:  # what has worked until now does no more: then all are tried anew
                        self._begin_again(now)
                    else:
                        self._next_method(now)
                    return
                case Restarted():
                    self._counts.restarts += 1
                    self._ask_all_again(now)
        if outcomes:
            self._settle(now)

    def _on_granted(self, granted: Granted, now: float) -> None:
        port, name = self._ports[granted.port], "" if self._method is None else self._method.name
        if not _usable(granted.host):  # such as 0.0.0.0, where the gateway is not connected itself
            self._on_denied(port, f"its external address is {granted.host}", 0.0)
            return
        self._counts.granted += 1
        self._failures = 0
        self._proven = True
        self._reasons.pop(name, None)
        port.asking, port.protocol = False, name
        port.mapped = MappedPort(granted.port, granted.host, granted.external_port, now + granted.lifetime)
        # At half of it, as both RFCs have it; and no later where the gateway keeps mappings for longer than was asked,
        # so that one that has forgotten them all is found out in time.
        port.renew_at = now + max(min(granted.lifetime, self._lifetime) / 2, _LEAST_PAUSE)

    def _on_denied(self, port: _Port, reason: str, wait: float) -> None:
        port.asking, port.renew_at = False, None
        self._reasons["" if self._method is None else self._method.name] = reason
        self._refused, self._wait = True, max(self._wait, wait)

    def _settle(self, now: float) -> None:
        """Once all ports have their answers: stay with what has worked, or try what is next."""
        if any(port.asking for port in self._ports.values()):
            return
        if not self._proven:
            self._next_method(now)
            return
        for port in self._ports.values():
            if port.renew_at is None:
                port.renew_at = now + max(_AGAIN[0], min(self._wait, _MOST_WAIT))


def _usable(host: str) -> bool:
    """Whether an address can be one of a gateway toward others."""
    address = ipaddress.ip_address(host)
    return not (address.is_unspecified or address.is_multicast or address.is_loopback or address.is_link_local)
