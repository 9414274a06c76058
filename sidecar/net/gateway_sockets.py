"""Sockets toward the gateway: datagrams, and HTTP of a page."""

import asyncio
import contextlib
import logging
import socket
from typing import Protocol

from ..core.portmap import announcement, ssdp
from ..core.portmap.http import HttpAnswer, HttpReader
from ..core.portmap.method import Datagram, DatagramAsking, Gateway, GatewayRequest

log = logging.getLogger(__name__)

_READ = 16_384  # bytes at once
_MAX_DATAGRAM = 4096  # bytes; what is longer is no answer of these protocols


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


class GatewayEars(Protocol):
    """Who is told what comes from the gateway."""

    def heard(self, data: bytes, host: str, port: int) -> None:
        """A datagram to a socket that requests leave from."""

    def announced(self, data: bytes, host: str) -> None:
        """A datagram to the group that gateways announce themselves to."""

    def unreachable(self) -> None:
        """Nothing listens at the gateway's port."""


class GatewaySockets:
    """Toward one gateway: for datagrams to its port, for searches (IPv4), and for what gateways announce."""

    def __init__(self, loop: asyncio.AbstractEventLoop, gateway: Gateway, owner: GatewayEars) -> None:
        """Raises OSError."""
        self._loop = loop
        self._owner = owner
        self._gateway = gateway
        self._closed = False
        family = "ip6" if ":" in gateway.host else "ip4"
        self._search: socket.socket | None = None
        with contextlib.ExitStack() as opened:
            # Connected: so what others send is not even received, and that nothing listens there is told.
            self._direct = opened.enter_context(_udp(gateway.own))
            if family == "ip4":
                self._direct.connect((gateway.host, DatagramAsking.port))
                self._search = opened.enter_context(_udp(gateway.own))
                self._search.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(gateway.own))
                self._search.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 2)  # as UPnP wants it
            else:
                self._direct.connect((gateway.host, DatagramAsking.port, 0, gateway.link))
            self._sockets = opened.pop_all()
        loop.add_reader(self._direct, self._read_direct)
        if self._search is not None:
            loop.add_reader(self._search, self._read_search, self._search)
        self._group: socket.socket | None = None
        try:
            self._group = _group(family, gateway.link)
            loop.add_reader(self._group, self._read_group, self._group)
        except OSError as error:  # another program has it for itself: what the gateway forgets is found out later
            log.debug("port mapping: announcements of gateways are not heard: %s", error.strerror or error)

    def send(self, datagram: Datagram) -> None:
        """What does not leave is lost, as datagrams are; but that nobody listens is said."""
        try:
            if datagram.host == self._gateway.host:
                self._direct.send(datagram.data)
            elif self._search is not None:
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

    def _read_search(self, search: socket.socket) -> None:
        with contextlib.suppress(OSError):
            data, (host, _) = search.recvfrom(_MAX_DATAGRAM + 1)
            self._owner.heard(data, host, ssdp.PORT)

    def _read_group(self, group: socket.socket) -> None:
        with contextlib.suppress(OSError):
            data, (host, *_) = group.recvfrom(_MAX_DATAGRAM + 1)
            self._owner.announced(data, host.partition("%")[0])

    def close(self) -> None:
        """Close them all."""
        self._closed = True
        self._loop.remove_reader(self._direct)
        for opened in (self._search, self._group):
            if opened is not None:
                self._loop.remove_reader(opened)
        self._sockets.close()
        if self._group is not None:
            self._group.close()


def _udp(own: str) -> socket.socket:
    opened = socket.socket(socket.AF_INET6 if ":" in own else socket.AF_INET, socket.SOCK_DGRAM)
    try:
        opened.setblocking(False)
        opened.bind((own, 0))
    except BaseException:
        opened.close()
        raise
    return opened


def _group(family: str, link: int) -> socket.socket:
    """Bound to the group of announcements itself, so that nothing else comes in."""
    group = announcement.GROUPS[family]
    opened = socket.socket(socket.AF_INET if family == "ip4" else socket.AF_INET6, socket.SOCK_DGRAM)
    try:
        opened.setblocking(False)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "SO_REUSEPORT"):  # other programs listen there too
            with contextlib.suppress(OSError):
                opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        opened.bind((group, announcement.PORT) if family == "ip4" else (group, announcement.PORT, 0, link))
    except BaseException:
        opened.close()
        raise
    return opened
