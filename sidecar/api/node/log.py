"""Those who watch the log."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from ...core.override import override
from ...process.journal import Journal
from ..common.outlet import Outlet
from . import convert

_ENTRIES = 100  # of the log, in a response


class LogWatcher(Outlet):
    """Tells the entries of the log, beginning with the oldest that is kept."""

    def __init__(self, journal: Journal) -> None:
        super().__init__()
        self._journal = journal
        self._position = journal.oldest

    @contextmanager
    def woken(self) -> Iterator[None]:
        """While new entries wake it."""
        loop = asyncio.get_running_loop()

        def told() -> None:  # on any thread
            with suppress(RuntimeError):  # the loop has been closed, and with it all watching
                loop.call_soon_threadsafe(self.ready.set)

        self._journal.watch(told)
        try:
            yield
        finally:
            self._journal.unwatch(told)

    @override
    def take(self) -> Any:
        entries, self._position, missed = self._journal.since(self._position, _ENTRIES)
        return convert.log_entries(entries, missed) if entries else self.nothing()
