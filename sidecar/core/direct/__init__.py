"""Our own protocol: direct messages with receipts, requests with responses (docs/protocols.md).

The driver of a `DirectRouter` carries out its effects in order. After `LinkWoken(link)` it calls `take(link, limit)`
while the stream accepts bytes, until that returns nothing.
"""

from ..parameters.direct import DirectConfig
from .events import (
    AppInput,
    CloseLink,
    DataReceived,
    DirectEffect,
    DirectInput,
    Link,
    LinkAccepted,
    LinkClosed,
    LinkFailed,
    LinkOpened,
    LinkViolated,
    LinkWoken,
    MessagesHandled,
    MessagesReceived,
    News,
    OpenLink,
    OutcomeRange,
    ProtocolsChanged,
    RequestAnswered,
    RequestArrived,
    RequestCancelled,
    RequestCompleted,
    RequestMade,
    RequestWithdrawn,
    SendCompleted,
    SendOutcome,
    SendRequested,
)
from .router import DirectRouter

__all__ = [
    "AppInput",
    "CloseLink",
    "DataReceived",
    "DirectConfig",
    "DirectEffect",
    "DirectInput",
    "DirectRouter",
    "Link",
    "LinkAccepted",
    "LinkClosed",
    "LinkFailed",
    "LinkOpened",
    "LinkViolated",
    "LinkWoken",
    "MessagesHandled",
    "MessagesReceived",
    "News",
    "OpenLink",
    "OutcomeRange",
    "ProtocolsChanged",
    "RequestAnswered",
    "RequestArrived",
    "RequestCancelled",
    "RequestCompleted",
    "RequestMade",
    "RequestWithdrawn",
    "SendCompleted",
    "SendOutcome",
    "SendRequested",
]
