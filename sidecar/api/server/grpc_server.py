"""gRPC's asyncio server: our methods beside health and reflection."""

import os
from typing import Any

import grpc

from ...core.errors import AddressInUse
from ...core.override import override
from ..config import ApiConfig
from ..guard.gate import TokenGate
from . import schema
from .certificates import Certificates, LoadedCertificates
from .door import Door
from .engine import Engine, Served
from .grpc_call import taking
from .sockets import SocketPlace, not_bound
from .strangers import MAX_STRANGERS

_MAX_PENDING = 32_768
_HANDSHAKE = 10_000  # milliseconds for TLS, if there is any, and the first frame; gRPC would wait for two minutes
_MAKE = {  # by whether the app and the server stream
    (False, False): grpc.unary_unary_rpc_method_handler,
    (False, True): grpc.unary_stream_rpc_method_handler,
    (True, True): grpc.stream_stream_rpc_method_handler,
}


class GrpcServer(Engine):
    """Made, bound to its places, started, stopped."""

    def __init__(self, guarded: Served, open_to_all: Served, gate: TokenGate, config: ApiConfig) -> None:
        """`gate`: asked about each call of the guarded methods before its first message is read."""
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
            interceptors=(Door(gate, open_to_all),),
        )
        self._server.add_generic_rpc_handlers(
            tuple(
                grpc.method_handlers_generic_handler(
                    service, {method.name: _handler(method, handler) for method, handler in served}
                )
                for service, served in (*guarded.items(), *open_to_all.items())
            )
        )

    @override
    def bind_socket(self, place: SocketPlace) -> None:
        previous = os.umask(0o177)  # nobody else may connect before the mode is set
        try:
            self._server.add_insecure_port(place.target)
        except RuntimeError as error:
            raise AddressInUse(f"API socket {place.path} cannot be bound: {error}") from None
        finally:
            os.umask(previous)

    @override
    def bind_tcp(self, address: str, certificates: Certificates | None) -> int:
        try:
            if certificates is None:
                port: int = self._server.add_insecure_port(address)
            else:
                port = self._server.add_secure_port(address, _credentials(certificates))
        except RuntimeError as error:
            raise not_bound(address, error) from None
        return port

    @override
    async def start(self) -> None:
        await self._server.start()

    @override
    async def stop(self, grace: float) -> None:
        await self._server.stop(grace)


def _credentials(certificates: Certificates) -> Any:
    """What gRPC asks for each new connection whether there is something new."""
    told = certificates.latest()

    def fetch() -> Any:
        nonlocal told
        before, told = told, certificates.latest()
        return None if told is before else _configuration(told)

    return grpc.dynamic_ssl_server_credentials(_configuration(told), fetch, told.client_ca is not None)


def _configuration(loaded: LoadedCertificates) -> Any:
    return grpc.ssl_server_certificate_configuration([(loaded.key, loaded.certificate)], loaded.client_ca)


def _handler(method: schema.Method, handler: Any) -> "grpc.RpcMethodHandler[Any, Any]":
    make = _MAKE[method.client_streaming, method.server_streaming]
    return make(taking(handler), request_deserializer=method.parse, response_serializer=schema.serialize)
