"""One connection of an app, without I/O: bytes in, what happens to its calls out; responses in, bytes out."""

import contextlib
import struct
from typing import Any

from sidecar_client.http2.binding import (
    DataReceived,
    Headers,
    PingAcknowledged,
    PingReceived,
    RequestReceived,
    Session,
    SessionBounds,
    SettingsReceived,
    StreamClosed,
    StreamReset,
    TrailersReceived,
    Violation,
    open_session,
)
from sidecar_client.http2.messages import PREFIX, MessageReader, Unreadable, prefix

from ....core.classes import NamedTuple
from ...common.status import Code
from .heads import OK, RESPONSE, NotGrpc, RequestHead, Unfit, request_head, trailers

WINDOW = 262_144
"""Bytes of a stream that may be on their way. A guess: what one read of the socket brings at most."""
WIDE_WINDOW = 1 << 20
"""The same of a stream of which as many have been taken: whose service reads is told of less often what it may send."""
MAX_HEADERS = 16_384  # what gRPC's own libraries take
_REFUSED_HEADERS = 262_144  # with up to so many only the call is refused; libnghttp2 takes no field of more than 65,536
_HELD = 65_536  # bytes of a stream's messages that nobody has taken, beyond which its window stays as it is
_RESETS = (10_000, 1_000)  # at once, and a second: more than an app does whose requests all time out together
_IDLE_FRAMES = (1_000, 33.0)  # PING and SETTINGS between two frames of calls, and a second; libnghttp2's for resets
_NO_ERROR, _CANCEL, _CALM = 0x0, 0x8, 0xB  # RFC 9113, section 7
_GOAWAY = struct.Struct("!HBBBIII")
_EVERY_STREAM = 2**31 - 1


class CallBegan(NamedTuple):
    """A call's head has come; its messages follow."""

    stream: int
    head: RequestHead


class MessagesCame(NamedTuple):
    """Messages of a call, and whether they were the last. `taken` is to be told of each with its length."""

    stream: int
    messages: list[bytes]
    ended: bool


class CallGone(NamedTuple):
    """Nobody waits for the call any more: its caller has cancelled it, or it has been refused."""

    stream: int


class ConnectionFailed(NamedTuple):
    """The connection is over, and why. Always the last event."""

    reason: str


Event = CallBegan | MessagesCame | CallGone | ConnectionFailed


class _Stream:
    __slots__ = ("begun", "ended", "held", "owed", "reader", "taken")

    def __init__(self, max_message: int) -> None:
        self.reader = MessageReader(max_message, "; api.max_request says how large")
        self.begun = False  # the response's head is on its way
        self.ended = False  # the caller has said everything
        self.held = 0  # bytes of messages that nobody has taken yet
        self.owed = 0  # bytes that have come and that the caller has not been given back
        self.taken = 0  # bytes of messages that somebody has taken, until its window is wide


class ServerConnection:
    """Reads calls and writes their answers; bounds what one connection may ask of this process."""

    def __init__(self, max_message: int, max_streams: int, now: float) -> None:
        """`max_message`: bytes. `max_streams`: calls at once. `now`: monotonic seconds."""
        self._max_message = max_message
        self._session: Session = open_session(
            SessionBounds(max_streams, WINDOW, MAX_HEADERS, _REFUSED_HEADERS, _RESETS)
        )
        self._streams: dict[int, _Stream] = {}
        self._leaving: dict[int, None] = {}  # answered, while the caller still sends: reset once the answer is out
        self._idle_frames: float = _IDLE_FRAMES[0]
        self._refilled = now
        self._last_words = b""
        self._failed = False
        self.answered_ping = True
        """Whether nothing is open that `ping` has asked."""
        self.pinged = False
        """Whether a PING came in what was received last."""
        self.greeted = False
        """Whether the client has shown that it speaks HTTP/2."""

    # ------------------------------------------------------------ in

    def receive_data(self, data: bytes, now: float) -> list[Event]:
        """What these bytes mean for calls."""
        session = self._session
        if self._failed or not session.want_read:
            return []
        self.pinged = False
        events: list[Event] = []
        touched: dict[int, _Stream] = {}  # that data came for: one answer to all of it
        try:
            session.receive_data(data)
        except Violation as error:  # what came before it in these bytes could not be answered any more
            self._fail(str(error), events)
            return events
        for event in session.events():
            kind = type(event)
            taken: Any = event  # the events of bindings share no types, only their attributes
            if kind is RequestReceived:
                self._refill()
                self._on_request(taken, events)
            elif kind is DataReceived:
                self._refill()
                self._on_data(taken, events, touched)
            elif kind is StreamReset or kind is StreamClosed:
                self._forget(taken.stream_id, events)
            elif kind is TrailersReceived:
                self._on_end(taken.stream_id, events)
            elif kind is PingReceived:
                self._idle_frames -= 1
                self.pinged = True
            elif kind is SettingsReceived:
                self._idle_frames -= 1
                self.greeted = True  # no frame may come before it
            elif kind is PingAcknowledged:
                self.answered_ping = True
        for stream_id, stream in touched.items():
            if stream.held <= _HELD:
                self._give_back(stream_id, stream)
        if self._idle_frames < 0:
            burst, rate = _IDLE_FRAMES
            self._idle_frames = min(self._idle_frames + (now - self._refilled) * rate, burst)
            self._refilled = now
            if self._idle_frames < 0:
                self._fail(f"more than {burst} PING and SETTINGS frames without a call", events)
        return events

    def _refill(self) -> None:
        """A call is worth its frames: clients send a PING with each to measure the way."""
        self._idle_frames = _IDLE_FRAMES[0]

    def _on_request(self, event: Any, events: list[Event]) -> None:
        stream_id = event.stream_id
        stream = self._streams[stream_id] = _Stream(self._max_message)
        stream.ended = event.end_stream
        try:
            head = request_head(event.headers, MAX_HEADERS)
        except Unfit as refused:
            self.finish(stream_id, trailers(refused.code, str(refused)) + refused.more)
            return
        except NotGrpc as stranger:
            with contextlib.suppress(Violation):
                self._session.send_response(stream_id, ((b":status", stranger.status),), end_stream=True)
            self._answered(stream_id, stream)
            return
        events.append(CallBegan(stream_id, head))
        if stream.ended:
            events.append(MessagesCame(stream_id, [], ended=True))

    def _on_data(self, event: Any, events: list[Event], touched: dict[int, _Stream]) -> None:
        stream_id = event.stream_id
        data = event.data
        stream = self._streams.get(stream_id)
        if stream is None:  # answered already
            with contextlib.suppress(Violation):
                self._session.acknowledge_received_data(len(data), stream_id)
            return
        touched[stream_id] = stream
        stream.owed += len(data)
        try:
            messages = stream.reader.receive(data)
            if event.end_stream:
                stream.ended = True
                if stream.reader.amid:
                    raise Unreadable(Code.INTERNAL, "the call ended amid a message")
            elif not messages:
                return
        except Unreadable as refused:
            self.finish(stream_id, trailers(refused.code, str(refused)))
            events.append(CallGone(stream_id))
            return
        for message in messages:
            stream.held += len(message) + PREFIX
        events.append(MessagesCame(stream_id, messages, stream.ended))

    def _on_end(self, stream_id: int, events: list[Event]) -> None:
        """Trailers, which clients of gRPC do not send."""
        stream = self._streams.get(stream_id)
        if stream is not None and not stream.ended:
            stream.ended = True
            events.append(MessagesCame(stream_id, [], ended=True))

    def _forget(self, stream_id: int, events: list[Event]) -> None:
        self._leaving.pop(stream_id, None)
        stream = self._streams.pop(stream_id, None)
        if stream is not None:
            self._give_back(stream_id, stream)
            events.append(CallGone(stream_id))

    def _fail(self, reason: str, events: list[Event]) -> None:
        self._failed = True
        self._streams.clear()
        self._leaving.clear()
        # The session may not be able to say it any more. No stream is named as unseen, or clients would try again.
        self._last_words = _GOAWAY.pack(0, 8, 7, 0, 0, _EVERY_STREAM, _CALM)
        events.append(ConnectionFailed(reason))

    def taken(self, stream_id: int, length: int) -> bool:
        """A message of a call is in the service's hands. True where the app may send more for it."""
        stream = self._streams.get(stream_id)
        if stream is None:
            return False
        stream.held -= length + PREFIX
        if stream.taken < WIDE_WINDOW:
            stream.taken += length
            if stream.taken >= WIDE_WINDOW and not stream.ended:
                with contextlib.suppress(Violation):
                    self._session.set_local_window_size(WIDE_WINDOW, stream_id=stream_id)
        if stream.held > _HELD or not stream.owed:
            return False
        self._give_back(stream_id, stream)
        return True

    def _give_back(self, stream_id: int, stream: _Stream) -> None:
        owed, stream.owed = stream.owed, 0
        if owed:
            with contextlib.suppress(Violation):  # what came behind it may have ended the connection
                self._session.acknowledge_received_data(owed, stream_id)

    # ------------------------------------------------------------ out

    def begin(self, stream_id: int, metadata: Headers = ()) -> None:
        """Send the response's head, which is otherwise sent with the first message."""
        stream = self._streams.get(stream_id)
        if stream is not None and not stream.begun:
            stream.begun = True
            try:
                self._session.send_response(stream_id, RESPONSE + metadata)
            except Violation:
                self.cancel(stream_id)

    def send(self, stream_id: int, message: bytes) -> int:
        """Send a message; the bytes of the stream that wait now."""
        stream = self._streams.get(stream_id)
        if stream is None:
            return 0
        session = self._session
        length = len(message)
        try:
            if not stream.begun:
                stream.begun = True
                session.send_response(stream_id, RESPONSE)
            if length < _HELD:
                session.send_data(stream_id, prefix(length) + message)
            else:  # a copy less
                session.send_data(stream_id, prefix(length))
                session.send_data(stream_id, message)
        except Violation:
            self.cancel(stream_id)
        return session.queued_body_size(stream_id)

    def waiting(self, stream_id: int) -> int:
        """Bytes of a stream that are not on their way yet."""
        return 0 if self._failed else self._session.queued_body_size(stream_id)

    def finish(self, stream_id: int, status: Headers = OK) -> None:
        """End a call with its status, behind what waits."""
        stream = self._streams.get(stream_id)
        if stream is None:
            return
        try:
            if stream.begun:
                self._session.send_trailers(stream_id, status)
            else:
                self._session.send_response(stream_id, RESPONSE + status, end_stream=True)
        except Violation:
            self.cancel(stream_id)
        else:
            self._answered(stream_id, stream)

    def _answered(self, stream_id: int, stream: _Stream) -> None:
        del self._streams[stream_id]
        self._give_back(stream_id, stream)
        if not stream.ended:
            self._leaving[stream_id] = None

    def cancel(self, stream_id: int) -> None:
        """End a call at once, without a status: nobody waits for it, or the connection ends."""
        stream = self._streams.pop(stream_id, None)
        if stream is not None:
            with contextlib.suppress(Violation):
                self._give_back(stream_id, stream)
                self._session.reset_stream(stream_id, _CANCEL)

    def ping(self) -> None:
        """Ask for a sign of life."""
        if not self._failed:
            self.answered_ping = False
            with contextlib.suppress(Violation):
                self._session.ping()

    def end(self) -> None:
        """Take no further calls. The connection is over when those that are open have ended."""
        if not self._failed:
            with contextlib.suppress(Violation):  # it ends already
                self._session.send_goaway(_NO_ERROR)

    def data_to_send(self, amount: int) -> bytes:
        """What the socket is to take next, about `amount` bytes; empty when there is nothing."""
        if self._failed:
            data, self._last_words = self._last_words, b""
            return data
        data = self._session.data_to_send(amount)
        if self._leaving and len(data) < amount:
            # RFC 9113, section 8.1: the answer is out: the caller may stop. Earlier, this would overtake it.
            for stream_id in [found for found in self._leaving if not self._session.queued_body_size(found)]:
                del self._leaving[stream_id]
                with contextlib.suppress(Violation):
                    self._session.reset_stream(stream_id, _NO_ERROR)
            data += self._session.data_to_send(amount)
        return data

    @property
    def over(self) -> bool:
        """Whether the connection is to be closed once what it has to send is out."""
        return self._failed or not self._session.want_read
