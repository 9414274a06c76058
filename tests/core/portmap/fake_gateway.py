"""A gateway on virtual time, which speaks what it is told to, and a machine that asks it."""

import ipaddress
import random
import re
import struct
from collections.abc import Sequence
from typing import Any

from sidecar.core.errors import SidecarError, Unreachable
from sidecar.core.portmap.http import HttpAnswer
from sidecar.core.portmap.mapper import PortMapper
from sidecar.core.portmap.method import Datagram, Gateway, GatewayRequest

HOST, OWN, OUTSIDE = "192.168.1.1", "192.168.1.5", "203.0.113.9"
ALL = ("pcp", "nat-pmp", "upnp")

DESCRIPTION = """<?xml version="1.0"?>
<root xmlns="urn:schemas-upnp-org:device-1-0">
  <device><deviceType>urn:schemas-upnp-org:device:InternetGatewayDevice:1</deviceType>
    <serviceList><service>
      <serviceType>urn:schemas-upnp-org:service:Layer3Forwarding:1</serviceType><controlURL>/l3</controlURL>
    </service></serviceList>
    <deviceList><device><serviceList><service>
      <serviceType>urn:schemas-upnp-org:service:WANIPConnection:{version}</serviceType>
      <controlURL>{control}</controlURL>
    </service></serviceList></device></deviceList>
  </device>
</root>"""


def envelope(inner: str) -> bytes:
    return f'<s:Envelope xmlns:s="x"><s:Body>{inner}</s:Body></s:Envelope>'.encode()


def fault(code: int) -> HttpAnswer:
    detail = f"<UPnPError><errorCode>{code}</errorCode><errorDescription>No</errorDescription></UPnPError>"
    return HttpAnswer(500, envelope(f"<s:Fault><faultcode>s:Client</faultcode><detail>{detail}</detail></s:Fault>"))


class FakeGateway:
    """Answers as a router does; what it has mapped is in `mapped`: external port -> (host, port, lifetime)."""

    def __init__(self, *speaks: str) -> None:
        self.speaks = speaks
        self.own = OWN  # who is to ask
        self.began = -1000.0  # when it began
        self.outside = OUTSIDE
        self.mapped: dict[int, tuple[str, int, int]] = {}
        self.nonces: dict[int, bytes] = {}  # of PCP, by the port inside
        self.taken: list[int] = []  # external ports of somebody else
        self.result = 0  # of what is asked by datagram
        self.lifetime: int | None = None  # that is given instead of what is asked for
        self.faults: list[int] = []  # of the next requests to map by UPnP
        self.version = 1  # of its UPnP service
        self.location = f"http://{HOST}:5000/desc.xml"
        self.control = "/ctl"
        self.http: list[str] = []  # actions, in order

    def epoch(self, now: float) -> int:
        return int(now - self.began)

    # ------------------------------------------------------------ datagrams

    def answers(self, datagram: Datagram, now: float) -> list[bytes]:
        if datagram.port == 1900:
            wanted = re.search(rb"\r\nST: (.*)\r\n", datagram.data)
            if "upnp" not in self.speaks or wanted is None or not wanted[1].endswith(b"Device:1"):
                return []
            return [b"HTTP/1.1 200 OK\r\nST: " + wanted[1] + f"\r\nLOCATION: {self.location}\r\n\r\n".encode()]
        data = datagram.data
        if data[0] == 2:
            if "pcp" in self.speaks:
                return [self._pcp(data, now)]
            return [struct.pack(">BBHI", 0, 128 | data[1], 1, self.epoch(now))] if "nat-pmp" in self.speaks else []
        if "nat-pmp" not in self.speaks:
            return []
        head = struct.pack(">BBHI", 0, 128 | data[1], self.result, self.epoch(now))
        if data[1] == 0:
            return [head + ipaddress.IPv4Address(self.outside).packed]
        port, external, lifetime = struct.unpack_from(">HHI", data, 4)
        external, lifetime = self.map(port, external, lifetime)
        return [head + struct.pack(">HHI", port, external, lifetime)]

    def _pcp(self, data: bytes, now: float) -> bytes:
        lifetime = struct.unpack_from(">I", data, 4)[0]
        nonce, protocol, port, external = struct.unpack_from(">12sB3xHH", data, 24)
        assert ipaddress.IPv6Address(data[8:24]).ipv4_mapped == ipaddress.IPv4Address(self.own)
        result = self.result
        if any(inside == port for _, inside, _ in self.mapped.values()) and self.nonces.get(port, nonce) != nonce:
            result = 2  # RFC 6887, section 11.3
        if not result:
            self.nonces[port] = nonce
            external, lifetime = self.map(port, external, lifetime)
        outside = bytes(10) + b"\xff\xff" + ipaddress.IPv4Address(self.outside).packed
        head = struct.pack(">BBBBII12x", 2, 129, 0, result, lifetime, self.epoch(now))
        return head + struct.pack(">12sB3xHH16s", nonce, protocol, port, external, outside)

    def map(self, port: int, external: int, lifetime: int) -> tuple[int, int]:
        """Map it, and forget what was mapped to the port before."""
        before = [each for each, (_, inside, _) in self.mapped.items() if inside == port]
        for each in before:
            del self.mapped[each]
        if not lifetime:
            return 0, 0
        external = external or port
        while external in self.taken:
            external += 1
        lifetime = lifetime if self.lifetime is None else self.lifetime
        self.mapped[external] = (self.own, port, lifetime)
        return external, lifetime

    # ------------------------------------------------------------ HTTP

    def fetch(self, request: GatewayRequest) -> HttpAnswer | SidecarError:
        if "upnp" not in self.speaks:
            return Unreachable("refused")
        head, _, body = request.data.partition(b"\r\n\r\n")
        assert (request.host, f"Host: {HOST}:{request.port}".encode() in head) == (HOST, True)
        if head.startswith(b"GET /desc.xml "):
            self.http.append("describe")
            return HttpAnswer(200, DESCRIPTION.format(version=self.version, control=self.control).encode())
        assert head.startswith(b"POST /ctl ")
        action = re.search(rb'SOAPAction: ".*:%d#(\w+)"' % self.version, head)
        assert action is not None
        assert len(body) == int(re.search(rb"Content-Length: (\d+)", head)[1])  # type: ignore[index]
        self.http.append(action[1].decode())
        return self.act(action[1].decode(), dict(re.findall(r"<(New\w+)>([^<]*)<", body.decode())))

    def act(self, action: str, given: dict[str, str]) -> HttpAnswer:
        def done(inner: str = "") -> HttpAnswer:
            return HttpAnswer(200, envelope(f'<u:{action}Response xmlns:u="y">{inner}</u:{action}Response>'))

        if action == "GetExternalIPAddress":
            return done(f"<NewExternalIPAddress>{self.outside}</NewExternalIPAddress>")
        external = int(given["NewExternalPort"])
        if action == "DeletePortMapping":
            return done() if self.mapped.pop(external, None) else fault(714)
        if self.faults:
            return fault(self.faults.pop(0))
        port, lifetime = int(given["NewInternalPort"]), int(given["NewLeaseDuration"])
        if action == "AddAnyPortMapping":
            while external in self.taken:
                external += 1
        elif external in self.taken:
            return fault(718)
        self.mapped[external] = (given["NewInternalClient"], port, lifetime)
        return done(f"<NewReservedPort>{external}</NewReservedPort>")


class Asker:
    """A machine with a gateway, both on the same time."""

    def __init__(
        self,
        gateway: FakeGateway,
        protocols: Sequence[str] = ALL,
        ports: Sequence[int] = (4747,),
        secret: bytes = b"secret",
    ) -> None:
        self.gateway = gateway
        self.mapper = PortMapper(protocols, 600.0, random.Random(1), secret)
        self.now = 0.0
        self.sent: list[tuple[float, Datagram]] = []
        self.mapper.relink(Gateway(HOST, OWN), ports, self.now)
        self.settle()

    def settle(self) -> None:
        """Let all be answered that is sent now."""
        while True:
            datagrams, requests = self.mapper.datagrams_to_send(), self.mapper.requests_to_make()
            if not datagrams and not requests:
                return
            for datagram in datagrams:
                self.sent.append((self.now, datagram))
                for answer in self.gateway.answers(datagram, self.now):
                    self.mapper.receive_datagram(answer, HOST, datagram.port, self.now)
            for request in requests:
                self.mapper.receive_answer(request.number, self.gateway.fetch(request), self.now)

    def run(self, until: float) -> None:
        """Let time pass."""
        while (due := self.mapper.next_deadline()) is not None and due <= until:
            assert due >= self.now or due < until
            self.now = max(self.now, due)
            self.mapper.handle_deadline(self.now)
            self.settle()
        self.now = until

    @property
    def external(self) -> list[tuple[int, str, int]]:
        return [(each.port, each.host, each.external_port) for each in self.mapper.report().mapped]

    @property
    def protocol(self) -> str:
        return self.mapper.report().protocol

    def counts(self) -> dict[str, Any]:
        return {name: value for name, value in self.mapper.statistics().flat().items() if value}
