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

from tests.net.certificates import Authority

DOMAIN = "sidecar"


class Mirror:
    """Serves at a Unix socket in `home`, or on loopback under TLS and only who shows a certificate and a token."""

    def __init__(self, home: Path, *, token: str | None) -> None:
        """`token`: the one that is asked for, under TLS; None: a Unix socket, and no question."""
        self.target = f"unix:{home / 'mirror.sock'}"
        self.files: dict[str, str] = {}
        checks = [] if token is None else [_Doorkeeper(token)]
        self._server = grpc.aio.server(interceptors=checks)
        node = {"GetNode": _unary(_node, node_pb2.GetNodeRequest)}
        peers = {"FindPeer": _unary(_find_peer, peer_pb2.FindPeerRequest)}
        services = {"sidecar.v1.NodeService": node, "sidecar.v1.PeerService": peers}
        self._server.add_generic_rpc_handlers(
            tuple(grpc.method_handlers_generic_handler(name, methods) for name, methods in services.items())
        )
        if token is None:
            self._server.add_insecure_port(self.target)
        else:
            self._serve_safely(home, token)

    def _serve_safely(self, home: Path, token: str) -> None:
        authority = Authority(home / "mirror")
        certificate, key = authority.issue("localhost", "127.0.0.1")
        token_file = home / "mirror" / "token"
        token_file.write_text(f"{token}\n")
        ca = authority.path.read_bytes()
        safe = grpc.ssl_server_credentials([(key.read_bytes(), certificate.read_bytes())], ca, require_client_auth=True)
        self.target = f"tls://localhost:{self._server.add_secure_port('localhost:0', safe)}"
        paths = {"ca": authority.path, "cert": certificate, "key": key, "token_file": token_file}
        self.files = {name: str(path) for name, path in paths.items()}

    async def start(self) -> None:
        await self._server.start()

    async def stop(self) -> None:
        await self._server.stop(None)


class _Doorkeeper(grpc.aio.ServerInterceptor):  # type: ignore[misc]  # grpc has no types of its own
    """Lets those in who know the token."""

    def __init__(self, token: str) -> None:
        self._wanted = f"Bearer {token}"

    async def intercept_service(self, continuation: Any, details: Any) -> Any:
        given = dict(details.invocation_metadata or ()).get("authorization")
        return await continuation(details) if given == self._wanted else grpc.unary_unary_rpc_method_handler(_refuse)


async def _refuse(request: Any, context: Any) -> Any:
    await context.abort(grpc.StatusCode.UNAUTHENTICATED, "no token, or another one")


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
