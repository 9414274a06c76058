"""What goes into the direct router and what comes out of it."""

import enum
from collections.abc import Sequence
from typing import TypeAlias

from ..classes import NamedTuple
from ..errors import SidecarError
from ..types import PeerId

Link: TypeAlias = int  # the number of the stream that carries it


class SendOutcome(enum.Enum):
    """What became of a direct message."""

    DELIVERED = "delivered"  # written to a receiving app's stream
    NO_SUBSCRIBER = "no subscriber"  # no app there receives the protocol
    LOCAL_QUEUE_FULL = "local queue full"  # never left this node
    REMOTE_QUEUE_FULL = "remote queue full"  # arrived, and found no room there
    UNREACHABLE = "unreachable"  # never left this node: no link to the peer, or none that moved in time
    REFUSED = "refused"  # the peer does not take direct messages, or its app refused
    TOO_LARGE = "too large"  # never left this node
    TIMED_OUT = "timed out"  # written, without a receipt in time: it may have arrived
    UNKNOWN = "unknown"  # written, and the link was lost before the receipt: it may have arrived
    # Of durable messages, which this machine does not see:
    STORED = "stored"  # on this node's disk
    OUTBOX_FULL = "outbox full"  # not stored: a bound of the outbox is reached
    NOT_STORED = "not stored"  # not stored: this node's disk refuses


class OutcomeRange(NamedTuple):
    """The same outcome for `count` consecutive messages of a batch, from index `first` on."""

    first: int
    count: int  # type: ignore[assignment]  # hides tuple.count, which nobody needs
    outcome: SendOutcome


# ---------------------------------------------------------------- inputs from the node


class LinkOpened(NamedTuple):
    """The link asked for with `OpenLink` is there."""

    peer: PeerId
    link: Link


class LinkRetired(NamedTuple):
    """A link that this node opened is on a connection that is surplus now: what is new goes by another."""

    link: Link


class LinkFailed(NamedTuple):
    """The link asked for with `OpenLink` cannot be had."""

    peer: PeerId
    error: SidecarError


class LinkAccepted(NamedTuple):
    """A peer opened a link to this node."""

    peer: PeerId
    link: Link


class LinkClosed(NamedTuple):
    """A link has ended, whoever ended it. Links that the router itself gave up need not be told, but may."""

    link: Link
    error: SidecarError | None


class DataReceived(NamedTuple):
    """Bytes of a link, in order."""

    link: Link
    data: bytes


# ---------------------------------------------------------------- inputs from the apps


class ProtocolsChanged(NamedTuple):
    """Which protocols apps here receive messages of, and which they serve requests of."""

    receiving: Sequence[str]
    serving: Sequence[str]


class SendRequested(NamedTuple):
    """Send messages to a peer, in order; answered by one `SendCompleted`."""

    op: int
    peer: PeerId
    protocol: str
    messages: Sequence[bytes]


class RequestMade(NamedTuple):
    """Ask a peer; answered by one `RequestCompleted`. `deadline` is monotonic seconds, `trace` a W3C traceparent."""

    op: int
    peer: PeerId
    protocol: str
    data: bytes
    deadline: float | None
    trace: str = ""


class RequestsMade(NamedTuple):
    """Several at once, which came together. Where one of them is misuse, none is made."""

    requests: Sequence[RequestMade]


class RequestCancelled(NamedTuple):
    """Nobody waits for the request any more. It is answered at once, with `Closed`; unknown ones are ignored."""

    op: int


class MessagesHandled(NamedTuple):
    """What became of messages that `MessagesReceived` brought; unknown ones are ignored.

    `outcome` is one of DELIVERED, NO_SUBSCRIBER, REMOTE_QUEUE_FULL, REFUSED, TIMED_OUT.
    """

    link: Link
    first: int
    count: int  # type: ignore[assignment]  # hides tuple.count, which nobody needs
    outcome: SendOutcome


class RequestAnswered(NamedTuple):
    """The response to a request, or why there is none; unknown and withdrawn ones are ignored.

    Of errors, the kind travels (NotSupported, ResourceExhausted, DeadlineExceeded, Closed; all others as Refused)
    and the text.
    """

    token: int
    answer: bytes | SidecarError


class RequestsAnswered(NamedTuple):
    """Several at once, which came together. Where one of them is misuse, none is given."""

    answers: Sequence[RequestAnswered]


AppInput: TypeAlias = (
    ProtocolsChanged
    | SendRequested
    | RequestMade
    | RequestsMade
    | RequestCancelled
    | MessagesHandled
    | RequestAnswered
    | RequestsAnswered
)
DirectInput: TypeAlias = LinkOpened | LinkRetired | LinkFailed | LinkAccepted | LinkClosed | DataReceived | AppInput


# ---------------------------------------------------------------- effects on the node


class OpenLink(NamedTuple):
    """Connect to the peer where needed and open a link; answered by `LinkOpened` or `LinkFailed`."""

    peer: PeerId


class LinkWoken(NamedTuple):
    """`DirectRouter.take(link, ...)` has bytes."""

    link: Link


class CloseLink(NamedTuple):
    """End an idle link in order. The router has forgotten it."""

    link: Link


class LinkViolated(NamedTuple):
    """End the link at once: the remote broke the protocol. The router has forgotten it."""

    link: Link
    error: SidecarError


# ---------------------------------------------------------------- effects toward the apps


class SendCompleted(NamedTuple):
    """What became of a batch: ranges that cover it in order. `error` says more where it was not DELIVERED."""

    op: int
    outcomes: tuple[OutcomeRange, ...]
    error: SidecarError | None = None


class RequestCompleted(NamedTuple):
    """The response, or why there is none."""

    op: int
    answer: bytes | SidecarError


class MessagesReceived(NamedTuple):
    """Messages of one protocol, numbered from `first` on in their link; answered by `MessagesHandled` in ranges."""

    link: Link
    peer: PeerId
    protocol: str
    first: int
    messages: list[bytes]


class RequestArrived(NamedTuple):
    """A request to answer with `RequestAnswered`.

    `deadline`: until when the asker waits, monotonic seconds. `trace`: its W3C traceparent, checked, or empty.
    """

    token: int
    peer: PeerId
    protocol: str
    data: bytes
    deadline: float | None
    trace: str = ""


class RequestWithdrawn(NamedTuple):
    """Nobody waits for the answer any more: cancelled, out of time, or the link has ended."""

    token: int


News: TypeAlias = SendCompleted | RequestCompleted | MessagesReceived | RequestArrived | RequestWithdrawn
DirectEffect: TypeAlias = OpenLink | LinkWoken | CloseLink | LinkViolated | News
