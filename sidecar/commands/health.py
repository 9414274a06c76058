"""`sidecar health`: the check for whoever starts and stops containers.

Like `sidecar status` in its answer, at half of its cost: it is run every few seconds beside an app that pays for it, so
only gRPC's blocking client is imported, the health service is asked, and the configuration is read only where nothing
else says where the API is.
"""

import argparse
import os
import sys
from urllib.parse import quote

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from ..process.standard_streams import discard_output
from .common.exit_codes import FAILED, NO_SIDECAR, USAGE_WRONG

_DEFAULT_TIMEOUT = 3.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--live", action="store_true", help="whether the API answers is enough; the node may wait for peers"
    )
    parser.add_argument(
        "--api", metavar="TARGET", help="the API: unix:PATH or HOST:PORT (else as for `sidecar status`)"
    )
    parser.add_argument("--timeout", type=float, default=_DEFAULT_TIMEOUT, metavar="SECONDS", help="default: 3")
    parser.epilog = (
        "exit code: 0 when the API answers and the node is ready, 1 when it is not ready, 3 without an answer"
    )


def run(options: argparse.Namespace) -> int:
    target = _named(options.api)
    if target is None:
        from ..core.errors import ConfigError

        try:
            target = _configured()
        except ConfigError as error:
            complain(error)
            return USAGE_WRONG
    if target.startswith("tls://"):
        complain("health is asked at the Unix socket or a loopback address, not under TLS")
        return USAGE_WRONG
    try:
        with grpc.insecure_channel(_address(target), options=(("grpc.enable_http_proxy", 0),)) as channel:
            request = health_pb2.HealthCheckRequest()
            answer = health_pb2_grpc.HealthStub(channel).Check(request, timeout=options.timeout)
    except grpc.RpcError as error:
        complain(f"no answer from the API at {target}: {error.details()}")
        return NO_SIDECAR
    ready = answer.status == health_pb2.HealthCheckResponse.SERVING
    if not ready and not options.live:
        complain("not ready; `sidecar status` says why")
        return FAILED
    try:
        print("ready" if ready else "live, not ready", flush=True)
    except OSError:  # the exit code says it as well
        discard_output()
    return 0


def complain(message: object) -> None:
    """One line on standard error, where that can be written."""
    print(f"sidecar: {message}", file=sys.stderr)


def _named(given: str | None) -> str | None:
    """What gRPC connects to, if a flag or a variable says it; a variable wins over the configuration file."""
    target = given or os.environ.get("SIDECAR_API") or os.environ.get("SIDECAR_API_SOCKET")
    if not target:
        return None
    is_path = target.startswith(("/", "./", "../", "~")) or not (given or os.environ.get("SIDECAR_API"))
    return f"unix:{target}" if is_path else target


def _address(target: str) -> str:
    """As gRPC wants it: it reads a URI, so what has a meaning in one is escaped."""
    path = target.removeprefix("unix:").removeprefix("//")
    return f"unix:{quote(os.fsencode(os.path.expanduser(path)))}" if target.startswith("unix:") else target


def _configured() -> str:
    """The socket of the configuration, else the default one. Raises ConfigError."""
    from ..api.server.sockets import default_socket
    from ..config import load

    return f"unix:{load(os.environ, {}).config.api.socket or default_socket()}"
