"""Private networks: everything on a connection is enciphered under a key that all members share (specs pnet, V1)."""

import binascii
import logging
import os
import stat
import struct
from pathlib import Path
from typing import Any

from ..core.errors import Closed, ConfigError, HandshakeError, SidecarError, WrongPrivateNetwork
from .layers import Buffers
from .state import write_once

log = logging.getLogger(__name__)

KEY_SIZE = 32
NONCE_SIZE = 24
_MAX_FILE = 1024  # bytes; a key in base16 has 95
_HEADER = b"/key/swarm/psk/1.0.0/"
_HINT = "the remote probably is in another private network, or in none"
_GREETING = b"\x13/multistream/1.0.0\n"  # what every libp2p connection begins with, so what a right key must reveal
_SIGMA = struct.unpack("<4I", b"expand 32-byte k")
_MASK = 0xFFFFFFFF
# One double round of Salsa20 (its section 6 to 8): quarter rounds down the columns, then along the rows.
_QUARTERS = (
    *((0, 4, 8, 12), (5, 9, 13, 1), (10, 14, 2, 6), (15, 3, 7, 11)),
    *((0, 1, 2, 3), (5, 6, 7, 4), (10, 11, 8, 9), (15, 12, 13, 14)),
)


class PrivateLayer:
    """Our 24-byte nonce, then our bytes under it; theirs likewise.

    The cipher authenticates nothing. That the keys are the same shows in the first bytes, which are the same on each
    libp2p connection.
    """

    ended = False
    failure: SidecarError | None = None

    def __init__(self, psk: bytes, nonce: bytes) -> None:
        """`psk`: 32 bytes; `nonce`: 24 random bytes for this connection alone."""
        self.ready = True  # we need not know their nonce to send
        self._psk = psk
        self._sending = xsalsa20(psk, nonce)
        self._receiving: Any = None
        self._unsent = [nonce]
        self._nonce = b""  # of theirs, as far as it has come
        self._expected = _GREETING

    def feed(self, data: bytes) -> bytes:
        """Raises WrongPrivateNetwork."""
        if self._receiving is None:
            missing = NONCE_SIZE - len(self._nonce)
            self._nonce += data[:missing]
            data = data[missing:]
            if self._nonce.startswith(_GREETING):
                raise WrongPrivateNetwork("the remote speaks without a key: it is in no private network")
            if len(self._nonce) < NONCE_SIZE:
                return b""
            self._receiving = xsalsa20(self._psk, self._nonce)
        plain: bytes = self._receiving.decrypt(data)
        if self._expected:
            seen = plain[: len(self._expected)]
            if not self._expected.startswith(seen):
                raise WrongPrivateNetwork(f"{_HINT}: what it sends makes no sense under our key")
            self._expected = self._expected[len(seen) :]
        return plain

    def seal(self, buffers: Buffers) -> Buffers:
        return (self._sending.encrypt(b"".join(buffers)),)

    def output(self) -> list[bytes]:
        unsent, self._unsent = self._unsent, []
        return unsent

    def close(self) -> None:
        pass

    def explain(self, error: SidecarError | None) -> SidecarError | None:
        if self._expected and isinstance(error, HandshakeError | Closed) and type(error) in (HandshakeError, Closed):
            return WrongPrivateNetwork(f"{_HINT}: {error}")
        return error


def xsalsa20(key: bytes, nonce: bytes) -> Any:
    """The XSalsa20 stream of a 32-byte key and a 24-byte nonce, with `encrypt` and `decrypt`."""
    from Crypto.Cipher import Salsa20  # only where a private network is configured: it costs start time and memory

    return Salsa20.new(key=hsalsa20(key, nonce[:16]), nonce=nonce[16:NONCE_SIZE])


def hsalsa20(key: bytes, prefix: bytes) -> bytes:
    """The subkey of a 32-byte key and the first 16 bytes of a nonce (Bernstein, Extending the Salsa20 nonce)."""
    k, n = struct.unpack("<8I", key), struct.unpack("<4I", prefix)
    x = [_SIGMA[0], *k[:4], _SIGMA[1], *n, _SIGMA[2], *k[4:], _SIGMA[3]]
    for _ in range(10):
        for a, b, c, d in _QUARTERS:
            x[b] ^= _rotated(x[a] + x[d], 7)
            x[c] ^= _rotated(x[b] + x[a], 9)
            x[d] ^= _rotated(x[c] + x[b], 13)
            x[a] ^= _rotated(x[d] + x[c], 18)
    return struct.pack("<8I", x[0], x[5], x[10], x[15], *x[6:10])


def _rotated(value: int, bits: int) -> int:
    value &= _MASK
    return (value << bits & _MASK) | value >> (32 - bits)


# ---------------------------------------------------------------- the key's file


def load_psk(path: Path) -> bytes:
    """The key in a `swarm.key` file. Raises ConfigError; a file open to more than its group's reading is warned of."""
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            content = file.read(_MAX_FILE + 1)
    except OSError as error:
        raise ConfigError(f"network.psk_file: {path} cannot be read: {error.strerror or error}") from None
    if mode & (stat.S_IWGRP | stat.S_IXGRP | stat.S_IRWXO):  # a Kubernetes Secret is read through its group
        log.warning("the private network's key %s is open to others; run: chmod 600 %s", path, path)
    try:
        return parse_psk(content)
    except ValueError as error:
        raise ConfigError(f"network.psk_file: {path} is no key of a private network: {error}") from None


def parse_psk(content: bytes) -> bytes:
    """The 32 bytes in the content of a `swarm.key` file. Raises ValueError."""
    if len(content) > _MAX_FILE:
        raise ValueError(f"it has more than {_MAX_FILE} bytes")
    header, _, rest = content.partition(b"\n")
    encoding, _, encoded = rest.partition(b"\n")
    if header.strip() != _HEADER:
        raise ValueError(f"its first line is not {_HEADER.decode()}")
    match encoding.strip():
        case b"/base16/":
            key = _decoded(binascii.unhexlify, encoded, "base16")
        case b"/base64/":
            key = _decoded(lambda text: binascii.a2b_base64(text, strict_mode=True), encoded, "base64")
        case b"/bin/":
            key = encoded
        case _:
            raise ValueError("its second line is not /base16/, /base64/ or /bin/")
    if len(key) != KEY_SIZE:
        raise ValueError(f"the key has {len(key)} bytes, not {KEY_SIZE}")
    return key


def _decoded(decode: Any, encoded: bytes, name: str) -> bytes:
    try:
        return bytes(decode(encoded.strip()))
    except binascii.Error as error:
        raise ValueError(f"its third line is not {name}: {error}") from None


def create_psk(path: Path) -> None:
    """Make a file with a new key, mode 0600; one that is there is never replaced. Raises StorageError."""
    content = b"%s\n/base16/\n%s\n" % (_HEADER, os.urandom(KEY_SIZE).hex().encode())
    write_once(path, content, "private network's key")
