"""Configuration: what wins, what is refused and in which words, and that every key can be written and read back."""

import os
import tomllib
from pathlib import Path

import pytest

from sidecar.config import KEYS, Config, default_file, describe, load, state_directory
from sidecar.core.errors import ConfigError
from sidecar.core.kademlia import Namespace, Rule
from sidecar.core.multiaddr import Multiaddr

PEER = "12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA"


def env(tmp_path: Path, **variables: str) -> dict[str, str]:
    return {"HOME": str(tmp_path), **variables}


def refusal(environ: dict[str, str], flags: dict[str, str] | None = None, file: Path | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        load(environ, flags or {}, file)
    return str(caught.value)


def test_without_any_source_the_defaults_are_in_force(tmp_path: Path) -> None:
    loaded = load(env(tmp_path), {})
    assert loaded.config == Config()
    assert loaded.origins == {}


def test_flag_wins_over_environment_over_file(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text('[network]\nname = "file"\n[log]\nlevel = "debug"\nformat = "json"\n')
    environ = env(tmp_path, SIDECAR_NETWORK_NAME="environment", SIDECAR_LOG_LEVEL="error")
    config, origins, _ = load(environ, {"network.name": "flag"}, file)
    assert (config.network.name, config.log.level, config.log.format) == ("flag", "error", "json")
    assert origins == {
        "network.name": "--network",
        "log.level": "$SIDECAR_LOG_LEVEL",
        "log.format": f"{file}:5",
    }


def test_the_file_is_found_by_variable_and_by_place(tmp_path: Path) -> None:
    place = tmp_path / ".config" / "sidecar" / "config.toml"
    assert default_file(env(tmp_path)) == place
    place.parent.mkdir(parents=True)
    place.write_text('network.name = "place"')
    other = tmp_path / "other.toml"
    other.write_text('network = { name = "other" }')
    assert load(env(tmp_path), {}).config.network.name == "place"
    assert load(env(tmp_path, SIDECAR_CONFIG=str(other)), {}).config.network.name == "other"
    assert "missing.toml cannot be read" in refusal(env(tmp_path), file=tmp_path / "missing.toml")


def test_units_are_understood_everywhere(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text('[gossip]\nheartbeat_interval = "250ms"\n[limits]\ntotal_buffer = "2 MiB"\n[api]\nmode = "0660"\n')
    flags = {
        "limits.receive_window": "300000",
        "timeouts.dial": "1.5m",
        "bootstrap.peers": f"/dns4/a.example/tcp/1/p2p/{PEER}, /dns4/b.example/tcp/2",
    }
    config = load(env(tmp_path), flags, file).config
    assert config.gossip.heartbeat_interval == 0.25
    assert config.limits.total_buffer == 2 << 20
    assert config.limits.receive_window == 300_000
    assert config.timeouts.dial == 90
    assert config.api.mode == 0o660
    named, unnamed = f"/dns4/a.example/tcp/1/p2p/{PEER}", "/dns4/b.example/tcp/2"
    assert config.bootstrap.peers == (Multiaddr.from_text(named), Multiaddr.from_text(unnamed))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[gossip]\n\ndegre = 7\n", ["c.toml:3", "'degre'", "[gossip]", "did you mean degree?"]),
        ("[gosip]\n", ["c.toml:1", "no section [gosip]", "did you mean gossip?"]),
        ("network = 1\n", ["c.toml:1", "network is a section"]),
        ("[limits]\nconnections = 0\n", ["c.toml:2", "limits.connections = 0", "from 1 to 100000"]),
        ("[limits]\nconnections = true\n", ["limits.connections = True", "not a whole number"]),
        ("[timeouts]\ndial = nan\n", ["timeouts.dial = nan", "allowed: seconds"]),
        ('[timeouts]\ndial = "3 parsecs"\n', ["timeouts.dial = '3 parsecs'", "ms, s, m, h or d"]),
        ('[listen]\naddresses = ["/ip4/1.2.3.4/udp/1/quic-v1"]\n', ["listen.addresses", "is not /ip4/.../tcp/..."]),
        ('[bootstrap]\npeers = ["/ip4/192.0.2.1/udp/1/quic-v1"]\n', ["bootstrap.peers", "does not end in /p2p/"]),
        ('[bootstrap]\npeers = ["/dnsaddr/-a.example"]\n', ["bootstrap.peers", "is no DNS name"]),
        ('[discovery]\ndns_servers = ["a.example"]\n', ["discovery.dns_servers", "a.example is no IP address"]),
        ('[discovery]\ndns_servers = ["192.0.2.1:0"]\n', ["discovery.dns_servers", "not a number from 1 to 65535"]),
        ('[bootstrap]\npeers = ["example.org"]\n', ["bootstrap.peers", "does not start with /"]),
        ('[api]\ntcp = "0.0.0.0"\n', ["api.tcp", "not host:port"]),
        ('[api]\ntcp = "localhost:1"\n', ["api.tcp", "not an IP address"]),
        (f'[api]\nsocket = "/{"x" * 107}"\n', ["c.toml:2: api.socket", "has at most 107 bytes, this one has 108"]),
        ('[api]\nmode = "0666"\n', ["api.mode", "nobody outside the group"]),
        ('[network]\nname = "a b"\n', ["network.name = 'a b'", "1 to 64"]),
        ("[gossip]\ndegree = 60\n", ["gossip.degree = 60", "degree_high (12)"]),
        ("[gossip\n", ["c.toml is not TOML", "line 1"]),
    ],
)
def test_what_is_wrong_in_a_file_is_named(tmp_path: Path, text: str, words: list[str]) -> None:
    file = tmp_path / "c.toml"
    file.write_text(text)
    message = refusal(env(tmp_path), file=file)
    assert [word for word in words if word not in message] == [], message


def test_what_is_wrong_in_the_environment_or_a_flag_is_named(tmp_path: Path) -> None:
    message = refusal(env(tmp_path, SIDECAR_LOG_LEVEL="loud"))
    assert "$SIDECAR_LOG_LEVEL: log.level = 'loud'" in message
    assert "one of debug, info, warning, error" in message
    assert "did you mean SIDECAR_LOG_LEVEL?" in refusal(env(tmp_path, SIDECAR_LOG_LEVL="info"))
    assert "--dht-mode: dht.mode = 'both'" in refusal(env(tmp_path), {"dht.mode": "both"})


def test_the_clients_variable_is_no_key(tmp_path: Path) -> None:
    assert load(env(tmp_path, SIDECAR_API="unix:/x"), {}).config == Config()


def test_variables_of_kubernetes_services_are_passed_over_in_a_pod(tmp_path: Path) -> None:
    links = {
        "SIDECAR_SERVICE_HOST": "10.0.0.1",
        "SIDECAR_SERVICE_PORT": "4747",
        "SIDECAR_PORT": "tcp://10.0.0.1:4747",
        "SIDECAR_DEMO_SERVICE_PORT_P2P": "4747",
        "SIDECAR_DEMO_PORT_4747_TCP_ADDR": "10.0.0.1",
    }
    assert load(env(tmp_path, KUBERNETES_SERVICE_HOST="10.0.0.1", **links), {}).config == Config()
    for name, value in links.items():
        assert name in refusal(env(tmp_path, **{name: value}))
    assert "SIDECAR_POTR" in refusal(env(tmp_path, KUBERNETES_SERVICE_HOST="10.0.0.1", SIDECAR_POTR="1"))


def test_every_default_is_allowed_and_survives_being_written(tmp_path: Path) -> None:
    for entry in KEYS.values():
        written = tomllib.loads(f"value = {entry.kind.write(entry.default)}")["value"]
        assert entry.kind.read(written) == entry.default, entry.full_name


def test_the_template_is_a_file_of_all_the_defaults(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    lines = describe.template().splitlines()
    file.write_text(
        "\n".join(line[1:] if line.startswith("#") and not line.startswith("# ") else line for line in lines)
    )
    config, origins, _ = load(env(tmp_path), {}, file)
    assert config == Config()
    assert list(origins) == list(KEYS)


def test_what_is_in_force_can_be_used_as_a_file(tmp_path: Path) -> None:
    loaded = load(env(tmp_path), {"log.level": "debug", "listen.addresses": "/ip4/127.0.0.1/tcp/0, /ip6/::1/tcp/0"})
    file = tmp_path / "c.toml"
    file.write_text(describe.in_force(loaded))
    assert load(env(tmp_path), {}, file).config == loaded.config
    assert describe.as_json(loaded)["log.level"] == {"value": "debug", "origin": "--log-level"}
    assert describe.as_json(loaded)["dht.namespaces"]["value"] == ["pk=pk", "signed=signed"]


def test_the_reference_is_up_to_date() -> None:
    committed = Path(__file__).parents[2] / "docs" / "configuration.md"
    assert committed.read_text() == describe.reference(), "stale: run `make docs`"


def test_the_state_directory_follows_xdg(tmp_path: Path) -> None:
    assert state_directory(Config(), env(tmp_path)) == tmp_path / ".local/state/sidecar"
    assert state_directory(Config(), env(tmp_path, XDG_STATE_HOME="/s")) == Path("/s/sidecar")
    chosen = load(env(tmp_path), {"state.directory": "/elsewhere"}).config
    assert state_directory(chosen, env(tmp_path)) == Path("/elsewhere")


def test_peers_and_networks_are_read_and_mistakes_named(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text('[gate]\ndeny_networks = ["192.0.2.0/24", "::ffff:10.0.0.0/104", "192.0.2.0/24"]\n')
    config = load({"SIDECAR_GATE_ALLOW_NETWORKS": "2001:db8::/32, ::1"}, {}, file).config
    assert list(map(str, config.gate.deny_networks)) == ["192.0.2.0/24", "10.0.0.0/8"]
    assert list(map(str, config.gate.allow_networks)) == ["2001:db8::/32", "::1"]
    file.write_text('[gate]\ndeny_networks = ["10.1.2.3/8"]\n')
    with pytest.raises(ConfigError, match=rf"{file}:2: gate.deny_networks .* write 10.0.0.0/8"):
        load({}, {}, file)
    with pytest.raises(ConfigError, match=r"--gate-deny-peers: .* is not a peer id"):
        load({}, {"gate.deny_peers": "192.0.2.1"})


def test_the_water_marks_fit_together() -> None:
    assert load({}, {"limits.high_water": "0", "limits.low_water": "0"}).config.limits.high_water == 0
    for flags, named in (
        ({"limits.high_water": "639"}, "--limits-high-water: limits.low_water = 640: allowed: peers.target"),
        ({"limits.low_water": "800"}, "--limits-low-water: limits.low_water = 800"),
        ({"peers.target": "700"}, "--peers-target: limits.low_water = 640"),
    ):
        with pytest.raises(ConfigError, match=named):
            load({}, flags)


def test_topics_to_probe_are_read_and_mistakes_named(tmp_path: Path) -> None:
    probe = load(env(tmp_path), {"probe.topics": "news, more news", "probe.objective": "500ms"}).config.probe
    assert (probe.topics, probe.objective, probe.share) == (("news", "more news"), 0.5, 0.99)
    file = tmp_path / "names.toml"
    file.write_text('probe.topics = ["one, and the same"]')
    assert load(env(tmp_path), {}, file).config.probe.topics == ("one, and the same",)
    assert "a name is named twice" in refusal(env(tmp_path), {"probe.topics": "news,news"})
    assert "a name of 1025 bytes, at most 1024" in refusal(env(tmp_path), {"probe.topics": "x" * 1025})
    assert "17 names, at most 16" in refusal(env(tmp_path), {"probe.topics": ",".join(map(str, range(17)))})
    assert refusal(env(tmp_path), {"probe.size": "1MiB"}).endswith(
        "probe.size = 1048576: allowed: less than gossip.max_message (1048576)"
    )
    assert refusal(env(tmp_path), {"probe.objective": "500ms"}) == (
        "--probe-objective: probe.objective = 0.5: allowed: together with probe.topics, or nothing is ever held "
        "against it"
    )


def test_thresholds_of_scores_keep_their_order_and_rates_are_read(tmp_path: Path) -> None:
    text = "blocks=0.1, a=b=20"
    loaded = load(env(tmp_path), {"score.expected_rates": text, "score.graylist_threshold": "-51"})
    assert loaded.config.score.expected_rates == (("blocks", 0.1), ("a=b", 20.0))
    assert describe.as_json(loaded)["score.expected_rates"]["value"] == ["blocks=0.1", "a=b=20"]
    for wrong in ("blocks", "=1"):
        assert "is not topic=messages a second" in refusal(env(tmp_path), {"score.expected_rates": wrong})
    assert "is not a number" in refusal(env(tmp_path), {"score.expected_rates": "a=many"})
    assert "named twice" in refusal(env(tmp_path), {"score.expected_rates": "a=1,a=2"})
    assert "below the least" in refusal(env(tmp_path), {"score.expected_rates": "a=0"})
    for name, value in [("graylist", "-50"), ("publish", "-9"), ("gossip", "-60"), ("disconnect", "-80")]:
        wrong = refusal(env(tmp_path), {f"score.{name}_threshold": value})
        assert "disconnect_threshold (" in wrong
        assert "< graylist_threshold < publish_threshold" in wrong
    assert "above the most allowed" in refusal(env(tmp_path), {"score.invalid_weight": "1"})
    assert "allowed: a number from 0" in refusal(env(tmp_path), {"score.topic_cap": "nan"})


def test_namespaces_of_records_are_read_and_mistakes_named(tmp_path: Path) -> None:
    text = "pk=pk, interop=greatest:refuse_prefix=bad"
    namespaces = load(env(tmp_path), {"dht.namespaces": text}).config.dht.namespaces
    assert namespaces == (Namespace("pk", Rule.PK), Namespace("interop", Rule.GREATEST, b"bad"))
    assert "none of the rules pk, signed, greatest" in refusal(env(tmp_path), {"dht.namespaces": "a=best"})
    assert "is not name=rule" in refusal(env(tmp_path), {"dht.namespaces": "a"})
    assert "named twice" in refusal(env(tmp_path), {"dht.namespaces": "a=pk,a=signed"})


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("", ""),
        ("9464", "127.0.0.1:9464"),
        ("0.0.0.0:9464", "0.0.0.0:9464"),
        ("[::1]:0", "[::1]:0"),
        ("[0::0]:1", "[::]:1"),
    ],
)
def test_where_metrics_are_served(tmp_path: Path, given: str, read: str) -> None:
    assert load(env(tmp_path, SIDECAR_METRICS_LISTEN=given), {}).config.metrics.listen == read
    file = tmp_path / "c.toml"
    file.write_text(f"metrics.listen = {given}" if given.isdigit() else f'metrics.listen = "{given}"')
    assert load(env(tmp_path), {}, file).config.metrics.listen == read


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("port", "not a port"),
        ("99999", "not a port"),
        ("-1", "not a port"),
        ("localhost:1", "not an IP address"),
        ("::1:9464", "brackets"),
        ("[::1:9464", "brackets"),
        ("true", "not a port"),
    ],
)
def test_where_metrics_cannot_be_served(tmp_path: Path, given: str, said: str) -> None:
    assert said in refusal(env(tmp_path, SIDECAR_METRICS_LISTEN=given))


def test_levels_of_parts_of_the_log(tmp_path: Path) -> None:
    text = "net=debug, api.server=error"
    assert load(env(tmp_path, SIDECAR_LOG_LEVELS=text), {}).config.log.levels == ("net=debug", "api.server=error")
    file = tmp_path / "c.toml"
    file.write_text('log.levels = ["net=debug"]')
    assert load(env(tmp_path), {}, file).config.log.levels == ("net=debug",)
    for wrong, said in (("net", "not part=level"), ("net=loud", "not part=level"), ("net=info,net=debug", "twice")):
        assert said in refusal(env(tmp_path, SIDECAR_LOG_LEVELS=wrong))
    file.write_text("log.levels = 5")
    assert "not a list" in refusal(env(tmp_path), file=file)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[peers]\ntarget = 7\n".encode("utf-16"), "UTF-16; save it as UTF-8"),
        (b"[peers]\ntarget = 7 # \xff\n", "line 2 is not UTF-8"),
        (b"[peers]\ntarget = 7\0\n", "is not TOML: "),
        (b"[peers]\ntarget = 7\ntarget = 8\n", "is not TOML: "),
        (b"[peers]\ntarget = " + b"9" * 5000 + b"\n", "is not TOML: "),
        (b"a = " + b"[" * 100_000, "is not TOML: "),
        (b"#" * (5 << 20), "more than 4194304 bytes"),
        (b"[peers]\ntarget = 1" + b"0" * 400 + b"\n", ":2: peers.target = 1000"),
        (b"[gossip]\nmax_message = inf\n", ":2: gossip.max_message = inf"),
        (b"[gossip]\nmax_message = nan\n", ":2: gossip.max_message = nan"),
        (b"[timeouts]\nshutdown = 1" + b"0" * 400 + b"\n", ":2: timeouts.shutdown = 1000"),
        (b"[bootstrap]\npeers = false\n", ":2: bootstrap.peers = False: not a list of texts"),
        (b"[gate]\nallow_peers = 0\n", ":2: gate.allow_peers = 0: not a list of texts"),
    ],
)
def test_an_odd_file_gets_a_sentence(tmp_path: Path, content: bytes, said: str) -> None:
    file = tmp_path / "c.toml"
    file.write_bytes(content)
    with pytest.raises(ConfigError) as refused:
        load({}, {}, file)
    assert said in str(refused.value)
    assert str(file) in str(refused.value)


def test_files_of_windows_editors_are_read(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_bytes(b"\xef\xbb\xbf[peers]\r\ntarget = 7\r\n")
    assert load({}, {}, file).config.peers.target == 7


def test_what_is_no_file_is_neither_read_nor_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for place, said in ((tmp_path / "pipe", "not a regular file"), (tmp_path, "directory"), (Path("/dev/zero"), "not")):
        with pytest.raises(ConfigError, match=said):
            load({}, {}, place)


def test_a_user_without_a_home_needs_only_to_say_where_the_state_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.path.expanduser", lambda text: text)  # as for a user that the system does not know
    assert default_file({}) is None
    config = load({}, {}).config
    with pytest.raises(ConfigError, match=r"no home directory.*--state"):
        state_directory(config, {})
    assert state_directory(load({}, {"state.directory": "/x"}).config, {}) == Path("/x")
    assert state_directory(config, {"XDG_STATE_HOME": "/y"}) == Path("/y/sidecar")


@pytest.mark.parametrize(
    ("variable", "text", "said"),
    [
        ("SIDECAR_STATE_DIRECTORY", '"/tmp/x"', "the value stands in quotes"),
        ("SIDECAR_PEERS_TARGET", "'7'", "the value stands in quotes"),
        ("SIDECAR_PEERS_TARGET", "", "not a whole number"),
        ("SIDECAR_GOSSIP_MAX_MESSAGE", "9" * 400, "not a whole number of bytes"),
        ("SIDECAR_NETWORK_NAME", "a\udcff", "not UTF-8"),
        ("SIDECAR_BOOTSTRAP_PEERS", "/dns4/\udcff/tcp/1", "not UTF-8"),
        ("SIDECAR_API_SOCKET", "~nobody-has-this-name/a", "no home directory"),
    ],
)
def test_an_odd_variable_gets_a_sentence(variable: str, text: str, said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        load({variable: text, "HOME": "/nonexistent"}, {})
    assert str(refused.value).startswith(f"${variable}: ")
    assert said in str(refused.value)


def test_a_line_end_behind_a_variable_is_no_part_of_it() -> None:
    config = load({"SIDECAR_API_SOCKET": "/tmp/a.sock\r", "SIDECAR_PEERS_TARGET": "7\r\n", "HOME": "/nonexistent"}, {})
    assert config.config.api.socket == Path("/tmp/a.sock")
    assert config.config.peers.target == 7
