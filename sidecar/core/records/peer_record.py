"""Peer records: a peer's own word on its addresses, signed (libp2p specs, RFC 0003)."""

from collections.abc import Callable, Sequence

from ..classes import NamedTuple
from ..errors import InvalidMultiaddr, ProtocolError, TooLarge
from ..identity import Identity
from ..multiaddr import Multiaddr
from ..types import PeerId
from .envelope import open_envelope, seal
from .messages import (
    MAX_ADDRESSES,
    MAX_SENT,
    PeerRecordFields,
    decode_envelope,
    decode_peer_record,
    encode_peer_record,
)

_LARGE = 2**63 - 1  # that of the largest size
_PAYLOAD_TYPE = b"\x03\x01"
# The purpose that is signed with each payload type. The first is what go-, js- and py-libp2p write (rust-libp2p calls
# it "interop"); the second is what RFC 0003 proposes and rust-libp2p writes unless told otherwise.
_DOMAINS = {
    _PAYLOAD_TYPE: "libp2p-peer-record",
    b"/libp2p/routing-state-record": "libp2p-routing-state",
}


class PeerRecord(NamedTuple):
    """The addresses that a peer claims for itself. A greater `seq` replaces a smaller one; it is no time stamp."""

    peer: PeerId
    seq: int
    addresses: tuple[Multiaddr, ...]


OpenRecord = Callable[[bytes, PeerId], PeerRecord]
"""What checks a record in its envelope as `open_peer_record` does."""


def make_peer_record(identity: Identity, seq: int, addresses: Sequence[Multiaddr]) -> bytes:
    """This node's own record in a signed envelope; addresses beyond those that `fitting` keeps are left out."""
    return _seal(identity, seq, fitting(identity, addresses))


def check_peer_record(identity: Identity, addresses: Sequence[Multiaddr]) -> None:
    """Whether a record of these addresses is one that peers read: at most 64 of them, in 4,093 bytes with the envelope.

    Raises TooLarge, with the numbers.
    """
    if len(addresses) > MAX_ADDRESSES:
        raise TooLarge(f"{len(addresses)} addresses: the signed record that peers get holds at most {MAX_ADDRESSES}")
    size = len(_seal(identity, _LARGE, addresses))
    if size > MAX_SENT:
        raise TooLarge(
            f"{len(addresses)} addresses make a signed record of {size} bytes, and peers read at most {MAX_SENT}: "
            "name fewer, or shorter ones"
        )


def fitting(identity: Identity, addresses: Sequence[Multiaddr]) -> tuple[Multiaddr, ...]:
    """The first of the addresses, as many as a record holds."""
    kept = tuple(addresses[:MAX_ADDRESSES])
    while kept:
        try:
            check_peer_record(identity, kept)
        except TooLarge:
            kept = kept[:-1]
        else:
            break
    return kept


def _seal(identity: Identity, seq: int, addresses: Sequence[Multiaddr]) -> bytes:
    encoded = [address.to_bytes() for address in addresses]
    payload = encode_peer_record(PeerRecordFields(bytes(identity.peer_id), seq, encoded))
    return seal(identity, _DOMAINS[_PAYLOAD_TYPE], _PAYLOAD_TYPE, payload)


def open_peer_record(data: bytes, expected: PeerId | None = None) -> PeerRecord:
    """Check an envelope with a peer record in it, of the peer `expected` if given. Raises ProtocolError.

    The key that signed must be that of the peer named. Addresses of protocols unknown here are left out.
    """
    payload_type = decode_envelope(data).payload_type
    domain = _DOMAINS.get(payload_type)
    if domain is None:
        raise ProtocolError(f"envelope with payload type {payload_type[:32].hex()} holds no peer record")
    key, _, payload = open_envelope(data, domain)
    fields = decode_peer_record(payload)
    peer = key.peer_id()
    if fields.peer != peer:
        raise ProtocolError(f"peer record signed by {peer} for another peer")
    if expected is not None and peer != expected:
        raise ProtocolError(f"peer record of {peer}, not of {expected}")
    addresses = []
    for encoded in fields.addresses:
        try:
            addresses.append(Multiaddr.from_bytes(encoded))
        except InvalidMultiaddr:
            continue  # a transport of theirs that this node does not have
    return PeerRecord(peer, fields.seq, tuple(addresses))
