"""Signed envelopes, and what is signed in them: peer records (libp2p specs, RFC 0002 and 0003) and DHT records."""

from .envelope import open_envelope, seal
from .peer_record import OpenRecord, PeerRecord, check_peer_record, fitting, make_peer_record, open_peer_record
from .signed_value import MAX_SEQ, SignedValue, key_owner, make_signed_value, open_signed_value

__all__ = [
    "MAX_SEQ",
    "OpenRecord",
    "PeerRecord",
    "SignedValue",
    "check_peer_record",
    "fitting",
    "key_owner",
    "make_peer_record",
    "make_signed_value",
    "open_envelope",
    "open_peer_record",
    "open_signed_value",
    "seal",
]
