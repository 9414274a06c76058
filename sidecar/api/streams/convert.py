"""Messages of `stream.proto`."""

from collections.abc import Iterable

from sidecar_client.v1 import stream_pb2 as pb

from ...core.types import PeerId

OpenStreamRequest = pb.OpenStreamRequest
AcceptStreamsRequest = pb.AcceptStreamsRequest
AttachStreamRequest = pb.AttachStreamRequest


def opened(peer: PeerId, protocol: str) -> bytes:
    """The beginning of a first response of OpenStream or AttachStream, which are encoded alike."""
    stream = pb.OpenedStream(peer_id=str(peer), protocol=protocol)
    return pb.OpenStreamResponse(opened=stream).SerializeToString()


def incoming(streams: Iterable[tuple[str, PeerId, str]]) -> pb.AcceptStreamsResponse:
    """Streams that wait: (token, peer, protocol)."""
    return pb.AcceptStreamsResponse(
        streams=[
            pb.IncomingStream(token=token, peer_id=str(peer), protocol=protocol) for token, peer, protocol in streams
        ]
    )
