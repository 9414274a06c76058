"""UPnP's Internet Gateway Device: the gateway is searched for, describes itself, and is asked by HTTP.

Its requests go one after the other. UPnP forum, WANIPConnection:1 and :2.
"""

import ipaddress
import random
from collections.abc import Sequence
from math import inf
from typing import ClassVar

from ..errors import ProtocolError, SidecarError
from ..override import override
from .documents import Description, Fault, UpnpService, decode_answer, decode_description, encode_action
from .http import HttpAnswer
from .method import (
    AskingMethod,
    Datagram,
    Denied,
    Gateway,
    GatewayRequest,
    Granted,
    NotSpoken,
    Outcome,
)
from .ssdp import GROUP, PORT, Location, encode_searches, location
from .ssdp import decode_answer as decode_search_answer
from .statistics import PortMappingStatistics

_SEARCHES = 2
_SEARCH_AGAIN = 1.5  # seconds; gateways wait for a random part of MX, which is one second
_MAX_LOCATIONS = 4
_MAX_TRIES = 5  # at mapping one port: other ports, another lifetime, another action
_OTHER_PORTS = 20_000, 60_000  # from which another external port is drawn where the one wanted is taken; a guess
_NOT_THERE = (401, 602)  # no such action
_TAKEN = (718, 727, 729)  # the external port is mapped already, or cannot be
_PERMANENT = (402, 725)  # only leases without end; some gateways call the argument wrong instead
_DESCRIPTION = "sidecar"


class _Wanted:
    """A port that is to be mapped."""

    __slots__ = ("external_port", "fresh", "lifetime", "tries")

    def __init__(self, external_port: int, lifetime: int, *, fresh: bool) -> None:
        self.external_port = external_port
        self.lifetime = lifetime
        self.fresh = fresh  # any other external port is as good: where the service can, it may choose
        self.tries = 0


class _Request:
    """The one that is under way. `port`: of this machine, where it is about one; `action`: empty for a description."""

    __slots__ = ("action", "number", "port", "wanted")

    def __init__(self, number: int, action: str, port: int, wanted: _Wanted | None) -> None:
        self.number = number
        self.action = action
        self.port = port
        self.wanted = wanted


class Upnp(AskingMethod):
    """Asks by UPnP."""

    name: ClassVar[str] = "upnp"

    def __init__(self, gateway: Gateway, counts: PortMappingStatistics, rng: random.Random) -> None:
        super().__init__(gateway, counts)
        self._rng = rng
        self._wanted: dict[int, _Wanted] = {}
        self._unwanted: dict[int, int] = {}  # external ports to release
        self._searches = 0  # made, of those that nothing has come of yet
        self._search_at: float | None = None
        self._locations: list[Location] = []  # of descriptions that are not read yet
        self._seen: dict[str, None] = {}
        self._services: list[tuple[UpnpService, Location]] = []  # with where to ask
        self._host: str | None = None
        self._request: _Request | None = None
        self._number = 0
        self._reason = "no answer"
        self._leaving = False

    @override
    def ask(self, port: int, external_port: int, lifetime: float, now: float) -> None:
        self._wanted[port] = _Wanted(external_port or port, int(lifetime), fresh=not external_port)
        if self._request is None:
            self._host = None
        self._go_on(now)

    @override
    def release(self, port: int, external_port: int, now: float) -> None:
        self._wanted.clear()
        self._leaving = True
        if self._services:
            self._unwanted[port] = external_port
            self._go_on(now)

    @property
    @override
    def busy(self) -> bool:
        return self._request is not None or bool(self._unwanted)

    @override
    def next_deadline(self) -> float | None:
        return self._search_at

    @override
    def handle_deadline(self, now: float) -> Sequence[Outcome]:
        if self._search_at is None or self._search_at > now:
            return ()
        if self._searches < _SEARCHES:
            self._search(now)
            return ()
        self._search_at = None
        self.counts.unanswered += 1
        return self._give_up()

    def _search(self, now: float) -> None:
        self._searches += 1
        self._search_at = now + _SEARCH_AGAIN
        searches = encode_searches()
        self.counts.requests += len(searches)
        self.datagrams += [Datagram(GROUP, PORT, data) for data in searches]

    @override
    def receive_datagram(self, data: bytes, now: float) -> Sequence[Outcome]:
        try:
            found = decode_search_answer(data, self.gateway.host)
        except ProtocolError as error:
            self.counts.malformed += 1
            self._reason = str(error)
            return ()
        if not self._searches:  # an answer to a search that is over
            return ()
        if found not in self._seen and len(self._seen) < _MAX_LOCATIONS:
            self._seen[found] = None
            self._locations.append(found)
        self._search_at = None
        self._go_on(now)
        return ()

    # ------------------------------------------------------------ one request after the other

    def _go_on(self, now: float) -> None:
        """Make the next request, or search."""
        if self._request is not None or not (self._wanted or self._unwanted):
            return
        if not self._services:
            if self._locations:
                self._get(self._locations[0])
            elif self._search_at is None:
                self._searches = 0
                self._seen.clear()
                self._search(now)
            return
        if self._unwanted:
            port, external_port = next(iter(self._unwanted.items()))
            del self._unwanted[port]
            self._act("DeletePortMapping", port, None, _external(external_port))
        elif self._host is None:
            self._act("GetExternalIPAddress", 0, None, {})
        else:
            port, wanted = next(iter(self._wanted.items()))
            chooses = wanted.fresh and self._services[0][0].kind.endswith(":2")
            action = "AddAnyPortMapping" if chooses else "AddPortMapping"
            self._act(action, port, wanted, self._mapping(port, wanted))

    def _mapping(self, port: int, wanted: _Wanted) -> dict[str, object]:
        return {
            **_external(wanted.external_port),
            "NewInternalPort": port,
            "NewInternalClient": self.gateway.own,
            "NewEnabled": 1,
            "NewPortMappingDescription": _DESCRIPTION,
            "NewLeaseDuration": wanted.lifetime,
        }

    def _get(self, at: Location) -> None:
        self._make(at, _Request(self._number + 1, "", 0, None), f"GET {at.path} HTTP/1.1", b"")

    def _act(self, action: str, port: int, wanted: _Wanted | None, arguments: dict[str, object]) -> None:
        service, at = self._services[0]
        body = encode_action(service.kind, action, arguments)
        head = (
            f'POST {at.path} HTTP/1.1\r\nContent-Type: text/xml; charset="utf-8"\r\n'
            f'SOAPAction: "{service.kind}#{action}"\r\nContent-Length: {len(body)}'
        )
        self._make(at, _Request(self._number + 1, action, port, wanted), head, body)

    def _make(self, at: Location, request: _Request, head: str, body: bytes) -> None:
        line, _, rest = head.partition("\r\n")
        host, port = self.gateway.host, at.port
        words = [line, f"Host: {host}:{port}", *([rest] if rest else []), "Connection: close", "", ""]
        self._number, self._request = request.number, request
        self.counts.requests += 1
        self.requests.append(GatewayRequest(request.number, host, port, "\r\n".join(words).encode() + body))

    @override
    def receive_answer(self, number: int, answer: HttpAnswer | SidecarError, now: float) -> Sequence[Outcome]:
        request = self._request
        if request is None or request.number != number:
            return ()
        self._request = None
        outcomes: Sequence[Outcome]
        try:
            if isinstance(answer, SidecarError):
                raise answer
            outcomes = self._on_answer(request, answer)
        except SidecarError as error:
            if isinstance(error, ProtocolError):
                self.counts.malformed += 1
            else:
                self.counts.unanswered += 1
            outcomes = self._next_place(str(error))
        self._go_on(now)
        return outcomes

    def _on_answer(self, request: _Request, answer: HttpAnswer) -> Sequence[Outcome]:
        if not request.action:
            if answer.status != 200:  # among them redirects, which are not followed
                raise ProtocolError(f"its description: HTTP status {answer.status}")
            self._described(self._locations[0], decode_description(answer.body))
            del self._locations[0]
            return ()
        if answer.status not in (200, 500):
            raise ProtocolError(f"{request.action}: HTTP status {answer.status}")
        values = decode_answer(answer.body, request.action)
        if request.action == "DeletePortMapping":
            return ()
        if request.wanted is not None:
            return self._on_mapping(request, request.wanted, values)
        if isinstance(values, Fault):
            raise ProtocolError(f"no external address: error {values.code} {values.description}".rstrip())
        self._host = _ip4(values.get("NewExternalIPAddress", ""))
        return ()

    def _described(self, at: Location, described: Description) -> None:
        found = []
        for service in described.services:
            try:
                base = location(described.base, self.gateway.host) if described.base else at
                found.append((service, location(service.control, self.gateway.host, base)))
            except ProtocolError as error:
                self.counts.malformed += 1
                self._reason = str(error)
        self._services = found
        if not found:
            raise ProtocolError("it describes no service that maps ports, or one that is elsewhere")

    def _on_mapping(self, request: _Request, wanted: _Wanted, values: dict[str, str] | Fault) -> Sequence[Outcome]:
        port, external_port = request.port, wanted.external_port
        if not isinstance(values, Fault):
            if request.action == "AddAnyPortMapping":
                external_port = _port(values.get("NewReservedPort", ""))
            if self._leaving:
                self._unwanted[port] = external_port
        if self._wanted.get(port) is not wanted:  # it was asked for again meanwhile, or is not wanted any more
            return ()
        assert self._host is not None, "it was asked for before"
        if not isinstance(values, Fault):
            del self._wanted[port]
            return (Granted(port, self._host, external_port, float(wanted.lifetime) if wanted.lifetime else inf),)
        wanted.tries += 1
        if wanted.tries < _MAX_TRIES:
            if wanted.fresh and values.code in _NOT_THERE:
                wanted.fresh = False
                return ()
            if wanted.lifetime and values.code in _PERMANENT:
                wanted.lifetime = 0
                return ()
            if values.code in _TAKEN:
                wanted.external_port = self._rng.randint(*_OTHER_PORTS)
                return ()
        del self._wanted[port]
        self.counts.denied += 1
        return (Denied(port, f"error {values.code} {values.description}".rstrip()),)

    def _next_place(self, reason: str) -> Sequence[Outcome]:
        """Nothing comes of the place that was asked: try another service, another description, or give up."""
        self._reason = reason
        self._host = None
        if self._services:
            self._services.pop(0)
        elif self._locations:
            self._locations.pop(0)
        return () if self._services or self._locations else self._give_up()

    def _give_up(self) -> Sequence[Outcome]:
        self._services.clear()
        self._locations.clear()
        self._searches = 0
        told = bool(self._wanted)
        self._wanted.clear()
        self._unwanted.clear()
        return (NotSpoken(self._reason),) if told else ()


def _external(port: int) -> dict[str, object]:
    """What a mapping is known by."""
    return {"NewRemoteHost": "", "NewExternalPort": port, "NewProtocol": "TCP"}


def _ip4(text: str) -> str:
    try:
        return str(ipaddress.IPv4Address(text))
    except ValueError:
        raise ProtocolError(f"{text[:40]!r} for an external address" if text else "no external address") from None


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and 0 < int(text) < 65_536):
        raise ProtocolError(f"{text[:40]!r} for a port")
    return int(text)
