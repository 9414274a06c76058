"""gRPC's asyncio server: our methods beside health and reflection."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import grpc
from grpc_health.v1 import health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from ...core.errors import AddressInUse
from ..config import ApiConfig
from ..guard.gate import TokenGate
from . import schema
from .certificates import Certificates
from .door import MAX_STRANGERS, Door
from .grpc_call import taking
from .health import HEALTH_SERVICE, Health
from .methods import ServedMethod
from .sockets import SocketPlace, not_bound

_MAX_PENDING = 32_768
_HANDSHAKE = 10_000  # milliseconds for TLS, if there is any, and the first frame; gRPC would wait for two minutes
_MAKE = {  # by whether the app and the server stream
    (False, False): grpc.unary_unary_rpc_method_handler,
    (False, True): grpc.unary_stream_rpc_method_handler,
    (True, True): grpc.stream_stream_rpc_method_handler,
}


class GrpcServer:
    """Made, bound to its places, started, stopped."""

    def __init__(
        self, methods: Mapping[str, Sequence[ServedMethod]], gate: TokenGate, health: Health, config: ApiConfig
    ) -> None:
        """`methods`: by full service name. `gate`: asked about each call before its first message is read."""
        self._server: Any = grpc.aio.server(
            options=(
                ("grpc.so_reuseport", 0),  # else two processes may share a port, unsaid
                ("grpc.max_receive_message_length", config.max_request_bytes),
                ("grpc.max_send_message_length", -1),
                # Measured by the benchmark's row of bytes on one stream, with the clients' too: 10.3 ms of CPU for a MB
                # instead of 13.4 ms with gRPC's 8 KiB.
                ("grpc.experimental.tcp_read_chunk_size", 262_144),
                ("grpc.max_allowed_incoming_connections", config.max_connections),  # at each place
                ("grpc.server_handshake_timeout_ms", _HANDSHAKE),
                # Calls that the loop has not looked at yet. gRPC cancels at random beyond its default of 1000; so a
                # burst gets as far as `max_calls`, which answers RESOURCE_EXHAUSTED.
                ("grpc.server.max_pending_requests", max(_MAX_PENDING, config.max_calls)),
                ("grpc.server.max_pending_requests_hard_limit", 2 * max(_MAX_PENDING, config.max_calls)),
            ),
            # `max_calls` are counted by us, so that health, which orchestrators restart us by, is answered beside them.
            maximum_concurrent_rpcs=config.max_calls + 2 * MAX_STRANGERS,
            interceptors=(Door(gate),),
        )
        self._server.add_generic_rpc_handlers(
            tuple(
                grpc.method_handlers_generic_handler(
                    service, {method.name: _handler(method, handler) for method, handler in served}
                )
                for service, served in methods.items()
            )
        )
        health_pb2_grpc.add_HealthServicer_to_server(health.servicer, self._server)
        names = (*methods, HEALTH_SERVICE, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, self._server)

    def bind_socket(self, place: SocketPlace) -> None:
        """Bind the Unix socket by the name that it is drawn up under. Raises AddressInUse."""
        previous = os.umask(0o177)  # nobody else may connect before the mode is set
        try:
            self._server.add_insecure_port(place.target)
        except RuntimeError as error:
            raise AddressInUse(f"API socket {place.path} cannot be bound: {error}") from None
        finally:
            os.umask(previous)

    def bind_tcp(self, address: str, certificates: Certificates | None) -> int:
        """Bind `host:port`; returns the port. Raises AddressInUse, ConfigError."""
        try:
            if certificates is None:
                port: int = self._server.add_insecure_port(address)
            else:
                port = self._server.add_secure_port(address, certificates.credentials())
        except RuntimeError as error:
            raise not_bound(address, error) from None
        return port

    async def start(self) -> None:
        """Begin to take calls."""
        await self._server.start()

    async def stop(self, grace: float) -> None:
        """Take no more calls, and cancel after `grace` seconds those that are under way."""
        await self._server.stop(grace)


def _handler(method: schema.Method, handler: Any) -> "grpc.RpcMethodHandler[Any, Any]":
    make = _MAKE[method.client_streaming, method.server_streaming]
    return make(taking(handler), request_deserializer=method.parse, response_serializer=schema.serialize)
