"""Buckets: what goes through at once, at a rate, and on credit."""

import pytest

from sidecar.core.token_bucket import TokenBucket


def test_some_go_through_at_once_and_the_rest_at_the_rate() -> None:
    bucket = TokenBucket(2.0, 3.0, 10.0)
    assert [bucket.take(10.0) for _ in range(4)] == [True, True, True, False]
    assert [bucket.take(10.5), bucket.take(10.5)] == [True, False]
    assert [bucket.take(100.0) for _ in range(4)] == [True, True, True, False]


def test_what_is_spent_beyond_it_is_owed_for_as_long_as_it_takes() -> None:
    bucket = TokenBucket(100.0, 50.0, 0.0)
    bucket.spend(50.0, 0.0)
    assert bucket.owes(0.0) == 0.0
    bucket.spend(200.0, 0.0)
    assert bucket.owes(0.0) == pytest.approx(2.0)
    assert not bucket.take(1.0)
    assert bucket.owes(1.5) == pytest.approx(0.5)
    assert bucket.owes(2.5) == 0.0
    assert bucket.take(2.5)
