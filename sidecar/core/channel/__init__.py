"""One connection as a pure machine: multistream-select, Noise and yamux joined. `Channel` is the door."""

from ..parameters.channel import ChannelLimits
from .channel import Channel
from .events import (
    ChannelEvent,
    Failed,
    PingAnswered,
    Ready,
    Secured,
    StreamBroken,
    StreamHalfClosed,
    StreamNegotiated,
    StreamReceived,
    StreamResetByRemote,
    UpgradeObserver,
)

__all__ = [
    "Channel",
    "ChannelEvent",
    "ChannelLimits",
    "Failed",
    "PingAnswered",
    "Ready",
    "Secured",
    "StreamBroken",
    "StreamHalfClosed",
    "StreamNegotiated",
    "StreamReceived",
    "StreamResetByRemote",
    "UpgradeObserver",
]
