"""Messages of AutoNAT v2 to bytes and back (libp2p specs, autonat/autonat-v2.md, "RPC Messages")."""

from collections.abc import Sequence

from google.protobuf.message import DecodeError

from ...wire import autonat_pb2 as wire
from .. import varint
from ..classes import NamedTuple
from ..errors import InvalidMultiaddr, ProtocolError
from ..multiaddr import Multiaddr

DIAL_REQUEST = "/libp2p/autonat/2/dial-request"
DIAL_BACK = "/libp2p/autonat/2/dial-back"

MAX_MESSAGE = 8192
"""Bytes of one message on a dial-request stream, as go-libp2p reads."""
MAX_DIAL_BACK = 1024
"""Bytes of one message on a dial-back stream, as go-libp2p reads."""
MAX_ADDRESSES = 50
"""Of so many addresses of a request the first usable one is taken, as in go-libp2p."""
DIAL_DATA = (30_000, 100_000)
"""Bytes that a peer pays for the dial of another IP address than its own ("Amplification Attack Prevention")."""
CHUNK = 4096
"""Bytes in one message of these at most."""

# ResponseStatus
INTERNAL_ERROR, REQUEST_REJECTED, DIAL_REFUSED, OK = 0, 100, 101, 200
# DialStatus, beside OK
DIAL_ERROR, DIAL_BACK_ERROR = 100, 101

_CHUNK = 4000  # bytes of data in a message of ours


class DialRequest(NamedTuple):
    """Addresses to dial, of which the server takes the first that it is willing to; None for those it cannot read."""

    addresses: tuple[Multiaddr | None, ...]
    nonce: int


class DialDataRequest(NamedTuple):
    """The server wants so many bytes before it dials the address at that position, from 0."""

    position: int
    size: int


class DialData(NamedTuple):
    """So many bytes of these have come."""

    size: int


class DialResponse(NamedTuple):
    """What came of a request: `status` of all of it, `dial_status` of the address at that position."""

    status: int
    position: int = 0
    dial_status: int = 0


Message = DialRequest | DialDataRequest | DialData | DialResponse


def encode_request(addresses: Sequence[Multiaddr], nonce: int) -> bytes:
    """A whole frame."""
    request = wire.DialRequest(addrs=[address.to_bytes() for address in addresses], nonce=nonce)
    return _frame(wire.Message(dial_request=request))


def encode_data_request(index: int, size: int) -> bytes:
    """A whole frame."""
    return _frame(wire.Message(dial_data_request=wire.DialDataRequest(addr_idx=index, num_bytes=size)))


def encode_response(response: DialResponse) -> bytes:
    """A whole frame."""
    status, position, dial_status = response
    message = wire.DialResponse(status=status, addr_idx=position, dial_status=dial_status)
    return _frame(wire.Message(dial_response=message))


def encode_data(size: int) -> bytes:
    """Frames with `size` bytes of dial data in all."""
    whole = _frame(wire.Message(dial_data_response=wire.DialDataResponse(data=bytes(_CHUNK))))
    count, rest = divmod(size, _CHUNK)
    last = _frame(wire.Message(dial_data_response=wire.DialDataResponse(data=bytes(rest)))) if rest else b""
    return whole * count + last


def encode_dial_back(nonce: int) -> bytes:
    """A whole frame."""
    return varint.framed(wire.DialBack(nonce=nonce).SerializeToString(deterministic=True))


DIAL_BACK_OK = b"\x00"
"""The answer to it, a whole frame: in proto3 a status of 0 is no bytes at all."""


def decode(frame: bytes) -> Message:
    """A message of a dial-request stream. Raises ProtocolError."""
    try:
        message = wire.Message.FromString(frame)
    except DecodeError:
        raise ProtocolError(f"autonat: message of {len(frame)} bytes is malformed") from None
    match message.WhichOneof("msg"):
        case "dial_request":
            request = message.dial_request
            return DialRequest(tuple(_address(each) for each in request.addrs[:MAX_ADDRESSES]), request.nonce)
        case "dial_response":
            response = message.dial_response
            return DialResponse(response.status, response.addr_idx, response.dial_status)
        case "dial_data_request":
            return DialDataRequest(message.dial_data_request.addr_idx, message.dial_data_request.num_bytes)
        case "dial_data_response":
            return DialData(len(message.dial_data_response.data))
    raise ProtocolError(f"autonat: message of {len(frame)} bytes of no known kind")


def decode_dial_back(frame: bytes) -> int:
    """The nonce. Raises ProtocolError."""
    try:
        return int(wire.DialBack.FromString(frame).nonce)
    except DecodeError:
        raise ProtocolError(f"autonat: dial-back of {len(frame)} bytes is malformed") from None


def _address(data: bytes) -> Multiaddr | None:
    try:
        return Multiaddr.from_bytes(data)
    except InvalidMultiaddr:
        return None


def _frame(message: wire.Message) -> bytes:
    return varint.framed(message.SerializeToString(deterministic=True))
