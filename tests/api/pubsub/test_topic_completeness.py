"""What ListTopics says of how complete a topic's history is."""

from sidecar.api.pubsub import convert
from sidecar.core.gossip import TopicView
from sidecar.core.history import HistoryView
from sidecar.store.history import TopicSize

VIEW = TopicView("news", True, True, (), ())


def listed(since: float | None, until: float | None) -> convert.pb.Topic:
    compared = HistoryView("news", 1, 0, since, until)
    kept = convert.KeptTopic(TopicSize(3, 300, 0), None, "", compared)
    (topic,) = convert.topics([(VIEW, convert.LocalTopic(0, 0, kept))]).topics
    return topic


def test_a_topic_tells_between_which_times_nothing_is_missing() -> None:
    topic = listed(1_700_000_000.25, 1_700_000_100.5)
    assert topic.complete_since.ToNanoseconds() == 1_700_000_000_250_000_000
    assert topic.complete_until.ToNanoseconds() == 1_700_000_100_500_000_000


def test_a_clock_that_began_in_1970_goes_no_further_back() -> None:
    assert listed(-500_000.0, 100.0).complete_since.ToNanoseconds() == 0


def test_where_nothing_was_compared_nothing_is_told() -> None:
    topic = listed(None, None)
    assert not topic.HasField("complete_since")
    assert not topic.HasField("complete_until")
    assert topic.stored_messages == 3
