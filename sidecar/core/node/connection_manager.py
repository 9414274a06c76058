"""Connections by high and low water: with too many, those that are of least use go."""

from typing import Never

from .. import events
from ..errors import Closed
from ..events import LogLevel
from ..override import override
from ..types import Direction, PeerId
from .dialling import Dialling
from .gossip import GossipService
from .kademlia import KademliaService
from .service import Follower, Service
from .statistics import ConnectionManagerStatistics
from .switch import Peer, StreamHandler, Switch

# What keeps a peer, in points; whoever has the fewest goes first. Guesses, of which only the order matters: what apps
# do would end, a place in a mesh is found anew within a heartbeat, one in the table hardly costs anything.
_IN_USE = 1000  # a byte stream, or a link of direct messages
_OWN_CHOICE = 500  # one of the `target_outbound` that this node dialled and has had for longest: nobody else chose them
_IN_MESH = 50  # for each topic
_IN_TABLE = 10
_SHARES_TOPIC = 1  # for each topic; might become a mesh member
_SHARED_AT_MOST = 9
_LASTED_AT_MOST = 40  # a point a minute for who is in a mesh, in the table or in use: who lasted will last

_ANCHORS = 2  # as bitcoind keeps
_ANCHOR_AGE = 60.0  # seconds after which a peer may be one; a guess
_ANCHORS_AGAIN = 30.0  # seconds from one choice to the next; a guess
_PAUSE = 1.0  # seconds from the high water to a trim, so that a burst is trimmed once; a guess
_RETURNED = 300.0  # seconds in which a peer that comes back after a trim has no grace: else those would win; a guess
_MAX_RETURNED = 4096
_AGAIN = 5.0  # seconds until the next try when protection and grace kept more than the high water; a guess
# Of the grace is left to peers while more come than go: two seconds by default, in which they are identified, and their
# first lookup has told them whom else they may dial. A guess; with a quarter, 13 nodes a second could not join through
# two that take 32 each, and some were outside for half a minute.
_HURRIED = 0.1


class ConnectionManager(Service[Never], Follower[events.ConnectionOpened]):
    """Closes connections beyond the high water mark until the low one is reached.

    Those of protected peers never, and not those of peers that came a moment ago for the first time. Of the others
    those first that are of least use; of equals, those first that have been idle for longest. Last of all go those that
    the node dialled itself. Where these do not suffice by far, as at a bootstrap peer of a mesh that many join at once,
    who came a moment ago has a shorter grace: else the node would be full of them, and refuse the rest.
    """

    def __init__(
        self,
        switch: Switch,
        dialling: Dialling,
        gossip: GossipService,
        kademlia: KademliaService,
        in_use: tuple[StreamHandler, ...],
    ) -> None:
        """`in_use`: a stream of such a handler means that an app has business with the peer, or others through it."""
        self._switch = switch
        self._dialling = dialling
        self._gossip = gossip
        self._kademlia = kademlia
        self._in_use = in_use
        self._due = False
        self._trimmed = 0
        self._released = 0
        self._anchors: tuple[PeerId, ...] = ()
        self._anchors_due = 0.0
        self._sent_away: dict[PeerId, float] = {}  # when each was trimmed last, in this order

    def followed(self, arrived: events.ConnectionOpened, now: float) -> None:
        """A connection came: see whether there are too many."""
        if not self._due and self._over():
            self._due = True
            self._switch.deadlines.at(now + _PAUSE, self._trim)

    def statistics(self) -> ConnectionManagerStatistics:
        """What was closed since the start."""
        return ConnectionManagerStatistics(self._trimmed, self._released)

    @override
    def upkeep(self, now: float) -> None:
        """Let go of peers that are not needed, and choose whom to come back to."""
        self._release(now)
        if now >= self._anchors_due:
            self._anchors_due = now + _ANCHORS_AGAIN
            self._choose_anchors(now)

    def _choose_anchors(self, now: float) -> None:
        """Of those that this node dialled, the two that have been of use for longest, bootstrap peers left out."""
        in_mesh, _ = self._gossip.memberships()
        useful = [
            peer
            for peer in self._switch.peers.values()
            if peer.ready
            and peer.best.direction is Direction.OUTBOUND
            and now - peer.since >= _ANCHOR_AGE
            and not self._dialling.is_bootstrap(peer.id)
            and (peer.id in in_mesh or self._kademlia.router.has_place(peer.id))
        ]
        anchors = tuple(peer.id for peer in sorted(useful, key=lambda peer: peer.since)[:_ANCHORS])
        if anchors and anchors != self._anchors:
            self._anchors = anchors
            self._switch.emit(events.AnchorsChosen(anchors))

    def _release(self, now: float) -> None:
        """Let go of peers that we dialled only to ask them something, as far as the node has others enough."""
        switch, config = self._switch, self._switch.config
        surplus = len(switch.peers) - config.target_peers
        if surplus <= 0:
            return
        idle = [
            peer
            for peer in switch.peers.values()
            if not peer.wanted
            and peer.best.direction is Direction.OUTBOUND
            and now - peer.used_at >= config.release_after
            and not self._dialling.protects(peer.id)
            and peer.id not in switch.kept
            and not self._asked(peer)
        ]
        if not idle:
            return
        in_mesh, _ = self._gossip.memberships()
        idle = [peer for peer in idle if peer.id not in in_mesh and not self._uses(peer)]
        own = sum(peer.best.direction is Direction.OUTBOUND for peer in switch.peers.values())
        surplus = min(surplus, max(0, own - config.outbound))
        for peer in sorted(idle, key=lambda peer: peer.used_at)[:surplus]:
            self._released += 1
            switch.disconnect(peer, None)

    def _asked(self, peer: Peer) -> bool:
        """Whether a question to the peer, or of it, is not over yet: maybe another one than it was dialled for."""
        return any(
            connection.tokens or any(stream.handler is self._kademlia for stream in connection.streams.values())
            for connection in peer.connections
        )

    def _uses(self, peer: Peer) -> bool:
        """Whether an app has business with the peer, or connections through a relay are carried over its own."""
        return any(stream.handler in self._in_use for c in peer.connections for stream in c.streams.values())

    def _over(self) -> bool:
        high = self._switch.config.high_water
        return 0 < high < len(self._switch.connections)

    def _trim(self, now: float) -> None:
        self._due = False
        if not self._over():
            return
        switch, config = self._switch, self._switch.config
        present = len(switch.connections)
        surplus = present - config.low_water
        error = Closed(
            f"trimmed: {present} connections, more than the high water mark of {config.high_water}, "
            "and this one was of least use"
        )
        closed = self._close(self._candidates(now, 1.0), surplus, error, now)
        by_far = config.high_water + (config.high_water - config.low_water) // 2
        if present - closed > by_far:
            closed += self._close(self._candidates(now, _HURRIED), surplus - closed, error, now)
        self._trimmed += closed
        if closed:
            switch.note(LogLevel.INFO, None, "%d of %d connections trimmed", closed, present)
        if present - closed > config.high_water:
            self._due = True
            switch.deadlines.at(now + (_PAUSE if present - closed > by_far else _AGAIN), self._trim)

    def _close(self, peers: list[Peer], count: int, error: Closed, now: float) -> int:
        """Send the first of these away until so many connections are closed; returns how many were."""
        switch, config = self._switch, self._switch.config
        closed = 0
        for peer in peers:
            if closed >= count:
                break
            self._send_away(peer.id, now)
            switch.book.failed(peer.id, now, config.redial_limit, config.redial_limit)  # not sought again at once
            closed += len(peer.connections)
            switch.disconnect(peer, error)
        return closed

    def _send_away(self, peer: PeerId, now: float) -> None:
        self._sent_away.pop(peer, None)
        self._sent_away[peer] = now
        if len(self._sent_away) > _MAX_RETURNED:
            del self._sent_away[next(iter(self._sent_away))]

    def _grace(self, peer: PeerId, now: float) -> float:
        trimmed = self._sent_away.get(peer)
        returned = trimmed is not None and now - trimmed < _RETURNED
        return 0.0 if returned else self._switch.config.trim_grace

    def _own_choice(self) -> dict[PeerId, None]:
        """The peers that this node dialled and has had for longest, as many as it wants of those."""
        dialled = (peer for peer in self._switch.peers.values() if peer.best.direction is Direction.OUTBOUND)
        longest = sorted(dialled, key=lambda peer: peer.since)[: self._switch.config.outbound]
        return dict.fromkeys(peer.id for peer in longest)

    def _candidates(self, now: float, share: float) -> list[Peer]:
        """The peers that may go when this share of their grace is over, those of least use first."""
        peers = [
            peer
            for peer in self._switch.peers.values()
            if not self._dialling.protects(peer.id)
            and peer.id not in self._switch.kept
            and now - peer.since >= share * self._grace(peer.id, now)
        ]
        in_mesh, shared = self._gossip.memberships()
        own = self._own_choice()

        def worth(peer: Peer) -> tuple[bool, int, float]:
            points = in_mesh.get(peer.id, 0) * _IN_MESH + min(shared.get(peer.id, 0) * _SHARES_TOPIC, _SHARED_AT_MOST)
            if self._kademlia.router.has_place(peer.id):
                points += _IN_TABLE
            if self._uses(peer):
                points += _IN_USE
            if points >= _IN_TABLE:
                points += min(int((now - peer.since) / 60), _LASTED_AT_MOST)
            if peer.id in own:
                points += _OWN_CHOICE
            # Below 0 it is in no mesh, and has done harm: it goes first, whatever else it is of use for.
            return self._gossip.router.score_of(peer.id) >= 0, points, peer.used_at

        return sorted(peers, key=worth)
