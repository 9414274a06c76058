"""A kill, a power cut or a disk that refuses at each thing that the store asks of the disk, on either side."""

import shutil
from pathlib import Path

import pytest
from stopped_exchange import SIDES, Fault, play

from tests.store.disk_below import FULL, IOERR, why_not
from tests.store.stopping_disk import Left

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not() or "it can be had")

_STOPS = tuple(Left)


def _play(place: Path, fault: Fault) -> int:
    """How often a disk stopped."""
    place.mkdir()
    try:
        _, stops = play(place, fault)
    except BaseException as error:
        error.add_note(str(fault))
        raise
    shutil.rmtree(place)
    return stops


def _asked(place: Path, fault: Fault) -> int:
    """How much is asked of that side's disk where nothing happens to it."""
    place.mkdir()
    asked, stops = play(place, fault)
    assert stops == 0
    assert min(asked) > 50
    return asked[fault.side]


@pytest.mark.parametrize("side", [0, 1], ids=SIDES)
def test_a_stop_at_each_write_loses_nothing_and_repeats_nothing(tmp_path: Path, side: int) -> None:
    for at in range(1, _asked(tmp_path / "whole", Fault(side, often=True)) + 1):
        left = _STOPS[at % len(_STOPS)]
        assert _play(tmp_path / "play", Fault(side, at, left, often=True)) == 1


@pytest.mark.parametrize("side", [0, 1], ids=SIDES)
def test_a_disk_that_refuses_for_a_while_at_each_write_is_lived_with(tmp_path: Path, side: int) -> None:
    for at in range(1, _asked(tmp_path / "whole", Fault(side, often=True)) + 1, 3):
        fault = Fault(side, at, refuses=(1, 4, 25)[at % 3], code=(IOERR, FULL)[at % 2], often=True)
        assert _play(tmp_path / "play", fault) == 0


@pytest.mark.slow
@pytest.mark.parametrize("often", [False, True], ids=("checkpoint at the end", "many checkpoints"))
@pytest.mark.parametrize("left", tuple(Left), ids=lambda left: left.name.lower())
@pytest.mark.parametrize("side", [0, 1], ids=SIDES)
def test_each_kind_of_stop_at_each_write_and_one_more_while_it_recovers(
    tmp_path: Path, side: int, left: Left, often: bool
) -> None:
    twice = 0
    for at in range(1, _asked(tmp_path / "whole", Fault(side, often=often)) + 1):
        assert _play(tmp_path / "play", Fault(side, at, left, often=often)) == 1
        if at % 3 == 0:
            twice += _play(tmp_path / "play", Fault(side, at, left, again=1 + at % 7, often=often)) == 2
    assert twice > 20


@pytest.mark.slow
@pytest.mark.parametrize("refuses", [1, 4, 25, 100])
@pytest.mark.parametrize("code", [IOERR, FULL], ids=("failing", "full"))
@pytest.mark.parametrize("side", [0, 1], ids=SIDES)
def test_a_disk_that_refuses_so_often_from_any_write_on(tmp_path: Path, side: int, code: int, refuses: int) -> None:
    for often in (False, True):
        for at in range(1, _asked(tmp_path / "whole", Fault(side, often=often)) + 1):
            assert _play(tmp_path / "play", Fault(side, at, refuses=refuses, code=code, often=often)) == 0
        shutil.rmtree(tmp_path / "whole")
