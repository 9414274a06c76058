"""HTTP/2's frames, header compression and windows, by `ngh2`, a binding of libnghttp2.

The one file that knows it: another binding takes its place by offering `Session` and events with the same attributes.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from ngh2 import (
    Configuration,
    Connection,
    DataReceived,
    GoAwayReceived,
    NGH2Error,
    PingAcknowledged,
    PingReceived,
    RequestReceived,
    ResponseReceived,
    Role,
    Setting,
    SettingsReceived,
    StreamClosed,
    StreamReset,
    TrailersReceived,
)

__all__ = [
    "ClientSession",
    "DataReceived",
    "GoAwayReceived",
    "Headers",
    "PingAcknowledged",
    "PingReceived",
    "RequestReceived",
    "ResponseReceived",
    "Session",
    "SessionBounds",
    "SettingsReceived",
    "StreamClosed",
    "StreamReset",
    "TrailersReceived",
    "Violation",
    "open_client_session",
    "open_session",
]

Headers = tuple[tuple[bytes, bytes], ...]

Violation = NGH2Error
"""What `receive_data` raises at bytes that end the connection; the session is no use then. Some only lead to a GOAWAY
in what is sent next, after which the session wants nothing more; until then its other methods may raise this too."""

MAX_WINDOW = 2**31 - 1  # RFC 9113, section 6.9.1


class SessionBounds(NamedTuple):
    """What one connection may do before it is ended. Floods that are not named here end it by libnghttp2's own bounds.

    `streams`: open at once; those beyond are refused.
    `window`: bytes of a stream that are not acknowledged.
    `headers`: bytes of a request's headers as RFC 9113 counts them, which clients are told.
    `refused_headers`: bytes up to which larger ones are told apart from a flood, so that they end only their call.
    `resets`: how many streams a client may reset at once, and then each second.
    """

    streams: int
    window: int
    headers: int
    refused_headers: int
    resets: tuple[int, int]


class _Side(Protocol):
    """One connection: bytes in, events out; headers and data in, bytes out."""

    def receive_data(self, data: bytes) -> None:
        """Take what the socket brought. Raises Violation."""

    def events(self) -> Sequence[object]:
        """What has happened since it was asked last."""

    def data_to_send(self, amount: int | None = None) -> bytes:
        """What the socket is to take next, at most `amount` bytes, as far as the other side's windows allow."""

    def send_data(self, stream_id: int, data: bytes, *, end_stream: bool = False) -> None:
        """Send bytes behind what waits already."""

    def reset_stream(self, stream_id: int, error_code: int) -> None:
        """End a stream at once; what waits is dropped."""

    def queued_body_size(self, stream_id: int) -> int:
        """Bytes of the stream that wait; 0 where it has ended."""

    def acknowledge_received_data(self, amount: int, stream_id: int) -> None:
        """The other side may send as many bytes more, on the stream as on the connection."""

    def set_local_window_size(self, window_size: int, *, stream_id: int = 0) -> None:
        """How many bytes the other side may have sent that were not acknowledged."""

    def ping(self) -> None:
        """Ask for a sign of life."""

    def send_goaway(self, error_code: int = 0) -> None:
        """Take no further streams."""

    @property
    def want_read(self) -> bool:
        """Whether more from the other side would mean anything."""


class Session(_Side, Protocol):
    """The server's side."""

    def send_response(self, stream_id: int, headers: Headers, *, end_stream: bool = False) -> None:
        """Send a stream's headers."""

    def send_trailers(self, stream_id: int, headers: Headers) -> None:
        """End the stream with these once all its bytes have gone out."""


class ClientSession(_Side, Protocol):
    """The client's side."""

    def send_request(self, headers: Headers, *, end_stream: bool = False) -> int:
        """Begin a stream, once the server's bound on them allows; its number."""

    def end_stream(self, stream_id: int) -> None:
        """Nothing follows the bytes that wait."""

    @property
    def want_write(self) -> bool:
        """Whether there is anything for the socket."""

    @property
    def can_send_request(self) -> bool:
        """Whether another stream may begin."""


def open_session(bounds: SessionBounds) -> Session:
    """A connection that has just been accepted."""
    session = Connection(
        Role.SERVER,
        Configuration(
            auto_window_update=False,
            stream_reset_rate_limit=bounds.resets,
            max_inbound_header_list_size=bounds.refused_headers,
            max_inbound_header_count=bounds.refused_headers // 32,
        ),
    )
    session.initiate_connection(
        {
            Setting.MAX_CONCURRENT_STREAMS: bounds.streams,
            Setting.INITIAL_WINDOW_SIZE: bounds.window,
            Setting.MAX_HEADER_LIST_SIZE: bounds.headers,
        }
    )
    # Streams bound what waits here; a bound of the connection would let one that nobody reads hold up the others.
    session.set_local_window_size(MAX_WINDOW)
    return session


def open_client_session(window: int, headers: int) -> ClientSession:
    """A connection that has just been made.

    `window`: bytes of a stream that are not acknowledged. `headers`: bytes of a response's headers as RFC 9113 counts
    them, which servers are told; with more only the call ends.
    """
    session = Connection(
        Role.CLIENT,
        Configuration(
            auto_window_update=False,
            max_inbound_header_list_size=headers,
            max_inbound_header_count=headers // 32,
        ),
    )
    session.initiate_connection(
        {Setting.ENABLE_PUSH: 0, Setting.INITIAL_WINDOW_SIZE: window, Setting.MAX_HEADER_LIST_SIZE: headers}
    )
    session.set_local_window_size(MAX_WINDOW)  # as a server's: streams bound what waits here
    return session
