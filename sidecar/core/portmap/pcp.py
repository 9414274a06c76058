"""PCP (RFC 6887), its MAP opcode: NAT-PMP's successor, on the same port, for IPv6 too."""

import hashlib
import ipaddress
import struct
from collections.abc import Sequence
from typing import ClassVar

from ..classes import NamedTuple
from ..errors import ProtocolError
from ..override import override
from .method import (
    LEAST_LIFETIME,
    MOST_LIFETIME,
    DatagramAsking,
    Denied,
    EpochWatch,
    Gateway,
    Granted,
    Outcome,
    Restarted,
)
from .statistics import PortMappingStatistics

VERSION = 2
MAX_MESSAGE = 1100  # bytes; section 7
ANNOUNCE, _MAP, _ANSWER = 0, 1, 128
_TCP = 6
_NONCE = 12  # bytes
_UNSUPPORTED_VERSION, _UNSUPPORTED_OPCODE, _UNSUPPORTED_PROTOCOL = 1, 4, 9
_RESULTS = {
    1: "unsupported version",
    2: "not authorized",
    3: "malformed request",
    4: "unsupported opcode",
    5: "unsupported option",
    6: "malformed option",
    7: "network failure",
    8: "no resources",
    9: "unsupported protocol",
    10: "quota of this machine exceeded",
    11: "cannot provide the external port",
    12: "another NAT is in between",
    13: "too many peers",
}


class PcpAnswer(NamedTuple):
    """The answer to a request to map; what is behind `epoch` is None or 0 where the gateway left it out (an error)."""

    result: int
    lifetime: int
    epoch: int
    nonce: bytes | None = None
    protocol: int = 0
    port: int = 0
    external_port: int = 0
    host: str = ""


def encode_map(own: str, nonce: bytes, port: int, external_port: int, external_host: str, lifetime: int) -> bytes:
    """The request to map a TCP port (sections 7.1, 11.1); a lifetime of 0 removes the mapping (section 15)."""
    header = struct.pack(">BBHI16s", VERSION, _MAP, 0, lifetime, _packed(own))
    return header + struct.pack(
        ">12sB3xHH16s", nonce, _TCP, port, external_port, _packed(external_host or _unknown(own))
    )


def decode(data: bytes) -> PcpAnswer:
    """Read an answer to a request to map. Raises ProtocolError."""
    if len(data) < 4 or len(data) > MAX_MESSAGE:
        raise ProtocolError(f"PCP answer of {len(data)} bytes, from 4 to {MAX_MESSAGE}")
    if data[0] != VERSION:
        # A gateway that speaks another version says so in its own (section 9; RFC 6886, section 3.5).
        if data[0] < VERSION and data[1] & _ANSWER and data[2:4] == b"\0\1":
            return PcpAnswer(_UNSUPPORTED_VERSION, 0, 0)
        raise ProtocolError(f"PCP answer of version {data[0]}")
    if data[1] != _ANSWER | _MAP:
        raise ProtocolError(f"PCP answer with opcode {data[1]}")
    if len(data) < 24:
        raise ProtocolError(f"PCP answer of {len(data)} bytes, at least 24")
    result, lifetime, epoch = struct.unpack_from(">BII", data, 3)
    if len(data) < 60:
        if not result:
            raise ProtocolError(f"PCP answer of {len(data)} bytes with a mapping, at least 60")
        return PcpAnswer(result, lifetime, epoch)
    nonce, protocol, port, external_port, address = struct.unpack_from(">12sB3xHH16s", data, 24)
    host = ipaddress.IPv6Address(address)
    return PcpAnswer(result, lifetime, epoch, nonce, protocol, port, external_port, str(host.ipv4_mapped or host))


class Pcp(DatagramAsking):
    """Asks by PCP. Who does not know the nonce of a mapping can neither answer nor change it.

    Nor can this node itself: a gateway refuses another nonce for as long as the mapping lasts (section 11.3). So it is
    made from a secret that outlasts the process, not drawn.
    """

    name: ClassVar[str] = "pcp"

    def __init__(self, gateway: Gateway, counts: PortMappingStatistics, secret: bytes) -> None:
        """`secret`: at most 64 bytes."""
        super().__init__(gateway, counts)
        self._secret = secret
        self._epochs = EpochWatch()
        self._nonces: dict[int, bytes] = {}
        self._hosts: dict[int, str] = {}  # the external addresses that ports have

    @override
    def ask(self, port: int, external_port: int, lifetime: float, now: float) -> None:
        nonce = self._nonces.setdefault(port, self._nonce(port))
        host = self._hosts.get(port, "")
        self._send(port, encode_map(self.gateway.own, nonce, port, external_port or port, host, int(lifetime)), now)

    def _nonce(self, port: int) -> bytes:
        about = f"{self.gateway.host} {self.gateway.own} {port}".encode()
        return hashlib.blake2b(about, key=self._secret, digest_size=_NONCE).digest()

    @override
    def release(self, port: int, external_port: int, now: float) -> None:
        self._releasing[port] = None
        nonce = self._nonces.setdefault(port, self._nonce(port))
        self._send(port, encode_map(self.gateway.own, nonce, port, external_port, self._hosts.get(port, ""), 0), now)

    @override
    def receive_datagram(self, data: bytes, now: float) -> Sequence[Outcome]:
        try:
            answer = decode(data)
        except ProtocolError:
            self.counts.malformed += 1
            return ()
        if answer.result in (_UNSUPPORTED_VERSION, _UNSUPPORTED_OPCODE, _UNSUPPORTED_PROTOCOL):
            return self._give_up(_RESULTS[answer.result]) if self._pending else ()
        port = answer.port
        if answer.nonce is None:  # an error that does not say what it is about
            port = next(iter(self._pending), 0)
        elif answer.protocol != _TCP or answer.nonce != self._nonces.get(port):
            self.counts.strays += 1
            return ()
        if not self._answered(port):
            return ()
        if port in self._releasing:
            del self._releasing[port]
            return ()
        outcomes: list[Outcome] = [Restarted()] if self._epochs.restarted(answer.epoch, now) else []
        return [*outcomes, self._outcome(port, answer)]

    def _outcome(self, port: int, answer: PcpAnswer) -> Outcome:
        if answer.result:
            self.counts.denied += 1
            reason = _RESULTS.get(answer.result, f"result {answer.result}")
            return Denied(port, reason, min(float(answer.lifetime), MOST_LIFETIME))
        if not answer.external_port or answer.lifetime < LEAST_LIFETIME:
            self.counts.malformed += 1
            return Denied(port, f"port {answer.external_port} for {answer.lifetime} s, which is of no use")
        self._hosts[port] = answer.host
        return Granted(port, answer.host, answer.external_port, min(float(answer.lifetime), MOST_LIFETIME))


def _packed(host: str) -> bytes:
    """An address in 16 bytes; one of IPv4 mapped into IPv6 (section 5)."""
    address = ipaddress.ip_address(host)
    return address.packed if address.version == 6 else bytes(10) + b"\xff\xff" + address.packed


def _unknown(own: str) -> str:
    """What stands for no suggestion, by the version of IP (section 11.1)."""
    return "::" if ":" in own else "0.0.0.0"
