"""Messages of `stream.proto`."""

from collections.abc import Iterable

from sidecar_client.v1 import stream_pb2 as pb

from ...core.types import PeerId

OpenStreamRequest = pb.OpenStreamRequest
AcceptStreamsRequest = pb.AcceptStreamsRequest
AttachStreamRequest = pb.AttachStreamRequest
CarryStreamsRequest = pb.CarryStreamsRequest


def opened(peer: PeerId, protocol: str) -> bytes:
    """The beginning of a first response of OpenStream or AttachStream, which are encoded alike."""
    return pb.OpenStreamResponse(opened=_opened(peer, protocol)).SerializeToString()


def opened_frame(peer: PeerId, protocol: str, acceptor: int) -> bytes:
    """The same as fields of an IncomingFrame; `acceptor`: its number, for a stream that a peer has opened, or 0."""
    return pb.IncomingFrame(opened=_opened(peer, protocol), acceptor=acceptor).SerializeToString()


def _opened(peer: PeerId, protocol: str) -> pb.OpenedStream:
    return pb.OpenedStream(peer_id=str(peer), protocol=protocol)


def incoming(streams: Iterable[tuple[str, PeerId, str]]) -> pb.AcceptStreamsResponse:
    """Streams that wait: (token, peer, protocol)."""
    return pb.AcceptStreamsResponse(
        streams=[
            pb.IncomingStream(token=token, peer_id=str(peer), protocol=protocol) for token, peer, protocol in streams
        ]
    )
