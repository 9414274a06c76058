"""noise-libp2p: the Noise handshake that proves a peer id, and the frames on the wire (specs noise)."""

import hmac

from ..errors import FrameTooLarge, HandshakeError, InvalidArgument, ProtocolError, SimultaneousOpen, WrongPeer
from ..identity import Identity, PublicKey
from ..types import PeerId
from .messages import HandshakePayload, decode_payload, encode_payload
from .noise import MAX_MESSAGE, TAG, CipherState, KeyPair, XXHandshake

PROTOCOL = "/noise"
MAX_PLAINTEXT = MAX_MESSAGE - TAG
MAX_HANDSHAKE_MESSAGE = 8192  # a guess: an RSA-8192 identity makes 2.2 KiB
_SIGNED_PREFIX = b"noise-libp2p-static-key:"
_ENTROPY = 32
_OPENING = 32  # bytes of an initiator's first message, an ephemeral key alone; an answer to it has 96 at least
_NOTHING = memoryview(b"")

Buffer = bytes | bytearray | memoryview


def frame(message: bytes) -> bytes:
    """A message behind its length in two bytes (specs noise, "Wire Format")."""
    return len(message).to_bytes(2, "big") + message


class FrameReader:
    """Cuts the wire into Noise messages. Holds at most one that is unfinished.

    `limit` is the largest message taken, in bytes.
    """

    __slots__ = ("_data", "_held", "_offset", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._held = bytearray()  # the start of a message that is not complete
        self._data = _NOTHING
        self._offset = 0

    def feed(self, data: Buffer) -> None:
        """Call `next_frame` afterwards until it gives None; `data` is free again then."""
        self._data, self._offset = memoryview(data), 0

    def next_frame(self) -> memoryview | None:
        """A whole message, valid until the next call. Raises FrameTooLarge."""
        data, offset = self._data, self._offset
        if self._held:
            return self._complete_held()
        start = offset + 2
        if start <= len(data):
            end = start + self._length(data[offset], data[offset + 1])
            if end <= len(data):
                self._offset = end
                return data[start:end]
        self._held += data[offset:]
        self._release()
        return None

    def _complete_held(self) -> memoryview | None:
        """Take only what the unfinished message lacks: all behind it is cut without being copied."""
        held = self._held
        if len(held) < 2:
            self._take(2 - len(held))
        if len(held) < 2:
            self._release()
            return None
        missing = 2 + self._length(held[0], held[1]) - len(held)
        if self._take(missing) < missing:
            self._release()
            return None
        self._held = bytearray()
        return memoryview(held)[2:]

    def _take(self, size: int) -> int:
        piece = self._data[self._offset : self._offset + size]
        self._held += piece
        self._offset += len(piece)
        return len(piece)

    def _release(self) -> None:
        """An idle connection must not keep the last read alive."""
        self._data, self._offset = _NOTHING, 0

    def _length(self, high: int, low: int) -> int:
        length = high << 8 | low
        if length > self.limit:
            raise FrameTooLarge(f"encrypted message of {length} bytes, at most {self.limit}")
        return length

    def clear(self) -> None:
        """Forget everything held."""
        self._held.clear()
        self._release()

    @property
    def unfinished(self) -> bool:
        """Whether the remote is in the middle of a message."""
        return bool(self._held)


class SecureHandshake:
    """One side of the handshake: messages in, messages out, at the end two ciphers and a proven peer.

    The attributes `public_key`, `peer_id` and `muxers` (the remote's, may be empty) are set once the remote's payload
    is verified.
    """

    __slots__ = (
        "_expected",
        "_identity",
        "_initiator",
        "_noise",
        "_ours",
        "_static",
        "muxers",
        "peer_id",
        "public_key",
    )

    def __init__(
        self, identity: Identity, *, initiator: bool, expected: PeerId | None, muxers: tuple[str, ...], entropy: bytes
    ) -> None:
        """Make the keys. Raises InvalidArgument where `entropy` is not of 32 bytes.

        `entropy`: random bytes for this connection only. Both key pairs come of them: the specification allows a static
        key for each session ("Static Key Authentication"), and then no key outlives its connection.
        """
        if len(entropy) != _ENTROPY:
            raise InvalidArgument(f"a handshake needs {_ENTROPY} bytes of entropy, not {len(entropy)}")
        self._identity, self._expected, self._ours = identity, expected, muxers
        self._initiator = initiator
        self._static = KeyPair(hmac.digest(entropy, b"static", "sha256"))
        ephemeral = KeyPair(hmac.digest(entropy, b"ephemeral", "sha256"))
        self._noise = XXHandshake(initiator=initiator, static=self._static, ephemeral=ephemeral)
        self.peer_id: PeerId | None = None
        self.public_key: PublicKey | None = None
        self.muxers: tuple[str, ...] = ()

    def start(self) -> bytes:
        """The initiator's first message. Its payload is empty: nothing protects it yet."""
        return self._noise.write_message(b"")

    def receive(self, message: bytes) -> bytes:
        """Take the remote's next message and give the answer, empty when there is none.

        Raises HandshakeError, WrongPeer, and SimultaneousOpen where the remote begins as well.
        """
        if self._initiator and len(message) == _OPENING:
            raise SimultaneousOpen("both sides opened the connection at one moment: each began the handshake")
        payload = self._noise.read_message(message)
        if self._noise.remote_static:
            self._verify(decode_payload(payload))
        return b"" if self.finished else self._noise.write_message(self._payload())

    @property
    def finished(self) -> bool:
        """Whether both sides are proven, so that `split` may be called."""
        return self._noise.finished

    def split(self) -> tuple[CipherState, CipherState]:
        """The ciphers for sending and receiving."""
        return self._noise.split()

    def _payload(self) -> bytes:
        signature = self._identity.sign(_SIGNED_PREFIX + self._static.public)
        return encode_payload(HandshakePayload(self._identity.public_key.to_bytes(), signature, self._ours))

    def _verify(self, payload: HandshakePayload) -> None:
        try:
            key = PublicKey.from_bytes(payload.identity_key)
        except ProtocolError as error:
            raise HandshakeError(f"handshake: {error}") from None
        if not key.verify(_SIGNED_PREFIX + self._noise.remote_static, payload.identity_sig):
            raise HandshakeError("the remote's identity key did not sign the key it shakes hands with")
        peer = key.peer_id()
        if self._expected is not None and peer != self._expected:
            raise WrongPeer(f"{peer} answered where {self._expected} was dialled", answered=peer)
        self.public_key, self.peer_id, self.muxers = key, peer, tuple(payload.stream_muxers)
