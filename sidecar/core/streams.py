"""Byte streams of the apps: what they ask of the node, and what the node tells them.

A byte stream is one libp2p stream whose protocol is spoken by an app. The node looks into nothing: bytes go through in
order, each direction ends by itself, and a reset ends both. What the node hands out counts as consumed only once the
app has taken it (`BytesConsumed`), so a slow app closes the window of its peer and of nobody else.

Streams have the numbers of `core.events`. An input for a stream that is gone is passed over: the app may not know yet.
"""

from .classes import NamedTuple
from .errors import SidecarError
from .types import PeerId

MAX_PROTOCOLS = 112  # that apps may speak at once: go-libp2p's peer store takes 128 of one peer, the node's included
MAX_PROTOCOL_BYTES = 4096  # of all of these together, told in identify messages of 4 KiB; a guess

# ---------------------------------------------------------------- inputs


class StreamRequested(NamedTuple):
    """Open a stream to a peer, connecting to it where needed, for the first of the protocols that it speaks.

    Answered by `OperationCompleted` with `StreamMade` or an error; after `OperationCancelled` nothing comes of it.
    """

    op: int
    peer: PeerId
    protocols: tuple[str, ...]


class ProtocolsAccepted(NamedTuple):
    """All protocols that apps answer from now on; peers are told.

    Raises InvalidArgument for one that the node speaks itself or that has the node's own prefixes, ResourceExhausted
    above the bounds on all of them; nothing is changed then.
    """

    protocols: tuple[str, ...]


class BytesWritten(NamedTuple):
    """An app sends bytes. They are kept whatever `WritableChanged` said: who goes on writing fills the memory."""

    stream: int
    data: bytes


class WriteEnded(NamedTuple):
    """An app ends its direction, behind what it wrote."""

    stream: int


class StreamAbandoned(NamedTuple):
    """An app gives the stream up: it is reset, unless it is done."""

    stream: int


class BytesConsumed(NamedTuple):
    """An app has taken bytes: the peer may send as many again."""

    stream: int
    size: int


AppInput = StreamRequested | ProtocolsAccepted | BytesWritten | WriteEnded | StreamAbandoned | BytesConsumed

# ---------------------------------------------------------------- effects


class StreamMade(NamedTuple):
    """The result of `StreamRequested`."""

    stream: int
    peer: PeerId
    protocol: str


class StreamArrived(NamedTuple):
    """A peer opened a stream of an accepted protocol."""

    stream: int
    peer: PeerId
    protocol: str


class BytesArrived(NamedTuple):
    """Bytes for the app. At most the stream's window of them is not consumed."""

    stream: int
    data: bytes


class ReadEnded(NamedTuple):
    """The peer will send no more."""

    stream: int


class WritableChanged(NamedTuple):
    """Whether the app should go on writing: not while more than `stream_buffer` bytes wait, again at half of that."""

    stream: int
    writable: bool


class StreamLost(NamedTuple):
    """The last news of a stream that ended out of order: StreamReset by the peer, Closed with the connection."""

    stream: int
    error: SidecarError


class StreamDone(NamedTuple):
    """The last news of a stream whose directions have both ended, and whose bytes have left."""

    stream: int


News = StreamArrived | BytesArrived | ReadEnded | WritableChanged | StreamLost | StreamDone
