"""NAT-PMP (RFC 6886): two requests, for the gateway's external address and for a port, of a few bytes each."""

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
    NotSpoken,
    Outcome,
    Restarted,
)
from .statistics import PortMappingStatistics

VERSION = 0
_ADDRESS, _MAP_TCP, _ANSWER = 0, 2, 128
_UNSUPPORTED_VERSION, _UNSUPPORTED_OPCODE = 1, 5
_RESULTS = {
    1: "unsupported version",
    2: "not authorized",
    3: "network failure",
    4: "out of resources",
    5: "unsupported opcode",
}


class AddressAnswer(NamedTuple):
    """The external address; `host` is None where `result` is not 0."""

    result: int
    epoch: int
    host: str | None


class MappingAnswer(NamedTuple):
    """What a request for a port brought; the numbers are 0 where `result` is not and they are left out."""

    result: int
    epoch: int
    port: int
    external_port: int
    lifetime: int


def encode_address_request() -> bytes:
    """The request for the external address (section 3.2)."""
    return bytes((VERSION, _ADDRESS))


def encode_map_request(port: int, external_port: int, lifetime: int) -> bytes:
    """The request to map a TCP port (section 3.3); a lifetime of 0 with external port 0 removes (section 3.4)."""
    return struct.pack(">BBHHHI", VERSION, _MAP_TCP, 0, port, external_port, lifetime)


def decode(data: bytes) -> AddressAnswer | MappingAnswer:
    """Read an answer. Raises ProtocolError."""
    if len(data) < 8:
        raise ProtocolError(f"NAT-PMP answer of {len(data)} bytes, at least 8")
    version, opcode, result, epoch = struct.unpack_from(">BBHI", data)
    if version != VERSION:
        raise ProtocolError(f"NAT-PMP answer of version {version}")
    if opcode == _ANSWER + _ADDRESS:
        if result:
            return AddressAnswer(result, epoch, None)
        if len(data) < 12:
            raise ProtocolError(f"NAT-PMP answer of {len(data)} bytes with an address, at least 12")
        return AddressAnswer(result, epoch, str(ipaddress.IPv4Address(data[8:12])))
    if opcode == _ANSWER + _MAP_TCP:
        if len(data) < 16:
            if not result:
                raise ProtocolError(f"NAT-PMP answer of {len(data)} bytes with a mapping, at least 16")
            return MappingAnswer(result, epoch, 0, 0, 0)
        return MappingAnswer(result, epoch, *struct.unpack_from(">HHI", data, 8))
    raise ProtocolError(f"NAT-PMP answer with opcode {opcode}")


class NatPmp(DatagramAsking):
    """Asks by NAT-PMP: for the port, and each time for the external address, without which it does not count."""

    name: ClassVar[str] = "nat-pmp"

    def __init__(self, gateway: Gateway, counts: PortMappingStatistics) -> None:
        super().__init__(gateway, counts)
        self._epochs = EpochWatch()
        self._host: str | None = None
        self._mapped: list[MappingAnswer] = []  # that wait for the address

    @override
    def ask(self, port: int, external_port: int, lifetime: float, now: float) -> None:
        if 0 not in self._pending:
            self._host = None
            self._mapped.clear()
            self._send(0, encode_address_request(), now)
        self._send(port, encode_map_request(port, external_port or port, int(lifetime)), now)

    @override
    def release(self, port: int, external_port: int, now: float) -> None:
        self._releasing[port] = None
        self._send(port, encode_map_request(port, 0, 0), now)

    @override
    def receive_datagram(self, data: bytes, now: float) -> Sequence[Outcome]:
        try:
            answer = decode(data)
        except ProtocolError:
            self.counts.malformed += 1
            return ()
        if answer.result in (_UNSUPPORTED_VERSION, _UNSUPPORTED_OPCODE):
            return self._give_up(_RESULTS[answer.result]) if self._pending else ()
        outcomes: list[Outcome] = []
        if isinstance(answer, AddressAnswer):
            if not self._answered(0):
                return ()
            outcomes += self._on_address(answer)
        else:
            port = answer.port or next((key for key in self._pending if key), 0)  # an error may leave it out
            if not self._answered(port or -1):
                return ()
            outcomes += self._on_mapping(port, answer._replace(port=port))
        if self._epochs.restarted(answer.epoch, now):
            outcomes.insert(0, Restarted())
        return outcomes

    def _on_address(self, answer: AddressAnswer) -> Sequence[Outcome]:
        if answer.host is None:
            reason = _RESULTS.get(answer.result, f"result {answer.result}")
            self.counts.denied += 1
            self._pending.clear()
            self._mapped.clear()
            return (NotSpoken(f"no external address: {reason}"),)
        self._host = answer.host
        mapped, self._mapped = self._mapped, []
        return [_granted(each, answer.host) for each in mapped]

    def _on_mapping(self, port: int, answer: MappingAnswer) -> Sequence[Outcome]:
        if port in self._releasing:
            del self._releasing[port]
            return ()
        if answer.result:
            self.counts.denied += 1
            return (Denied(port, _RESULTS.get(answer.result, f"result {answer.result}")),)
        if not answer.external_port or answer.lifetime < LEAST_LIFETIME:
            self.counts.malformed += 1
            return (Denied(port, f"port {answer.external_port} for {answer.lifetime} s, which is of no use"),)
        if self._host is None:
            self._mapped.append(answer)
            return ()
        return (_granted(answer, self._host),)


def _granted(answer: MappingAnswer, host: str) -> Granted:
    return Granted(answer.port, host, answer.external_port, min(float(answer.lifetime), MOST_LIFETIME))
