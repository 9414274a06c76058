"""The page of metrics over the fake node: every statistic has its row, and what is told is well formed."""

import asyncio
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from sidecar.api.backend import Backend
from sidecar.api.config import ApiConfig
from sidecar.core import gossip
from sidecar.core.statistics import Statistics
from sidecar.net.statistics import NetStatistics
from sidecar.observe.http import HttpRequest
from sidecar.observe.lag import BOUNDS, LoopLag
from sidecar.observe.metric_table import FAMILIES, ROWS, Counted
from sidecar.observe.metrics import Metrics
from tests.api.fakes import FakeNode, asynchronous

Samples = dict[str, list[tuple[dict[str, str], float]]]


def scraped(metrics: Metrics) -> Samples:
    answer = metrics.page(HttpRequest("/metrics", "text/plain"))
    found: Samples = {}
    for family in text_string_to_metric_families(answer.body.decode()):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


@pytest.fixture
def node() -> FakeNode:
    return FakeNode()


@pytest.fixture
def backend(node: FakeNode) -> Backend:
    lag = LoopLag()
    return Backend(
        node, node.feed, ApiConfig(), agent="x", driver_histograms=lambda: {"event_loop_lag_seconds": lag.delays}
    )


def test_the_page_tells_the_node_its_readiness_and_its_process(node: FakeNode, backend: Backend) -> None:
    metrics = Metrics(backend, NetStatistics, max_topics=5)
    found = scraped(metrics)
    assert found["sidecar_info"][0][0]["network"] == "test"
    assert found["sidecar_ready"] == [({}, 1.0)]
    assert "process_resident_memory_bytes" in found
    assert "sidecar_api_engine_info" not in found  # nothing serves yet
    backend.node_service.engine = "http2"
    assert scraped(metrics)["sidecar_api_engine_info"] == [({"engine": "http2"}, 1.0)]
    node.met = False
    found = scraped(metrics)
    assert found["sidecar_ready"] == [({}, 0.0)]
    assert found["sidecar_readiness_condition"] == [({"condition": "Listening"}, 0.0)]


def test_topics_have_labels_and_those_beyond_the_limit_share_one(node: FakeNode, backend: Backend) -> None:
    for name in "abcd":
        node.joined[name] = gossip.TopicOptions()
    found = scraped(Metrics(backend, NetStatistics, max_topics=2))
    assert found["sidecar_gossip_topics"] == [({"state": "joined"}, 4.0), ({"state": "announced"}, 0.0)]
    assert [labels["topic"] for labels, _ in found["sidecar_gossip_topic_mesh_peers"]] == ["d", "c", "other"]


def test_histograms_are_cumulative(backend: Backend) -> None:
    found = scraped(Metrics(backend, NetStatistics, max_topics=5))
    assert [(labels["le"], value) for labels, value in found["sidecar_gossip_propagation_seconds_bucket"]] == [
        ("0.01", 2.0),
        ("0.1", 2.0),
        ("+Inf", 3.0),
    ]
    assert found["sidecar_gossip_propagation_seconds_sum"] == [({}, 5.015)]


@asynchronous
async def test_the_lag_of_the_loop_is_looked_at_until_it_is_stopped() -> None:
    lag = LoopLag(interval=0.0)
    lag.start()
    while not sum(lag.delays.counts):  # noqa: ASYNC110 - it counts, and tells nobody
        await asyncio.sleep(0)
    lag.stop()
    count = sum(lag.delays.counts)
    for _ in range(10):
        await asyncio.sleep(0)
    assert sum(lag.delays.counts) == count
    assert len(lag.delays.counts) == len(BOUNDS) + 1


class _Read:
    """Stands for statistics, and notes which fields of them are read."""

    def __init__(self, part: Any, path: str, seen: set[str]) -> None:
        self._part, self._path, self._seen = part, path, seen

    def __getattr__(self, name: str) -> Any:
        value, path = getattr(self._part, name), f"{self._path}.{name}".lstrip(".")
        if isinstance(value, Statistics | Counted):
            return _Read(value, path, self._seen)
        self._seen.add(path.removeprefix("node.") if path.startswith("node.") else path)
        return value


def _fields(part: Any, path: str) -> Iterator[str]:
    for field in fields(part):
        value = getattr(part, field.name)
        if isinstance(value, Statistics):
            yield from _fields(value, f"{path}.{field.name}".lstrip("."))
        else:
            yield f"{path}.{field.name}"


def test_every_number_has_its_metric(backend: Backend) -> None:
    counted = Counted(backend.statistics(), NetStatistics())
    seen: set[str] = set()
    for row in ROWS:
        row.number(_Read(counted, "", seen))  # type: ignore[arg-type]
    for family in FAMILIES:
        family.numbers(_Read(counted, "", seen))  # type: ignore[arg-type]
    there = {*_fields(counted.node, ""), *_fields(counted.net, "net")}
    there |= {name for name in _fields(counted.api, "api") if not name.startswith(("api.node.", "api.driver"))}
    # Told by others: connections and their openings by direction, ends by reason, lookups by outcome.
    others = {"switch.connections", "net.connections", "net.opened", "net.closed", "kademlia.lookups"}
    assert there - seen == others
    assert seen <= there
