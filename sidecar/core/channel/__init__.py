"""One connection as a pure machine: multistream-select, Noise and yamux joined. `Channel` is the door."""

from .channel import Channel
from .events import (
    ChannelEvent,
    Failed,
    Ready,
    Secured,
    StreamBroken,
    StreamHalfClosed,
    StreamNegotiated,
    StreamReceived,
    StreamResetByRemote,
    UpgradeObserver,
)
from .limits import ChannelLimits

__all__ = [
    "Channel",
    "ChannelEvent",
    "ChannelLimits",
    "Failed",
    "Ready",
    "Secured",
    "StreamBroken",
    "StreamHalfClosed",
    "StreamNegotiated",
    "StreamReceived",
    "StreamResetByRemote",
    "UpgradeObserver",
]
