"""Messages of `discovery.proto`."""

from collections.abc import Iterable

from google.protobuf.timestamp_pb2 import Timestamp
from sidecar_client.v1 import discovery_pb2 as pb

from ...core.events import AdvertisementAnnounced, RecordFound, RecordStored
from ...core.multiaddr import Multiaddr
from ...core.types import PeerId
from ..common.values import wall_time

AdvertiseRequest = pb.AdvertiseRequest
FindPeersRequest = pb.FindPeersRequest
PutRecordRequest = pb.PutRecordRequest
GetRecordRequest = pb.GetRecordRequest


def announced(news: AdvertisementAnnounced, epoch_ns: int) -> pb.AdvertiseResponse:
    return pb.AdvertiseResponse(
        holders=news.stored, asked=news.asked, next_announcement=wall_time(news.again, epoch_ns)
    )


def found_peers(peers: Iterable[tuple[PeerId, tuple[Multiaddr, ...]]]) -> pb.FindPeersResponse:
    found = (pb.FoundPeer(peer_id=str(peer), addresses=map(str, addresses)) for peer, addresses in peers)
    return pb.FindPeersResponse(peers=found)


def stored(receipt: RecordStored) -> pb.PutRecordResponse:
    return pb.PutRecordResponse(stored=receipt.stored, asked=receipt.asked)


def record(found: RecordFound) -> pb.GetRecordResponse:
    response = pb.GetRecordResponse(
        value=found.value,
        holders=found.holders,
        publisher=str(found.publisher) if found.publisher is not None else "",
        sequence=found.seq,
    )
    if found.expires is not None:
        expires = Timestamp()
        expires.FromNanoseconds(int(found.expires * 1e9))
        response.expires_at.CopyFrom(expires)
    return response
