"""Which topics have rows of their own, and that no count falls."""

from sidecar.observe.topics import TopicCount, TopicLabels


def rows(labels: TopicLabels, **delivered: int) -> dict[str, int]:
    return {
        row.name: row.counts[0] for row in labels.rows(TopicCount(name, 1, 2, (n, 0)) for name, n in delivered.items())
    }


def test_the_first_topics_have_rows_and_the_others_share_one() -> None:
    labels = TopicLabels(2)
    assert labels.rows([]) == []
    assert rows(labels, a=1, b=2) == {"a": 1, "b": 2}
    assert rows(labels, c=5, a=2, b=2, d=1) == {"a": 2, "b": 2, "other": 6}
    other = labels.rows([TopicCount(name, 1, 2, (5, 0)) for name in "abcd"])[-1]
    assert (other.mesh, other.peers) == (2, 4)


def test_counts_of_the_others_never_fall_and_a_topic_that_begins_anew_does_so_too() -> None:
    labels = TopicLabels(1)
    assert rows(labels, a=1, b=7) == {"a": 1, "other": 7}
    assert rows(labels, a=1) == {"a": 1, "other": 7}  # b is gone, what it counted stays
    assert rows(labels, a=1, b=3) == {"a": 1, "other": 10}  # b began anew
    assert rows(labels, b=4) == {"b": 1, "other": 10}  # a gave its row away
    assert rows(labels, b=4, a=9) == {"b": 1, "other": 19}


def test_a_topic_that_is_called_other_does_not_make_two_rows() -> None:
    labels = TopicLabels(5)
    assert rows(labels, other=3, a=1) == {"a": 1, "other": 3}
