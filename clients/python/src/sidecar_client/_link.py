"""The channel to the sidecar: where it is, how it is set up, and how often a lost one is tried again."""

import os
import stat
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import grpc

from .errors import Closed, SidecarError, SidecarUnavailable, from_rpc

Response = TypeVar("Response")

_OPTIONS = (
    ("grpc.http2.bdp_probe", 0),  # keeps the window at 64 KiB: a slow reader is noticed early
    ("grpc.max_receive_message_length", -1),  # the sidecar bounds its batches
    ("grpc.max_send_message_length", -1),  # and says itself what is too large
    ("grpc.experimental.tcp_read_chunk_size", 262_144),  # as the sidecar: a quarter less CPU for bulk on byte streams
    ("grpc.use_local_subchannel_pool", 1),  # each client its own connection
    ("grpc.enable_http_proxy", 0),  # the API is on this machine
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 1000),
)
FIRST_PAUSE, LAST_PAUSE = 0.05, 1.0  # seconds between tries, doubling


def default_target() -> str:
    """`SIDECAR_API`, else the Unix socket that a sidecar serves by default."""
    given = os.environ.get("SIDECAR_API")
    if given:
        return normal_target(given)
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    directory = Path(runtime) / "sidecar" if runtime.startswith("/") else None
    if directory is None:
        directory = Path(tempfile.gettempdir()) / f"sidecar-{os.getuid()}"
    _check_ours(directory)
    return f"unix:{directory / 'api.sock'}"


def _check_ours(directory: Path) -> None:
    """Another user must not be able to pose as our sidecar. Raises SidecarUnavailable."""
    try:
        found = os.lstat(directory)
    except OSError:
        return  # nobody serves there; connecting will say so
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o022:
        raise SidecarUnavailable(f"{directory} is not a directory that only this user can write to; it is not trusted")


def normal_target(target: str) -> str:
    """A target as gRPC wants it; a path is a Unix socket."""
    return f"unix:{target}" if target.startswith(("/", "./", "../")) else target


class Link:
    """A channel, with typed errors."""

    def __init__(self, target: str, reconnect: bool) -> None:
        self.target = target
        self.reconnect = reconnect
        self.closed = False
        self.channel = grpc.aio.insecure_channel(target, options=_OPTIONS)

    async def unary(self, call: Callable[..., Awaitable[Response]], request: object, timeout: float | None) -> Response:
        """Make a unary call. Raises SidecarError."""
        self.check_open()
        try:
            return await call(request, timeout=timeout)
        except grpc.aio.AioRpcError as error:
            raise self.error(error) from None

    def error(self, error: grpc.aio.AioRpcError) -> SidecarError:
        """The typed error of a failed call."""
        failure = from_rpc(error)
        if isinstance(failure, SidecarUnavailable):
            return SidecarUnavailable(f"no sidecar answers at {self.target}: {failure}")
        return failure

    def lost(self, error: SidecarError) -> bool:
        """Whether a stream that ended so is worth opening again: the sidecar is gone, or going."""
        return self.reconnect and not self.closed and isinstance(error, SidecarUnavailable | Closed)

    def check_open(self) -> None:
        """Raises Closed after `close`."""
        if self.closed:
            raise Closed("this client has been closed")

    def raw(self, method: str, parse: Callable[[bytes], Any]) -> Any:
        """A bidirectional method whose requests are given as bytes."""
        return self.channel.stream_stream(method, request_serializer=None, response_deserializer=parse)

    async def close(self) -> None:
        self.closed = True
        await self.channel.close()
