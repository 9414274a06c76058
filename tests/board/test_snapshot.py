"""The snapshot: rates from differences, what is not known, and how little is sent when little has changed."""

import json
from dataclasses import replace

import pytest
from sidecar_client import AddressReachability, PeerPath, Reachability

from sidecar.board.snapshot import changes, merge, quantile, snapshot

from .samples import START, event, gone, histogram, peer, peer_id, sample, topic, unready


def test_rates_are_differences_by_the_time_between() -> None:
    old = sample(0, values={"gossip_received": 100, "net_bytes_in": 1000, "direct_messages_received": 5})
    new = sample(5, values={"gossip_received": 200, "net_bytes_in": 1000, "direct_messages_received": 10})
    rates = snapshot(new, old)["totals"]["rates"]
    assert (rates["received"], rates["bytes_in"]) == (21.0, 0.0)
    assert rates["bytes_out"] is None, "the sidecar says nothing of it"


def test_without_an_earlier_sample_no_rate_is_known() -> None:
    shown = snapshot(sample(0, values={"gossip_received": 100}, topics=[topic(delivered=3)]))
    assert shown["totals"]["rates"]["received"] is None
    assert shown["topics"]["news"]["delivered"] == 3
    assert shown["topics"]["news"]["rates"]["delivered"] is None


def test_samples_of_another_run_give_no_rates() -> None:
    old = sample(0, values={"gossip_received": 100}, histograms=histogram(1, 0, 0, 0))
    node = replace(old.node, start_time=START + 601, uptime=4.0)
    new = sample(5, node=node, values={"gossip_received": 500}, histograms=histogram(2, 0, 0, 0))
    shown = snapshot(new, old, old)
    assert shown["totals"]["rates"]["received"] is None
    assert shown["histograms"]["gossip_propagation_seconds"]["recent"] is None


def test_a_topic_has_rates_of_its_own_and_new_ones_begin_at_0() -> None:
    old = sample(0, topics=[topic(delivered=10, dropped=1)])
    new = sample(2, topics=[topic(delivered=30, dropped=1), topic("sport", delivered=4)])
    topics = snapshot(new, old)["topics"]
    assert (topics["news"]["rates"]["delivered"], topics["news"]["rates"]["dropped"]) == (10.0, 0.0)
    assert topics["sport"]["rates"]["delivered"] == 2.0


def test_a_topic_that_was_left_and_joined_again_has_no_rate_yet() -> None:
    old, new = sample(0, topics=[topic(delivered=100)]), sample(2, topics=[topic(delivered=1)])
    assert snapshot(new, old)["topics"]["news"]["rates"]["delivered"] is None


def test_peers_have_the_topics_in_whose_mesh_they_are() -> None:
    topics = [topic("news", mesh_peer_ids=(peer_id(1),)), topic("sport", mesh_peer_ids=(peer_id(1), peer_id(2)))]
    peers = snapshot(sample(peers=[peer(1), peer(2), peer(3)], topics=topics))["peers"]
    assert [peers[peer_id(n)]["mesh"] for n in (1, 2, 3)] == [["news", "sport"], ["sport"], []]


def test_a_peer_that_is_gone_is_shown_with_the_reason_but_not_counted() -> None:
    shown = snapshot(sample(peers=[peer(1), peer(2, latency=None)], gone=[gone(3)]))
    assert shown["peers"][peer_id(3)]["gone"] == {"time": START + 590, "reason": "reset by the peer"}
    totals = shown["totals"]
    assert (totals["peers"], totals["inbound"], totals["outbound"]) == (2, 1, 1)
    assert totals["latency"] == peer(1).latency


def test_a_peer_that_came_back_is_not_gone() -> None:
    assert snapshot(sample(peers=[peer(1)], gone=[gone(1)]))["peers"][peer_id(1)]["gone"] is None


def test_losses_are_named_by_reason_and_added_up() -> None:
    old = sample(0, values={"gossip_dropped_queue_full": 0, "gossip_rejected_key": 1, "net_refused": 0})
    new = sample(2, values={"gossip_dropped_queue_full": 8, "gossip_rejected_key": 1, "net_refused": 0})
    shown = snapshot(new, old)
    assert [(loss["what"], loss["count"], loss["rate"]) for loss in shown["losses"]] == [
        ("Gossip dropped: queue full", 8, 4.0),
        ("Gossip rejected: key", 1, 0.0),
    ]
    assert shown["totals"]["lost"] == 4.0


def test_what_is_on_disk_is_listed_where_there_is_any() -> None:
    assert snapshot(sample(values={"durable_outbox_messages": 0, "history_bytes": 0}))["kept"] == []
    kept = snapshot(sample(values={"durable_outbox_messages": 3, "durable_dead_letters": 0, "history_bytes": 9}))[
        "kept"
    ]
    assert [(one["name"], one["value"], one["unit"]) for one in kept] == [
        ("durable_outbox_messages", 3, "messages"),
        ("history_bytes", 9, "bytes"),
    ]


def test_only_queues_that_the_sidecar_has_are_listed() -> None:
    queues = snapshot(sample(values={"net_buffered": 7, "unheard_of": 1}))["queues"]
    assert [(queue["name"], queue["value"], queue["unit"]) for queue in queues] == [("net_buffered", 7, "bytes")]


def test_a_histogram_has_its_recent_part_and_quantiles_of_that() -> None:
    old, new = sample(0, histograms=histogram(100, 0, 0, 0)), sample(60, histograms=histogram(100, 10, 0, 0))
    found = snapshot(new, new, old)["histograms"]["gossip_propagation_seconds"]
    assert (found["counts"], found["recent"]) == ([100, 10, 0, 0], [0, 10, 0, 0])
    assert found["median"] == pytest.approx(0.0055)
    assert snapshot(new)["histograms"]["gossip_propagation_seconds"]["median"] < 0.001


def test_an_objective_is_shown_with_what_is_the_case() -> None:
    wanted = {"probe_objective": 0.5, "probe_objective_share": 0.99, "probe_in_time_share": 1.0}
    assert snapshot(sample())["objective"] is None
    assert snapshot(sample(values={**wanted, "probe_objective": 0.0}))["objective"] is None
    unknown = snapshot(sample(values={**wanted, "probe_judged_in_time": 0, "probe_judged_late": 0}))["objective"]
    assert unknown == {"seconds": 0.5, "wanted": 0.99, "share": None, "met": True}
    late = snapshot(sample(values={**wanted, "probe_in_time_share": 0.98, "probe_judged_late": 3}))["objective"]
    assert late == {"seconds": 0.5, "wanted": 0.99, "share": 0.98, "met": False}


@pytest.mark.parametrize(
    ("counts", "share", "found"),
    [
        ((0, 0, 0, 0), 0.5, None),
        ((4, 0, 0, 0), 0.5, 0.0005),
        ((0, 0, 4, 0), 1.0, 0.1),
        ((0, 0, 0, 4), 0.5, 0.1),
        ((2, 2, 0, 0), 0.75, 0.0055),
    ],
)
def test_quantiles(counts: tuple[int, ...], share: float, found: float | None) -> None:
    assert quantile((0.001, 0.01, 0.1), counts, share) == (None if found is None else pytest.approx(found))


def test_the_changes_lead_from_any_snapshot_to_any_other() -> None:
    kinds = [
        snapshot(sample(0)),
        snapshot(sample(1, peers=[peer(1), peer(2)], topics=[topic()], events={1: event()})),
        snapshot(sample(2, peers=[peer(2, latency=0.5), peer(3)], gone=[gone(1)], events={1: event(), 2: event("b")})),
        snapshot(sample(3, readiness=unready(), topics=[topic("sport")], events={2: event("b")})),
    ]
    for old in kinds:
        for new in kinds:
            found = json.loads(json.dumps(changes(old, new)))
            assert merge(old, found) == new
            assert (not found) == (old is new)
    assert merge({}, changes({}, kinds[1])) == kinds[1]


def test_of_a_thousand_peers_only_the_one_that_changed_is_sent() -> None:
    old = sample(0, peers=[peer(number) for number in range(1000)])
    new = replace(old, peers=[peer(7, latency=0.123), *old.peers[:7], *old.peers[8:]])
    found = changes(snapshot(old), snapshot(new))
    assert list(found["peers"]["set"]) == [peer_id(7)]
    assert found["peers"]["gone"] == []
    assert set(found) <= {"peers", "totals"}


def test_what_is_not_ready_says_what_to_do() -> None:
    readiness = snapshot(sample(readiness=unready()))["readiness"]
    assert not readiness["ready"]
    assert readiness["conditions"][0]["remedy"] == "check that one runs"


def test_whether_peers_reach_the_node_is_said_in_words_and_how_many_come_through_relays() -> None:
    tried = AddressReachability("/ip4/192.0.2.1/tcp/4747", Reachability.NOT_REACHABLE, "announced", START, 0, 3)
    circuit = "/ip4/198.51.100.1/tcp/4747/p2p/12D3KooWRelay/p2p-circuit"
    old = sample()
    node = replace(old.node, reachability=Reachability.NOT_REACHABLE, addresses=(tried,), relayed_addresses=(circuit,))
    ways = [PeerPath.DIRECT, PeerPath.RELAYED, PeerPath.RELAYED_LIMITED, PeerPath.UNSPECIFIED]
    shown = snapshot(sample(node=node, peers=[peer(n, path=path) for n, path in enumerate(ways)]))
    assert shown["node"]["reachability"] == "not reachable"
    assert shown["node"]["relayed"] == [circuit]
    assert shown["node"]["tried"] == [{"address": tried.address, "reachability": "not reachable"}]
    assert [shown["peers"][peer_id(n)]["path"] for n in range(4)] == ["direct", "relayed", "limited", ""]
    assert shown["totals"]["relayed"] == 2
    assert snapshot(old)["node"]["reachability"] == "unknown", "an earlier sidecar does not look"
