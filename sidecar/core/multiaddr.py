"""Multiaddrs: addresses that say their own protocols, in text and bytes (specs addressing, multiformats/multiaddr)."""

import ipaddress
from functools import lru_cache

from .classes import NamedTuple
from .errors import InvalidMultiaddr, InvalidPeerId, ProtocolError
from .types import PeerId
from .varint import decode, encode

_PREFIXED = -1
_MAX_BYTES = 1024  # a guess that holds relayed addresses with DNS names; multiaddr itself sets no bound


class _Part(NamedTuple):
    name: str
    code: int
    size: int  # bytes of the value; _PREFIXED when a varint length goes before it


_PARTS = (
    _Part("ip4", 4, 4),
    _Part("tcp", 6, 2),
    _Part("ip6", 41, 16),
    _Part("ip6zone", 42, _PREFIXED),
    _Part("dns", 53, _PREFIXED),
    _Part("dns4", 54, _PREFIXED),
    _Part("dns6", 55, _PREFIXED),
    _Part("dnsaddr", 56, _PREFIXED),
    _Part("udp", 273, 2),
    _Part("p2p-circuit", 290, 0),
    _Part("p2p", 421, _PREFIXED),
    _Part("tls", 448, 0),
    _Part("sni", 449, _PREFIXED),
    _Part("quic-v1", 461, 0),
    _Part("ws", 477, 0),
    _Part("wss", 478, 0),
)
_BY_NAME = {part.name: part for part in _PARTS} | {"ipfs": _Part("p2p", 421, _PREFIXED)}
_BY_CODE = {part.code: part for part in _PARTS}


class Endpoint(NamedTuple):
    """A TCP port and what is spoken there below libp2p's own protocols."""

    kind: str  # protocol of the host part
    host: str
    port: int
    websocket: bool = False
    tls: bool = False
    sni: str | None = None  # the name to ask for in TLS, where it is not the host

    @property
    def suffix(self) -> str:
        """What an address has behind its TCP port; `/wss` is written `/tls/ws`, as go-libp2p does."""
        sni = f"/sni/{self.sni}" if self.sni else ""
        return ("/tls" + sni if self.tls else "") + ("/ws" if self.websocket else "")


class Multiaddr:
    """An address such as `/ip4/127.0.0.1/tcp/4001/p2p/12D3Koo...`; immutable, hashable, `str()` gives the text.

    `parts` holds (protocol name, value text) pairs; a protocol without a value has an empty one.
    """

    __slots__ = ("_bytes", "_endpoint", "_text", "parts")

    def __init__(self, parts: tuple[tuple[str, str], ...], encoded: bytes) -> None:
        self.parts = parts
        self._bytes = encoded
        self._text = "".join(f"/{name}/{value}" if value else f"/{name}" for name, value in parts)
        self._endpoint: Endpoint | bool | None = False  # not asked for yet

    @classmethod
    def from_text(cls, text: str) -> "Multiaddr":
        """Parse the text form. Raises InvalidMultiaddr, with the part that is wrong."""
        return _from_text(text)

    @classmethod
    def from_bytes(cls, data: bytes) -> "Multiaddr":
        """Parse the binary form. Raises InvalidMultiaddr, also for protocols that are not known here."""
        return _from_bytes(bytes(data))

    @classmethod
    def tcp(cls, host: str, port: int, suffix: str = "") -> "Multiaddr":
        """The TCP address of an IP address in text form, `suffix` behind it. Raises InvalidMultiaddr."""
        family = "ip6" if ":" in host else "ip4"
        return cls.from_text(f"/{family}/{host.partition('%')[0]}/tcp/{port}{suffix}")

    def to_bytes(self) -> bytes:
        """The binary form, as messages carry it."""
        return self._bytes

    def value(self, *names: str) -> str | None:
        """The value of the first part that has one of the names, or None."""
        return next((value for name, value in self.parts if name in names), None)

    @property
    def peer_id(self) -> PeerId | None:
        """The peer id that the address ends in, if it does."""
        if self.parts and self.parts[-1][0] == "p2p":
            return PeerId.from_text(self.parts[-1][1])
        return None

    @property
    def ip(self) -> str | None:
        """The IP address that it begins with, if it does."""
        name, value = self.parts[0] if self.parts else ("", "")
        return value if name in ("ip4", "ip6") else None

    @property
    def dnsaddr(self) -> str | None:
        """The name whose TXT records have the addresses that it stands for, where it begins with such a name."""
        name, value = self.parts[0] if self.parts else ("", "")
        return value if name == "dnsaddr" else None

    @property
    def is_relayed(self) -> bool:
        """Whether it leads through a relay: what it begins with is then where that is."""
        return any(name == "p2p-circuit" for name, _ in self.parts)

    @property
    def relay(self) -> "Multiaddr | None":
        """Where the relay is that it leads through, with that one's id at the end where it is named; None for none.

        None too where it leads through several, which is never followed.
        """
        at = [position for position, (name, _) in enumerate(self.parts) if name == "p2p-circuit"]
        if len(at) != 1 or not at[0]:
            return None
        return _from_text("".join(f"/{name}/{value}" if value else f"/{name}" for name, value in self.parts[: at[0]]))

    def with_peer(self, peer: PeerId) -> "Multiaddr":
        """This address with `/p2p/<peer>` at its end."""
        base = self.without_peer()
        suffix = encode(421) + encode(len(peer)) + bytes(peer)
        return Multiaddr((*base.parts, ("p2p", str(peer))), base._bytes + suffix)

    def without_peer(self) -> "Multiaddr":
        """This address without `/p2p/...` at its end."""
        peer = self.peer_id
        if peer is None:
            return self
        suffix = encode(421) + encode(len(peer)) + bytes(peer)
        return Multiaddr(self.parts[:-1], self._bytes[: -len(suffix)])

    def endpoint(self) -> Endpoint | None:
        """The endpoint of a TCP or WebSocket address (specs websockets, "Addressing"), None for any other."""
        if isinstance(self._endpoint, bool):  # each answer of the DHT that names it asks anew
            self._endpoint = self._find_endpoint()
        return self._endpoint

    def _find_endpoint(self) -> Endpoint | None:
        base = self.without_peer().parts
        if not base or base[0][0] not in ("ip4", "ip6", "dns", "dns4", "dns6"):
            return None
        kind, host = base[0]
        port = int(base[1][1]) if len(base) > 1 and base[1][0] == "tcp" else None
        above = base[1:] if port is None else base[2:]
        match [name for name, _ in above]:
            case []:
                return None if port is None else Endpoint(kind, host, port)
            case ["ws"]:
                return Endpoint(kind, host, 80 if port is None else port, websocket=True)
            case ["wss"] | ["tls", "ws"] | ["tls", "sni", "ws"]:
                sni = self.value("sni")
                return Endpoint(kind, host, 443 if port is None else port, websocket=True, tls=True, sni=sni)
        return None

    def __str__(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return f"Multiaddr({self._text})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Multiaddr) and self._bytes == other._bytes

    def __hash__(self) -> int:
        return hash(self._bytes)


def keep_parsed(count: int) -> None:
    """Keep so many addresses parsed, in place of 4096: for a process with many nodes, which all meet the same ones."""
    global _from_bytes
    _from_bytes = lru_cache(maxsize=count)(_from_bytes.__wrapped__)


@lru_cache(maxsize=4096)
def _from_text(text: str) -> Multiaddr:
    if not text.startswith("/"):
        raise InvalidMultiaddr(f"{text[:200]!r} is not a multiaddr: it does not start with /")
    words = text[1:].rstrip("/").split("/")
    parts: list[tuple[str, str]] = []
    encoded = b""
    position = 0
    while position < len(words):
        part = _BY_NAME.get(words[position])
        if part is None:
            raise InvalidMultiaddr(f"{text[:200]!r} is not a multiaddr: unknown protocol {words[position][:40]!r}")
        position += 1
        value = ""
        if part.size:
            if position == len(words) or not words[position]:
                raise InvalidMultiaddr(f"{text[:200]!r} is not a multiaddr: {part.name} without a value")
            value = words[position]
            position += 1
        try:
            raw = _value_to_bytes(part, value)
            parts.append((part.name, _value_to_text(part, raw)))
        except ValueError as error:
            raise InvalidMultiaddr(f"{text[:200]!r} is not a multiaddr: {part.name}: {error}") from None
        encoded += encode(part.code) + (encode(len(raw)) if part.size == _PREFIXED else b"") + raw
        if len(encoded) > _MAX_BYTES:
            raise InvalidMultiaddr(f"multiaddr of more than {_MAX_BYTES} bytes")
    return Multiaddr(tuple(parts), encoded)


@lru_cache(maxsize=4096)
def _from_bytes(data: bytes) -> Multiaddr:
    if not data or len(data) > _MAX_BYTES:
        raise InvalidMultiaddr(f"multiaddr of {len(data)} bytes, from 1 to {_MAX_BYTES}")
    parts: list[tuple[str, str]] = []
    offset = 0
    try:
        while offset < len(data):
            code, offset = _varint(data, offset)
            part = _BY_CODE.get(code)
            if part is None:
                raise ValueError(f"unknown protocol code {code}")
            size = part.size
            if size == _PREFIXED:
                size, offset = _varint(data, offset)
            raw = data[offset : offset + size]
            if len(raw) != size:
                raise ValueError(f"{part.name} is cut short")
            parts.append((part.name, _value_to_text(part, raw)))
            offset += size
    except (ValueError, ProtocolError) as error:
        raise InvalidMultiaddr(f"not a multiaddr: {error}") from None
    return Multiaddr(tuple(parts), data)


def _varint(data: bytes, offset: int) -> tuple[int, int]:
    found = decode(data, offset)
    if found is None:
        raise ValueError("it is cut short")
    return found


def _value_to_bytes(part: _Part, value: str) -> bytes:
    match part.name:
        case "ip4":
            return ipaddress.IPv4Address(value).packed
        case "ip6":
            if "%" in value:
                raise ValueError("a zone goes before it, as /ip6zone/<zone>")
            return ipaddress.IPv6Address(value).packed
        case "tcp" | "udp":
            if not (value.isascii() and value.isdigit() and len(value) <= 5 and int(value) < 65536):
                raise ValueError(f"{value[:40]!r} is not a port from 0 to 65535")
            return int(value).to_bytes(2, "big")
        case "p2p":
            return bytes(PeerId.from_text(value))
        case _:
            return value.encode()


def _value_to_text(part: _Part, raw: bytes) -> str:
    match part.name:
        case "ip4":
            return str(ipaddress.IPv4Address(raw))
        case "ip6":
            address = ipaddress.IPv6Address(raw)
            # Written with dots as RFC 5952 recommends and go-multiaddr does; str() does so from Python 3.13 on only.
            return f"::ffff:{address.ipv4_mapped}" if address.ipv4_mapped else str(address)
        case "tcp" | "udp":
            return str(int.from_bytes(raw, "big"))
        case "p2p":
            try:
                return str(PeerId.from_bytes(raw))
            except InvalidPeerId as error:
                raise ValueError(str(error)) from None
        case _:
            if len(raw) > 255:
                raise ValueError(f"{part.name} with a name of {len(raw)} bytes, at most 255")
            text = raw.decode()
            if part.size and (not text or "/" in text or not text.isprintable()):
                raise ValueError(f"{part.name} with an unusable name")
            return text
