"""`sidecar completion`."""

import argparse
import importlib
import re
from pathlib import Path
from typing import Any

from ..config import KEYS
from . import COMMANDS
from .common import client
from .common.parsing import Parser

_SHELLS = ("bash", "zsh", "fish")
_END = re.compile(r"[.;] ")  # of the first sentence or clause


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=_SHELLS, help="for which shell")
    parser.epilog = (
        "It completes commands, flags (those of every key of the configuration too), words to choose from, and files.\n"
        "Keep the script where the shell finds it, and make it anew after an update:\n"
        "  bash  sidecar completion bash > ~/.local/share/bash-completion/completions/sidecar\n"
        '  zsh   sidecar completion zsh > "${fpath[1]}/_sidecar"\n'
        "  fish  sidecar completion fish > ~/.config/fish/completions/sidecar.fish"
    )


def run(options: argparse.Namespace) -> int:
    import shtab  # for this command alone

    print(shtab.complete(everything(), options.shell))
    return 0


def everything() -> Parser:
    """The whole command line as one parser, which no command needs: each loads only its own part."""
    whole = Parser(prog="sidecar")
    whole.add_argument("--version", action="store_true", help="print the version")
    client.add_client_flags(whole)
    whole.add_argument("--config", type=Path, metavar="FILE", help="the configuration file")
    commands = whole.add_subparsers()
    parsers = {name: commands.add_parser(name, help=summary) for name, summary in COMMANDS.items()}
    for name, parser in parsers.items():
        importlib.import_module(f"sidecar.commands.{name.replace('-', '_')}").add_arguments(parser)
    for parser in (whole, *parsers.values()):
        for action in parser._actions:
            _complete(action)
    return whole


def _complete(action: Any) -> None:
    """Give an action what only completion asks for: a short help, the words of a key's choice, files."""
    if action.dest in KEYS:
        entry = KEYS[action.dest]
        action.help = _END.split(entry.doc, 1)[0].rstrip(".").replace("%", "%%")
        if "|" in entry.kind.placeholder and not entry.kind.many:
            action.choices = entry.kind.placeholder.split("|")
    if action.metavar == "DIRECTORY" or action.dest == "state.directory":
        action.complete = "directory"
    elif action.type is Path or action.metavar == "PATH":
        action.complete = "file"
