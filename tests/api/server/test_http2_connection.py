"""The machine of one connection, without sockets: calls out of bytes, bytes out of answers, and what ends it."""

from collections.abc import Iterable

import ngh2
import pytest

from sidecar.api.common.status import Code
from sidecar.api.server.http2.connection import (
    MAX_HEADERS,
    WIDE_WINDOW,
    WINDOW,
    CallBegan,
    CallGone,
    ConnectionFailed,
    Event,
    MessagesCame,
    ServerConnection,
)
from sidecar.api.server.http2.heads import trailers
from tests.api.server import frames
from tests.api.server.frames import HEAD, client, frame, greeting, prefixed, received, request
from tests.net.pieces import pieces

MIB = 1 << 20


def machine(max_message: int = MIB, streams: int = 100) -> ServerConnection:
    return ServerConnection(max_message, streams, 0.0)


def said(server: ServerConnection) -> bytes:
    """All that it has to send."""
    parts = []
    while data := server.data_to_send(65_536):
        parts.append(data)
    return b"".join(parts)


def exchange(app: ngh2.Connection, server: ServerConnection, now: float = 0.0) -> list[Event]:
    """Carry bytes to and fro until both are silent; what the server heard."""
    events: list[Event] = []
    while True:
        out, back = app.data_to_send(), said(server)
        if out:
            events += server.receive_data(out, now)
        if back:
            app.receive_data(back)
        if not out and not back:
            return events


def messages(events: Iterable[Event], stream: int) -> list[bytes]:
    return [m for event in events if isinstance(event, MessagesCame) and event.stream == stream for m in event.messages]


# ---------------------------------------------------------------- calls


def test_a_call_and_its_answer_however_the_bytes_are_cut() -> None:
    data = greeting() + request(1, b"hello") + request(3, b"a", b"b" * 300)
    for parts in pieces(data):
        server = machine()
        events = [event for part in parts for event in server.receive_data(part, 0.0)]
        assert [(e.stream, e.head.path) for e in events if isinstance(e, CallBegan)] == [(1, b"/a.B/C"), (3, b"/a.B/C")]
        assert messages(events, 1) == [b"hello"]
        assert messages(events, 3) == [b"a", b"b" * 300]
        ended = [event.stream for event in events if isinstance(event, MessagesCame) and event.ended]
        assert ended == [1, 3]
        assert not [event for event in events if isinstance(event, CallGone | ConnectionFailed)]


def test_a_unary_answer() -> None:
    app, server = client(), machine()
    stream = app.send_request(HEAD)
    app.send_data(stream, prefixed(b"hello"), end_stream=True)
    exchange(app, server)
    app.events()
    assert server.send(stream, b"answer") == len(prefixed(b"answer"))
    server.finish(stream)
    exchange(app, server)
    events = app.events()
    assert received(events, stream) == (
        [(b":status", b"200"), (b"content-type", b"application/grpc")],
        prefixed(b"answer"),
        [(b"grpc-status", b"0")],
    )
    assert ngh2.StreamClosed in map(type, events)


def test_a_status_before_any_message_is_a_head_alone() -> None:
    app, server = client(), machine()
    stream = app.send_request(HEAD, end_stream=True)
    exchange(app, server)
    server.finish(stream, trailers(Code.NOT_FOUND, "nobody"))
    exchange(app, server)
    head, data, after = received(app.events(), stream)
    assert (data, after) == (b"", [])
    assert head[2:] == [(b"grpc-status", b"5"), (b"grpc-message", b"nobody")]


def test_initial_metadata_goes_before_the_first_message_and_once() -> None:
    app, server = client(), machine()
    stream = app.send_request(HEAD, end_stream=True)
    exchange(app, server)
    server.begin(stream, ((b"sidecar-stream", b"open"),))
    server.begin(stream, ((b"again", b"no"),))
    exchange(app, server)
    head, data, _ = received(app.events(), stream)
    assert head[2:] == [(b"sidecar-stream", b"open")]
    assert data == b""
    server.send(stream, b"x")
    exchange(app, server)
    assert received(app.events(), stream)[1] == prefixed(b"x")


def test_many_messages_go_out_in_one_frame() -> None:
    app, server = client(), machine()
    stream = app.send_request(HEAD, end_stream=True)
    exchange(app, server)
    for number in range(100):
        server.send(stream, b"%d" % number)
    exchange(app, server)
    data = [event.data for event in app.events() if isinstance(event, ngh2.DataReceived)]
    assert data == [b"".join(prefixed(b"%d" % number) for number in range(100))]


def test_a_call_that_ends_early_asks_its_caller_to_stop_once_the_answer_is_out() -> None:
    app, server = client(INITIAL_WINDOW_SIZE=100), machine()
    stream = app.send_request(HEAD)
    exchange(app, server)
    server.send(stream, bytes(1000))
    server.finish(stream)
    out = said(server)
    app.receive_data(out)
    assert not [event for event in app.events() if isinstance(event, ngh2.StreamReset)]  # most still waits
    app.set_local_window_size(2000, stream_id=stream)
    exchange(app, server)
    events = app.events()
    assert received(events, stream)[2] == [(b"grpc-status", b"0")]
    assert [event.error_code for event in events if isinstance(event, ngh2.StreamReset)] == [0]
    assert server.receive_data(b"", 0.0) == []


def test_a_reset_by_the_caller() -> None:
    app, server = client(), machine()
    stream = app.send_request(HEAD)
    exchange(app, server)
    app.reset_stream(stream)
    assert exchange(app, server) == [CallGone(stream)]
    assert server.send(stream, b"nobody reads it") == 0
    server.finish(stream)
    assert said(server) == b""


def test_what_clients_of_gRPC_do_not_send() -> None:
    app, server = client(), machine()
    stream = app.send_request(HEAD)
    app.send_data(stream, prefixed(b"x"))
    app.send_trailers(stream, [(b"some", b"trailer")])
    events = exchange(app, server)
    assert messages(events, stream) == [b"x"]
    assert events[-1] == MessagesCame(stream, [], ended=True)


@pytest.mark.parametrize(
    ("body", "code", "words"),
    [
        (prefixed(bytes(11)), Code.RESOURCE_EXHAUSTED, b"larger than max"),
        (prefixed(b"x", compressed=1), Code.INTERNAL, b"compressed"),
        (prefixed(b"whole") + prefixed(b"half")[:-1], Code.INTERNAL, b"amid a message"),
        (b"\0\0", Code.INTERNAL, b"amid a message"),
    ],
)
def test_a_body_that_is_none_ends_its_call_alone(body: bytes, code: Code, words: bytes) -> None:
    app, server = client(), machine(max_message=10)
    stream = app.send_request(HEAD)
    app.send_data(stream, body, end_stream=True)
    events = exchange(app, server)
    assert events[-1] == CallGone(stream)
    head = dict(received(app.events(), stream)[0])
    assert int(head[b"grpc-status"]) == code
    assert words in head[b"grpc-message"]
    other = app.send_request(HEAD, end_stream=True)
    assert [event.stream for event in exchange(app, server)] == [other, other]


def test_a_call_that_is_none_is_refused_and_the_connection_lives_on() -> None:
    app, server = client(), machine()
    compressed = app.send_request((*HEAD, (b"grpc-encoding", b"gzip")))
    large = app.send_request((*HEAD, (b"key", b"x" * MAX_HEADERS)), end_stream=True)
    many = app.send_request((*HEAD, *((b"key-%d" % number, b"x") for number in range(4000))), end_stream=True)
    strange = app.send_request([(k, b"GET" if k == b":method" else v) for k, v in HEAD], end_stream=True)
    assert exchange(app, server) == []
    events = app.events()
    told = {stream: dict(received(events, stream)[0]) for stream in (compressed, large, many, strange)}
    assert told[compressed][b"grpc-status"] == b"12"
    assert told[compressed][b"grpc-accept-encoding"] == b"identity"
    assert told[large][b"grpc-status"] == told[many][b"grpc-status"] == b"8"
    assert told[strange] == {b":status": b"405"}
    app.send_request(HEAD)
    assert len(exchange(app, server)) == 1


# ---------------------------------------------------------------- windows


def test_a_stream_whose_messages_nobody_takes_is_held_up_alone() -> None:
    app, server = client(), machine()
    stream = app.send_request(HEAD)
    message = bytes(10_000)
    sent = 4 * WINDOW // len(message)
    for _ in range(sent):
        app.send_data(stream, prefixed(message))
    events = exchange(app, server)
    came = len(messages(events, stream))
    assert WINDOW <= came * len(prefixed(message)) <= 2 * WINDOW
    other = app.send_request(HEAD)
    app.send_data(other, prefixed(message), end_stream=True)
    assert messages(exchange(app, server), other) == [message]
    freed = [server.taken(stream, len(message)) for _ in range(came)]
    assert freed.count(True) == 1  # not one frame for each message
    while more := len(messages(exchange(app, server), stream)):
        came += more
        for _ in range(more):
            server.taken(stream, len(message))
    assert came == sent


def test_a_stream_that_is_read_gets_a_wider_window() -> None:
    app, server = client(), machine()
    stream = app.send_request(HEAD)
    exchange(app, server)
    assert app.stream_remote_window_size(stream) == WINDOW
    message = bytes(50_000)
    for _ in range(WIDE_WINDOW // len(message) + 1):
        app.send_data(stream, prefixed(message))
        (taken,) = messages(exchange(app, server), stream)
        server.taken(stream, len(taken))
    exchange(app, server)
    assert WIDE_WINDOW // 2 <= app.stream_remote_window_size(stream) <= WIDE_WINDOW
    other = app.send_request(HEAD)
    exchange(app, server)
    assert app.stream_remote_window_size(other) == WINDOW


def test_a_message_larger_than_the_window_comes_whole() -> None:
    app, server = client(), machine(max_message=4 * MIB)
    stream = app.send_request(HEAD)
    app.send_data(stream, prefixed(bytes(4 * MIB)), end_stream=True)
    (message,) = messages(exchange(app, server), stream)
    assert len(message) == 4 * MIB


def test_what_ended_calls_left_unread_is_given_back() -> None:
    app, server = client(), machine()
    window = app.remote_window_size
    for _ in range(40):
        stream = app.send_request(HEAD)
        app.send_data(stream, prefixed(bytes(200_000)))
        exchange(app, server)
        server.finish(stream)
        exchange(app, server)
        stream = app.send_request(HEAD)
        app.send_data(stream, prefixed(bytes(200_000)))
        exchange(app, server)
        app.reset_stream(stream)
        exchange(app, server)
    assert app.remote_window_size >= window // 2  # given back in halves


def test_what_waits_for_the_callers_window_is_told() -> None:
    app, server = client(INITIAL_WINDOW_SIZE=1000), machine()
    stream = app.send_request(HEAD, end_stream=True)
    exchange(app, server)
    assert server.send(stream, bytes(100_000)) == 100_005
    assert len(said(server)) < 2000
    assert server.waiting(stream) == 100_005 - 1000
    app.reset_stream(stream)
    exchange(app, server)
    assert server.waiting(stream) == 0


# ---------------------------------------------------------------- the end


def test_after_its_GOAWAY_calls_go_on_and_then_it_is_over() -> None:
    app, server = client(), machine()
    stream = app.send_request(HEAD, end_stream=True)
    exchange(app, server)
    server.end()
    exchange(app, server)
    (goaway,) = [event for event in app.events() if isinstance(event, ngh2.GoAwayReceived)]
    assert (goaway.last_stream_id, goaway.error_code) == (stream, 0)
    assert not server.over
    server.send(stream, b"last words")
    server.finish(stream)
    exchange(app, server)
    assert received(app.events(), stream)[1] == prefixed(b"last words")
    assert server.over


def test_a_GOAWAY_without_calls_is_the_end() -> None:
    app, server = client(), machine()
    exchange(app, server)
    server.end()
    assert said(server)
    assert server.over


def test_a_ping_and_its_answer() -> None:
    app, server = client(), machine()
    exchange(app, server)
    server.ping()
    assert not server.answered_ping
    exchange(app, server)
    assert server.answered_ping


# ---------------------------------------------------------------- what is no HTTP/2, and floods

_HPACK_BOMB = b"\x90" * 10_000  # each of them a field out of the static table
CONNECTION_ENDS = {
    "another protocol": b"GET / HTTP/1.1\r\n\r\n",
    "no settings": frames.PREFACE + frame(frames.PING, bytes(8)),
    "a frame that is too large": greeting() + b"\xff\xff\xff\0\0\0\0\0\1",
    "a broken header block": greeting() + frame(frames.HEADERS, b"\xff" * 9, flags=4, stream=1),
    "data on no stream": greeting() + frame(frames.DATA, b"x", stream=0),
    "a stream of even number": greeting() + request(2),
    "a window that overflows": greeting() + frame(frames.WINDOW_UPDATE, (2**31 - 1).to_bytes(4, "big")),
    "CONTINUATION without end": greeting()
    + frame(frames.HEADERS, frames.block(HEAD), stream=1)
    + frame(frames.CONTINUATION, b"", stream=1) * 100,
    "a header field without end": greeting()
    + frame(frames.HEADERS, frames.block(HEAD) + b"\0\1x\x7f\xff\xff\xff\x07" + b"x" * 100, stream=1)
    + frame(frames.CONTINUATION, b"x" * 16_000, stream=1) * 8,
    "more fields than anybody has": greeting() + frame(frames.HEADERS, _HPACK_BOMB, flags=4, stream=1),
    "settings that nobody acknowledges": greeting() + frame(frames.SETTINGS) * 2000,
    "pings that nobody acknowledges": greeting() + frame(frames.PING, bytes(8)) * 2000,
}


@pytest.mark.parametrize("data", CONNECTION_ENDS.values(), ids=CONNECTION_ENDS)
def test_what_ends_the_connection(data: bytes) -> None:
    for parts in pieces(data):
        server = machine()
        events = [event for part in parts for event in server.receive_data(part, 0.0)]
        said(server)
        assert server.over
        assert not [event for event in events if isinstance(event, CallBegan)]
        if isinstance(events[-1] if events else None, ConnectionFailed):
            assert [type(event) for event in events].count(ConnectionFailed) == 1
        assert server.receive_data(request(99, b"more"), 0.0) == []
        assert said(server) == b""
        if len(data) > 2000:
            break  # byte by byte takes too long where there is so much


@pytest.mark.parametrize("violation", [frame(frames.DATA, b"x", stream=0), frame(frames.SETTINGS) * 2000])
def test_calls_whose_connection_broke_can_still_be_answered_into_nothing(violation: bytes) -> None:
    unfit = request(3, b"x", more=((b"grpc-encoding", b"gzip"),))
    server = machine()
    server.receive_data(greeting() + request(1, b"x"), 0.0)
    server.receive_data(request(5, bytes(100)) + unfit + violation, 0.0)
    for flushed in (False, True):
        server.begin(1)
        server.send(1, b"x")
        server.taken(1, 1)
        server.finish(1)
        server.cancel(5)
        server.ping()
        server.end()
        assert server.waiting(1) < 100
        if not flushed:
            said(server)
    assert server.over


def test_a_flood_is_answered_by_a_GOAWAY_that_lets_nobody_try_again() -> None:
    server = machine()
    (failed,) = server.receive_data(greeting() + frame(frames.SETTINGS) * 2000, 0.0)
    assert isinstance(failed, ConnectionFailed)
    assert "Flooding" in failed.reason
    assert said(server) == frame(frames.GOAWAY, (2**31 - 1).to_bytes(4, "big") + (11).to_bytes(4, "big"))


@pytest.mark.parametrize("kind", [frames.PING, frames.SETTINGS])
def test_frames_without_a_call_are_bounded_although_each_is_answered(kind: int) -> None:
    server = machine()
    server.receive_data(greeting(), 0.0)
    one = frame(kind, bytes(8) if kind == frames.PING else b"")
    taken = 0
    while not server.over:
        server.receive_data(one, 0.0)
        said(server)
        taken += 1
        assert taken < 5000
    assert taken >= 1000
    slowly = machine()
    slowly.receive_data(greeting(), 0.0)
    for second in range(3000):  # as an app that keeps its connection alive
        slowly.receive_data(one, float(second))
        said(slowly)
    assert not slowly.over
    busy = machine()
    busy.receive_data(greeting(), 0.0)
    for number in range(2000):  # as a client that measures the way with each call
        busy.receive_data(one * 3 + request(2 * number + 1, b"x"), 0.0)
        busy.finish(2 * number + 1)
        said(busy)
    assert not busy.over


def test_rapid_resets_end_the_connection_and_leave_nothing_behind() -> None:
    app, server = client(), machine(streams=100)
    exchange(app, server)
    begun = gone = 0
    for _ in range(40_000):
        stream = app.send_request(HEAD)
        out = app.data_to_send()
        app.reset_stream(stream)
        events = server.receive_data(out + app.data_to_send(), 0.0)
        begun += sum(type(event) is CallBegan for event in events)
        gone += sum(type(event) is CallGone for event in events)
        said(server)
        if server.over:
            break
    assert server.over
    assert begun == gone
    assert 10_000 <= begun < 20_000
    assert not server._streams


def test_resets_of_an_app_whose_requests_all_time_out_together_are_none() -> None:
    app, server = client(), machine(streams=5000)
    streams = [app.send_request(HEAD) for _ in range(5000)]
    exchange(app, server)
    for stream in streams:
        app.reset_stream(stream)
    assert len(exchange(app, server)) == 5000
    assert not server.over


def test_streams_beyond_the_bound_are_refused_and_cost_nothing() -> None:
    app, server = client(), machine(streams=10)
    streams = [app.send_request(HEAD) for _ in range(1000)]  # before it has heard of the bound
    events = server.receive_data(app.data_to_send(), 0.0)
    assert [event.stream for event in events] == streams[:10]
    app.receive_data(said(server))
    refused = [event.stream_id for event in app.events() if isinstance(event, ngh2.StreamReset)]
    assert refused == streams[10:]
    assert len(server._streams) == 10


def test_a_call_that_ends_in_the_bytes_that_end_its_connection_owes_nothing_more() -> None:
    """What was received of it is acknowledged when it is forgotten, and then nobody is there to be told."""
    server = machine()
    server.receive_data(greeting(), 0.0)
    said(server)
    head = frame(frames.HEADERS, frames.block(HEAD), flags=frames.END_HEADERS, stream=1)
    begun = server.receive_data(head + frame(frames.DATA, prefixed(b"x")[:4], stream=1), 0.0)
    assert any(isinstance(event, CallBegan) for event in begun)
    reset = frame(frames.RST_STREAM, (8).to_bytes(4, "big"), stream=1)
    goodbye = frame(frames.GOAWAY, bytes(8))
    events = server.receive_data(frame(frames.DATA, b"more", stream=1) + reset + goodbye, 0.0)
    assert [type(event) for event in events] == [CallGone]
