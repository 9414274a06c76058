"""Who a node is: its key pair, its peer id, and the checking of everybody else's signatures."""

import enum
from collections.abc import Callable

from nacl.bindings import crypto_sign, crypto_sign_open, crypto_sign_seed_keypair
from nacl.exceptions import BadSignatureError

from .classes import NamedTuple
from .errors import IdentityError, ProtocolError
from .keys import Check, load_ecdsa, load_rsa, load_secp256k1, verify_with
from .types import PeerId
from .varint import decode, encode

_SIGNATURE = 64
_ED25519_KEY = 32


class KeyType(enum.IntEnum):
    """Key types as specs peer-ids numbers them."""

    RSA = 0
    ED25519 = 1
    SECP256K1 = 2
    ECDSA = 3


_LOADERS: dict[KeyType, Callable[[bytes], Check]] = {
    KeyType.RSA: load_rsa,
    KeyType.SECP256K1: load_secp256k1,
    KeyType.ECDSA: load_ecdsa,
}


class PublicKey(NamedTuple):
    """A public key: its type and the data of that type's encoding (Ed25519: 32 bytes; see `keys` for the others)."""

    type: KeyType
    data: bytes

    @classmethod
    def from_bytes(cls, encoded: bytes) -> "PublicKey":
        """Parse the protobuf encoding of specs peer-ids, and check the key in it. Raises ProtocolError."""
        key_type, data = _decode_key(encoded, "public key")
        if key_type is not KeyType.ED25519:
            _LOADERS[key_type](data)
        elif len(data) != _ED25519_KEY:
            raise ProtocolError(f"an Ed25519 public key has {_ED25519_KEY} bytes, not {len(data)}")
        return cls(key_type, data)

    def to_bytes(self) -> bytes:
        """The deterministic protobuf encoding, from which the peer id is made."""
        return _encode_key(self.type, self.data)

    def peer_id(self) -> PeerId:
        """The peer id that belongs to the key (specs peer-ids)."""
        return PeerId.from_public_key(self.to_bytes())

    def verify(self, message: bytes, signature: bytes) -> bool:
        """Whether `signature` over `message` was made with this key.

        Raises ProtocolError where the data is no key of the type, which `from_bytes` has ruled out.
        """
        if self.type is KeyType.ED25519:
            return verify_ed25519(self.data, message, signature)
        return verify_with(_LOADERS[self.type], self.data, message, signature)


def verify_ed25519(key: bytes, message: bytes, signature: bytes) -> bool:
    """Check an Ed25519 signature with the raw 32-byte key; no exception, whatever the bytes."""
    if len(signature) != _SIGNATURE or len(key) != _ED25519_KEY:
        return False
    try:
        crypto_sign_open(signature + message, key)
    except BadSignatureError:
        return False
    return True


class Identity:
    """An Ed25519 key pair and the peer id that it makes."""

    __slots__ = ("_secret", "peer_id", "public_key")

    def __init__(self, seed: bytes) -> None:
        """`seed`: the 32 secret bytes of RFC 8032. Raises IdentityError when they are not 32."""
        if len(seed) != 32:
            raise IdentityError(f"an Ed25519 seed has 32 bytes, not {len(seed)}")
        public, self._secret = crypto_sign_seed_keypair(seed)
        self.public_key = PublicKey(KeyType.ED25519, public)
        self.peer_id = self.public_key.peer_id()

    @classmethod
    def from_bytes(cls, encoded: bytes) -> "Identity":
        """Parse a private key's protobuf encoding (specs peer-ids). Raises IdentityError."""
        try:
            key_type, data = _decode_key(encoded, "private key")
        except ProtocolError as error:
            raise IdentityError(str(error)) from None
        if key_type is not KeyType.ED25519:
            raise IdentityError(f"private keys of type {key_type.name} cannot be used; make an Ed25519 key")
        if len(data) not in (64, 96):  # 96: an old form that repeats the public key
            raise IdentityError(f"an Ed25519 private key has 64 bytes, not {len(data)}")
        identity = cls(data[:32])
        if data[32:64] != identity.public_key.data or data[64:] not in (b"", data[32:64]):
            raise IdentityError("the private key does not belong to the public key beside it")
        return identity

    def to_bytes(self) -> bytes:
        """The private key in the protobuf encoding that go-, js- and rust-libp2p read."""
        return _encode_key(KeyType.ED25519, self._secret)

    def sign(self, message: bytes) -> bytes:
        """The 64-byte signature over `message`."""
        return crypto_sign(message, self._secret)[:_SIGNATURE]


def _encode_key(key_type: KeyType, data: bytes) -> bytes:
    return b"\x08" + encode(key_type) + b"\x12" + encode(len(data)) + data


def _decode_key(encoded: bytes, what: str) -> tuple[KeyType, bytes]:
    """Both fields are required and the encoding is deterministic, so that a plain walk reads it."""
    key_type = decode(encoded, 1) if encoded[:1] == b"\x08" else None
    if key_type is None or encoded[key_type[1] : key_type[1] + 1] != b"\x12":
        raise ProtocolError(f"{what} of {len(encoded)} bytes is not a type followed by data")
    length = decode(encoded, key_type[1] + 1)
    if length is None or len(encoded) - length[1] != length[0]:
        raise ProtocolError(f"{what} of {len(encoded)} bytes is cut short or has more behind it")
    try:
        return KeyType(key_type[0]), bytes(encoded[length[1] :])
    except ValueError:
        raise ProtocolError(f"{what} of unknown type {key_type[0]}") from None
