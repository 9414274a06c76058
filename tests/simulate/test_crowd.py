"""Many join at once through few that have not room for all of them."""

from pathlib import Path

from sidecar.simulate.play import Play
from sidecar.simulate.reading import load_scenario
from sidecar.simulate.report import records

CROWD = """\
duration = 40
entrances = 2
[nodes.plain]
count = 100
over = 4
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
    scenario.write_text(CROWD)
    play = Play(load_scenario(scenario))
    play.run()
    told = {record["record"]: record for record in records(play)}
    assert told["connections"]["min"] > 0
