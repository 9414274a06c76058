"""Signed values: a DHT record that only the peer named in its key can have made. A format of our own."""

from ..classes import NamedTuple
from ..errors import InvalidPeerId, ProtocolError
from ..identity import Identity
from ..types import PeerId
from ..varint import decode, encode
from .envelope import open_envelope, seal

MAX_SEQ = 2**63 - 1
_DOMAIN = "sidecar-dht-record"
_PAYLOAD_TYPE = b"/sidecar/dht-record"


class SignedValue(NamedTuple):
    """What a signed value says. A greater `seq` replaces a smaller one."""

    peer: PeerId
    seq: int
    value: bytes


def key_owner(key: bytes) -> PeerId:
    """The peer that a key names: the base58 id behind the namespace, `/namespace/ID` or `/namespace/ID/more`.

    Raises InvalidPeerId.
    """
    parts = key.split(b"/", 4)
    try:
        return PeerId.from_text(parts[2].decode("ascii"))
    except (IndexError, UnicodeDecodeError):
        raise InvalidPeerId(f"record key of {len(key)} bytes names no peer behind its namespace") from None


def make_signed_value(identity: Identity, key: bytes, seq: int, value: bytes) -> bytes:
    """The value, its number and its key in a signed envelope. `seq`: 0 to 2**63 - 1."""
    return seal(identity, _DOMAIN, _PAYLOAD_TYPE, encode(seq) + encode(len(key)) + key + value)


def open_signed_value(key: bytes, data: bytes) -> SignedValue:
    """Check that the peer that `key` names signed this for this key. Raises ProtocolError, InvalidPeerId."""
    owner = key_owner(key)
    signer, payload_type, payload = open_envelope(data, _DOMAIN)
    if payload_type != _PAYLOAD_TYPE:
        raise ProtocolError(f"envelope with payload type {payload_type[:32].hex()} holds no DHT record")
    seq = decode(payload)
    length = decode(payload, seq[1]) if seq else None
    if seq is None or length is None or len(payload) < length[1] + length[0]:
        raise ProtocolError(f"signed value of {len(payload)} bytes is cut short")
    if signer.peer_id() != owner:
        raise ProtocolError(f"value signed by {signer.peer_id()} under a key of {owner}")
    end = length[1] + length[0]
    if payload[length[1] : end] != key:
        raise ProtocolError("value signed for another key")
    return SignedValue(owner, seq[0], payload[end:])
