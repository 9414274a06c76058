"""A dial as a race of attempts: the first finished handshake wins, and the most telling failure is remembered."""

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


class Race:
    """The state of one dial."""

    __slots__ = ("error", "over", "request", "won")

    def __init__(self, request: Dial) -> None:
        self.request = request
        self.error: SidecarError = NoAddresses("no address of the peer is known")
        self.won = False
        self.over = False

    def failed(self, error: SidecarError) -> None:
        """Remember the failure, unless one that says more is known."""
        if _rank(error) > _rank(self.error):
            self.error = error


class Attempt:
    """One endpoint tried by a dial. `outcome` becomes None for a finished handshake, else the failure."""

    __slots__ = ("answered", "outcome", "race", "target")

    def __init__(self, race: Race, target: Target, loop: asyncio.AbstractEventLoop) -> None:
        self.race = race
        self.target = target
        self.answered: PeerId | None = None  # who has finished the handshake
        self.outcome: asyncio.Future[SidecarError | None] = loop.create_future()

    @property
    def told(self) -> bool:
        """Whether the outcome is known. A cancelled wait for it cancels it, which tells nothing."""
        return self.outcome.done() and not self.outcome.cancelled()

    def finish(self, peer: PeerId | None = None) -> bool:
        """The handshake with `peer` is over; False when another attempt was faster or the dial is given up."""
        self.answered = peer
        if self.race.over or self.outcome.done():
            return False
        self.race.over = self.race.won = True
        self.outcome.set_result(None)
        return True

    def fail(self, error: SidecarError) -> None:
        """It came to nothing; nothing where the outcome is known already."""
        if not self.outcome.done():
            self.outcome.set_result(error)


def _rank(error: SidecarError) -> int:
    return next(_RANK[kind] for kind in type(error).__mro__ if kind in _RANK)
