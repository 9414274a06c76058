"""`sidecar.v1.NodeService`."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from ...config.describe import Setting
from ...core.events import ReadinessChanged
from ...core.histogram import Histogram
from ...core.override import override
from ...process.logs import LEVELS, Log
from ..common import values
from ..common.call import OPEN, Call
from ..common.outlet import pour
from ..common.watch import Watchers
from ..service import ApiService, Handlers, ServiceContext
from . import convert
from .log import LogWatcher
from .readiness import SidecarReadiness


class NodeService(ApiService):
    """The node itself; every method as its schema says."""

    serves_while_draining: ClassVar[bool] = True

    def __init__(
        self,
        context: ServiceContext,
        readiness: SidecarReadiness,
        *,
        agent: str,
        log: Log,
        settings: Callable[[], Sequence[Setting]],
        statistics: Callable[[], Mapping[str, int | float]],
        histograms: Callable[[], Mapping[str, Histogram]],
    ) -> None:
        """`agent`: what the node calls itself. The others are what the methods of their names tell."""
        self._context = context
        self._readiness = readiness
        self._agent = agent
        self._log = log
        self._settings = settings
        self._statistics = statistics
        self._histograms = histograms
        self.started = context.now()
        self.engine = ""
        """What speaks gRPC to apps, once something does."""
        self._watchers: Watchers[LogWatcher] = Watchers(
            context.lifetime, context.config.max_watchers, "watchers of the log"
        )

    @override
    def effects(self) -> Handlers:
        return {ReadinessChanged: self._readiness.changed}

    async def get_node(self, request: Any, call: Call) -> object:
        """Who the node is, and where."""
        node = self._context.node
        return convert.node(
            peer_id=node.peer_id,
            network=node.network,
            agent=self._agent,
            addresses=node.addresses(),
            started=self.started,
            now=self._context.now(),
            epoch_ns=self._context.epoch_ns,
            engine=self.engine,
        )

    async def get_readiness(self, request: Any, call: Call) -> object:
        """Whether the node is of use, and what is missing."""
        return convert.readiness(self._readiness.conditions(), self._context.epoch_ns)

    async def watch_readiness(self, request: Any, call: Call) -> None:
        """The same, again after each change."""
        with self._readiness.watching() as watcher:
            await call.begin(OPEN)
            await pour(watcher, call.write)

    async def get_statistics(self, request: Any, call: Call) -> object:
        """Every counter."""
        return convert.statistics(self._statistics(), self._histograms())

    async def get_configuration(self, request: Any, call: Call) -> object:
        """The configuration in force, and where it comes from."""
        return convert.configuration(self._settings())

    async def watch_events(self, request: Any, call: Call) -> None:
        """The log, from the oldest entry on that is kept."""
        with self._watchers.watching(LogWatcher(self._log.journal)) as watcher, watcher.woken():
            await call.begin(OPEN)
            await pour(watcher, call.write)

    async def set_log_level(self, request: Any, call: Call) -> object:
        """What the log writes from now on."""
        log = self._log
        if not log.has_part(request.part):
            known = "lines of the log begin with their part, such as net.runtime; net is all of net"
            raise values.invalid("part", f"the log has no part {request.part[:40]!r}; {known}")
        if request.level not in LEVELS and not (request.part and not request.level):
            raise values.invalid("level", f"{request.level[:40]!r} is none of {', '.join(LEVELS)}")
        log.levels.set(request.part, request.level)
        self._context.changed("log.level_changed", part=request.part or None, level=request.level or None)
        return convert.log_levels(*log.levels.shown())
