"""One mesh rather than islands: bootstrap peers are sought also by a node that has peers enough.

Whoever has as many peers as it wants seeks nobody, but those that it has may be an island: the peer through which all
joined comes back with an empty memory, a partition outlasts everybody's patience. So bootstrap peers that are not
connected are always tried again, and now and then one of the peers of earlier days. Who is met so is asked for this
node's own neighbours, and some that are not known here are asked too. A few have just joined, and are known from then
on; where there are more, the two sides have been apart, and the routing table is filled anew.
"""

from typing import Never

from .. import events, kademlia
from ..errors import SidecarError
from ..events import LogLevel
from ..kademlia.keyspace import place
from ..multiaddr import Multiaddr
from ..override import override
from ..peers import Origin
from ..types import PeerId
from .dialling import Dialling, Reached
from .kademlia import Ended, KademliaService
from .service import Follower, Service
from .statistics import UnityStatistics
from .switch import Peer, Switch

_SETTLING = 5.0  # seconds from meeting a bootstrap peer to asking it, so that joining has taught who is there; a guess
_STRANGERS = 4  # that are asked in passing; where there are more, two parts have been apart. A guess
_UNREACHED = 60.0  # seconds without a bootstrap peer after which that is said; a guess: a restart takes less
_LONGEST = 600.0  # seconds between visits to one that lives but sends us away; a guess, as often as the DHT refreshes


class _Anchor:
    """A bootstrap peer: how the attempts at it went, and since when it is missing."""

    __slots__ = ("addresses", "brief", "failures", "missing_since", "retry_at", "said", "seeking")

    def __init__(self, now: float) -> None:
        self.addresses: tuple[Multiaddr, ...] = ()
        self.failures = 0  # in a row
        self.brief = 0  # connections in a row that it ended
        self.retry_at = 0.0
        self.missing_since: float | None = now
        self.said = False  # the log says that it is missing
        self.seeking = False


class Unity(Service[Never], Follower[events.MeshRestored]):
    """Keeps this node's part of the mesh together with the rest of it."""

    def __init__(self, switch: Switch, dialling: Dialling, kademlia: KademliaService) -> None:
        self._switch = switch
        self._dialling = dialling
        self._kademlia = kademlia
        self._anchors: dict[PeerId, _Anchor] = {}
        self._asking: dict[PeerId, None] = {}
        self._visit_at: float | None = None
        self._islands_met = 0

    # ------------------------------------------------------------ seeking

    def upkeep(self, now: float) -> None:
        """Try those whose time has come."""
        self._configure(now)
        switch = self._switch
        for peer, anchor in self._anchors.items():
            if peer in switch.peers or anchor.seeking or anchor.retry_at > now:
                continue
            self._complain(peer, anchor, now)
            anchor.seeking = True
            self._dialling.reach(
                peer, anchor.addresses, self._answered(anchor), now, insist=True, origin=Origin.BOOTSTRAP
            )
        if self._visit_at is None:  # spread over the mesh by the id
            share = 0.5 + place(bytes(switch.local)) % 1024 / 1024
            self._visit_at = now + switch.config.kademlia.refresh_interval * share
        elif self._visit_at <= now:
            self._visit_at = now + switch.config.kademlia.refresh_interval * self._jitter()
            self._visit(now)

    @override
    def followed(self, arrived: events.MeshRestored, now: float) -> None:
        """As if each bootstrap peer had been met, and had sent this node away by now."""
        self._configure(now)
        for anchor in self._anchors.values():
            anchor.missing_since, anchor.brief = now, 1
            anchor.retry_at = now + _LONGEST * self._jitter()

    def missing(self) -> int:
        """Bootstrap peers that have not been reached for a minute or longer."""
        return sum(anchor.said for anchor in self._anchors.values())

    def cut_off(self) -> bool:
        """Whether nobody is reached at any bootstrap address, and has not been for a minute or longer."""
        anchors = self._anchors.values()
        return (
            bool(anchors) and all(anchor.said for anchor in anchors) and not self._dialling.entrances.lead_somewhere()
        )

    def statistics(self) -> UnityStatistics:
        """Islands met since the start, and bootstrap peers that are missing now."""
        return UnityStatistics(self._islands_met, self.missing())

    def _configure(self, now: float) -> None:
        wanted: dict[PeerId, tuple[Multiaddr, ...]] = {}
        for peer, address in self._dialling.bootstrap():
            wanted[peer] = (*wanted.get(peer, ()), address)
        for peer in [peer for peer in self._anchors if peer not in wanted]:
            del self._anchors[peer]
        for peer, addresses in wanted.items():
            self._anchors.setdefault(peer, _Anchor(now)).addresses = addresses

    def _answered(self, anchor: _Anchor) -> Reached:
        def answered(result: Peer | SidecarError, now: float) -> None:
            anchor.seeking = False
            if isinstance(result, SidecarError):
                anchor.failures += 1
                config = self._switch.config
                pause = min(config.redial_limit, config.redial_base * 2 ** min(anchor.failures - 1, 16))
                anchor.retry_at = now + pause * self._jitter()

        return answered

    def _complain(self, peer: PeerId, anchor: _Anchor, now: float) -> None:
        since = anchor.missing_since
        if anchor.said or anchor.brief or since is None or now - since < _UNREACHED:
            return
        anchor.said = True
        self._switch.note(
            LogLevel.WARNING,
            peer,
            "the bootstrap peer has not been reached for %.0f s, while %d other peers are connected: this part of the "
            "mesh may be cut off from the rest (%s)",
            now - since,
            len(self._switch.peers),
            self._dialling.last_error or "no attempt has ended yet",
        )

    def _jitter(self) -> float:
        """Half to one and a half, so that a mesh does not come in step."""
        return 0.5 + self._switch.rng.random()

    def _visit(self, now: float) -> None:
        """Try one peer that we have been connected to, or that is remembered of an earlier run, and are no more."""
        switch, book = self._switch, self._switch.book
        remembered = dict.fromkeys(peer for peer, _ in switch.config.known_peers)
        lost = []
        for peer in book.peers():
            entry = book.get(peer)
            if entry is not None and (entry.good or peer in remembered) and self._dialling.may_dial(peer, now):
                lost.append(peer)
        if not lost or not switch.config.target_peers:  # 0: this node seeks nobody by itself
            return

        def met(result: Peer | SidecarError, now: float) -> None:
            if isinstance(result, Peer):
                self._ask(result.id, now)

        self._dialling.reach(switch.rng.choice(lost), (), met, now)

    # ------------------------------------------------------------ comparing

    def _ask_unless_told(self, peer: Peer, now: float) -> None:
        """Ask a bootstrap peer, unless it has answered the same question since it was met, as it does to who joins."""
        if not self._kademlia.router.told_by(peer.id, peer.since):
            self._ask(peer.id, now)

    def _ask(self, peer: PeerId, now: float) -> None:
        """Ask a peer for our own neighbours, and those strangers whom it names, but nobody whom we know."""
        switch, router = self._switch, self._kademlia.router
        present = switch.peers.get(peer)
        if present is None or not present.ready or peer in self._asking:
            return
        if not present.speaks(switch.config.kademlia_protocol):
            return
        self._asking[peer] = None
        own = bytes(switch.local)
        nearest = [known for known, _ in router.closest(own, switch.config.kademlia.k)]
        here = place(own)
        horizon = place(bytes(nearest[-1])) ^ here if len(nearest) >= switch.config.kademlia.k else None

        def ended(result: Ended | kademlia.ProvidersFound, now: float) -> None:
            self._asking.pop(peer, None)
            if not isinstance(result, kademlia.LookupCompleted):
                return
            strangers = [
                other
                for other, _ in result.closest
                if other != peer and other not in nearest and (horizon is None or place(bytes(other)) ^ here < horizon)
            ]
            if not strangers or result.queried <= _STRANGERS:  # all of them have been met now
                return
            self._islands_met += 1
            switch.note(
                LogLevel.INFO,
                peer,
                "leads to %d neighbours of this node and more that were not known here: two parts of the mesh come "
                "together",
                len(strangers),
            )
            self._kademlia.put(kademlia.BootstrapRequested())

        via = ((peer, switch.book.addresses(peer)),)
        asked = 1 + _STRANGERS
        self._kademlia.ask(lambda walk: kademlia.LookupRequested(walk, own, None, via, asked), ended, now)

    # ------------------------------------------------------------ peers come and go

    @override
    def peer_ready(self, peer: Peer, now: float) -> None:
        anchor = self._anchors.get(peer.id)
        if anchor is None:
            return
        if anchor.said:
            self._switch.note(LogLevel.INFO, peer.id, "the bootstrap peer is reached again")
        anchor.failures, anchor.missing_since, anchor.said = 0, None, False
        if sum(other.ready for other in self._switch.peers.values()) > 1:
            delay = _SETTLING * self._jitter()
            self._switch.deadlines.at(now + delay, lambda now: self._ask_unless_told(peer, now))

    @override
    def peer_gone(self, peer: Peer, now: float) -> None:
        anchor = self._anchors.get(peer.id)
        if anchor is None:
            return
        anchor.missing_since = now
        config = self._switch.config
        # One that sends us away soon each time is there, but has no place for us: seen to ever more rarely.
        anchor.brief = anchor.brief + 1 if peer.sent_away and now - peer.since < _LONGEST else 0
        pause = config.redial_base
        if anchor.brief:
            pause = min(_LONGEST, config.redial_limit * 2 ** min(anchor.brief - 1, 16))
        anchor.retry_at = now + pause * self._jitter()
