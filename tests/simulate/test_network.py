"""Tables of round trips: as published, and as CSV of one's own; and clocks that are wrong."""

from pathlib import Path
from typing import Any

import pytest

from sidecar.core.errors import ConfigError
from sidecar.simulate.network import MAX_REGIONS, read_round_trips
from sidecar.simulate.play import Play
from sidecar.simulate.reading import load_scenario
from sidecar.simulate.report import records
from sidecar.simulate.scenario import Scenario

NODES = '[nodes.plain]\ncount = 5\ntopics = ["t"]\n'
TABLE = "# of our own\nfrom,a, b\na,,30\n\nb,50,4\n"


def read(folder: Path, text: str, nodes: str = NODES) -> Scenario:
    file = folder / "s.toml"
    file.write_text(f"duration = 20\n[network]\n{text}\n{nodes}")
    return load_scenario(file)


def test_a_table_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "trips.csv").write_text(TABLE)
    network = read(tmp_path, 'latency = "csv"\nfile = "trips.csv"\nwithin = "6ms"\nspread = 0').network
    assert network.regions == ("a", "b")
    assert network.round_trips == ((0.006, 0.03), (0.05, 0.004))


def test_ways_are_half_the_round_trips_each_in_its_direction(tmp_path: Path) -> None:
    (tmp_path / "trips.csv").write_text(TABLE)
    nodes = '[nodes.a]\ncount = 2\nregions = ["a"]\n[nodes.b]\ncount = 2\nregions = ["b"]\n'
    for spread in (0.0, 0.3):
        play = Play(read(tmp_path, f'latency = "csv"\nfile = "trips.csv"\nspread = {spread}', nodes))
        one, other, there, beyond = play.peers
        latency = play.simulation.latency
        assert latency(one, there) / latency(there, one) == pytest.approx(3 / 5)  # a pair has one luck in both
        for peers, trip in (
            ((one, other), 0.002),
            ((one, there), 0.03),
            ((there, one), 0.05),
            ((there, beyond), 0.004),
        ):
            assert latency(*peers) == pytest.approx(trip / 2, rel=spread + 1e-9)


def test_published_round_trips(tmp_path: Path) -> None:
    network = read(tmp_path, 'latency = "azure"').network
    assert len(network.regions) == 11
    for row, name in enumerate(network.regions):
        assert network.round_trips[row][row] == 0.002
        for column, other in enumerate(network.regions):
            trip, back = network.round_trips[row][column], network.round_trips[column][row]
            assert row == column or (0.01 < trip < 0.4 and abs(trip - back) < 0.025), (name, other)
    some = read(tmp_path, 'latency = "azure"\nregions = ["Japan East", "East US"]').network
    assert (some.regions, some.round_trips) == (("Japan East", "East US"), ((0.002, 0.165), (0.165, 0.002)))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('latency = "csv"', "s.toml:2: [network] lacks file: a path, from the folder of the scenario on"),
        ('latency = "csv"\nfile = ""', "s.toml:4: file in [network]: it is empty"),
        ('latency = "csv"\nfile = "none.csv"', "s.toml:4: file in [network]: none.csv cannot be read: No such file"),
        ('latency = "csv"\nfile = "."', "s.toml:4: file in [network]: "),
        (
            'file = "a.csv"',
            'file in [network]: it belongs to latency = "csv", and the latency here is "uniform"',
        ),
        ("within = 1", 'it belongs to latency = "csv" or latency = "azure", and the latency here is "uniform"'),
        ('latency = "azure"\nregions = ["Mars"]', "regions in [network]: 'Mars' is none of them; there are East US, "),
        ("downlink = 3", "s.toml:3: downlink = 3 in [network]: below the least allowed; allowed: bytes from 1KiB"),
    ],
)
def test_what_is_wrong_with_the_network(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError) as raised:
        read(tmp_path, text)
    assert said in str(raised.value).replace(f"{tmp_path}/", "")


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("", "trips.csv:1: the first line names no regions"),
        ("from\n", "trips.csv:1: the first line names no regions"),
        ("from,a,a\n", "trips.csv:1: 'a' is there twice"),
        ("from,a,\n", "trips.csv:1: '' as a region: "),
        ("from,a\nb,3\n", "trips.csv:2: 'b' is none of the regions of the first line"),
        ("from,a\na,3\na,3\n", "trips.csv:3: a second line of 'a'"),
        ("from,a,b\na,1\n", "trips.csv:2: 1 round trips from 'a', and there are 2 regions"),
        ("from,a,b\na,1,2\n", "trips.csv: there is no line of 'b'"),
        (
            "from,a,b\na,1,\nb,1,1\n",
            "trips.csv:2: from 'a' to 'b': '' is no round trip; allowed: milliseconds from",
        ),
        ("# one\n\nfrom,a\na,-1\n", "trips.csv:4: from 'a' to 'a': '-1' is no round trip"),
        ("from,a\na,nan\n", "'nan' is no round trip"),
        ("from,a\na,fast\n", "'fast' is no round trip"),
        ('from,a\na,"3\n', "trips.csv:2 is not CSV: "),
        ("from," + ",".join(map(str, range(MAX_REGIONS + 1))), f"trips.csv:1: 257 regions, at most {MAX_REGIONS}"),
    ],
)
def test_what_is_wrong_in_a_table(table: str, said: str) -> None:
    with pytest.raises(ConfigError) as raised:
        read_round_trips(table, "trips.csv", 0.002)
    assert str(raised.value).startswith(said) or said in str(raised.value)
    assert "\n" not in str(raised.value)


def played(folder: Path, nodes: str) -> Play:
    publish = '[[publish]]\ntopic = "t"\npublishers = 6\ncount = 30\nrate = 5\nstart = 12\n'
    play = Play(read(folder, "low = 0.01\nhigh = 0.08", nodes + publish))
    play.run()
    return play


def of_kind(play: Play, kind: str) -> Any:
    return next(record for record in records(play) if record["record"] == kind)


def test_wrong_clocks_lose_nothing(tmp_path: Path) -> None:
    nodes = '[nodes.plain]\ncount = 12\ntopics = ["t"]\nclock_offset = "1h"\nclock_drift = 0.02\n'
    play = played(tmp_path, nodes)
    deliveries = of_kind(play, "deliveries")
    assert (deliveries["owed"] > 0, deliveries["received"]) == (True, deliveries["owed"])
    offsets = [peer.wall_ns / 1e9 - 1.7e9 for peer in play.peers]
    assert all(-3600 <= offset <= 3600 for offset in offsets)
    assert max(offsets) - min(offsets) > 1800
    paces = [peer.pace for peer in play.peers]
    assert all(0.98 <= pace <= 1.02 for pace in paces)
    assert len(set(paces)) == 12


@pytest.mark.parametrize("key", ["clock_offset = -1", "clock_drift = 0.2"])
def test_clocks_that_are_too_wrong(tmp_path: Path, key: str) -> None:
    with pytest.raises(ConfigError, match=r"s\.toml:7: clock_"):
        read(tmp_path, "", NODES + key)
