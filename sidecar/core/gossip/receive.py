"""RPCs of peers, in turns: each peer's are served in order, as many in one turn as it may have of that."""

import math
from collections import deque
from collections.abc import Iterator, Sequence

from ..errors import ProtocolError
from ..types import PeerId
from .events import FirstRpc
from .fair import COST, FairBacklog
from .intake import Intake
from .late import LateMessages
from .lazy import LazyGossip
from .mesh import Mesh
from .messages import (
    RPC,
    ControlMessage,
    Named,
    NamedIds,
    decode_rpc,
    match_idontwant,
    match_message,
    match_named,
)
from .pacing import QUANTUM, UNIT
from .state import ENTRY, MALFORMED, NO_FRAMES, PASSED_OVER, GossipPeer, GossipState
from .unwanted import Unwanted

_FEW = 32  # control entries that are served beside others' messages; more of them in one RPC are served in steps
_IGNORED = 1 / 2048  # points of work for each byte of an RPC that is ignored; a guess: as decrypting it costs
_LARGE = 16_384  # bytes of a peer that has proven nothing yet, beyond which it waits behind those who wait; a guess


class RpcReceiver:
    """Serves what one read of a peer brought."""

    def __init__(
        self,
        state: GossipState,
        mesh: Mesh,
        lazy: LazyGossip,
        unwanted: Unwanted,
        late: LateMessages,
        intake: Intake,
    ) -> None:
        self._state = state
        self._mesh = mesh
        self._lazy = lazy
        self._unwanted = unwanted
        self._late = late
        self._intake = intake
        self._resting: dict[PeerId, GossipPeer] = {}  # heavy peers that wait

    def receive(self, peer: GossipPeer, frames: Sequence[bytes]) -> None:
        """Take RPCs in, and serve as many as one turn may; the rest waits behind the other peers' turns."""
        state = self._state
        heavy = state.heavy(peer)
        waits = bool(peer.backlog) or peer.step is not None or (heavy and self._rests(peer))
        if heavy or isinstance(peer.backlog, FairBacklog):
            backlog = self._keep_apart(peer, frames)
            if waits:
                self._let_pass(peer, backlog)
        else:
            if peer.backlog:
                peer.backlog.extend(frames)
            else:
                peer.backlog = deque(frames)
            peer.backlog_bytes += sum(map(len, frames)) + COST * len(frames)
        if state.waiting and not (waits or peer.proven) and peer.backlog_bytes > _LARGE:
            state.waiting[peer.id] = peer  # what many new ones bring at once is not to be one long turn
            waits = True
        if waits:
            state.watch_backlog(peer)
        else:
            self._serve(peer)

    def _keep_apart(self, peer: GossipPeer, frames: Sequence[bytes]) -> FairBacklog:
        """Queue RPCs of a peer that is heavy, or may be, behind what waits of it, by their messages' authors."""
        backlog = peer.backlog
        if isinstance(backlog, FairBacklog):
            backlog.extend(frames)
        else:
            backlog = peer.backlog = FairBacklog((*backlog, *frames), self._state.config.max_rpc_messages)
        peer.backlog_bytes = backlog.bytes
        self._state.statistics.rpcs_received += backlog.opened
        backlog.opened = 0
        return backlog

    def _let_pass(self, peer: GossipPeer, backlog: FairBacklog) -> None:
        """Serve authors at once that have said little, though the peer has to wait: it may only relay the flood."""
        state = self._state
        if peer.violated or peer.step is not None or state.shuns(peer):
            return
        flood = state.flood(peer)
        if state.pacing.exhausted(flood, state.now):
            return
        raws = backlog.take_few()
        if raws:
            peer.backlog_bytes = backlog.bytes
            flood.aside.add(len(raws) + sum(map(len, raws)) / UNIT, state.now)
            self._intake.receive(peer, raws, ahead=True)

    def _may_be_kept_apart(self, peer: GossipPeer, rpc: RPC) -> bool:
        """Whether an RPC of a peer that is not heavy yet should wait by authors rather than as one."""
        only_messages = not (rpc.HasField("control") or rpc.subscriptions or rpc.named)
        few = len(rpc.publish) <= self._state.config.max_rpc_messages
        return only_messages and few and self._state.pacing.beside(peer, self._state.now)

    @property
    def due(self) -> float:
        """When heavy peers that rest are to be served."""
        if not self._resting:
            return math.inf
        state = self._state
        return min(state.pacing.resting_until(alone=state.floods(peer)) for peer in self._resting.values())

    def _rests(self, peer: GossipPeer) -> bool:
        """Whether a heavy peer has to wait now."""
        if not self._state.pacing.resting(self._state.now, alone=self._state.floods(peer)):
            return False
        self._resting[peer.id] = peer
        return True

    def serve_waiting(self) -> None:
        """Serve peers whose RPCs wait, in turn, until together they have had what one may have of a turn."""
        left = 1.0
        if self._resting and not self._state.pacing.resting(self._state.now):
            self._end_rests()
        while left > 0 and self._state.waiting:
            left -= self._serve(next(iter(self._state.waiting.values())))

    def _end_rests(self) -> None:
        state = self._state
        still: dict[PeerId, GossipPeer] = {}
        for identifier, peer in self._resting.items():
            alone = state.floods(peer)
            if state.pacing.resting(state.now, alone=alone):
                still[identifier] = peer
                continue
            if alone:
                state.pacing.rested(state.now)
            if peer.backlog or peer.step is not None:
                state.waiting.setdefault(identifier, peer)
        self._resting = still

    def serve_all(self, peer: GossipPeer) -> None:
        """Serve what the peer has sent before its stream ended."""
        while peer.backlog or peer.step is not None:
            self._serve(peer, full_too=True)

    def drop(self, peer: GossipPeer) -> None:
        """Forget what waits of a peer that broke the rules."""
        self._state.statistics.dropped["no_peer"] += len(peer.backlog)
        peer.backlog.clear()
        peer.backlog_bytes, peer.step = 0, None
        self._state.waiting.pop(peer.id, None)
        self._resting.pop(peer.id, None)
        self._intake.drop(peer)

    def _ignore(self, peer: GossipPeer) -> None:
        """v1.1 GraylistThreshold: nothing of the peer is looked at. What that costs is held against it all the same."""
        state = self._state
        ignored = len(peer.backlog) + (peer.step is not None)
        state.statistics.dropped["graylisted"] += ignored
        state.charge(peer, ignored * ENTRY + peer.backlog_bytes * _IGNORED)
        peer.backlog.clear()
        peer.backlog_bytes, peer.step = 0, None
        state.waiting.pop(peer.id, None)
        self._resting.pop(peer.id, None)
        self._intake.drop(peer)
        state.watch_backlog(peer)

    def _serve(self, peer: GossipPeer, *, full_too: bool = False) -> float:
        """Serve one turn's worth of what waits; returns how much of a turn that took.

        While too many messages of the peer are pending, the rest waits until `Intake` puts the peer in line again;
        unless `full_too`.

        Messages are collected over RPCs, and small control messages behind them: one by one, both cost many times as
        much. An RPC that has more than a little of anything else is taken in steps.
        """
        state, config = self._state, self._state.config
        if state.shuns(peer):
            self._ignore(peer)
            return 0.0
        heavy = not full_too and state.heavy(peer)
        if heavy and self._rests(peer):
            state.waiting.pop(peer.id, None)
            state.watch_backlog(peer)
            return 0.0
        charged = state.charged.get(peer.id, 0.0)
        raws: list[bytes] = []
        controls: list[ControlMessage | bytes] = []  # bytes: the id of an IDONTWANT that is all there is
        named: list[Named | NamedIds] = []
        messages, work = config.turn_messages, 0.0
        if not full_too:
            messages = min(messages, self._intake.room(peer))
        if heavy:
            state.pacing.worked(alone=state.floods(peer))
        if not full_too:
            messages = min(messages, self._at_once(peer))
        backlog = peer.backlog
        while messages > 0 and work < config.turn_work and not peer.violated:
            if peer.step is not None:
                self._flush(peer, raws, controls)
                points = next(peer.step, None)
                if points is None:
                    peer.step = None
                else:
                    work += points
                    if heavy:
                        break
                continue
            if not backlog:
                break
            if isinstance(backlog, FairBacklog):
                is_message, body = backlog.pop()
                peer.backlog_bytes = backlog.bytes
                if is_message:
                    raws.append(body)
                    messages -= max(1, len(body) // UNIT) if heavy else 1
                    continue
            else:
                body = backlog.popleft()
                peer.backlog_bytes -= len(body) + COST
            if peer.begun:
                raw = match_message(body)
                if raw is not None:
                    state.statistics.rpcs_received += 1
                    raws.append(raw)
                    messages -= max(1, len(body) // UNIT) if heavy else 1
                    continue
                told = match_idontwant(body) or match_named(body)
                if told:
                    state.statistics.rpcs_received += 1
                    work += 1
                    if isinstance(told, NamedIds):
                        named.append(told)
                    else:
                        controls.append(told)
                    continue
            try:
                rpc = decode_rpc(body)
            except ProtocolError:
                work += MALFORMED
                state.reject(peer, None, "malformed")
                continue
            state.statistics.rpcs_received += 1
            count = len(rpc.publish)
            entries = 0
            if rpc.HasField("control"):
                entries = _entries(rpc.control)
                if rpc.control.HasField("extensions"):
                    work += self._on_extensions(peer, rpc.control, first=type(body) is FirstRpc or not peer.begun)
            peer.begun = True
            if count > min(messages, config.max_rpc_messages) or entries > _FEW or rpc.subscriptions:
                if not (full_too or isinstance(backlog, FairBacklog)) and self._may_be_kept_apart(peer, rpc):
                    state.statistics.rpcs_received -= 1  # it is put back, and counted then
                    backlog.appendleft(body)
                    backlog = self._keep_apart(peer, ())
                    continue
                peer.step = self._steps(peer, rpc)
                continue
            if count:
                raws += rpc.publish
                messages -= max(count, len(body) // UNIT) if heavy else count
            if rpc.named:
                named += rpc.named
                work += len(rpc.named)
            if entries:
                controls.append(rpc.control)
                work += entries
            elif not count and not rpc.named:
                state.charge(peer, ENTRY)
                work += ENTRY
        self._flush(peer, raws, controls)
        if named and not peer.violated:
            self._late.on_named(peer, named)
        state.waiting.pop(peer.id, None)
        if peer.violated:
            self.drop(peer)
        elif (peer.backlog or peer.step is not None) and self._intake.room(peer) > 0:
            state.waiting[peer.id] = peer  # behind the others
        if not peer.backlog:
            peer.backlog = NO_FRAMES
        state.watch_backlog(peer)
        needless = state.charged.get(peer.id, 0.0) - charged  # invalid signatures, which were not foreseen
        return max(work / config.turn_work, needless / config.turn_work, 1 - messages / config.turn_messages)

    def _at_once(self, peer: GossipPeer) -> int:
        """How many messages of the peer one turn serves."""
        state = self._state
        if state.heavy(peer):
            return QUANTUM
        if not state.pacing.beside(peer, state.now):
            return state.config.turn_messages
        return (8 if peer.proven else 2) * QUANTUM  # it may turn out to be heavy, or to send what is invalid

    def _on_extensions(self, peer: GossipPeer, control: ControlMessage, *, first: bool) -> float:
        """Note what the peer knows beyond v1.3. It says so in the first RPC of a stream only. Returns the work."""
        state = self._state
        if first:
            peer.lazy = state.config.lazy_links and control.extensions.lazy_links
            peer.bundles = control.extensions.bundles
            return 0.0
        state.statistics.dropped["control_bound"] += 1
        state.charge(peer, MALFORMED)
        state.penalise(peer, "extensions", 10.0)  # go
        return MALFORMED

    def _steps(self, peer: GossipPeer, rpc: RPC) -> Iterator[float]:
        """Serve an RPC that may take more than one turn: subscriptions, then messages, then control.

        Yields the work of each step, in points.
        """
        state, config = self._state, self._state.config
        yield from self._mesh.on_subscriptions(peer, rpc.subscriptions)
        raws = rpc.publish[: config.max_rpc_messages]
        if len(rpc.publish) > len(raws):
            excess = len(rpc.publish) - len(raws)
            state.statistics.dropped["rpc_bound"] += excess
            state.charge(peer, excess * PASSED_OVER)
        first = 0
        while first < len(raws):
            room, most = self._intake.room(peer), self._at_once(peer)
            part = raws[first : first + (min(room, most) if room > 0 else most)]
            self._intake.receive(peer, part)
            first += len(part)
            yield config.turn_work * max(len(part) / config.turn_messages, float(self._intake.room(peer) <= 0))
        if rpc.HasField("control"):
            yield from self._control(peer, rpc.control)
        if rpc.named:
            self._late.on_named(peer, rpc.named)
            yield float(len(rpc.named))

    def _control(self, peer: GossipPeer, control: ControlMessage) -> Iterator[float]:
        yield from self._mesh.on_control(peer, control)
        self._lazy.on_control(peer, control)
        yield float(len(control.ihave) + len(control.iwant))
        self._unwanted.on_control(peer, control)
        yield float(len(control.idontwant))

    def _flush(self, peer: GossipPeer, raws: list[bytes], controls: list[ControlMessage | bytes]) -> None:
        """Serve what was collected: messages first, since IHAVE and IWANT refer to them."""
        if raws:
            self._intake.receive(peer, raws)
            raws.clear()
        if not controls:
            return
        for control in controls:
            if isinstance(control, bytes):
                self._unwanted.on_idontwant(peer, (control,))
            else:
                deque(self._control(peer, control), maxlen=0)
        controls.clear()


def _entries(control: ControlMessage) -> int:
    return len(control.graft) + len(control.prune) + len(control.ihave) + len(control.iwant) + len(control.idontwant)
