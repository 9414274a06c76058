"""One sidecar: builds every part, and owns start and shutdown."""

import asyncio
import logging
import random
import stat
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from . import __version__
from .api.backend import Backend
from .api.guard.tokens import TOKENS_FILE
from .api.mail import Mail
from .api.peers.gatekeeper import Gatekeeper
from .api.pubsub.history import TopicHistory
from .api.server.server import ApiServer
from .config import Loaded, adopted, changed, describe, state_directory
from .config.schema import value
from .configure import (
    api_config,
    check_addresses,
    durable_config,
    gate_lists,
    history_config,
    net_config,
    node_config,
    transports,
)
from .core.classes import NamedTuple
from .core.durable import LoadOutgoing, LoadUnconfirmed, RenewOutgoing, SettleOutgoing, StoreIncoming
from .core.errors import AlreadyExists, ConfigError, ResourceExhausted
from .core.events import (
    AddressesChanged,
    AddressesKnown,
    AnchorsChosen,
    Condition,
    GateConfigured,
    Note,
    PeersLearned,
    ReadinessChanged,
)
from .core.gate import Gate
from .core.gossip import HistoryRepeated, RulesSet, TopicLeft
from .core.history import FindHistoryKeys, LoadHistoryBodies, LoadHistoryKeys
from .core.identity import Identity
from .core.multiaddr import Multiaddr
from .core.node import ConfigurationChanged, Node, NodeNews
from .core.types import PeerId
from .net.dial_history import EndpointTried
from .net.runtime import Runtime
from .net.transports import Transports
from .observe.lag import LoopLag
from .process.audit import AUDIT_FILE, Audit
from .process.logs import log
from .process.parts import Parts
from .process.spans import Tracer, open_tracer
from .store.bans import BanStore
from .store.directory import DURABLE_FILE, HISTORY_FILE, StateDirectory
from .store.directory_watch import DirectoryWatch
from .store.disk_thread import DiskThread
from .store.peer_memory import PeerMemory
from .store.volume import volatile

if TYPE_CHECKING:  # imported only where they are asked for
    from .observe.observer import Observer
    from .trace import TraceFile

AGENT = f"sidecar/{__version__}"
# Seconds for which a node that has said goodbye and its peers do not graft each other: the least that PRUNE can say. A
# GRAFT within them would be refused for a minute, so that a node that is back sooner waits for their end.
_RETURN_BACKOFF = 1
_ON_THE_WAY = 0.2  # seconds that the PRUNE may have been on its way; a guess
_LAST_SPANS = 1.0  # seconds for a collector of traces to take the last ones; a guess

_log = logging.getLogger(__name__)
_node_log = logging.getLogger("sidecar.node")


class Started(NamedTuple):
    """What a person needs to know of a sidecar that has just started."""

    peer_id: PeerId
    network: str
    addresses: tuple[Multiaddr, ...]  # announced if there are such, else listened at
    api: str  # what clients connect to
    api_tcp: str | None
    metrics: str | None  # the URL of the server of metrics and probes, without a path
    state: Path
    trace: Path | None  # the file that decrypted messages are written to


class Reloaded(NamedTuple):
    """What a new configuration changed (`section.key`): what is in force now, and what takes a restart."""

    live: list[str]
    waiting: list[str]


class _Moment(NamedTuple):
    """When the node began, by both clocks."""

    now: float  # monotonic seconds
    wall_ns: int

    @property
    def wall(self) -> float:
        """Seconds since 1970."""
        return self.wall_ns / 1e9


class App:
    """A sidecar on the running event loop: `start`, then `stop`."""

    def __init__(self, loaded: Loaded, environ: Mapping[str, str]) -> None:
        self._config = config = loaded.config
        self._origins = loaded.origins
        self._state_path = state_directory(config, environ)
        self._disk = DiskThread()
        self._audit = Audit(config.audit.file or self._state_path / AUDIT_FILE, config.audit.limit, disk=self._disk)
        self._parts = Parts()
        self._memory: PeerMemory  # this and what follows: from the start on
        self._mail: Mail
        self._history: TopicHistory
        self._node: Node
        self._runtime: Runtime
        self._backend: Backend
        self._listening: tuple[Multiaddr, ...]
        self._changed = asyncio.Event()  # readiness
        self._told: list[str] | None = None  # the conditions that the log says are not met

    # ------------------------------------------------------------ start and stop

    async def start(self) -> Started:
        """Build and start everything; when something refuses, what has been started ends again.

        Only this machine can refuse: raises StateLocked, IdentityError, StorageError, AddressInUse, ConfigError. Peers
        that do not answer are a matter of readiness.
        """
        try:
            return await self._start()
        except BaseException:
            await self._parts.end()
            raise

    async def stop(self) -> None:
        """End in order and within `timeouts.shutdown`: calls are answered, peers are told and kept in mind."""
        await self._parts.end()

    async def _start(self) -> Started:
        """What is kept, the node, its driver, the API: each says at `started` how it ends."""
        config, started = self._config, self._parts.started
        moment = _Moment(time.monotonic(), time.time_ns())
        carried = transports(config)
        state = self._open_state()
        started("disk", self._disk, DiskThread.close)
        identity = state.identity(config.state.identity_file)
        _doubt(check_addresses(config, identity))
        self._memory = started(
            "memory of peers", PeerMemory(state, config.state.max_peers, self._disk), PeerMemory.close
        )
        bans = started("bans", state.open_bans(moment.wall), BanStore.close)
        gate = self._gate(bans, moment)
        self._node = node = self._make_node(identity, gate, state, moment)
        trace = self._open_trace(moment)
        lag = started("watch of the event loop", LoopLag(also=log.tick), LoopLag.stop)
        lag.start()
        observer = self._make_observer()
        tracer = self._open_tracer()
        self._runtime = self._make_runtime(identity, gate, carried, trace)
        self._mail = started("durable messages", self._open_mail(), Mail.close)
        self._history = started("topic history", self._open_history(), TopicHistory.close)
        started("connections", state, self._leave)
        await self._history.start()
        self._backend = backend = self._make_backend(bans, lag, tracer)
        await self._mail.start()
        self._backend.pubsub.topics.begin()
        metrics = await observer.start(backend, self._runtime.statistics) if observer is not None else None
        if carried.psk is not None:
            _log.info("private network: only peers with the key in %s can connect", config.network.psk_file)
        await self._sit_out(state.left_ago(time.time()))
        self._listening = listening = await self._runtime.listen(config.listen.addresses)
        server = ApiServer(backend, backend.config)
        await server.start()
        started("API", server, ApiServer.stop)
        # Only now does the node look for peers: an app that waits for readiness can watch it come.
        self._runtime.feed(AddressesChanged(listening, config.listen.announce))
        if config.discovery.mdns:
            self._runtime.discover(config.network.name)
        self._runtime.map_ports()
        about = {"peer_id": str(node.peer_id), "version": __version__, "configuration": describe.chosen(config)}
        self._audit.record("node.started", "node", **about)
        announced = config.listen.announce or listening
        file = trace.file if trace is not None else None
        return Started(
            node.peer_id, node.network, announced, server.target, server.tcp, metrics, self._state_path, file
        )

    def _open_state(self) -> StateDirectory:
        """The state directory, locked, and a look at the audit log, which is in it by default."""
        path = self._state_path
        state = self._parts.started("state directory", StateDirectory.open(path), StateDirectory.close)
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & 0o077:
            _log.warning(
                "the state directory %s is open to others (mode %04o), who could take the key: chmod 700 %s",
                path,
                mode,
                path,
            )
        self._audit.check()
        self._parts.started("watch of the state directory", watch := DirectoryWatch(state), DirectoryWatch.stop)
        watch.start()
        return state

    def _gate(self, bans: BanStore, moment: _Moment) -> Gate:
        """Who may connect, by the configuration and by what was decided in earlier runs."""
        config = self._config
        kept, protected = bans.load()
        gate = Gate(gate_lists(config), kept, protected, wall=moment.wall, max_bans=config.gate.max_bans)
        for address in config.bootstrap.peers:
            if address.peer_id is not None and gate.refuses_peer(address.peer_id):
                _log.warning("a bootstrap peer is of no use: %s", gate.still_refuses(address.peer_id))
        if gate.size:
            _log.info("bans in force: %d", gate.size)
        return gate

    def _make_node(self, identity: Identity, gate: Gate, state: StateDirectory, moment: _Moment) -> Node:
        known = tuple(entry for entry in self._memory.known() if not gate.refuses_peer(entry[0]))
        now, wall_ns = moment
        return Node(
            node_config(self._config, AGENT, known),
            identity,
            now=now,
            wall_ns=wall_ns,
            rng=random.Random(),
            sequence=state.sequence(wall_ns),
            gate=gate,
        )

    def _open_trace(self, moment: _Moment) -> "TraceFile | None":
        """The trace of the wire, if one is asked for."""
        file, limit = self._config.log.trace_wire, self._config.log.trace_limit
        if file is None:
            return None
        from .trace import VERSION, TraceFile

        trace = TraceFile(file, limit, asyncio.get_running_loop().call_soon)
        self._parts.started("trace of the wire", trace, TraceFile.close)
        _log.warning(
            "tracing the wire: every message of every peer and app is written DECRYPTED to %s, at most %d bytes of it",
            file,
            limit,
        )
        node = self._node
        about = {"version": VERSION, "peer": str(node.peer_id), "network": node.network, "agent": AGENT}
        trace.write("trace", moment.now, **about, wall_ns=moment.wall_ns, protocols=list(node.protocols()))
        return trace

    def _make_observer(self) -> "Observer | None":
        """What serves metrics and probes, if it is asked for; it ends after the drain, so that this can be watched."""
        metrics = self._config.metrics
        if not metrics.listen:
            return None
        from .observe.observer import Observer

        return self._parts.started("metrics", Observer(metrics.listen, metrics.topics), Observer.stop)

    def _open_tracer(self) -> Tracer:
        tracing, node = self._config.tracing, self._node
        about = {"peer_id": str(node.peer_id), "version": __version__, "network": node.network}
        tracer = open_tracer(tracing.endpoint, tracing.sample, **about)
        return self._parts.started("spans", tracer, lambda tracer: tracer.close(_LAST_SPANS))

    def _open_mail(self) -> Mail:
        """What keeps durable messages."""
        return Mail(
            self._state_path / DURABLE_FILE,
            durable_config(self._config),
            lambda told: self._runtime.feed(told),
            volatile=volatile(self._state_path),
        )

    def _open_history(self) -> TopicHistory:
        """What keeps topics."""
        return TopicHistory(
            self._state_path / HISTORY_FILE,
            history_config(self._config),
            lambda told: self._runtime.feed(told),
            seen=self._config.gossip.seen_ttl,
        )

    def _make_runtime(self, identity: Identity, gate: Gate, carried: Transports, trace: "TraceFile | None") -> Runtime:
        """The node's driver, with what stands between the two while the wire is traced."""
        traced = None
        if trace is not None:
            from .trace import TracedNode

            traced = TracedNode(self._node, trace)
        return Runtime(
            traced or self._node,
            identity,
            net_config(self._config),
            self._on_news,
            transports=carried,
            observe_upgrade=traced.observe_upgrade if traced is not None else None,
            gate=gate,
            endpoints=self._memory.endpoints(),
            on_endpoint_tried=self._on_endpoint_tried,
        )

    def _make_backend(self, bans: BanStore, lag: LoopLag, tracer: Tracer) -> Backend:
        """What the API's services share."""
        settings, runtime = api_config(self._config), self._runtime
        if settings.tokens is None:
            settings = replace(settings, tokens=self._state_path / TOKENS_FILE)
        backend = Backend(
            self._node,
            runtime.feed,
            settings,
            agent=AGENT,
            driver_statistics=runtime.statistics,
            driver_histograms=lambda: {"event_loop_lag_seconds": lag.delays},
            audit=self._audit,
            log=log,
            tracer=tracer,
            bans=bans,
            disk=self._disk,
            settings=lambda: describe.settings(Loaded(self._config, self._origins)),
            mail=self._mail,
            history=self._history,
        )
        backend.readiness.tell(self._readiness_changed)
        backend.gatekeeper.start()
        self._parts.started("watch of the bans", backend.gatekeeper, Gatekeeper.close)
        return backend

    async def _sit_out(self, left_ago: float | None) -> None:
        """Wait until the peers that this node said goodbye to a moment ago would have it back."""
        pause = _RETURN_BACKOFF + _ON_THE_WAY - left_ago if left_ago is not None and left_ago >= 0 else 0.0
        if pause > 0:
            _log.info("back at once: %.1f s until the peers' back-off has passed", pause)
            await asyncio.sleep(pause)

    async def _leave(self, state: StateDirectory) -> None:
        """Leave every topic, so that the meshes close the gap now, and part from every peer."""
        joined = [view for view in self._node.topics() if view.joined]
        for view in joined:
            self._runtime.feed(TopicLeft(view.topic, _RETURN_BACKOFF))
        await self._runtime.close(self._config.timeouts.shutdown / 2)
        if any(view.mesh for view in joined):
            state.note_left()

    # ------------------------------------------------------------ a new configuration

    def reload(self, loaded: Loaded) -> Reloaded:
        """Put those of a new configuration's changes into force that can be while the node runs.

        Raises ConfigError where it cannot be right at this node; nothing is changed then.
        """
        config = loaded.config
        doubts = check_addresses(config, self._node.identity)
        entries = changed(self._config, config)
        if config.gossip.rules != self._config.gossip.rules:
            try:
                self._runtime.feed(RulesSet(config.gossip.rules.rules, configured=True))
            except (AlreadyExists, ResourceExhausted) as error:
                raise ConfigError(f"{config.gossip.rules}: {error}") from None
        waiting = {entry.full_name for entry in entries if not entry.live}
        # What waits for a restart keeps the value, and so the origin, that it has.
        kept = {name: origin for name, origin in self._origins.items() if name in waiting}
        self._origins = kept | {name: origin for name, origin in loaded.origins.items() if name not in waiting}
        live = [entry for entry in entries if entry.live]
        self._config = config = adopted(self._config, config, live)
        names = [entry.full_name for entry in live]
        if "listen.announce" in names or "bootstrap.peers" in names:
            _doubt(doubts)
        if any(name.startswith("log.") for name in names):
            log.configure(config.log.level, config.log.format, parts=config.log.levels)
        if any(name.startswith(("bootstrap.", "peers.", "limits.")) for name in names):
            self._runtime.feed(ConfigurationChanged(node_config(config, AGENT, self._node.config.known_peers)))
        if any(name.startswith("gate.") for name in names):
            self._runtime.feed(GateConfigured(gate_lists(config)))
        if "listen.announce" in names:
            self._runtime.feed(AddressesChanged(self._listening, config.listen.announce))
        if live:
            after = {entry.full_name: describe.json_value(entry, value(config, entry)) for entry in live}
            self._audit.record("configuration.changed", "signal:SIGHUP", changed=after)
        return Reloaded(names, [entry.full_name for entry in entries if not entry.live])

    # ------------------------------------------------------------ the node's news

    async def ready(self) -> None:
        """Wait until every condition of readiness is met."""
        while self.unmet():
            self._changed.clear()
            await self._changed.wait()

    def unmet(self) -> list[Condition]:
        """The conditions of readiness that are not met."""
        return [condition for condition in self._backend.readiness.conditions() if not condition.met]

    def _on_news(self, news: NodeNews) -> None:
        """News from the node goes to the API, the log, or the memory."""
        match news:
            case Note():
                _write_down(news)
            case PeersLearned():
                self._memory.learned(news)
            case AddressesKnown():
                self._memory.addresses_known(news)
            case AnchorsChosen(peers):
                self._memory.anchored(peers)
            case LoadOutgoing() | SettleOutgoing() | RenewOutgoing() | StoreIncoming() | LoadUnconfirmed():
                self._mail.carry_out(news)
            case HistoryRepeated():
                self._backend.pubsub.topics.repeated(news)
            case LoadHistoryKeys() | FindHistoryKeys() | LoadHistoryBodies():
                self._history.carry_out(news)
            case _:
                self._backend.on_news(news)
                if isinstance(news, ReadinessChanged):
                    self._readiness_changed()

    def _on_endpoint_tried(self, tried: EndpointTried) -> None:
        self._memory.tried(tried.endpoint, tried.failed)

    def _readiness_changed(self) -> None:
        unmet = self.unmet()
        if [condition.type for condition in unmet] != self._told:
            self._told = [condition.type for condition in unmet]
            for condition in unmet:
                _log.warning("not ready: %s: %s", condition.type, condition.message)
            if not unmet:
                _log.info("ready")
        self._changed.set()


def _write_down(note: Note) -> None:
    """What the node says of itself or of a peer, in the log."""
    if note.peer is None:
        _node_log.log(note.level, note.text, *note.arguments)
    else:
        about = {"fields": {"peer": str(note.peer)}}
        _node_log.log(note.level, "[%s] " + note.text, note.peer.short(), *note.arguments, extra=about)


def _doubt(doubts: Iterable[str]) -> None:
    for doubt in doubts:
        _log.warning("%s", doubt)
