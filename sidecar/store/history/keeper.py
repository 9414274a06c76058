"""The thread that owns history.db."""

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from ...core.parameters import HistoryConfig
from .. import keeper
from .store import HistoryChanges, HistoryStore

_log = logging.getLogger("sidecar.history")


class OpenStore(Protocol):
    """Opens the file, as `HistoryStore` does."""

    def __call__(
        self, path: Path, config: HistoryConfig, wall: Callable[[], float], *, epoch: bytes, counter: int, suspect: bool
    ) -> HistoryStore:
        """The store of the file."""


class HistoryKeeper(keeper.DatabaseKeeper[HistoryStore, HistoryChanges]):
    """That of topic history. A damaged file is begun anew, even while it is in use."""

    def __init__(
        self,
        path: Path,
        config: HistoryConfig,
        on_changes: Callable[[HistoryChanges], None],
        on_trouble: Callable[[str], None],
        given_out: Callable[[], tuple[bytes, int]],
        wall: Callable[[], float] = time.time,
        open_store: OpenStore = HistoryStore,
    ) -> None:
        """`given_out`: the epoch of the cursors of this run and their greatest counter; b"" and 0 before there are any.

        It is called in the thread.
        """

        def opened() -> HistoryStore:
            epoch, counter = given_out()
            suspect, self._damaged = self._damaged, False
            store = open_store(path, config, wall, epoch=epoch, counter=counter, suspect=suspect)
            if store.notice:
                _log.warning("%s", store.notice)
            return store

        super().__init__(path, opened, on_changes, on_trouble, "topic history", reopens=True)
