"""Private networks: everything on a connection is enciphered under a key that all members share (specs pnet, V1)."""

import struct
from typing import Any

from ..core.errors import Closed, HandshakeError, SidecarError, WrongPrivateNetwork
from ..core.override import override
from .layers import Buffers, Layer

NONCE_SIZE = 24
_HINT = "the remote probably is in another private network, or in none"
_GREETING = b"\x13/multistream/1.0.0\n"  # what every libp2p connection begins with, so what a right key must reveal
_SIGMA = struct.unpack("<4I", b"expand 32-byte k")
_MASK = 0xFFFFFFFF
# One double round of Salsa20 (its section 6 to 8): quarter rounds down the columns, then along the rows.
_QUARTERS = (
    *((0, 4, 8, 12), (5, 9, 13, 1), (10, 14, 2, 6), (15, 3, 7, 11)),
    *((0, 1, 2, 3), (5, 6, 7, 4), (10, 11, 8, 9), (15, 12, 13, 14)),
)


class PrivateLayer(Layer):
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

    @override
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

    @override
    def seal(self, buffers: Buffers) -> Buffers:
        return (self._sending.encrypt(b"".join(buffers)),)

    @override
    def output(self) -> list[bytes]:
        unsent, self._unsent = self._unsent, []
        return unsent

    @override
    def close(self) -> None:
        pass

    @override
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
