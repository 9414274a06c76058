"""What a small mesh of real sidecars tells, after a bit of everything."""

import re

from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families

from sidecar.observe.metric_table import FAMILIES, HISTOGRAMS, ROWS, TOPIC_COUNTERS

from .promtool import promtool
from .reference import FILE, rows
from .small_mesh import SmallMesh

Samples = dict[str, list[tuple[dict[str, str], float]]]


def samples(text: str) -> Samples:
    found: Samples = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


def total(found: Samples, name: str, **labels: str) -> float:
    return sum(value for having, value in found[name] if labels.items() <= having.items())


def test_promtool_has_no_objection(small_mesh: SmallMesh) -> None:
    for text in small_mesh.scraped():
        checked = promtool("check", "metrics", given=text)
        assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


def test_both_forms_of_the_page_can_be_read(small_mesh: SmallMesh) -> None:
    text = small_mesh.scraped("application/openmetrics-text; version=1.0.0")[0]
    names = {family.name for family in open_metrics(text)}
    assert {"sidecar_gossip_delivered_messages", "sidecar_event_loop_lag_seconds"} <= names


def test_every_row_is_told_and_has_a_unit_or_counts_something(small_mesh: SmallMesh) -> None:
    found = samples(small_mesh.scraped()[0])
    for row in ROWS:
        name = f"{row.metric}_total" if row.counter else row.metric
        assert any(row.labels.items() <= labels.items() for labels, _ in found[name]), row
    for family in FAMILIES:
        assert (f"{family.metric}_total" if family.counter else family.metric) in found, family
    for metric in HISTOGRAMS:
        assert f"sidecar_{metric}_bucket" in found
        assert metric.endswith(("_seconds", "_hops", "_queries"))
    for _, metric, _ in TOPIC_COUNTERS:
        assert f"sidecar_gossip_topic_{metric}_total" in found
    for name in found:
        if "bytes" in name:
            assert re.search(r"_bytes(_total)?$", name), name


def test_the_numbers_are_those_of_what_was_done(small_mesh: SmallMesh) -> None:
    first, second, third = map(samples, small_mesh.scraped())
    for found in (first, second, third):
        assert total(found, "sidecar_peers_connected") == 2
        assert total(found, "sidecar_connections") >= 2
        assert total(found, "sidecar_gossip_published_messages_total") == 10
        assert total(found, "sidecar_gossip_delivered_messages_total") == 30
        assert total(found, "sidecar_handshakes_total", outcome="completed") >= 2
        for protocol in ("gossip", "dht", "identify"):
            assert total(found, "sidecar_stream_received_bytes_total", protocol=protocol) > 0
            assert total(found, "sidecar_stream_sent_bytes_total", protocol=protocol) > 0
        assert total(found, "sidecar_dht_lookup_duration_seconds_count") > 0
        assert total(found, "sidecar_event_loop_lag_seconds_count") > 0
    duplicates = sum(total(found, "sidecar_gossip_duplicate_messages_total") for found in (first, second, third))
    if duplicates:  # most often, unless each IDONTWANT was faster
        assert sum(total(found, "sidecar_gossip_propagation_seconds_count") for found in (first, second, third)) > 0
    assert total(first, "sidecar_connections_opened_total", direction="inbound") >= 1
    assert total(second, "sidecar_connections_opened_total", direction="outbound") >= 1
    assert total(first, "sidecar_direct_receipts_total", outcome="delivered") == 1
    assert total(first, "sidecar_direct_receipts_total", outcome="no_subscriber") == 1
    assert total(first, "sidecar_direct_requests_total", outcome="answered") == 1
    assert total(first, "sidecar_direct_requests_total") == 2
    assert total(first, "sidecar_api_calls_total", method="PeerService/FindPeer", code="INVALID_ARGUMENT") == 1
    assert total(first, "sidecar_api_call_duration_seconds_count", method="DirectService/Send") == 2
    assert total(second, "sidecar_stream_received_bytes_total", protocol="apps") == 5


def test_topics_beyond_the_limit_share_a_row(small_mesh: SmallMesh) -> None:
    found = samples(small_mesh.scraped()[0])
    names = [labels["topic"] for labels, _ in found["sidecar_gossip_topic_published_messages_total"]]
    assert len(names) == 4
    assert names[-1] == "other"
    assert total(found, "sidecar_gossip_topic_published_messages_total") == 10
    assert total(found, "sidecar_gossip_topic_delivered_messages_total") == 30


def test_every_metric_is_in_the_reference_and_no_other(small_mesh: SmallMesh) -> None:
    told = rows(small_mesh.scraped())
    written = dict(re.findall(r"^\| `([a-z_]+)` \| ([a-z]+) \|", FILE.read_text(), re.M))
    assert written == {name: kind for name, kind, _, _ in told}, "run `make metrics`"
    text = FILE.read_text()
    assert [name for name, _, _, doc in told if doc not in text] == []
