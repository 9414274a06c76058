"""`sidecar dashboard`."""

import argparse
import asyncio
import contextlib
import html
import os
import signal
import threading
import webbrowser
from collections.abc import Iterator
from pathlib import Path

from ..board.board import Board
from ..board.server import Dashboard, new_token
from ..core.errors import AddressInUse
from .common.client import Output, add_client_flags
from .common.exit_codes import IN_USE, USAGE_WRONG
from .common.following import following
from .common.said import complain, failed
from .common.scratch import scratch

_MIN_TOKEN = 16


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--port", type=_port, default=0, metavar="PORT", help="listen at this port of 127.0.0.1; default: any free one"
    )
    parser.add_argument("--open", action="store_true", help="open it in the browser")
    parser.add_argument(
        "--token-file",
        type=Path,
        metavar="FILE",
        help="keep the link's token there, made where it is missing, so that with --port pages that are open go on "
        "after a restart of the dashboard; default: a new one each time",
    )
    add_client_flags(parser, timeout=False)
    parser.epilog = (
        "It only looks: nothing can be changed through it. Who has the link sees what it shows. From elsewhere:\n"
        "ssh -L PORT:127.0.0.1:PORT, then the same link. Where the API asks for tokens, one with node:read and\n"
        "peers:read is enough. Ctrl-C ends it."
    )


def run(options: argparse.Namespace) -> int:
    try:
        token = _kept_token(options.token_file) if options.token_file else new_token()
    except OSError as error:
        return failed(
            USAGE_WRONG, f"{options.token_file} cannot be used: {error.strerror}; name another with --token-file"
        )
    except ValueError as error:
        return failed(USAGE_WRONG, error)

    async def look(board: Board) -> int:
        await board.newer(0)
        out = Output(options.json)
        dashboard = Dashboard(board, token)
        try:
            address = await dashboard.start(options.port)
        except AddressInUse as error:
            return await out.failed(IN_USE, f"{error}; choose another with --port")
        link = f"http://{address}/#{token}"
        ended = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, ended.set)
        # Beside waiting for the end: whoever reads may have stopped to.
        telling = asyncio.create_task(out.record({"link": link}, f"The dashboard is at {link}", "Ctrl-C ends it."))
        ending = asyncio.create_task(ended.wait())
        with _opened(link) if options.open else contextlib.nullcontext():
            try:
                await asyncio.wait((telling, ending), return_when=asyncio.FIRST_COMPLETED)
                if telling.done():
                    telling.result()  # raises
                await ending
            finally:
                telling.cancel()
                ending.cancel()
                await dashboard.stop()
        return 0

    return following(options, 1.0, look)


def _kept_token(file: Path) -> str:
    """The token in a file that is only ours, made where it is missing. Raises OSError, ValueError."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as new:
            token = new_token()
            new.write(f"{token}\n")
            return token
    except FileExistsError:
        pass
    with file.open() as present:
        if os.fstat(present.fileno()).st_mode & 0o077:
            raise ValueError(f"{file} can be read by others, who could then use the dashboard; chmod 600 {file}")
        token = present.read().strip()
    if len(token) < _MIN_TOKEN or not token.isascii() or not token.replace("-", "").replace("_", "").isalnum():
        raise ValueError(f"{file} holds no token of {_MIN_TOKEN} letters, digits, - or _ and more; delete it")
    return token


@contextlib.contextmanager
def _opened(link: str) -> Iterator[None]:
    """Open the link in the browser by way of a file: its arguments, every user of the machine can list."""
    with scratch("dashboard") as directory:
        file = directory / "open.html"
        file.write_text(f'<!doctype html><meta http-equiv="refresh" content="0;url={html.escape(link)}">\n')
        # A thread: some browsers keep who opens them until they are closed.
        threading.Thread(target=_open, args=(file.as_uri(),), name="browser", daemon=True).start()
        yield


def _open(address: str) -> None:
    if not webbrowser.open(address):
        complain("no browser could be opened; open the link yourself")


def _port(text: str) -> int:
    value = int(text)
    if not 0 <= value < 65536:
        raise argparse.ArgumentTypeError(f"{text} is no port")
    return value
