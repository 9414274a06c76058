"""`sidecar doctor`."""

import argparse
import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import sidecar_client
from sidecar_client import Client

from .. import __version__
from ..api.server.sockets import default_socket
from ..config import Config, state_directory
from ..configure import transports
from ..core.errors import ConfigError
from ..doctor import machine, mesh, running
from ..doctor.finding import Finding, Level, ok, problem, skipped
from ..net.resolve import Resolver
from ..net.transports import Transports
from .common.client import Output
from .common.config_flags import add_config_flags, load_config
from .common.exit_codes import FAILED, INTERRUPTED, USAGE_WRONG
from .common.said import failed

_MARKS = {Level.OK: "ok  ", Level.SKIPPED: "-   ", Level.WARNING: "WARN", Level.PROBLEM: "BAD "}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.usage = "sidecar doctor [--offline] [--json] [--config FILE] [--api TARGET] [--KEY VALUE]..."
    parser.add_argument("--offline", action="store_true", help="no sidecar runs yet: look at what its start will need")
    parser.add_argument(
        "--api", metavar="TARGET", help="the API: unix:PATH or HOST:PORT (else as for `sidecar status`)"
    )
    parser.add_argument("--json", action="store_true", help="one JSON document a finding, for scripts")
    parser.add_argument("--patience", type=float, default=5.0, metavar="SECONDS", help="for any one answer; default: 5")
    add_config_flags(parser)
    parser.epilog = (
        "It reads the configuration as `sidecar run` does: give it the same flags, file and user.\n"
        "exit code: 0 when there is no problem, though perhaps a warning; 1 when there is one; 2 when the\n"
        "configuration is wrong"
    )


def run(options: argparse.Namespace) -> int:
    try:
        config = load_config(options).config
        state_directory(config, os.environ)
    except ConfigError as error:
        if options.json:
            remedy = "put it right; `sidecar config --template` shows every key"
            asyncio.run(_show(Output(True), problem("configuration", str(error), remedy)))
        return failed(USAGE_WRONG, error)
    try:
        worst = asyncio.run(_examine(options, config))
    except KeyboardInterrupt:
        return INTERRUPTED
    return FAILED if worst else 0


async def _examine(options: argparse.Namespace, config: Config) -> bool:
    """Print every finding as it is found; whether there was a problem."""
    counts = dict.fromkeys(Level, 0)
    out = Output(options.json)
    async for finding in _findings(options, config):
        counts[finding.level] += 1
        await _show(out, finding)
    problems, warnings = counts[Level.PROBLEM], counts[Level.WARNING]
    await out.remark(f"{problems} problem{'s' * (problems != 1)}, {warnings} warning{'s' * (warnings != 1)}")
    return counts[Level.PROBLEM] > 0


async def _findings(options: argparse.Namespace, config: Config) -> AsyncIterator[Finding]:
    yield ok("configuration", "it can be read")
    directory = state_directory(config, os.environ)
    holder = machine.holder_of(directory)
    for finding in machine.state(directory, config, holder):
        yield finding
    yield machine.disk(directory)
    yield machine.volume(directory)
    yield machine.clock(directory)
    yield machine.files(config, holder)
    for finding in machine.certificates(config):
        yield finding
    for finding in machine.rules(config):
        yield finding
    network, patience = config.network.name, options.patience
    try:
        carried = transports(config)
    except ConfigError as error:
        yield problem("configuration", str(error), "put it right, or the sidecar will not start")
        return
    async with AsyncExitStack() as parts:
        client = None
        if not options.offline:
            client, finding = await _connected(options, config, holder, parts)
            yield finding
        if client is None:
            yield machine.engine(config)
            if holder is None:
                yield machine.socket_place(config)
                for finding in machine.ports(config):
                    yield finding
            elif options.offline:
                yield skipped("port", f"process {holder} runs with this state; without --offline it is looked at")
        resolver = Resolver(patience, config.discovery.dns_servers)
        async for finding in mesh.bootstrap(config.bootstrap.peers, network, carried, resolver, patience):
            yield finding
        if client is not None:
            async for finding in _of_running(client, config, carried, patience):
                yield finding


async def _connected(
    options: argparse.Namespace, config: Config, holder: int | None, parts: AsyncExitStack
) -> tuple[Client | None, Finding]:
    target = options.api or os.environ.get("SIDECAR_API") or f"unix:{config.api.socket or default_socket()}"
    client = sidecar_client.connect(target, wait=0)
    try:
        await parts.enter_async_context(client)
        node = await client.info(timeout=options.patience)
    except sidecar_client.SidecarUnavailable as error:
        if holder is not None and target.startswith("unix:") and not os.path.lexists(target.removeprefix("unix:")):
            return None, machine.socket_gone(Path(target.removeprefix("unix:")), holder)
        if holder is not None:
            process = holder or "of another user"
            words = f"process {process} has the state directory, but its API does not answer: {error}"
            return None, problem("API", words, "look at its log and its CPU; if it hangs, restart it")
        remedy = "start one with `sidecar run`, or say where it is with --api; --offline looks at what a start needs"
        return None, problem("API", str(error), remedy)
    except sidecar_client.DeadlineExceeded:
        words = f"the sidecar at {target} does not answer within {options.patience:g} s"
        return None, problem("API", words, "look at its log and its CPU; if it hangs, restart it")
    except sidecar_client.SidecarError as error:
        remedy = "a token that allows node:read and peers:read is needed (SIDECAR_TOKEN)"
        return None, problem("API", f"{target}: {error}", remedy)
    return client, ok("API", f"{node.peer_id} answers at {target}, up {node.uptime:.0f} s")


async def _of_running(client: Client, config: Config, carried: Transports, patience: float) -> AsyncIterator[Finding]:
    node = await client.info(timeout=patience)
    yield running.versions(node)
    yield await running.engine(client, node)
    async for finding in running.readiness(client):
        yield finding
    yield await running.latency(client)
    statistics = await client.statistics()
    yield running.loop(statistics)
    yield await running.inbound(client, node)
    yield running.port_mapping(node)
    yield running.twins(statistics)
    for finding in running.relays(statistics, config):
        yield finding
    if node.version == __version__:
        async for finding in running.rules(client, config):
            yield finding
    async for finding in mesh.reachable(client, node, node.network, carried, patience):
        yield finding
    yield await mesh.identity(client, node, node.network, carried, patience)


async def _show(out: Output, finding: Finding) -> None:
    lines = [f"{_MARKS[finding.level]}  {finding.check}: {finding.message}"]
    if finding.remedy:
        lines.append(f"        {finding.remedy}")
    await out.record(finding._asdict() | {"level": finding.level.value}, *lines)
