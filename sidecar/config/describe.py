"""The configuration shown to people: the reference, a documented TOML file, and what is in force."""

import json
import textwrap
from collections.abc import Iterator
from typing import Any

from ..core.classes import NamedTuple
from .load import Loaded
from .schema import KEYS, Config, Key, sections, value

DEFAULT = "default"
"""The origin of a value that was set nowhere."""
_WIDTH = 110


class Setting(NamedTuple):
    """A key and its value as TOML has it. `source`: where it was set; `live`: whether SIGHUP changes it."""

    name: str
    value: str
    source: str
    live: bool


def reference() -> str:
    """`docs/configuration.md`."""
    lines = [
        "# Configuration",
        "",
        "Made from the table in `sidecar/config/sections/` by `make docs`; do not edit it here.",
        "",
        "A key is set in a TOML file, by an environment variable or by a flag of `sidecar run`; later ones in this",
        "list win. The file is the one named by `--config` or `SIDECAR_CONFIG`, else",
        "`$XDG_CONFIG_HOME/sidecar/config.toml` (`~/.config/sidecar/config.toml`), if it is there. Times may be given",
        "as `250ms`, `30s`, `5m`, `1h`; sizes as `64KiB`, `1MiB`. A key or value that is wrong stops the start with a",
        "message that names it. `sidecar config` shows what is in force and where it was set;",
        "`sidecar config --template` writes a file to begin from. SIGHUP makes a running sidecar read its",
        "configuration again: keys that say so change then, the others with the next start. Files of certificates and",
        "tokens are looked at by themselves.",
    ]
    for section, doc in sections():
        lines += ["", f"## [{section}]", "", doc]
        for entry in _of(section):
            unit = f", in {entry.kind.unit}" if entry.kind.unit else ""
            flags = ", ".join(f"`{flag}`" for flag in entry.flags)
            lines += [
                "",
                f"### {entry.full_name}",
                "",
                *textwrap.wrap(entry.doc, _WIDTH, break_long_words=False, break_on_hyphens=False),
                "",
                f"- default: `{entry.kind.write(entry.default)}`{unit} ({entry.source})",
                f"- allowed: {entry.kind.allowed}",
                f"- environment: `{entry.variable}`; flag: {flags}",
                *(["- changes on SIGHUP"] if entry.live else []),
            ]
    return "\n".join(lines) + "\n"


def template() -> str:
    """A TOML file with every key, documented and commented out."""
    lines = ["# Configuration of a sidecar: every key with its default. Remove the # before what you change."]
    for section, doc in sections():
        lines += ["", f"# {doc}", f"[{section}]"]
        for entry in _of(section):
            unit = f" Unit: {entry.kind.unit}." if entry.kind.unit else ""
            note = f"{entry.doc}{unit} Allowed: {entry.kind.allowed}."
            wrapped = textwrap.wrap(note, _WIDTH, break_long_words=False, break_on_hyphens=False)
            lines += ["", *(f"# {line}" for line in wrapped), f"#{entry.name} = {entry.kind.write(entry.default)}"]
    return "\n".join(lines) + "\n"


def in_force(loaded: Loaded) -> str:
    """The configuration in force as TOML, with where each key was set."""
    lines: list[str] = []
    for section, _ in sections():
        lines += ["", f"[{section}]"]
        for entry in _of(section):
            origin = loaded.origins.get(entry.full_name, DEFAULT)
            lines.append(line(entry.name, entry.kind.write(value(loaded.config, entry)), origin))
    return "\n".join(lines[1:]) + "\n"


def line(name: str, value: str, origin: str) -> str:
    """A key in TOML, with where it was set if that is not the default."""
    return f"{name} = {value}" + (f"  # {origin}" if origin != DEFAULT else "")


def settings(loaded: Loaded) -> list[Setting]:
    """The configuration in force, key by key. No key holds a secret: they name files."""
    return [
        Setting(
            entry.full_name,
            entry.kind.write(value(loaded.config, entry)),
            loaded.origins.get(entry.full_name, DEFAULT),
            entry.live,
        )
        for section, _ in sections()
        for entry in _of(section)
    ]


def as_json(loaded: Loaded) -> dict[str, dict[str, Any]]:
    """The configuration in force: `section.key` -> value as JSON can hold it, and its origin."""
    return {
        name: {"value": json_value(entry, value(loaded.config, entry)), "origin": loaded.origins.get(name, DEFAULT)}
        for name, entry in KEYS.items()
    }


def chosen(config: Config) -> dict[str, Any]:
    """What is not as by default: `section.key` -> value as JSON can hold it. No key holds a secret: they name files."""
    values = {name: value(config, entry) for name, entry in KEYS.items()}
    return {name: json_value(KEYS[name], given) for name, given in values.items() if given != KEYS[name].default}


def json_value(entry: Key, given: Any) -> Any:
    """A key's value as JSON can hold it: the items of lists as TOML spells them."""
    if entry.kind.many:
        return json.loads(entry.kind.write(given))
    return given if given is None or isinstance(given, bool | int | float | str) else str(given)


def _of(section: str) -> Iterator[Key]:
    return (entry for entry in KEYS.values() if entry.section == section)
