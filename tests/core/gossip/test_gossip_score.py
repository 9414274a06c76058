"""Scores as the specification's formulas give them; the expected values are worked out by hand."""

import math
from dataclasses import replace

import pytest
from gossip_network import peer_id

from sidecar.core.errors import ConfigError
from sidecar.core.events import ScoreView, Standing
from sidecar.core.gossip.score import PeerScores, ScoredPeer
from sidecar.core.networks import AddressGroup
from sidecar.core.parameters import ScoreConfig, TopicScoreConfig
from sidecar.core.parameters.score import convergence, decay_factor
from sidecar.core.types import PeerId

TOPIC = TopicScoreConfig(
    weight=2.0,
    time_in_mesh_weight=0.5,
    time_in_mesh_quantum=2.0,
    time_in_mesh_cap=10.0,
    first_weight=3.0,
    first_decay=0.5,
    first_cap=8.0,
    mesh_weight=-1.0,
    mesh_decay=0.5,
    mesh_threshold=4.0,
    mesh_cap=6.0,
    mesh_activation=5.0,
    mesh_window=0.1,
    failure_weight=-0.25,
    failure_decay=0.5,
    invalid_weight=-10.0,
    invalid_decay=0.9,
)
CONFIG = ScoreConfig(topic=TOPIC, topic_cap=0.0, decay_to_zero=0.1)
ONE, TWO = peer_id(1), peer_id(2)


def scores(config: ScoreConfig = CONFIG, *topics: str) -> PeerScores:
    made = PeerScores(config, 6, 0.0)
    for topic in topics or ("news",):
        made.expect(topic)
    return made


def arrive(made: PeerScores, peer: PeerId = ONE, *hosts: str) -> ScoredPeer:
    return made.arrived(peer, hosts)


def ids(count: int, mark: str = "") -> list[bytes]:
    return [f"{mark}{number}".encode() for number in range(count)]


def seen(made: PeerScores, peer: PeerId = ONE) -> ScoreView:
    view = made.view(peer)
    assert view is not None
    return view


def fill(made: PeerScores, source: ScoredPeer, count: int, now: float, topic: str = "news") -> list[bytes]:
    """Messages that somebody else brings."""
    found = ids(count, f"{now}-")
    made.delivered(source, topic, found, now)
    return found


# ---------------------------------------------------------------- P1


def test_time_in_mesh_counts_whole_quanta_up_to_the_cap_and_ends_with_the_link() -> None:
    made = scores(replace(CONFIG, topic=replace(TOPIC, mesh_weight=0.0, failure_weight=0.0)))
    record = arrive(made)
    made.refresh(1.0)
    assert made.of(ONE) == 0.0
    made.grafted(record, "news", 1.0)
    for now, quanta in [(2.9, 0), (3.0, 1), (6.9, 2), (7.0, 3), (21.0, 10), (500.0, 10)]:
        made.refresh(now)
        assert made.of(ONE) == 2.0 * 0.5 * quanta
    made.pruned(record, "news")
    assert made.of(ONE) == 0.0


# ---------------------------------------------------------------- P2


def test_first_deliveries_are_capped_when_they_come_and_wear_off() -> None:
    made = scores()
    record = arrive(made)
    made.delivered(record, "news", ids(5), 0.0)
    made.refresh(0.5)
    assert made.of(ONE) == 2.0 * 3.0 * 5
    made.delivered(record, "news", ids(5, "x"), 0.6)
    made.refresh(0.9)
    assert made.of(ONE) == 2.0 * 3.0 * 8
    for now, left in [(1.0, 4.0), (2.0, 2.0), (4.0, 0.5), (6.0, 0.125), (7.0, 0.0)]:  # 0.0625 is below 0.1
        made.refresh(now)
        assert made.of(ONE) == pytest.approx(6.0 * left)


def test_a_missed_heartbeat_is_made_up_for_in_what_wears_off() -> None:
    made = scores()
    made.delivered(arrive(made), "news", ids(8), 0.0)
    made.refresh(2.99)
    assert made.of(ONE) == pytest.approx(6.0 * 2.0)
    made.refresh(3.0)
    assert made.of(ONE) == pytest.approx(6.0 * 1.0)


# ---------------------------------------------------------------- P3 and P3b


def test_too_few_deliveries_count_as_the_square_of_what_is_missing_once_active() -> None:
    made = scores()
    record, source = arrive(made), arrive(made, TWO)
    made.grafted(record, "news", 0.0)
    found = fill(made, source, 100, 0.0)
    made.refresh(0.0)
    made.again(record, "news", found[:2], 0.05)
    made.refresh(0.5)
    assert seen(made).topics[0].mesh_deliveries == 0.0  # not active yet
    record.topics["news"].active = True
    made.refresh(0.6)
    assert seen(made).topics[0].mesh_deliveries == 2.0 * -1.0 * (4 - 2) ** 2


def test_it_is_active_only_after_the_activation() -> None:
    made = scores()
    record, source = arrive(made), arrive(made, TWO)
    made.grafted(record, "news", 0.0)
    for now in range(6):
        fill(made, source, 100, float(now))
        made.refresh(float(now))
    assert not record.topics["news"].active  # after 5 s exactly
    made.refresh(5.5)
    assert record.topics["news"].active
    assert seen(made).topics[0].mesh_deliveries == 2.0 * -1.0 * 4.0**2


def test_near_first_copies_count_once_each_within_the_window_for_mesh_peers_alone() -> None:
    made = scores()
    record, source = arrive(made), arrive(made, TWO)
    outside = arrive(made, peer_id(3))
    made.grafted(record, "news", 0.0)
    found = fill(made, source, 3, 0.0)
    made.again(record, "news", [found[0]], 0.1)
    made.again(record, "news", [found[0]], 0.1)
    made.again(record, "news", [found[1]], 0.1001)  # too late
    made.again(record, "news", [b"unknown"], 0.0)
    made.again(outside, "news", [found[2]], 0.0)
    made.again(source, "news", [found[2]], 0.0)  # its own
    assert record.topics["news"].mesh == 1.0
    made.shown(record, [found[2]], 0.02)  # by IDONTWANT: it need not bring it
    assert record.topics["news"].mesh == 2.0
    assert "news" not in outside.topics
    assert source.topics["news"].mesh == 0.0


def test_first_deliveries_of_mesh_peers_count_for_the_rate_up_to_its_cap() -> None:
    made = scores()
    record = arrive(made)
    made.grafted(record, "news", 0.0)
    made.delivered(record, "news", ids(5), 0.0)
    made.delivered(record, "news", ids(5, "x"), 0.0)
    assert record.topics["news"].mesh == 6.0


def test_nobody_is_blamed_for_a_topic_in_which_little_comes() -> None:
    made = scores()
    record, source = arrive(made), arrive(made, TWO)
    made.grafted(record, "news", 0.0)
    record.topics["news"].active = True
    made.refresh(0.1)
    assert seen(made).topics[0].mesh_deliveries == 0.0  # nothing came at all
    fill(made, source, 4, 0.2)
    made.refresh(0.3)
    assert seen(made).topics[0].mesh_deliveries == 2.0 * -1.0 * (4 / 4) ** 2  # a quarter of what came
    fill(made, source, 12, 0.4)
    made.refresh(0.5)
    assert seen(made).topics[0].mesh_deliveries == 2.0 * -1.0 * 4.0**2  # no more than the threshold


def test_a_deficit_at_the_prune_is_kept_in_mind_and_wears_off() -> None:
    made = scores()
    record, source = arrive(made), arrive(made, TWO)
    made.grafted(record, "news", 0.0)
    record.topics["news"].active = True
    fill(made, source, 100, 0.0)
    made.again(record, "news", fill(made, source, 1, 0.1), 0.1)
    made.pruned(record, "news")
    assert seen(made).topics[0][1:] == (0.0, 0.0, 0.0, 2.0 * -0.25 * 3.0**2, 0.0)
    made.refresh(1.0)
    assert made.of(ONE) == 2.0 * -0.25 * 4.5
    made.grafted(record, "news", 1.5)  # it does not begin anew
    made.refresh(2.0)
    assert made.of(ONE) == 2.0 * -0.25 * 2.25
    made.pruned(record, "news")  # not active: no deficit
    assert made.of(ONE) == 2.0 * -0.25 * 2.25


def test_without_a_threshold_nothing_is_remembered_of_messages() -> None:
    made = scores(ScoreConfig())
    record = arrive(made)
    made.grafted(record, "news", 0.0)
    made.delivered(record, "news", ids(50), 0.0)
    assert not made.judges_deliveries
    assert record.topics["news"].topic.recent == {}
    made.refresh(1000.0)
    assert seen(made).topics[0].mesh_deliveries == 0.0


def test_messages_that_copies_are_counted_of_are_forgotten_after_the_window_and_bounded() -> None:
    made = scores()
    record = arrive(made)
    recent = made._judged["news"].recent
    made.delivered(record, "news", ids(5), 0.0)
    made.delivered(record, "news", ids(2, "x"), 0.95)
    made.refresh(1.0)
    assert list(recent) == ids(2, "x")
    for number in range(40):
        made.delivered(record, "news", ids(1000, f"{number}-"), 1.0)
    assert len(recent) == 16_384


# ---------------------------------------------------------------- P4


def test_invalid_messages_count_squared_and_percolate_from_topic_to_topic() -> None:
    made = scores(CONFIG, "news", "other")
    record = arrive(made)
    made.rejected(record, "news")
    assert made.of(ONE) == 2.0 * -10.0
    made.rejected(record, "news", 2)
    assert made.of(ONE) == 2.0 * -10.0 * 9
    made.rejected(record, "other")
    assert made.of(ONE) == 2.0 * -10.0 * 9 - 20.0
    made.refresh(1.0)
    assert made.of(ONE) == pytest.approx(-20.0 * (2.7**2 + 0.9**2))
    made.rejected(record, "unknown topic")
    assert made.of(ONE) == pytest.approx(-20.0 * (2.7**2 + 0.9**2))


def test_one_invalid_message_by_default_is_nearly_a_graylist_and_two_are_one_whatever_was_earned() -> None:
    made = scores(ScoreConfig())
    record = arrive(made)
    made.rejected(record, "news")
    assert record.standing is Standing.NO_PUBLISH
    assert -80 < made.of(ONE) < -50
    made.grafted(record, "news", 0.0)
    made.delivered(record, "news", ids(1000), 0.0)
    made.refresh(0.9)
    assert made.of(ONE) == -75 + 20
    made.rejected(record, "news")
    assert record.standing is Standing.GRAYLISTED
    assert not made.unbearable(record)
    made.rejected(record, "news", 10)
    assert made.unbearable(record)
    now = 0.9
    while record.standing is not Standing.GOOD:
        now += 1.0
        made.refresh(now)
    assert 300 < now < 1200  # some minutes, and it is over


# ---------------------------------------------------------------- topic cap


def test_topics_together_count_no_more_than_the_cap_and_as_little_as_they_are_worth() -> None:
    made = scores(replace(CONFIG, topic_cap=20.0), "news", "other")
    record = arrive(made)
    made.delivered(record, "news", ids(8), 0.0)
    made.delivered(record, "other", ids(8), 0.0)
    made.refresh(0.1)
    assert made.of(ONE) == 20.0
    made.appoint(ONE, 5.0, None, 0.1)
    assert made.of(ONE) == 25.0  # beside the topics
    made.rejected(record, "news", 3)
    assert made.of(ONE) == 48.0 * 2 - 180.0 + 5.0


# ---------------------------------------------------------------- P5


def test_an_app_adds_its_own_until_it_ends() -> None:
    made = scores(replace(CONFIG, application_weight=2.0))
    arrive(made)
    made.appoint(ONE, -3.0, 10.0, 0.0)
    assert made.of(ONE) == -6.0
    made.refresh(9.9)
    assert made.of(ONE) == -6.0
    made.refresh(10.0)
    assert made.of(ONE) == 0.0
    made.appoint(ONE, 4.0, None, 10.0)
    made.refresh(10_000.0)
    assert made.of(ONE) == 8.0
    made.appoint(ONE, 0.0, None, 10_000.0)
    assert made.of(ONE) == 0.0


def test_an_app_may_speak_of_who_is_not_here_and_take_it_back() -> None:
    made = scores()
    made.appoint(ONE, -3.0, 50.0, 0.0)
    assert made.of(ONE) == -3.0
    made.appoint(TWO, 0.0, None, 0.0)
    assert made.view(TWO) is None
    made.appoint(ONE, -4.0, 50_000.0, 0.0)
    made.refresh(10_000.0)  # longer than scores are kept otherwise
    assert arrive(made).value == -4.0
    made.appoint(ONE, 0.0, None, 10_000.0)
    made.gone(made._records[ONE], 10_000.0)
    assert made.view(ONE) is None
    made.appoint(ONE, -3.0, 10_020.0, 10_000.0)
    made.appoint(ONE, 0.0, None, 10_001.0)
    assert made.view(ONE) is None


# ---------------------------------------------------------------- P6


def test_peers_of_one_address_count_squared_beyond_the_threshold() -> None:
    made = scores(replace(CONFIG, colocation_threshold=2, colocation_weight=-5.0))
    records = [arrive(made, peer_id(number), "198.51.100.7") for number in range(1, 6)]
    other = arrive(made, peer_id(9), "198.51.100.8")
    made.refresh(1.0)
    assert [record.value for record in records] == [-5.0 * (5 - 2) ** 2] * 5
    assert other.value == 0.0
    made.gone(records[0], 2.0)
    made.moved(records[1], ["203.0.113.1"])
    made.refresh(2.0)
    assert [record.value for record in records[1:]] == [0.0] + [-5.0] * 3
    assert made._groups == {
        AddressGroup.of("198.51.100.7").address: 3,
        AddressGroup.of("198.51.100.8").address: 1,
        AddressGroup.of("203.0.113.1").address: 1,
    }


def test_ipv6_counts_by_its_first_64_bits_and_mapped_ipv4_as_ipv4() -> None:
    made = scores(replace(CONFIG, colocation_threshold=1))
    first = arrive(made, ONE, "2001:db8:0:1::1")
    second = arrive(made, TWO, "2001:db8:0:1:ffff::2", "::ffff:198.51.100.7")
    third = arrive(made, peer_id(3), "2001:db8:0:2::1", "198.51.100.7")
    made.refresh(1.0)
    assert [record.value for record in (first, second, third)] == [-5.0, -10.0, -5.0]


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "10.1.2.3", "172.31.0.1", "192.168.1.1", "169.254.1.1", "100.64.0.1", "::1", "fd00::1", "fe80::1"],
)
def test_loopback_and_private_addresses_do_not_count(host: str) -> None:
    made = scores(replace(CONFIG, colocation_threshold=1))
    records = [arrive(made, peer_id(number), host) for number in range(1, 5)]
    made.refresh(1.0)
    assert {record.value for record in records} == {0.0}
    assert made._groups == {}


def test_a_crowd_at_one_address_is_not_sent_away_for_it() -> None:
    made = scores(ScoreConfig())
    records = [arrive(made, peer_id(number), "198.51.100.7") for number in range(1, 101)]
    made.refresh(1.0)
    assert records[0].value == -5.0 * 90**2
    assert not made.unbearable(records[0])
    made.rejected(records[0], "news", 12)
    assert made.unbearable(records[0])


# ---------------------------------------------------------------- P7, slow peers


def test_misbehaviour_counts_squared_beyond_the_threshold_and_wears_off() -> None:
    made = scores(replace(CONFIG, behaviour_threshold=2.0, behaviour_weight=-10.0, behaviour_decay=0.5))
    record = arrive(made)
    made.penalise(record, "graft_in_backoff", 2.0)
    assert made.of(ONE) == 0.0
    made.penalise(record, "broken_promise")
    made.penalise(record, "broken_promise")
    assert made.of(ONE) == -10.0 * (4 - 2) ** 2
    assert "misbehaviour, mostly" in seen(made).reason
    made.refresh(1.0)
    assert made.of(ONE) == 0.0
    made.penalise(record, "malformed", 2.0)
    assert made.of(ONE) == -10.0 * (4 - 2) ** 2
    assert "RPCs that are none" in seen(made).reason
    made.refresh(10.0)
    assert (record.behaviour, record.reasons) == (0.0, {})


def test_slow_peers_lose_a_little_as_rust_has_it() -> None:
    made = scores(replace(CONFIG, slow_weight=-0.2, slow_threshold=1.0, slow_decay=0.5))
    record = arrive(made)
    made.lagged(record)
    assert made.of(ONE) == 0.0
    made.lagged(record)
    assert made.of(ONE) == pytest.approx(-0.2)
    made.refresh(1.0)
    assert made.of(ONE) == 0.0
    made.gone(record, 1.0)
    assert made.view(ONE) is None


# ---------------------------------------------------------------- retention


def test_a_score_waits_for_a_peer_that_is_gone_and_does_not_wear_off() -> None:
    made = scores(replace(CONFIG, retain=100.0))
    record = arrive(made, ONE, "198.51.100.7")
    made.grafted(record, "news", 0.0)
    made.delivered(record, "news", ids(4), 0.0)
    made.rejected(record, "news", 2)
    made.refresh(0.5)
    assert made.of(ONE) == 2 * (3 * 4 - 10 * 4)
    made.gone(record, 0.5)
    made.refresh(90.0)
    assert made.of(ONE) == 2 * (3 * 4 - 10 * 4)
    again = arrive(made, ONE, "203.0.113.9")  # from elsewhere
    assert again is record
    assert again.value == 2 * (3 * 4 - 10 * 4)
    assert again.topics["news"].grafted_at is None
    made.gone(record, 95.0)
    made.refresh(194.0)
    assert made.of(ONE) < 0
    made.refresh(206.0)  # forgotten at the next look
    assert made.view(ONE) is None
    assert made._records == {}


def test_nothing_is_kept_of_a_peer_of_which_nothing_is_known() -> None:
    made = scores()
    record = arrive(made)
    made.grafted(record, "news", 0.0)
    made.refresh(3.0)
    made.gone(record, 3.0)
    assert made._records == made._absent == {}


def test_what_is_kept_is_bounded_and_the_bad_are_kept_longest() -> None:
    made = scores(replace(CONFIG, max_retained=3))
    for number in range(1, 8):
        record = arrive(made, peer_id(number))
        if number in (1, 4, 6):
            made.rejected(record, "news")
        else:
            made.delivered(record, "news", ids(3), 0.0)
        made.gone(record, 0.0)
    assert list(made._absent) == list(made._records) == [peer_id(1), peer_id(4), peer_id(6)]
    for number in range(10, 20):
        record = arrive(made, peer_id(number))
        made.rejected(record, "news")
        made.gone(record, 0.0)
    assert list(made._absent) == [peer_id(number) for number in (17, 18, 19)]


def test_of_who_is_gone_the_topics_that_say_most_are_kept() -> None:
    topics = [f"t{number}" for number in range(10)]
    made = scores(replace(CONFIG, max_retained_topics=3), *topics)
    record = arrive(made)
    for number, topic in enumerate(topics):
        made.rejected(record, topic, number + 1)
    made.gone(record, 0.0)
    assert list(record.topics) == ["t9", "t8", "t7"]


def test_topics_in_which_nothing_is_left_are_forgotten() -> None:
    made = scores()
    record = arrive(made)
    made.delivered(record, "news", ids(1), 0.0)
    made.refresh(5.0)
    assert record.topics == {}


def test_a_topic_left_and_joined_again_finds_what_was_done_in_it() -> None:
    made = scores()
    record = arrive(made)
    made.rejected(record, "news")
    made.forget_topic("news")
    assert made.of(ONE) == -20.0
    made.expect("news", 100.0)
    assert record.topics["news"].topic is made._judged["news"]
    made.refresh(0.1)
    assert made.of(ONE) == -20.0


# ---------------------------------------------------------------- standings


def test_thresholds_that_are_passed_are_told_once_each() -> None:
    made = scores()
    record = arrive(made)
    expected = []
    steps = [
        (-0.1, Standing.NO_MESH),
        (-10.0, Standing.NO_MESH),
        (-10.1, Standing.NO_GOSSIP),
        (-50.0, Standing.NO_GOSSIP),
        (-50.1, Standing.NO_PUBLISH),
        (-80.0, Standing.NO_PUBLISH),
        (-80.1, Standing.GRAYLISTED),
        (-9e9, Standing.GRAYLISTED),
        (0.0, Standing.GOOD),
    ]
    before = Standing.GOOD
    for score, standing in steps:
        made.appoint(ONE, score, None, 0.0)
        assert record.standing is standing
        if standing is not before:
            expected.append((record, before))
        before = standing
    assert made.crossings == expected
    assert made.standings() == dict.fromkeys(Standing, 0) | {Standing.GOOD: 1}


def test_the_reason_names_the_worst_first() -> None:
    made = scores(ScoreConfig(colocation_threshold=1))
    record = arrive(made, ONE, "198.51.100.7")
    arrive(made, TWO, "198.51.100.7")
    assert seen(made).reason == "2 peers at its address (-5)"
    made.appoint(ONE, -7.0, None, 0.0)
    made.rejected(record, "news")
    assert seen(made).reason == "invalid messages on 'news' (-75); an app says so (-7); 2 peers at its address (-5)"
    assert seen(made).score == -87.0


def test_switched_off_nothing_is_counted() -> None:
    made = scores(ScoreConfig(enabled=False))
    record = arrive(made, ONE, "198.51.100.7")
    made.rejected(record, "news", 100)
    made.penalise(record, "malformed", 100.0)
    made.lagged(record)
    made.appoint(ONE, -100.0, None, 0.0)
    made.grafted(record, "news", 0.0)
    made.delivered(record, "news", ids(3), 0.0)
    made.refresh(100.0)
    assert (made.of(ONE), record.topics, made.crossings, made.view(ONE)) == (0.0, {}, [], None)


# ---------------------------------------------------------------- by the rate


def test_what_follows_from_a_rate() -> None:
    config = ScoreConfig()
    made = config.for_rate(10.0, 6)
    # The counter of a peer that brings twice its share of ten messages a second.
    assert made.first_cap == pytest.approx((10 * 2 / 6) / (1 - config.topic.first_decay))
    assert made.first_weight * made.first_cap == pytest.approx(20.0)
    # A minute until 1 has become 0.01; 10 messages a second, of which each mesh peer is to bring one in fifty.
    decay = 0.01 ** (1 / 60)
    assert made.mesh_decay == pytest.approx(decay)
    assert made.mesh_threshold == pytest.approx(10 / 50 * decay / (1 - decay))
    assert made.mesh_weight * made.mesh_threshold**2 == pytest.approx(-20.0)
    assert made.failure_weight == made.mesh_weight
    assert (made.mesh_cap, made.mesh_window, made.mesh_activation) == (4 * made.mesh_threshold, 2.0, 30.0)
    assert made.invalid_weight == config.topic.invalid_weight


def test_slow_topics_are_remembered_for_longer_and_the_slowest_blame_nobody() -> None:
    config = ScoreConfig()
    slow = config.for_rate(0.1, 6)
    memory = math.log(0.01) / math.log(slow.mesh_decay)
    assert memory == pytest.approx(math.log(100) * 50 / 0.1)
    assert slow.mesh_threshold == pytest.approx(1.0, abs=0.01)
    assert slow.mesh_activation == pytest.approx(500.0)
    assert slow.mesh_cap >= 2.0
    slowest = config.for_rate(0.05, 6)
    assert not slowest.judges_deliveries
    assert slowest.first_weight * slowest.first_cap == pytest.approx(20.0)
    assert config.for_rate(0.0, 6) is config.topic


def test_a_silent_mesh_peer_of_a_topic_with_a_rate_falls_below_0_and_an_honest_one_does_not() -> None:
    made = PeerScores(ScoreConfig(expected_rates=(("news", 10.0),)), 6, 0.0)
    made.expect("news")
    silent, honest, source = arrive(made), arrive(made, TWO), arrive(made, peer_id(3))
    for record in (silent, honest, source):
        made.grafted(record, "news", 0.0)
    for second in range(60):
        found = fill(made, source, 10, float(second))
        made.again(honest, "news", found[:2], second + 1.0)  # most copies cross its own on the way
        made.refresh(second + 1.0)
        assert honest.value >= 0
    assert silent.value < -10
    assert "brings too few messages of 'news'" in seen(made).reason


def test_decay_helpers() -> None:
    assert decay_factor(100.0, 1.0, 0.01) ** 100 == pytest.approx(0.01)
    assert decay_factor(0.5, 1.0, 0.01) == 0.01  # forgotten at once
    value = 0.0
    for _ in range(2000):
        value = (value + 3.0) * 0.99
    assert value == pytest.approx(convergence(0.99, 3.0) * 0.99)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"gossip_threshold": 0.0}, "gossip"),
        ({"publish_threshold": -5.0}, "publish"),
        ({"graylist_threshold": -50.0}, "graylist"),
        ({"disconnect_threshold": -80.0}, "disconnect"),
        ({"accept_exchange_threshold": -1.0}, "accept_exchange_threshold"),
        ({"behaviour_weight": 1.0}, "behaviour_weight"),
        ({"slow_decay": 1.0}, "slow_decay"),
        ({"decay_interval": 0.0}, "decay_interval"),
        ({"topic_cap": math.nan}, "topic_cap"),
    ],
)
def test_contradictions_are_refused(changes: dict[str, float], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        replace(ScoreConfig(), **changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"invalid_weight": 1.0},
        {"first_decay": 1.0},
        {"first_weight": -1.0},
        {"time_in_mesh_quantum": 0.0},
        {"mesh_threshold": 5.0, "mesh_cap": 4.0},
    ],
)
def test_contradictions_of_a_topic_are_refused(changes: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(changes)).removesuffix("x")):
        replace(TopicScoreConfig(), **changes)
