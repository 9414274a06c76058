"""The benchmark of growth: its exponents and its table."""

import asyncio

import pytest

from bench.apps import AppSubject
from bench.growth import SERIES, Series, crowded, line, measure, slope
from bench.p2pd import DaemonSubject
from bench.rows import Cell


def test_the_exponent_is_that_of_the_power() -> None:
    assert slope([(x, 3.0 * x**2) for x in (1, 10, 100)]) == pytest.approx(2)
    assert slope([(1, 7.0), (1000, 7.0)]) == pytest.approx(0)


def test_a_line_has_the_exponent_of_all_and_of_the_last_step() -> None:
    assert line("subscribers", "ours", (1, 10, 100), (1.0, 1.0, 10.0)) == (
        "| subscribers | ours | 1: 1.0 µs; 10: 1.0 µs; 100: 10.0 µs | 0.50, 1.00 |"
    )
    assert line("topics", "ours", (1, 1000), (2.0, "it broke")) == "| topics | ours | 1: 2.0 µs; 1,000: it broke | - |"
    assert line("topics", "ours", (1, 1000), (None, None)).endswith("| 1: -; 1,000: - | - |")


class _Subject(AppSubject):
    def __init__(self, name: str) -> None:
        self.name = name


def test_each_size_is_measured_for_each_subject() -> None:
    taken: list[tuple[str, int]] = []

    async def cost(subject: AppSubject, size: int, seconds: float) -> Cell | None:
        taken.append((subject.name, size))
        if size == 3:
            raise RuntimeError("too much")
        return Cell(cpu_us=float(size * len(taken))) if subject.name == "ours" else None

    series = Series("some", "Some", (1, 3), cost)
    found = asyncio.run(measure([_Subject("ours"), _Subject("theirs")], [series], 2, 1.0))
    assert taken == [(name, size) for size in (1, 3) for name in ("ours", "theirs") for _ in range(2)]
    assert found == {
        ("some", "ours"): [1.5, "RuntimeError: too much"],
        ("some", "theirs"): [None, "RuntimeError: too much"],
    }


def test_other_nodes_are_not_crowded_by_sidecars() -> None:
    assert asyncio.run(crowded(DaemonSubject.__new__(DaemonSubject), 10, 1.0)) is None
    assert len({series.name for series in SERIES}) == len(SERIES)
