"""Signed envelopes and peer records (libp2p specs, RFC 0002 and RFC 0003)."""

from .envelope import open_envelope, seal
from .peer_record import PeerRecord, make_peer_record, open_peer_record

__all__ = ["PeerRecord", "make_peer_record", "open_envelope", "open_peer_record", "seal"]
