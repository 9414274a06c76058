"""What a person types, read with patience: flags anywhere, the nearest name for a wrong one, errors as asked for."""

import argparse
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

from .exit_codes import USAGE_WRONG
from .said import failed

# Flags that many commands share, which may stand before the command as well; whether a value follows.
_SHARED = {"--api": True, "--timeout": True, "--config": True, "--json": False}
_OWN = ("-h", "--help", "--version")


def command_first(words: Sequence[str]) -> list[str]:
    """The same words, with flags of a command that stand before it (`sidecar --api X status`) behind it."""
    before = 0
    while before < len(words) and words[before].startswith("-") and words[before] not in _OWN:
        before += 2 if _SHARED.get(words[before], False) else 1
    return [*words[before : before + 1], *words[:before], *words[before + 1 :]]


def asks_for_json(words: Iterable[str]) -> bool:
    """Whether `--json` is among the flags; behind `--` are none."""
    for word in words:
        if word in ("--", "--json"):
            return word == "--json"
    return False


def nearest(name: str, known: Iterable[str]) -> str | None:
    """What somebody who typed `name` may have meant."""
    from difflib import get_close_matches  # only needed on the way to an error

    found = get_close_matches(name, list(known), 1)
    return found[0] if found else None


class Parser(argparse.ArgumentParser):
    """A command's parser: flags are not abbreviated, and a wrong one is told in a line, with the nearest."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(
            formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, add_help=True, **settings
        )

    def read(self, words: Sequence[str]) -> argparse.Namespace:
        """Parse; exits with 2 where that is not possible."""
        options, unknown = self.parse_known_args(words)
        flag = next((word for word in unknown if word.startswith("-")), None)
        if flag is not None:
            name = flag.partition("=")[0]
            meant = nearest(name, (known for known in self._option_string_actions if known.startswith("--")))
            self.error(f"no flag {name}" + (f"; did you mean {meant}?" if meant else ""))
        if unknown:
            from shlex import join

            self.error(f"too much: {join(unknown)}")
        return options

    def print_help(self, file: Any = None) -> None:
        """Unlike argparse's own, raises OSError where nobody can be shown it."""
        print(self.format_help(), end="", file=file, flush=True)

    def error(self, message: str) -> NoReturn:
        """Unlike argparse's own, without the usage: one line, and the end with 2."""
        usage_error(message, f"{self.prog} --help")


def usage_error(message: str, help_is_at: str) -> NoReturn:
    """Say what was typed wrong and where the help is, and end with 2."""
    raise SystemExit(failed(USAGE_WRONG, f"{message} (help: `{help_is_at}`)"))
