"""Plays a scenario: starts nodes, publishes, lets misfortunes happen, and hears what arrives."""

import dataclasses
import random
from array import array
from collections.abc import Callable, Sequence
from typing import Any, cast

from ..core import events, gossip
from ..core.identity import Identity
from ..core.kademlia import keep_decoded
from ..core.kademlia.keyspace import KEY_BITS, place
from ..core.multiaddr import keep_parsed
from ..core.node import Node, NodeNews
from ..core.records import make_peer_record
from ..core.types import PeerId
from ..net.admission import Admission
from ..sim import LinkModel, SimPeer, Simulation
from .hostile import BEHAVIOURS, BareNode, Fellow, HostileNode, Surroundings
from .placed import PlacedNetwork
from .scenario import Event, NodeKind, Publication, Scenario, What
from .tally import Message, Tally

_NUMBER = 8  # bytes at the beginning of a message, by which it is known
_MANY = 1000  # nodes with more peers than caches hold that are made for one node
_NEARER = 2  # bits by which who is near to a victim is nearer than the nearest of all others, as a rule
_SLICE = 0.25  # virtual seconds between two looks at whoever wants to see progress
_STEPS = 20_000  # of the clock, a second's work or two: after so many there is a look before that

Progress = Callable[[float], None]
"""Told the virtual seconds that are over."""


class Play:
    """One run of a scenario. Equal seeds give equal runs, whatever PYTHONHASHSEED is."""

    def __init__(self, scenario: Scenario, seed: int | None = None) -> None:
        """`seed`: in place of the scenario's."""
        self.scenario = scenario
        self.seed = scenario.seed if seed is None else seed
        self.tally = Tally()
        self.simulation = Simulation(self.seed, self._links(), keep_news=False)
        if scenario.nodes > _MANY:
            keep_parsed(2 * scenario.nodes)
            keep_decoded(2 * scenario.nodes)
        self.kinds: list[NodeKind] = []
        """Of each peer, in the order of `Simulation.peers`."""
        self._indices: dict[PeerId, int] = {}
        self._contacts: dict[str, Sequence[Fellow]] = {}
        self._region: list[int] = []
        self._since: list[float | None] = []  # when each started; None: it is down
        self.deaths = 0
        """How often a node has died."""
        self._rng = random.Random(f"{self.seed}/play")
        self._add_nodes()
        for number, publication in enumerate(scenario.publications):
            self._plan(number, publication)
        for event in scenario.events:
            self._at(event.at, lambda event=event: self._happen(event))  # type: ignore[misc]

    def run(self, progress: Progress = lambda over: None) -> None:
        """Play it to its end, or until `stop`."""
        clock, duration = self.simulation.clock, self.scenario.duration
        while clock.now < duration and not clock.stopped:
            clock.run_until(min(clock.now + _SLICE, duration), _STEPS)
            progress(clock.now)
        for kind, since in zip(self.kinds, self._since, strict=True):
            if since is not None and kind.hostility is None:
                self.tally.up_seconds += clock.now - since

    def stop(self) -> None:
        """Have `run` return between two steps; what was heard until then stays."""
        self.simulation.clock.stopped = True

    @property
    def peers(self) -> list[SimPeer]:
        """All nodes, by index."""
        return self.simulation.peers

    @property
    def honest(self) -> list[SimPeer]:
        """Those that are not hostile: what nodes count is counted of these alone."""
        return [peer for peer, kind in zip(self.peers, self.kinds, strict=True) if kind.hostility is None]

    def still_there(self, peer: int, at: float) -> bool:
        """Whether a node has been up all the time since the moment `at`."""
        since = self._since[peer - 1]
        return since is not None and since <= at

    # ------------------------------------------------------------ building

    def _links(self) -> LinkModel:
        network = self.scenario.network
        if not network.regions:
            return network.model

        def between(rng: random.Random, one: int, other: int) -> float:
            trip = network.round_trips[self._region[one - 1]][self._region[other - 1]]
            return max(0.0001, trip / 2 * (1 + rng.uniform(-network.spread, network.spread)))

        least = min(min(row) for row in network.round_trips) / 2
        return dataclasses.replace(network.model, between=between, latency=(least, least))

    def _add_nodes(self) -> None:
        simulation = self.simulation
        starts: list[float] = []
        hosts = 0  # public addresses that are taken
        for kind in self.scenario.kinds:
            for number in range(kind.count):
                host = _public_address(hosts + number % kind.hosts) if kind.hosts else None
                peer = simulation.add(kind.config, start=False, host=host, identity=self._identity(kind, number))
                if kind.hostility is None:
                    peer.listener = self._hears(peer.index)
                    peer.admission = Admission(kind.bounds, 0.0)
                self._indices[peer.identity.peer_id] = peer.index
                self._set_clock(peer, kind)
                self.kinds.append(kind)
                self._region.append(kind.regions[number % len(kind.regions)] if kind.regions else 0)
                self._since.append(None)
                starts.append(kind.start + kind.over * number / kind.count)
            hosts += kind.hosts
        entrances = simulation.peers[: self.scenario.entrances]
        addresses = tuple(peer.address.with_peer(peer.identity.peer_id) for peer in entrances)
        told = {kind.name: dataclasses.replace(kind.config, bootstrap=addresses) for kind in self.scenario.kinds}
        for peer, kind in zip(simulation.peers, self.kinds, strict=True):
            peer.config = told[kind.name]
        for peer, own in zip(entrances, addresses, strict=True):
            others = tuple(address for address in addresses if address is not own)
            peer.config = dataclasses.replace(peer.config, bootstrap=others)
        for peer, kind in zip(simulation.peers, self.kinds, strict=True):
            if kind.hostility is not None:
                peer.make = self._hostile(peer, kind)
        for peer, at in zip(simulation.peers, starts, strict=True):
            if not (self.scenario.warm and self.kinds[peer.index - 1].is_placed):
                self._at(at, lambda peer=peer: self._start(peer))  # type: ignore[misc]
        if self.scenario.warm:
            self._at(0.0, self._place)

    def _set_clock(self, peer: SimPeer, kind: NodeKind) -> None:
        rng = random.Random(f"{self.seed}/clock/{peer.index}")
        peer.wall_ns += int(rng.uniform(-kind.clock_offset, kind.clock_offset) * 1e9)
        peer.pace = 1.0 + rng.uniform(-kind.clock_drift, kind.clock_drift)

    def _identity(self, kind: NodeKind, number: int) -> Identity | None:
        """The key of a node whose id is to be near to that of a victim; None: any will do."""
        near = None if kind.hostility is None else BEHAVIOURS[kind.hostility.behaviour].near
        if kind.hostility is None or near is None:
            return None
        victims = self._of(kind.hostility.options[near])
        victim = place(victims[number % len(victims)].identity.peer_id)
        apart = KEY_BITS - self.scenario.nodes.bit_length() - _NEARER
        rng = random.Random(f"{self.seed}/near/{kind.name}/{number}")
        while True:
            identity = Identity(rng.randbytes(32))
            if (place(identity.peer_id) ^ victim) >> apart == 0:
                return identity

    def contacts(self, kind: str) -> Sequence[Fellow]:
        """The nodes of a kind, as others can name them."""
        if kind not in self._contacts:
            self._contacts[kind] = [
                Fellow(
                    peer.identity.peer_id,
                    (peer.address,),
                    make_peer_record(peer.identity, peer.wall_ns, (peer.address,)),
                )
                for peer in self._of(kind)
            ]
        return self._contacts[kind]

    def _hostile(self, peer: SimPeer, kind: NodeKind) -> Callable[..., Node]:
        """What makes a node that behaves so, at each of its starts."""
        hostility = kind.hostility
        assert hostility is not None
        rng = random.Random(f"{self.seed}/hostile/{peer.index}")
        able = [other for other in self._of(hostility.against) if self.kinds[other.index - 1].hostility is None]
        chosen = rng.sample(able, min(hostility.connections, len(able)))
        targets = [(other.identity.peer_id, other.address) for other in chosen]

        def make(*arguments: Any, **named: Any) -> Node:
            around = Surroundings(
                rng=rng,
                begins=self.simulation.clock.now + hostility.after,
                of_kind=lambda name: frozenset(other.identity.peer_id for other in self._of(name)),
                options=hostility.options,
                contacts=lambda name: self.contacts(kind.name if name is None else name),
                config=kind.config,
            )
            behaviour = BEHAVIOURS[hostility.behaviour]
            conduct = behaviour.conduct(around)
            if behaviour.bare:  # the driver calls nothing else of it
                return cast(Node, BareNode(*arguments, conduct=conduct, targets=targets, **named))
            return HostileNode(*arguments, conduct=conduct, targets=targets, **named)

        return make

    def _of(self, kind: str | None) -> list[SimPeer]:
        """The nodes of a kind; None: all."""
        return [peer for peer, own in zip(self.peers, self.kinds, strict=True) if kind in (None, own.name)]

    def _at(self, when: float, action: Callable[[], None]) -> None:
        if when <= self.scenario.duration:
            self.simulation.clock.at(when, action)

    # ------------------------------------------------------------ nodes

    def _start(self, peer: SimPeer, restored: events.MeshRestored | None = None) -> None:
        if peer.alive:
            return
        self._since[peer.index - 1] = self.simulation.clock.now
        peer.start()
        if restored is not None:
            peer.feed(restored)
        for topic in self.kinds[peer.index - 1].topics:
            keep = peer.config.history.keeps(topic)
            if keep and peer.history is not None:  # what it had before it was killed is not new to its apps
                peer.feed(gossip.HistorySeen(topic, peer.history.seen(topic)))
            peer.feed(gossip.TopicJoined(topic, gossip.TopicOptions(keep=keep)))

    def _place(self) -> None:
        """Start the nodes that have joined long ago, and open their connections."""
        placed = [peer for peer, kind in zip(self.peers, self.kinds, strict=True) if kind.is_placed]
        network = PlacedNetwork(placed, random.Random(f"{self.seed}/placed"))
        for peer in placed:
            self._start(peer, network.restored(peer))
        for dialler, target in network.links:
            self.simulation.connect(dialler, target)

    def _kill(self, peer: SimPeer) -> None:
        since = self._since[peer.index - 1]
        if since is None:
            return
        if self.kinds[peer.index - 1].hostility is None:
            self.tally.dies(peer, self.simulation.clock.now - since)
        self._since[peer.index - 1] = None
        self.deaths += 1
        self.simulation.kill(peer)

    def _up(self, kind: str | None) -> list[SimPeer]:
        named = zip(self.peers, self.kinds, strict=True)
        return [peer for peer, own in named if peer.alive and kind in (None, own.name)]

    # ------------------------------------------------------------ messages

    def _plan(self, number: int, publication: Publication) -> None:
        able = [
            peer
            for peer, own in zip(self.peers, self.kinds, strict=True)
            if own.hostility is None
            and (publication.kind == own.name if publication.kind else publication.topic in own.topics)
        ]
        chosen = self._rng.sample(able, publication.publishers)
        for message in range(publication.count):
            at = publication.start + message / publication.rate
            self._at(at, lambda message=message: self._publish(number, publication, chosen, message))  # type: ignore[misc]

    def _publish(self, number: int, publication: Publication, chosen: list[SimPeer], turn: int) -> None:
        tally, clock = self.tally, self.simulation.clock
        if tally.before is None:
            tally.before = tally.counts(self.honest)
        up = [peer for peer in chosen if peer.alive]
        if not up:
            tally.unpublished += 1
            return
        publisher = up[turn % len(up)]
        owed = array("L")
        for peer, kind, since in zip(self.peers, self.kinds, self._since, strict=True):
            if since is None or since + self.scenario.settled > clock.now or publication.topic not in kind.topics:
                continue
            if kind.hostility is not None:
                continue
            if peer is not publisher and self.simulation.connected(publisher, peer):
                owed.append(peer.index)
        hops = bytearray(len(self.peers) + 1)
        known = len(tally.messages).to_bytes(_NUMBER, "big")
        tally.messages.append(Message(number, publication.topic, publisher.index, clock.now, owed, hops))
        data = known + bytes(publication.size - _NUMBER)
        publisher.ask(lambda op: gossip.Published(op, publication.topic, [data]))

    def _hears(self, index: int) -> Callable[[NodeNews], None]:
        messages, clock, indices = self.tally.messages, self.simulation.clock, self._indices

        def listener(news: NodeNews) -> None:
            if isinstance(news, gossip.MessagesDelivered):
                for delivered in news.messages:
                    message = messages[int.from_bytes(delivered.data[:_NUMBER], "big")]
                    if index != message.publisher:
                        message.arrives(index, indices[delivered.received_from], clock.now - message.at)

        return listener

    # ------------------------------------------------------------ misfortunes

    def _happen(self, event: Event) -> None:
        match event.what:
            case What.KILL:
                up = self._up(event.kind)
                count = min(event.count or round(event.share * len(up)), len(up))
                for peer in self._rng.sample(up, count):
                    self._kill(peer)
            case What.RESTART:
                for peer, kind in zip(self.peers, self.kinds, strict=True):
                    if kind.start + kind.over <= self.simulation.clock.now:
                        self._start(peer)
            case What.PARTITION:
                self._part(event.shares)
            case What.HEAL:
                self.simulation.heal()
            case What.CHURN:
                for number in range(int(event.lasts * event.rate)):
                    self._at(event.at + number / event.rate, lambda: self._leave_for(event))

    def _part(self, shares: tuple[float, ...]) -> None:
        peers = self._rng.sample(self.peers, len(self.peers))
        ends = [round(sum(shares[: number + 1]) * len(peers)) for number in range(len(shares))]
        self.simulation.partition(
            [peers[start:end] for start, end in zip([0, *ends], [*ends[:-1], len(peers)], strict=False)]
        )

    def _leave_for(self, event: Event) -> None:
        """One node vanishes, and comes back."""
        up = self._up(event.kind)
        if up:
            peer = self._rng.choice(up)
            self._kill(peer)
            self._at(self.simulation.clock.now + event.away, lambda: self._start(peer))


def _public_address(number: int) -> str:
    """One of 65,536 public IP addresses, each in a /24 of its own."""
    return f"11.{number >> 8 & 255}.{number & 255}.1"
