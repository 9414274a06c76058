"""Messages of `peer.proto`."""

from collections.abc import Iterable, Sequence

from sidecar_client.v1 import common_pb2
from sidecar_client.v1 import peer_pb2 as pb

from ...core.events import Path, PeerChange, PeerChanged, PeerView, ScoreView, Standing
from ...core.gate import BanView
from ...core.multiaddr import Multiaddr
from ...core.peers import KnownAddress, Origin
from ...core.types import Direction, PeerId
from ..common.values import duration, unix_time, wall_time

ListPeersRequest = pb.ListPeersRequest
GetPeerRequest = pb.GetPeerRequest
FindPeerRequest = pb.FindPeerRequest
ListClosestPeersRequest = pb.ListClosestPeersRequest
ConnectPeerRequest = pb.ConnectPeerRequest
DisconnectPeerRequest = pb.DisconnectPeerRequest
PingPeerRequest = pb.PingPeerRequest
BanPeerRequest = pb.BanPeerRequest
AllowPeerRequest = pb.AllowPeerRequest
ListBansRequest = pb.ListBansRequest
ProtectPeerRequest = pb.ProtectPeerRequest
UnprotectPeerRequest = pb.UnprotectPeerRequest
SetPeerScoreRequest = pb.SetPeerScoreRequest

_DIRECTIONS = {
    None: pb.DIRECTION_UNSPECIFIED,
    Direction.INBOUND: pb.DIRECTION_INBOUND,
    Direction.OUTBOUND: pb.DIRECTION_OUTBOUND,
}
_PATHS = {
    None: pb.PEER_PATH_UNSPECIFIED,
    Path.DIRECT: pb.PEER_PATH_DIRECT,
    Path.RELAYED: pb.PEER_PATH_RELAYED,
    Path.RELAYED_LIMITED: pb.PEER_PATH_RELAYED_LIMITED,
}
_ORIGINS = {
    Origin.BOOTSTRAP: pb.ADDRESS_ORIGIN_BOOTSTRAP,
    Origin.APP: pb.ADDRESS_ORIGIN_APP,
    Origin.LOCAL: pb.ADDRESS_ORIGIN_MDNS,
    Origin.RECORD: pb.ADDRESS_ORIGIN_PEER_RECORD,
    Origin.IDENTIFY: pb.ADDRESS_ORIGIN_IDENTIFY,
    Origin.MET: pb.ADDRESS_ORIGIN_CONNECTION,
    Origin.EXCHANGE: pb.ADDRESS_ORIGIN_PEER_EXCHANGE,
    Origin.RELAY: pb.ADDRESS_ORIGIN_RELAY,
    Origin.DHT: pb.ADDRESS_ORIGIN_DHT,
    Origin.MEMORY: pb.ADDRESS_ORIGIN_MEMORY,
}
_EVENTS = {
    PeerChange.CONNECTED: pb.PEER_EVENT_TYPE_CONNECTED,
    PeerChange.IDENTIFIED: pb.PEER_EVENT_TYPE_IDENTIFIED,
    PeerChange.UPDATED: pb.PEER_EVENT_TYPE_UPDATED,
    PeerChange.SCORED: pb.PEER_EVENT_TYPE_SCORED,
    PeerChange.DISCONNECTED: pb.PEER_EVENT_TYPE_DISCONNECTED,
}


_STANDINGS = {
    Standing.GOOD: pb.PEER_STANDING_GOOD,
    Standing.NO_MESH: pb.PEER_STANDING_NO_MESH,
    Standing.NO_GOSSIP: pb.PEER_STANDING_NO_GOSSIP,
    Standing.NO_PUBLISH: pb.PEER_STANDING_NO_PUBLISH,
    Standing.GRAYLISTED: pb.PEER_STANDING_GRAYLISTED,
}


def score(view: ScoreView) -> pb.PeerScore:
    return pb.PeerScore(
        score=view.score,
        standing=_STANDINGS[view.standing],
        reason=view.reason,
        topics=[
            pb.TopicScore(
                topic=topic.topic,
                time_in_mesh=topic.time_in_mesh,
                first_deliveries=topic.first_deliveries,
                mesh_deliveries=topic.mesh_deliveries,
                mesh_failures=topic.mesh_failures,
                invalid_messages=topic.invalid_messages,
            )
            for topic in view.topics
        ],
        application=view.application,
        colocation=view.colocation,
        behaviour=view.behaviour,
        slow=view.slow,
    )


def peer(view: PeerView, epoch_ns: int) -> pb.Peer:
    return pb.Peer(
        peer_id=str(view.peer),
        connected=view.connected,
        direction=_DIRECTIONS[view.direction],
        addresses=map(str, view.addresses),
        remote_address=str(view.remote) if view.remote else "",
        protocols=view.protocols,
        agent=view.agent,
        protocol_version=view.protocol_version,
        identified=view.identified,
        latency=None if view.latency is None else duration(view.latency),
        connect_time=None if view.connected_since is None else wall_time(view.connected_since, epoch_ns),
        connections=view.connections,
        protected=view.protected,
        score=None if view.score is None else score(view.score),
        path=_PATHS[view.path],
        path_time=None if view.path_since is None else wall_time(view.path_since, epoch_ns),
        known_addresses=[known_address(known, epoch_ns) for known in view.known],
    )


def known_address(known: KnownAddress, epoch_ns: int) -> pb.PeerAddress:
    return pb.PeerAddress(
        address=str(known.address),
        origin=_ORIGINS[known.origin],
        last_success=None if known.succeeded_at is None else wall_time(known.succeeded_at, epoch_ns),
        last_failure=None if known.failed_at is None else wall_time(known.failed_at, epoch_ns),
    )


def peers(views: Iterable[PeerView], next_page: str, total: int, epoch_ns: int) -> pb.ListPeersResponse:
    return pb.ListPeersResponse(peers=[peer(view, epoch_ns) for view in views], next_page_token=next_page, total=total)


def one(view: PeerView, epoch_ns: int) -> pb.GetPeerResponse:
    return pb.GetPeerResponse(peer=peer(view, epoch_ns))


def closest(peers: Iterable[tuple[PeerId, Iterable[Multiaddr]]]) -> pb.ListClosestPeersResponse:
    return pb.ListClosestPeersResponse(
        peers=[pb.ClosestPeer(peer_id=str(peer), addresses=map(str, addresses)) for peer, addresses in peers]
    )


def present(views: Sequence[PeerView], epoch_ns: int, *, missed: int, last: bool) -> pb.WatchPeersResponse:
    """A part of the present state; `missed` events were lost before it; `last`: it is then told in full."""
    events = [pb.PeerEvent(type=pb.PEER_EVENT_TYPE_PRESENT, peer=peer(view, epoch_ns)) for view in views]
    if last:
        events.append(pb.PeerEvent(type=pb.PEER_EVENT_TYPE_CURRENT))
    slow = common_pb2.LAG_REASON_SLOW_READER
    return pb.WatchPeersResponse(
        events=events, lagged=common_pb2.Lagged(missed=missed, reason=slow) if missed else None
    )


def changes(changed: Iterable[PeerChanged], epoch_ns: int) -> pb.WatchPeersResponse:
    return pb.WatchPeersResponse(
        events=[
            pb.PeerEvent(
                type=_EVENTS[change.change],
                peer=peer(change.view, epoch_ns),
                reason=_reason(change),
            )
            for change in changed
        ]
    )


def _reason(change: PeerChanged) -> str:
    if change.change is PeerChange.SCORED:
        return change.view.score.reason if change.view.score is not None else ""
    return str(change.error) if change.error else ""


def found(peer_id: PeerId, addresses: Iterable[Multiaddr]) -> pb.FindPeerResponse:
    return pb.FindPeerResponse(peer_id=str(peer_id), addresses=map(str, addresses))


def connected(view: PeerView, epoch_ns: int) -> pb.ConnectPeerResponse:
    return pb.ConnectPeerResponse(peer=peer(view, epoch_ns))


def disconnected() -> pb.DisconnectPeerResponse:
    return pb.DisconnectPeerResponse()


def pinged(seconds: float) -> pb.PingPeerResponse:
    return pb.PingPeerResponse(latency=duration(seconds))


def ban(view: BanView) -> pb.Ban:
    subject, reason, created, expires = view.ban
    is_peer = isinstance(subject, PeerId)
    return pb.Ban(
        peer_id=str(subject) if is_peer else "",
        network="" if is_peer else str(subject),
        reason=reason,
        create_time=None if view.configured else unix_time(created),
        expire_time=None if expires is None else unix_time(expires),
        configured=view.configured,
        refused=view.refused,
    )


def banned(views: Iterable[BanView], closed: int, warnings: Iterable[str]) -> pb.BanPeerResponse:
    return pb.BanPeerResponse(bans=map(ban, views), connections_closed=closed, warnings=warnings)


def allowed(warnings: Iterable[str]) -> pb.AllowPeerResponse:
    return pb.AllowPeerResponse(warnings=warnings)


def bans(views: Iterable[BanView], next_page: str, total: int) -> pb.ListBansResponse:
    return pb.ListBansResponse(bans=map(ban, views), next_page_token=next_page, total=total)


def protected(warnings: Iterable[str]) -> pb.ProtectPeerResponse:
    return pb.ProtectPeerResponse(warnings=warnings)


def unprotected(warnings: Iterable[str]) -> pb.UnprotectPeerResponse:
    return pb.UnprotectPeerResponse(warnings=warnings)


def scored() -> pb.SetPeerScoreResponse:
    return pb.SetPeerScoreResponse()
