"""The server of this engine: routes calls, and ends its connections in order."""

import asyncio
import contextlib
import os
import socket
from collections.abc import Mapping

from ....core.errors import AddressInUse
from ....core.override import override
from ...config import ApiConfig
from ...guard.gate import TokenGate
from ..certificates import Certificates
from ..engine import Engine, Served
from ..sockets import SocketPlace, not_bound
from ..strangers import MAX_STRANGERS
from .listener import BACKLOG, Listener
from .protocol import ApiProtocol, Route

_FAREWELL = 0.5  # seconds for the last statuses to go out; a guess


class Http2Server(Engine):
    """Made, bound to its places, started, stopped."""

    def __init__(self, guarded: Served, open_to_all: Served, gate: TokenGate, config: ApiConfig) -> None:
        """`gate`: asked about each call of the guarded methods before its first message is read."""
        self.routes: Mapping[bytes, Route] = {
            f"/{service}/{method.name}".encode(): Route(method, handler, services is guarded)
            for services in (guarded, open_to_all)
            for service, served in services.items()
            for method, handler in served
        }
        self.gate = gate
        self.max_message = config.max_request_bytes
        # `max_calls` are counted by us, so that health, which orchestrators restart us by, is answered beside them.
        self.max_calls = config.max_calls + 2 * MAX_STRANGERS
        self.open_calls = 0
        self._max_connections = config.max_connections
        self._listeners: list[Listener] = []
        self._empty = asyncio.Event()

    @override
    def bind_socket(self, place: SocketPlace) -> None:
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        previous = os.umask(0o177)  # nobody else may connect before the mode is set
        try:
            listening.bind(os.fsencode(place.drawn_up))
        except OSError as error:
            listening.close()
            raise AddressInUse(f"API socket {place.path} cannot be bound: {error.strerror}") from None
        finally:
            os.umask(previous)
        self._listeners.append(Listener(listening, self._make, self._look_whether_empty, most=self._max_connections))

    @override
    def bind_tcp(self, address: str, certificates: Certificates | None) -> int:
        host, _, port = address.rpartition(":")
        host = host.strip("[]")
        listening = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # never SO_REUSEPORT: ports are not shared
            if host == "::":
                listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            listening.bind((host, int(port)))
            listening.listen(BACKLOG)  # only this tells where another process listens
        except OSError as error:
            listening.close()
            raise not_bound(address, error) from None
        bound: int = listening.getsockname()[1]
        self._listeners.append(
            Listener(
                listening, self._make, self._look_whether_empty, most=self._max_connections, certificates=certificates
            )
        )
        return bound

    @override
    async def start(self) -> None:
        for listener in self._listeners:
            listener.open()

    @override
    async def stop(self, grace: float) -> None:
        for listener in self._listeners:
            listener.close()
        for connection in self._connections():
            connection.end()
        await self._all_gone(grace)
        for connection in self._connections():
            connection.stop()
        await self._all_gone(_FAREWELL)
        for connection in self._connections():
            connection.abort()
        await self._all_gone(_FAREWELL)

    def _make(self, listener: Listener, peer: str) -> ApiProtocol:
        return ApiProtocol(self, listener, peer)

    def _look_whether_empty(self) -> None:
        if not self._connections():
            self._empty.set()

    def _connections(self) -> list[ApiProtocol]:
        return [connection for listener in self._listeners for connection in listener.connections]

    async def _all_gone(self, timeout: float) -> None:
        """Wait so long for the last connection to close."""
        if timeout > 0 and self._connections():
            self._empty.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout):
                    await self._empty.wait()
