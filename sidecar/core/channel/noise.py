"""Noise XX with X25519, ChaCha20-Poly1305 and SHA-256 (the Noise Protocol Framework, revision 34).

Names follow its sections 5.1 to 5.3. Nothing here knows of libp2p; `secure` puts that on top.
"""

import hmac
from hashlib import sha256
from struct import Struct

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from nacl.bindings import crypto_scalarmult, crypto_scalarmult_base
from nacl.exceptions import CryptoError

from ..errors import HandshakeError, ProtocolError

PROTOCOL_NAME = b"Noise_XX_25519_ChaChaPoly_SHA256"  # 32 bytes: it is its own initial hash
MAX_MESSAGE = 65535
TAG = 16
_KEY = 32
_MAX_NONCE = 2**64 - 1  # reserved (section 5.1)
_PATTERN = (("e",), ("e", "ee", "s", "es"), ("s", "se"))
_nonce = Struct("<4xQ").pack  # section 12.3: 32 zero bits, then the counter in little-endian


class CipherState:
    """A key and the counter of messages under it."""

    __slots__ = ("_aead", "_count")

    def __init__(self, key: bytes) -> None:
        self._aead = ChaCha20Poly1305(key)
        self._count = 0

    def encrypt(self, plaintext: bytes, associated: bytes | None = None) -> bytes:
        """Raises ProtocolError when the key has served for 2**64 - 1 messages."""
        count = self._count
        if count >= _MAX_NONCE:
            raise ProtocolError("the encryption key is used up")
        self._count = count + 1
        return self._aead.encrypt(_nonce(count), plaintext, associated)

    def decrypt(self, ciphertext: bytes | memoryview, associated: bytes | None = None) -> bytes:
        """Raises ProtocolError when the bytes are not what the remote encrypted at this place."""
        count = self._count
        if count >= _MAX_NONCE:
            raise ProtocolError("the decryption key is used up")
        try:
            plaintext = self._aead.decrypt(_nonce(count), ciphertext, associated)
        except InvalidTag:
            raise ProtocolError(f"encrypted message {count} of {len(ciphertext)} bytes is not authentic") from None
        self._count = count + 1
        return plaintext


class KeyPair:
    """An X25519 key pair, from its 32 secret bytes."""

    __slots__ = ("_secret", "public")

    def __init__(self, secret: bytes) -> None:
        # libsodium: 14 us for the public key and 31 for an exchange. `cryptography` exchanges in 28, but needs 21 to
        # load a secret, and a handshake uses one key once and the other twice.
        self._secret = secret
        self.public: bytes = crypto_scalarmult_base(secret)

    def exchange(self, public: bytes) -> bytes:
        """Raises HandshakeError for a public key that makes every secret zero."""
        try:
            return crypto_scalarmult(self._secret, public)
        except CryptoError:
            raise HandshakeError("the remote sent a public key of low order") from None


class XXHandshake:
    """The three messages of the pattern XX: e / e, ee, s, es / s, se.

    Call `write_message` and `read_message` in turns, the initiator writing first, until `finished`; then `split`.
    """

    __slots__ = ("_chaining_key", "_cipher", "_ephemeral", "_initiator", "_remote", "_static", "_step", "hash")

    def __init__(self, *, initiator: bool, static: KeyPair, ephemeral: KeyPair, prologue: bytes = b"") -> None:
        self._initiator = initiator
        self._static, self._ephemeral = static, ephemeral
        self._remote = {"e": b"", "s": b""}
        self._step = 0
        self._cipher: CipherState | None = None
        self._chaining_key = self.hash = PROTOCOL_NAME
        self._mix_hash(prologue)

    @property
    def finished(self) -> bool:
        """Whether all three messages were written and read, so that `split` may be called."""
        return self._step == len(_PATTERN)

    @property
    def remote_static(self) -> bytes:
        """The remote's static public key, once it is read."""
        return self._remote["s"]

    def write_message(self, payload: bytes) -> bytes:
        """The next message, with a payload that is enciphered as soon as there is a key (section 5.3, WriteMessage)."""
        message = b""
        for token in self._next_tokens():
            if token == "e":
                message += self._ephemeral.public
                self._mix_hash(self._ephemeral.public)
            elif token == "s":
                message += self._encrypt(self._static.public)
            else:
                self._mix_exchange(token)
        return message + self._encrypt(payload)

    def read_message(self, message: bytes) -> bytes:
        """The payload. Raises HandshakeError."""
        offset = 0
        for token in self._next_tokens():
            if token in self._remote:
                size = _KEY + (TAG if self._cipher and token == "s" else 0)
                field = message[offset : offset + size]
                if len(field) < size:
                    raise HandshakeError(f"handshake message {self._step} of {len(message)} bytes is cut short")
                offset += size
                if token == "e":
                    self._mix_hash(field)
                    self._remote["e"] = field
                else:
                    self._remote["s"] = self._decrypt(field)
            else:
                self._mix_exchange(token)
        return self._decrypt(message[offset:])

    def split(self) -> tuple[CipherState, CipherState]:
        """The ciphers for sending and receiving (section 5.2, Split)."""
        first, second = _hkdf(self._chaining_key, b"")
        send, receive = (first, second) if self._initiator else (second, first)
        return CipherState(send), CipherState(receive)

    def _next_tokens(self) -> tuple[str, ...]:
        self._step += 1
        return _PATTERN[self._step - 1]

    def _mix_exchange(self, token: str) -> None:
        """The initiator's key is named first: in "es" its ephemeral meets the responder's static."""
        mine, theirs = (token[0], token[1]) if self._initiator else (token[1], token[0])
        pair = self._ephemeral if mine == "e" else self._static
        self._chaining_key, key = _hkdf(self._chaining_key, pair.exchange(self._remote[theirs]))
        self._cipher = CipherState(key)

    def _mix_hash(self, data: bytes) -> None:
        self.hash = sha256(self.hash + data).digest()

    def _encrypt(self, plaintext: bytes) -> bytes:
        ciphertext = self._cipher.encrypt(plaintext, self.hash) if self._cipher else plaintext
        self._mix_hash(ciphertext)
        return ciphertext

    def _decrypt(self, ciphertext: bytes) -> bytes:
        try:
            plaintext = self._cipher.decrypt(ciphertext, self.hash) if self._cipher else ciphertext
        except ProtocolError as error:
            raise HandshakeError(f"handshake message {self._step}: {error}") from None
        self._mix_hash(ciphertext)
        return plaintext


def _hkdf(chaining_key: bytes, material: bytes) -> tuple[bytes, bytes]:
    """HKDF with two outputs (section 4.3)."""
    secret = hmac.digest(chaining_key, material, "sha256")
    first = hmac.digest(secret, b"\x01", "sha256")
    return first, hmac.digest(secret, first + b"\x02", "sha256")
