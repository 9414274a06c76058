"""WebSocket (RFC 6455, specs websockets): the channel's bytes as the payload of binary frames.

Where frames begin and end means nothing. The `websockets` library's protocol machines do the parsing; they are imported
with this module, which is imported by whoever has such an address to dial or to listen at.
"""

import logging

from websockets.client import ClientProtocol
from websockets.exceptions import PayloadTooBig, WebSocketException
from websockets.frames import BINARY, CONT, TEXT, Frame
from websockets.http11 import Request
from websockets.protocol import State
from websockets.server import ServerProtocol
from websockets.uri import WebSocketURI

from ..core.errors import FrameTooLarge, HandshakeError, ProtocolError, SidecarError
from ..core.override import override
from .layers import Buffers, Layer

MAX_MESSAGE = 1024 * 1024  # bytes; others send a message for each write, of 64 KiB and a little at most
_MAX_OWN = 16  # pongs that wait for a remote that does not read; RFC 6455 section 5.5.3 lets older ones be left away
_END_OF_HEAD = b"\r\n\r\n"
_BAD_REQUEST = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"

_library_log = logging.getLogger(f"{__name__}.library")
_library_log.setLevel(logging.ERROR)  # it tells of every connection


class WebSocketLayer(Layer):
    """One side of a WebSocket connection. Any path, Origin and subprotocol is accepted; compression is not offered."""

    def __init__(self, host: str | None = None, port: int = 0, *, secure: bool = False) -> None:
        """`host`, `port`: what we dial, as the Host header says it; without them, we listen."""
        self.ready = self.ended = False
        self.failure: SidecarError | None = None
        self._own: list[bytes] = []
        self._tail = b""  # the last bytes of an unfinished request, where its end may begin
        self._protocol: ClientProtocol | ServerProtocol
        if host is None:
            self._protocol = ServerProtocol(max_size=MAX_MESSAGE, logger=_library_log)
        else:
            uri = WebSocketURI(secure, host, port, "/", "")
            client = ClientProtocol(uri, max_size=MAX_MESSAGE, logger=_library_log)
            client.send_request(client.connect())
            self._protocol = client
            self._collect()

    @override
    def feed(self, data: bytes) -> bytes:
        """Raises HandshakeError, FrameTooLarge, ProtocolError; behind good bytes, the error is in `failure`."""
        rest = b""
        if not self.ready and isinstance(self._protocol, ServerProtocol):
            data, rest = self._cut(data)
        out: list[bytes] = []
        try:
            self._receive(data, out)
            if rest:
                self._receive(rest, out)
        except SidecarError as error:
            if not out:
                raise
            self.failure = error
        finally:
            self._collect()
        return b"".join(out)

    def _cut(self, data: bytes) -> tuple[bytes, bytes]:
        """Split behind the request's head: the library takes what follows only once the request was answered."""
        seen = self._tail + data
        end = seen.find(_END_OF_HEAD)
        if end < 0:
            self._tail = seen[-len(_END_OF_HEAD) + 1 :]
            return data, b""
        size = end + len(_END_OF_HEAD) - len(self._tail)
        return data[:size], data[size:]

    def _receive(self, data: bytes, out: list[bytes]) -> None:
        protocol = self._protocol
        if self.ended or not data:
            return
        protocol.receive_data(data)
        for event in protocol.events_received():
            if isinstance(event, Frame):
                if event.opcode is BINARY or event.opcode is CONT:
                    out.append(bytes(event.data))
                elif event.opcode is TEXT:
                    protocol.fail(1003, "binary frames only")
                    raise ProtocolError("a WebSocket text frame; libp2p sends binary ones")
            elif isinstance(event, Request) and isinstance(protocol, ServerProtocol):
                protocol.send_response(protocol.accept(event))
        if protocol.handshake_exc is not None:
            self._refused(protocol.handshake_exc)
        self.ready = self.ready or protocol.state is State.OPEN
        self.ended = protocol.close_rcvd is not None
        error = protocol.parser_exc
        if isinstance(error, PayloadTooBig):
            raise FrameTooLarge(f"a WebSocket message of more than {MAX_MESSAGE} bytes: {error}")
        if error is not None:
            raise ProtocolError(f"WebSocket: {error}")

    def _refused(self, error: Exception) -> None:
        self._collect()
        if isinstance(self._protocol, ClientProtocol):
            raise HandshakeError(f"the remote does not speak WebSocket: {_sentence(error)}")
        if not self._own:
            self._own.append(_BAD_REQUEST)  # what is no HTTP at all the library leaves without an answer
        raise HandshakeError(f"not a WebSocket request: {_sentence(error)}")

    @override
    def seal(self, buffers: Buffers) -> Buffers:
        if self._protocol.state is not State.OPEN:
            return ()  # a goodbye was said
        self._collect()
        self._protocol.send_binary(b"".join(buffers))
        return [part for part in self._protocol.data_to_send() if part]

    @override
    def output(self) -> list[bytes]:
        own, self._own = self._own, []
        return own

    @override
    def close(self) -> None:
        if self._protocol.state is State.OPEN:
            self._protocol.send_close(1000)
            self._collect()

    @override
    def explain(self, error: SidecarError | None) -> SidecarError | None:
        return error

    def _collect(self) -> None:
        self._own += [part for part in self._protocol.data_to_send() if part]  # empty ones mean the end of the stream
        if self.ready:
            del self._own[:-_MAX_OWN]


def _sentence(error: Exception) -> str:
    cause = error.__cause__
    if not isinstance(error, WebSocketException) or cause is None:
        return str(error)[:200]
    return f"{error}: {cause}"[:200]
