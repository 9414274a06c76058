"""A dial as connection attempts side by side (Happy Eyeballs, RFC 8305 section 5).

The first finished handshake wins, and of the failures the most telling one is remembered.
"""

import asyncio

from ..core.errors import (
    Closed,
    DialBackoff,
    DialTimeout,
    NoAddresses,
    NotSupported,
    PeerBanned,
    ProtocolError,
    ResourceExhausted,
    SelfDial,
    SidecarError,
    Unreachable,
    WrongPeer,
)
from ..core.events import Dial
from ..core.multiaddr import Multiaddr
from ..core.types import PeerId
from .resolve import Target

# What tells the app most about its dial comes last. Every other error counts as much as its nearest ancestor here.
_TELLING = (
    NoAddresses,
    SidecarError,
    NotSupported,
    DialBackoff,
    DialTimeout,
    Unreachable,
    Closed,
    ResourceExhausted,
    ProtocolError,
    WrongPeer,
    PeerBanned,
    SelfDial,
)
_RANK = {kind: rank for rank, kind in enumerate(_TELLING)}


class ConcurrentDial:
    """The state of one dial, whose attempts run side by side until the first has won."""

    __slots__ = ("error", "in_vain", "over", "request", "won")

    def __init__(self, request: Dial) -> None:
        """Begin without an attempt, and so with no address as the reason of a failure."""
        self.request = request
        self.error: SidecarError = NoAddresses("no address of the peer is known")
        """Of all failures the one that tells most."""
        self.in_vain: dict[Multiaddr, None] = {}
        """The addresses at which attempts have failed."""
        self.won = False
        """Whether an attempt has finished its handshake first."""
        self.over = False
        """Whether none can any more."""

    @property
    def number(self) -> int:
        """That of its `Dial`."""
        return self.request.dial

    def failed(self, error: SidecarError) -> None:
        """Remember the failure, unless one that says more is known."""
        if _rank(error) > _rank(self.error):
            self.error = error

    def win(self) -> bool:
        """Whether an attempt that has finished its handshake is the first, and not too late."""
        if self.over:
            return False
        self.over = self.won = True
        return True

    def give_up(self, error: SidecarError | None = None) -> None:
        """Let no attempt win any more; `error` is the reason then, whatever is known."""
        self.over = True
        if error is not None:
            self.error = error


class Attempt:
    """A connection attempt: one endpoint tried by a dial."""

    __slots__ = ("answered", "dial", "other_port", "outcome", "target")

    def __init__(
        self, dial: ConcurrentDial, target: Target, loop: asyncio.AbstractEventLoop, *, other_port: bool = False
    ) -> None:
        """Begin before its socket is opened. `other_port`: from any but those that this node listens at."""
        self.dial = dial
        self.target = target
        self.other_port = other_port
        self.answered: PeerId | None = None
        """Who has finished the handshake."""
        self.outcome: asyncio.Future[SidecarError | None] = loop.create_future()
        """Becomes None for a handshake that won, else the failure."""

    @property
    def told(self) -> bool:
        """Whether the outcome is known. A cancelled wait for it cancels it, which tells nothing."""
        return self.outcome.done() and not self.outcome.cancelled()

    def finish(self, peer: PeerId | None = None) -> bool:
        """The handshake with `peer` is over; False when another attempt was faster or the dial is given up."""
        self.answered = peer
        if self.outcome.done() or not self.dial.win():
            return False
        self.outcome.set_result(None)
        return True

    def fail(self, error: SidecarError) -> None:
        """It came to nothing; nothing where the outcome is known already."""
        if not self.outcome.done():
            self.outcome.set_result(error)


def _rank(error: SidecarError) -> int:
    return next(_RANK[kind] for kind in type(error).__mro__ if kind in _RANK)
