"""The command line: finds the command, imports only that one, and turns every error into one line and an exit code."""

import errno
import gc
import importlib
import os
import signal
import sys
from collections.abc import Sequence
from types import ModuleType

from . import __version__
from .commands import COMMANDS
from .commands.common import exit_codes, parsing, said
from .process import hang_ups, standard_streams

_LIST = "".join(f"  {name:11}{summary}\n" for name, summary in COMMANDS.items())
_ABOUT = "A p2p mesh as a process beside your app: libp2p on the wire, gRPC to the app."
_MORE = "`sidecar COMMAND --help` says more. --api, --timeout, --config and --json may stand before the command too.\n\
With --json an error is one object on standard error: error, exit_code and, where the API gives one, reason."
_FIRST = """\
Say what to do. The first steps:
  sidecar demo              five sidecars on this machine find each other, talk and gossip
  sidecar run               start one; it says what to type next
  sidecar status            in another terminal: is it ready, and if not, why
  sidecar --help            all commands
"""
_EXIT_CODES = "exit codes:\n" + "".join(f"  {code:<3}  {meaning}\n" for code, meaning in exit_codes.MEANINGS.items())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code. Usage errors exit with 2, as argparse does."""
    if os.getpid() == 1:
        # The kernel keeps from process 1 the signals that it has no handler for; `run` has one a moment later.
        signal.signal(signal.SIGTERM, lambda number, frame: os._exit(128 + number))
    standard_streams.prepare()
    try:
        code = _run(list(sys.argv[1:] if arguments is None else arguments))
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # Nobody reads any more (`sidecar subscribe news | head -1`): no complaint, not even at interpreter exit.
        standard_streams.discard_output()
        return 0
    except OSError as error:  # of the output: a full disk, or it was closed; or of a file that nobody has reckoned with
        standard_streams.discard_output()
        return said.failed(exit_codes.FAILED, _refused(error))
    except KeyboardInterrupt:  # while the command's modules are loaded as well, which takes half a second
        standard_streams.discard_output()  # its reader may be what was waited for
        return exit_codes.INTERRUPTED


def _refused(error: OSError) -> str:
    because = error.strerror or str(error)
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return f"{because}; raise the limit (`ulimit -n`)"
    return f"it cannot be written: {because}" if error.filename is None else f"{error.filename}: {because}"


def _run(words: list[str]) -> int:
    words = parsing.command_first(words)
    said.as_json = parsing.asks_for_json(words)
    if not words:
        sys.stderr.write(_FIRST.replace("sidecar ", f"{said.called()} "))
        return exit_codes.USAGE_WRONG
    name, *rest = words
    if name in ("-h", "--help"):
        print(f"usage: sidecar COMMAND ...\n\n{_ABOUT}\n\ncommands:\n{_LIST}\n{_MORE}\n\n{_EXIT_CODES}", end="")
        return 0
    if name == "--version":
        print(f"sidecar {__version__}")
        return 0
    if name not in COMMANDS:
        what = f"no flag {name}" if name.startswith("-") else f"no command {name}"
        meant = parsing.nearest(name, COMMANDS)
        parsing.usage_error(what + (f"; did you mean `sidecar {meant}`?" if meant else ""), "sidecar --help")
    if name == "run":
        hang_ups.note()
    summary = COMMANDS[name]
    parser = parsing.Parser(prog=f"sidecar {name}", description=summary[0].upper() + summary[1:] + ".")
    module = _load(f"sidecar.commands.{name.replace('-', '_')}")
    module.add_arguments(parser)
    return int(module.run(parser.read(rest)))


def _load(name: str) -> ModuleType:
    """Import a command. What modules make stays, so looking for garbage among it is in vain: a tenth of a start."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        return importlib.import_module(name)
    finally:
        if collecting:
            gc.enable()
