"""The bounds of one connection."""

from ..classes import dataclass
from ..errors import InvalidArgument

INITIAL_WINDOW = 256 * 1024  # specs yamux, "Flow Control": both sides start every stream with it
MAX_WINDOW = 2**32 - 1  # the length field of a frame


@dataclass(frozen=True, slots=True)
class ChannelLimits:
    """What one connection may take in time and memory. Times in seconds, sizes in bytes.

    Raises InvalidArgument when a value makes no sense.
    """

    handshake_timeout: float = 10.0
    """From the start to a muxed connection. A guess: three round trips and some 200 us of work."""
    negotiation_timeout: float = 10.0
    """For the protocol of one stream, either direction. A guess."""
    max_streams: int = 1024
    """Streams at once, both directions together. A guess; go-libp2p's yamux takes as many inbound ones."""
    max_unacknowledged: int = 256
    """Streams opened by us that the remote has not answered (specs yamux, "ACK backlog & backpressure")."""
    max_inbound_negotiating: int = 1024
    """Streams of the remote without a protocol yet; each costs some 500 bytes. As many as `max_streams`: go-libp2p
    opens streams without waiting for answers, and 256 (specs yamux's unacknowledged ones) reset half of 500 at once."""
    max_failed_negotiations: int = 1024
    """Streams of the remote that may come to nothing (reset, refused or forgotten before they have a protocol) within
    ten seconds; more of them end the connection. A guess: as many as `max_streams`, and each costs some 20 us."""
    receive_window: int = 1024 * 1024
    """Unacknowledged bytes that the remote may have on one stream; 256 KiB of it are the specification's. It takes
    throughput to 10 MB/s at a round trip of 100 ms."""
    max_buffered: int = 16 * 1024 * 1024
    """Unacknowledged bytes on the whole connection, and the sum of windows granted above 256 KiB. The stream that
    exceeds it is reset. A guess: 16 streams that fill their windows."""
    max_control: int = 256 * 1024
    """Answers (window updates, pongs, resets, negotiation) waiting for the transport. A peer that asks but never reads
    loses the connection. A guess: every one of 1024 streams may have 256 bytes of them."""
    keep_alive_interval: float = 30.0
    """Silence after which the remote is pinged. hashicorp's yamux, and go-libp2p's, take 30 s."""
    keep_alive_timeout: float = 10.0
    """Silence after that ping which ends the connection. hashicorp's yamux allows a write 10 s."""

    def __post_init__(self) -> None:
        for name in self.__dataclass_fields__:
            if getattr(self, name) <= 0:
                raise InvalidArgument(f"{name} is {getattr(self, name)} and must be more than 0")
        if not INITIAL_WINDOW <= self.receive_window <= MAX_WINDOW:
            raise InvalidArgument(f"receive_window is {self.receive_window}, not {INITIAL_WINDOW} to {MAX_WINDOW}")
        if self.max_buffered < self.receive_window:
            raise InvalidArgument(f"max_buffered is {self.max_buffered}, less than one window ({self.receive_window})")
