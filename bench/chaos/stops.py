"""The store of durable messages is stopped at each thing that it asks of the disk, by a kill and by a power cut.

A whole exchange is played in this process, with real files of both sides (`tests/core/durable/stopped_exchange.py`).
A layer below SQLite ends one side at its n-th write, fsync or deletion, for each n and in each way that `Left` names:
after a power cut only what was fsynced is there, or that and some sectors of the rest. The other side lives on, the one
is started on what is left, sometimes stopped once more over that, and all that was promised is checked.
"""

import asyncio
import shutil
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

from bench.chaos.scene import Found, Plan, Scene, Skipped
from tests.store.disk_below import FULL, IOERR, why_not
from tests.store.stopping_disk import Left

_EXCHANGE = Path(__file__).parents[2] / "tests" / "core" / "durable"
_REFUSALS = ((1, IOERR), (4, FULL), (25, IOERR), (100, FULL))  # how many things are refused, and how


class _Side(NamedTuple):
    """What was played with one side's disk."""

    asked: int
    stops: int
    refusals: int
    faults: list[str]


def play_side(place: Path, seed: int, side: int, step: int, again: int) -> _Side:
    """`step`: every so many-th thing that is asked of the disk; `again`: for every so many-th of these, twice."""
    if str(_EXCHANGE) not in sys.path:
        sys.path.insert(0, str(_EXCHANGE))
    from stopped_exchange import Fault
    from stopped_exchange import play as exchange

    faults: list[str] = []
    here = place / f"side-{side}"

    def one(fault: Fault) -> tuple[list[int], int]:
        here.mkdir()
        try:
            return exchange(here, fault)
        except AssertionError as error:
            faults.append(f"{error}: {fault}")
            return [0, 0], 0
        finally:
            shutil.rmtree(here)

    asked = one(Fault(side, often=True, seed=seed))[0][side]
    stops = refusals = 0
    for at in range(1, asked + 1, step):
        for left in Left:
            stops += one(Fault(side, at, left, often=True, seed=seed))[1]
            if at % again == 0:
                stops += one(Fault(side, at, left, again=1 + at % 7, often=True, seed=seed))[1]
        refused, code = _REFUSALS[at % len(_REFUSALS)]
        one(Fault(side, at, refuses=refused, code=code, often=True, seed=seed))
        refusals += 1
    return _Side(asked, stops, refusals, faults)


async def play(place: Path, seed: int, step: int, again: int) -> Found:
    """Both sides, each in a process of its own. Raises Skipped."""
    if why_not():
        raise Skipped(why_not())
    loop = asyncio.get_running_loop()
    with ProcessPoolExecutor(2, get_context("spawn")) as processes:
        jobs = [loop.run_in_executor(processes, play_side, place, seed, side, step, again) for side in (0, 1)]
        sender, receiver = await asyncio.gather(*jobs)
    stops, refusals = sender.stops + receiver.stops, sender.refusals + receiver.refusals
    faults = sender.faults + receiver.faults
    return Found(
        f"{sender.asked} things asked of the sender's disk and {receiver.asked} of the receiver's; {stops:,} stops of "
        f"{len(Left)} kinds, {refusals:,} refusals; after {len(faults)} of them something did not hold",
        faults,
    )


async def _play(place: Path, plan: Plan) -> Found:
    return await (play(place, plan.seed, 37, 2) if plan.short else play(place, plan.seed, 1, 3))


SCENE = Scene(
    "stops",
    "a kill, a power cut that leaves only what was fsynced (and any part of the rest), or a refusal at each write, "
    "fsync and deletion of the store, on either side: answered is on the disk, nothing is lost, settled does not come "
    "again",
    _play,
)
