"""The API's server: it takes the places, serves the services there, tells their health, and drains at the end."""

import asyncio
import contextlib
import logging

from ...core.beat import next_beat
from ...core.errors import SidecarError
from ..backend import Backend
from ..config import ApiConfig
from ..guard.gate import TokenGate
from ..guard.tokens import TokenFile
from .callers import Callers
from .certificates import Certificates
from .engine import Engine, MakeEngine
from .engines import chosen
from .health import Health
from .methods import served_methods, standard_methods
from .sockets import SocketPlace, default_socket, prepare_default_directory

_HEALTH_INTERVAL = 2.0  # seconds between looks at the parts, beside those that readiness calls for; a guess
_REMEDY = "Let the sidecar's user make a socket there: it is served within seconds, without a restart."
_LAST_WORDS = 0.5  # seconds for streams to end in when the drain has taken all its time; a guess
_log = logging.getLogger("sidecar.api.server")


class ApiServer:
    """Serves the backend. `start` takes the places, `stop` drains in bounded time and gives them back."""

    def __init__(self, backend: Backend, config: ApiConfig) -> None:
        self._backend = backend
        self._config = config
        self._place: SocketPlace | None = None
        self._server: Engine | None = None
        self._health = Health()
        self._health_task: asyncio.Task[None] | None = None
        self.socket = config.socket or default_socket()
        self._callers = Callers()
        self._again: Engine | None = None  # a server at the socket made anew, after it or its directory was deleted
        self._told = ""  # why it cannot be made anew
        self._gate: TokenGate | None = None
        self._make: MakeEngine
        self.engine = ""
        """The name of the engine that serves, once started."""
        self.tcp: str | None = None
        """`host:port` as served, with `tls://` before it where it is, once started."""

    @property
    def target(self) -> str:
        """What clients connect to."""
        return f"unix:{self.socket}"

    async def start(self) -> None:
        """Bind and serve. Raises ConfigError, AddressInUse, and StorageError where the file of tokens is no use."""
        config = self._config
        self.engine, self._make = chosen(config.engine)
        self._backend.node_service.engine = self.engine
        certificates = None
        if config.tls_certificate is not None and config.tls_key is not None:
            certificates = Certificates(config.tls_certificate, config.tls_key, config.tls_client_ca)
        gate = TokenGate(
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
            self._backend.guarded(gate.statistics)
            self._server = self._build(gate)
            self._bind_socket(self._server, self._place)
            if config.tcp is not None:
                port = self._server.bind_tcp(config.tcp, certificates)
                self.tcp = f"{'tls://' if certificates else ''}{config.tcp.rpartition(':')[0]}:{port}"
            await self._server.start()
            self._place.opened()
        except BaseException:
            await self._abandon()
            raise
        self._health_task = asyncio.create_task(self._tell_health(), name="api health")
        _log.info("API at %s%s, engine %s", self.target, f" and {self.tcp}" if self.tcp else "", self.engine)

    async def stop(self) -> None:
        """Drain within the drain time-out: refuse what is new, answer what is under way, then end all streams.

        They end with UNAVAILABLE, after what they hold. What answers about the node itself does so to the end.
        """
        if self._server is None:
            return
        if self._health_task is not None:
            self._health_task.cancel()
        ends = self._backend.now() + self._config.drain_timeout
        self._health.leave()
        await self._backend.drain(self._config.drain_timeout)
        self._backend.close()
        self._health.close()
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
            self._backend.readiness.served(
                f"the API socket {self.socket} is gone and cannot be made anew: {error}", _REMEDY
            )
            return
        self._told, self._place = "", place
        self._backend.readiness.served()
        _log.warning("the API socket %s has been made anew", self.socket)
        before, self._again = self._again, server
        if before is not None:
            await before.stop(0)

    async def _abandon(self, grace: float = 0.0) -> None:
        servers = [server for server in (self._server, self._again) if server is not None]
        self._server = self._again = None
        await asyncio.gather(*(server.stop(grace) for server in servers))
        if self._gate is not None:
            self._gate.close()
        place, self._place = self._place, None
        if place is not None:
            place.release()

    def _build(self, gate: TokenGate) -> Engine:
        backend = self._backend
        methods = served_methods(backend.services, gate, self._callers, backend.calls, backend.lifetime)
        return self._make(methods, standard_methods(self._health, methods), gate, self._config)

    def _bind_socket(self, server: Engine, place: SocketPlace) -> None:
        server.bind_socket(place)
        self._callers.bound(place.drawn_up)

    async def _tell_health(self) -> None:
        """Keep grpc.health.v1 true, part by part."""
        loop = asyncio.get_running_loop()
        with self._backend.readiness.watching() as watcher, contextlib.suppress(asyncio.CancelledError):
            while True:
                self._health.tell(self._parts())
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout_at(next_beat(loop.time(), _HEALTH_INTERVAL)):
                        await watcher.ready.wait()
                watcher.check()
                await self._look_after_place()

    def _parts(self) -> dict[str, bool]:
        """Which parts serve: the node as soon as it answers, the others when it is ready.

        Gossip and the DHT do where no peer is there yet, as on the first node; but not where there are peers and none
        of them takes part.
        """
        ready = self._backend.readiness.ready()
        taking_part = self._backend.node.participation()
        alone = not taking_part.peers
        return {
            "": ready,
            "node": True,
            "gossip": ready and (alone or taking_part.gossip > 0),
            "dht": ready and (alone or taking_part.dht > 0),
        }
