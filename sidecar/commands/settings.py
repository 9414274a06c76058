"""The flags of the configuration, made from its table, and reading it for a command."""

import argparse
import os
import sys
from pathlib import Path

from ..config import KEYS, Loaded, load
from ..config.schema import sections

USAGE_WRONG = 2  # an exit code, argparse's own: the command or the configuration


class _Collect(argparse.Action):
    """Gathers a key's text; a flag of a list may be given many times."""

    def __call__(self, parser: object, options: argparse.Namespace, value: object, flag: str | None = None) -> None:
        gathered: dict[str, str] = getattr(options, "flags", None) or {}
        many = KEYS[self.dest].kind.many and self.dest in gathered
        gathered[self.dest] = f"{gathered[self.dest]},{value}" if many else str(value)
        options.flags = gathered


def add_config_flags(parser: argparse.ArgumentParser) -> None:
    """Add `--config` and one flag for every key."""
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="the configuration file (else $SIDECAR_CONFIG, else sidecar/config.toml in $XDG_CONFIG_HOME or ~/.config)",
    )
    parser.set_defaults(flags={})
    for section, doc in sections():
        group = parser.add_argument_group(f"[{section}]", doc)
        for entry in KEYS.values():
            if entry.section == section:
                unit = f" [{entry.kind.unit}]" if entry.kind.unit else ""
                note = f"{entry.doc}{unit} Default: {entry.kind.write(entry.default)}"
                group.add_argument(
                    *entry.flags,
                    action=_Collect,
                    dest=entry.full_name,
                    default=argparse.SUPPRESS,
                    metavar=entry.kind.placeholder,
                    help=note.replace("%", "%%"),
                )


def load_config(options: argparse.Namespace) -> Loaded:
    """Read the configuration as the command's flags say. Raises ConfigError."""
    return load(os.environ, options.flags, options.config)


def complain(message: object) -> None:
    """One line on standard error."""
    print(f"sidecar: {message}", file=sys.stderr)
