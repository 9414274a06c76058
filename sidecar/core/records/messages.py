"""Envelopes and peer records to bytes and back, with their bounds; what they mean is checked elsewhere."""

from google.protobuf.message import DecodeError

from ...wire import envelope_pb2, peer_record_pb2
from ..classes import NamedTuple
from ..errors import FrameTooLarge, ProtocolError

MAX_ENVELOPE = 8192  # bytes; go-libp2p reads an identify message, which carries one, up to this
MAX_SENT = 4096 - 3  # bytes of one of ours: with its tag and length it fills the identify message that peers read
MAX_ADDRESSES = 64  # a guess: as many as a node with every transport on several interfaces may have


class EnvelopeFields(NamedTuple):
    """An envelope as it travels; nothing in it is checked yet."""

    public_key: bytes
    payload_type: bytes
    payload: bytes
    signature: bytes


class PeerRecordFields(NamedTuple):
    """A peer record as it travels: the peer id and the addresses in their binary forms."""

    peer: bytes
    seq: int
    addresses: list[bytes]


def encode_envelope(fields: EnvelopeFields) -> bytes:
    """The protobuf of an envelope (RFC 0002); equal fields give equal bytes."""
    message = envelope_pb2.Envelope(
        public_key=fields.public_key,
        payload_type=fields.payload_type,
        payload=fields.payload,
        signature=fields.signature,
    )
    return message.SerializeToString(deterministic=True)


def decode_envelope(data: bytes) -> EnvelopeFields:
    """Raises FrameTooLarge, ProtocolError."""
    if len(data) > MAX_ENVELOPE:
        raise FrameTooLarge(f"envelope of {len(data)} bytes, at most {MAX_ENVELOPE}")
    try:
        message = envelope_pb2.Envelope.FromString(data)
    except DecodeError:
        raise ProtocolError(f"envelope of {len(data)} bytes is not a protobuf message") from None
    return EnvelopeFields(message.public_key, message.payload_type, message.payload, message.signature)


def encode_peer_record(fields: PeerRecordFields) -> bytes:
    """The protobuf of a peer record (RFC 0003); equal fields give equal bytes, which the envelope signs."""
    message = peer_record_pb2.PeerRecord(peer_id=fields.peer, seq=fields.seq)
    for address in fields.addresses:
        message.addresses.add(multiaddr=address)
    return message.SerializeToString(deterministic=True)


def decode_peer_record(data: bytes) -> PeerRecordFields:
    """Raises ProtocolError."""
    try:
        message = peer_record_pb2.PeerRecord.FromString(data)
    except DecodeError:
        raise ProtocolError(f"peer record of {len(data)} bytes is not a protobuf message") from None
    if len(message.addresses) > MAX_ADDRESSES:
        raise ProtocolError(f"peer record with {len(message.addresses)} addresses, at most {MAX_ADDRESSES}")
    return PeerRecordFields(message.peer_id, message.seq, [address.multiaddr for address in message.addresses])
