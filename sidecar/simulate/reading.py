"""From a TOML file to a checked scenario. Every error is a ConfigError of one sentence that names the place."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..config import KEYS, configured
from ..config.kinds import choice, number, share, size, text
from ..config.tables import Source, Table, read_document, tables
from ..configure import net_config, node_config
from ..core.errors import ConfigError
from ..core.node import NodeConfig
from ..net.config import NetConfig
from .hostile import BEHAVIOURS
from .memory import available_memory, fitting_nodes, needed_memory
from .network import KEYS as NETWORK_KEYS
from .network import read_network
from .scenario import Event, Hostility, NodeKind, Publication, Scenario, SimulatedNetwork, What
from .settings import Assignment, with_settings
from .values import KIND_NAME, REGION, SOME_TIME, TIME, positive

LEAST_MESSAGE = 16  # bytes; a message carries its number
_MAX_FILE = 4 << 20
_AGENT = "sidecar-sim"
_DRIFT = share(0.1)
_TEXT = text(r"(?s).{0,1000}", "a text of at most 1000 characters", "TEXT")
_TOPIC = text(r"[^\x00-\x1f]{1,256}", "a topic of 1 to 256 characters", "TOPIC")
_PER_SECOND = positive(1e6, "times a second")
_TOP = (
    "name", "about", "seed", "duration", "entrances", "start", "settled", "network", "nodes", "publish", "event",
)  # fmt: skip
_NODES = (
    "count", "start", "over", "topics", "regions", "hosts", "clock_offset", "clock_drift", "config", "behaviour",
)  # fmt: skip
_BOUNDS = (
    "max_connections", "reserved_outbound", "max_per_address", "max_per_network", "exempt_networks", "accept_rate",
    "accept_burst", "accept_rate_per_address", "accept_rate_per_network",
)  # fmt: skip
_HOSTILE = ("after", "connections", "against")  # beside the keys of the behaviour
_PUBLISH = ("topic", "kind", "publishers", "count", "rate", "size", "start")
_EVENT = ("at", "what", "kind", "count", "share", "shares", "lasts", "rate", "away")
_OF = {  # the keys that each kind of event has beside `at` and `what`
    What.KILL: ("kind", "count", "share"),
    What.RESTART: (),
    What.PARTITION: ("shares",),
    What.HEAL: (),
    What.CHURN: ("kind", "lasts", "rate", "away"),
}


def load_scenario(file: Path, settings: Sequence[Assignment] = ()) -> Scenario:
    """Read a scenario, with some keys set otherwise than there. Raises ConfigError."""
    document, source = read_document("scenario", file, _MAX_FILE)
    if not settings:
        return read_scenario(document, source)
    try:
        scenario = read_scenario(with_settings(document, settings), source)
    except ConfigError as error:
        read_scenario(document, source)  # so that what is wrong without them is told as such
        if str(error).startswith("--set "):
            raise
        shown = " ".join(f"--set {setting.text}" for setting in settings)
        raise ConfigError(f"{shown}: {error}") from None
    return dataclasses.replace(scenario, settings=tuple(settings))


def read_scenario(document: Mapping[str, Any], source: Source) -> Scenario:
    """Check a document. Raises ConfigError."""
    top = Table(source, "", document, _TOP, shown="the scenario")
    duration = top.take("duration", SOME_TIME, required=True)
    network = read_network(Table(source, "network", top.raw("network", {}), NETWORK_KEYS), source.file.parent)
    kinds = _kinds(source, top.raw("nodes", {}), network)
    scenario = Scenario(
        name=top.take("name", KIND_NAME, source.file.stem),
        about=top.take("about", _TEXT, ""),
        seed=top.take("seed", number(0, 2**63 - 1, ""), 1),
        duration=duration,
        entrances=top.take("entrances", number(1, 1000, "nodes"), 3),
        warm=_warm(top, kinds),
        settled=top.take("settled", TIME, 10.0),
        network=network,
        kinds=kinds,
        publications=tuple(
            _publication(
                Table(source, "publish", content, _PUBLISH, number=count, shown=f"[[publish]] {count}"), kinds, duration
            )
            for count, content in tables(source, "publish", top.raw("publish", []))
        ),
        events=tuple(
            _event(Table(source, "event", content, _EVENT, number=count, shown=f"[[event]] {count}"), kinds, duration)
            for count, content in tables(source, "event", top.raw("event", []))
        ),
    )
    _check_memory(scenario, source)
    return scenario


def _warm(top: Table, kinds: tuple[NodeKind, ...]) -> bool:
    if top.take("start", choice("cold", "warm"), "cold") == "cold":
        return False
    if not any(kind.is_placed for kind in kinds):
        raise top.complaint(
            "start",
            "a warm start places nodes that are there from the beginning, and every kind here has a `start` or `over`, "
            "or is hostile",
        )
    return True


def _check_memory(scenario: Scenario, source: Source) -> None:
    needed, there = needed_memory(scenario), available_memory()
    if needed > there:
        raise ConfigError(
            f"{source.file}: {scenario.nodes} nodes take some {needed / 1e9:.1f} GB of memory, and "
            f"{there / 1e9:.1f} GB are free: at most {fitting_nodes(scenario, there)} fit"
        )


# ---------------------------------------------------------------- nodes


def _kinds(source: Source, content: object, network: SimulatedNetwork) -> tuple[NodeKind, ...]:
    if not isinstance(content, Mapping) or not content:
        raise ConfigError(f"{source.file}: there are no nodes: write [nodes.NAME] and `count = ...` below")
    kinds = tuple(_kind(source, name, below, network) for name, below in content.items())
    if all(kind.hostility is not None for kind in kinds):
        raise ConfigError(f"{source.file}: all nodes are hostile, and a report is of the others: add some of these")
    return tuple(_checked_hostility(source, kind, content[kind.name], kinds) for kind in kinds)


def _kind(source: Source, name: str, content: object, network: SimulatedNetwork) -> NodeKind:
    header = f"nodes.{name}"
    table = Table(source, header, content, _known_of_nodes(content))
    try:
        KIND_NAME.read(name)
    except ValueError as error:
        raise ConfigError(
            f"{table.place()}: {name!r} as a kind of nodes: {error}; allowed: {KIND_NAME.allowed}"
        ) from None
    regions = table.words("regions", REGION)
    for region in regions:
        if region not in network.regions:
            raise table.complaint("regions", f"{region!r} is none of the network's; there are {list(network.regions)}")
    chosen = regions or network.regions
    count = table.take("count", number(1, 1_000_000, "nodes"), required=True)
    config, bounds = _config(source, header, table.raw("config", {}))
    return NodeKind(
        name=name,
        count=count,
        start=table.take("start", TIME, 0.0),
        over=table.take("over", TIME, 0.0),
        topics=table.words("topics", _TOPIC),
        regions=tuple(network.regions.index(region) for region in chosen),
        config=config,
        bounds=bounds,
        hosts=table.take("hosts", number(0, count, "addresses"), 0),
        hostility=_hostility(table),
        clock_offset=table.take("clock_offset", TIME, 0.0),
        clock_drift=table.take("clock_drift", _DRIFT, 0.0),
    )


def _known_of_nodes(content: object) -> tuple[str, ...]:
    """The keys of `[nodes.NAME]`, which depend on the behaviour: one that does not go with it is told as such later."""
    every = (name for behaviour in BEHAVIOURS.values() for name in behaviour.keys)
    return tuple(dict.fromkeys((*_NODES, *_HOSTILE, *every)))


def _hostility(table: Table) -> Hostility | None:
    behaviour = table.take("behaviour", choice(*BEHAVIOURS))
    own = BEHAVIOURS[behaviour].keys if behaviour is not None else {}
    for name in (*_HOSTILE, *(name for each in BEHAVIOURS.values() for name in each.keys)):
        if name in table and behaviour is None:
            raise table.complaint(name, "it is for hostile nodes, which have a behaviour, and these have none")
        if name in table and name not in _HOSTILE and name not in own:
            raise table.complaint(name, f'it means nothing to behaviour = "{behaviour}"')
    if behaviour is None:
        return None
    return Hostility(
        behaviour,
        after=table.take("after", TIME, 0.0),
        connections=table.take("connections", number(0, 100_000, "nodes"), 0),
        against=table.take("against", KIND_NAME),
        options={name: table.take(name, kind, usual, required=usual is None) for name, (kind, usual) in own.items()},
    )


def _checked_hostility(source: Source, kind: NodeKind, content: object, kinds: tuple[NodeKind, ...]) -> NodeKind:
    """See that the kinds that it names are there, and as many nodes as it connects to."""
    hostility = kind.hostility
    if hostility is None:
        return kind
    table = Table(source, f"nodes.{kind.name}", content, _known_of_nodes(content))
    honest = {each.name: each.count for each in kinds if each.hostility is None}
    named = {
        name: value
        for name, (key, _) in BEHAVIOURS[hostility.behaviour].keys.items()
        if key is KIND_NAME
        for value in (hostility.options[name],)
    }
    for name, value in {**named, **({"against": hostility.against} if hostility.against else {})}.items():
        if value not in honest:
            raise table.complaint(
                name, f"{value!r} is no kind of honest nodes; there are {', '.join(honest) or 'none'}"
            )
    near, names = BEHAVIOURS[hostility.behaviour].near, [each.name for each in kinds]
    if near is not None and names.index(kind.name) < names.index(hostility.options[near]):
        text = f"{hostility.options[near]!r} stands below: victims come before those who are near to them"
        raise table.complaint(near, text)
    able = sum(count for name, count in honest.items() if hostility.against in (None, name))
    if hostility.connections > able:
        raise table.complaint("connections", f"{hostility.connections} are more than there are such nodes ({able})")
    return dataclasses.replace(kind, config=dataclasses.replace(kind.config, high_water=0))


def _config(source: Source, header: str, content: object) -> tuple[NodeConfig, NetConfig]:
    """What the nodes are told; only keys that mean something to a simulated node may be set."""
    if not isinstance(content, Mapping):
        raise ConfigError(f"{source.file}: {header}.config is a table: write [{header}.config.SECTION] and keys below")

    def place(section: str, name: str | None) -> str:
        return source.place(f"{header}.config.{section}", 1, name)

    plain = _told({}, place)
    config = _told(content, place)
    for section, keys in content.items():
        for name, value in keys.items():
            entry = KEYS[f"{section}.{name}"]
            if entry.full_name == "bootstrap.peers":
                raise ConfigError(
                    f"{place(section, name)}: {entry.full_name}: it is `entrances` that says whom all know"
                )
            without = {**content, section: {other: kept for other, kept in keys.items() if other != name}}
            if entry.kind.read(value) != entry.default and _same(without, config, place):
                changes = f"{entry.full_name} = {value!r} changes nothing of a simulated node"
                raise ConfigError(f"{place(section, name)}: {changes}: leave it out")
    return plain if config == plain else config


def _told(content: Mapping[str, Any], place: Any) -> tuple[NodeConfig, NetConfig]:
    """What nodes are told, and the bounds of their connections: all else of the driver is not simulated."""
    config = configured(content, place)
    driver = net_config(config)
    bounds = NetConfig(**{name: getattr(driver, name) for name in _BOUNDS})
    return node_config(config, _AGENT, ()), bounds


def _same(content: Mapping[str, Any], config: tuple[NodeConfig, NetConfig], place: Any) -> bool:
    """Whether the nodes are told the same without a key."""
    try:
        return _told(content, place) == config
    except ConfigError:  # it goes with others
        return False


# ---------------------------------------------------------------- what happens


def _of_kind(table: Table, kinds: tuple[NodeKind, ...]) -> str | None:
    found: str | None = table.take("kind", choice(*(kind.name for kind in kinds)))
    return found


def _publication(table: Table, kinds: tuple[NodeKind, ...], duration: float) -> Publication:
    topic = table.take("topic", _TOPIC, required=True)
    honest = tuple(kind for kind in kinds if kind.hostility is None)
    joined = [kind for kind in honest if topic in kind.topics]
    if not joined:
        others = ", ".join(dict.fromkeys(name for kind in honest for name in kind.topics)) or "none"
        raise table.complaint("topic", f"nobody joins {topic!r}; the topics that nodes join: {others}")
    kind = _of_kind(table, honest)
    able = sum(each.count for each in (joined if kind is None else honest) if kind in (None, each.name))
    publishers = table.take("publishers", number(1, 1_000_000, "nodes"), 1)
    if publishers > able:
        raise table.complaint("publishers", f"{publishers} are more than there are such nodes ({able})")
    count = table.take("count", number(1, 1_000_000, "messages"), required=True)
    rate = table.take("rate", _PER_SECOND, required=True)
    start = table.take("start", TIME, 0.0)
    if start + (count - 1) / rate >= duration:
        raise table.complaint(
            "count",
            f"{count} messages from {start:g} s on, {rate:g} a second, last longer than the run ({duration:g} s)",
        )
    return Publication(
        topic, kind, publishers, count, rate, table.take("size", size(LEAST_MESSAGE, 2**20), 1024), start
    )


def _event(table: Table, kinds: tuple[NodeKind, ...], duration: float) -> Event:
    what = What(table.take("what", choice(*(what.value for what in What)), required=True))
    at = table.take("at", TIME, required=True)
    if at >= duration:
        raise table.complaint("at", f"{at:g} s is not before the end of the run ({duration:g} s)")
    for name in _EVENT[2:]:
        if name in table and name not in _OF[what]:
            raise table.complaint(name, f'it means nothing to what = "{what.value}"')
    kind = _of_kind(table, kinds)
    able = sum(each.count for each in kinds if kind in (None, each.name))
    if what is What.PARTITION:
        return Event(at, what, shares=_shares(table))
    if what is What.CHURN:
        return Event(
            at,
            what,
            kind,
            lasts=table.take("lasts", SOME_TIME, required=True),
            rate=table.take("rate", _PER_SECOND, required=True),
            away=table.take("away", SOME_TIME, required=True),
        )
    if what is What.KILL:
        if ("count" in table) == ("share" in table):
            raise ConfigError(
                f"{table.place()}: {table.shown} kills `count` nodes or a `share` of them: name one of both"
            )
        count = table.take("count", number(1, able, "nodes"), 0)
        return Event(at, what, kind, count, table.take("share", share(), 1.0))
    return Event(at, what)


def _shares(table: Table) -> tuple[float, ...]:
    values = table.raw("shares", None)
    if not isinstance(values, list) or len(values) < 2:
        raise table.complaint("shares", "it is a list of at least two numbers, such as [0.2, 0.8]")
    try:
        shares = tuple(float(share().read(value)) for value in values)
    except ValueError as error:
        raise table.complaint("shares", f"{error}; allowed: numbers from 0 to 1") from None
    if abs(sum(shares) - 1) > 1e-6 or 0 in shares:
        raise table.complaint("shares", f"they make {sum(shares):g}, each above 0, and have to make 1")
    return shares
