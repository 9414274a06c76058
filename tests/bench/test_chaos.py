"""The short form of `make chaos`: what was promised holds although everybody is killed once."""

import asyncio
import random
from pathlib import Path

from bench import chaos


def test_nothing_is_lost_or_comes_twice_where_sidecars_and_apps_are_killed(tmp_path: Path) -> None:
    found = asyncio.run(chaos.play(tmp_path, messages=400, kills=3, rng=random.Random(3)))
    assert (found.lost, found.left, found.faults) == (0, 0, [])
    assert sum(found.kills.values()) == 3
    assert len(found.seen) == 400
