"""What goes into the node machine and what comes out of it.

Inputs are past tense: what the driver saw happen, or what an app asked for. Effects are imperatives for the driver, or
news for the apps. A driver is anything that carries them out: sockets (`sidecar.net`) or virtual time (`sidecar.sim`).

The driver's duties
1. One call of `Node.handle(input, now)` at a time; carry out the effects it returns, in order, before the next one.
2. One timer: call `Node.handle_deadline(now)` when `Node.next_deadline()` is due. Look at it again after every
   `handle`, `handle_deadline` and `take`.
3. After `Wake(stream)`: call `Node.take(stream, limit)` while the transport and the stream's window accept bytes, until
   it returns nothing.
4. After `OpenStream`: exactly one of `StreamOpened` or `StreamFailed` with its token, unless the connection ends first.
5. After `Dial`: exactly one of `ConnectionOpened` with its `dial` number or `DialFailed`.
6. `ConnectionOpened` once and `ConnectionClosed` once a connection; its streams end with it, unsaid.
7. Numbers of connections, streams and tokens are never used again.
"""

from collections.abc import Sequence
from typing import NamedTuple

from .errors import SidecarError
from .identity import PublicKey
from .multiaddr import Multiaddr
from .types import Direction, PeerId

# A stream's number is unique in the node: connection << 32 | number of the stream in its connection.
STREAM_BITS = 32

# ---------------------------------------------------------------- inputs from the transport


class AddressesChanged(NamedTuple):
    """Where this node listens, and what it announces instead when that is not reachable from outside."""

    listening: tuple[Multiaddr, ...]
    announced: tuple[Multiaddr, ...]


class ConnectionOpened(NamedTuple):
    """A connection is secured and muxed. `dial` is the number of the `Dial` that asked for it, else None."""

    connection: int
    peer: PeerId
    public_key: PublicKey
    direction: Direction
    remote: Multiaddr
    local: Multiaddr
    dial: int | None = None


class ConnectionClosed(NamedTuple):
    """A connection ended; `error` is None when either side closed it in order."""

    connection: int
    error: SidecarError | None


class DialFailed(NamedTuple):
    """No address of a `Dial` led to a connection."""

    dial: int
    error: SidecarError


class StreamOpened(NamedTuple):
    """A stream is negotiated. `token` is that of our `OpenStream`, None for the remote's streams."""

    stream: int
    protocol: str
    token: int | None


class StreamFailed(NamedTuple):
    """The stream asked for with `token` could not be opened or negotiated."""

    token: int
    error: SidecarError


class StreamsReceived(NamedTuple):
    """All that one read of a connection brought, in order: (stream, bytes) pairs."""

    connection: int
    chunks: Sequence[tuple[int, bytes]]


class StreamEnded(NamedTuple):
    """The remote will write no more on this stream."""

    stream: int


class StreamReset(NamedTuple):
    """The stream is gone in both directions."""

    stream: int


# ---------------------------------------------------------------- effects on the transport


class Dial(NamedTuple):
    """Connect to the peer at one of its addresses; `peer` is None where only the address is known."""

    dial: int
    peer: PeerId | None
    addresses: tuple[Multiaddr, ...]


class OpenStream(NamedTuple):
    """Open a stream and negotiate the first of `protocols` that the remote speaks."""

    connection: int
    token: int
    protocols: tuple[str, ...]


class Wake(NamedTuple):
    """`Node.take(stream, ...)` has bytes."""

    stream: int


class CloseWrite(NamedTuple):
    """End our direction of the stream once `take` returns nothing."""

    stream: int


class ResetStream(NamedTuple):
    """End the stream at once, both directions."""

    stream: int


class CloseConnection(NamedTuple):
    """End the connection: in order, or for the error named."""

    connection: int
    error: SidecarError | None
