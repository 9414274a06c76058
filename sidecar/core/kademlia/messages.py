"""The DHT's messages to bytes and back, with their bounds (specs kad-dht, "RPC messages")."""

import enum
from collections.abc import Iterable
from functools import lru_cache

from google.protobuf.message import DecodeError

from ...wire import kademlia_pb2
from ..classes import NamedTuple
from ..errors import FrameTooLarge, InvalidMultiaddr, InvalidPeerId, ProtocolError
from ..multiaddr import Multiaddr
from ..parameters.kademlia import KademliaConfig
from ..types import PeerId
from .events import Addresses, PeerAddresses

_Message = kademlia_pb2.Message
_Record = kademlia_pb2.Record
PING_ANSWER = _Message(type=_Message.PING).SerializeToString()
_FIND_NODE_HEAD = _Message(type=_Message.FIND_NODE).SerializeToString()


class MessageType(enum.IntEnum):
    """What a message asks for."""

    PUT_VALUE = 0
    GET_VALUE = 1
    ADD_PROVIDER = 2
    GET_PROVIDERS = 3
    FIND_NODE = 4
    PING = 5


_KNOWN_TYPES = frozenset(map(int, MessageType))


class Record(NamedTuple):
    """A record as it travels; `received` is RFC 3339 text or empty."""

    key: bytes
    value: bytes
    received: str = ""


class DhtRequest(NamedTuple):
    """A request as it came: its type, which may be an unknown number, its key, and what a few types carry."""

    type: MessageType | int
    key: bytes
    record: Record | None = None
    providers: tuple[PeerAddresses, ...] = ()


class DhtAnswer(NamedTuple):
    """What an answer brings: closer peers, and the record or the providers asked for."""

    closer: list[PeerAddresses]
    record: Record | None
    providers: list[PeerAddresses]


def encode_find_node(key: bytes) -> bytes:
    """The request for the peers closest to `key`."""
    return encode_question(MessageType.FIND_NODE, key)


def encode_question(kind: MessageType, key: bytes) -> bytes:
    """A request that consists of its type and a key: FIND_NODE, GET_VALUE, GET_PROVIDERS."""
    return _Message(type=_Message.MessageType.ValueType(kind), key=key).SerializeToString()


def encode_put_value(key: bytes, value: bytes) -> bytes:
    """The request to keep a record. The answer repeats it."""
    return _Message(key=key, record=_Record(key=key, value=value)).SerializeToString()


def encode_add_provider(key: bytes, peer: PeerId, addresses: Addresses) -> bytes:
    """The message that says that this peer provides the key; it has no answer."""
    entry = _Message.Peer(id=peer, addresses=[address.to_bytes() for address in addresses])
    message = _Message(type=_Message.ADD_PROVIDER, key=key, provider_peers=[entry])
    return message.SerializeToString()


def encode_record_answer(kind: MessageType, key: bytes, record: Record | None) -> bytes:
    """The head of an answer, to which peers may be joined."""
    message = _Message(type=_Message.MessageType.ValueType(kind), key=key)
    if record is not None:
        message.record.CopyFrom(_Record(key=record.key, value=record.value, time_received=record.received))
    return message.SerializeToString()


def encode_provider(peer: PeerId, addresses: Addresses) -> bytes:
    """One provider of an answer, as the field of the message that it becomes by joining."""
    entry = _Message.Peer(id=peer, addresses=[address.to_bytes() for address in addresses])
    return _Message(provider_peers=[entry]).SerializeToString()


def encode_peer(peer: PeerId, addresses: Addresses, connected: bool) -> bytes:
    """One peer of an answer, as the field of the message that it becomes by joining."""
    entry = _Message.Peer(
        id=peer,
        addresses=[address.to_bytes() for address in addresses],
        connection=_Message.CONNECTED if connected else _Message.NOT_CONNECTED,
    )
    return _Message(closer_peers=[entry]).SerializeToString()


def encode_closer_peers(peers: Iterable[bytes], limit: int) -> bytes:
    """The answer to FIND_NODE: peers from `encode_peer`, closest first, as many as `limit` bytes hold."""
    return join(_FIND_NODE_HEAD, peers, limit)


def join(head: bytes, peers: Iterable[bytes], limit: int) -> bytes:
    """An answer's head and as many of the peers, from `encode_peer` or `encode_provider`, as `limit` bytes hold.

    Joined bytes, for a serialised message is the concatenation of its fields.
    """
    size = len(head)
    fields = [head]
    for field in peers:
        size += len(field)
        if size > limit:
            break
        fields.append(field)
    return b"".join(fields)


def decode_request(frame: bytes, config: KademliaConfig) -> DhtRequest:
    """Raises FrameTooLarge, ProtocolError."""
    message = _parse(frame, config.max_frame)
    if len(message.key) > config.max_key:
        raise ProtocolError(f"DHT request with a key of {len(message.key)} bytes, at most {config.max_key}")
    number = int(message.type)
    if number not in _KNOWN_TYPES:
        return DhtRequest(number, message.key)
    kind = MessageType(number)
    record = _record(message) if kind is MessageType.PUT_VALUE else None
    providers = _peers(message.provider_peers[: config.k], config) if kind is MessageType.ADD_PROVIDER else ()
    return DhtRequest(kind, message.key, record, tuple(providers))


def decode_answer(frame: bytes, kind: MessageType, config: KademliaConfig) -> DhtAnswer:
    """An answer to a request of this kind. Raises FrameTooLarge, ProtocolError.

    Peers that it names are at most 2 k, as go-libp2p-kad-dht cuts it, and providers `max_found_providers`. What is
    unusable in an otherwise sound answer is left out: peer ids that are none, addresses of protocols not known here,
    addresses of somebody else.
    """
    message = _parse(frame, config.max_frame)
    if int(message.type) != kind:
        raise ProtocolError(f"DHT answer of type {message.type} to a {kind.name}")
    closer = _peers(message.closer_peers[: 2 * config.k], config)
    providers = _peers(message.provider_peers[: config.max_found_providers], config)
    return DhtAnswer(closer, _record(message), providers)


def decode_closer_peers(frame: bytes, config: KademliaConfig) -> list[PeerAddresses]:
    """The peers that an answer to FIND_NODE names. Raises FrameTooLarge, ProtocolError."""
    return decode_answer(frame, MessageType.FIND_NODE, config).closer


def _record(message: kademlia_pb2.Message) -> Record | None:
    if not message.HasField("record"):
        return None
    return Record(message.record.key, message.record.value, message.record.time_received)


def _peers(entries: Iterable[kademlia_pb2.Message.Peer], config: KademliaConfig) -> list[PeerAddresses]:
    peers: list[PeerAddresses] = []
    for entry in entries:
        encoded = tuple(entry.addresses[: 4 * config.max_addresses])  # bounds the work for unusable ones
        size = sum(map(len, encoded))
        decode = _decode_peer_cached if size <= _CACHED_SIZE else _decode_peer
        try:
            peers.append(decode(entry.id, encoded, config.max_addresses))
        except InvalidPeerId:
            continue
    return peers


def own_addresses(peer: PeerId, addresses: Iterable[Multiaddr], limit: int) -> Addresses:
    """The first `limit` different addresses of a peer, without its id at their end; those of other peers left out."""
    kept: dict[Multiaddr, None] = {}
    for address in addresses:
        owner = address.peer_id
        if owner is not None and owner != peer:
            continue
        if address.parts[:-1] or owner is None:  # else nothing is left without the id
            kept[address.without_peer()] = None
        if len(kept) == limit:
            break
    return tuple(kept)


def _parse(frame: bytes, limit: int) -> kademlia_pb2.Message:
    if len(frame) > limit:
        raise FrameTooLarge(f"DHT message of {len(frame)} bytes, at most {limit}")
    try:
        return _Message.FromString(frame)
    except DecodeError:
        raise ProtocolError(f"DHT message of {len(frame)} bytes is not a protobuf message") from None


def _decode_peer(identifier: bytes, encoded: tuple[bytes, ...], limit: int) -> PeerAddresses:
    """Raises InvalidPeerId."""
    peer = PeerId.from_bytes(identifier)
    usable: list[Multiaddr] = []
    for data in encoded:
        try:
            usable.append(Multiaddr.from_bytes(data))
        except InvalidMultiaddr:
            continue
    return peer, own_addresses(peer, usable, limit)


# The answers of one lookup name the same peers again and again: this halves the cost of reading them.
_CACHED_SIZE = 512  # bytes of addresses; with the number of entries it bounds the cache
_decode_peer_cached = lru_cache(maxsize=4096)(_decode_peer)


def keep_decoded(count: int) -> None:
    """Keep so many entries decoded, in place of 4096: for a process with many nodes, whose answers name the same."""
    global _decode_peer_cached
    _decode_peer_cached = lru_cache(maxsize=count)(_decode_peer)
