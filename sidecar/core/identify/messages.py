"""Identify messages to bytes and back, and the reading of them off a stream."""

from collections.abc import Iterable

from google.protobuf.message import DecodeError

from ...wire import identify_pb2
from .. import varint
from ..buffer import FrameDecoder
from ..errors import InvalidMultiaddr, ProtocolError
from ..identity import PublicKey
from ..multiaddr import Multiaddr
from .info import IdentifyInfo

MAX_MESSAGE = 8192  # bytes that we read in one message, as go- and js-libp2p do
MAX_MESSAGES = 10  # on one stream; go-libp2p's bound
MAX_SENT = 4096  # bytes that we write in one message; rust-libp2p reads no more
MAX_ADDRESSES = 64  # a guess: as many as a node with every transport on several interfaces may have
MAX_PROTOCOLS = 1000  # a guess: ten times what a go-libp2p node with everything on has
MAX_TEXT = 128  # characters kept of a version or an agent
MAX_PROTOCOL_NAME = 256  # characters of a protocol id


def encode(info: IdentifyInfo) -> bytes:
    """The bytes of the whole stream: one message behind its length, or two.

    A signed record goes into a message of its own when both together are over 4 KiB, as go-libp2p does it.
    Addresses, then protocols, are left out from the end when the message is still too long.
    """
    record = info.signed_record or b""
    addresses = [address.to_bytes() for address in info.listen_addresses[:MAX_ADDRESSES]]
    protocols = [protocol.encode() for protocol in info.protocols[:MAX_PROTOCOLS]]
    body = _serialize(info, addresses, protocols)
    while len(body) > MAX_SENT and (addresses or protocols):
        (addresses or protocols).pop()
        body = _serialize(info, addresses, protocols)
    if not record:
        return varint.encode(len(body)) + body
    signed = identify_pb2.Identify(signed_peer_record=record).SerializeToString(deterministic=True)
    if len(body) + len(signed) <= MAX_SENT:
        return varint.encode(len(body) + len(signed)) + body + signed  # messages concatenate
    return varint.encode(len(body)) + body + varint.encode(len(signed)) + signed


def _serialize(info: IdentifyInfo, addresses: Iterable[bytes], protocols: Iterable[bytes]) -> bytes:
    message = identify_pb2.Identify(listen_addrs=addresses, protocols=protocols)
    if info.public_key is not None:
        message.public_key = info.public_key.to_bytes()
    if info.observed_address is not None:
        message.observed_addr = info.observed_address.to_bytes()
    if info.protocol_version is not None:
        message.protocol_version = info.protocol_version.encode()
    if info.agent is not None:
        message.agent_version = info.agent.encode()
    if info.gossip_max_rpc is not None:
        message.gossip_max_rpc = info.gossip_max_rpc
    return message.SerializeToString(deterministic=True)


def decode(body: bytes) -> IdentifyInfo:
    """Read a message without its length. The bodies of several, joined, read as the merge of them.

    Addresses of protocols unknown here are left out, and so is what is beyond the bounds. Raises ProtocolError.
    """
    try:
        message = identify_pb2.Identify.FromString(body)
    except DecodeError:
        raise ProtocolError(f"identify of {len(body)} bytes is not a protobuf message") from None
    observed = _addresses([message.observed_addr]) if message.observed_addr else ()
    return IdentifyInfo(
        protocol_version=_text(message.protocol_version) if message.HasField("protocol_version") else None,
        agent=_text(message.agent_version) if message.HasField("agent_version") else None,
        public_key=PublicKey.from_bytes(message.public_key) if message.public_key else None,
        listen_addresses=_addresses(message.listen_addrs[:MAX_ADDRESSES]),
        observed_address=observed[0] if observed else None,
        protocols=_protocols(message.protocols[:MAX_PROTOCOLS]),
        signed_record=message.signed_peer_record or None,
        gossip_max_rpc=message.gossip_max_rpc or None,
    )


def _addresses(encoded: Iterable[bytes]) -> tuple[Multiaddr, ...]:
    addresses: dict[Multiaddr, None] = {}
    for data in encoded:
        try:
            addresses[Multiaddr.from_bytes(data)] = None
        except InvalidMultiaddr:
            continue  # a transport of theirs that this node does not have
    return tuple(addresses)


def _protocols(encoded: Iterable[bytes]) -> tuple[str, ...]:
    protocols: dict[str, None] = {}
    for data in encoded:
        name = data.decode(errors="replace")
        if 0 < len(name) <= MAX_PROTOCOL_NAME:
            protocols[name] = None
    return tuple(protocols)


def _text(data: bytes) -> str:
    """For logs and terminals: no control characters, no bad UTF-8, bounded."""
    text = data.decode(errors="replace")[:MAX_TEXT]
    return "".join(character if character.isprintable() else "�" for character in text)


class IdentifyReader:
    """Collects the messages of one identify stream until the remote ends it."""

    __slots__ = ("_bodies", "_decoder")

    def __init__(self) -> None:
        self._decoder = FrameDecoder(MAX_MESSAGE)
        self._bodies: list[bytes] = []

    def receive(self, data: bytes) -> None:
        """Take bytes of the stream. Raises FrameTooLarge, ProtocolError."""
        self._bodies += self._decoder.receive(data)
        if len(self._bodies) > MAX_MESSAGES:
            raise ProtocolError(f"more than {MAX_MESSAGES} identify messages on one stream")

    def finish(self) -> IdentifyInfo:
        """All that was said, once the remote has ended the stream. Raises ProtocolError."""
        if len(self._decoder):
            raise ProtocolError("the identify stream ended inside a message")
        if not self._bodies:
            raise ProtocolError("the identify stream ended without a message")
        return decode(b"".join(self._bodies))
