"""What gRPC has in HTTP/2's headers: requests' heads, responses' heads and trailers (`grpc/doc/PROTOCOL-HTTP2.md`)."""

import base64
import re

from sidecar_client.http2.binding import Headers
from sidecar_client.http2.metadata import decoded, quoted

from ....core.classes import NamedTuple
from ...common.call import Metadata
from ...common.status import Code

RESPONSE: Headers = ((b":status", b"200"), (b"content-type", b"application/grpc"))
OK: Headers = ((b"grpc-status", b"0"),)

_UNITS = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
_TIMEOUT = re.compile(r"([0-9]{1,8})([HMSmun])")
_CONTENT_TYPE = re.compile(rb"application/grpc([+;].*)?")
# What only HTTP/2 and gRPC have a use for. gRPC's own libraries leave the same out of an app's metadata.
_OWN = frozenset((b"te", b"content-type", b"grpc-accept-encoding", b"connection", b"host"))


class Unfit(Exception):
    """A call that ends with a status before a service has seen it, or instead of what it would have sent next."""

    def __init__(self, code: Code, message: str, more: Headers = ()) -> None:
        super().__init__(message)
        self.code = code
        self.more = more
        """Beside the status."""


class NotGrpc(Exception):
    """A request that is none of gRPC: it is answered in HTTP's words."""

    def __init__(self, status: bytes) -> None:
        super().__init__(status.decode())
        self.status = status


class RequestHead(NamedTuple):
    """`path`: `/service/method`. `timeout`: seconds that the caller will wait; None: as long as it takes."""

    path: bytes
    timeout: float | None
    metadata: Metadata


def request_head(headers: Headers, most: int) -> RequestHead:
    """What a request begins with. `most`: bytes of headers, as RFC 9113 counts them. Raises NotGrpc, Unfit."""
    size = 0
    path = method = content_type = b""
    timeout = None
    metadata: list[tuple[str, str | bytes]] = []
    for name, value in headers:
        size += len(name) + len(value) + 32
        if name[0] == 0x3A:  # a colon
            if name == b":path":
                path = value
            elif name == b":method":
                method = value
        elif name in _OWN:
            if name == b"content-type":
                content_type = value
        elif name == b"grpc-timeout":
            timeout = _seconds(value)
        elif name == b"grpc-encoding":
            if value != b"identity":
                raise Unfit(
                    Code.UNIMPLEMENTED,
                    f"messages compressed by {value[:64].decode('latin-1')!r} are not taken",
                    ((b"grpc-accept-encoding", b"identity"),),
                )
        elif name.endswith(b"-bin"):
            metadata.extend((name.decode("latin-1"), binary) for binary in _binary(value))
        else:
            metadata.append((name.decode("latin-1"), value.decode("latin-1")))
    if method != b"POST":
        raise NotGrpc(b"405")
    if content_type != b"application/grpc" and not _CONTENT_TYPE.fullmatch(content_type):
        raise NotGrpc(b"415")
    if size > most:
        raise Unfit(Code.RESOURCE_EXHAUSTED, f"metadata of {size} bytes, at most {most}")
    return RequestHead(path, timeout, metadata)


def _seconds(value: bytes) -> float:
    found = _TIMEOUT.fullmatch(value.decode("latin-1"))
    if found is None:
        raise Unfit(Code.INTERNAL, f"grpc-timeout {value[:64].decode('latin-1')!r} is no time")
    return int(found[1]) * _UNITS[found[2]]


def _binary(value: bytes) -> list[bytes]:
    try:
        return decoded(value)
    except ValueError:
        raise Unfit(Code.INTERNAL, "a binary header is no base64") from None


def trailers(code: Code, message: str, details: bytes = b"") -> Headers:
    """What ends a call. `details`: a google.rpc.Status, encoded."""
    found = [(b"grpc-status", b"%d" % code)]
    if message:
        found.append((b"grpc-message", quoted(message)))
    if details:
        found.append((b"grpc-status-details-bin", base64.b64encode(details)))
    return tuple(found)
