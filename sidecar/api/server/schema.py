"""What the schemas say of the services: which methods, streaming how, with what messages."""

from collections.abc import Callable
from typing import Any

from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass
from sidecar_client.v1 import direct_pb2, discovery_pb2, durable_pb2, node_pb2, peer_pb2, pubsub_pb2, stream_pb2

from ...core.classes import NamedTuple

_FILES = (node_pb2, peer_pb2, direct_pb2, durable_pb2, stream_pb2, pubsub_pb2, discovery_pb2)


class Malformed(NamedTuple):
    """A request that could not be parsed, in place of it: gRPC would log an error and answer UNKNOWN."""

    message: str


class Method(NamedTuple):
    """A method of a service. `parse` returns Malformed for what is no such message."""

    name: str
    client_streaming: bool
    server_streaming: bool
    parse: Callable[[bytes], Any]


def services() -> dict[str, list[Method]]:
    """Full service name -> its methods."""
    return {
        service.full_name: methods_of(service)
        for file in _FILES
        for service in file.DESCRIPTOR.services_by_name.values()
    }


def methods_of(service: Any) -> list[Method]:
    """The methods of a service's descriptor."""
    return [
        Method(method.name, method.client_streaming, method.server_streaming, _parser(method.input_type))
        for method in service.methods
    ]


def _parser(kind: Any) -> Callable[[bytes], Any]:
    parse = GetMessageClass(kind).FromString

    def parse_or_not(data: bytes) -> Any:
        try:
            return parse(data)
        except DecodeError:
            return Malformed(f"request of {len(data)} bytes is no {kind.full_name}")

    return parse_or_not


def serialize(response: Any) -> bytes:
    """Encode a response; those of hot streams come as bytes already."""
    if type(response) is bytes:
        return response
    encoded: bytes = response.SerializeToString()
    return encoded
