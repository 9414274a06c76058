"""Calls that watch something: one outlet each, and a bound on how many there are."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

from .bounds import check_room
from .lifetime import Lifetime
from .outlet import Outlet

Watcher = TypeVar("Watcher", bound=Outlet)


class Watchers(Generic[Watcher]):
    """Those that watch one thing."""

    def __init__(self, lifetime: Lifetime, limit: int, what: str) -> None:
        """`what`: their name, for the error of one too many."""
        self._lifetime = lifetime
        self._limit = limit
        self._what = what
        self._open: dict[Watcher, None] = {}

    def __iter__(self) -> Iterator[Watcher]:
        return iter(self._open)

    @contextmanager
    def watching(self, watcher: Watcher) -> Iterator[Watcher]:
        """While one watches. Raises ResourceExhausted, Closed."""
        check_room(len(self._open), self._limit, self._what)
        with self._lifetime.stream(watcher):
            self._open[watcher] = None
            try:
                yield watcher
            finally:
                del self._open[watcher]
