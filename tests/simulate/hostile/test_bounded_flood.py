"""Nodes that are grafted and pass nothing on: the bounded flood and lazy links still bring everybody everything."""

from pathlib import Path

import pytest

from sidecar.simulate.play import Play
from sidecar.simulate.reading import load_scenario
from sidecar.simulate.report import records

SCENARIO = """\
seed = {seed}
duration = 60
settled = 2
[network]
latency = "uniform"
low = "5ms"
high = "80ms"
[nodes.plain]
count = 21
topics = ["t"]
config.gossip.flood_peers = 8
[nodes.sybils]
count = 9
topics = ["t"]
behaviour = "silent"
connections = 15
after = "{after}s"
[[publish]]
topic = "t"
publishers = 5
count = 90
rate = 3
start = 20
"""


@pytest.mark.parametrize("after", [0, pytest.param(35, marks=pytest.mark.slow)])
@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_nobody_misses_a_message_though_three_of_ten_pass_none_on(tmp_path: Path, seed: int, after: int) -> None:
    """From the beginning, or from when the others have learnt to have messages from them."""
    file = tmp_path / "silent.toml"
    file.write_text(SCENARIO.format(seed=seed, after=after))
    play = Play(load_scenario(file))
    play.run()
    report = {record["record"]: record for record in records(play)}
    assert report["mesh"]["to_hostile"] > 0.15, f"seed {seed}"  # they are in the way
    deliveries = report["deliveries"]
    assert deliveries["owed"] == 90 * 20, f"seed {seed}"
    assert deliveries["missed"] == 0, f"seed {seed}"
