"""What apps ask about peers: to connect, to disconnect, to ping, to find."""

from collections.abc import Sequence
from typing import assert_never

from .. import events, kademlia
from ..errors import NotFound, SidecarError
from ..multiaddr import Multiaddr
from ..override import override
from ..peers import Origin
from ..types import PeerId
from .dialling import Dialling
from .kademlia import KademliaService
from .operations import Operations
from .ping import PingService
from .service import Follower, Service
from .switch import Peer, Switch
from .walks import Walks

PeerRequest = (
    events.ConnectRequested
    | events.DisconnectRequested
    | events.PingRequested
    | events.FindPeerRequested
    | events.ClosestPeersRequested
)


class PeerRequests(Service[PeerRequest], Follower[events.OperationCancelled]):
    """Answers them, each as one operation."""

    def __init__(
        self,
        switch: Switch,
        dialling: Dialling,
        ping: PingService,
        kademlia: KademliaService,
        operations: Operations,
    ) -> None:
        self._switch = switch
        self._dialling = dialling
        self._pings = ping
        self._kademlia = kademlia
        self._operations = operations
        self._walks = Walks(kademlia, operations)

    @override
    def handle(self, arrived: PeerRequest, now: float) -> None:
        if not self._operations.begin(arrived.op):
            return
        match arrived:
            case events.ConnectRequested(op, peer, addresses):
                self._connect(op, peer, addresses, now)
            case events.DisconnectRequested(op, peer):
                self._disconnect(op, peer)
            case events.PingRequested(op, peer):
                self._ping(op, peer, now)
            case events.FindPeerRequested(op, peer):
                self._find(op, peer, now)
            case events.ClosestPeersRequested(op, key):
                self._closest(op, key, now)
            case _:
                assert_never(arrived)

    def followed(self, arrived: events.OperationCancelled, now: float) -> None:
        """An operation is not wanted any more."""
        self._walks.cancel(arrived.op, now)

    # ------------------------------------------------------------

    def _connect(self, op: int, peer: PeerId | None, addresses: Sequence[Multiaddr], now: float) -> None:
        def reached(result: Peer | SidecarError, now: float) -> None:
            done = result if isinstance(result, SidecarError) else self._dialling.view(result.id)
            self._operations.complete(op, done)

        if peer is None:
            self._dialling.reach_anyone(addresses, reached, now, insist=True)
        else:
            self._dialling.reach(
                peer, addresses, reached, now, search=True, insist=True, vouched=True, origin=Origin.APP
            )

    def _disconnect(self, op: int, peer: PeerId) -> None:
        present = self._switch.peers.get(peer)
        if present is None:
            self._operations.complete(op, NotFound(f"not connected to {peer}"))
        else:
            self._switch.disconnect(present, None)
            self._operations.complete(op, None)

    def _ping(self, op: int, peer: PeerId, now: float) -> None:
        def reached(result: Peer | SidecarError, now: float) -> None:
            if isinstance(result, SidecarError):
                self._operations.complete(op, result)
            else:
                self._pings.ping(result.best, now, lambda answer, now: self._operations.complete(op, answer))

        self._dialling.reach(peer, (), reached, now, search=True, insist=True, passing=True)

    def _find(self, op: int, peer: PeerId, now: float) -> None:
        known = self._switch.book.addresses(peer)
        if peer == self._switch.local:
            self._operations.complete(op, self._switch.advertised())
        elif known and peer in self._switch.peers:
            self._operations.complete(op, known)
        else:

            def found(addresses: tuple[Multiaddr, ...], now: float) -> None:
                result = addresses or known or NotFound(f"{peer} is neither known here nor found in the DHT")
                self._walks.complete(op, result)

            self._walks.begin(op, self._kademlia.find(peer, found, now))

    def _closest(self, op: int, key: bytes, now: float) -> None:
        def walked(result: kademlia.LookupCompleted | kademlia.LookupFailed, now: float) -> None:
            done = result.closest if isinstance(result, kademlia.LookupCompleted) else result.error
            self._walks.complete(op, done)

        try:
            self._walks.begin(op, self._kademlia.walk(key, None, walked, now))
        except SidecarError as error:
            self._operations.complete(op, error)
