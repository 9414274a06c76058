"""What stands behind the API's server: every service, and the node's news on their way to whom they concern."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..config.describe import Setting
from ..core.events import OperationCompleted
from ..core.histogram import Histogram
from ..core.node import AppNews
from ..core.statistics import Statistics
from ..process.audit import Audit
from ..process.logs import Log
from ..process.spans import NoTracer, Tracer
from ..store.disk_thread import DiskThread
from .common.calls import Calls
from .common.lifetime import Lifetime
from .common.operations import AppOperations
from .config import ApiConfig
from .direct.service import DirectService
from .discovery.service import DiscoveryService
from .durable.service import DurableService
from .mail import Mail
from .node.readiness import SidecarReadiness
from .node.service import NodeService
from .peers.gatekeeper import Gatekeeper, Store
from .peers.service import PeerService
from .pubsub.history import TopicHistory
from .pubsub.service import PubSubService
from .service import ApiService, Handlers, ServiceContext
from .statistics import BackendStatistics, CallsStatistics, GuardStatistics, HistoryStatistics, MailStatistics
from .streams.service import StreamService
from .surface import Feed, NodeSurface


class Backend:
    """Builds the services around a node, and is what the driver, the server and the observers know of them.

    Everything happens on the event loop's thread.
    """

    def __init__(
        self,
        node: NodeSurface,
        feed: Feed,
        config: ApiConfig,
        *,
        agent: str,
        driver_statistics: Callable[[], Statistics] = Statistics,
        driver_histograms: Callable[[], Mapping[str, Histogram]] = dict,
        audit: Audit | None = None,
        log: Log | None = None,
        bans: Store | None = None,
        disk: DiskThread | None = None,
        tracer: Tracer | None = None,
        settings: Callable[[], Sequence[Setting]] = list,
        mail: Mail | None = None,
        history: TopicHistory | None = None,
    ) -> None:
        """Around the node, which takes its inputs by `feed`.

        `agent`: what the node calls itself.
        `driver_statistics`, `driver_histograms`: of the node's driver, to be shown beside the node's.
        `mail`: what keeps durable messages; None: nothing does.
        `history`: what keeps topics, started; None: nothing does.
        `audit`: where changes of the node are written down; None: in the log only.
        `log`: whose records can be watched and whose levels changed.
        `bans`: where bans outlast the process; None: nowhere. `disk`: what writes them.
        `tracer`: of the requests that apps make and are given.
        `settings`: the configuration in force.
        """
        self.node = node
        self.config = config
        self.audit = audit or Audit(None)
        self.log = log or Log()
        self.calls = Calls(config.max_calls)
        self.lifetime = Lifetime()
        self.operations = AppOperations(node.new_op, feed, self.lifetime)
        self.epoch_ns = time.time_ns() - int(time.monotonic() * 1e9)
        self._driver_histograms = driver_histograms
        self.context = context = ServiceContext(
            node, feed, config, self.lifetime, self.operations, self.audit, self.epoch_ns
        )
        self.now = context.now
        self.gatekeeper = Gatekeeper(node.gate, feed, bans, disk)
        self.readiness = SidecarReadiness(context)
        self.node_service = NodeService(
            context,
            self.readiness,
            agent=agent,
            log=self.log,
            settings=settings,
            statistics=lambda: self.statistics().flat(),
            histograms=self.histograms,
        )
        self.peers = PeerService(context, self.gatekeeper)
        self.direct = DirectService(context, tracer or NoTracer(), mail)
        self.durable = DurableService(context, mail)
        self._mail = mail
        if mail is not None:
            mail.tell(self.readiness.stored)
        self.streams = StreamService(context)
        self.pubsub = PubSubService(context, history)
        self._history = history
        if history is not None:
            history.tell(self.readiness.history_kept)
        self.discovery = DiscoveryService(context)
        self.services: tuple[ApiService, ...] = (
            self.node_service,
            self.peers,
            self.direct,
            self.durable,
            self.streams,
            self.pubsub,
            self.discovery,
        )
        self._handlers = _joined(
            {OperationCompleted: self.operations.completed}, *(service.effects() for service in self.services)
        )
        self._driver_statistics = driver_statistics
        self._guard_statistics: Callable[[], GuardStatistics] = GuardStatistics

    def on_news(self, news: AppNews) -> None:
        """Take what the node tells its apps."""
        self._handlers[type(news)](news)

    def guarded(self, statistics: Callable[[], GuardStatistics]) -> None:
        """A server guards the services: show what its guard counts too."""
        self._guard_statistics = statistics

    def statistics(self) -> BackendStatistics:
        """Counters and sizes of the node, its driver and the API."""
        return BackendStatistics(
            node=self.node.statistics(),
            driver=self._driver_statistics(),
            pubsub=self.pubsub.statistics(),
            receivers=self.direct.receivers(),
            outcomes=self.direct.outcomes(),
            mail=self._mail.statistics() if self._mail is not None else MailStatistics(),
            history=self._history.statistics() if self._history is not None else HistoryStatistics(),
            byte_streams=self.streams.statistics(),
            guard=self._guard_statistics(),
            calls=CallsStatistics(self.lifetime.streams, len(self.operations)),
            audit=self.audit.statistics(),
        )

    def histograms(self) -> dict[str, Histogram]:
        """What the node and its driver count by size, by name."""
        return {**self.node.histograms(), **self._driver_histograms()}

    async def drain(self, timeout: float) -> None:
        """Take nothing new on, and give what is under way up to `timeout` seconds to end.

        That is: the operations of apps, so that their receipts and results go out, and the requests of peers that apps
        here have been given. Byte streams and the advertising of names, which have no end of their own, are not waited
        for.
        """
        await self.lifetime.drain(timeout)

    def close(self) -> None:
        """The sidecar stops: every stream delivers what it holds, then ends with Closed; nothing new is taken on."""
        self.lifetime.close()
        for service in self.services:
            service.close()


def _joined(*parts: Handlers) -> dict[type, Callable[[Any], None]]:
    """What takes which news. A test holds that all of `AppNews` are there."""
    joined: dict[type, Callable[[Any], None]] = {}
    for part in parts:
        for effect, handler in part.items():
            assert effect not in joined, f"{effect.__name__} is taken by two services"
            joined[effect] = handler
    return joined
