"""One connection to a sidecar, without I/O: calls and their messages in, bytes out; bytes in, what becomes of them."""

import contextlib
from collections.abc import Sequence
from typing import Any, Protocol

from ..codes import Code
from .binding import (
    ClientSession,
    DataReceived,
    GoAwayReceived,
    Headers,
    ResponseReceived,
    SettingsReceived,
    StreamClosed,
    StreamReset,
    TrailersReceived,
    Violation,
    open_client_session,
)
from .messages import PREFIX, MessageReader, Unreadable, prefix

WINDOW = 65_536
"""Bytes of a stream that may be on their way: as with gRPC's own library, a slow reader is noticed early."""
WIDE_WINDOW = 262_144
"""The same of a stream of which as many have been read: fewer words about windows. What one read brings at most."""
MAX_HEADERS = 65_536  # of a response; a status' details are among them. libnghttp2 takes no larger field
MAX_MESSAGE = 1 << 30  # bytes; a sidecar bounds what it sends by far less, at a size of its configuration
_HELD = 32_768  # bytes of a stream's messages that nobody has read, beyond which its window stays as it is
_LARGE = 16_384  # bytes of a message from which on copying costs more than another piece
_NO_ERROR, _REFUSED_STREAM, _CANCEL = 0x0, 0x7, 0x8  # RFC 9113, section 7
# What a stream's end without a status means (`grpc/doc/PROTOCOL-HTTP2.md`, "Errors").
_RESETS = {
    _REFUSED_STREAM: Code.UNAVAILABLE,
    _CANCEL: Code.CANCELLED,
    0xB: Code.RESOURCE_EXHAUSTED,
    0xC: Code.PERMISSION_DENIED,
}
# What answers that are none of gRPC mean (`grpc/doc/http-grpc-status-mapping.md`).
_HTTP = {
    b"400": Code.INTERNAL,
    b"401": Code.UNAUTHENTICATED,
    b"403": Code.PERMISSION_DENIED,
    b"404": Code.UNIMPLEMENTED,
    b"429": Code.UNAVAILABLE,
    b"502": Code.UNAVAILABLE,
    b"503": Code.UNAVAILABLE,
    b"504": Code.UNAVAILABLE,
}


class Sink(Protocol):
    """What a call hears of its stream. Nothing follows `ended` or `failed`."""

    def began(self, headers: Headers) -> None:
        """The response's head."""

    def came(self, messages: list[bytes]) -> None:
        """Messages, in order."""

    def ended(self, headers: Headers) -> None:
        """What the call ended with."""

    def failed(self, code: Code, message: str, reached: bool) -> None:
        """The call ended without a status. `reached`: whether the server may have seen it."""


class _Stream:
    __slots__ = ("closed", "held", "owed", "read", "reader", "sink")

    def __init__(self, sink: Sink, closed: bool) -> None:
        self.sink = sink
        self.reader = MessageReader(MAX_MESSAGE)
        self.closed = closed  # we have said everything
        self.held = 0  # bytes of messages that nobody has read yet
        self.owed = 0  # bytes that have come and that the server has not been given back
        self.read = 0  # bytes of messages that somebody has read, until its window is wide


class ClientConnection:
    """Writes calls and reads their answers. What a sink does in turn may be to begin, write and cancel calls."""

    def __init__(self) -> None:
        self._session: ClientSession = open_client_session(WINDOW, MAX_HEADERS)
        self._streams: dict[int, _Stream] = {}
        self.greeted = False
        """Whether the server has shown that it speaks HTTP/2."""
        self.leaving = False
        """Whether no further call can begin here: the server has said that it goes, or all numbers are used."""
        self.failed = False
        """Whether the connection is of no use any more."""

    @property
    def calls(self) -> int:
        """How many are open."""
        return len(self._streams)

    # ------------------------------------------------------------ in

    def receive_data(self, data: bytes) -> None:
        """Tell the calls what these bytes mean for them. Raises Violation where they are the last."""
        if self.failed:
            return
        session = self._session
        touched: dict[int, _Stream] = {}  # that data came for: one word about windows for all of it
        session.receive_data(data)
        self._hear(session.events(), touched)
        for stream_id, stream in touched.items():
            if stream.held <= _HELD:
                self._give_back(stream_id, stream)

    def _hear(self, events: Sequence[object], touched: dict[int, _Stream]) -> None:
        streams = self._streams
        for event in events:
            kind = type(event)
            taken: Any = event  # the events of bindings share no types, only their attributes
            if kind is DataReceived:
                self._on_data(taken, touched)
            elif kind is TrailersReceived:
                stream = streams.get(taken.stream_id)
                if stream is not None:
                    self._on_status(taken.stream_id, stream, taken.headers)
            elif kind is ResponseReceived:
                stream = streams.get(taken.stream_id)
                if stream is not None:
                    self._on_response(taken.stream_id, stream, taken)
            elif kind is StreamReset or kind is StreamClosed:
                stream = streams.pop(taken.stream_id, None)
                if stream is not None:
                    self._on_reset(stream, taken)
            elif kind is SettingsReceived:
                self.greeted = True  # no frame may come before it
            elif kind is GoAwayReceived:
                self._on_goaway(taken)

    def _on_response(self, stream_id: int, stream: _Stream, event: Any) -> None:
        headers = event.headers
        status = content_type = b""
        for name, value in headers:
            if name == b":status":
                status = value
            elif name == b"content-type":
                content_type = value
        if status != b"200":
            code = _HTTP.get(status, Code.UNKNOWN)
            self._break(stream_id, stream, code, f"Received http2 header with status: {status.decode('latin-1')}")
        elif not content_type.startswith(b"application/grpc"):
            text = f"an answer with the content type {content_type[:64].decode('latin-1')!r} is none of gRPC"
            self._break(stream_id, stream, Code.UNKNOWN, text)
        elif event.end_stream:
            self._on_status(stream_id, stream, headers)
        else:
            stream.sink.began(headers)

    def _on_data(self, event: Any, touched: dict[int, _Stream]) -> None:
        stream_id = event.stream_id
        data = event.data
        stream = self._streams.get(stream_id)
        if stream is None:  # over already
            with contextlib.suppress(Violation):
                self._session.acknowledge_received_data(len(data), stream_id)
            return
        touched[stream_id] = stream
        stream.owed += len(data)
        try:
            messages = stream.reader.receive(data)
        except Unreadable as broken:
            self._break(stream_id, stream, broken.code, str(broken))
            return
        if messages:
            for message in messages:
                stream.held += len(message) + PREFIX
            stream.sink.came(messages)
        if event.end_stream and stream_id in self._streams:
            self._break(stream_id, stream, Code.INTERNAL, "the server ended the call without a status")

    def _on_status(self, stream_id: int, stream: _Stream, headers: Headers) -> None:
        del self._streams[stream_id]
        self._give_back(stream_id, stream)
        if not stream.closed:  # what we would still write is of no interest any more
            with contextlib.suppress(Violation):
                self._session.reset_stream(stream_id, _NO_ERROR)
        if stream.reader.amid:
            stream.sink.failed(Code.INTERNAL, "the call ended amid a message", True)
        else:
            stream.sink.ended(headers)

    def _on_reset(self, stream: _Stream, event: Any) -> None:
        error = event.error_code
        broken = getattr(event, "local_error", None)
        if broken is not None:  # the server's answer was none
            stream.sink.failed(Code.INTERNAL, f"the server broke HTTP/2: {broken}", True)
            return
        code = _RESETS.get(error, Code.INTERNAL)
        stream.sink.failed(code, f"Received RST_STREAM with error code {error}", error != _REFUSED_STREAM)

    def _on_goaway(self, event: Any) -> None:
        """RFC 9113, section 6.8: streams beyond the one that is named were not seen."""
        self.leaving = True
        unseen = [number for number in self._streams if number > event.last_stream_id]
        for number in unseen:
            self._streams.pop(number).sink.failed(Code.UNAVAILABLE, "the server is going away", False)

    def _break(self, stream_id: int, stream: _Stream, code: Code, text: str) -> None:
        self.cancel(stream_id)
        stream.sink.failed(code, text, True)

    def lose(self, reason: str) -> None:
        """The connection is over, and with it all its calls."""
        self.failed = True
        streams, self._streams = self._streams, {}
        for stream in streams.values():
            stream.sink.failed(Code.UNAVAILABLE, reason, True)

    def taken(self, stream_id: int, length: int) -> bool:
        """A message of a call has been read. True where that gives the server something to hear."""
        stream = self._streams.get(stream_id)
        if stream is None:
            return False
        stream.held -= length + PREFIX
        if stream.read < WIDE_WINDOW:
            stream.read += length
            if stream.read >= WIDE_WINDOW:
                with contextlib.suppress(Violation):
                    self._session.set_local_window_size(WIDE_WINDOW, stream_id=stream_id)
        if stream.held > _HELD or not stream.owed:
            return False
        self._give_back(stream_id, stream)
        return self._session.want_write

    def _give_back(self, stream_id: int, stream: _Stream) -> None:
        owed, stream.owed = stream.owed, 0
        if owed:
            with contextlib.suppress(Violation):
                self._session.acknowledge_received_data(owed, stream_id)

    # ------------------------------------------------------------ out

    def begin(self, sink: Sink, headers: Headers, request: bytes | None) -> int:
        """Begin a call; its number. `request`: its only one; None: `send` gives them. Raises Violation."""
        session = self._session
        number = session.send_request(headers)
        self._streams[number] = _Stream(sink, request is not None)
        if request is not None:
            length = len(request)
            if length < _LARGE:
                session.send_data(number, prefix(length) + request, end_stream=True)
            else:
                session.send_data(number, prefix(length))
                session.send_data(number, request, end_stream=True)
        return number

    def send(self, number: int, message: bytes) -> None:
        """Send a message, behind those that wait."""
        if number not in self._streams:
            return
        session = self._session
        length = len(message)
        with contextlib.suppress(Violation):  # the stream is about to be told that it has ended
            if length < _LARGE:
                session.send_data(number, prefix(length) + message)
            else:  # a copy less
                session.send_data(number, prefix(length))
                session.send_data(number, message)

    def finish(self, number: int) -> None:
        """Nothing follows what was sent."""
        stream = self._streams.get(number)
        if stream is not None and not stream.closed:
            stream.closed = True
            with contextlib.suppress(Violation):
                self._session.end_stream(number)

    def cancel(self, number: int) -> None:
        """End a call at once; its sink hears nothing more."""
        stream = self._streams.pop(number, None)
        if stream is not None and not self.failed:
            self._give_back(number, stream)
            with contextlib.suppress(Violation):
                self._session.reset_stream(number, _CANCEL)

    def waiting(self, number: int) -> int:
        """Bytes of a call that are not on their way yet."""
        return self._session.queued_body_size(number) if number in self._streams else 0

    def end(self) -> None:
        """Say that no calls follow."""
        self.leaving = True
        if not self.failed:
            with contextlib.suppress(Violation):
                self._session.send_goaway(_NO_ERROR)

    @property
    def can_begin(self) -> bool:
        """Whether another call may."""
        return not self.failed and not self.leaving and self._session.can_send_request

    @property
    def wants_write(self) -> bool:
        """Whether there may be something for the socket."""
        return self._session.want_write

    def data_to_send(self, amount: int) -> bytes:
        """What the socket is to take next, about `amount` bytes; empty when there is nothing."""
        if self.failed:
            return b""
        session = self._session
        data = session.data_to_send(amount)
        self._hear(session.events(), {})  # what ended because of what came: it is reset first
        return data

    @property
    def broken(self) -> bool:
        """Whether the server has broken HTTP/2, and what is sent next says so."""
        return not self._session.want_read and bool(self._streams or not self.leaving)

    @property
    def over(self) -> bool:
        """Whether the connection is to be closed: it has no call, and takes none."""
        return self.failed or (self.leaving and not self._streams)
