"""`sidecar.v1.PeerService`."""

from typing import Any

from ..core.errors import SelfDial
from ..core.events import ConnectRequested, DisconnectRequested, FindPeerRequested, PeerView, PingRequested
from ..core.types import PeerId
from .bridge import Mesh
from .convert import peer as convert
from .convert import values
from .errors import OPEN, Context
from .watch import PeerWatcher

_PAGE, _MAX_PAGE = 500, 1000
_MAX_ADDRESSES = 32
_SNAPSHOT = 256  # peers a response


class PeerService:
    """The peers; every method as its schema says."""

    def __init__(self, mesh: Mesh) -> None:
        self._mesh = mesh

    async def list_peers(self, request: convert.ListPeersRequest, context: Context) -> object:
        wanted = request.protocol
        views = [
            view
            for view in self._mesh.node.peers(known=not request.connected_only)
            if not wanted or wanted in view.protocols
        ]
        views.sort(key=lambda view: bytes(view.peer))
        after = values.peer_id(request.page_token, "page_token") if request.page_token else PeerId()
        rest = [view for view in views if view.peer > after]
        size = min(request.page_size or _PAGE, _MAX_PAGE)
        page = rest[:size]
        token = str(page[-1].peer) if len(rest) > size else ""
        return convert.peers(page, token, len(views), self._mesh.epoch_ns)

    async def watch_peers(self, request: Any, context: Context) -> None:
        mesh = self._mesh
        with mesh.watching_peers() as watcher:
            await context.send_initial_metadata(OPEN)
            await self._tell_present(watcher, context)
            while True:
                if watcher.lagging:
                    await self._tell_present(watcher, context)
                changes = watcher.take()
                if changes:
                    await context.write(convert.changes(changes, mesh.epoch_ns))
                    continue
                watcher.check()
                await watcher.ready.wait()

    async def _tell_present(self, watcher: PeerWatcher, context: Context) -> None:
        """Tell the connected peers as of now; what changes meanwhile waits in the watcher's queue."""
        mesh = self._mesh
        missed = watcher.restart()
        views: list[PeerView] = [view for view in mesh.node.peers() if view.connected]
        for start in range(0, max(1, len(views)), _SNAPSHOT):
            part = views[start : start + _SNAPSHOT]
            last = start + _SNAPSHOT >= len(views)
            await context.write(convert.present(part, mesh.epoch_ns, missed=missed, last=last))
            missed = 0

    async def find_peer(self, request: convert.FindPeerRequest, context: Context) -> object:
        peer = values.peer_id(request.peer_id)
        return convert.found(peer, await self._mesh.ask(lambda op: FindPeerRequested(op, peer)))

    async def connect_peer(self, request: convert.ConnectPeerRequest, context: Context) -> object:
        addresses = values.addresses(request.addresses, _MAX_ADDRESSES)
        peer = self._other(request.peer_id) if request.peer_id else None
        for index, address in enumerate(addresses):
            named = address.peer_id
            if named is None:
                continue
            if peer is not None and named != peer:
                raise values.invalid(f"addresses[{index}]", f"it names {named}, other than {peer}")
            peer = self._other(str(named), f"addresses[{index}]")
        if peer is None and not addresses:
            raise values.invalid("peer_id", "neither a peer id nor an address is given")
        view = await self._mesh.ask(lambda op: ConnectRequested(op, peer, addresses))
        return convert.connected(view, self._mesh.epoch_ns)

    async def disconnect_peer(self, request: convert.DisconnectPeerRequest, context: Context) -> object:
        peer = self._other(request.peer_id)
        await self._mesh.ask(lambda op: DisconnectRequested(op, peer))
        return convert.disconnected()

    async def ping_peer(self, request: convert.PingPeerRequest, context: Context) -> object:
        peer = self._other(request.peer_id)
        return convert.pinged(await self._mesh.ask(lambda op: PingRequested(op, peer)))

    def _other(self, text: str, field: str = "peer_id") -> PeerId:
        return other_peer(self._mesh, text, field)


def other_peer(mesh: Mesh, text: str, field: str = "peer_id") -> PeerId:
    """The id of a peer that is not this node. Raises InvalidField."""
    peer = values.peer_id(text, field)
    if peer == mesh.node.peer_id:
        raise values.invalid(field, SelfDial("the peer named is this node itself"))
    return peer
