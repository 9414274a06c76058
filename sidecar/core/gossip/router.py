"""The door of the gossip machine: inputs in, effects out, frames for each peer on request."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import assert_never

from ..events import ScoreView, Standing
from ..identity import Identity
from ..parameters.gossip import GossipConfig
from ..parameters.rules import TopicRule
from ..types import PeerId
from .events import (
    GossipEffect,
    GossipInput,
    GossipPeerView,
    GossipStatistics,
    HistoryBrought,
    HistorySeen,
    PeerAdded,
    PeerAppointed,
    PeerBacklogged,
    PeerDescribed,
    PeerMoved,
    PeerRemoved,
    PublishCancelled,
    Published,
    Queued,
    RpcsReceived,
    RulesSet,
    SignaturesChecked,
    TopicJoined,
    TopicLeft,
    TopicView,
    ValidatorAdded,
    ValidatorRemoved,
    VerdictsGiven,
)
from .history import History
from .intake import Intake
from .late import LateMessages
from .lazy import LazyGossip
from .mesh import Mesh
from .propagation import Propagation
from .publish import Publisher
from .receive import RpcReceiver
from .relay import Relay
from .rules import RuleBook, RuleView
from .signing import Verify, verify_batch
from .spare import SpareLinks
from .state import GossipPeer, GossipState
from .takers import Takers
from .trials import Trials
from .unwanted import Unwanted
from .validation import Validation

_LEAST_RPC = 2048  # bytes: the longest topic name, a signature and what is around them


def _nobody(peer: PeerId) -> bool:
    return False


def _less(max_rpc: int, config: GossipConfig) -> int | None:
    """What a peer reads, if that is less than what we may send; a bound too small for any message is not believed."""
    return max(max_rpc, _LEAST_RPC) if 0 < max_rpc < config.max_rpc else None


class GossipRouter:
    """Gossipsub 1.3 without streams: `handle` per input, `take` for the frames, one deadline.

    `sequence`: the numbers of its messages begin above it. `signed_record`: the signed peer record of a
    peer, as it is handed on in PRUNE. `exempt`: whom this node listens and publishes to whatever its score (v1.1,
    "Explicit Peering Agreements"). `verify` checks signatures. `rules` are those of the configuration. Raises as
    `RulesSet` does.
    """

    def __init__(
        self,
        config: GossipConfig,
        identity: Identity,
        *,
        now: float,
        sequence: int,
        rng: random.Random,
        signed_record: Callable[[PeerId], bytes | None],
        exempt: Callable[[PeerId], bool] = _nobody,
        verify: Verify = verify_batch,
        rules: Sequence[TopicRule] = (),
    ) -> None:
        self._state = GossipState(config, identity, now, rng, signed_record, exempt, RuleBook(rules), sequence)
        self._mesh = Mesh(self._state)
        self._unwanted = Unwanted(self._state)
        self._spare = SpareLinks(self._state, self._unwanted)
        self._late = LateMessages(self._state, self._unwanted)
        self._trials = Trials(self._state, self._mesh)
        self._takers = Takers(self._state, self._mesh)
        self._lazy = LazyGossip(self._state, self._spare, self._trials)
        self._validation = Validation(self._state, self._unwanted)
        relay = Relay(self._state, self._unwanted, self._spare, self._late, self._validation, self._trials)
        self._intake = Intake(self._state, relay, verify)
        self._history = History(self._state, self._validation, verify)
        self._receiver = RpcReceiver(self._state, self._mesh, self._lazy, self._unwanted, self._late, self._intake)
        self.relieved = False
        """Whether publishers that wait for room can go on since frames were taken: `resume` lets them."""
        self._publisher = Publisher(self._state, self._mesh, self._validation, self._trials, sequence)
        # Jitter, so that nodes started together do not beat together.
        self._heartbeat_at = now + config.heartbeat_initial_delay + rng.random() * config.heartbeat_interval

    def handle(self, input: GossipInput, now: float) -> list[GossipEffect]:
        """Serve one input. A caller's misuse raises, as the input's description says, and changes nothing."""
        state = self._state
        state.now = now
        state.pacing.begin_turn(now)
        self._publisher.start_turn()
        match input:
            case RpcsReceived():
                peer = state.peers.get(input.peer)
                if peer is None or peer.violated:
                    state.statistics.dropped["no_peer"] += len(input.frames)
                else:
                    self._receiver.receive(peer, input.frames)
            case SignaturesChecked():
                if not self._history.answer(input.number, input.reasons):
                    self._intake.answer(input.number, input.reasons)
            case Published():
                self._publisher.publish(input)
            case PublishCancelled():
                self._publisher.cancel(input.op)
            case VerdictsGiven():
                self._validation.give(input.validator, input.verdicts)
                self._resume_if_due()
            case ValidatorAdded():
                self._validation.add(input)
            case ValidatorRemoved():
                self._validation.remove(input.validator, input.lost)
                self._resume_if_due()
            case PeerAdded():
                self._on_peer_removed(input.peer)  # another stream of the same peer: its remote starts anew
                self._mesh.add_peer(
                    GossipPeer(
                        state.scores.arrived(input.peer, input.hosts),
                        input.protocol,
                        input.outbound,
                        state.config,
                        _less(input.max_rpc, state.config),
                        dial_only=input.dial_only,
                    )
                )
            case PeerDescribed():
                self._mesh.describe(input.peer, input.dial_only, input.hosts)
            case PeerAppointed():
                until = None if input.seconds is None else now + input.seconds
                state.scores.appoint(input.peer, input.score, until, now)
            case PeerMoved():
                if input.peer in state.peers:
                    self._mesh.begin(state.peers[input.peer])
            case PeerRemoved():
                self._on_peer_removed(input.peer)
            case TopicJoined():
                self._mesh.join(input.topic, input.options)
            case TopicLeft():
                self._mesh.leave(input.topic, input.backoff)
            case RulesSet():
                state.set_rules(input.rules, input.configured)
            case HistoryBrought():
                self._history.receive(input)
            case HistorySeen():
                self._history.seen(input)
            case _:
                assert_never(input)
        return self._finish_turn()

    def _on_peer_removed(self, peer: PeerId) -> None:
        known = self._state.peers.get(peer)
        if known is not None:
            self._receiver.serve_all(known)
            self._mesh.remove_peer(known)
            self._intake.removed(known)
            if known.backlogged:  # what is pending still holds nobody up
                known.backlogged = False
                self._state.emit(PeerBacklogged(peer, False))

    def _finish_turn(self) -> list[GossipEffect]:
        if self._intake.may_ask:
            self._intake.ask()
        if self._state.candidates_changed:
            self._state.candidates_changed = False
            self._publisher.on_candidates_changed()
        self._history.tell()
        self._state.pacing.end_turn(self._state.now)
        return self._state.finish_turn()

    # ------------------------------------------------------------ sending

    def take(self, peer: PeerId, limit: int) -> list[bytes]:
        """Whole frames (length and RPC) for the peer: about `limit` bytes, at least one frame if any waits.

        Control goes first. See `relieved` after it: a waiting publisher may go on.
        """
        known = self._state.peers.get(peer)
        if known is None:
            return []
        frames = known.queue.take(limit)
        if self._publisher.has_room(known):
            self.relieved = True
        return frames

    def waits(self, peer: PeerId) -> bool:
        """Whether `take` has more for the peer."""
        known = self._state.peers.get(peer)
        return known is not None and bool(known.queue)

    def resume(self, now: float) -> list[GossipEffect]:
        """Let publishers go on for which there is room now."""
        self._state.now = now
        self._state.pacing.begin_turn(now)
        self._publisher.start_turn()
        self.relieved = False
        self._publisher.resume()
        return self._finish_turn()

    # ------------------------------------------------------------ time

    def next_deadline(self) -> float:
        """When to call `handle_deadline`: at the heartbeat, or earlier for messages that wait, or are waited for.

        At once when publishers can go on, or when RPCs or signatures to be checked here wait.
        """
        if self._publisher.due or self._state.waiting or self._intake.due or self._state.pacing.measuring:
            return self._state.now
        if self._history.due:
            return self._state.now
        return min(self._heartbeat_at, self._receiver.due, self._spare.due, self._late.due, self._validation.due)

    def handle_deadline(self, now: float) -> list[GossipEffect]:
        """Beat, serve what waits, and resume publishers."""
        state = self._state
        state.now = now
        state.pacing.begin_turn(now)
        self._publisher.start_turn()
        if now >= self._heartbeat_at:
            # From now, not from the deadline: beats missed in a pause are not made up for.
            self._heartbeat_at = now + state.config.heartbeat_interval
            state.seen.expire(now)
            state.kept.expire(now)
            self._spare.heartbeat()
            self._late.heartbeat()
            state.propagation.expire(now)
            self._takers.heartbeat()
            self._trials.heartbeat()
            self._mesh.heartbeat()
            self._lazy.heartbeat()
            self._unwanted.heartbeat()
            self._intake.heartbeat()
            state.forget_idle_topics()
        self._spare.release()
        self._late.ask()
        if now >= self._validation.due:
            self._validation.expire()
        if self._intake.due:
            self._intake.serve()
        self._receiver.serve_waiting()
        if self._history.due:
            self._history.serve(busy=self._intake.due)
        self._resume_if_due()
        return self._finish_turn()

    def _resume_if_due(self) -> None:
        if self._publisher.due:
            self._publisher.resume()

    def exempt_payloads(self, beginning: bytes) -> None:
        """No app is asked for a verdict on payloads that begin so."""
        self._validation.exempt = beginning

    def take_charges(self) -> dict[PeerId, float]:
        """The needless work that peers caused since the last call, in points of some 5 us."""
        charged = self._state.charged
        if not charged:
            return {}
        self._state.charged = {}
        return charged

    # ------------------------------------------------------------ views

    def max_message(self, topic: str, sign: bool = True) -> int:
        """The largest data that can be published on the topic: alone in an RPC it fills `max_rpc` exactly.

        Raises InvalidArgument, TooLarge (the topic's name).
        """
        return self._state.topic(topic).max_payload(sign)

    def topics(self) -> list[TopicView]:
        """All topics that are joined here, announced by a peer, or published on."""
        return [
            TopicView(
                topic.name,
                topic.joined,
                topic.options.sign,
                tuple(topic.peers),
                tuple(topic.mesh if topic.joined else topic.fanout),
                replace(topic.counts),
                self._state.scores.parameters(topic.name) if topic.joined else None,
                *self._validation.load(topic.name),
                tuple(topic.dependents),
            )
            for topic in self._state.topics.values()
        ]

    def members(self, topic: str) -> list[tuple[PeerId, float]]:
        """The gossip peers that announced a topic, each with its score."""
        known = self._state.topics.get(topic)
        return [(peer.id, peer.record.value) for peer in known.peers.values()] if known is not None else []

    def keeps(self, topic: str) -> bool:
        """Whether a topic is joined, and what comes on it kept."""
        known = self._state.topics.get(topic)
        return known is not None and known.joined and known.options.keep

    def peers(self) -> list[GossipPeerView]:
        """All gossip peers."""
        return [
            GossipPeerView(
                peer.id,
                peer.protocol,
                peer.outbound,
                tuple(peer.topics),
                tuple(name for name, topic in peer.topics.items() if peer.id in topic.mesh),
                peer.queue.messages,
                peer.queue.bytes,
                peer.queue.dropped,
            )
            for peer in self._state.peers.values()
        ]

    def rules(self) -> list[RuleView]:
        """The rules in force, in the order in which they are looked at, and what each has kept back."""
        return self._state.rules.views()

    def score(self, peer: PeerId) -> ScoreView | None:
        """A peer's score and its parts; None where nothing is known of it, or nobody is scored."""
        return self._state.scores.view(peer)

    def score_of(self, peer: PeerId) -> float:
        """A peer's score; 0 where nothing is known of it."""
        return self._state.scores.of(peer)

    def standings(self) -> Mapping[Standing, int]:
        """How many gossip peers stand how."""
        return self._state.scores.standings()

    def queued(self) -> list[Queued]:
        """What waits for each peer."""
        return [Queued(peer.queue.messages, peer.queue.bytes) for peer in self._state.peers.values()]

    def pending(self) -> Queued:
        """Messages that came and wait for the verdict on their signature."""
        return Queued(len(self._intake), self._intake.bytes)

    def judged(self) -> Queued:
        """Messages that wait for the verdicts of apps."""
        return Queued(len(self._validation), self._validation.bytes)

    def propagation(self) -> Propagation:
        """How messages spread; to be read only."""
        return self._state.propagation

    def statistics(self) -> GossipStatistics:
        """A copy of the counters."""
        statistics = self._state.statistics
        return replace(
            statistics,
            signatures=dict(statistics.signatures),
            rejected=dict(statistics.rejected),
            ignored=dict(statistics.ignored),
            misbehaviour=dict(statistics.misbehaviour),
            dropped=dict(statistics.dropped),
            history=dict(statistics.history),
            rules=self._state.rules.broken(),
        )
