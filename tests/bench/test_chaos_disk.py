"""Short forms of the scenes of `make chaos` about the disk, with real sidecars."""

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from bench.chaos import damage, disk, stops
from bench.chaos.scene import Found, Skipped


def played(play: Coroutine[Any, Any, Found]) -> Found:
    try:
        return asyncio.run(play)
    except Skipped as reason:
        pytest.skip(str(reason))


def test_a_full_disk_is_told_and_lived_with(tmp_path: Path) -> None:
    assert played(disk.full(tmp_path, messages=5)).faults == []


@pytest.mark.parametrize(
    "fault",
    [pytest.param("read-only", marks=pytest.mark.slow), pytest.param("failing", marks=pytest.mark.slow), "slow 0.3"],
)
def test_a_disk_that_does_not_do_what_it_should_is_told_and_lived_with(tmp_path: Path, fault: str) -> None:
    assert played(disk.faulty(tmp_path, fault, messages=5)).faults == []


def test_a_damaged_file_is_told_and_replaced_only_where_it_is_a_memory(tmp_path: Path) -> None:
    assert played(damage.play(tmp_path, large=120)).faults == []


@pytest.mark.slow
def test_a_store_that_is_stopped_now_and_then_loses_nothing(tmp_path: Path) -> None:
    found = played(stops.play(tmp_path, seed=7, step=37, again=2))
    assert found.faults == []
    assert " stops of 5 kinds" in found.seen
