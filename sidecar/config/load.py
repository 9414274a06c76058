"""From a TOML file, the environment and flags to a checked `Config`. Later ones win, in that order."""

import dataclasses
import os
import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..core.classes import NamedTuple
from ..core.errors import ConfigError
from ..core.parameters import GossipConfig
from .files import read_regular
from .schema import DEFAULTS, KEYS, Config, Key

_PREFIX = "SIDECAR_"
_MAX_FILE = 4 << 20  # bytes; thousands of bootstrap peers and bans
# Not keys: where and how the clients reach the API, and where the file is.
_OTHER_VARIABLES = frozenset(
    {
        "SIDECAR_API",
        "SIDECAR_CLIENT_ENGINE",
        "SIDECAR_CONFIG",
        "SIDECAR_TLS_CA",
        "SIDECAR_TLS_CERT",
        "SIDECAR_TLS_KEY",
        "SIDECAR_TOKEN",
        "SIDECAR_TOKEN_FILE",
    }
)
# What Kubernetes puts into every container of a namespace that has a service named sidecar or sidecar-something.
_SERVICE_LINK = re.compile(
    r"SIDECAR(_[A-Z0-9_]+)?_(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT(_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)"
)


class Loaded(NamedTuple):
    """A configuration, for each key that is not a default (`section.key`) where it came from, and the file read."""

    config: Config
    origins: Mapping[str, str]
    file: Path | None = None


def default_file(environ: Mapping[str, str]) -> Path | None:
    """Where the configuration file is looked for when none is named; None for a user without a home."""
    home = _home(environ, "XDG_CONFIG_HOME", ".config")
    return None if home is None else home / "sidecar" / "config.toml"


def state_directory(config: Config, environ: Mapping[str, str]) -> Path:
    """The state directory in force: the one configured, else the per-user default.

    Raises ConfigError where a user without a home has configured none.
    """
    if config.state.directory is not None:
        return config.state.directory
    home = _home(environ, "XDG_STATE_HOME", ".local/state")
    if home is None:
        raise ConfigError(
            f"user {os.getuid()} has no home directory, where the state would be kept: name a directory with --state "
            "(state.directory), or set HOME"
        )
    return home / "sidecar"


def _home(environ: Mapping[str, str], variable: str, below: str) -> Path | None:
    """A directory of the XDG base directory specification; None for a user without a home."""
    named = environ.get(variable, "")
    if named:
        return Path(named)
    try:
        return Path(environ.get("HOME") or "~").expanduser() / below
    except RuntimeError:
        return None


def load(environ: Mapping[str, str], flags: Mapping[str, str], file: Path | None = None) -> Loaded:
    """Read the configuration.

    `flags` maps `section.key` to text. `file`: None takes `SIDECAR_CONFIG`, else the default place if a file is there.
    Raises ConfigError, which names the key, where it was set, the value and what is allowed.
    """
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    variable = environ.get("SIDECAR_CONFIG", "").rstrip("\r\n")
    named = file or (_expanded(variable, "$SIDECAR_CONFIG") if variable else None)
    source = named or default_file(environ)
    if source is not None and not (named or os.path.isfile(source)):
        source = None
    if source is not None:
        _from_file(source, values, origins)
    _from_environment(environ, values, origins)
    for name, text in flags.items():
        entry = KEYS[name]
        values[name], origins[name] = _read(entry, text, entry.flags[0]), entry.flags[0]
    config = _build(values)
    _check_together(config, origins)
    return Loaded(config, origins, source)


def _expanded(text: str, where: str) -> Path:
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise ConfigError(f"{where} = {text!r}: there is no home directory for the ~ in it; write it out") from None


def _text_of(file: Path) -> str:
    """The text of a configuration file. Raises ConfigError."""
    try:
        data = read_regular(file, _MAX_FILE)
    except OSError as error:
        raise ConfigError(f"configuration file {file} cannot be read: {error.strerror}") from None
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise ConfigError(f"configuration file {file} cannot be read: it is UTF-16; save it as UTF-8")
    try:
        return data.decode("utf-8-sig")  # editors of Windows put a byte order mark in front
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"configuration file {file} cannot be read: line {line} is not UTF-8") from None


def _from_file(file: Path, values: dict[str, Any], origins: dict[str, str]) -> None:
    text = _text_of(file)
    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # numbers of thousands of digits, lists in lists in lists
        raise ConfigError(f"configuration file {file} is not TOML: {error}") from None
    _from_sections(document, lambda section, name: _line_of(file, text, section, name), values, origins)


def configured(document: Mapping[str, Any], place: Callable[[str, str | None], str]) -> Config:
    """The configuration that sections of TOML elsewhere than in a configuration file make.

    `place` says where a key of a section, or (None) the section, stands. Raises ConfigError, which begins with that.
    """
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    _from_sections(document, place, values, origins)
    config = _build(values)
    _check_together(config, origins)
    return config


def _from_sections(
    document: Mapping[str, Any],
    place: Callable[[str, str | None], str],
    values: dict[str, Any],
    origins: dict[str, str],
) -> None:
    known = {entry.section for entry in KEYS.values()}
    for section, content in document.items():
        where = place(section, None)
        if section not in known:
            raise ConfigError(
                f"{where}: no section [{section}]; there are {', '.join(sorted(known))}{_nearest(section, known)}"
            )
        if not isinstance(content, dict):
            raise ConfigError(f"{where}: {section} is a section: write [{section}] and its keys below")
        for name, value in content.items():
            where = place(section, name)
            entry = KEYS.get(f"{section}.{name}")
            if entry is None:
                names = {other.name for other in KEYS.values() if other.section == section}
                hint = _nearest(name, names)
                raise ConfigError(
                    f"{where}: no key {name!r} in [{section}]; there are {', '.join(sorted(names))}{hint}"
                )
            values[entry.full_name], origins[entry.full_name] = _read(entry, value, where), where


def _from_environment(environ: Mapping[str, str], values: dict[str, Any], origins: dict[str, str]) -> None:
    variables = {entry.variable: entry for entry in KEYS.values()}
    for variable in sorted(environ):
        if not variable.startswith(_PREFIX) or variable in _OTHER_VARIABLES:
            continue
        entry = variables.get(variable)
        if entry is None and "KUBERNETES_SERVICE_HOST" in environ and _SERVICE_LINK.fullmatch(variable):
            continue
        if entry is None:
            hint = _nearest(variable, variables)
            raise ConfigError(f"environment variable {variable} sets no key: SIDECAR_<SECTION>_<KEY> does{hint}")
        where = f"${variable}"
        text = environ[variable].rstrip("\r\n")  # of files with the line ends of Windows
        if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
            raise ConfigError(
                f"{where}: {entry.full_name} = {text}: the value stands in quotes, which are a part of it (`docker "
                "--env-file` keeps them): leave them out"
            )
        values[entry.full_name], origins[entry.full_name] = _read(entry, text, where), where


def _read(entry: Key, value: object, where: str) -> Any:
    try:
        return entry.kind.read(value)
    except (ValueError, OverflowError) as error:
        shown = _shown(value)
        message = f"{where}: {entry.full_name} = {shown}: {error}; allowed: {entry.kind.allowed}"
        raise ConfigError(message) from None


def _shown(value: object) -> str:
    try:
        text = repr(value)
    except ValueError:  # Python writes out no number of so many digits
        return "a number of more than 4,300 digits"
    return text if len(text) <= 100 else text[:100] + "..."


def _build(values: Mapping[str, Any]) -> Config:
    sections: dict[str, Any] = {}
    for section, default in DEFAULTS.items():
        chosen = {name.partition(".")[2]: value for name, value in values.items() if name.startswith(section + ".")}
        sections[section] = dataclasses.replace(default, **chosen)
    return Config(**sections)


def _check_together(config: Config, origins: Mapping[str, str]) -> None:
    """The rules that concern more than one key."""
    gossip = config.gossip
    if (
        not gossip.degree_out <= gossip.degree_low <= gossip.degree <= gossip.degree_high
        or gossip.degree_out > gossip.degree / 2
    ):
        where = next((origin for name, origin in origins.items() if name.startswith("gossip.degree")), "defaults")
        raise ConfigError(
            f"{where}: gossip.degree = {gossip.degree}: allowed: degree_out ({gossip.degree_out}) <= degree_low "
            f"({gossip.degree_low}) <= degree <= degree_high ({gossip.degree_high}), degree_out at most half of degree"
        )

    score = config.score
    thresholds = (score.disconnect_threshold, score.graylist_threshold, score.publish_threshold, score.gossip_threshold)
    if not thresholds[0] < thresholds[1] < thresholds[2] <= thresholds[3]:
        where = next((origin for name, origin in origins.items() if name.endswith("_threshold")), "defaults")
        raise ConfigError(
            f"{where}: score.graylist_threshold = {thresholds[1]:g}: allowed: disconnect_threshold ({thresholds[0]:g}) "
            f"< graylist_threshold < publish_threshold ({thresholds[2]:g}) <= gossip_threshold ({thresholds[3]:g})"
        )

    limits = config.limits
    if limits.high_water and not config.peers.target <= limits.low_water <= limits.high_water:
        names = ("limits.low_water", "limits.high_water", "peers.target")
        where = next((origins[name] for name in names if name in origins), "defaults")
        raise ConfigError(
            f"{where}: limits.low_water = {limits.low_water}: allowed: peers.target ({config.peers.target}) <= "
            f"low_water <= high_water ({limits.high_water}); high_water = 0 closes none"
        )

    gossip, peers, dht = config.gossip, config.peers, config.dht
    heard = GossipConfig().history_length * gossip.heartbeat_interval
    rules = (
        (
            limits.connections_for_dials < limits.connections,
            ("limits.connections_for_dials", "limits.connections"),
            f"{limits.connections_for_dials}: allowed: less than limits.connections ({limits.connections})",
        ),
        (
            peers.target <= limits.connections,
            ("peers.target", "limits.connections"),
            f"{peers.target}: allowed: at most limits.connections ({limits.connections})",
        ),
        (
            limits.receive_window <= limits.connection_buffer,
            ("limits.receive_window", "limits.connection_buffer"),
            f"{limits.receive_window}: allowed: at most limits.connection_buffer ({limits.connection_buffer})",
        ),
        (
            peers.redial_base <= peers.redial_limit,
            ("peers.redial_base", "peers.redial_limit"),
            f"{peers.redial_base:g}: allowed: at most peers.redial_limit ({peers.redial_limit:g})",
        ),
        (
            gossip.seen_ttl >= heard,
            ("gossip.seen_ttl", "gossip.heartbeat_interval"),
            f"{gossip.seen_ttl:g}: allowed: at least five times gossip.heartbeat_interval ({heard:g}), or messages "
            "come twice",
        ),
        (
            dht.provide_interval < dht.provider_ttl,
            ("dht.provide_interval", "dht.provider_ttl"),
            f"{dht.provide_interval:.15g}: allowed: less than dht.provider_ttl ({dht.provider_ttl:.15g}), or "
            "advertisements expire between two announcements",
        ),
        (
            config.probe.size < gossip.max_message,
            ("probe.size", "gossip.max_message"),
            f"{config.probe.size}: allowed: less than gossip.max_message ({gossip.max_message})",
        ),
        (
            not config.probe.objective or bool(config.probe.topics),
            ("probe.objective", "probe.topics"),
            f"{config.probe.objective:.15g}: allowed: together with probe.topics, or nothing is ever held against it",
        ),
    )
    for holds, keys, text in rules:
        if not holds:
            where = next((origins[name] for name in keys if name in origins), "defaults")
            raise ConfigError(f"{where}: {keys[0]} = {text}")


def _line_of(file: Path, text: str, section: str, name: str | None) -> str:
    """`file:line` of a key or section header; the file alone where it is written in a way not looked for."""
    header = re.compile(r"\s*\[\s*([A-Za-z0-9_.-]+)\s*\]")
    assignment = re.compile(rf"\s*{re.escape(name)}\s*=" if name is not None else rf"\s*(\[\s*)?{re.escape(section)}\b")
    current = ""
    for position, line in enumerate(text.splitlines(), 1):
        if found := header.match(line):
            current = found[1]
        if (name is None or current == section) and assignment.match(line):
            return f"{file}:{position}"
    return str(file)


def _nearest(name: str, known: Any) -> str:
    from difflib import get_close_matches  # only needed on the way to an error

    found = get_close_matches(name, list(known), 1)
    return f" (did you mean {found[0]}?)" if found else ""
