"""A small network under attack, as the tests of this folder play it."""

from pathlib import Path
from typing import Any, NamedTuple

from sidecar.simulate.play import Play
from sidecar.simulate.reading import load_scenario
from sidecar.simulate.report import records
from sidecar.simulate.settings import Assignment

SCENARIO = """\
duration = {duration}
start = "{start}"
settled = 2
[network]
latency = "uniform"
low = "20ms"
high = "30ms"
[nodes.publishers]
count = 3
hosts = 3
topics = ["t"]
config.peers.target = 6
config.peers.outbound = 3
config.gossip.flood_peers = 4
[nodes.victim]
count = 1
hosts = 1
topics = ["t"]
config.peers.target = 6
config.peers.outbound = 3
config.gossip.flood_peers = 4
[nodes.lurkers]
count = 8
hosts = 8
topics = ["t"]
config.peers.target = 6
config.peers.outbound = 3
config.gossip.flood_peers = 4
[nodes.sybils]
{sybils}
[[publish]]
topic = "t"
kind = "publishers"
publishers = 3
count = 20
rate = 4
start = {before}
[[publish]]
topic = "t"
kind = "{author}"
publishers = {authors}
count = {count}
rate = 2
start = {during}
"""


class Attacked(NamedTuple):
    """What a run showed of the messages that were published during the attack."""

    owed: int
    missed: int
    p99: float
    last: float
    mesh: float
    """The share of honest nodes' mesh links that lead to hostile ones, at the end."""
    hostile: dict[str, Any]
    """The record `hostile` of all honest nodes."""
    play: Play


def attacked(
    tmp_path: Path,
    sybils: str,
    *settings: Assignment,
    duration: int = 27,
    start: str = "warm",
    before: int = 4,
    during: int = 15,
    count: int = 20,
    author: str = "publishers",
) -> Attacked:
    """Play it. `sybils`: the keys of `[nodes.sybils]`."""
    file = tmp_path / "attack.toml"
    authors = 3 if author == "publishers" else 1
    file.write_text(
        SCENARIO.format(
            sybils=sybils,
            duration=duration,
            start=start,
            before=before,
            during=during,
            count=count,
            author=author,
            authors=authors,
        )
    )
    play = Play(load_scenario(file, settings))
    play.run()
    report = records(play)
    deliveries = next(record for record in report if record["record"] == "deliveries" and record["publish"] == 2)
    mesh = next(record for record in report if record["record"] == "mesh")
    hostile = next(record for record in report if record["record"] == "hostile")
    delay = deliveries["delay"]
    return Attacked(
        deliveries["owed"], deliveries["missed"], delay["p99"], delay["max"], mesh["to_hostile"], hostile, play
    )
