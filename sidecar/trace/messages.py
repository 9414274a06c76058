"""Bytes of a stream to messages for a person: identify, ping, Kademlia, gossip, direct, and previews of the rest."""

from collections.abc import Callable, Iterable
from typing import Any

from google.protobuf.message import DecodeError

from ..core.buffer import FrameDecoder
from ..core.classes import NamedTuple
from ..core.errors import InvalidMultiaddr, SidecarError
from ..core.gossip.bundles import MARK, claimed
from ..core.gossip.messages import ControlExtensions, Named, decode_rpc, parse_message
from ..core.identify import IDENTIFY, IDENTIFY_PUSH, decode
from ..core.multiaddr import Multiaddr
from ..core.ping import PING
from ..core.types import PeerId
from ..process.printable import escaped
from ..wire import direct_pb2, kademlia_pb2

_MAX_FRAME = 64 * 1024 * 1024  # the largest gossip frame that can be configured
_PREVIEW = 48  # bytes shown of what cannot be decoded
_IDS = 4  # of a list of message ids, how many are named in a line


class Decoded(NamedTuple):
    """One message: what it is, a line about it for people, and its fields as JSON can hold them."""

    kind: str
    line: str
    fields: dict[str, Any]


class StreamReader:
    """Puts one direction of one stream together again, whatever pieces it was sent in."""

    def __init__(self, protocol: str, *, answers: bool = False) -> None:
        """`answers`: this is the direction of the side that did not open the stream."""
        self._kind, self._decode = _decoder(protocol)
        if self._kind == "kademlia" and answers:
            self._kind = "kademlia answer"
        self._frames = FrameDecoder(_MAX_FRAME) if self._decode is not None else None

    def receive(self, data: bytes) -> list[Decoded]:
        """The messages that these bytes complete."""
        if self._frames is None or self._decode is None:
            return [_preview(self._kind, data)]
        bodies, error = self._frames.cut(data)
        messages = [self._read(body) for body in bodies]
        if error is not None:
            self._frames = None  # where the next message begins is not known
            messages.append(Decoded("broken", f"not a frame: {error}; shown as they are from here on", {}))
            messages.append(_preview(self._kind, data))
        return messages

    def finish(self) -> list[Decoded]:
        """What is left when the stream or the trace ends inside a message."""
        held = len(self._frames) if self._frames is not None else 0
        return [Decoded("cut short", f"{held} bytes of an unfinished message", {"length": held})] if held else []

    def _read(self, body: bytes) -> Decoded:
        assert self._decode is not None
        try:
            line, fields = self._decode(body)
        except (SidecarError, DecodeError) as error:
            return Decoded(
                "broken", f"{len(body)} bytes that are no {self._kind} message: {error}", {"hex": body.hex()}
            )
        return Decoded(self._kind, line, {"length": len(body), **fields})


_Decode = Callable[[bytes], tuple[str, dict[str, Any]]]


def _decoder(protocol: str) -> tuple[str, _Decode | None]:
    if protocol in (IDENTIFY, IDENTIFY_PUSH):
        return "identify", _identify
    if protocol == PING:
        return "ping", None
    if protocol.startswith(("/meshsub/", "/floodsub/")):
        return "gossip", _gossip
    if protocol.endswith("/kad/1.0.0"):
        return "kademlia", _kademlia
    if protocol.startswith("/sidecar/") and protocol.endswith("/direct/1"):
        return "direct", _direct
    return "bytes", None


def _preview(kind: str, data: bytes) -> Decoded:
    head = data[:_PREVIEW]
    more = "..." if len(data) > _PREVIEW else ""
    readable = all(0x20 <= byte < 0x7F or byte in b"\r\n\t" for byte in head)
    shown = escaped(head.decode()) if readable else head.hex()
    return Decoded(kind, f"{len(data)} bytes: {shown}{more}", {"length": len(data), "hex": data.hex()})


def _words(data: bytes) -> str:
    return escaped(data.decode(errors="replace"))


def _peer(data: bytes) -> str:
    try:
        return str(PeerId.from_bytes(data))
    except SidecarError:
        return data.hex()


def _address(data: bytes) -> str:
    try:
        return str(Multiaddr.from_bytes(data))
    except InvalidMultiaddr:
        return data.hex()


def _identify(body: bytes) -> tuple[str, dict[str, Any]]:
    info = decode(body)
    fields = {
        "protocol_version": info.protocol_version,
        "agent": info.agent,
        "listen_addresses": [str(address) for address in info.listen_addresses],
        "observed_address": str(info.observed_address) if info.observed_address else None,
        "protocols": list(info.protocols),
        "signed_record": len(info.signed_record or b""),
    }
    line = (
        f"{info.agent or '(no agent)'}, {info.protocol_version or '(no version)'}; at "
        f"{', '.join(map(str, info.listen_addresses)) or 'no address'}; sees us at {info.observed_address}; speaks "
        f"{' '.join(map(escaped, info.protocols))}; signed record of {len(info.signed_record or b'')} bytes"
    )
    return line, fields


def _gossip(body: bytes) -> tuple[str, dict[str, Any]]:
    rpc = decode_rpc(body)
    subscriptions = [(_words(item.topicid), item.subscribe) for item in rpc.subscriptions]
    messages = [_message(raw) for raw in rpc.publish]
    control = rpc.control
    groups: dict[str, list[dict[str, Any]]] = {
        "ihave": [{"topic": _words(item.topicID), "ids": _hexes(item.messageIDs)} for item in control.ihave],
        "iwant": [{"ids": _hexes(item.messageIDs)} for item in control.iwant],
        "graft": [{"topic": _words(item.topicID)} for item in control.graft],
        "prune": [
            {"topic": _words(item.topicID), "backoff": item.backoff, "peers": [_peer(p.peerID) for p in item.peers]}
            for item in control.prune
        ],
        "idontwant": [{"ids": _hexes(item.messageIDs)} for item in control.idontwant],
        "extensions": [_extensions(control.extensions)] if control.HasField("extensions") else [],
        "named": [_named(item) for item in rpc.named],
    }
    parts = [f"{'SUBSCRIBE' if joined else 'UNSUBSCRIBE'} {topic}" for topic, joined in subscriptions]
    parts += [
        f"MESSAGE on {m['topic']}, {m['size']} bytes"
        + (f" from {m['from']} seqno {m['seqno']}" if m["from"] else "")
        + (", signed" if m["signed"] else ", unsigned")
        + (f", a bundle of {m['bundled']} messages" if "bundled" in m else "")
        for m in messages
    ]
    for name, entries in groups.items():
        parts += [_control(name.upper(), entry) for entry in entries]
    fields: dict[str, Any] = {name: entries for name, entries in groups.items() if entries}
    if subscriptions:
        fields["subscriptions"] = [{"topic": topic, "subscribe": joined} for topic, joined in subscriptions]
    if messages:
        fields["messages"] = messages
    return "; ".join(parts) or "an RPC with nothing in it", fields


def _extensions(known: ControlExtensions) -> dict[str, bool]:
    """What a peer says to know."""
    return {"lazy_links": known.lazy_links, "bundles": known.bundles}


def _named(entry: Named) -> dict[str, Any]:
    """What goes over a lazy link in place of messages."""
    fields: dict[str, Any] = {"topic": _words(entry.topicID)}
    if entry.messageIDs:
        fields["ids"] = _hexes(entry.messageIDs)
    return fields | ({"resume": True} if entry.resume else {})


def _message(raw: bytes) -> dict[str, Any]:
    message = parse_message(raw)
    data = message.data or b""
    bundled = {"bundled": claimed(data)} if message.signature is not None and data.startswith(MARK) else {}
    return {
        "topic": _words(message.topic or b""),
        "size": len(message.data or b""),
        "from": _peer(message.sender) if message.sender else None,
        "seqno": int.from_bytes(message.seqno, "big") if message.seqno else None,
        "signed": message.signature is not None,
        **bundled,
    }


def _control(name: str, entry: dict[str, Any]) -> str:
    text = f"{name} {entry['topic']}" if "topic" in entry else name
    if "ids" in entry:
        ids = entry["ids"]
        more = ", ..." if len(ids) > _IDS else ""
        text += f" {len(ids)} ids ({', '.join(ids[:_IDS])}{more})"
    if "backoff" in entry:
        text += f" backoff {entry['backoff']} s, {len(entry['peers'])} peers"
    for flag in ("lazy_links", "bundles", "resume"):
        if entry.get(flag):
            text += f" {flag}"
    return text


def _hexes(ids: Iterable[bytes]) -> list[str]:
    return [identifier.hex() for identifier in ids]


def _kademlia(body: bytes) -> tuple[str, dict[str, Any]]:
    message = kademlia_pb2.Message.FromString(body)
    names = kademlia_pb2.Message.MessageType
    name = names.Name(message.type) if message.type in names.values() else f"type {message.type}"
    closer = [_entry(peer.id, peer.addresses) for peer in message.closer_peers]
    providers = [_entry(peer.id, peer.addresses) for peer in message.provider_peers]
    fields: dict[str, Any] = {"type": name, "key": _peer(message.key), "closer_peers": closer, "providers": providers}
    line = name + (f" key {_peer(message.key)}" if message.key else "")
    if message.HasField("record"):
        fields["record"] = {"key": message.record.key.hex(), "value": message.record.value.hex()}
        line += f", record with a value of {len(message.record.value)} bytes"
    for what, peers in (("closer", closer), ("providers", providers)):
        if peers:
            line += f", {len(peers)} {what}: {', '.join(peer['id'] for peer in peers)}"
    return line, fields


def _entry(identifier: bytes, addresses: Iterable[bytes]) -> dict[str, Any]:
    return {"id": _peer(identifier), "addresses": [_address(address) for address in addresses]}


def _direct(body: bytes) -> tuple[str, dict[str, Any]]:
    frame = direct_pb2.Frame.FromString(body)
    messages: list[dict[str, Any]] = [
        {"protocol": escaped(group.protocol), "sizes": [len(data) for data in group.data]} for group in frame.messages
    ]
    requests = [{"id": r.id, "protocol": escaped(r.protocol), "size": len(r.data)} for r in frame.requests]
    receipts = [{"first": r.first, "count": r.count, "outcome": _name(r, "outcome")} for r in frame.receipts]
    responses = [
        {"id": r.id, "status": _name(r, "status"), "size": len(r.data), "reason": escaped(r.reason)}
        for r in frame.responses
    ]
    parts = [f"{len(m['sizes'])} messages of {m['protocol']}, {sum(m['sizes'])} bytes" for m in messages]
    parts += [f"REQUEST {r['id']} of {r['protocol']}, {r['size']} bytes" for r in requests]
    parts += [f"CANCEL {number}" for number in frame.cancels]
    parts += [f"RECEIPT {r['first']}+{r['count']} {r['outcome']}" for r in receipts]
    parts += [f"RESPONSE {r['id']} {r['status']}, {r['size']} bytes {r['reason']}".rstrip() for r in responses]
    every = {"messages": messages, "requests": requests, "receipts": receipts, "responses": responses}
    fields: dict[str, Any] = {name: value for name, value in every.items() if value}
    if frame.cancels:
        fields["cancels"] = list(frame.cancels)
    return "; ".join(parts) or "an empty frame", fields


def _name(message: Any, field: str) -> str:
    number = getattr(message, field)
    value = message.DESCRIPTOR.fields_by_name[field].enum_type.values_by_number.get(number)
    return value.name.partition("_")[2] if value is not None else str(number)
