"""What `sidecar probe` prints."""

from sidecar_client import ProbeAnswer, ProbeSummary

from sidecar.commands.probe import _lines, _slowest, histogram, quantile


def test_a_quantile_is_one_of_the_values() -> None:
    values = [float(value) for value in range(1, 101)]
    assert [quantile(values, share) for share in (0.5, 0.9, 0.99, 1.0)] == [50.0, 90.0, 99.0, 100.0]
    assert [quantile([7.0], share) for share in (0.0, 0.5, 1.0)] == [7.0] * 3


def test_a_histogram_has_round_steps_from_the_shortest_to_the_longest() -> None:
    assert histogram([0.051, 0.06, 0.071, 0.072, 0.1]) == [
        "  to  60 ms  " + "#" * 20 + " " * 20 + "  1   20%",
        "  to  70 ms  " + "#" * 20 + " " * 20 + "  1   40%",
        "  to  80 ms  " + "#" * 40 + "  2   80%",
        "  to  90 ms  " + " " * 40 + "  0   80%",
        "  to 100 ms  " + " " * 40 + "  0   80%",
        "  to 110 ms  " + "#" * 20 + " " * 20 + "  1  100%",
    ]
    assert len(histogram([0.0])) == 1


def test_the_whole_names_the_slowest() -> None:
    answers = [ProbeAnswer(f"peer {n}", m, n / 10 + m / 100, 0.02, n == 1) for n in range(1, 8) for m in range(2)]
    whole = ProbeSummary(2, 1, 0.5, 14, 7, 4, 3, 14.0, 2)
    slowest = _slowest(answers)
    assert [each.peer_id for each in slowest] == ["peer 7", "peer 6", "peer 5", "peer 4", "peer 3"]
    assert _slowest(answers[:2]) == [("peer 1", 0.1, 2, 2)]
    lines = _lines("news", answers, sorted(answer.delay for answer in answers), slowest, whole)
    assert lines[:5] == [
        "news: 2 messages published, 14 answers of 7 peers",
        "  asked: 50.00% of some 14 receivers; of the connected ones answered 75.0%",
        "  1 messages could not be published",
        "  2 answers do not count",
        "  delay: p50 400 ms, p90 700 ms, p99 710 ms, slowest 710 ms; 14% came straight from this node",
    ]
    assert lines[-5:] == [f"    peer {n}  {n}00 ms  of 2 answers" for n in (7, 6, 5, 4, 3)]
