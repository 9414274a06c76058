"""What goes into the machine of durable messages and what comes out of it.

It keeps no message: what is on disk is asked for when a link has room for it. The effects that end in a disk are
carried out in order by whoever owns the store, and each is answered by one input, once it is committed.
"""

from collections.abc import Sequence
from typing import TypeAlias

from ..classes import NamedTuple
from ..errors import SidecarError
from ..types import PeerId
from .types import Acknowledgement, DurableBatch, Item, Outgoing, SettledRange

Link: TypeAlias = int  # the number of the stream that carries it


# ---------------------------------------------------------------- inputs from the node


class DurableLinkOpened(NamedTuple):
    """A link with a peer is there: the one asked for by `OpenDurableLink`, or one that the peer opened."""

    peer: PeerId
    link: Link


class DurableLinkFailed(NamedTuple):
    """The link asked for with `OpenDurableLink` cannot be had."""

    peer: PeerId
    error: SidecarError


class DurableLinkClosed(NamedTuple):
    """A link has ended, whoever ended it; unknown ones are ignored."""

    link: Link


class PeerCame(NamedTuple):
    """The peer is connected now: what waits for it need not wait longer."""

    peer: PeerId


class DurableDataReceived(NamedTuple):
    """Bytes of a link, in order."""

    link: Link
    data: bytes


# ---------------------------------------------------------------- inputs from the store


class OutgoingChanged(NamedTuple):
    """How far messages are by now: at the start, when apps have sent, when outcomes are known."""

    streams: Sequence[Outgoing]


class OutgoingLoaded(NamedTuple):
    """Answers `LoadOutgoing`: messages from `first` on, none where the store has failed or knows nothing of them."""

    peer: PeerId
    protocol: str
    incarnation: int
    first: int
    items: Sequence[Item]
    failed: bool = False


class IncomingStored(NamedTuple):
    """Answers `StoreIncoming`: what to tell the sender. `confirmed`: it knows of all that is settled here."""

    peer: PeerId
    size: int
    acknowledgement: Acknowledgement
    confirmed: bool = True


class IncomingSettled(NamedTuple):
    """Messages of a peer are settled, by apps here or by their times.

    Without acknowledgements: there are such, to be asked for when there is a link.
    """

    peer: PeerId
    acknowledgements: Sequence[Acknowledgement]


class UnconfirmedLoaded(NamedTuple):
    """Answers `LoadUnconfirmed`: all that the peer has not confirmed to know."""

    peer: PeerId
    acknowledgements: Sequence[Acknowledgement]


class ProtocolReceived(NamedTuple):
    """An app here receives the protocol as durable from now on: peers that were turned away may come again."""

    protocol: str


DurableInput: TypeAlias = (
    DurableLinkOpened
    | DurableLinkFailed
    | DurableLinkClosed
    | PeerCame
    | DurableDataReceived
    | OutgoingChanged
    | OutgoingLoaded
    | IncomingStored
    | IncomingSettled
    | UnconfirmedLoaded
    | ProtocolReceived
)
"""Everything that the machine takes."""

AppInput: TypeAlias = (
    OutgoingChanged | OutgoingLoaded | IncomingStored | IncomingSettled | UnconfirmedLoaded | ProtocolReceived
)
"""Of these, what comes from outside of the node."""


# ---------------------------------------------------------------- effects for the node


class OpenDurableLink(NamedTuple):
    """Open a stream to the peer; answered by `DurableLinkOpened` or `DurableLinkFailed`."""

    peer: PeerId


class SendFrame(NamedTuple):
    """Write bytes on a link."""

    link: Link
    data: bytes


class CloseDurableLink(NamedTuple):
    """Close the link in order."""

    link: Link


class DurableLinkViolated(NamedTuple):
    """The peer broke the protocol: reset the link."""

    link: Link
    error: SidecarError


# ---------------------------------------------------------------- effects for the store


class LoadOutgoing(NamedTuple):
    """Load messages behind the sequence `after`, at least one where there is one, up to so many bytes and messages."""

    peer: PeerId
    protocol: str
    incarnation: int
    after: int
    size: int
    most: int


class SettleOutgoing(NamedTuple):
    """The receiver has all up to `held`, and these are settled; answered by `OutgoingChanged`."""

    peer: PeerId
    protocol: str
    incarnation: int
    held: int
    settled: Sequence[SettledRange]


class RenewOutgoing(NamedTuple):
    """Begin a new incarnation with what is open; answered by `OutgoingChanged`."""

    peer: PeerId
    protocol: str
    incarnation: int


class StoreIncoming(NamedTuple):
    """Store what a peer sent; answered by `IncomingStored`."""

    peer: PeerId
    size: int
    batch: DurableBatch


class LoadUnconfirmed(NamedTuple):
    """Load what the peer has not confirmed to know; answered by `UnconfirmedLoaded`."""

    peer: PeerId


StoreEffect: TypeAlias = LoadOutgoing | SettleOutgoing | RenewOutgoing | StoreIncoming | LoadUnconfirmed

DurableEffect: TypeAlias = OpenDurableLink | SendFrame | CloseDurableLink | DurableLinkViolated | StoreEffect
"""Everything that the machine gives out."""
