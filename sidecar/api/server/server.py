"""The gRPC server: services, health and reflection over a Unix socket and, on request, TCP."""

import asyncio
import contextlib
import functools
import logging
import os
import re
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from ...core.errors import AddressInUse, SidecarError
from ..backend import Backend
from ..common.status import Context, Handler, answered
from ..config import ApiConfig
from ..direct.service import DirectService
from ..discovery.service import DiscoveryService
from ..guard.gate import MAX_STRANGERS, Gate
from ..guard.tokens import TokenFile
from ..node.service import NodeService
from ..peers.service import PeerService
from ..pubsub.service import PubSubService
from ..streams.service import StreamService
from . import schema as schema
from .callers import Callers
from .certificates import Certificates
from .sockets import SocketPlace, default_socket, not_bound, prepare_default_directory

_HEALTH_INTERVAL = 2.0  # seconds between looks at the parts, beside those that readiness calls for; a guess
_MAX_PENDING = 32_768
_HANDSHAKE = 10_000  # milliseconds for TLS, if there is any, and the first frame; gRPC would wait for two minutes
_REMEDY = "Let the sidecar's user make a socket there: it is served within seconds, without a restart."
_LAST_WORDS = 0.5  # seconds for streams to end in when the drain has taken all its time; a guess
_log = logging.getLogger(__package__)  # `api.server`, as the schema names it


class ApiServer:
    """Serves the backend. `start` takes the places, `stop` drains in bounded time and gives them back."""

    def __init__(self, backend: Backend, config: ApiConfig) -> None:
        self._backend = backend
        self._config = config
        self._place: SocketPlace | None = None
        self._server: Any = None
        self._health = health.aio.HealthServicer()
        self._health_task: asyncio.Task[None] | None = None
        self.socket = config.socket or default_socket()
        self._callers = Callers()
        self._again: Any = None  # a server at the socket made anew, after it or its directory was deleted
        self._told = ""  # why it cannot be made anew
        self._gate: Gate | None = None
        self.tcp: str | None = None
        """`host:port` as served, with `tls://` before it where it is, once started."""

    @property
    def target(self) -> str:
        """What clients connect to."""
        return f"unix:{self.socket}"

    async def start(self) -> None:
        """Bind and serve. Raises ConfigError, AddressInUse, and StorageError where the file of tokens is no use."""
        config = self._config
        certificates = None
        if config.tls_certificate is not None and config.tls_key is not None:
            certificates = Certificates(config.tls_certificate, config.tls_key, config.tls_client_ca)
        gate = Gate(
            TokenFile(config.tokens, kept_elsewhere=config.tokens_kept_elsewhere) if config.tokens else None,
            required=config.require_token,
            fresh=config.tokens_fresh,
            audit=self._backend.audit,
        )
        if config.socket is None:
            prepare_default_directory(self.socket)
        self._place = self._take_place()
        try:
            self._gate = gate
            self._backend.guard_statistics = gate.statistics
            self._server = self._build(gate)
            self._bind_socket(self._server, self._place)
            if config.tcp is not None:
                self.tcp = self._bind_tcp(config.tcp, certificates)
            await self._server.start()
            self._place.opened()
        except BaseException:
            await self._abandon()
            raise
        self._health_task = asyncio.create_task(self._tell_health(), name="api health")
        _log.info("API at %s%s", self.target, f" and {self.tcp}" if self.tcp else "")

    async def stop(self) -> None:
        """Drain within the drain time-out: refuse what is new, answer what is under way, then end all streams.

        They end with UNAVAILABLE, after what they hold. What answers about the node itself does so to the end.
        """
        if self._server is None:
            return
        if self._health_task is not None:
            self._health_task.cancel()
        ends = self._backend.now() + self._config.drain_timeout
        await self._health.enter_graceful_shutdown()
        await self._backend.drain(self._config.drain_timeout)
        self._backend.close()
        await self._abandon(max(ends - self._backend.now(), _LAST_WORDS))

    def _take_place(self) -> SocketPlace:
        config = self._config
        return SocketPlace(self.socket, mode=config.socket_mode, owner=config.socket_owner, group=config.socket_group)

    async def _look_after_place(self) -> None:
        """Somebody may have deleted the socket or its directory: serve at a new one. Who is connected stays so."""
        if self._gate is None or (self._place is not None and self._place.present()):
            return
        if self._place is not None:
            _log.error("the API socket %s is gone: it or its directory was deleted or replaced", self.socket)
            self._place.release()
            self._place = None
        place = server = None
        try:
            if self._config.socket is None:
                prepare_default_directory(self.socket)
            else:
                with contextlib.suppress(OSError):
                    self.socket.parent.mkdir(mode=0o700)
            place = self._take_place()
            server = self._build(self._gate)
            self._bind_socket(server, place)
            await server.start()
            place.opened()
        except BaseException as error:
            if server is not None:
                await server.stop(0)
            if place is not None:
                place.release()
            if not isinstance(error, SidecarError | OSError):  # the latter where files are used up
                raise
            if str(error) != self._told:
                self._told = str(error)
                _log.error("the API socket cannot be made anew, which is tried again: %s", error)
            self._backend.served(f"the API socket {self.socket} is gone and cannot be made anew: {error}", _REMEDY)
            return
        self._told, self._place = "", place
        self._backend.served()
        before, self._again = self._again, server
        if before is not None:
            await before.stop(0)
        _log.warning("the API socket %s has been made anew", self.socket)

    async def _abandon(self, grace: float = 0.0) -> None:
        servers = [server for server in (self._server, self._again) if server is not None]
        self._server = self._again = None
        await asyncio.gather(*(server.stop(grace) for server in servers))
        if self._gate is not None:
            self._gate.close()
        place, self._place = self._place, None
        if place is not None:
            place.release()

    def _build(self, gate: Gate) -> Any:
        config = self._config
        server = grpc.aio.server(
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
            interceptors=(gate,),
        )
        server.add_generic_rpc_handlers(tuple(self._handlers(gate)))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        names = (*schema.services(), health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, server)
        return server

    def _handlers(self, gate: Gate) -> list[grpc.GenericRpcHandler]:
        backend = self._backend
        implementations = {
            "sidecar.v1.NodeService": NodeService(backend),
            "sidecar.v1.PeerService": PeerService(backend),
            "sidecar.v1.DirectService": DirectService(backend),
            "sidecar.v1.StreamService": StreamService(backend),
            "sidecar.v1.PubSubService": PubSubService(backend),
            "sidecar.v1.DiscoveryService": DiscoveryService(backend),
        }
        return [
            grpc.method_handlers_generic_handler(
                service,
                {
                    method.name: self._method_handler(service, method, implementations[service], gate)
                    for method in methods
                },
            )
            for service, methods in schema.services().items()
        ]

    def _bind_socket(self, server: Any, place: SocketPlace) -> None:
        previous = os.umask(0o177)  # nobody else may connect before the mode is set
        try:
            server.add_insecure_port(place.target)
            self._callers.bound(place.drawn_up)
        except RuntimeError as error:
            raise AddressInUse(f"API socket {self.socket} cannot be bound: {error}") from None
        finally:
            os.umask(previous)

    def _bind_tcp(self, address: str, certificates: Certificates | None) -> str:
        try:
            if certificates is None:
                port = self._server.add_insecure_port(address)
            else:
                port = self._server.add_secure_port(address, certificates.credentials())
        except RuntimeError as error:
            raise not_bound(address, error) from None
        return f"{'tls://' if certificates else ''}{address.rpartition(':')[0]}:{port}"

    async def _tell_health(self) -> None:
        """Keep grpc.health.v1 true, part by part."""
        serving = health_pb2.HealthCheckResponse.SERVING
        waiting = health_pb2.HealthCheckResponse.NOT_SERVING
        with self._backend.watching_readiness() as watcher, contextlib.suppress(asyncio.CancelledError):
            while True:
                for part, serves in self._parts().items():
                    await self._health.set(part, serving if serves else waiting)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(watcher.ready.wait(), _HEALTH_INTERVAL)
                watcher.check()
                await self._look_after_place()

    def _parts(self) -> dict[str, bool]:
        """Which parts serve: the node as soon as it answers, the others when it is ready.

        Gossip and the DHT do where no peer is there yet, as on the first node; but not where there are peers and none
        of them takes part.
        """
        ready = all(condition.met for condition in self._backend.conditions())
        counted = self._backend.node.statistics()
        alone = not counted.get("peers_ready")
        return {
            "": ready,
            "node": True,
            "gossip": ready and (alone or counted["gossip_peers"] > 0),
            "dht": ready and (alone or counted["dht_peers"] > 0),
        }

    def _method_handler(
        self, service: str, method: schema.Method, implementation: object, gate: Gate
    ) -> "grpc.RpcMethodHandler[Any, Any]":
        """Wrap the implementation's method, whose name is the schema's in snake case."""
        name = re.sub(r"(?<!^)(?=[A-Z])", "_", method.name).lower()
        handler: Handler = getattr(implementation, name)
        if not isinstance(implementation, NodeService):
            handler = self._refusing(handler)
        streaming = method.client_streaming or method.server_streaming
        guarded = gate.guarded(f"{service.rpartition('.')[2]}/{method.name}", handler, streaming=streaming)
        counted = self._backend.calls.of(service, method.name, stream=streaming)
        handler = answered(self._callers.noted(guarded), counted)
        make = {
            (False, False): grpc.unary_unary_rpc_method_handler,
            (False, True): grpc.unary_stream_rpc_method_handler,
            (True, True): grpc.stream_stream_rpc_method_handler,
        }[method.client_streaming, method.server_streaming]
        return make(handler, request_deserializer=method.parse, response_serializer=schema.serialize)

    def _refusing(self, handler: Handler) -> Handler:
        """Wrap a service's method so that no call begins once the sidecar drains."""

        @functools.wraps(handler)
        async def call(request: Any, context: Context) -> Any:
            self._backend.check_accepting()
            return await handler(request, context)

        return call
