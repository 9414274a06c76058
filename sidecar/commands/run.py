"""`sidecar run`."""

import argparse
import asyncio
import contextlib
import errno
import gc
import ipaddress
import logging
import os
import signal
import threading

import uvloop

from .. import __version__
from ..api.server.sockets import default_socket
from ..app import App, Started
from ..config import Config, Loaded
from ..configure import open_files
from ..core.errors import AddressInUse, StateLocked
from ..core.multiaddr import Multiaddr
from ..process import hang_ups
from ..process.logs import log
from ..process.open_files import LEAST, raise_to
from ..process.service_manager import ServiceManager
from ..process.standard_streams import errors, output
from .common.config_flags import add_config_flags, errors_told, load_config
from .common.exit_codes import FAILED, IN_USE
from .common.said import called, clean, failed
from .run_reloading import Reloading

_OVERTIME = 2.0  # seconds beyond `timeouts.shutdown` after which the process ends whatever still hangs

_LAST_LINES = 0.5  # seconds for a reader to take them

_log = logging.getLogger("sidecar.run")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.usage = "sidecar run [--config FILE] [--until-eof] [--KEY VALUE]..."
    parser.add_argument(
        "--until-eof",
        action="store_true",
        help="end when standard input ends: for a program that starts a sidecar as its child",
    )
    add_config_flags(parser, shown=True)
    parser.epilog = (
        "SIGTERM and Ctrl-C end it in order, a second one at once; SIGHUP makes it read its configuration again.\n"
        "exit codes: 0 after SIGTERM or Ctrl-C, 2 when the configuration is wrong, 5 when the state directory, a port\n"
        "or the API socket is in use, 1 for anything else. Where a signal cuts it short, while it is being loaded or\n"
        "as the second one: 143 for SIGTERM, 130 for Ctrl-C"
    )


@errors_told
def run(options: argparse.Namespace) -> int:
    try:
        loaded = load_config(options)
        config = loaded.config
        log.configure(config.log.level, config.log.format, parts=config.log.levels)
        wanted = open_files(config)
        files = raise_to(wanted)
        remedy = "raise the limit (`ulimit -n`, LimitNOFILE= of systemd, --ulimit of a container engine)"
        if files < LEAST:
            return failed(FAILED, f"this process may have {files} files open, and a start takes {LEAST}; {remedy}")
        if files < wanted:
            _log.warning(
                "this process may have %d files open, and its connections may take %d (limits.connections, "
                "api.max_connections): when none is left, nobody new is let in; %s",
                files,
                wanted,
                remedy,
            )
        os.umask(
            0o077
        )  # what it makes is its user's alone, SQLite's files too; the API's socket gets a mode of its own
        gc.freeze()  # modules stay: without them a full collection stops the loop for 20 ms less
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            try:
                runner.run(_live(loaded, options))
            finally:
                output.flush(_LAST_LINES)  # their threads end with the process
                errors.flush(_LAST_LINES)
    except StateLocked as error:
        return failed(IN_USE, f"{error}; stop that one, or give this one a directory of its own with --state")
    except AddressInUse as error:
        return failed(IN_USE, f"{error}; choose another with --listen, --socket, --tcp or --metrics")
    return 0


async def _live(loaded: Loaded, options: argparse.Namespace) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()

    def asked(number: int) -> None:
        if stop.is_set():
            os._exit(128 + number)  # asked twice: somebody is in a hurry
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked, number)
    if options.until_eof:
        threading.Thread(target=_watch_input, args=(loop, stop), name="standard input", daemon=True).start()
    app = App(loaded, os.environ)
    manager = ServiceManager(os.environ)
    reloading = Reloading(app, manager, lambda: load_config(options), loaded.file)
    started, asked_early = False, False

    def hung_up() -> None:
        nonlocal asked_early
        if _terminal_gone():
            stop.set()
        elif started:
            reloading.ask()
        else:
            asked_early = True

    loop.add_signal_handler(signal.SIGHUP, hung_up)
    if hang_ups.came():
        hung_up()
    output.write(banner(await app.start(), loaded.config))
    started = True
    manager.started()
    if asked_early:
        reloading.ask()
    telling = asyncio.create_task(_tell_readiness(app, manager), name="readiness")
    await stop.wait()
    _log.info("stopping")
    reloading.close()
    manager.stopping()
    manager.close()
    telling.cancel()
    late = loop.call_later(loaded.config.timeouts.shutdown + _OVERTIME, _give_up)
    await app.stop()
    late.cancel()
    _log.info("stopped")


async def _tell_readiness(app: App, manager: ServiceManager) -> None:
    begun = asyncio.get_running_loop().time()
    for condition in app.unmet():
        output.write(f"Not ready yet: {clean(condition.message)}.\n")
        manager.status(f"Not ready yet: {condition.message}")
    await app.ready()
    output.write(f"Ready after {asyncio.get_running_loop().time() - begun:.1f} s.\n")
    manager.status("Ready")


def _terminal_gone() -> bool:
    """Whether standard input was a terminal that has been closed, which is told by SIGHUP as well."""
    try:
        os.tcgetpgrp(0)
    except OSError as error:
        return error.errno == errno.EIO
    return False


def _watch_input(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    """A thread, since not everything that can be standard input can be polled; it sleeps until the end."""
    with contextlib.suppress(OSError):
        while os.read(0, 4096):
            pass
    with contextlib.suppress(RuntimeError):  # the loop has ended already
        loop.call_soon_threadsafe(stop.set)


def _give_up() -> None:
    _log.error("something did not end in time; ending anyway")
    errors.flush(_LAST_LINES)
    os._exit(FAILED)


def banner(started: Started, config: Config) -> str:
    """Where the API is, who this node is, and what to type next."""
    program = called()
    api = "" if started.api == f"unix:{default_socket()}" else f" --api {started.api}"
    addresses = [address.with_peer(started.peer_id) for address in started.addresses]
    lines = [
        f"sidecar {__version__}, network {started.network}",
        f"  peer id  {started.peer_id}",
        *(f"  address  {address}" for address in addresses),
        f"  API      {started.api}" + (f" and {started.api_tcp}" if started.api_tcp else ""),
        *([f"  metrics  {started.metrics}/metrics"] if started.metrics else []),
        f"  state    {started.state}",
        *([f"  TRACE    every message is written DECRYPTED to {started.trace}"] if started.trace else []),
        *_open_to_all(config),
        "Next, in other terminals:",
        f"  {program} status{api}",
        f"  {program} subscribe news{api}",
        f"  {program} publish news hello{api}",
    ]
    elsewhere = next((address for address in addresses if not _is_loopback(address)), None)
    if elsewhere:
        lines += ["On another machine, to join this one:", f"  {program} run --bootstrap {elsewhere}"]
    return "\n".join(lines) + "\n"


def _open_to_all(config: Config) -> list[str]:
    """Whether whoever reaches the node can join, and the flags that change it."""
    listening = config.listen.addresses
    closed = config.network.psk_file or config.gate.allow_peers or config.gate.allow_networks
    if closed or all(map(_is_loopback, listening)):
        return []
    here = dict.fromkeys(f"--listen {_on_loopback(address)}" for address in listening)
    return [
        "  OPEN     whoever reaches these addresses can join the mesh, without a key; for this machine only:",
        f"           {' '.join(here)} (or for holders of a key: --network-psk-file FILE)",
    ]


def _on_loopback(address: Multiaddr) -> str:
    if _is_loopback(address):
        return str(address)
    _, family, _, *rest = str(address).split("/")
    return "/".join(["", family, "::1" if family == "ip6" else "127.0.0.1", *rest])


def _is_loopback(address: Multiaddr) -> bool:
    host = address.value("ip4", "ip6")
    return host is not None and ipaddress.ip_address(host).is_loopback
