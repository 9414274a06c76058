"""grpc.reflection.v1alpha, by which tools such as grpcurl learn the schemas."""

from collections.abc import AsyncIterator, Iterable
from typing import Any

from google.protobuf import descriptor_pool
from grpc_reflection.v1alpha import reflection_pb2

from ..common.call import Call
from ..common.status import Code

SERVICE = reflection_pb2.DESCRIPTOR.services_by_name["ServerReflection"]

_Response = reflection_pb2.ServerReflectionResponse


class Reflection:
    """The answers of the reflection service; its method is that of the schema."""

    def __init__(self, services: Iterable[str]) -> None:
        """`services`: the full names of those that are served."""
        self._services = sorted(services)
        self._pool = descriptor_pool.Default()

    async def server_reflection_info(self, requests: AsyncIterator[Any], call: Call) -> None:
        """One answer to each question."""
        async for request in requests:
            response = _Response(original_request=request)
            try:
                self._answer(request, response)
            except KeyError:
                response.error_response.error_code = Code.NOT_FOUND
                response.error_response.error_message = "not found"
            await call.write(response)

    def _answer(self, request: Any, response: Any) -> None:
        """Raises KeyError where the schemas have no such thing."""
        pool = self._pool
        match request.WhichOneof("message_request"):
            case "list_services":
                for name in self._services:
                    response.list_services_response.service.add().name = name
            case "file_by_filename":
                _tell_file(pool.FindFileByName(request.file_by_filename), response)
            case "file_containing_symbol":
                _tell_file(self._file_of(request.file_containing_symbol), response)
            case "file_containing_extension":
                asked = request.file_containing_extension
                message = pool.FindMessageTypeByName(asked.containing_type)
                extension = pool.FindExtensionByNumber(message, asked.extension_number)
                _tell_file(pool.FindFileContainingSymbol(extension.full_name), response)
            case "all_extension_numbers_of_type":
                message = pool.FindMessageTypeByName(request.all_extension_numbers_of_type)
                told = response.all_extension_numbers_response
                told.base_type_name = message.full_name
                told.extension_number.extend(sorted(found.number for found in pool.FindAllExtensions(message)))
            case _:
                response.error_response.error_code = Code.INVALID_ARGUMENT
                response.error_response.error_message = "the request asks nothing"

    def _file_of(self, symbol: str) -> Any:
        """The file that has this. Raises KeyError."""
        try:
            return self._pool.FindFileContainingSymbol(symbol)
        except KeyError:  # protobuf finds services there, but none of their methods
            service, _, method = symbol.rpartition(".")
            found = self._pool.FindServiceByName(service)
            found.methods_by_name[method]
            return found.file


def _tell_file(file: Any, response: Any) -> None:
    """A file and all that it imports, each once."""
    from google.protobuf import descriptor_pb2  # large, and of use only to who asks

    found = {file.name: file}
    left = [file]
    while left:
        for imported in left.pop().dependencies:
            if imported.name not in found:
                found[imported.name] = imported
                left.append(imported)
    for each in found.values():
        proto = descriptor_pb2.FileDescriptorProto()
        each.CopyToProto(proto)
        response.file_descriptor_response.file_descriptor_proto.append(proto.SerializeToString())
