"""One turn of the node: the effects of an input in the order in which they arose, and what is put off within it."""

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..deadlines import Deadlines
from ..events import LogLevel, Note
from ..types import PeerId

if TYPE_CHECKING:
    from .machine import NodeEffect

Action = Callable[[float], None]
"""Something to do, given the time (monotonic seconds)."""


class Turn:
    """What all services share: one list of effects, one inbox, one heap of deadlines.

    A service never hands an input to a protocol's machine while that, or another, is at work: it puts it into the
    inbox, and the node does what is there, in order, before the turn ends. So effects come out in the order in which
    their causes arose, whichever services they went through.
    """

    __slots__ = ("deadlines", "effects", "inbox")

    def __init__(self) -> None:
        self.effects: list[NodeEffect] = []
        self.inbox: deque[Action] = deque()
        self.deadlines = Deadlines()

    def emit(self, effect: "NodeEffect") -> None:
        """Add an effect after those that arose before it."""
        self.effects.append(effect)

    def note(self, level: LogLevel, peer: PeerId | None, text: str, *arguments: object) -> None:
        """Add a line for the log; see `Note`."""
        self.effects.append(Note(level, peer, text, arguments))

    def put(self, action: Action) -> None:
        """Do something later in this turn, after what was put here before."""
        self.inbox.append(action)
