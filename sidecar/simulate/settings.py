"""`--set KEY=VALUE`: keys of a scenario, or of its nodes' configuration, that are other than the file says."""

import copy
import json
import tomllib
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from ..config import KEYS
from ..core.classes import NamedTuple
from ..core.errors import ConfigError
from ..core.parameters import GossipConfig

_TOP = ("duration", "entrances", "settled")
_DEGREE, _LOW, _HIGH, _OUT = ("gossip.degree", "gossip.degree_low", "gossip.degree_high", "gossip.degree_out")


class Assignment(NamedTuple):
    """One key with one value, as TOML has it."""

    key: str
    value: Any

    @property
    def text(self) -> str:
        """As it is written behind `--set`."""
        return f"{self.key}={shown(self.value)}"


def shown(value: object) -> str:
    """A value as it can be typed again."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{','.join(json.dumps(each) if isinstance(each, str) else shown(each) for each in value)}]"
    if isinstance(value, str):
        return value if _values(value) == [value] else json.dumps(value)
    return f"{value:.15g}" if isinstance(value, float) else str(value)


def read_settings(written: Sequence[str]) -> list[tuple[str, list[Any]]]:
    """Keys and their values from texts such as `gossip.degree=4,6,8`. Raises ConfigError."""
    found: dict[str, list[Any]] = {}
    for text in written:
        key, equals, values = (part.strip() for part in text.partition("="))
        if not equals or not key or not values:
            raise ConfigError(f"--set {text}: write KEY=VALUE, or KEY=VALUE,VALUE,...")
        _check_key(key)
        if key in found:
            raise ConfigError(f"--set {text}: {key} is set twice; write all its values behind one --set")
        found[key] = _values(values)
        if not found[key]:
            raise ConfigError(f"--set {text}: there is no value; write KEY=VALUE, or KEY=VALUE,VALUE,...")
        for value in found[key]:
            if found[key].count(value) > 1:
                raise ConfigError(f"--set {text}: {shown(value)} is there twice")
    return list(found.items())


def _check_key(key: str) -> None:
    head, dot, rest = key.partition(".")
    if key in KEYS or key in _TOP or (head in ("network", "publish") and dot and rest and "." not in rest):
        return
    if head == "nodes" and rest.count(".") >= 1:
        return
    near = get_close_matches(key, (*KEYS, *_TOP), 1)
    hint = f" (did you mean {near[0]}?)" if near else ""
    raise ConfigError(
        f"--set {key}: no such key; there are those of the configuration, such as {_DEGREE}, and of the scenario "
        f"{', '.join(_TOP)}, network.KEY, publish.KEY and nodes.NAME.KEY{hint}"
    )


def _values(text: str) -> list[Any]:
    """What TOML has, where it is that; else words between commas."""
    try:
        values = tomllib.loads(f"values = [{text}]")["values"]
        if isinstance(values, list) and values:
            return values
    except (ValueError, RecursionError):
        pass
    return [number_or_text(word.strip()) for word in text.split(",") if word.strip()]


def number_or_text(word: str) -> Any:
    """A value as TOML has it, or else the text itself."""
    try:
        return tomllib.loads(f"value = {word}")["value"]
    except (ValueError, KeyError, RecursionError):
        return word


def with_settings(document: Mapping[str, Any], settings: Sequence[Assignment]) -> dict[str, Any]:
    """A scenario's document in which these keys are set; those of the configuration for all honest kinds of nodes.

    Where `gossip.degree` is set, the lowest, the highest and the outbound degree follow it as far as they would
    contradict it. Raises ConfigError where there is no place for a key.
    """
    changed: dict[str, Any] = copy.deepcopy(dict(document))
    for setting in settings:
        key, value = setting
        if key in KEYS:
            for kind in _honest(changed):
                _put(kind, ["config", *key.split(".")], value, setting)
        elif key.startswith("publish."):
            tables = changed.get("publish")
            if not isinstance(tables, list) or not tables:
                raise ConfigError(f"--set {setting.text}: the scenario publishes nothing")
            for table in tables:
                _put(table, [key.removeprefix("publish.")], value, setting)
        else:
            path = key.split(".")
            if path[0] == "nodes" and path[1] not in changed.get("nodes", {}):
                raise ConfigError(f"--set {setting.text}: there are no nodes {path[1]!r}")
            _put(changed, path, value, setting)
    given = {setting.key for setting in settings}
    if _DEGREE in given:
        for kind in _honest(changed):
            _follow_degree(kind["config"]["gossip"], given)
    return changed


def _honest(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    kinds = document.get("nodes")
    if not isinstance(kinds, dict):
        return []
    return [kind for kind in kinds.values() if isinstance(kind, dict) and "behaviour" not in kind]


def _put(table: object, path: Sequence[str], value: object, setting: Assignment) -> None:
    for name in path[:-1]:
        table = table.setdefault(name, {}) if isinstance(table, dict) else None
    if not isinstance(table, dict):
        raise ConfigError(f"--set {setting.text}: {'.'.join(path[:-1]) or path[-1]} is no table in the scenario")
    table[path[-1]] = value


def _follow_degree(gossip: dict[str, Any], given: set[str]) -> None:
    plain = GossipConfig()
    degree = gossip["degree"]
    low, high, out = (
        gossip.get(name.partition(".")[2], usual)
        for name, usual in ((_LOW, plain.d_low), (_HIGH, plain.d_high), (_OUT, plain.d_out))
    )
    if not all(type(value) is int for value in (degree, low, high, out)):
        return  # which is told where the configuration is read
    fitting = {_LOW: min(low, degree), _HIGH: max(high, degree)}
    fitting[_OUT] = min(out, degree // 2, low if _LOW in given else fitting[_LOW])
    for name, before in ((_LOW, low), (_HIGH, high), (_OUT, out)):
        if name not in given and fitting[name] != before:
            gossip[name.partition(".")[2]] = fitting[name]
