"""Ping: 32 random bytes and their echo (libp2p specs, ping)."""

import random

from .errors import ProtocolError

PING = "/ipfs/ping/1.0.0"
_PAYLOAD = 32
MAX_UNSENT = 32 * _PAYLOAD  # a guess: a caller keeps one ping under way, so that this is 31 too many


class Pinger:
    """The asking side of one ping stream; one ping is under way at a time."""

    __slots__ = ("_expected", "_received", "_rng", "_sent_at")

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._expected = b""
        self._received = b""
        self._sent_at = 0.0

    @property
    def waiting(self) -> bool:
        """Whether an echo is outstanding."""
        return bool(self._expected)

    def start(self, now: float) -> bytes:
        """The bytes to send for a new ping. Misuse while one is under way raises RuntimeError."""
        if self._expected:
            raise RuntimeError("a ping is under way on this stream")
        self._expected = self._rng.randbytes(_PAYLOAD)
        self._received = b""
        self._sent_at = now
        return self._expected

    def receive(self, data: bytes, now: float) -> float | None:
        """The round-trip time in seconds once the echo is whole, else None. Raises ProtocolError on any other bytes."""
        received = self._received + data[: _PAYLOAD + 1]
        if not self._expected.startswith(received):
            raise ProtocolError("ping answered with other bytes than were sent")
        if len(received) < _PAYLOAD:
            self._received = received
            return None
        self._expected = self._received = b""
        return now - self._sent_at


class PingResponder:
    """The answering side of one ping stream: echoes whole payloads, as many as come."""

    __slots__ = ("_partial",)

    def __init__(self) -> None:
        self._partial = b""

    def receive(self, data: bytes, unsent: int = 0) -> bytes:
        """The bytes to send back, which may be none yet.

        `unsent`: bytes of earlier echoes that the stream has not taken. Raises ProtocolError when the remote
        sends far faster than it reads.
        """
        held = self._partial + data
        whole = len(held) - len(held) % _PAYLOAD
        if unsent + whole > MAX_UNSENT:
            raise ProtocolError(f"{unsent + whole} bytes of pings unanswered, at most {MAX_UNSENT}")
        self._partial = held[whole:]
        return held[:whole]
