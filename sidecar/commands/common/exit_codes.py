"""The exit codes of all commands; `sidecar --help` lists them."""

from typing import Final

DONE: Final = 0
FAILED: Final = 1
USAGE_WRONG: Final = 2  # argparse's own
NO_SIDECAR: Final = 3
NOT_IN_TIME: Final = 4
IN_USE: Final = 5
INTERRUPTED: Final = 130  # 128 and the number of SIGINT, as shells have it

MEANINGS = {
    DONE: "it did what was asked",
    FAILED: "it did not; the line on standard error says why",
    USAGE_WRONG: "the command or the configuration is wrong",
    NO_SIDECAR: "no sidecar answers at the API",
    NOT_IN_TIME: "it was not done in time",
    IN_USE: "another process holds what is needed: state directory, port or API socket",
    INTERRUPTED: "Ctrl-C",
}
