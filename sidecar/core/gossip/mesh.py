"""Who is grafted to whom: subscriptions, GRAFT and PRUNE, back-off, and the mesh's part of the heartbeat."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from ..errors import AlreadyExists, ResourceExhausted
from ..parameters.gossip import EXTENSIONS_PROTOCOLS
from ..types import PeerId
from .dependents import Dependents
from .events import PeersOffered, TopicOptions, TopicPeerChanged, TopicScored
from .exchange import PeerExchange
from .messages import RESUME, RPC, ControlMessage, ControlPrune, encode_extensions, encode_graft, encode_prune
from .state import ENTRY, GossipPeer, GossipState, Silence, Topic

_STAYING = 4  # messages that who is flooded to counts as having brought more, and times more; a guess
_ANSWER = 4.0  # points: a PRUNE with peers and their signed records
_CHANGE = 2.0  # points: a topic more or less, with what has to be said of it
# Heartbeats between two looks for better peers, where most of a mesh gives nothing; as in the evaluation of v1.1.
_OFTEN = 10
# Seconds before its end in which a GRAFT is no misbehaviour: PRUNE tells a back-off in whole ones, and who reckons in
# whole ones, as py-libp2p does, ends it up to one too early.
_EARLY = 1.0
_ON_TIME = 1 / 2  # of a back-off that a peer asked for: after that its GRAFT may be in time by its own clock; a guess


class Mesh:
    """Keeps each joined topic's mesh near `d` peers, and each fanout too.

    Beside these a mesh keeps `dependents`, which have hardly another link: peers that nobody can dial, and those that
    graft anew once the back-off is over with which they were turned away from a full mesh, naming others to them.
    (Who has links enough does not graft.) A node in the middle of many such peers serves them all.

    That a peer needs this is believed at first, and then seen: who was away while messages came has asked for some,
    and who is here brings or asks for some (`trials.py`), as any mesh peer. So many may be believed, and so many be of
    one address and network; and no decision about the others counts dependents.
    """

    def __init__(self, state: GossipState) -> None:
        self._state = state
        self._exchange = PeerExchange(state)
        self._dependents = Dependents(state)
        self._beats = 0

    # ------------------------------------------------------------ peers come and go

    def add_peer(self, peer: GossipPeer) -> None:
        """Tell the new peer what is joined here."""
        self._state.peers[peer.id] = peer
        self.begin(peer)
        for topic in self._state.topics.values():
            if topic.joined:
                self._state.announce((peer,), topic)

    def begin(self, peer: GossipPeer) -> None:
        """Begin a stream to the peer: v1.3 wants what extensions we know in the first RPC of each."""
        if peer.protocol in EXTENSIONS_PROTOCOLS:
            self._state.wake(peer)
            peer.queue.begin(encode_extensions(lazy_links=self._state.config.lazy_links))

    def describe(self, identifier: PeerId, dial_only: bool, hosts: Sequence[str]) -> None:
        """Note whether a peer can be dialled, and where it is. What it has in meshes it keeps until the next beat."""
        peer = self._state.peers.get(identifier)
        if peer is None:
            return
        self._state.scores.moved(peer.record, hosts)
        if peer.dial_only == dial_only:
            return
        peer.dial_only = dial_only
        for topic in peer.topics.values():
            if not dial_only:
                topic.dependents.pop(identifier, None)
            elif identifier in topic.mesh and self._dependents.admits(topic, peer):
                topic.dependents[identifier] = peer

    def remove_peer(self, peer: GossipPeer) -> None:
        """Forget a peer and take it out of every topic; topics that nobody needs any more go too."""
        del self._state.peers[peer.id]
        for topic in list(peer.topics.values()):
            self._forget(peer, topic)
        self._state.scores.gone(peer.record, self._state.now)

    def _forget(self, peer: GossipPeer, topic: Topic) -> None:
        self._unlink(topic, peer)
        if topic.joined and topic.options.keep:
            self._state.emit(TopicPeerChanged(topic.name, peer.id, False))
        for kept in (topic.peers, topic.fanout, topic.newcomers, topic.turned_away, topic.begins, topic.told):
            kept.pop(peer.id, None)
        peer.topics.pop(topic.name, None)
        self._state.candidates_changed = True
        self._state.forget_if_idle(topic)

    def on_subscriptions(self, peer: GossipPeer, subscriptions: Sequence[RPC.SubOpts]) -> Iterator[float]:
        """A peer joined or left topics. Yields after each the work that it was, in points."""
        state = self._state
        for subscription in state.bounded(peer, subscriptions):
            before = len(peer.topics)
            self._on_subscription(peer, subscription)
            points = ENTRY if len(peer.topics) == before else ENTRY + _CHANGE
            state.charge(peer, points)
            yield points

    def _on_subscription(self, peer: GossipPeer, subscription: RPC.SubOpts) -> None:
        state, config = self._state, self._state.config
        if not subscription.subscribe:
            known = state.by_wire.get(subscription.topicid)
            if known is not None and known.name in peer.topics:
                if peer.id in known.mesh:
                    peer.left[known.name] = None
                self._forget(peer, known)
            return
        topic = self._announced(peer, subscription.topicid)
        if topic is None:
            state.statistics.dropped["topic_bound"] += 1
            return
        if subscription.HasField("age_ms"):
            peer.heeds_age = True
            self._begin(peer, topic, subscription.age_ms / 1000)
        # At once rather than at the next heartbeat: what is published meanwhile would miss the new peer.
        links = len(topic.mesh) if peer.dial_only else topic.regular
        if topic.joined and links < config.d_low and self._may_graft(topic, peer):
            self._graft(topic, peer)

    def _announced(self, peer: GossipPeer, wire: bytes) -> Topic | None:
        """The topic that the peer joined, or None when its name cannot be used or the peer has too many."""
        topic = self._state.by_wire.get(wire)
        if topic is None and len(peer.topics) < self._state.config.max_topics_per_peer:
            topic = self._state.announced_topic(wire)
        return topic if topic is not None and self._remember(peer, topic) else None

    def _remember(self, peer: GossipPeer, topic: Topic) -> bool:
        """Note that the peer is in the topic; False when it is in too many."""
        if topic.name not in peer.topics:
            if len(peer.topics) >= self._state.config.max_topics_per_peer:
                return False
            peer.topics[topic.name] = topic
            topic.peers[peer.id] = topic.newcomers[peer.id] = peer
            topic.flooded = None
            self._exchange.joined(topic, peer)
            self._state.candidates_changed = True
            if topic.joined and topic.options.keep:
                self._state.emit(TopicPeerChanged(topic.name, peer.id, True))
        return True

    def _begin(self, peer: GossipPeer, topic: Topic, age: float) -> None:
        """Remember which messages are too old for a peer that joined so many seconds ago."""
        state = self._state
        mark = state.cache.mark(topic.name, state.now - age)
        if state.cache.bounds_gossip(mark):
            topic.begins[peer.id] = mark
        else:
            topic.begins.pop(peer.id, None)

    # ------------------------------------------------------------ joining and leaving

    def join(self, name: str, options: TopicOptions) -> None:
        """JOIN of gossipsub v1.0. Raises as TopicJoined says."""
        state, config = self._state, self._state.config
        topic = state.topic(name)
        if topic.joined:
            if options.sign != topic.options.sign:
                raise AlreadyExists(f"topic {name!r} is joined with sign={topic.options.sign}")
            if options.expected_rate and options != topic.options:
                topic.options = options
                self._expect(topic)
            elif options.keep is not topic.options.keep:
                topic.options = replace(topic.options, keep=options.keep)
            return
        if sum(other.joined for other in state.topics.values()) >= config.max_topics:
            raise ResourceExhausted(f"{config.max_topics} topics are joined already")
        topic.joined, topic.options, topic.joined_at = True, options, state.now
        self._expect(topic)
        state.announce(state.peers.values(), topic)
        chosen = [peer for peer in topic.fanout.values() if self._may_graft(topic, peer)][: config.d]
        topic.fanout = {}
        others = [peer for peer in self._graftable(topic) if peer not in chosen]
        for peer in (*chosen, *self._sample(others, config.d - len(chosen))):
            self._graft(topic, peer)

    def _expect(self, topic: Topic) -> None:
        """Score what peers do in the topic."""
        state = self._state
        parameters = state.scores.expect(topic.name, topic.options.expected_rate)
        topic.judged = parameters.judges_deliveries and state.config.score.enabled
        if parameters is not state.config.score.topic:
            state.emit(TopicScored(topic.name, parameters))

    def leave(self, name: str, backoff: int | None = None) -> None:
        """LEAVE: the mesh is told, and neither side grafts again for a short while."""
        state = self._state
        topic = state.topics.get(name)
        if topic is None or not topic.joined:
            return
        topic.joined = False
        topic.turned_away.clear()
        state.announce(state.peers.values(), topic)
        seconds = state.config.unsubscribe_backoff if backoff is None else backoff
        for peer in list(topic.mesh.values()):
            self._prune(topic, peer, exchange=True, backoff=seconds)

    # ------------------------------------------------------------ control messages

    def on_control(self, peer: GossipPeer, control: ControlMessage) -> Iterator[float]:
        """Serve the GRAFTs and PRUNEs of an RPC. Yields after each the work that it was, in points."""
        excused: set[bytes] = set()
        for graft in self._state.bounded(peer, control.graft):
            points = ENTRY + self._on_graft(peer, graft.topicID, excused)
            self._state.charge(peer, points)
            yield points
        for prune in self._state.bounded(peer, control.prune):
            self._on_prune(peer, prune)
            self._state.charge(peer, ENTRY)
            yield ENTRY

    def _on_graft(self, peer: GossipPeer, wire: bytes, excused: set[bytes]) -> float:
        """Returns the points that an answer counts. `excused`: topics whose GRAFTs in this RPC are nobody's fault."""
        state = self._state
        state.statistics.grafts_received += 1
        topic = state.by_wire.get(wire)
        # v1.1 Spam Protection Measures: GRAFT for an unknown topic is ignored.
        if topic is None or peer.id in topic.mesh:
            return 0.0
        if not topic.joined:
            # It crossed our leaving: to the peer we left its mesh with an unsubscription alone, for which rust-libp2p
            # reckons the whole back-off.
            self._hold(topic.resting, peer, state.config.prune_backoff)
            return 0.0
        # Both sides end a GRAFT within the back-off and extend it (v1.1 PRUNE Backoff), without naming others.
        until = topic.backoff.get(peer.id, 0.0)
        if state.now < until:
            if wire in excused:
                pass
            elif self._is_to_blame(topic, peer):
                # As go-libp2p counts: twice when it comes hard upon the PRUNE.
                soon = state.now < until - state.config.prune_backoff + state.config.score.graft_flood_threshold
                state.penalise(peer, "graft_in_backoff", 2.0 if soon else 1.0)
            else:
                excused.add(wire)
            return self._decline(topic, peer, exchange=False)
        if peer.record.value < 0 or peer.record.idle:
            return self._decline(topic, peer, exchange=False)
        if not self._has_place(topic, peer) and not self._make_place(topic, peer):
            return self._decline(topic, peer, exchange=True)
        if not self._remember(peer, topic):
            return self._decline(topic, peer, exchange=True)
        self._link(topic, peer)
        return 0.0

    def _is_to_blame(self, topic: Topic, peer: GossipPeer) -> bool:
        """Whether a peer that grafts in the back-off knows better; if not, it does from now on.

        It need not: our PRUNE was still on its way, or was lost with the stream before this one; or the peer pruned us,
        has waited for as long as it asked for, and we read that late; or the back-off is as good as over. What the same
        RPC says again is excused with it; another RPC is not, though it be read in the same turn: so floods come.
        """
        now = self._state.now
        begin, end = peer.barred.get(topic.name, (float("inf"), float("inf")))
        blamed = begin <= now < end
        peer.barred[topic.name] = begin if blamed else now, float("inf")
        return blamed

    def _decline(self, topic: Topic, peer: GossipPeer, *, exchange: bool) -> float:
        """Answer a GRAFT with PRUNE, as many as may be needed in a heartbeat: who goes on has read the first ones."""
        peer.refusals += 1
        if peer.refusals > self._state.config.max_refusals + len(peer.topics):
            self._state.statistics.dropped["control_bound"] += 1
            return 0.0
        if exchange:
            self._turn_away(topic, peer, self._state.config.full_backoff)
        else:
            self._prune(topic, peer, exchange=False)
        return _ANSWER

    def _has_place(self, topic: Topic, peer: GossipPeer) -> bool:
        """v1.1 Outbound Mesh Quotas: a full mesh only takes connections that we opened. Ours: and dependents."""
        return topic.regular < self._state.config.d_high or peer.outbound or self._dependents.admits(topic, peer)

    def _make_place(self, topic: Topic, peer: GossipPeer) -> bool:
        """Turn the worst away for a peer that opportunistic grafting would take in; False where it would not.

        Else a mesh that sybils have filled at the start would turn away everybody until it happens to graft.
        """
        median = self._median(topic)
        if median is None or peer.record.value <= median or topic.name not in peer.topics:
            return False

        def worth(other: GossipPeer) -> tuple[bool, float, bool, bool]:
            # Of equals, who has given nothing; a connection that we opened rather stays.
            return other.id not in topic.takers, other.record.value, other.gives, other.outbound

        self._turn_away(topic, min((other for _, other in topic.regulars()), key=worth))
        return True

    def _median(self, topic: Topic) -> float | None:
        """The score of the middle one of a mesh that is worth so little that better ones are to come in; else None."""
        config = self._state.config.score
        if not config.enabled or topic.regular < 2:
            return None
        values = sorted(peer.record.value for _, peer in topic.regulars())
        median = values[len(values) // 2]
        return median if median < config.opportunistic_graft_threshold else None

    def _link(self, topic: Topic, peer: GossipPeer) -> None:
        full = topic.regular >= self._state.config.d_high
        if self._dependents.admits(topic, peer) and (peer.dial_only or full):
            topic.dependents[peer.id] = peer
        topic.mesh[peer.id] = peer
        topic.taking[peer.id] = Silence(topic.came)
        self._state.scores.grafted(peer.record, topic.name, self._state.now)
        topic.flooded = None
        topic.turned_away.pop(peer.id, None)
        peer.barred.pop(topic.name, None)
        self._state.candidates_changed = True

    def _unlink(self, topic: Topic, peer: GossipPeer) -> None:
        """Take a peer out of the mesh. Its part may fall to links that are spare until now: their peers are told."""
        linked = peer.id in topic.mesh
        topic.unlink(peer.id, self._state.scores)
        if linked and topic.joined:
            for other in topic.mesh.values():
                if other.lazy:
                    self._state.name_ids(other, topic, RESUME, 0)

    def _on_prune(self, peer: GossipPeer, prune: ControlPrune) -> None:
        state, config = self._state, self._state.config
        state.statistics.prunes_received += 1
        topic = state.by_wire.get(prune.topicID)
        if topic is None:
            return
        backoff = min(float(prune.backoff), config.max_prune_backoff) or config.prune_backoff
        if not topic.joined:  # it crossed our leaving, and holds when we join again
            self._hold(topic.resting, peer, backoff)
            return
        # Who leaves a topic says so first, and then prunes those it was linked with.
        linked = peer.id in topic.mesh or topic.name in peer.left
        self._unlink(topic, peer)
        peer.left.pop(topic.name, None)
        if state.now >= topic.backoff.get(peer.id, 0.0):
            peer.barred[topic.name] = state.now, state.now + backoff * _ON_TIME
        self._hold(topic.backoff, peer, backoff)
        # Once for each link that ends, so that nobody makes us dial with PRUNE alone.
        if linked and prune.peers and peer.record.value >= config.score.accept_exchange_threshold:
            offered = self._exchange.offered(prune.peers)
            if offered:
                state.emit(PeersOffered(peer.id, topic.name, offered))

    def _graft(self, topic: Topic, peer: GossipPeer) -> None:
        self._link(topic, peer)
        self._state.statistics.grafts_sent += 1
        self._state.send_control(peer, topic, encode_graft(topic.wire))

    def _turn_away(self, topic: Topic, peer: GossipPeer, backoff: float | None = None) -> None:
        """Prune a peer for which there is no place; when it comes back after the back-off, it depends on us."""
        self._prune(topic, peer, exchange=True, backoff=backoff)
        if peer.id in topic.peers:
            topic.turned_away[peer.id] = topic.came
            peer.takes_part = peer.gives = False

    def move_aside(self, topic: Topic, peer: GossipPeer) -> None:
        """Free the regular place of a mesh peer: it is a dependent from now on, or goes where there is no room."""
        if self._dependents.has_room(topic, peer):
            topic.dependents[peer.id] = peer
            topic.routes = {}
        else:
            self._turn_away(topic, peer)

    def dismiss(self, topic: Topic, peer: GossipPeer) -> None:
        """Prune a peer that takes no part, and take it into no mesh until it does."""
        self._state.statistics.idle_pruned += 1
        peer.record.idle = True
        peer.takes_part = peer.gives = False
        self._prune(topic, peer, exchange=False)

    def _prune(self, topic: Topic, peer: GossipPeer, *, exchange: bool, backoff: float | None = None) -> None:
        """Take the peer out of the mesh, if it is there, and tell it."""
        state = self._state
        if backoff is None:
            backoff = state.config.prune_backoff
        held = state.now < topic.backoff.get(peer.id, 0.0) and topic.name in peer.barred
        begin = peer.barred[topic.name][0] if held else state.now + state.config.backoff_slack
        self._unlink(topic, peer)
        self._hold(topic.backoff, peer, backoff)
        peer.barred[topic.name] = begin, topic.backoff[peer.id] - _EARLY
        if peer.knows_backoff:
            others = self._exchange.named(topic, peer) if exchange else []
            entry = encode_prune(topic.wire, others, int(backoff))
        else:
            entry = encode_prune(topic.wire, (), None)
        state.statistics.prunes_sent += 1
        state.send_control(peer, topic, entry)

    # ------------------------------------------------------------ back-off

    def _hold(self, held: dict[PeerId, float], peer: GossipPeer, seconds: float) -> None:
        """No GRAFT for so many seconds: of either side (`Topic.backoff`), or of ours (`Topic.resting`)."""
        until = max(self._state.now + seconds, held.pop(peer.id, 0.0))
        if len(held) >= self._state.config.max_backoffs:
            del held[next(iter(held))]
        held[peer.id] = until

    def _may_graft(self, topic: Topic, peer: GossipPeer) -> bool:
        """Whether we may graft: the slack lets the other side's back-off end first."""
        state = self._state
        until = max(topic.backoff.get(peer.id, 0.0), topic.resting.get(peer.id, 0.0))
        rested = not until or state.now >= until + state.config.backoff_slack
        return rested and peer.id not in topic.mesh and peer.record.value >= 0 and not peer.record.idle

    def _graftable(self, topic: Topic) -> list[GossipPeer]:
        return [peer for peer in topic.peers.values() if self._may_graft(topic, peer)]

    def _sample(self, peers: Sequence[GossipPeer], count: int) -> list[GossipPeer]:
        return self._state.rng.sample(peers, max(0, min(count, len(peers))))

    # ------------------------------------------------------------ heartbeat

    def heartbeat(self) -> None:
        """Mesh and fanout maintenance (v1.0 Heartbeat, v1.1 Heartbeat Maintenance and Outbound Mesh Quotas)."""
        now, config = self._state.now, self._state.config
        self._state.scores.refresh(now)
        self._beats += 1
        self._exchange.heartbeat()
        for peer in self._state.peers.values():
            peer.refusals = 0
            if peer.queue.dropped > peer.lost:
                peer.lost = peer.queue.dropped
                self._state.scores.lagged(peer.record)
        for topic in self._state.topics.values():
            topic.flooded = None
            for held in (topic.backoff, topic.resting):
                for identifier in [peer for peer, until in held.items() if now >= until + config.backoff_slack]:
                    del held[identifier]
            if topic.joined:
                self._maintain(topic)
            elif topic.fanout:
                self._maintain_fanout(topic)

    def _maintain(self, topic: Topic) -> None:
        config = self._state.config
        for peer in [peer for peer in topic.mesh.values() if peer.record.value < 0]:
            self._prune(topic, peer, exchange=False)
        if topic.regular < config.d_low:
            candidates = [peer for peer in self._graftable(topic) if not peer.dial_only]
            for peer in self._sample(candidates, config.d - topic.regular):
                self._graft(topic, peer)
            if len(topic.mesh) < config.d_low:  # those that nobody can dial graft by themselves while they have less
                for peer in self._sample(self._graftable(topic), config.d - len(topic.mesh)):
                    self._graft(topic, peer)
        elif topic.regular > config.d_high:
            keep = self._survivors(topic)
            for peer in [peer for identifier, peer in topic.mesh.items() if identifier not in keep]:
                self._turn_away(topic, peer)
        missing = config.d_out - sum(peer.outbound for peer in topic.mesh.values())
        if missing > 0 and len(topic.mesh) >= config.d_low:
            outbound = [peer for peer in self._graftable(topic) if peer.outbound]
            for peer in self._sample(outbound, missing):
                self._graft(topic, peer)
        if self._beats % config.score.opportunistic_graft_ticks == 0 or (
            self._beats % _OFTEN == 0 and self._gives_hardly(topic)
        ):
            self._graft_better(topic)

    @staticmethod
    def _gives_hardly(topic: Topic) -> bool:
        """Whether most of a mesh has brought and named no message: as where sybils came first."""
        idle = sum(not peer.gives or identifier in topic.takers for identifier, peer in topic.regulars())
        return idle * 2 > topic.regular

    def _graft_better(self, topic: Topic) -> None:
        """v1.1 Opportunistic Grafting: where half of a mesh is worth little, take in some that are worth more."""
        median = self._median(topic)
        if median is not None:
            better = [peer for peer in self._graftable(topic) if peer.record.value > median]
            for peer in self._sample(better, self._state.config.score.opportunistic_graft_peers):
                self._graft(topic, peer)

    def _survivors(self, topic: Topic) -> dict[PeerId, None]:
        """Who stays in a mesh that is too large: the best `d_score`, others at random, `d_out` outbound among them.

        And the dependents.
        """
        config = self._state.config
        regular = [peer for _, peer in topic.regulars()]
        order = self._sample(regular, len(regular))
        order.sort(key=lambda peer: peer.record.value, reverse=True)  # stable: random among equals
        best, rest = order[: config.d_score], order[config.d_score :]
        rest = self._sample(rest, len(rest))
        missing = config.d_out - sum(peer.outbound for peer in best)
        promoted = [peer for peer in rest if peer.outbound][: max(0, missing)]
        kept = [*promoted, *best, *(peer for peer in rest if peer not in promoted)]
        return dict.fromkeys((*topic.dependents, *(peer.id for peer in kept[: config.d])))

    # ------------------------------------------------------------ who gets what is published

    def flooded(self, topic: Topic, least: int) -> list[GossipPeer]:
        """Who gets what this node publishes (v1.1 Flood Publishing): all of a topic with few peers, else a part.

        That is the mesh, or the fanout where the topic is not joined; those that get too little otherwise; and, until
        they are `flood_peers`, others that are hard to replace by an attacker: connections that we opened, those that
        brought most messages first, those that have been in the topic for longest. A mesh that lacks peers is no
        ground to leave anybody out. `least`: how many the publisher asks for.
        """
        config, exempt = self._state.config, self._state.exempt
        most = max(config.flood_peers, least)
        if not topic.joined:
            topic.last_published = self._state.now
        if len(topic.peers) <= most or (topic.joined and topic.regular < config.d_low):
            welcome = config.score.publish_threshold
            return [peer for peer in topic.peers.values() if peer.record.value >= welcome or exempt(peer.id)]
        if most > config.flood_peers:
            return self._choose_flooded(topic, most)
        if topic.flooded is None:
            topic.flooded = self._choose_flooded(topic, most)
        return topic.flooded

    def _choose_flooded(self, topic: Topic, most: int) -> list[GossipPeer]:
        if not topic.joined:
            self._fill_fanout(topic, self._state.config.flood_peers)
        tick = self._state.cache.tick
        chosen = {**topic.mesh, **topic.fanout}
        willing = [peer for peer in topic.peers.values() if self._state.publishes_to(peer)]
        chosen.update((peer.id, peer) for peer in willing if peer.lacking_until > tick)
        most += len(topic.dependents)  # they take nobody's place
        if len(chosen) < most:
            # The sort is stable: of equals, those that have been there for longest. And who got the last ones gives way
            # only to who is much better: what nodes have learnt of the ways of messages is wrong after each change.
            last = topic.flooded_last

            def order(peer: GossipPeer) -> tuple[bool, bool, int]:
                firsts = (peer.firsts + _STAYING) * _STAYING if peer.id in last else peer.firsts
                return peer.record.value < 0 or peer.record.idle, not peer.outbound, -firsts

            others = sorted(willing, key=order)
            for peer in others:
                if len(chosen) >= most:
                    break
                chosen[peer.id] = peer
        topic.flooded_last = dict.fromkeys(chosen)
        return list(chosen.values())

    def linked(self, topic: Topic) -> list[GossipPeer]:
        """The mesh; while it lacks peers, others of the topic as well (as in rust-libp2p)."""
        if topic.regular >= self._state.config.d_low:
            return list(topic.mesh.values())
        others = self._willing(topic, topic.mesh)
        return [*topic.mesh.values(), *self._sample(others, self._state.config.d - topic.regular)]

    def fanout(self, topic: Topic) -> list[GossipPeer]:
        """The peers that get what is published on a topic that is not joined (v1.0, without flood publishing)."""
        topic.last_published = self._state.now
        self._fill_fanout(topic, self._state.config.d)
        return list(topic.fanout.values())

    def _fill_fanout(self, topic: Topic, size: int) -> None:
        others = self._willing(topic, topic.fanout)
        for peer in self._sample(others, size - len(topic.fanout)):
            topic.fanout[peer.id] = peer

    def _willing(self, topic: Topic, without: Mapping[PeerId, GossipPeer]) -> list[GossipPeer]:
        """The topic's other peers to which this node publishes."""
        return [peer for peer in topic.peers.values() if peer.id not in without and self._state.publishes_to(peer)]

    def _maintain_fanout(self, topic: Topic) -> None:
        config = self._state.config
        for peer in [peer for peer in topic.fanout.values() if not self._state.publishes_to(peer)]:
            del topic.fanout[peer.id]
        if self._state.now - topic.last_published > config.fanout_ttl:
            topic.fanout = {}
        else:
            self._fill_fanout(topic, config.flood_peers if config.flood_publish else config.d)
