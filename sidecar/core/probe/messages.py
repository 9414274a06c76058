"""Probes and their answers to bytes and back (docs/protocols.md)."""

import hashlib

from google.protobuf.message import DecodeError

from ...wire import probe_pb2 as wire
from .. import varint
from ..classes import NamedTuple
from ..errors import ProtocolError
from ..identity import Identity
from ..multiaddr import Multiaddr
from ..records.envelope import open_envelope, seal
from ..records.messages import MAX_ENVELOPE, decode_envelope
from ..types import PeerId

MARK = b"\x00/sidecar/probe/1\x00"
"""What the payload of every message of a probe begins with. No app's may."""
ID_BYTES = 16
WHOLE = 1 << 32  # the rate at which every receiver answers
MAX_ANSWER = 256  # bytes; one has 29 at most
MAX_ADDRESSES = 8
_DOMAIN = "sidecar-probe"
_PAYLOAD_TYPE = b"/sidecar/probe"


class ProbeMessage(NamedTuple):
    """One message of a probe."""

    id: bytes
    number: int
    rate: int
    topic: str
    addresses: tuple[Multiaddr, ...]

    def asks(self, peer: PeerId) -> bool:
        """Whether this peer is among the receivers that are to answer; known to both sides."""
        return asks(self.id, self.number, self.rate, peer)


class Answer(NamedTuple):
    """That a message has arrived. `held`: microseconds until this was written."""

    id: bytes
    number: int
    held: int
    direct: bool


def asks(identifier: bytes, number: int, rate: int, peer: PeerId) -> bool:
    """Whether a peer is to answer: an even draw that anybody can repeat, another for each message."""
    drawn = hashlib.sha256(identifier + number.to_bytes(4, "big") + peer).digest()
    return int.from_bytes(drawn[:4], "big") < rate


def encode_probe(identity: Identity, probe: ProbeMessage, size: int) -> bytes:
    """A message's payload: the mark, the envelope behind its length, and zeros up to `size` bytes."""
    message = wire.Probe(
        id=probe.id,
        number=probe.number,
        rate=probe.rate,
        topic=probe.topic.encode(),
        addresses=[address.to_bytes() for address in probe.addresses[:MAX_ADDRESSES]],
    )
    envelope = seal(identity, _DOMAIN, _PAYLOAD_TYPE, message.SerializeToString(deterministic=True))
    payload = MARK + varint.framed(envelope)
    return payload.ljust(size, b"\0")


def read_probe(payload: bytes) -> tuple[ProbeMessage, bytes]:
    """A message's payload taken apart: what it says, and the envelope, unchecked. Raises ProtocolError."""
    length = varint.decode(payload, len(MARK))
    if length is None or not 0 < length[0] <= min(MAX_ENVELOPE, len(payload) - length[1]):
        raise ProtocolError(f"probe of {len(payload)} bytes is cut short")
    envelope = payload[length[1] : length[1] + length[0]]
    body = decode_envelope(envelope).payload
    try:
        message = wire.Probe.FromString(body)
        topic = message.topic.decode()
        addresses = tuple(Multiaddr.from_bytes(address) for address in message.addresses[:MAX_ADDRESSES])
    except (DecodeError, ValueError):
        raise ProtocolError(f"probe of {len(body)} bytes is malformed") from None
    if len(message.id) != ID_BYTES or not 0 < message.rate <= WHOLE:
        raise ProtocolError(f"probe with an id of {len(message.id)} bytes and a rate of {message.rate}")
    return ProbeMessage(message.id, message.number, message.rate, topic, addresses), envelope


def prober_of(envelope: bytes) -> PeerId:
    """Who signed a probe. Raises ProtocolError where nobody has."""
    key, payload_type, _ = open_envelope(envelope, _DOMAIN)
    if payload_type != _PAYLOAD_TYPE:
        raise ProtocolError(f"envelope with payload type {payload_type[:32].hex()} holds no probe")
    return key.peer_id()


def encode_answer(answer: Answer) -> bytes:
    """A whole frame."""
    body = wire.Answer(id=answer.id, number=answer.number, held_us=answer.held, direct=answer.direct).SerializeToString(
        deterministic=True
    )
    return varint.framed(body)


def decode_answer(body: bytes) -> Answer:
    """Raises ProtocolError."""
    try:
        message = wire.Answer.FromString(body)
    except DecodeError:
        raise ProtocolError(f"answer of {len(body)} bytes to a probe is malformed") from None
    return Answer(message.id, message.number, message.held_us, message.direct)
