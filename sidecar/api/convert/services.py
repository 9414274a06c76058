"""What the schemas say of the services: which methods, streaming how, with what messages."""

from collections.abc import Callable
from typing import Any, NamedTuple

from google.protobuf.message_factory import GetMessageClass
from sidecar_client.v1 import direct_pb2, node_pb2, peer_pb2, pubsub_pb2

_FILES = (node_pb2, peer_pb2, direct_pb2, pubsub_pb2)


class Method(NamedTuple):
    """A method of a service."""

    name: str
    client_streaming: bool
    server_streaming: bool
    parse: Callable[[bytes], Any]


def services() -> dict[str, list[Method]]:
    """Full service name -> its methods."""
    return {
        service.full_name: [
            Method(
                method.name,
                method.client_streaming,
                method.server_streaming,
                GetMessageClass(method.input_type).FromString,
            )
            for method in service.methods
        ]
        for file in _FILES
        for service in file.DESCRIPTOR.services_by_name.values()
    }


def serialize(response: Any) -> bytes:
    """Encode a response; those of hot streams come as bytes already."""
    if type(response) is bytes:
        return response
    encoded: bytes = response.SerializeToString()
    return encoded
