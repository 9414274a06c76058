"""The gate in the node: who is banned is disconnected, forgotten, and neither let in nor sought."""

from .. import events, kademlia
from ..errors import PeerBanned, SidecarError
from ..gate import Gate
from ..types import PeerId
from .finding import Finding
from .operations import Operations
from .reach import Reach
from .switch import Switch


class Gating:
    """Changes the gate on behalf of the operator, and has the node live by it.

    The driver looks at the same gate before it dials and before it lets anybody in.
    """

    def __init__(self, switch: Switch, reach: Reach, finding: Finding, operations: Operations, gate: Gate) -> None:
        self._switch = switch
        self._reach = reach
        self._finding = finding
        self._operations = operations
        self._gate = gate

    def accept(self, asked: object, now: float) -> bool:
        """Take an input on; False for one that is nothing to this service."""
        match asked:
            case events.BanRequested(op):
                if self._operations.begin(op):
                    self._ban(asked, now)
            case events.BansLifted(subjects):
                for subject in subjects:
                    self._gate.lift(subject)
            case events.ProtectionChanged(peer, protected):
                if self._gate.protect(peer, protected) and peer in self._switch.peers:
                    self._switch.emit(events.PeerChanged(events.PeerChange.UPDATED, self._reach.view(peer)))
            case events.GateConfigured(lists):
                self._gate.configure(lists)
                self._enforce(now)
            case events.WallClockRead(wall):
                before = self._gate.size
                over = self._gate.advance(wall)
                if self._gate.size + len(over) > before:  # the clock was set back: some are in force again
                    self._enforce(now)
            case _:
                return False
        return True

    def protects(self, peer: PeerId) -> bool:
        """Whether a peer's connections are never trimmed."""
        return self._gate.protects(peer) or self._reach.is_bootstrap(peer)

    def statistics(self) -> dict[str, int | float]:
        gate = self._gate
        return {
            "gate_bans": gate.size,
            "gate_protected_peers": len(gate.protected()),
            "gate_refused_peers": gate.refused_peers,
            "gate_refused_addresses": gate.refused_addresses,
        }

    # ------------------------------------------------------------

    def _ban(self, asked: events.BanRequested, now: float) -> None:
        peers = [ban.subject for ban in asked.bans if isinstance(ban.subject, PeerId)]
        bootstrap = tuple(peer for peer in peers if self._reach.is_bootstrap(peer))
        protected = tuple(peer for peer in peers if self._gate.protects(peer))
        try:
            self._gate.add(*asked.bans)
        except SidecarError as error:
            self._operations.complete(asked.op, error)
            return
        closed = sum(self._forget(peer, PeerBanned(f"{peer} is {self._gate.get(peer)}"), now) for peer in peers)
        if len(peers) < len(asked.bans):
            closed += self._close_addresses()
        self._operations.complete(asked.op, events.BansMade(closed, bootstrap, protected))

    def _enforce(self, now: float) -> None:
        """Other rules than before: look at everybody who is connected or sought."""
        for peer in dict.fromkeys((*self._switch.peers, *self._reach.sought())):
            if self._gate.refuses_peer(peer):
                error = self._gate.refuse_peer(peer)
                assert error is not None, "it refuses the peer"
                self._forget(peer, error, now)
        self._close_addresses()

    def _forget(self, peer: PeerId, error: PeerBanned, now: float) -> int:
        """End everything with a peer; returns how many connections that closed."""
        self._switch.book.forget(peer)
        self._reach.give_up(peer, error, now)
        self._finding.feed(kademlia.PeerForgotten(peer), now)
        present = self._switch.peers.get(peer)
        if present is None:
            return 0
        self._switch.disconnect(present, error)
        return len(present.connections)

    def _close_addresses(self) -> int:
        """Close the connections whose remote addresses are refused; returns how many."""
        closed = 0
        for connection in self._switch.connections.values():
            host = connection.remote.ip
            if host is not None and self._gate.refuses_address(host):
                self._switch.close_connection(connection, self._gate.refuse_address(host))
                closed += 1
        return closed
