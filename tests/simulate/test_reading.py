"""Scenarios as they are read: what they say, and a sentence with the place for what is wrong in them."""

import dataclasses
from pathlib import Path

import pytest

from sidecar.core.errors import ConfigError
from sidecar.simulate import reading
from sidecar.simulate.memory import needed_memory
from sidecar.simulate.play import Play
from sidecar.simulate.reading import load_scenario
from sidecar.simulate.scenario import Scenario, What

NODES = '[nodes.plain]\ncount = 5\ntopics = ["news"]\n'
PUBLISH = '[[publish]]\ntopic = "news"\ncount = 3\nrate = 1\n'
SYBILS = "[nodes.sybils]\ncount = 3\n"
MATRIX = '[network]\nlatency = "matrix"\nregions = ["eu", "us"]\n'


def read(tmp_path: Path, text: str) -> Scenario:
    file = tmp_path / "s.toml"
    file.write_text(text)
    return load_scenario(file)


def test_all_that_a_scenario_can_say(tmp_path: Path) -> None:
    scenario = read(
        tmp_path,
        'about = "all of it"\nseed = 7\nduration = "2m"\nentrances = 2\nsettled = 3\n'
        + MATRIX
        + 'round_trips = [["10ms", 0.09], ["90ms", "20ms"]]\nloss = 0.01\nuplink = "1MiB"\n'
        + NODES
        + 'start = 1\nover = 2\nconfig.gossip.degree = 7\n[nodes.far]\ncount = 3\nregions = ["us"]\n'
        '[nodes.far.config.dht]\nmode = "client"\n'
        + PUBLISH
        + 'kind = "far"\npublishers = 2\nsize = "2KiB"\nstart = 10\n'
        '[[event]]\nwhat = "kill"\nat = 20\nshare = 0.2\n[[event]]\nwhat = "restart"\nat = 30\n'
        '[[event]]\nwhat = "partition"\nat = 40\nshares = [0.25, 0.75]\n[[event]]\nwhat = "heal"\nat = 50\n'
        '[[event]]\nwhat = "churn"\nat = 60\nkind = "far"\nlasts = 10\nrate = 0.5\naway = "5s"\n',
    )
    assert (scenario.name, scenario.seed, scenario.duration, scenario.nodes) == ("s", 7, 120.0, 8)
    assert scenario.network.round_trips == ((0.01, 0.09), (0.09, 0.02))
    assert (scenario.network.model.loss, scenario.network.model.uplink) == (0.01, 2.0**20)
    plain, far = scenario.kinds
    assert (plain.start, plain.over, plain.topics, plain.regions) == (1.0, 2.0, ("news",), (0, 1))
    assert (plain.config.gossip.d, plain.config.dht_server) == (7, True)
    assert (far.regions, far.config.dht_server, far.topics) == ((1,), False, ())
    (publication,) = scenario.publications
    assert (publication.kind, publication.publishers, publication.size, publication.start) == ("far", 2, 2048, 10.0)
    assert [event.what for event in scenario.events] == list(What)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("duration = 5\n", "s.toml: there are no nodes: write [nodes.NAME] and `count = ...` below"),
        ("duration = 5\n" + NODES + 'behaviour = "silent"\n', "s.toml: all nodes are hostile, and a report is of the"),
        (NODES, "s.toml: the scenario lacks duration: seconds from 0.001 to 86400, such as 30, 250ms or 5m"),
        ("duration = 5\nsed = 1\n" + NODES, "s.toml:2: no key 'sed' in the scenario; there are name, about, seed,"),
        ("duration = 5\n" + NODES + "hosts = 6\n", "s.toml:5: hosts = 6 in [nodes.plain]: above the most allowed"),
        (
            "duration = 5\n" + SYBILS + 'behaviour = "table-eclipse"\nvictim = "plain"\n' + NODES,
            "s.toml:5: victim in [nodes.sybils]: 'plain' stands below: victims come before those who are near",
        ),
        (
            "duration = 5\n" + NODES + "config.limits.half_open = 5\n",
            "limits.half_open = 5 changes nothing of a simulated",
        ),
        ("duration = 5\nsed = 1\n" + NODES, "(did you mean seed?)"),
        ("duration = -1\n" + NODES, "s.toml:1: duration = -1 in the scenario: "),
        ("duration = 5\n[nodes.plain]\ncuont = 5\n", "s.toml:3: no key 'cuont' in [nodes.plain]; "),
        ("duration = 5\n[nodes.plain]\n", "s.toml:2: [nodes.plain] lacks count: a whole number from 1 to 1000000"),
        ("duration = 5\n[nodes.plain]\ncount = 0\n", "s.toml:3: count = 0 in [nodes.plain]: "),
        ("duration = 5\nnodes.plain = 3\n", "s.toml: nodes.plain is a table: write [nodes.plain] and its keys below"),
        ("duration = 5\nnetwork = 3\n" + NODES, "s.toml: network is a table: write [network] and its keys below"),
        ("duration = 5\n" + NODES + "config.gosip.degree = 3\n", "no section [gosip]; there are api, audit, "),
        (
            "duration = 5\n" + NODES + "[nodes.plain.config.gossip]\ndegre = 3\n",
            "s.toml:6: no key 'degre' in [gossip]; ",
        ),
        (
            "duration = 5\n" + NODES + "[nodes.plain.config.gossip]\ndegree = 99\n",
            "s.toml:6: gossip.degree = 99: allowed: degree_out",
        ),
        (
            "duration = 5\n" + NODES + '[nodes.plain.config.log]\nlevel = "debug"\n',
            "s.toml:6: log.level = 'debug' changes nothing of a simulated node: leave it out",
        ),
        (
            "duration = 5\n" + NODES + '[nodes.plain.config.bootstrap]\npeers = ["/ip4/192.0.2.1/tcp/4747"]\n',
            "s.toml:6: bootstrap.peers: it is `entrances` that says whom all know",
        ),
        ("duration = 5\n" + NODES + 'regions = ["eu"]\n', "s.toml:5: regions in [nodes.plain]: 'eu' is none of"),
        ("duration = 5\n" + NODES + "[publish]\ntopic = 3\n", "s.toml: publish is a list of tables: write [[publish]]"),
        (
            "duration = 5\n" + NODES + PUBLISH + PUBLISH.replace("news", "olds"),
            "s.toml:10: topic in [[publish]] 2: nobody joins 'olds'; the topics that nodes join: news",
        ),
        (
            "duration = 5\n" + NODES + PUBLISH + "publishers = 6\n",
            "s.toml:9: publishers in [[publish]] 1: 6 are more than there are such nodes (5)",
        ),
        ("duration = 5\n" + NODES + PUBLISH + "start = 3\n", "last longer than the run (5 s)"),
        ("duration = 5\n" + NODES + PUBLISH + "size = 3\n", "s.toml:9: size = 3 in [[publish]] 1: "),
        ("duration = 5\n" + NODES + PUBLISH + 'kind = "fast"\n', "allowed: one of plain"),
        ("duration = 5\n" + NODES + '[[event]]\nwhat = "boom"\nat = 1\n', "s.toml:6: what = 'boom' in [[event]] 1: "),
        ("duration = 5\n" + NODES + '[[event]]\nwhat = "heal"\nat = 5\n', "5 s is not before the end of the run (5 s)"),
        (
            "duration = 5\n" + NODES + '[[event]]\nwhat = "heal"\nat = 1\nrate = 3\n',
            's.toml:8: rate in [[event]] 1: it means nothing to what = "heal"',
        ),
        (
            "duration = 5\n" + NODES + '[[event]]\nwhat = "kill"\nat = 1\n',
            "s.toml:5: [[event]] 1 kills `count` nodes or a `share` of them: name one of both",
        ),
        (
            "duration = 5\n" + NODES + '[[event]]\nwhat = "partition"\nat = 1\nshares = [0.5, 0.6]\n',
            "s.toml:8: shares in [[event]] 1: they make 1.1, each above 0, and have to make 1",
        ),
        (
            "duration = 5\n[network]\nmean = 1\n" + NODES,
            's.toml:3: mean in [network]: it belongs to latency = "normal", and the latency here is "uniform"',
        ),
        ("duration = 5\n[network]\nlow = 2\nhigh = 1\n" + NODES, "low in [network]: 2 s is more than high (1 s)"),
        ("duration = 5\n[network]\nloss = 0.9\n" + NODES, "0.9 is more than TCP lives with"),
        ("duration = 5\n" + MATRIX + NODES, "it is a list of 2 lists of 2 times each"),
        ("duration = 5\n" + NODES + SYBILS + 'behaviour = "rude"\n', "behaviour = 'rude' in [nodes.sybils]: "),
        (
            "duration = 5\n" + NODES + SYBILS + "after = 3\n",
            "s.toml:7: after in [nodes.sybils]: it is for hostile nodes, which have a behaviour, and these have none",
        ),
        (
            "duration = 5\n" + NODES + SYBILS + 'behaviour = "silent"\nforwards = 0.5\n',
            's.toml:8: forwards in [nodes.sybils]: it means nothing to behaviour = "silent"',
        ),
        (
            "duration = 5\n" + NODES + SYBILS + 'behaviour = "censor"\n',
            "s.toml:5: [nodes.sybils] lacks author: up to 64 letters",
        ),
        (
            "duration = 5\n" + NODES + SYBILS + 'behaviour = "censor"\nauthor = "sybils"\n',
            "s.toml:8: author in [nodes.sybils]: 'sybils' is no kind of honest nodes; there are plain",
        ),
        (
            "duration = 5\n" + NODES + SYBILS + 'behaviour = "silent"\nagainst = "plane"\n',
            "s.toml:8: against in [nodes.sybils]: 'plane' is no kind of honest nodes; there are plain",
        ),
        (
            "duration = 5\n" + NODES + SYBILS + 'behaviour = "silent"\nconnections = 6\n',
            "s.toml:8: connections in [nodes.sybils]: 6 are more than there are such nodes (5)",
        ),
        (
            "duration = 5\n" + NODES + SYBILS + 'behaviour = "silent"\n' + PUBLISH + 'kind = "sybils"\n',
            "kind = 'sybils' in [[publish]] 1: not one of the words allowed; allowed: one of plain",
        ),
        ('duration = 5\nstart = "hot"\n' + NODES, "s.toml:2: start = 'hot' in the scenario: "),
        (
            'duration = 5\nstart = "warm"\n' + NODES + "over = 1\n",
            "s.toml:2: start in the scenario: a warm start places nodes that are there from the beginning, and",
        ),
        ("duration = \n", "is not TOML: "),
    ],
)
def test_what_is_wrong_is_told_in_a_sentence_that_names_the_place(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError) as raised:
        read(tmp_path, text)
    error = str(raised.value).replace(f"{tmp_path}/", "")
    assert said in error
    assert error.startswith(("s.toml", "scenario s.toml"))
    assert "\n" not in error


def test_more_nodes_than_fit_into_memory_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scenario = read(tmp_path, "duration = 5\n" + NODES)
    needed, fewer = (needed_memory(dataclasses.replace(scenario, kinds=kinds)) for kinds in (scenario.kinds, ()))
    there = needed - (needed - fewer) / 5 + 1
    monkeypatch.setattr(reading, "available_memory", lambda: there)
    with pytest.raises(ConfigError, match=r"s\.toml: 5 nodes take some .* GB are free: at most 4 fit"):
        read(tmp_path, "duration = 5\n" + NODES)


def test_nodes_that_need_not_join_and_fewer_messages_take_less_memory(tmp_path: Path) -> None:
    cold, warm = (read(tmp_path, f'duration = 5\nstart = "{start}"\n' + NODES + PUBLISH) for start in ("cold", "warm"))
    assert needed_memory(warm) < needed_memory(cold)
    (publication,) = cold.publications
    large = dataclasses.replace(publication, size=2**20)
    assert needed_memory(dataclasses.replace(cold, publications=(large,))) > needed_memory(cold) + 5 * 2**20


def test_a_scenario_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.toml cannot be read: No such file"):
        load_scenario(tmp_path / "none.toml")


def test_limits_of_connections_and_public_addresses(tmp_path: Path) -> None:
    scenario = read(tmp_path, "duration = 5\n" + NODES + "hosts = 2\nconfig.limits.connections_per_address = 3\n")
    (kind,) = scenario.kinds
    assert (kind.hosts, kind.bounds.max_per_address) == (2, 3)
    play = Play(scenario)
    assert [peer.host for peer in play.peers] == ["11.0.0.1", "11.0.1.1", "11.0.0.1", "11.0.1.1", "11.0.0.1"]
    assert len({peer.address for peer in play.peers}) == 5
    assert all(peer.admission is not None for peer in play.peers)
