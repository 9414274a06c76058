"""What a channel tells its driver."""

from collections.abc import Callable
from typing import TypeAlias

from ..classes import NamedTuple
from ..errors import SidecarError
from ..identity import PublicKey
from ..types import PeerId


class Secured(NamedTuple):
    """The handshake is done: the remote has proved that it is `peer_id`."""

    peer_id: PeerId
    public_key: PublicKey


class Ready(NamedTuple):
    """Streams may be opened. `early`: the muxer was agreed on inside the handshake, one round trip sooner."""

    muxer: str
    early: bool


class StreamNegotiated(NamedTuple):
    """Both sides agree on the stream's protocol. For `inbound` streams this is their first event."""

    stream: int
    protocol: str
    inbound: bool


class StreamBroken(NamedTuple):
    """Our stream could not be negotiated, or an open one broke a bound or rule here. It is gone in both directions."""

    stream: int
    error: SidecarError


class StreamReceived(NamedTuple):
    """Bytes of the stream, to be acknowledged once they are consumed."""

    stream: int
    data: bytes


class StreamHalfClosed(NamedTuple):
    """The remote will write no more on this stream; we may."""

    stream: int


class StreamResetByRemote(NamedTuple):
    """The remote has reset the stream: it is gone in both directions, and what it sent before may be thrown away."""

    stream: int


class PingAnswered(NamedTuple):
    """The remote's muxer has answered `Channel.measure`, after so many seconds."""

    round_trip: float


class Failed(NamedTuple):
    """The connection has ended, and all its streams with it. Always the last event.

    `Closed` when the remote closed it in order, else what it did wrong.
    """

    error: SidecarError


ChannelEvent = (
    Secured
    | Ready
    | StreamNegotiated
    | StreamBroken
    | StreamReceived
    | StreamHalfClosed
    | StreamResetByRemote
    | PingAnswered
    | Failed
)

UpgradeObserver: TypeAlias = Callable[[PeerId | None, Ready | Failed], None]
"""Told how the upgrade of a connection ended, and who the remote is, None where it has not shown that."""
