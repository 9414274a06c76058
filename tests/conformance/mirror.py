"""A server in the place of a sidecar that ends calls as it is told to, for errors that no healthy sidecar gives.

It answers `GetNode`, so that clients can connect, and ends every `FindPeer` with the status that the peer id spells:
`CODE REASON FIELD RETRY_MS`, with `-` where there is none.
"""

from pathlib import Path
from typing import Any

import grpc
from google.protobuf.any_pb2 import Any as Packed
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from sidecar_client.v1 import node_pb2, peer_pb2

DOMAIN = "sidecar"


class Mirror:
    """Serves at a Unix socket."""

    def __init__(self, socket: Path) -> None:
        self.socket = socket
        self._server = grpc.aio.server()
        node = {"GetNode": _unary(_node, node_pb2.GetNodeRequest)}
        peers = {"FindPeer": _unary(_find_peer, peer_pb2.FindPeerRequest)}
        services = {"sidecar.v1.NodeService": node, "sidecar.v1.PeerService": peers}
        self._server.add_generic_rpc_handlers(
            tuple(grpc.method_handlers_generic_handler(name, methods) for name, methods in services.items())
        )
        self._server.add_insecure_port(f"unix:{socket}")

    async def start(self) -> None:
        await self._server.start()

    async def stop(self) -> None:
        await self._server.stop(None)


def _unary(handler: Any, request: Any) -> Any:
    return grpc.unary_unary_rpc_method_handler(
        handler,
        request_deserializer=request.FromString,
        response_serializer=lambda message: message.SerializeToString(),
    )


async def _node(request: Any, context: Any) -> Any:
    return node_pb2.GetNodeResponse(node=node_pb2.Node(peer_id="mirror"))


async def _find_peer(request: Any, context: Any) -> Any:
    name, reason, field, retry = request.peer_id.split()
    code = grpc.StatusCode[name]
    details: list[Any] = []
    if reason != "-":
        details.append(ErrorInfo(reason=reason, domain=DOMAIN))
    if field != "-":
        details.append(BadRequest(field_violations=[BadRequest.FieldViolation(field=field, description="wrong")]))
    if retry != "-":
        delay = Duration()
        delay.FromMilliseconds(int(retry))
        details.append(RetryInfo(retry_delay=delay))
    status = Status(code=code.value[0], message=f"as told: {request.peer_id}")
    for detail in details:
        packed = Packed()
        packed.Pack(detail)
        status.details.append(packed)
    await context.abort(
        code, status.message, (("grpc-status-details-bin", status.SerializeToString()),) if details else ()
    )
