"""What goes into the machine of backfill and what comes out of it.

It keeps no message. What is on disk is asked for by effects, carried out in order by whoever owns the store; each is
answered by one input with the same session, whenever that is: answers to a session that has ended are ignored.
Ages are seconds: how long ago a message was received by the first node that tells of it.
"""

from collections.abc import Sequence
from typing import TypeAlias

from ..classes import NamedTuple
from ..errors import SidecarError
from ..types import PeerId

Link: TypeAlias = int  # the number of the stream that carries a session
Key: TypeAlias = bytes  # 32 bytes: the SHA-256 of a message's id in gossip; of a bundle, of the outer one


class HistoryBody(NamedTuple):
    """A message as it is kept: its gossip message as it travelled, signature and all."""

    key: Key
    raw: bytes
    age: float


# ---------------------------------------------------------------- inputs from the node


class HistoryTopicKept(NamedTuple):
    """A topic with history is joined here from now on; once more changes nothing."""

    topic: str


class HistoryTopicLeft(NamedTuple):
    """It is not any more; unknown ones are ignored."""

    topic: str


class HistoryPeerCame(NamedTuple):
    """A peer that speaks the protocol has announced a topic; unless it is one with history, that is ignored."""

    peer: PeerId
    topic: str


class HistoryPeerLeft(NamedTuple):
    """It has left the topic; None: all of them, and it is gone."""

    peer: PeerId
    topic: str | None = None


class HistoryLinkOpened(NamedTuple):
    """The stream asked for by `OpenHistoryLink` is there."""

    session: int
    link: Link


class HistoryLinkFailed(NamedTuple):
    """It cannot be had."""

    session: int
    error: SidecarError


class HistoryLinkAccepted(NamedTuple):
    """A peer has opened a stream."""

    peer: PeerId
    link: Link


class HistoryLinkClosed(NamedTuple):
    """A stream has ended, whoever ended it; unknown ones are ignored."""

    link: Link


class HistoryDataReceived(NamedTuple):
    """Bytes of a stream, in order."""

    link: Link
    data: bytes


class BroughtJudged(NamedTuple):
    """Gossip has judged the messages of a `BringHistory`, but for those that apps are still asked about.

    `accepted`: how many were taken now, without those that had come before, or that wait for apps; the store gets them
    before it is asked again.
    `unwanted`: keys of those that this node's rules or apps refuse: they are not asked for again.
    """

    number: int
    accepted: int
    unwanted: Sequence[Key] = ()
    invalid: str | None = None  # why no honest peer sends what it sent, if it did
    final: bool = True  # nothing more will be said about this batch


# ---------------------------------------------------------------- inputs from the store


class HistoryKeysLoaded(NamedTuple):
    """Answers `LoadHistoryKeys`: the keys, sorted.

    `oldest`: the age back to which they are all that was received. It is less than what was asked for where the limit,
    or the room on disk, left some out; where nothing is missing, as asked, though there may be nothing so old.
    `failed`: the disk refuses.
    """

    session: int
    keys: Sequence[Key]
    oldest: float
    failed: bool = False


class HistoryKeysFound(NamedTuple):
    """Answers `FindHistoryKeys`: those of the keys that are stored, in whatever order."""

    session: int
    keys: Sequence[Key]
    failed: bool = False


class HistoryBodiesLoaded(NamedTuple):
    """Answers `LoadHistoryBodies`: messages in the order that was asked for, and the keys that found no room.

    Keys in neither are not stored any more.
    """

    session: int
    bodies: Sequence[HistoryBody]
    left: Sequence[Key] = ()
    failed: bool = False


AppInput: TypeAlias = HistoryKeysLoaded | HistoryKeysFound | HistoryBodiesLoaded
"""What comes from outside of the node."""

HistoryInput: TypeAlias = (
    HistoryTopicKept
    | HistoryTopicLeft
    | HistoryPeerCame
    | HistoryPeerLeft
    | HistoryLinkOpened
    | HistoryLinkFailed
    | HistoryLinkAccepted
    | HistoryLinkClosed
    | HistoryDataReceived
    | BroughtJudged
    | AppInput
)
"""Everything that the machine takes."""


# ---------------------------------------------------------------- effects for the node


class OpenHistoryLink(NamedTuple):
    """Open a stream to the peer; answered by `HistoryLinkOpened` or `HistoryLinkFailed`."""

    session: int
    peer: PeerId


class SendHistoryFrame(NamedTuple):
    """Write bytes on a stream."""

    link: Link
    data: bytes


class CloseHistoryLink(NamedTuple):
    """End the stream in order, after what was written."""

    link: Link


class HistoryViolated(NamedTuple):
    """The peer broke the protocol, or sent what is not valid: charge it, and reset the stream if there still is one."""

    peer: PeerId
    link: Link | None
    error: SidecarError


class ResetHistoryLink(NamedTuple):
    """End the stream at once: it took too long, or nobody needs it any more."""

    link: Link


class BringHistory(NamedTuple):
    """Have gossip judge messages that a peer sent, and deliver and store those that are valid.

    Answered by `BroughtJudged` with the same number. `keys`: those that the messages are to have.
    """

    number: int
    peer: PeerId
    topic: str
    raws: Sequence[bytes]
    ages: Sequence[float]
    keys: Sequence[Key]


# ---------------------------------------------------------------- effects for the store


class LoadHistoryKeys(NamedTuple):
    """Load the keys of what was received from `oldest` to `newest` seconds ago; of more, the latest `limit`."""

    session: int
    topic: str
    newest: float
    oldest: float
    limit: int


class FindHistoryKeys(NamedTuple):
    """Tell which of the keys are stored, whenever their messages were received; what waits for the disk counts."""

    session: int
    topic: str
    keys: Sequence[Key]


class LoadHistoryBodies(NamedTuple):
    """Load the messages of the keys, in this order, up to `size` bytes; at least one, if one of them is stored."""

    session: int
    topic: str
    keys: Sequence[Key]
    size: int


StoreEffect: TypeAlias = LoadHistoryKeys | FindHistoryKeys | LoadHistoryBodies

HistoryEffect: TypeAlias = (
    OpenHistoryLink
    | SendHistoryFrame
    | CloseHistoryLink
    | HistoryViolated
    | ResetHistoryLink
    | BringHistory
    | StoreEffect
)
"""Everything that the machine gives out."""
