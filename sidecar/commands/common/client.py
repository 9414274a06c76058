"""What the commands that talk to a running sidecar share: flags, output, errors, exit codes."""

import argparse
import asyncio
import base64
import contextlib
import os
import re
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import sidecar_client
from sidecar_client import Client, Lagged

from ...config import load
from ...core.errors import ConfigError
from ...process.standard_streams import Writer, errors, output
from .exit_codes import FAILED, NO_SIDECAR, NOT_IN_TIME, USAGE_WRONG
from .said import clean, document, failed, line, not_in_time
from .stdin import chunks

Item = TypeVar("Item")

DEFAULT_TIMEOUT = 30.0
_MAX_INPUT = 64 << 20  # bytes; no node takes larger messages


# What to do about an error; the nearest ancestor counts.
_REMEDIES: dict[type[sidecar_client.SidecarError], str] = {
    sidecar_client.SidecarUnavailable: "start one with `sidecar run`, or say where it is with --api",
    sidecar_client.Unauthenticated: "put one of `sidecar token create` into SIDECAR_TOKEN or SIDECAR_TOKEN_FILE",
    sidecar_client.PermissionDenied: "take a token that does, of `sidecar token create`",
    sidecar_client.SelfDial: "name another peer",
    sidecar_client.NotFound: "check the name; a peer that the DHT does not know, `sidecar connect ADDRESS` reaches",
    sidecar_client.NotSupported: "an app there must serve it; `sidecar receive PROTOCOL --reply TEXT` serves requests, "
    "`sidecar accept PROTOCOL` streams",
    sidecar_client.NoAddresses: "check the id; a peer that the DHT does not know, `sidecar connect ADDRESS` reaches",
    sidecar_client.Unreachable: "check that it runs, and that its address can be reached from here",
    sidecar_client.NoQuorum: "`sidecar peers` lists whom there is to take it",
    sidecar_client.WrongPeer: "another node has that address now; ask it for its own id with `sidecar id`",
    sidecar_client.WrongNetwork: "both must have the same network.name",
    sidecar_client.PeerBanned: "`sidecar bans` lists who is refused, `sidecar unban` lifts a ban",
    sidecar_client.TopicOptionsDiffer: "give or leave out --unsigned as the topic's other users do",
    sidecar_client.QuotaExceeded: "wait, or take a token with a larger one, of `sidecar token create`",
    sidecar_client.ResourceExhausted: "try again in a moment",
}

_SILENT = re.compile("Deadline Exceeded|timed out before")
_COMMAND = re.compile("`sidecar [^`]*`")


class Output:
    """Prints for people, or with `--json` one JSON document a line; what could steer a terminal is escaped.

    All is written at once, so that a pipe sees it, and waited for without holding up the event loop: whoever reads may
    have stopped to, and the command must still end when it is told to. Raises OSError where it cannot be written.
    """

    def __init__(self, as_json: bool, standard_output: Writer = output, standard_error: Writer = errors) -> None:
        self.as_json = as_json
        self._output = standard_output
        self._errors = standard_error

    async def record(self, fields: dict[str, Any], *lines: str) -> None:
        """One result: its fields for scripts, or `lines` for people."""
        if self.as_json:
            await self._print(document(fields))
        elif lines:
            await self._print("\n".join(map(clean, lines)))

    async def remark(self, text: str) -> None:
        """For people only."""
        if not self.as_json:
            await self._print(text)

    async def raw(self, data: bytes) -> None:
        """Bytes as they are."""
        await self._output.put(data)

    async def complain(self, message: object) -> None:
        """One line on standard error, as `said.complain` prints it."""
        await self._tell(line("error", message))

    async def failed(self, code: int, message: object, **fields: object) -> int:
        """Complain of what ends the command, as `said.failed` does; returns the exit code."""
        await self._tell(line("error", message, exit_code=code, **fields))
        return code

    async def listening(self, what: str) -> None:
        """Say, beside the output, that from now on nothing is missed."""
        await self._tell(line("note", f"listening for {what}; Ctrl-C ends it"))

    async def _print(self, text: str) -> None:
        await self._output.put(f"{text}\n".encode(sys.stdout.encoding or "utf-8", errors="backslashreplace"))

    async def _tell(self, text: str) -> None:
        with contextlib.suppress(OSError):
            await self._errors.put(f"{text}\n".encode(sys.stderr.encoding or "utf-8", errors="backslashreplace"))

    async def content(self, fields: dict[str, Any], head: str, data: bytes) -> None:
        """One result with bytes of somebody, which may be a text of many lines: they follow `head`."""
        first, *rest = printable(data).split("\n")
        await self.record(fields, head + first, *rest)


def add_api_flag(parser: argparse.ArgumentParser) -> None:
    """Add where the API is."""
    parser.add_argument(
        "--api",
        metavar="TARGET",
        help="the API: unix:PATH or HOST:PORT (else $SIDECAR_API, else the configured socket, else the default one)",
    )


def add_client_flags(parser: argparse.ArgumentParser, *, timeout: bool = True, json: bool = True) -> None:
    """Add the flags of all that talk to a sidecar: where the API is, the form of the output, and a time-out.

    `json`: not for bytes as they come. `timeout`: not for commands that go on until told to stop.
    """
    add_api_flag(parser)
    if json:
        parser.add_argument("--json", action="store_true", help="one JSON document a line, for scripts")
    if timeout:
        note = f"give up after so many seconds; default: {DEFAULT_TIMEOUT:g}"
        parser.add_argument("--timeout", type=seconds, default=DEFAULT_TIMEOUT, metavar="SECONDS", help=note)


def add_count(parser: argparse.ArgumentParser) -> None:
    """Add `--count` to a command that goes on; see `some`."""
    parser.add_argument(
        "--count", type=_count, default=0, metavar="N", help="end after N messages; else Ctrl-C ends it"
    )


def talk(options: argparse.Namespace, conversation: Callable[[Client, Output], Awaitable[int]]) -> int:
    """Connect to the sidecar, hold a conversation, and turn what goes wrong into one line and an exit code."""
    timeout: float | None = getattr(options, "timeout", None)

    async def hold() -> int:
        async with asyncio.timeout(timeout), sidecar_client.connect(target(options), wait=0) as node:
            return await conversation(node, Output(getattr(options, "json", False)))

    return perform(hold, timeout)


def perform(hold: Callable[[], Coroutine[Any, Any, int]], timeout: float | None = None) -> int:
    """Run what talks to the sidecar; what goes wrong becomes one line and an exit code."""
    try:
        return asyncio.run(hold())
    except ConfigError as error:
        return failed(USAGE_WRONG, error)
    except UnicodeEncodeError as error:
        return failed(USAGE_WRONG, f"{error.object!r} has bytes that are not UTF-8; only messages may have such")
    except sidecar_client.DeadlineExceeded as error:
        return not_in_time(NOT_IN_TIME, error, reason="DEADLINE_EXCEEDED")
    except TimeoutError:
        message = f"not done within {timeout or 0:g} seconds; --timeout allows more"
        return not_in_time(NOT_IN_TIME, message, reason="DEADLINE_EXCEEDED")
    except sidecar_client.SidecarError as error:
        remedy = _remedy(error)
        code = NO_SIDECAR if isinstance(error, sidecar_client.SidecarUnavailable) else FAILED
        if isinstance(error, sidecar_client.InvalidArgument) and error.code is None:
            code = USAGE_WRONG  # where the API is, or a token's file: wrong before any sidecar was asked
        return failed(code, f"{error}; {remedy}" if remedy else error, reason=error.reason or None)


def _remedy(error: sidecar_client.SidecarError) -> str | None:
    if isinstance(error, sidecar_client.SidecarUnavailable) and _SILENT.search(str(error)):
        return "a process is there and says nothing: it hangs or has too much to do; `sidecar doctor` looks at it"
    remedy = next((_REMEDIES[kind] for kind in type(error).__mro__ if kind in _REMEDIES), None)
    said = remedy is not None and any(command in str(error) for command in _COMMAND.findall(remedy))
    return None if said else remedy


async def some(events: AsyncIterator[Item | Lagged], count: int, out: Output) -> AsyncIterator[Item]:
    """The first `count` messages of a stream, 0 for all; that some were missed is said on standard error."""
    async for event in events:
        if isinstance(event, Lagged):
            await out.complain(event)
            continue
        yield event
        count -= 1
        if not count:
            return


def payload(data: bytes) -> dict[str, str]:
    """A payload as JSON can hold it: `text` where it is UTF-8, else `base64`."""
    try:
        return {"text": data.decode()}
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode()}


def printable(data: bytes) -> str:
    """A payload for a terminal, with its lines and tabs: what could steer the terminal is escaped."""
    return re.sub("[^\n]+", lambda line: clean(line[0]), data.decode(errors="backslashreplace"))


async def message_bytes(words: list[str]) -> bytes:
    """The message that a command was given: its words, or standard input for `-`. Raises InvalidArgument."""
    if words != ["-"]:
        return os.fsencode(" ".join(words))
    data = b""
    async for chunk in chunks():
        data += chunk
        if len(data) > _MAX_INPUT:
            raise sidecar_client.InvalidArgument(f"standard input has more than {_MAX_INPUT} bytes")
    return data


def target(options: argparse.Namespace) -> str | None:
    """Where the API is said to be; None leaves it to the client, which knows the variable and the default place."""
    if options.api or os.environ.get("SIDECAR_API"):
        return str(options.api) if options.api else None
    socket = load(os.environ, {}).config.api.socket
    return f"unix:{socket}" if socket else None


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text} is not a number of messages")
    return int(text)


def seconds(text: str) -> float:
    """A number of seconds above 0, as a flag has it. Raises ArgumentTypeError."""
    try:
        value = float(text)
    except ValueError:
        value = 0
    if not 0 < value < 1e9:
        raise argparse.ArgumentTypeError(f"{text} is not a number of seconds above 0")
    return value
