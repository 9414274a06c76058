"""Whether this sidecar is of use: the node's conditions and the API's own, and who is told when they change."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from ...core.events import Condition, ReadinessChanged
from ...core.override import override
from ..common.outlet import Outlet
from ..common.watch import Watchers
from ..service import ServiceContext
from . import convert


class ReadinessWatcher(Outlet):
    """Tells the conditions as they are, at first and after each change. Only the newest count."""

    def __init__(self, present: Callable[[], object]) -> None:
        """`present`: makes a response of them."""
        super().__init__()
        self._present = present
        self._news = True

    def changed(self) -> None:
        """They are others."""
        self._news = True
        self.ready.set()

    @override
    def take(self) -> Any:
        if not self._news or self._end is not None:
            return self.nothing()
        self._news = False
        return self._present()


class SidecarReadiness:
    """The conditions, and who watches them."""

    def __init__(self, context: ServiceContext) -> None:
        """Before anything is served, the API has no condition of its own that is not met."""
        self._node = context.node
        self._now = context.now
        self._epoch_ns = context.epoch_ns
        self._unmet: dict[str, Condition] = {}  # by type
        self._told: list[Callable[[], None]] = []
        self._watchers: Watchers[ReadinessWatcher] = Watchers(
            context.lifetime, context.config.max_watchers, "watchers of readiness"
        )

    def conditions(self) -> tuple[Condition, ...]:
        """What readiness is made of: the node's conditions, and those of our own that are not met."""
        return (*self._node.conditions(), *self._unmet.values())

    def ready(self) -> bool:
        """Whether every condition is met."""
        return all(condition.met for condition in self.conditions())

    def served(self, trouble: str = "", remedy: str = "") -> None:
        """The API is served as configured, or it is not: a sentence, and what to do."""
        unmet = Condition("Serving", False, "SocketGone", trouble, remedy, self._since("Serving"))
        self._tell_own(unmet, bool(trouble))

    def stored(self, trouble: str = "") -> None:
        """Durable messages can be kept, or they cannot: a sentence."""
        remedy = "make room on the disk of the state directory, or make it writable; nothing that is kept is lost"
        unmet = Condition("Storing", False, "DiskRefuses", trouble, remedy, self._since("Storing"))
        self._tell_own(unmet, bool(trouble))

    def history_kept(self, trouble: str = "") -> None:
        """The topics with history can be kept, or they cannot: a sentence."""
        remedy = "make room on the disk of the state directory, or make it writable; messages go on being delivered"
        unmet = Condition("KeepingHistory", False, "DiskRefuses", trouble, remedy, self._since("KeepingHistory"))
        self._tell_own(unmet, bool(trouble))

    def _since(self, kind: str) -> float:
        before = self._unmet.get(kind)
        return self._now() if before is None else before.since

    def _tell_own(self, unmet: Condition, holds: bool) -> None:
        before = self._unmet.pop(unmet.type, None)
        if holds:
            self._unmet[unmet.type] = unmet
        if before != self._unmet.get(unmet.type):
            self.changed()
            for told in self._told:
                told()

    def changed(self, effect: ReadinessChanged | None = None) -> None:
        """The node or we ourselves have other conditions."""
        for watcher in self._watchers:
            watcher.changed()

    def watching(self) -> AbstractContextManager[ReadinessWatcher]:
        """While somebody watches. Raises ResourceExhausted, Closed."""
        return self._watchers.watching(ReadinessWatcher(self._present))

    def tell(self, told: Callable[[], None]) -> None:
        """Call this where the conditions change without the node."""
        self._told.append(told)

    def _present(self) -> object:
        return convert.readiness_event(self.conditions(), self._epoch_ns)
