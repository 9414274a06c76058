"""The flags of the configuration, made from its table, and reading it for a command."""

import argparse
import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ...config import KEYS, Loaded, load
from ...config.schema import Key, sections
from ...core.errors import ConfigError, InvalidArgument, SidecarError
from .exit_codes import FAILED, USAGE_WRONG
from .said import failed


class _Collect(argparse.Action):
    """Gathers a key's text; a flag of a list may be given many times."""

    def __call__(self, parser: object, options: argparse.Namespace, value: object, flag: str | None = None) -> None:
        gathered: dict[str, str] = getattr(options, "flags", None) or {}
        many = KEYS[self.dest].kind.many and self.dest in gathered
        gathered[self.dest] = f"{gathered[self.dest]},{value}" if many else str(value)
        options.flags = gathered


class _HelpAll(argparse.Action):
    """Prints the help with the flags that the short one leaves out."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        groups: dict[str, Any] = {
            section: parser.add_argument_group(f"[{section}]", doc) for section, doc in sections()
        }
        for entry in KEYS.values():
            _add_flag(groups[entry.section], entry, help=_note(entry), replaces=parser)
        parser.print_help()
        parser.exit()


def _note(entry: Key) -> str:
    unit = f" [{entry.kind.unit}]" if entry.kind.unit else ""
    return f"{entry.doc}{unit} Default: {entry.kind.write(entry.default)}".replace("%", "%%")


def _add_flag(group: Any, entry: Key, *, help: str, replaces: argparse.ArgumentParser | None = None) -> None:
    if replaces is not None:
        for flag in entry.flags:
            action = replaces._option_string_actions.pop(flag)
            if action in replaces._actions:
                replaces._remove_action(action)
                for other in replaces._action_groups:
                    if action in other._group_actions:
                        other._group_actions.remove(action)
    group.add_argument(
        *entry.flags,
        action=_Collect,
        dest=entry.full_name,
        default=argparse.SUPPRESS,
        metavar=entry.kind.placeholder,
        help=help,
    )


def add_config_flags(parser: argparse.ArgumentParser, *, shown: bool = False) -> None:
    """Add `--config` and one flag for every key; `--help` has only the former, `--help-all` all of them.

    `shown`: `--help` has those with a short name as well.
    """
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="the configuration file (else $SIDECAR_CONFIG, else sidecar/config.toml in $XDG_CONFIG_HOME or ~/.config)",
    )
    parser.add_argument(
        "--help-all", action=_HelpAll, nargs=0, help="this, with a flag for every key of the configuration"
    )
    parser.set_defaults(flags={})
    group = parser.add_argument_group("of the configuration, among many") if shown else parser
    for entry in KEYS.values():
        often = shown and len(entry.flags) > 1
        _add_flag(group, entry, help=_note(entry) if often else argparse.SUPPRESS)


def errors_told(run: Callable[[argparse.Namespace], int]) -> Callable[[argparse.Namespace], int]:
    """`run` of a command that asks no sidecar: what goes wrong becomes one line and an exit code."""

    @functools.wraps(run)
    def told(options: argparse.Namespace) -> int:
        try:
            return run(options)
        except (ConfigError, InvalidArgument) as error:
            return failed(USAGE_WRONG, error)
        except SidecarError as error:
            return failed(FAILED, error)

    return told


def load_config(options: argparse.Namespace) -> Loaded:
    """Read the configuration as the command's flags say. Raises ConfigError."""
    return load(os.environ, options.flags, options.config)
