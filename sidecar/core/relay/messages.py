"""The messages of circuit relay v2 and DCUtR to bytes and back, and the reading of the first one off a stream."""

import enum
from collections.abc import Iterable
from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from ...wire import hole_punching_pb2, relay_pb2
from .. import varint
from ..classes import NamedTuple
from ..errors import FrameTooLarge, InvalidMultiaddr, InvalidPeerId, ProtocolError
from ..multiaddr import Multiaddr
from ..types import PeerId

_Message = TypeVar("_Message", bound=Message)
_Kind = TypeVar("_Kind", bound=enum.IntEnum)

HOP = "/libp2p/circuit/relay/0.2.0/hop"
STOP = "/libp2p/circuit/relay/0.2.0/stop"
DCUTR = "/libp2p/dcutr"
MAX_MESSAGE = 4096  # bytes; specs relay/DCUtR, and go-libp2p's bound for the relay's messages
MAX_ADDRESSES = 16  # read of one message; a guess: a relay has a few


class RelayStatus(enum.IntEnum):
    """What became of a request (specs relay/circuit-v2, "Protobuf")."""

    OK = 100
    RESERVATION_REFUSED = 200
    RESOURCE_LIMIT_EXCEEDED = 201
    PERMISSION_DENIED = 202
    CONNECTION_FAILED = 203
    NO_RESERVATION = 204
    MALFORMED_MESSAGE = 400
    UNEXPECTED_MESSAGE = 401

    @property
    def words(self) -> str:
        """For a sentence about it."""
        return _WORDS.get(self, self.name.lower().replace("_", " "))


_WORDS = {
    RelayStatus.RESERVATION_REFUSED: "no place is left for this node",
    RelayStatus.RESOURCE_LIMIT_EXCEEDED: "one of its bounds is reached",
    RelayStatus.PERMISSION_DENIED: "it is not allowed",
    RelayStatus.CONNECTION_FAILED: "the peer did not answer it",
    RelayStatus.NO_RESERVATION: "the peer has no place there",
}


class HopType(enum.IntEnum):
    """Kinds of messages between a client and a relay."""

    RESERVE = 0
    CONNECT = 1
    STATUS = 2


class StopType(enum.IntEnum):
    """Kinds of messages between a relay and whom it connects to."""

    CONNECT = 0
    STATUS = 1


class PunchType(enum.IntEnum):
    """Kinds of DCUtR's messages."""

    CONNECT = 100
    SYNC = 300


class CircuitLimit(NamedTuple):
    """What a relay lets through: seconds, and bytes in each direction; 0: any."""

    duration: int = 0
    data: int = 0


class Reservation(NamedTuple):
    """A place with a relay. `expire`: seconds since 1970."""

    expire: int
    addresses: tuple[Multiaddr, ...]
    voucher: bytes


class Hop(NamedTuple):
    """A message between a client and a relay. `status` is a number that may be none of `RelayStatus`.

    `addresses`: where the relay sees the peer.
    """

    type: HopType
    peer: PeerId | None = None
    reservation: Reservation | None = None
    limit: CircuitLimit | None = None
    status: int = 0
    addresses: tuple[Multiaddr, ...] = ()


class Stop(NamedTuple):
    """A message between a relay and whom it connects to. `addresses`: as in `Hop`."""

    type: StopType
    peer: PeerId | None = None
    limit: CircuitLimit | None = None
    status: int = 0
    addresses: tuple[Multiaddr, ...] = ()


class Punch(NamedTuple):
    """A message of DCUtR, with the addresses that others see its sender at."""

    type: PunchType
    addresses: tuple[Multiaddr, ...] = ()


class FirstFrame:
    """Reads one message off a stream on which something else may follow."""

    __slots__ = ("_buffer", "done")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self.done = False

    def receive(self, data: bytes) -> tuple[bytes, bytes] | None:
        """(the message, what came behind it) once it is whole. Raises FrameTooLarge, ProtocolError."""
        buffer = self._buffer
        buffer += data
        header = varint.decode(buffer)
        if header is None:
            return None
        length, start = header
        if length > MAX_MESSAGE:
            raise FrameTooLarge(f"relay message of {length} bytes, at most {MAX_MESSAGE}")
        if len(buffer) < start + length:
            return None
        self.done = True
        self._buffer = bytearray()
        return bytes(buffer[start : start + length]), bytes(buffer[start + length :])


def encode_hop(hop: Hop) -> bytes:
    """A message behind its length."""
    message = relay_pb2.HopMessage(type=hop.type)
    if hop.peer is not None:
        message.peer.id = bytes(hop.peer)
        message.peer.addrs.extend(address.to_bytes() for address in hop.addresses)
    if hop.reservation is not None:
        message.reservation.expire = hop.reservation.expire
        message.reservation.addrs.extend(address.to_bytes() for address in hop.reservation.addresses)
        message.reservation.voucher = hop.reservation.voucher
    _put_limit(message, hop.limit)
    if hop.status:
        message.status = hop.status
    return varint.framed(message.SerializeToString(deterministic=True))


def decode_hop(data: bytes) -> Hop:
    """Raises ProtocolError."""
    message = _parsed(relay_pb2.HopMessage, data, "relay")
    kind = _known(HopType, message.type, "relay")
    reservation = None
    if message.HasField("reservation"):
        told = message.reservation
        reservation = Reservation(told.expire, _addresses(told.addrs), told.voucher)
    return Hop(kind, _peer(message), reservation, _limit(message), message.status, _addresses(message.peer.addrs))


def encode_stop(stop: Stop) -> bytes:
    """A message behind its length."""
    message = relay_pb2.StopMessage(type=stop.type)
    if stop.peer is not None:
        message.peer.id = bytes(stop.peer)
        message.peer.addrs.extend(address.to_bytes() for address in stop.addresses)
    _put_limit(message, stop.limit)
    if stop.status:
        message.status = stop.status
    return varint.framed(message.SerializeToString(deterministic=True))


def decode_stop(data: bytes) -> Stop:
    """Raises ProtocolError."""
    message = _parsed(relay_pb2.StopMessage, data, "relay")
    kind = _known(StopType, message.type, "relay")
    return Stop(kind, _peer(message), _limit(message), message.status, _addresses(message.peer.addrs))


def encode_punch(punch: Punch) -> bytes:
    """A message behind its length."""
    message = hole_punching_pb2.HolePunch(type=punch.type)
    message.observed_addresses.extend(address.to_bytes() for address in punch.addresses)
    return varint.framed(message.SerializeToString(deterministic=True))


def decode_punch(data: bytes) -> Punch:
    """Raises ProtocolError."""
    message = _parsed(hole_punching_pb2.HolePunch, data, "DCUtR")
    return Punch(_known(PunchType, message.type, "DCUtR"), _addresses(message.observed_addresses))


def _parsed(kind: type[_Message], data: bytes, protocol: str) -> _Message:
    try:
        return kind.FromString(data)
    except DecodeError:
        raise ProtocolError(f"{protocol} message of {len(data)} bytes is not a protobuf message") from None


def _known(kinds: type[_Kind], number: int, protocol: str) -> _Kind:
    try:
        return kinds(number)
    except ValueError:
        raise ProtocolError(f"{protocol} message of unknown type {number}") from None


def _put_limit(message: relay_pb2.HopMessage | relay_pb2.StopMessage, limit: CircuitLimit | None) -> None:
    if limit is not None:
        message.limit.duration = limit.duration
        message.limit.data = limit.data


def _limit(message: relay_pb2.HopMessage | relay_pb2.StopMessage) -> CircuitLimit | None:
    return CircuitLimit(message.limit.duration, message.limit.data) if message.HasField("limit") else None


def _peer(message: relay_pb2.HopMessage | relay_pb2.StopMessage) -> PeerId | None:
    if not message.HasField("peer"):
        return None
    try:
        return PeerId.from_bytes(message.peer.id)
    except InvalidPeerId as error:
        raise ProtocolError(f"relay message: {error}") from None


def _addresses(encoded: Iterable[bytes]) -> tuple[Multiaddr, ...]:
    """Those that can be read; others are of transports that this node does not have."""
    found: dict[Multiaddr, None] = {}
    for number, data in enumerate(encoded):
        if number >= MAX_ADDRESSES:
            break
        try:
            found[Multiaddr.from_bytes(data)] = None
        except InvalidMultiaddr:
            continue
    return tuple(found)
