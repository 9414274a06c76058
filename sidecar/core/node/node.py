"""The node machine: joins the protocols on one set of connections.

Values go in (`NodeInput`), effects come out (`NodeEffect`). It owns no socket, clock or entropy; `sidecar.net` runs it
on real ones, `sidecar.sim` on virtual time. What it does is done by its services (`services.py`).
"""

import random
from collections.abc import Callable, Sequence
from math import inf
from typing import Any

from .. import autonat, events, gossip, kademlia
from ..buffer import Buffers
from ..classes import NamedTuple
from ..events import PeerView
from ..gate import Gate
from ..histogram import Histogram
from ..history import HistoryView
from ..identity import Identity
from ..multiaddr import Multiaddr
from ..parameters import NodeConfig
from ..records import OpenRecord, open_peer_record
from ..types import PeerId
from .machine import NodeEffect, NodeInput
from .reachability import NOT_MAPPED
from .service import Follower, Service
from .services import Services
from .statistics import NodeStatistics

Taker = Callable[[Any, float], None]


class NodeAddresses(NamedTuple):
    """A node's own addresses. `verdicts`: of those that others were asked to dial; `mapping`: what the gateway does."""

    listening: tuple[Multiaddr, ...]
    announced: tuple[Multiaddr, ...]
    observed: tuple[Multiaddr, ...]
    relayed: tuple[Multiaddr, ...]
    verdict: autonat.Reachability = autonat.Reachability.UNKNOWN
    verdicts: tuple[autonat.AddressVerdict, ...] = ()
    mapping: events.PortsMapped = NOT_MAPPED


class Participation(NamedTuple):
    """Identified peers, and how many of them take part in gossip and in the DHT."""

    peers: int
    gossip: int
    dht: int


class Node:
    """One node of the mesh.

    `now` is monotonic seconds, `wall_ns` nanoseconds of the wall clock. `sequence`: the numbers of messages, peer
    records and signed values begin above it; they have to be above those of every run before, or peers take what is
    new for old. None: above `wall_ns`, which does only where the clock is never set back. `gate` says who may connect;
    the driver asks the same one. `verify` checks the signatures of gossip,
    `open_record` those of peer records.
    """

    def __init__(
        self,
        config: NodeConfig,
        identity: Identity,
        *,
        now: float,
        wall_ns: int,
        rng: random.Random,
        sequence: int | None = None,
        gate: Gate | None = None,
        verify: gossip.Verify = gossip.verify_batch,
        open_record: OpenRecord = open_peer_record,
    ) -> None:
        sequence = wall_ns if sequence is None else sequence
        self.gate = gate = Gate() if gate is None else gate
        self.identity = identity
        self._services = services = Services(config, identity, gate, rng, now, wall_ns, sequence, verify, open_record)
        self._turn = services.turn
        self._takers = _takers(services.every)
        self._timed = [service for service in services.every if service.keeps_time]

    # ------------------------------------------------------------ the machine

    def handle(self, arrived: NodeInput, now: float) -> Sequence[NodeEffect]:
        """Take one input; returns what to do. Raises what the input's own description names (a caller's misuse)."""
        taker = self._takers.get(type(arrived))
        if taker is None:
            raise TypeError(f"not an input of the node: {type(arrived).__name__}")
        taker(arrived, now)
        return self._end_turn(now)

    def handle_deadline(self, now: float) -> Sequence[NodeEffect]:
        """Do what is due."""
        self._turn.deadlines.run(now)
        for service in self._timed:
            if service.due <= now:
                service.handle_deadline(now)
        return self._end_turn(now)

    def next_deadline(self) -> float | None:
        """When `handle_deadline` wants to be called, in monotonic seconds; None: not before the next input."""
        first = self._turn.deadlines.next()
        # Asked after every read and write: `min` over a generator took three times as long.
        for service in self._timed:
            due = service.due
            if due != inf and (first is None or due < first):
                first = due
        return first

    def take(self, stream: int, limit: int) -> Buffers:
        """Bytes for a stream, at most `limit`; nothing when there are none now. See `drain`."""
        return self._services.switch.take(stream, limit)

    def waits(self, stream: int) -> bool:
        """Whether `take` may have more for a stream; False where it surely has none."""
        return self._services.switch.waits(stream)

    def drain(self, now: float) -> Sequence[NodeEffect]:
        """What came of bytes being taken; to be called after a round of `take`."""
        return self._end_turn(now) if self._turn.inbox or self._turn.effects else ()

    def accepts(self, protocol: str) -> bool:
        """Whether inbound streams of a protocol are answered."""
        return protocol in self._services.switch.handlers

    def new_op(self) -> int:
        """A number for an operation of an app."""
        return self._services.operations.new()

    def _end_turn(self, now: float) -> list[NodeEffect]:
        """Do what services have put off until nothing is left."""
        turn = self._turn
        inbox = turn.inbox
        while inbox:
            inbox.popleft()(now)
        effects, turn.effects = turn.effects, []
        return effects

    # ------------------------------------------------------------ views

    @property
    def config(self) -> NodeConfig:
        """As it is in force."""
        return self._services.switch.config

    @property
    def peer_id(self) -> PeerId:
        """Who this node is."""
        return self._services.switch.local

    @property
    def network(self) -> str:
        """The name of the network that it belongs to."""
        return self.config.network

    def addresses(self) -> NodeAddresses:
        """Where this node listens, what it announces, as what others see and reach it, and its places at relays."""
        services = self._services
        observed = tuple(address for address, _ in services.identify.observed.most_common())
        reachability = services.reachability
        return NodeAddresses(
            services.switch.listening,
            services.switch.told,
            observed,
            services.switch.relayed,
            reachability.verdict,
            reachability.verdicts(),
            reachability.mapping,
        )

    def protocols(self) -> tuple[str, ...]:
        """The protocol ids that inbound streams are answered for."""
        return tuple(self._services.switch.handlers)

    def peers(self, *, known: bool = False) -> list[PeerView]:
        """Connected peers; with `known` all of the address book and those protected as well."""
        ids = dict.fromkeys(self._services.switch.peers)
        if known:
            ids.update(dict.fromkeys((*self._services.switch.book.peers(), *self.gate.protected())))
        return [self._services.dialling.view(peer) for peer in ids]

    def peer(self, peer: PeerId) -> PeerView | None:
        """What is known of a peer, or None when nothing is."""
        services = self._services
        if peer in services.switch.peers or peer in services.switch.book or peer in self.gate.protected():
            return self._services.dialling.view(peer, in_full=True)
        return None

    def topics(self) -> list[gossip.TopicView]:
        """The topics that are joined here, or that a connected peer announced."""
        return self._services.gossip.router.topics()

    def history(self) -> list[HistoryView]:
        """How getting what is missing of topics with history stands."""
        return self._services.history.views(self._services.epoch)

    def routing_table(self) -> list[kademlia.BucketView]:
        """The buckets of the DHT's routing table, the farthest one first."""
        return self._services.kademlia.router.buckets()

    def rules(self) -> list[gossip.RuleView]:
        """The rules that topics' messages are judged by here."""
        return self._services.gossip.router.rules()

    def histograms(self) -> dict[str, Histogram]:
        """What is counted by size, by name; to be read only. See `Histogram` in the schema for what they mean."""
        propagation, kademlia = self._services.gossip.router.propagation(), self._services.kademlia.router
        return {
            "gossip_propagation_seconds": propagation.delays,
            "gossip_echo_seconds": propagation.echoes,
            "gossip_probe_seconds": self._services.probe.delays,
            "dht_lookup_duration_seconds": kademlia.durations(),
            "dht_lookup_hops": kademlia.hops(),
            "dht_lookup_queries": kademlia.queries(),
        }

    def participation(self) -> Participation:
        """With how many peers it does what; costs little, unlike `statistics`."""
        services = self._services
        ready = sum(peer.ready for peer in services.switch.peers.values())
        return Participation(ready, services.gossip.peers, services.kademlia.router.size)

    def conditions(self) -> tuple[events.Condition, ...]:
        """The conditions of readiness; the node is ready when all are met."""
        return self._services.readiness.conditions()

    def statistics(self) -> NodeStatistics:
        """Counters since the start and sizes as they are."""
        services = self._services
        gossip, queues = services.gossip.statistics()
        return NodeStatistics(
            switch=services.switch.statistics(),
            identify=services.identify.statistics(),
            unity=services.unity.statistics(),
            dial_budget=services.dialling.statistics(),
            reachability=services.reachability.statistics(),
            dial_back=services.dial_back.statistics(),
            operations=services.operations.statistics(),
            connection_manager=services.connection_manager.statistics(),
            work=services.workload.statistics(),
            gate=services.gate.statistics(),
            gossip=gossip,
            gossip_queues=queues,
            kademlia=services.kademlia.router.statistics(),
            rendezvous=services.rendezvous.statistics(),
            direct=services.direct.statistics(),
            durable=services.durable.statistics(),
            history=services.history.statistics(),
            streams=services.streams.statistics(),
            probe=services.probe.statistics(),
            circuits=services.circuits.statistics(),
            relay=services.relay_server.statistics(),
            punch=services.hole_punching.statistics(),
        )


def _takers(services: Sequence[Service[Any]]) -> dict[type, Taker]:
    """Who takes which input: its own service, and then those that follow it."""
    takers: dict[type, Taker] = {}
    for service in services:
        for kind in service.inputs:
            assert kind not in takers, f"{kind.__name__} belongs to two services"
            takers[kind] = service.handle
    for kind in takers:
        followers = [each.followed for each in services if isinstance(each, Follower) and kind in each.follows]
        if followers:
            takers[kind] = _followed(takers[kind], followers)
    return takers


def _followed(own: Taker, followers: Sequence[Taker]) -> Taker:
    def take(arrived: Any, now: float) -> None:
        own(arrived, now)
        for follower in followers:
            follower(arrived, now)

    return take
