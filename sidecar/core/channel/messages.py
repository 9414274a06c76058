"""The payload of the Noise handshake as protobuf (specs noise, "The libp2p Handshake Payload")."""

from collections.abc import Sequence

from google.protobuf.message import DecodeError

from sidecar.wire.noise_pb2 import NoiseExtensions, NoiseHandshakePayload

from ..classes import NamedTuple
from ..errors import HandshakeError


class HandshakePayload(NamedTuple):
    """Who somebody claims to be, the proof, and the muxers it speaks, the one it likes best first."""

    identity_key: bytes
    identity_sig: bytes
    stream_muxers: Sequence[str]


def encode_payload(payload: HandshakePayload) -> bytes:
    """The protobuf that goes, enciphered, into a handshake message."""
    return NoiseHandshakePayload(
        identity_key=payload.identity_key,
        identity_sig=payload.identity_sig,
        extensions=NoiseExtensions(stream_muxers=payload.stream_muxers),
    ).SerializeToString()


def decode_payload(data: bytes) -> HandshakePayload:
    """Raises HandshakeError."""
    try:
        message = NoiseHandshakePayload.FromString(data)
    except DecodeError:
        raise HandshakeError(f"handshake payload of {len(data)} bytes is no protobuf message") from None
    return HandshakePayload(message.identity_key, message.identity_sig, tuple(message.extensions.stream_muxers))
