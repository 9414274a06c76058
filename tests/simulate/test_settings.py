"""`--set`: which keys there are, how values are read and written, and where they end up."""

from pathlib import Path
from typing import Any

import pytest

from sidecar.core.errors import ConfigError
from sidecar.simulate.reading import load_scenario
from sidecar.simulate.scenario import Scenario
from sidecar.simulate.settings import Assignment, read_settings, shown, with_settings

TEXT = """\
duration = 9
[nodes.plain]
count = 5
topics = ["t"]
config.gossip.degree_low = 4
[nodes.other]
count = 3
[nodes.bad]
count = 2
behaviour = "silent"
[[publish]]
topic = "t"
count = 2
rate = 1
"""


def read(folder: Path, *settings: Assignment, text: str = TEXT) -> Scenario:
    file = folder / "s.toml"
    file.write_text(text)
    return load_scenario(file, settings)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("gossip.degree=4,6,8", [4, 6, 8]),
        (" gossip.degree = 4 , 6 ", [4, 6]),
        ("gossip.heartbeat_interval=0.5,1", [0.5, 1]),
        ("gossip.heartbeat_interval=500ms,1s", ["500ms", "1s"]),
        ("network.latency=azure", ["azure"]),
        ("gossip.flood_publish=true,false", [True, False]),
        ('nodes.plain.topics=["a"],["a","b"]', [["a"], ["a", "b"]]),
        ("publish.size=16,1KiB", [16, "1KiB"]),
    ],
)
def test_values_are_read_and_written(text: str, values: list[Any]) -> None:
    ((key, found),) = read_settings([text])
    assert found == values
    for value in values:
        setting = Assignment(key, value)
        assert read_settings([setting.text]) == [(key, [value])]


@pytest.mark.parametrize("value", ["4", "a,b", "true", "", 'a"b', "[1]", 0.1, 10**20])
def test_what_is_shown_can_be_typed_again(value: Any) -> None:
    assert read_settings([f"network.latency={shown(value)}"]) == [("network.latency", [value])]


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        (["gossip.degree"], "--set gossip.degree: write KEY=VALUE, or KEY=VALUE,VALUE,..."),
        (["gossip.degree="], "--set gossip.degree=: write KEY=VALUE"),
        (["=3"], "--set =3: write KEY=VALUE"),
        (["gossip.degree=,"], "--set gossip.degree=,: there is no value"),
        (["gossip.degre=3"], "--set gossip.degre: no such key; there are those of the configuration, such as"),
        (["gossip.degre=3"], "(did you mean gossip.degree?)"),
        (["nodes.plain=3"], "--set nodes.plain: no such key"),
        (["seed=3"], "--set seed: no such key"),
        (["publish.a.b=3"], "--set publish.a.b: no such key"),
        (["gossip.degree=3", "gossip.degree=4"], "--set gossip.degree=4: gossip.degree is set twice"),
        (["gossip.degree=3,4,3"], "--set gossip.degree=3,4,3: 3 is there twice"),
    ],
)
def test_what_is_no_setting(texts: list[str], said: str) -> None:
    with pytest.raises(ConfigError) as raised:
        read_settings(texts)
    assert said in str(raised.value)


def test_keys_of_the_configuration_are_set_for_all_honest_nodes(tmp_path: Path) -> None:
    scenario = read(tmp_path, Assignment("gossip.heartbeat_interval", 2), Assignment("dht.mode", "client"))
    told = {kind.name: (kind.config.gossip.heartbeat_interval, kind.config.dht_server) for kind in scenario.kinds}
    assert told == {"plain": (2.0, False), "other": (2.0, False), "bad": (1.0, True)}
    assert scenario.settings == (Assignment("gossip.heartbeat_interval", 2), Assignment("dht.mode", "client"))


def test_keys_of_the_scenario(tmp_path: Path) -> None:
    scenario = read(
        tmp_path,
        Assignment("network.uplink", "1MiB"),
        Assignment("nodes.other.count", 7),
        Assignment("nodes.plain.config.gossip.flood_peers", 9),
        Assignment("publish.rate", 0.5),
        Assignment("duration", 20),
    )
    assert scenario.network.model.uplink == 2.0**20
    assert [kind.count for kind in scenario.kinds] == [5, 7, 2]
    assert [kind.config.gossip.flood_peers for kind in scenario.kinds] == [9, 16, 16]
    assert [each.rate for each in scenario.publications] == [0.5]
    assert scenario.duration == 20.0


@pytest.mark.parametrize(
    ("settings", "plain", "other"),
    [
        ({"gossip.degree": 3}, (1, 3, 3, 12), (1, 3, 3, 12)),
        ({"gossip.degree": 8}, (2, 4, 8, 12), (2, 5, 8, 12)),
        ({"gossip.degree": 20}, (2, 4, 20, 20), (2, 5, 20, 20)),
        ({"gossip.degree": 8, "gossip.degree_low": 2, "gossip.degree_high": 9}, (2, 2, 8, 9), (2, 2, 8, 9)),
        ({"gossip.degree": 8, "gossip.degree_low": 1}, (1, 1, 8, 12), (1, 1, 8, 12)),
    ],
)
def test_the_other_degrees_follow(
    tmp_path: Path, settings: dict[str, int], plain: tuple[int, ...], other: tuple[int, ...]
) -> None:
    scenario = read(tmp_path, *(Assignment(key, value) for key, value in settings.items()))
    found = [kind.config.gossip for kind in scenario.kinds[:2]]
    assert [(each.d_out, each.d_low, each.d, each.d_high) for each in found] == [plain, other]


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        (Assignment("gossip.degree", 1000), "--set gossip.degree=1000: s.toml: gossip.degree = 1000: "),
        (Assignment("nodes.none.count", 3), "--set nodes.none.count=3: there are no nodes 'none'"),
        (Assignment("network.uplnk", 3), "--set network.uplnk=3: s.toml: no key 'uplnk' in [network]"),
        (Assignment("nodes.plain.count.x", 3), "--set nodes.plain.count.x=3: nodes.plain.count is no table"),
        (Assignment("gossip.degree", "many"), "--set gossip.degree=many: s.toml: gossip.degree = "),
    ],
)
def test_what_does_not_go_is_told_with_the_setting(tmp_path: Path, setting: Assignment, said: str) -> None:
    with pytest.raises(ConfigError) as raised:
        read(tmp_path, setting)
    assert str(raised.value).replace(f"{tmp_path}/", "").startswith(said)


def test_what_is_wrong_anyway_is_told_as_such(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"s\.toml:3: count = 0 in "):
        read(tmp_path, Assignment("gossip.degree", 7), text=TEXT.replace("count = 5", "count = 0"))
    with pytest.raises(ConfigError, match="the scenario publishes nothing"):
        with_settings({"nodes": {}}, [Assignment("publish.size", 16)])
