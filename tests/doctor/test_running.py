"""The doctor's checks of a running sidecar, each made to find what it looks for."""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sidecar_client import (
    ConfigurationEntry,
    Direction,
    Histogram,
    NodeInfo,
    PortMapping,
    Reachability,
    Rule,
    RuleCount,
    Statistics,
)

from sidecar import __version__
from sidecar.config import Config
from sidecar.config.rules import RulesFile, parse_rules
from sidecar.core.multiaddr import Multiaddr
from sidecar.doctor import mesh, running
from sidecar.doctor.finding import Finding, Level

NODE = NodeInfo(
    peer_id="12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA",
    network="main",
    agent="sidecar",
    version=__version__,
    listening_addresses=("/ip4/10.0.0.5/tcp/4747",),
    announced_addresses=(),
    observed_addresses=(),
    start_time=0.0,
    uptime=3600.0,
    api_engine="http2",
)


@dataclass
class Connected:
    direction: Direction


@dataclass
class Sidecar:
    """What a client would tell of a sidecar."""

    ways: list[Direction] = field(default_factory=list)
    call_takes: float = 0.0
    now: float = 0.0
    engine: str = "auto"

    async def info(self) -> NodeInfo:
        self.now += self.call_takes
        return NODE

    async def configuration(self) -> list[ConfigurationEntry]:
        return [ConfigurationEntry("api.engine", f'"{self.engine}"', "default", False)]

    async def peers(self, *, connected_only: bool) -> AsyncIterator[Connected]:
        for way in self.ways:
            yield Connected(way)


def found(check: Any) -> Finding:
    async def ask() -> Finding:
        finding: Finding = await check
        return finding

    return asyncio.run(ask())


def test_a_sidecar_of_another_version() -> None:
    assert running.versions(NODE).level is Level.OK
    other = running.versions(replace(NODE, version="0.0.1"))
    assert (other.level, "0.0.1" in other.message) == (Level.WARNING, True)


@pytest.mark.parametrize(
    ("wanted", "serving", "level"),
    [
        ("auto", "http2", Level.OK),
        ("auto", "grpcio", Level.WARNING),
        ("grpcio", "grpcio", Level.OK),
        ("http2", "http2", Level.OK),
        ("auto", "", Level.SKIPPED),
    ],
)
def test_an_engine_that_serves_because_the_other_cannot(wanted: str, serving: str, level: Level) -> None:
    sidecar: Any = Sidecar(engine=wanted)
    told = found(running.engine(sidecar, replace(NODE, api_engine=serving)))
    assert (told.level, "ngh2" in told.message) == (level, level is Level.WARNING)


@pytest.mark.parametrize(("seconds", "level"), [(0.001, Level.OK), (0.06, Level.WARNING), (0.6, Level.PROBLEM)])
def test_an_api_that_is_slow(seconds: float, level: Level, monkeypatch: pytest.MonkeyPatch) -> None:
    sidecar: Any = Sidecar(call_takes=seconds)
    monkeypatch.setattr(time, "perf_counter", lambda: sidecar.now)
    assert found(running.latency(sidecar)).level is level


@pytest.mark.parametrize(
    ("counts", "level"), [((0, 0, 0), Level.SKIPPED), ((500, 1, 0), Level.OK), ((500, 5, 5), Level.WARNING)]
)
def test_an_event_loop_that_is_late(counts: tuple[int, ...], level: Level) -> None:
    lag = Histogram((0.1, 1.0), counts, 0.0)
    assert running.loop(Statistics({}, {"event_loop_lag_seconds": lag})).level is level


@pytest.mark.parametrize(
    ("ways", "uptime", "level"),
    [
        ("ooo", 3600.0, Level.WARNING),
        ("ooi", 3600.0, Level.OK),
        ("ooo", 10.0, Level.OK),
        ("oo", 3600.0, Level.OK),
    ],
)
def test_nobody_who_connects(ways: str, uptime: float, level: Level) -> None:
    sidecar: Any = Sidecar([Direction.INBOUND if way == "i" else Direction.OUTBOUND for way in ways])
    assert found(running.inbound(sidecar, replace(NODE, uptime=uptime))).level is level
    only_dials = replace(NODE, uptime=uptime, listening_addresses=())
    assert found(running.inbound(sidecar, only_dials)).level is Level.OK


@pytest.mark.parametrize(
    ("seen", "announced", "level"),
    [
        ("/ip4/198.51.100.7/tcp/40000", "/ip4/10.0.0.5/tcp/4747", Level.WARNING),
        ("/ip4/10.0.0.5/tcp/40000", "/ip4/10.0.0.5/tcp/4747", None),
        ("/ip4/127.0.0.1/tcp/40000", "/ip4/10.0.0.5/tcp/4747", None),
        ("/ip4/198.51.100.7/tcp/40000", "/dns4/node.example/tcp/4747", None),
    ],
)
def test_an_address_that_peers_see_and_nobody_is_told(seen: str, announced: str, level: Level | None) -> None:
    node = replace(NODE, observed_addresses=(seen,))
    levels = [finding.level for finding in mesh.translated(node, [Multiaddr.from_text(announced)])]
    assert levels == ([level] if level else [])


@dataclass
class Ruled:
    """What a client would tell of a sidecar with rules."""

    in_force: list[Rule]
    joined: tuple[str, ...]

    async def rules(self) -> list[Rule]:
        return self.in_force

    async def topics(self) -> list[Any]:
        return [SimpleNamespace(name=name, subscribed=True) for name in self.joined]


def in_force(name: str, *topics: str, configured: bool = True) -> Rule:
    return Rule(name, topics, "payloads of at most 7 bytes", configured, (RuleCount(topics[0], "max_payload", 3),))


def with_file(*names: str) -> Config:
    text = "".join(f'[[rule]]\nname = "{name}"\ntopics = ["*"]\nmax_payload = 7\n' for name in names)
    config = Config()
    return replace(config, gossip=replace(config.gossip, rules=RulesFile(Path("rules.toml"), parse_rules(text))))


@pytest.mark.parametrize(
    ("rules", "joined", "named", "said"),
    [
        ([in_force("a", "new*")], ("news",), ("a",), [(Level.OK, "1 in force, which have kept back 3 messages")]),
        (
            [in_force("a", "new")],
            ("news",),
            ("a",),
            [(Level.WARNING, "no topic that apps here are in fits the rule a")],
        ),
        ([in_force("a", "new")], (), ("a",), []),  # nothing is known of topics yet
        ([], ("news",), (), []),
        (
            [in_force("a", "*"), in_force("own", "*", configured=False)],
            ("news",),
            ("a", "b"),
            [
                (Level.WARNING, "the file has the rules a, b, the sidecar that runs has the rule a of its file"),
                (Level.OK, "2 in force, which have kept back 6 messages"),
            ],
        ),
    ],
)
def test_rules_that_are_for_nothing_or_not_in_force(
    rules: list[Rule], joined: tuple[str, ...], named: tuple[str, ...], said: list[tuple[Level, str]]
) -> None:
    async def ask() -> list[Finding]:
        sidecar: Any = Ruled(rules, joined)
        return [finding async for finding in running.rules(sidecar, with_file(*named))]

    assert [(finding.level, finding.message) for finding in asyncio.run(ask())] == said


RELAY = replace(Config(), relay=replace(Config().relay, server=True))


@pytest.mark.parametrize(
    ("counts", "config", "level", "words"),
    [
        ({"relay_places_wanted": 2, "relay_places": 1}, Config(), Level.OK, "1 of 2 places with relays"),
        (
            {"relay_places_wanted": 1, "relay_places_failed_Refused": 4, "relay_places_failed_Unreachable": 1},
            Config(),
            Level.WARNING,
            "0 of 1 places with relays; asked in vain: Refused 4, Unreachable 1",
        ),
        ({"relay_places_wanted": 1}, Config(), Level.WARNING, "no relay was found yet"),
        (
            {"relay_requests_refused_reservation_refused": 3, "relay_requests_refused_no_reservation": 9},
            RELAY,
            Level.WARNING,
            "turned away 3 who wanted a place, and 0 who wanted to be connected",
        ),
        ({"relay_reservations": 5, "relay_circuits": 2}, RELAY, Level.OK, "5 places given, 2 connections carried"),
    ],
)
def test_relays_without_a_place_and_relays_that_are_full_are_found(
    counts: dict[str, float], config: Config, level: Level, words: str
) -> None:
    (found,) = running.relays(Statistics(counts, {}), config)
    assert found.level is level
    assert words in found.message
    assert bool(found.remedy) == (level is Level.WARNING)


def test_places_that_are_lost_again_and_again_are_found_and_a_node_without_relays_is_not_asked() -> None:
    counts = {"relay_places_wanted": 1, "relay_places": 1, "relay_places_lost": 4}
    fine, lost = running.relays(Statistics(counts, {}), Config())
    assert (fine.level, lost.level) == (Level.OK, Level.WARNING)
    assert "lost 4 times" in lost.message
    assert list(running.relays(Statistics({}, {}), Config())) == []


@pytest.mark.parametrize(
    ("mapping", "reachability", "level"),
    [
        (None, Reachability.UNKNOWN, Level.SKIPPED),
        (PortMapping("off", "off", "", "", "", ()), Reachability.UNKNOWN, Level.OK),
        (
            PortMapping("no answer", "maps none", "Turn it on.", "192.0.2.1", "", ()),
            Reachability.UNKNOWN,
            Level.WARNING,
        ),
        (PortMapping("no answer", "maps none", "Turn it on.", "192.0.2.1", "", ()), Reachability.CONFIRMED, Level.OK),
    ],
)
def test_a_gateway_that_maps_no_port(mapping: PortMapping | None, reachability: Reachability, level: Level) -> None:
    finding = running.port_mapping(replace(NODE, port_mapping=mapping, reachability=reachability))
    assert finding.level is level
    assert mapping is None or finding.message == mapping.message
