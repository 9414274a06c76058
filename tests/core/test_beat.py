"""The instants at which looks are due."""

import pytest

from sidecar.core.beat import next_beat


@pytest.mark.parametrize(
    ("now", "interval", "due"),
    [
        (10.2, 1.0, 11.0),
        (10.0, 1.0, 11.0),
        (10.9999999, 1.0, 12.0),  # a timer that is early
        (10.3, 0.25, 10.5),
        (10.3, 5.0, 15.0),
        (0.0, 2.0, 2.0),
        (10.3, 0.0, 10.3),
    ],
)
def test_beats_are_whole_multiples_and_still_to_come(now: float, interval: float, due: float) -> None:
    assert next_beat(now, interval) == due


def test_beats_come_one_after_the_other() -> None:
    now = 7.25
    for _ in range(1000):
        due = next_beat(now, 0.1)
        assert now < due < now + 0.2
        now = due
