"""Short forms of the scenes of `make chaos`, with real sidecars; the figures are those of the long ones."""

import asyncio
from pathlib import Path

import pytest

from bench.chaos import clock, partition, rolling, stopped, upgrade
from bench.chaos.scene import Found, Skipped
from bench.probes.router import Router


def test_messages_that_a_sender_holds_outlive_its_clock_set_back(tmp_path: Path) -> None:
    assert asyncio.run(clock.durable(tmp_path / "play", "sender", -clock.STEP, messages=5)).faults == []


@pytest.mark.slow
def test_messages_that_a_receiver_holds_outlive_its_clock_set_ahead(tmp_path: Path) -> None:
    assert asyncio.run(clock.durable(tmp_path / "play", "receiver", clock.STEP, messages=5)).faults == []


@pytest.mark.slow
def test_a_node_whose_clock_is_set_back_is_heard_believed_and_found(tmp_path: Path) -> None:
    assert asyncio.run(clock.everything_else(tmp_path / "play", -clock.STEP, messages=5)).faults == []


def test_a_rolling_restart_loses_nothing_durable_and_nothing_of_a_topic_with_history(tmp_path: Path) -> None:
    found = asyncio.run(rolling.play(tmp_path, nodes=3, rate=10.0, rounds=1, kept=True))
    assert found.faults == []
    assert found.seen.startswith("3 restarts")


@pytest.mark.slow
def test_what_the_last_release_keeps_is_there_after_an_upgrade(tmp_path: Path) -> None:
    try:
        found = asyncio.run(upgrade.play(tmp_path, messages=5))
    except Skipped as reason:
        pytest.skip(str(reason))
    assert found.faults == []
    assert found.seen.startswith(f"from {upgrade.last_release()} to")


def test_a_node_that_stops_and_goes_on_gets_all(tmp_path: Path) -> None:
    assert asyncio.run(stopped.play(tmp_path, span=2.0, spans=1, rate=4.0, kept=True, judge=False)).faults == []


def test_a_network_that_was_cut_for_a_moment_is_whole_again(tmp_path: Path) -> None:
    async def play() -> Found:
        return await partition.play(tmp_path, nodes=4, cut=1, seconds=3.0, after=4.0, rate=10.0, kept=True)

    try:
        assert asyncio.run(play()).faults == []
    except Skipped as reason:
        pytest.skip(str(reason))


def test_a_router_carries_nothing_across_a_cut() -> None:
    router = Router([[0.0, 0.5], [0.5, 0.0]], [["10.0.0.1"], ["10.0.0.2"]])
    packet = bytes([0x45, *bytes(15), 10, 0, 0, 2])
    router.accept(0, packet, now=1.0)
    router.delays = [[0.0, None], [None, 0.0]]
    router.accept(0, packet, now=1.1)
    assert router.arrived(2.0) == [(1, packet)], "what was under way arrives"
    router.delays = [[0.0, 0.5], [0.5, 0.0]]
    router.accept(0, packet, now=2.0)
    assert router.arrived(2.5) == [(1, packet)]
