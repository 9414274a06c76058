"""Signed envelopes: a payload that proves who made it and for which purpose (libp2p specs, RFC 0002)."""

from ..errors import ProtocolError
from ..identity import Identity, PublicKey
from ..varint import encode
from .messages import EnvelopeFields, decode_envelope, encode_envelope


def seal(identity: Identity, domain: str, payload_type: bytes, payload: bytes) -> bytes:
    """An encoded envelope around `payload`, signed for the purpose that `domain` names."""
    signature = identity.sign(_signed_bytes(domain, payload_type, payload))
    return encode_envelope(EnvelopeFields(identity.public_key.to_bytes(), payload_type, payload, signature))


def open_envelope(data: bytes, domain: str) -> tuple[PublicKey, bytes, bytes]:
    """Check an encoded envelope: (key that signed it, payload type, payload). Raises ProtocolError."""
    fields = decode_envelope(data)
    key = PublicKey.from_bytes(fields.public_key)
    if not key.verify(_signed_bytes(domain, fields.payload_type, fields.payload), fields.signature):
        raise ProtocolError(f"envelope of {len(data)} bytes with a wrong signature for {domain}")
    return key, fields.payload_type, fields.payload


def _signed_bytes(domain: str, payload_type: bytes, payload: bytes) -> bytes:
    """What the signature covers: each of the three behind its length as a varint."""
    purpose = domain.encode()
    return b"".join(
        (encode(len(purpose)), purpose, encode(len(payload_type)), payload_type, encode(len(payload)), payload)
    )
