"""Virtual time: everything happens in its order, however far ahead it was set."""

import random

import pytest

from sidecar.sim import Clock


@pytest.mark.parametrize("seed", range(5))
def test_things_happen_in_order_of_time_and_then_in_the_order_in_which_they_were_set(seed: int) -> None:
    rng, clock = random.Random(seed), Clock()
    done: list[tuple[float, int]] = []
    count = 0

    def plan() -> None:
        nonlocal count
        count += 1
        # Now, soon, in the same moment as others, and far ahead; what is set for the past is done at once.
        when = clock.now + rng.choice((-1.0, 0.0, 0.0001, 0.5, rng.random(), 100 * rng.random()))
        clock.at(when, happen, (max(when, clock.now), count))

    def happen(when: float, number: int) -> None:
        assert clock.now == when
        done.append((when, number))
        for _ in range(rng.choice((0, 0, 1, 2)) if count < 2000 else 0):
            plan()

    for _ in range(50):
        plan()
    while len(done) < count:
        if rng.random() < 0.5:
            clock.run_until(clock.now + rng.choice((0.0, 0.001, 1.0, 30.0)), rng.choice((None, 1, 10)))
        else:
            clock.step()
    assert done == sorted(done), f"seed {seed}"
    assert len(done) == clock.steps == count > 50
    assert not clock.step()


def test_it_returns_after_so_many_steps_and_goes_on_from_there() -> None:
    clock, done = Clock(), list[int]()
    for number in range(5):
        clock.at(1.0, done.append, (number,))
    clock.run_until(2.0, 3)
    assert (clock.now, done) == (1.0, [0, 1, 2])
    clock.run_until(2.0, 3)
    assert (clock.now, done) == (2.0, [0, 1, 2, 3, 4])


def test_it_stops_between_two_things_and_time_does_not_go_on() -> None:
    clock, done = Clock(), list[int]()
    clock.at(1.0, lambda: setattr(clock, "stopped", True))
    clock.at(1.0, done.append, (1,))
    clock.run_until(2.0)
    assert (clock.now, done) == (1.0, [])
