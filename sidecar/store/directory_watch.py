"""Looks now and then whether the state directory is still there: nothing else notices before the next start."""

import asyncio
import logging

from ..core.beat import next_beat
from .directory import StateDirectory

_INTERVAL = 5.0  # seconds; a guess

_log = logging.getLogger(__name__)


class DirectoryWatch:
    """Says once when the directory is lost."""

    def __init__(self, state: StateDirectory, interval: float = _INTERVAL) -> None:
        self._state = state
        self._interval = interval
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin, on the running loop."""
        loop = asyncio.get_running_loop()
        self._timer = loop.call_at(next_beat(loop.time(), self._interval), self._look)

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        if not self._state.lost():
            self.start()
            return
        _log.error(
            "the state directory %s was deleted or replaced: this process goes on, but what it keeps is lost when it "
            "ends, its key as well; end it, put a copy of the directory back, and start it again",
            self._state.path,
        )
