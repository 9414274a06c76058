"""What decides whether a message is passed on: verdicts, and what a topic's rules are asked."""

import enum
from collections.abc import Sequence
from typing import Protocol

from ..classes import NamedTuple
from ..types import PeerId


class Verdict(enum.Enum):
    """What becomes of a message (specs gossipsub v1.1, Extended Validators)."""

    ACCEPT = "accept"  # it is delivered and forwarded
    REJECT = "reject"  # it is not, and counts against who sent it
    IGNORE = "ignore"  # it is not, and that is nobody's fault


class Candidates(NamedTuple):
    """Messages of one topic that are to be judged; columns of equal length.

    `senders` is None where messages are not signed. `seqnos` is None there as well, and for what this node's apps
    publish, which is judged before it is signed. `source` is the peer that sent them here, or this node.
    """

    topic: str
    datas: Sequence[bytes]
    senders: Sequence[PeerId] | None
    seqnos: Sequence[int] | None
    source: PeerId
    history: bool = False  # another node had stored them: when they come, and in what order, says nothing


class Rules(Protocol):
    """Judges a topic's messages at once, within the turn: `Topic.rules`."""

    def judge(self, candidates: Candidates, now: float) -> Sequence[Verdict] | None:
        """A verdict for each, in order; None where all are accepted. `now` is monotonic seconds."""
