"""One sidecar: builds every part, and owns start and shutdown."""

import asyncio
import contextlib
import logging
import random
import stat
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from . import __version__
from .api.backend import Backend
from .api.guard.tokens import TOKENS_FILE
from .api.server.server import ApiServer
from .config import Loaded, adopted, changed, describe, state_directory
from .config.schema import value
from .core.events import AddressesChanged, Condition, GateConfigured, Note, PeersLearned, ReadinessChanged
from .core.gate import Gate
from .core.gossip import TopicLeft
from .core.multiaddr import Multiaddr
from .core.node import ConfigurationChanged, Node
from .core.types import PeerId
from .net.addresses import PlaceTried
from .net.runtime import Runtime
from .observe.lag import LoopLag
from .observe.observer import Observer
from .process.audit import AUDIT_FILE, Audit
from .process.logs import log
from .process.spans import open_tracer
from .settings import api_config, check_addresses, gate_lists, net_config, node_config, transports
from .store.bans import BanStore
from .store.directory import StateDirectory
from .store.peer_memory import PeerMemory
from .trace import VERSION as TRACE_VERSION
from .trace import TracedNode, TraceFile

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


class App:
    """A sidecar on the running event loop: `start`, then `stop`."""

    def __init__(self, loaded: Loaded, environ: Mapping[str, str]) -> None:
        self._config = config = loaded.config
        self._origins = loaded.origins
        self._state_path = state_directory(config, environ)
        self.audit = Audit(config.audit.file or self._state_path / AUDIT_FILE, config.audit.limit)
        self._parts = contextlib.AsyncExitStack()  # what has been started, to end in reverse order
        self._node: Node | None = None
        self._backend: Backend | None = None
        self._runtime: Runtime
        self._listening: tuple[Multiaddr, ...] = ()
        self._memory: PeerMemory | None = None
        self._changed = asyncio.Event()  # readiness
        self._left = False  # meshes, on the way to the end
        self._told: list[str] | None = None  # the conditions that the log says are not met

    async def start(self) -> Started:
        """Build and start everything; when something refuses, what has been started ends again.

        Only this machine can refuse: raises StateLocked, IdentityError, StorageError, AddressInUse, ConfigError. Peers
        that do not answer are a matter of readiness.
        """
        async with contextlib.AsyncExitStack() as parts:
            started = await self._start(parts)
            self._parts = parts.pop_all()
        return started

    async def _start(self, parts: contextlib.AsyncExitStack) -> Started:
        config = self._config
        carried = transports(config)
        state = parts.enter_context(StateDirectory.open(self._state_path))
        mode = stat.S_IMODE(self._state_path.stat().st_mode)
        if mode & 0o077:
            _log.warning(
                "the state directory %s is open to others (mode %04o), who could take the key: chmod 700 %s",
                self._state_path,
                mode,
                self._state_path,
            )
        self.audit.check()
        identity = state.identity(config.state.identity_file)
        self._doubt(check_addresses(config, identity))
        self._memory = PeerMemory(state, config.state.max_peers)
        parts.callback(self._memory.close)

        now, wall_ns = time.monotonic(), time.time_ns()
        bans = parts.enter_context(contextlib.closing(state.open_bans(wall_ns / 1e9)))
        gate = self._gate(bans, wall_ns / 1e9)
        known = tuple(entry for entry in self._memory.known() if not gate.refuses_peer(entry[0]))
        settings = node_config(config, AGENT, known)
        trace = self._trace_file(parts)
        sequence = state.sequence(wall_ns)
        self._node = node = Node(
            settings, identity, now=now, wall_ns=wall_ns, rng=random.Random(), sequence=sequence, gate=gate
        )
        net, places = net_config(config), self._memory.places()
        if trace is None:
            runtime = Runtime(node, identity, net, self._on_effect, transports=carried, gate=gate, places=places)
        else:
            about = {"version": TRACE_VERSION, "peer": str(node.peer_id), "network": node.network, "agent": AGENT}
            trace.write("trace", now, **about, wall_ns=wall_ns, protocols=list(node.protocols()))
            traced = TracedNode(node, trace)
            observe = traced.observe_upgrade
            runtime = Runtime(
                traced,
                identity,
                net,
                self._on_effect,
                transports=carried,
                observe_upgrade=observe,
                gate=gate,
                places=places,
            )
        lag = LoopLag(also=log.tick)
        lag.start()
        parts.callback(lag.stop)
        observer = self._observer(parts)
        tracer = open_tracer(
            config.tracing.endpoint,
            config.tracing.sample,
            peer_id=str(node.peer_id),
            version=__version__,
            network=node.network,
        )
        parts.push_async_callback(tracer.close, _LAST_SPANS)
        parts.callback(lambda: state.note_left() if self._left else None)
        parts.push_async_callback(runtime.close, config.timeouts.shutdown / 2)
        api_settings = api_config(config)
        if api_settings.tokens is None:
            api_settings = replace(api_settings, tokens=self._state_path / TOKENS_FILE)
        self._backend = Backend(
            node,
            runtime.feed,
            api_settings,
            agent=AGENT,
            driver_statistics=lambda: runtime.statistics().flat(),
            driver_histograms=lambda: {"event_loop_lag_seconds": lag.delays},
            audit=self.audit,
            log=log,
            tracer=tracer,
            bans=bans,
            settings=lambda: describe.settings(Loaded(self._config, self._origins)),
        )
        self._backend.gatekeeper.start()
        parts.callback(self._backend.gatekeeper.close)
        metrics = await observer.start(self._backend) if observer is not None else None

        if carried.psk is not None:
            _log.info("private network: only peers with the key in %s can connect", config.network.psk_file)
        parts.callback(self._say_goodbye, runtime)
        await self._sit_out(state.left_ago(time.time()))
        self._runtime = runtime
        self._listening = listening = await runtime.listen(config.listen.addresses)
        server = ApiServer(self._backend, api_settings)
        await server.start()
        parts.push_async_callback(server.stop)
        # Only now does the node look for peers: an app that waits for readiness can watch it come.
        runtime.feed(AddressesChanged(listening, config.listen.announce))
        self.audit.record(
            "node.started",
            "node",
            peer_id=str(node.peer_id),
            version=__version__,
            configuration=describe.chosen(config),
        )
        return Started(
            node.peer_id,
            node.network,
            config.listen.announce or listening,
            server.target,
            server.tcp,
            metrics,
            self._state_path,
            trace.file if trace is not None else None,
        )

    def _observer(self, parts: contextlib.AsyncExitStack) -> Observer | None:
        """What serves metrics and probes, if it is asked for; it ends after the drain, so that this can be watched."""
        metrics = self._config.metrics
        if not metrics.listen:
            return None
        observer = Observer(metrics.listen, metrics.topics)
        parts.push_async_callback(observer.stop)
        return observer

    def _gate(self, bans: BanStore, wall: float) -> Gate:
        """Who may connect, by the configuration and by what was decided in earlier runs. Raises StorageError."""
        config = self._config
        kept, protected = bans.load()
        gate = Gate(gate_lists(config), kept, protected, wall=wall, max_bans=config.gate.max_bans)
        for address in config.bootstrap.peers:
            if address.peer_id is not None and gate.refuses_peer(address.peer_id):
                _log.warning("a bootstrap peer is of no use: %s", gate.still_refuses(address.peer_id))
        if gate.size:
            _log.info("bans in force: %d", gate.size)
        return gate

    def _trace_file(self, parts: contextlib.AsyncExitStack) -> TraceFile | None:
        """The trace of the wire, if one is asked for. Raises StorageError."""
        file = self._config.log.trace_wire
        if file is None:
            return None
        trace = TraceFile(file, self._config.log.trace_limit, asyncio.get_running_loop().call_soon)
        parts.callback(trace.close)
        _log.warning(
            "tracing the wire: every message of every peer and app is written DECRYPTED to %s, at most %d bytes of it",
            file,
            self._config.log.trace_limit,
        )
        return trace

    async def stop(self) -> None:
        """End in order and within `timeouts.shutdown`: calls are answered, peers are told and kept in mind."""
        await self._parts.aclose()

    def reload(self, loaded: Loaded) -> Reloaded:
        """Put those of a new configuration's changes into force that can be while the node runs.

        Raises ConfigError where it cannot be right at this node; nothing is changed then.
        """
        assert self._node is not None, "not started"
        config = loaded.config
        doubts = check_addresses(config, self._node.identity)
        entries = changed(self._config, config)
        waiting = {entry.full_name for entry in entries if not entry.live}
        # What waits for a restart keeps the value, and so the origin, that it has.
        kept = {name: origin for name, origin in self._origins.items() if name in waiting}
        self._origins = kept | {name: origin for name, origin in loaded.origins.items() if name not in waiting}
        live = [entry for entry in entries if entry.live]
        self._config = config = adopted(self._config, config, live)
        names = [entry.full_name for entry in live]
        if "listen.announce" in names or "bootstrap.peers" in names:
            self._doubt(doubts)
        if any(name.startswith("log.") for name in names):
            log.configure(config.log.level, config.log.format, parts=config.log.levels)
        if any(name.startswith(("bootstrap.", "peers.", "limits.")) for name in names):
            self._runtime.feed(ConfigurationChanged(node_config(config, AGENT, self._node.config.known_peers)))
        if any(name.startswith("gate.") for name in names):
            self._runtime.feed(GateConfigured(gate_lists(config)))
        if "listen.announce" in names:
            self._runtime.feed(AddressesChanged(self._listening, config.listen.announce))
        if live:
            after = {entry.full_name: describe.json_value(value(config, entry)) for entry in live}
            self.audit.record("configuration.changed", "signal:SIGHUP", changed=after)
        return Reloaded(names, [entry.full_name for entry in entries if not entry.live])

    def _doubt(self, doubts: list[str]) -> None:
        for doubt in doubts:
            _log.warning("%s", doubt)

    async def _sit_out(self, left_ago: float | None) -> None:
        """Wait until the peers that this node said goodbye to a moment ago would have it back."""
        pause = _RETURN_BACKOFF + _ON_THE_WAY - left_ago if left_ago is not None and left_ago >= 0 else 0.0
        if pause > 0:
            _log.info("back at once: %.1f s until the peers' back-off has passed", pause)
            await asyncio.sleep(pause)

    def _say_goodbye(self, runtime: Runtime) -> None:
        """Leave every topic, so that the meshes close the gap now; the go-away to each peer follows."""
        assert self._node is not None, "made before this is called for"
        for view in self._node.topics():
            if view.joined:
                runtime.feed(TopicLeft(view.topic, _RETURN_BACKOFF))
                self._left = self._left or bool(view.mesh)

    async def ready(self) -> None:
        """Wait until every condition of readiness is met."""
        while self.unmet():
            self._changed.clear()
            await self._changed.wait()

    def unmet(self) -> list[Condition]:
        """The conditions of readiness that are not met."""
        assert self._node is not None, "not started"
        return [condition for condition in self._node.conditions() if not condition.met]

    def _on_effect(self, effect: object) -> None:
        """News from the node goes to the API, the log, or the memory."""
        assert self._backend is not None
        taken = self._backend.on_effect(effect)
        if isinstance(effect, ReadinessChanged):
            self._readiness_changed()
        elif isinstance(effect, Note):
            if effect.peer is None:
                _node_log.log(effect.level, effect.text, *effect.arguments)
            else:
                about = {"fields": {"peer": str(effect.peer)}}
                _node_log.log(effect.level, "[%s] " + effect.text, effect.peer.short(), *effect.arguments, extra=about)
        elif isinstance(effect, PeersLearned):
            assert self._memory is not None
            self._memory.learned(effect)
        elif isinstance(effect, PlaceTried):
            assert self._memory is not None
            self._memory.tried(effect.place, effect.failed)
        elif not taken:
            _log.debug("news that nobody needs: %s", effect)

    def _readiness_changed(self) -> None:
        unmet = self.unmet()
        if [condition.type for condition in unmet] != self._told:
            self._told = [condition.type for condition in unmet]
            for condition in unmet:
                _log.warning("not ready: %s: %s", condition.type, condition.message)
            if not unmet:
                _log.info("ready")
        self._changed.set()
