"""What all links of one router share: time, bounds, effects."""

from collections.abc import Callable, Sequence

from ..deadlines import Deadline, Deadlines
from ..parameters.direct import OVERHEAD, DirectConfig
from ..types import PeerId
from .events import DirectEffect


def cost_of(messages: Sequence[bytes]) -> int:
    """What messages count against the bounds, in bytes."""
    return sum(map(len, messages)) + OVERHEAD * len(messages)


class Budget:
    """Bytes that may be held in one place, as a part of those that may be held in all."""

    __slots__ = ("_limit", "_parent", "_used")

    def __init__(self, limit: int, parent: "Budget | None" = None) -> None:
        self._limit = limit
        self._parent = parent
        self._used = 0

    @property
    def used(self) -> int:
        """Bytes held in this place."""
        return self._used

    @property
    def room(self) -> int:
        """Bytes that may still be held, here and in all; below 0 where more than that was taken."""
        room = self._limit - self._used
        return room if self._parent is None else min(room, self._parent.room)

    def add(self, cost: int) -> None:
        """Hold `cost` more bytes, whether there is room or not: who asks for them looks at `room` first."""
        self._used += cost
        if self._parent is not None:
            self._parent.add(cost)

    def release(self, cost: int) -> None:
        """Hold `cost` bytes less."""
        self.add(-cost)

    def clear(self) -> None:
        """Release all that this place holds, of what is held in all as well."""
        self.release(self._used)


class Counts:
    """Totals since the start, for statistics."""

    __slots__ = ("messages_dropped", "messages_received", "messages_sent", "requests_received", "requests_sent")

    def __init__(self) -> None:
        self.messages_sent = 0  # written to a link
        self.messages_received = 0
        self.messages_dropped = 0  # of those received: refused since a bound on unhandled ones was reached
        self.requests_sent = 0  # written to a link
        self.requests_received = 0


class Shared:
    """What all links of one router share."""

    __slots__ = (
        "_token",
        "arrived",
        "charged",
        "config",
        "counts",
        "deadlines",
        "effects",
        "now",
        "queued",
        "receiving",
        "serving",
    )

    def __init__(self, config: DirectConfig, now: float) -> None:
        self.config = config
        self.now = now  # of this turn
        self.deadlines = Deadlines()
        self.effects: list[DirectEffect] = []  # of this turn
        self.counts = Counts()
        self.charged: dict[PeerId, float] = {}  # points of needless work, by the peers that caused it
        self.queued = Budget(config.max_queued_total)
        self.arrived = Budget(config.max_unhandled_total)
        self.receiving: frozenset[str] = frozenset()
        self.serving: frozenset[str] = frozenset()
        self._token = 0

    def charge(self, peer: PeerId, points: float) -> None:
        """Count work that brings nobody anything against the peer's budget."""
        self.charged[peer] = self.charged.get(peer, 0.0) + points

    def new_token(self) -> int:
        """A number for an incoming request, never used before."""
        self._token += 1
        return self._token


class Timer:
    """Calls `action(now)` no later than the earliest time asked for; it returns when it wants to be called next.

    Work that is done in time cancels nothing: the action finds that, which costs nothing per message.
    """

    __slots__ = ("_action", "_deadline", "_deadlines", "_when")

    def __init__(self, deadlines: Deadlines, action: Callable[[float], float | None]) -> None:
        self._deadlines = deadlines
        self._action = action
        self._deadline: Deadline | None = None
        self._when = 0.0

    def by(self, when: float) -> None:
        """Call the action at `when` (monotonic seconds) at the latest."""
        if self._deadline is not None:
            if self._when <= when:
                return
            self._deadline.cancel()
        self._when = when
        self._deadline = self._deadlines.at(when, self._run)

    def cancel(self) -> None:
        """Call the action no more, until `by` asks for it again."""
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _run(self, now: float) -> None:
        self._deadline = None
        when = self._action(now)
        if when is not None:
            self.by(when)
