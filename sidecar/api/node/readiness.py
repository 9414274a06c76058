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
        self._own: dict[str, Condition] = {}  # by type: those that are not met, or not fully
        self._told: list[Callable[[], None]] = []
        self._watchers: Watchers[ReadinessWatcher] = Watchers(
            context.lifetime, context.config.max_watchers, "watchers of readiness"
        )

    def conditions(self) -> tuple[Condition, ...]:
        """What readiness is made of: the node's conditions, and those of our own of which there is something to say."""
        return (*self._node.conditions(), *self._own.values())

    def ready(self) -> bool:
        """Whether every condition is met."""
        return all(condition.met for condition in self.conditions())

    def served(self, trouble: str = "", remedy: str = "") -> None:
        """The API is served as configured, or it is not: a sentence, and what to do."""
        unmet = Condition("Serving", False, "SocketGone", trouble, remedy, self._since("Serving"))
        self._tell_own(unmet, bool(trouble))

    def stored(self, reason: str = "", message: str = "") -> None:
        """Durable messages can be kept as they should, or else one of these words and a sentence say why not."""
        since = self._since("Storing", reason not in ("DiskRefuses", "Damaged"))
        match reason:
            case "DiskRefuses":
                remedy = (
                    "make room on the disk of the state directory, or make it writable; nothing that is kept is lost"
                )
                own = Condition("Storing", False, "DiskRefuses", message, remedy, since)
            case "Damaged":
                remedy = (
                    "stop the sidecar and look at its disk; bring back a copy of the file, or move it away and lose "
                    "what is in it"
                )
                own = Condition("Storing", False, "Damaged", message, remedy, since)
            case "DiskSlow":
                remedy = "look what else uses the disk of the state directory, or name a directory on another"
                own = Condition("Storing", True, "DiskSlow", message, remedy, since)
            case _:
                remedy = "name a directory on a disk that stays with --state, or mount a volume there"
                own = Condition("Storing", True, "VolatileVolume", message, remedy, since)
        self._tell_own(own, bool(reason))

    def history_kept(self, trouble: str = "") -> None:
        """The topics with history can be kept, or they cannot: a sentence."""
        remedy = "make room on the disk of the state directory, or make it writable; messages go on being delivered"
        unmet = Condition("KeepingHistory", False, "HistoryNotKept", trouble, remedy, self._since("KeepingHistory"))
        self._tell_own(unmet, bool(trouble))

    def _since(self, kind: str, met: bool = False) -> float:
        before = self._own.get(kind)
        return self._now() if before is None or before.met is not met else before.since

    def _tell_own(self, own: Condition, holds: bool) -> None:
        before = self._own.pop(own.type, None)
        if holds:
            self._own[own.type] = own
        if before != self._own.get(own.type):
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
