"""How much goes into one request of a call that takes batches: what the sidecar takes, as it says itself."""

from typing import NamedTuple, Self

MAX_REQUEST = 4_194_304  # bytes of a request, of a sidecar that does not say
_LEAST_REQUEST = 65_536  # that every sidecar takes
_BATCH_BYTES = 262_144
_BATCH_MESSAGES = 4096
_HEAD = 4096  # bytes left for what a request says beside its messages: a topic of 1024 bytes, a peer, a protocol
_EACH = 96  # bytes that a message takes beside its data, with a request id of 64 bytes


class Frames(NamedTuple):
    """Bounds of one request: bytes of data, messages, and bytes of a message that goes in one of its own."""

    size: int
    messages: int
    largest: int

    @classmethod
    def within(cls, max_request: int) -> Self:
        """For requests of at most so many bytes: three quarters of it are for data, one for what goes around it."""
        room = max(max_request - _HEAD, 1024)
        return cls(min(_BATCH_BYTES, room * 3 // 4), min(_BATCH_MESSAGES, max(room // 4 // _EACH, 1)), room - _EACH)


USUAL = Frames.within(MAX_REQUEST)
CAUTIOUS = USUAL._replace(size=Frames.within(_LEAST_REQUEST).size, messages=Frames.within(_LEAST_REQUEST).messages)
"""For a server that has not said anything yet: batches that every one takes, and what is larger by itself."""
