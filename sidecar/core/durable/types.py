"""What both sides of durable messages, and what keeps them, speak of (docs/protocols.md, "Durable messages")."""

import enum
from collections.abc import Sequence

from ..classes import NamedTuple
from ..types import PeerId


class Outcome(enum.IntEnum):
    """What became of a durable message; the numbers are those on the wire and on disk."""

    DONE = 1  # the receiving app acknowledged it
    REJECTED = 2  # the receiving app rejected it
    EXPIRED = 3  # its time was over, here or there, or it was withdrawn
    DEAD_LETTER = 4  # delivered too often without being settled


class Trouble(enum.IntEnum):
    """Why a receiver did not take messages."""

    NONE = 0
    BUSY = 1  # no room, or the disk refuses
    NOBODY = 2  # no app there has ever received the protocol as durable
    CONFLICT = 3  # other content is there under these sequences: the sender was cloned, or restored from a copy


class Outgoing(NamedTuple):
    """How far the messages to one peer by one protocol have come, at their sender."""

    peer: PeerId
    protocol: str
    incarnation: int
    floor: int  # the first sequence whose outcome is open
    end: int  # the last sequence that was given out; below `floor` when none is open
    held: int  # all up to this one are on the receiver's disk, or expired here


class Item(NamedTuple):
    """A message under way; `data` is None where it expired at its sender. `time_left`: seconds."""

    data: bytes | None
    time_left: float


class DurableBatch(NamedTuple):
    """Consecutive messages, from `first` on, with the state of their sender. Without items it only tells that state."""

    protocol: str
    incarnation: int
    floor: int
    end: int
    first: int
    items: Sequence[Item]


class SettledRange(NamedTuple):
    """The same outcome for `count` consecutive messages."""

    first: int
    count: int  # type: ignore[assignment]  # hides tuple.count, which nobody needs
    outcome: Outcome
    reason: str


class Acknowledgement(NamedTuple):
    """What a receiver says of one sender's messages by one protocol."""

    protocol: str
    incarnation: int
    held: int
    settled: Sequence[SettledRange] = ()
    trouble: Trouble = Trouble.NONE
    reason: str = ""


def ranges(settled: Sequence[tuple[int, Outcome, str]]) -> list[SettledRange]:
    """Single outcomes, in order of their sequences, as ranges."""
    joined: list[SettledRange] = []
    for sequence, outcome, reason in settled:
        last = joined[-1] if joined else None
        if last and last.first + last.count == sequence and (last.outcome, last.reason) == (outcome, reason):
            joined[-1] = last._replace(count=last.count + 1)
        else:
            joined.append(SettledRange(sequence, 1, outcome, reason))
    return joined
