"""The short form of `make chaos`: what was promised holds although everybody is killed once."""

import asyncio
import random
from pathlib import Path

from bench.chaos import kill, table
from bench.chaos.scene import Found, Plan, Scene


def test_nothing_is_lost_or_comes_twice_where_sidecars_and_apps_are_killed(tmp_path: Path) -> None:
    found = asyncio.run(kill.play(tmp_path, messages=400, kills=3, rng=random.Random(3)))
    assert (found.lost, found.left, found.faults) == (0, 0, [])
    assert sum(found.kills.values()) == 3
    assert len(found.seen) == 400


async def _nothing(place: Path, plan: Plan) -> Found:
    return Found(f"{plan.rounds} rounds")


def test_a_row_takes_the_place_of_the_same_scenes_and_leaves_the_others() -> None:
    one, two, three = (Scene(name, "a fault", _nothing) for name in ("one", "two", "three"))
    order = ["one", "two", "three"]
    before = table.merged("", [table.row(three, Found("old"), "c", 1.0), table.row(one, Found("old"), "c", 1.0)], order)
    after = table.merged(f"\n{before}\n\n- date: never\n", [table.row(three, Found("new", ["lost"]), "c", 2.0)], order)
    lines = after.splitlines()
    assert [line.split("`")[1] for line in lines[2:]] == ["one", "three"]
    assert lines[2] == before.splitlines()[2]
    assert "| new | **no: 1 faults**, such as: lost |" in lines[3]
    assert "`two`" in table.merged(after, [table.row(two, Found("seen"), "c", 1.0)], order).splitlines()[3]
