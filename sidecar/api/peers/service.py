"""`sidecar.v1.PeerService`."""

from typing import Any

from ...core.errors import NotFound
from ...core.events import (
    BanRequested,
    BansMade,
    ClosestPeersRequested,
    ConnectRequested,
    DisconnectRequested,
    FindPeerRequested,
    PeerChanged,
    PeerView,
    PingRequested,
)
from ...core.gate import BanView, Subject
from ...core.gossip import PeerAppointed
from ...core.networks import Network
from ...core.override import override
from ...core.types import PeerId
from ..common import values
from ..common.call import OPEN, Call
from ..common.outlet import pour
from ..common.watch import Watchers
from ..service import ApiService, Handlers, ServiceContext
from . import convert
from .gatekeeper import Gatekeeper
from .watch import PeerWatcher

_PAGE, _MAX_PAGE = 500, 1000
_MAX_ADDRESSES = 32
_MAX_KEY = 1024  # bytes; as the Kademlia router's default
_MAX_REASON = 512
_MAX_BAN = 10 * 366 * 86400.0  # seconds
_MAX_SCORE = 1e6


class PeerService(ApiService):
    """The peers; every method as its schema says."""

    def __init__(self, context: ServiceContext, gatekeeper: Gatekeeper) -> None:
        """Bans and protection are the gatekeeper's matter."""
        self._context = context
        self._gatekeeper = gatekeeper
        limit = context.config.max_watchers
        self._watchers: Watchers[PeerWatcher] = Watchers(context.lifetime, limit, "watchers of peers")

    @override
    def effects(self) -> Handlers:
        return {PeerChanged: self._changed}

    async def list_peers(self, request: convert.ListPeersRequest, call: Call) -> object:
        """The peers, page by page."""
        wanted = request.protocol
        views = [
            view
            for view in self._context.node.peers(known=not request.connected_only)
            if not wanted or wanted in view.protocols
        ]
        views.sort(key=lambda view: bytes(view.peer))
        after = values.peer_id(request.page_token, "page_token") if request.page_token else PeerId()
        rest = [view for view in views if view.peer > after]
        size = min(request.page_size or _PAGE, _MAX_PAGE)
        page = rest[:size]
        token = str(page[-1].peer) if len(rest) > size else ""
        return convert.peers(page, token, len(views), self._context.epoch_ns)

    async def watch_peers(self, request: Any, call: Call) -> None:
        """The connected peers, then what changes."""
        context = self._context
        watcher = PeerWatcher(context.config.watch_queue_events, self._connected, context.epoch_ns)
        with self._watchers.watching(watcher):
            await call.begin(OPEN)
            await pour(watcher, call.write)

    async def find_peer(self, request: convert.FindPeerRequest, call: Call) -> object:
        """Where a peer is, by the DHT."""
        peer = values.peer_id(request.peer_id)
        return convert.found(peer, await self._context.operations.ask(lambda op: FindPeerRequested(op, peer)))

    async def get_peer(self, request: convert.GetPeerRequest, call: Call) -> object:
        """What is known of one."""
        peer = self._context.other_peer(request.peer_id)
        view = self._context.node.peer(peer)
        if view is None:
            raise NotFound(f"{peer} is not known here; FindPeer asks the DHT")
        return convert.one(view, self._context.epoch_ns)

    async def list_closest_peers(self, request: convert.ListClosestPeersRequest, call: Call) -> object:
        """The peers nearest to a key, by the DHT."""
        if bool(request.peer_id) == bool(request.key):
            given = "both a peer id and a key are" if request.key else "neither a peer id nor a key is"
            raise values.invalid("key", f"{given} given")
        if len(request.key) > _MAX_KEY:
            raise values.invalid("key", f"{len(request.key)} bytes, from 1 to {_MAX_KEY}")
        key = request.key or bytes(values.peer_id(request.peer_id))
        closest = await self._context.operations.ask(lambda op: ClosestPeersRequested(op, key))
        return convert.closest(closest[: request.limit or None])

    async def connect_peer(self, request: convert.ConnectPeerRequest, call: Call) -> object:
        """Connect to a peer by its id, its addresses or both."""
        addresses = values.addresses(request.addresses, _MAX_ADDRESSES)
        peer = self._context.other_peer(request.peer_id) if request.peer_id else None
        for index, address in enumerate(addresses):
            named = address.peer_id
            if named is None:
                continue
            if peer is not None and named != peer:
                raise values.invalid(f"addresses[{index}]", f"it names {named}, other than {peer}")
            peer = self._context.other_peer(str(named), f"addresses[{index}]")
        if peer is None and not addresses:
            raise values.invalid("peer_id", "neither a peer id nor an address is given")
        view = await self._context.operations.ask(lambda op: ConnectRequested(op, peer, addresses))
        return convert.connected(view, self._context.epoch_ns)

    async def disconnect_peer(self, request: convert.DisconnectPeerRequest, call: Call) -> object:
        """Close all connections to a peer."""
        peer = self._context.other_peer(request.peer_id)
        await self._context.operations.ask(lambda op: DisconnectRequested(op, peer))
        return convert.disconnected()

    async def ping_peer(self, request: convert.PingPeerRequest, call: Call) -> object:
        """How long a peer takes to answer."""
        peer = self._context.other_peer(request.peer_id)
        return convert.pinged(await self._context.operations.ask(lambda op: PingRequested(op, peer)))

    async def ban_peer(self, request: convert.BanPeerRequest, call: Call) -> object:
        """Shut out a peer, a network or both."""
        keeper = self._gatekeeper
        subjects = self._subjects(request.peer_id, request.network)
        reason = values.remark(request.reason, _MAX_REASON, "reason")
        seconds = None
        if request.HasField("duration"):
            seconds = values.seconds(request.duration, _MAX_BAN, "duration")
            if not seconds:
                raise values.invalid("duration", "0 seconds; leave it out for a ban without an end")
        bans = keeper.bans(subjects, reason, seconds)
        made: BansMade = await self._context.operations.ask(lambda op: BanRequested(op, bans))
        for ban in bans:
            self._context.changed(
                _action(ban.subject, "banned"), **_named(ban.subject), reason=reason or None, seconds=seconds
            )
        banned = await keeper.banned(bans, made)
        return convert.banned([BanView(ban, 0, False) for ban in bans], banned.closed, banned.warnings)

    async def allow_peer(self, request: convert.AllowPeerRequest, call: Call) -> object:
        """Lift bans."""
        subjects = self._subjects(request.peer_id, request.network)
        self._gatekeeper.allow(subjects)
        for subject in subjects:
            self._context.changed(_action(subject, "allowed"), **_named(subject))
        warnings = await self._gatekeeper.allowed(subjects)
        return convert.allowed(warnings)

    async def list_bans(self, request: convert.ListBansRequest, call: Call) -> object:
        """The bans, page by page; before the first those of the configuration."""
        keeper = self._gatekeeper
        keeper.refresh()
        gate = keeper.gate
        after = _subject(request.page_token, "page_token") if request.page_token else None
        size = min(request.page_size or _PAGE, _MAX_PAGE)
        page = gate.bans(after, size + 1)
        token = str(page[size - 1].ban.subject) if len(page) > size else ""
        return convert.bans([*([] if after else gate.denied()), *page[:size]], token, gate.size)

    async def protect_peer(self, request: convert.ProtectPeerRequest, call: Call) -> object:
        """Keep a peer from being trimmed."""
        peer = self._context.other_peer(request.peer_id)
        self._gatekeeper.protect(peer, True)
        self._context.changed("peer.protected", peer_id=str(peer))
        warnings = await self._gatekeeper.protected(peer, True)
        return convert.protected(warnings)

    async def unprotect_peer(self, request: convert.UnprotectPeerRequest, call: Call) -> object:
        """Protect a peer no more."""
        peer = self._context.other_peer(request.peer_id)
        self._gatekeeper.protect(peer, False)
        self._context.changed("peer.unprotected", peer_id=str(peer))
        warnings = await self._gatekeeper.protected(peer, False)
        if any(view.peer == peer and view.protected for view in self._context.node.peers(known=True)):
            warnings += ("the peer stays protected: it is a bootstrap peer, or gate.protected_peers names it",)
        return convert.unprotected(warnings)

    async def set_peer_score(self, request: convert.SetPeerScoreRequest, call: Call) -> object:
        """Add to a peer's score, or take from it."""
        peer = self._context.other_peer(request.peer_id)
        score = values.between(request.score, -_MAX_SCORE, _MAX_SCORE, "score")
        seconds = None
        if request.HasField("duration"):
            seconds = values.seconds(request.duration, _MAX_BAN, "duration")
            if not seconds:
                raise values.invalid("duration", "0 seconds; leave it out for a score without an end")
        self._context.feed(PeerAppointed(peer, score, seconds))
        self._context.changed("peer.scored", peer_id=str(peer), score=score, seconds=seconds)
        return convert.scored()

    def _subjects(self, peer_id: str, network: str) -> tuple[Subject, ...]:
        """Raises InvalidField."""
        peers = (self._context.other_peer(peer_id),) if peer_id else ()
        networks = (values.network(network),) if network else ()
        if not (peers or networks):
            raise values.invalid("peer_id", "neither a peer nor a network is given")
        return (*peers, *networks)

    def _connected(self) -> list[PeerView]:
        return [view for view in self._context.node.peers() if view.connected]

    def _changed(self, change: PeerChanged) -> None:
        for watcher in self._watchers:
            watcher.push(change)


def _subject(text: str, field: str) -> Subject:
    """Raises InvalidField."""
    return values.network(text, field) if "." in text or ":" in text else values.peer_id(text, field)


def _action(subject: Subject, what: str) -> str:
    return f"network.{what}" if isinstance(subject, Network) else f"peer.{what}"


def _named(subject: Subject) -> dict[str, str]:
    return {"network" if isinstance(subject, Network) else "peer_id": str(subject)}
