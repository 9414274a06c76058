"""Identify messages to bytes and back, and the reading of them off a stream."""

import sys
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from google.protobuf.message import DecodeError

from ...wire import identify_pb2
from .. import varint
from ..buffer import FrameDecoder
from ..errors import InvalidMultiaddr, ProtocolError, TooLarge
from ..identity import PublicKey
from ..multiaddr import Multiaddr
from .info import IdentifyInfo

MAX_MESSAGE = 8192  # bytes that we read in one message, as go- and js-libp2p do
MAX_MESSAGES = 10  # on one stream; go-libp2p's bound
MAX_SENT = 4096  # bytes that we write in one message; rust-libp2p reads no more, and go-libp2p writes no more
MAX_ADDRESSES = 64  # a guess: as many as a node with every transport on several interfaces may have
MAX_PROTOCOLS = 1000  # a guess: ten times what a go-libp2p node with everything on has
MAX_TEXT = 128  # characters kept of a version or an agent
MAX_PROTOCOL_NAME = 256  # characters of a protocol id
_SHARED_SIZE = 8192  # bytes of protocols, of which a decoded list is shared


def encode(info: IdentifyInfo) -> bytes:
    """The bytes of the whole stream: one message behind its length, or several that the reader merges.

    No message is over 4 KiB. go- and js-libp2p merge up to 10 of them; rust-libp2p reads the first only, so that this
    one has what matters most: who we are, the first protocols, addresses. The signed record is not split. Addresses
    beyond 64 and protocols beyond 1000 are left out. Raises TooLarge where the rest does not fit into 10 messages.
    """
    record = info.signed_record or b""
    whole = _head(info, listen_addrs=info.listen_addresses[:MAX_ADDRESSES], protocols=info.protocols[:MAX_PROTOCOLS])
    signed = _field(signed_peer_record=record) if record else b""
    if len(whole) + len(signed) <= MAX_SENT:
        return varint.encode(len(whole) + len(signed)) + whole + signed  # messages concatenate
    protocols = [_field(protocols=[protocol.encode()]) for protocol in info.protocols[:MAX_PROTOCOLS]]
    addresses = [_field(listen_addrs=[address.to_bytes()]) for address in info.listen_addresses[:MAX_ADDRESSES]]
    first = 0  # protocols that go before the addresses: the node's own are the first
    room = MAX_SENT // 2
    while first < len(protocols) and len(protocols[first]) <= room:
        room -= len(protocols[first])
        first += 1
    bodies = [_head(info)]
    for field in (*protocols[:first], *addresses, *protocols[first:], *([signed] if signed else ())):
        if len(bodies[-1]) + len(field) > MAX_SENT:
            bodies.append(b"")
        bodies[-1] += field
    most = max(map(len, bodies))
    if len(bodies) > MAX_MESSAGES or most > MAX_SENT:
        size = sum(map(len, bodies))
        raise TooLarge(
            f"identify of {size} bytes in {len(bodies)} messages of up to {most}: "
            f"peers read {MAX_MESSAGES} of {MAX_SENT}"
        )
    return b"".join(map(varint.framed, bodies))


def _field(**fields: Any) -> bytes:
    return identify_pb2.Identify(**fields).SerializeToString(deterministic=True)


def _head(info: IdentifyInfo, listen_addrs: Iterable[Multiaddr] = (), protocols: Iterable[str] = ()) -> bytes:
    message = identify_pb2.Identify(
        listen_addrs=[address.to_bytes() for address in listen_addrs],
        protocols=[protocol.encode() for protocol in protocols],
    )
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
        protocols=_protocols(tuple(message.protocols[:MAX_PROTOCOLS])),
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


def _protocols(encoded: tuple[bytes, ...]) -> tuple[str, ...]:
    """The same tuple for the same protocols: most peers have them, and they are kept for each."""
    size = sum(map(len, encoded))
    return _named(encoded) if size <= _SHARED_SIZE else _named.__wrapped__(encoded)


@lru_cache(maxsize=64)
def _named(encoded: tuple[bytes, ...]) -> tuple[str, ...]:
    protocols: dict[str, None] = {}
    for data in encoded:
        name = sys.intern(data.decode(errors="replace"))
        if 0 < len(name) <= MAX_PROTOCOL_NAME:
            protocols[name] = None
    return tuple(protocols)


def _text(data: bytes) -> str:
    """For logs and terminals: no control characters, no bad UTF-8, bounded."""
    text = data.decode(errors="replace")[:MAX_TEXT]
    if text.isprintable():
        return sys.intern(text)  # most say the same, and it is kept for each
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
