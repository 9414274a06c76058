"""When to ask a silent remote whether it is still there, and when to give it up."""

from ..errors import KeepAliveTimeout


class KeepAlive:
    """One deadline, moved only when it is due: hearing something costs a store, not a timer.

    Whatever arrives counts as life, not the answer to a ping alone.
    """

    __slots__ = ("_asked", "_due", "_heard", "_interval", "_timeout")

    def __init__(self, interval: float, timeout: float, now: float) -> None:
        """`interval`: seconds of silence before asking; `timeout`: seconds of silence after that."""
        self._interval, self._timeout = interval, timeout
        self._heard = now
        self._due = now + interval
        self._asked = False

    def heard(self, now: float) -> None:
        """Note that bytes came at `now`; the deadline is moved when it is due, not here."""
        self._heard = now
        if self._asked:
            self._asked = False
            self._due = now + self._interval

    def next_deadline(self) -> float:
        """When to look again, in monotonic seconds."""
        return self._due

    def handle_deadline(self, now: float) -> bool:
        """Whether to ask now. Raises KeepAliveTimeout when the remote was asked and stayed silent."""
        if now < self._due:
            return False
        silence = now - self._heard
        if self._asked:
            raise KeepAliveTimeout(f"nothing came from the remote for {silence:.1f} s, though it was asked")
        self._due = self._heard + self._interval
        if now < self._due:
            return False
        self._asked = True
        self._due = now + self._timeout
        return True
