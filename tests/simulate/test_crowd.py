"""Many join at once through few that have not room for all of them."""

from pathlib import Path

import pytest

from sidecar.simulate.play import Play
from sidecar.simulate.reading import load_scenario
from sidecar.simulate.report import records

CROWD = """\
duration = {duration}
entrances = 2
[nodes.plain]
count = 100
over = {over}
topics = ["news"]
[nodes.plain.config.peers]
target = 12
outbound = 4
[nodes.plain.config.limits]
connections = 40
connections_for_dials = 8
connections_per_address = 32
connections_per_network = 32
high_water = 26
low_water = 20
"""


def test_all_get_in(tmp_path: Path) -> None:
    """Without hurry the two bootstrap peers are full of those who came first, who all have their grace."""
    scenario = tmp_path / "crowd.toml"
    scenario.write_text(CROWD.format(duration=40, over=4))
    play = Play(load_scenario(scenario))
    play.run()
    told = {record["record"]: record for record in records(play)}
    assert told["connections"]["min"] > 0


MESSAGES = """
[[publish]]
topic = "news"
publishers = 5
count = 5
rate = 4
start = 20
"""


@pytest.mark.parametrize("seed", [1, 3, 7])
def test_nobody_waits_at_the_door_for_so_long_that_it_misses_messages(tmp_path: Path, seed: int) -> None:
    """Who has waited for long must not try so rarely that all who come later, or come back, get in before it."""
    scenario = tmp_path / "crowd.toml"
    scenario.write_text(CROWD.format(duration=24, over=8) + MESSAGES)
    play = Play(load_scenario(scenario), seed)
    play.run()
    missed = [record for record in records(play) if record["record"] == "message" and record["missed"]]
    assert not missed
