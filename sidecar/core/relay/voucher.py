"""Vouchers: a relay's signed word that a peer has a place with it (specs relay/circuit-v2, "Reservation Vouchers")."""

from google.protobuf.message import DecodeError

from ...wire import relay_pb2
from ..errors import ProtocolError
from ..identity import Identity
from ..records import open_envelope, seal
from ..types import PeerId

_DOMAIN = "libp2p-relay-rsvp"
_PAYLOAD_TYPE = b"\x03\x02"


def make_voucher(identity: Identity, peer: PeerId, expire: int) -> bytes:
    """This relay's voucher for a peer, in a signed envelope. `expire`: seconds since 1970."""
    voucher = relay_pb2.Voucher(relay=bytes(identity.peer_id), peer=bytes(peer), expiration=expire)
    return seal(identity, _DOMAIN, _PAYLOAD_TYPE, voucher.SerializeToString(deterministic=True))


def check_voucher(data: bytes, relay: PeerId, peer: PeerId) -> None:
    """Raises ProtocolError where this is no voucher of `relay` for `peer`."""
    key, payload_type, payload = open_envelope(data, _DOMAIN)
    if payload_type != _PAYLOAD_TYPE:
        raise ProtocolError(f"envelope with payload type {payload_type[:32].hex()} holds no voucher")
    try:
        voucher = relay_pb2.Voucher.FromString(payload)
    except DecodeError:
        raise ProtocolError(f"voucher of {len(payload)} bytes is not a protobuf message") from None
    if key.peer_id() != relay or voucher.relay != relay:
        raise ProtocolError(f"voucher of {key.peer_id()}, not of the relay {relay}")
    if voucher.peer != peer:
        raise ProtocolError("voucher for another peer")
