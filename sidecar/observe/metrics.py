"""The metrics, made when somebody asks. This module costs memory (prometheus-client): import it only when it is on."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from http import HTTPStatus

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder

from .. import __version__
from ..api.backend import Backend
from ..core.histogram import Histogram
from ..net.statistics import NetStatistics
from .http import HttpRequest, HttpResponse
from .metric_table import FAMILIES, HISTOGRAMS, ROWS, TOPIC_COUNTERS, Counted
from .topics import TopicCount, TopicLabels


class Metrics:
    """A page of metrics over everything that is counted anyway; between two scrapes it does nothing."""

    def __init__(self, backend: Backend, net: Callable[[], NetStatistics], max_topics: int) -> None:
        """`net` counts the driver. `max_topics`: topics with rows of their own; the others share one."""
        self._backend = backend
        self._net = net
        self._topics = TopicLabels(max_topics)
        self._registry = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self._registry)
        self._registry.register(self)

    def page(self, request: HttpRequest) -> HttpResponse:
        """All metrics, as text or OpenMetrics, as the scraper wants it."""
        encode, content_type = choose_encoder(request.accept)
        return HttpResponse(HTTPStatus.OK, content_type, encode(self._registry))

    def describe(self) -> list[Metric]:
        """Part of prometheus-client's collectors: nothing, so that registering does not collect."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Part of prometheus-client's collectors."""
        yield from self._about()
        counted = Counted(self._backend.statistics(), self._net())
        yield from _rows(counted)
        yield from _families(counted)
        yield from self._by_topic()
        yield from self._calls()
        histograms = self._backend.histograms()
        for name, doc in HISTOGRAMS.items():
            if name not in histograms:
                continue  # of a driver that does not count it
            yield _histogram(f"sidecar_{name}", doc, (), [((), histograms[name])])
        log = self._backend.log
        yield _counts("sidecar_log_lines", "Lines of the log that were written.", "level", log.written)
        hidden = "Lines of the log that repeated others and were held back."
        yield _counts("sidecar_log_lines_hidden", hidden, "level", log.hidden)

    def _about(self) -> Iterator[Metric]:
        node = self._backend.node
        about = {"version": __version__, "peer_id": str(node.peer_id), "network": node.network}
        yield InfoMetricFamily("sidecar", "This node.", about)
        if engine := self._backend.node_service.engine:
            doc = "What speaks gRPC to apps: http2 or grpcio."
            yield InfoMetricFamily("sidecar_api_engine", doc, {"engine": engine})
        conditions = self._backend.readiness.conditions()
        ready = all(condition.met for condition in conditions) and not self._backend.lifetime.refusing()
        yield GaugeMetricFamily("sidecar_ready", "1 while every condition of readiness is met.", ready)
        met = GaugeMetricFamily("sidecar_readiness_condition", "1 while this one is met.", labels=("condition",))
        for condition in conditions:
            met.add_metric((condition.type,), condition.met)
        yield met

    def _by_topic(self) -> Iterator[Metric]:
        views = self._backend.node.topics()
        local = [view for view in views if view.joined or view.mesh]  # of this node's apps, whose number is bounded
        columns = [name for name, _, _ in TOPIC_COUNTERS]
        counts = (
            TopicCount(
                view.topic, len(view.mesh), len(view.peers), tuple(getattr(view.counts, name) for name in columns)
            )
            for view in local
        )
        rows = self._topics.rows(counts)
        here = GaugeMetricFamily("sidecar_gossip_topics", "Topics that are known.", labels=("state",))
        here.add_metric(("joined",), sum(view.joined for view in views))
        here.add_metric(("announced",), sum(not view.joined for view in views))
        yield here
        mesh = GaugeMetricFamily("sidecar_gossip_topic_mesh_peers", "Members of a topic's mesh.", labels=("topic",))
        peers = GaugeMetricFamily("sidecar_gossip_topic_peers", "Peers that announced a topic.", labels=("topic",))
        for row in rows:
            mesh.add_metric((row.name,), row.mesh)
            peers.add_metric((row.name,), row.peers)
        yield from (mesh, peers)
        for index, (_, metric, doc) in enumerate(TOPIC_COUNTERS):
            total = CounterMetricFamily(f"sidecar_gossip_topic_{metric}", doc, labels=("topic",))
            for row in rows:
                total.add_metric((row.name,), row.counts[index])
            yield total

    def _calls(self) -> Iterator[Metric]:
        methods = self._backend.calls.methods
        ended = CounterMetricFamily("sidecar_api_calls", "Calls of apps that ended.", labels=("method", "code"))
        running = GaugeMetricFamily("sidecar_api_calls_in_progress", "Calls of apps under way.", labels=("method",))
        for method, calls in methods.items():
            if not calls.ended and not calls.open:
                continue  # most apps call few of them
            running.add_metric((method,), calls.open)
            for code, count in calls.ended.items():
                ended.add_metric((method, code.name), count)
        yield from (ended, running)
        times = [
            ((method,), calls.durations)
            for method, calls in methods.items()
            if calls.durations is not None and calls.ended
        ]
        doc = "How long calls of apps took that are not streams."
        yield _histogram("sidecar_api_call_duration_seconds", doc, ("method",), times)


def _family(name: str, doc: str, counter: bool, labels: Sequence[str]) -> CounterMetricFamily | GaugeMetricFamily:
    return (CounterMetricFamily if counter else GaugeMetricFamily)(name, doc, labels=labels)


def _rows(counted: Counted) -> Iterator[Metric]:
    family: CounterMetricFamily | GaugeMetricFamily | None = None
    for row in ROWS:
        if family is None or family.name != row.metric:
            if family is not None:
                yield family
            family = _family(row.metric, row.doc, row.counter, tuple(row.labels))
        family.add_metric(tuple(row.labels.values()), row.number(counted))
    if family is not None:
        yield family


def _families(counted: Counted) -> Iterator[Metric]:
    for family in FAMILIES:
        made = _family(family.metric, family.doc, family.counter, (family.label,))
        for label, count in {**dict.fromkeys(family.known, 0.0), **family.numbers(counted)}.items():
            made.add_metric((label,), count)
        yield made


def _counts(name: str, doc: str, label: str, counts: Mapping[str, int]) -> Metric:
    family = CounterMetricFamily(name, doc, labels=(label,))
    for value, count in counts.items():
        family.add_metric((value,), count)
    return family


def _histogram(name: str, doc: str, labels: Sequence[str], series: Sequence[tuple[Sequence[str], Histogram]]) -> Metric:
    family = HistogramMetricFamily(name, doc, labels=labels)
    for values, histogram in series:
        buckets, below = [], 0
        for bound, count in zip((*map(str, histogram.bounds), "+Inf"), histogram.counts, strict=True):
            below += count
            buckets.append((bound, float(below)))
        family.add_metric(values, buckets, histogram.total)
    return family
