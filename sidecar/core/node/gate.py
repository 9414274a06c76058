"""The gate in the node: who is banned is disconnected, forgotten, and neither let in nor sought."""

from typing import assert_never

from .. import events, kademlia
from ..errors import PeerBanned, SidecarError
from ..gate import Gate
from ..override import override
from ..types import PeerId
from .dialling import Dialling
from .kademlia import KademliaService
from .operations import Operations
from .service import Service
from .statistics import GateStatistics
from .switch import Switch

GateInput = (
    events.BanRequested | events.BansLifted | events.ProtectionChanged | events.GateConfigured | events.WallClockRead
)


class GateService(Service[GateInput]):
    """Changes the gate on behalf of the operator, and has the node live by it.

    The driver looks at the same gate before it dials and before it lets anybody in.
    """

    def __init__(
        self, switch: Switch, dialling: Dialling, kademlia: KademliaService, operations: Operations, gate: Gate
    ) -> None:
        self._switch = switch
        self._dialling = dialling
        self._kademlia = kademlia
        self._operations = operations
        self._gate = gate

    @override
    def handle(self, arrived: GateInput, now: float) -> None:
        match arrived:
            case events.BanRequested(op):
                if self._operations.begin(op):
                    self._ban(arrived, now)
            case events.BansLifted(subjects):
                for subject in subjects:
                    self._gate.lift(subject)
            case events.ProtectionChanged(peer, protected):
                if self._gate.protect(peer, protected) and peer in self._switch.peers:
                    self._switch.emit(events.PeerChanged(events.PeerChange.UPDATED, self._dialling.view(peer)))
            case events.GateConfigured(lists):
                self._gate.configure(lists)
                self._enforce(now)
            case events.WallClockRead(wall):
                before = self._gate.size
                over = self._gate.advance(wall)
                if self._gate.size + len(over) > before:  # the clock was set back: some are in force again
                    self._enforce(now)
            case _:
                assert_never(arrived)

    def statistics(self) -> GateStatistics:
        """Who is kept out now, and who was since the start."""
        gate = self._gate
        return GateStatistics(gate.size, len(gate.protected()), gate.refused_peers, gate.refused_addresses)

    # ------------------------------------------------------------

    def _ban(self, asked: events.BanRequested, now: float) -> None:
        peers = [ban.subject for ban in asked.bans if isinstance(ban.subject, PeerId)]
        bootstrap = tuple(peer for peer in peers if self._dialling.is_bootstrap(peer))
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
        for peer in dict.fromkeys((*self._switch.peers, *self._dialling.sought())):
            if self._gate.refuses_peer(peer):
                error = self._gate.refuse_peer(peer)
                assert error is not None, "it refuses the peer"
                self._forget(peer, error, now)
        self._close_addresses()

    def _forget(self, peer: PeerId, error: PeerBanned, now: float) -> int:
        """End everything with a peer; returns how many connections that closed."""
        self._switch.book.forget(peer)
        self._dialling.give_up(peer, error, now)
        self._kademlia.put(kademlia.PeerForgotten(peer))
        present = self._switch.peers.get(peer)
        if present is None:
            return 0
        self._switch.disconnect(present, error)
        return len(present.connections)

    def _close_addresses(self) -> int:
        """Close the connections whose remote addresses are refused; returns how many."""
        closed = 0
        for connection in self._switch.connections.values():
            host = None if connection.relayed else connection.remote.ip
            if host is not None and self._gate.refuses_address(host):
                self._switch.close_connection(connection, self._gate.refuse_address(host))
                closed += 1
        return closed
