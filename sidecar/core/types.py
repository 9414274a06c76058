"""The small values that every part shares: peer ids, directions, endpoints."""

import base64
import enum
import hashlib
from functools import lru_cache

from .classes import NamedTuple
from .errors import InvalidPeerId, ProtocolError
from .varint import decode, encode

_BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_BASE58_INDEX = {character: value for value, character in enumerate(_BASE58)}
_IDENTITY, _SHA2_256 = 0x00, 0x12
_LIBP2P_KEY = 0x72
_MAX_INLINED_KEY = 42  # specs peer-ids: longer keys are hashed


class Direction(enum.Enum):
    """Who opened a connection or stream."""

    INBOUND = "inbound"
    OUTBOUND = "outbound"


def base58_encode(data: bytes) -> str:
    """Encode in base58btc."""
    zeros = len(data) - len(data.lstrip(b"\0"))
    number = int.from_bytes(data, "big")
    digits = []
    while number:
        number, digit = divmod(number, 58)
        digits.append(_BASE58[digit])
    return "1" * zeros + "".join(reversed(digits))


def base58_decode(text: str) -> bytes:
    """Decode base58btc; raises ValueError on any other character."""
    number = 0
    for character in text:
        try:
            number = number * 58 + _BASE58_INDEX[character]
        except KeyError:
            raise ValueError(f"{character!r} is not base58") from None
    zeros = len(text) - len(text.lstrip("1"))
    return bytes(zeros) + _to_bytes(number)


def _to_bytes(number: int) -> bytes:
    return number.to_bytes((number.bit_length() + 7) // 8, "big")


class PeerId(bytes):
    """A peer id: the multihash of a public key (specs peer-ids). `str()` gives the base58 text.

    A subclass of bytes, so that it hashes, compares and goes onto the wire at no cost. Construct it through
    `from_public_key`, `from_text` or `from_bytes`, which check; the bare constructor does not.
    """

    __slots__ = ()

    @classmethod
    def from_public_key(cls, encoded: bytes) -> "PeerId":
        """The id of a public key given in its protobuf encoding."""
        if len(encoded) <= _MAX_INLINED_KEY:
            return cls(bytes((_IDENTITY, len(encoded))) + encoded)
        return cls(bytes((_SHA2_256, 32)) + hashlib.sha256(encoded).digest())

    @classmethod
    def from_bytes(cls, data: bytes) -> "PeerId":
        """Check a multihash as it comes from the wire; raises InvalidPeerId."""
        try:
            code = decode(data)
            length = decode(data, code[1]) if code else None
        except ProtocolError as error:
            raise InvalidPeerId(f"peer id {bytes(data[:8]).hex()}...: {error}") from None
        if code is None or length is None:
            raise InvalidPeerId(f"peer id of {len(data)} bytes is cut short")
        digest = len(data) - length[1]
        if digest != length[0]:
            raise InvalidPeerId(f"peer id announces a digest of {length[0]} bytes and has {digest}")
        if code[0] == _SHA2_256 and digest == 32:
            return cls(data)
        if code[0] == _IDENTITY and 0 < digest <= _MAX_INLINED_KEY:
            return cls(data)
        raise InvalidPeerId(f"peer id with multihash code {code[0]:#x} and a digest of {digest} bytes")

    @classmethod
    def from_text(cls, text: str) -> "PeerId":
        """Parse either text form: base58 (`12D3Koo...`, `Qm...`) or CIDv1 (`bafz...`, `k51...`).

        Raises InvalidPeerId.
        """
        if not text:
            raise InvalidPeerId("the peer id is empty")
        if len(text) > 128:
            raise InvalidPeerId(f"peer id of {len(text)} characters, at most 128")
        try:
            if text.startswith(("Qm", "1")):
                return cls.from_bytes(base58_decode(text))
            if text[0] in "bB":
                body = text[1:].upper()
                cid = base64.b32decode(body + "=" * (-len(body) % 8))
            elif text[0] == "z":
                cid = base58_decode(text[1:])
            elif text[0] == "k" and text.isascii() and text.isalnum():
                cid = _to_bytes(int(text[1:] or "0", 36))
            else:
                raise ValueError("it starts with none of 1, Qm, b, k, z")
        except ValueError as error:
            raise InvalidPeerId(f"{text!r} is not a peer id: {error}") from None
        prefix = encode(1) + encode(_LIBP2P_KEY)
        if not cid.startswith(prefix):
            raise InvalidPeerId(f"{text!r} is a CID, but not one of version 1 with codec libp2p-key")
        return cls.from_bytes(cid[len(prefix) :])

    def cid(self) -> str:
        """The CIDv1 text form, multibase base32."""
        cid = encode(1) + encode(_LIBP2P_KEY) + bytes(self)
        return "b" + base64.b32encode(cid).decode().rstrip("=").lower()

    @property
    def inlined_key(self) -> bytes | None:
        """The public key's protobuf encoding where the id contains it (Ed25519, secp256k1), else None."""
        return bytes(self[2:]) if self[0] == _IDENTITY else None

    def short(self) -> str:
        """The last eight characters of the text form, for logs."""
        return str(self)[-8:]

    def __str__(self) -> str:
        return _text(self)

    def __repr__(self) -> str:
        return f"PeerId({_text(self)})"


@lru_cache(maxsize=4096)
def _text(peer: bytes) -> str:
    return base58_encode(bytes(peer))


class KnownEndpoint(NamedTuple):
    """What is worth keeping of an endpoint over a restart. No time is in it: clocks are not to be trusted over one."""

    host: str
    port: int
    suffix: str  # what is spoken there, as in `Endpoint`
    holder: PeerId | None  # who answered there last
    failures: int  # in a row, whoever was expected
