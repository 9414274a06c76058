"""Nodes that are grafted and pass nothing on: everybody gets everything, and they leave the meshes."""

from pathlib import Path
from typing import Any

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


def played(tmp_path: Path, text: str) -> dict[str, dict[str, Any]]:
    """The records of a scenario's report."""
    file = tmp_path / "silent.toml"
    file.write_text(text)
    play = Play(load_scenario(file))
    play.run()
    return {record["record"]: record for record in records(play)}


@pytest.mark.parametrize("after", [0, pytest.param(35, marks=pytest.mark.slow)])
@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_nobody_misses_a_message_though_three_of_ten_pass_none_on(tmp_path: Path, seed: int, after: int) -> None:
    """From the beginning, or from when the others have learnt to have messages from them."""
    deliveries = played(tmp_path, SCENARIO.format(seed=seed, after=after))["deliveries"]
    assert deliveries["owed"] == 90 * 20, f"seed {seed}"
    assert deliveries["missed"] == 0, f"seed {seed}"


SURROUNDED = """\
seed = {seed}
duration = {duration}
settled = 5
[network]
latency = "uniform"
low = "5ms"
high = "80ms"
[nodes.plain]
count = {honest}
topics = ["t"]
config.score.enabled = {scored}
[nodes.sybils]
count = {hostile}
topics = ["t"]
behaviour = "silent"
connections = {honest}
[[publish]]
topic = "t"
publishers = {honest}
count = {count}
rate = 5
start = 20
"""
FEW = {"honest": 8, "hostile": 12, "duration": 118, "count": 470}
MANY = {"honest": 16, "hostile": 24, "duration": 300, "count": 1200}


@pytest.mark.parametrize(
    ("size", "scored"),
    [
        (FEW, True),
        pytest.param(FEW, False, marks=pytest.mark.slow),
        pytest.param(MANY, True, marks=pytest.mark.slow),
        pytest.param(MANY, False, marks=pytest.mark.slow),
    ],
)
def test_silent_ones_leave_the_meshes_and_do_not_come_back_as_dependents(
    tmp_path: Path, size: dict[str, int], scored: bool
) -> None:
    """Three of five pass nothing on, and graft everybody anew a minute after each PRUNE."""
    report = played(tmp_path, SURROUNDED.format(seed=1, scored=str(scored).lower(), **size))
    assert report["deliveries"]["missed"] == 0
    share = report["mesh"]["to_hostile"]
    if scored:
        assert share < 0.2
    else:
        assert share > 0.5
