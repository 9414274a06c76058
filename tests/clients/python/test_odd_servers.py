"""The client's own engine before servers that reset, break HTTP/2, go away, fall silent, flood, or never read."""

import asyncio
import ssl
from pathlib import Path

import ngh2
import pytest
import sidecar_client
from sidecar_client import errors
from sidecar_client._failure import CallFailed, UnwrittenError
from sidecar_client.codes import Code
from sidecar_client.http2 import channel, connection
from sidecar_client.http2.channel import Http2Channel
from sidecar_client.v1 import pubsub_pb2

from tests.api.fakes import asynchronous
from tests.api.server import frames
from tests.api.server.frames import frame, prefixed
from tests.clients.python.odd_server import HEAD, OK, Caller, odd_server
from tests.net.certificates import Authority

Headers = tuple[tuple[bytes, bytes], ...]


def connect(target: str) -> sidecar_client.Client:
    return sidecar_client.connect(target, reconnect=False, engine="http2")


async def friendly(caller: Caller) -> None:
    """As a sidecar: answers one call of `info`, and waits for the end."""
    caller.answer_node(await caller.call())
    await caller.gone()


# ---------------------------------------------------------------- resets


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (0x2, errors.InternalError),
        (0x8, errors.Closed),
        (0xB, errors.ResourceExhausted),
        (0xC, errors.PermissionDenied),
        (0x1234, errors.InternalError),
    ],
)
@asynchronous
async def test_a_call_that_is_reset(code: int, kind: type[errors.SidecarError], tmp_path: Path) -> None:
    async def reset(caller: Caller) -> None:
        caller.session.reset_stream(await caller.call(), code)
        await friendly(caller)

    async with odd_server(tmp_path / "s", reset) as target:
        client = connect(target)
        with pytest.raises(kind, match=f"error code {code}"):
            await client.info()
        assert (await client.info()).network == "odd"  # on the same connection
        await client.close()


@asynchronous
async def test_what_was_refused_unseen_is_called_once_more(tmp_path: Path) -> None:
    async def refuse(caller: Caller) -> None:
        caller.session.reset_stream(await caller.call(), 0x7)
        caller.answer_node(await caller.call())
        for _ in range(2):
            caller.session.reset_stream(await caller.call(), 0x7)
        await caller.gone()

    async with odd_server(tmp_path / "s", refuse) as target:
        client = connect(target)
        assert (await client.info()).network == "odd"
        with pytest.raises(errors.SidecarUnavailable) as caught:
            await client.info()
        assert not caught.value.reached
        await client.close()


# ---------------------------------------------------------------- what is none of HTTP/2


@pytest.mark.parametrize(
    "broken",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        frame(frames.DATA, b"data", stream=99),
        frame(frames.DATA, b"data", stream=0),
        frame(frames.HEADERS, b"\xff\xff\xff\xff", flags=frames.END_HEADERS, stream=1),
        frame(frames.WINDOW_UPDATE, bytes(4), stream=0),
        frame(frames.WINDOW_UPDATE, b"\x7f\xff\xff\xff", stream=0) * 2,
        frame(frames.SETTINGS, b"odd"),
        frame(frames.CONTINUATION, b"", stream=1),
        frame(frames.HEADERS, b"", stream=1) + frame(frames.CONTINUATION, b"", stream=1) * 100,
        frame(frames.PING, bytes(8)) * 5000,
        frame(frames.SETTINGS) * 5000,
        b"\xff" * 100,
    ],
)
@asynchronous
async def test_a_connection_that_breaks_the_protocol_is_left(broken: bytes, tmp_path: Path) -> None:
    async def breaking(caller: Caller) -> None:
        await caller.call()
        caller.writer.write(broken)
        while await caller.reader.read(65_536):
            pass

    async with odd_server(tmp_path / "s", breaking, friendly) as target:
        client = connect(target)
        with pytest.raises(errors.SidecarUnavailable, match="broke HTTP/2") as caught:
            await client.info()
        assert caught.value.reached
        assert (await client.info()).network == "odd"  # on another connection
        await client.close()


@pytest.mark.parametrize("greeting", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\0" * 9, b""])
@asynchronous
async def test_who_does_not_greet_is_no_sidecar(greeting: bytes, tmp_path: Path) -> None:
    async def strange(caller: Caller) -> None:
        caller.writer.write(greeting)

    async with odd_server(tmp_path / "s", strange) as target:
        client = connect(target)
        with pytest.raises(errors.SidecarUnavailable, match="no sidecar answers") as caught:
            await client.info()
        assert not caught.value.reached
        await client.close()


@asynchronous
async def test_who_never_greets_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "_ATTEMPT", 0.05)

    async def silent(caller: Caller) -> None:
        while await caller.reader.read(65_536):
            pass

    async with odd_server(tmp_path / "s", silent) as target:
        client = connect(target)
        with pytest.raises(errors.SidecarUnavailable, match="timed out before receiving SETTINGS frame"):
            await client.info()
        with pytest.raises(errors.SidecarUnavailable, match="timed out"):  # in the pause: no further connection
            await client.info()
        await client.close()


@asynchronous
async def test_tls_without_http2_in_it(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.issue("localhost")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(accept, "127.0.0.1", 0, ssl=context) as listening:
        port = listening.sockets[0].getsockname()[1]
        client = sidecar_client.connect(
            f"tls://localhost:{port}", tls_ca=authority.path, reconnect=False, engine="http2"
        )
        with pytest.raises(errors.SidecarUnavailable, match="speaks TLS, but not HTTP/2") as caught:
            await client.info()
        assert not caught.value.reached
        await client.close()


# ---------------------------------------------------------------- answers that are none


@pytest.mark.parametrize(
    ("head", "kind", "words"),
    [
        (((b":status", b"503"),), errors.SidecarUnavailable, "status: 503"),
        (((b":status", b"404"),), errors.NotSupported, "status: 404"),
        (((b":status", b"302"),), errors.InternalError, "status: 302"),
        (((b":status", b"200"), (b"content-type", b"text/html")), errors.InternalError, "'text/html' is none of gRPC"),
        (((b":status", b"200"),), errors.InternalError, "none of gRPC"),
        (HEAD, errors.InternalError, "without a status"),
        ((*HEAD, (b"grpc-status", b"odd")), errors.InternalError, "UNKNOWN"),
        ((*HEAD, (b"grpc-status", b"99"), (b"grpc-message", b"%zz%c3%28")), errors.InternalError, "%zz"),
        ((*HEAD, (b"grpc-status", b"5"), (b"grpc-status-details-bin", b"!")), errors.NotFound, "NOT_FOUND"),
        ((*HEAD, (b"grpc-status", b"5"), (b"grpc-status-details-bin", b"/w==")), errors.NotFound, "NOT_FOUND"),
        ((*HEAD, *((b"x%d" % n, b"y" * 1000) for n in range(80))), errors.InternalError, "error code 2|broke HTTP/2"),
        ((*HEAD, (b"grpc-status", b"0")), errors.NotSupported, "answered with 0 messages"),
    ],
)
@asynchronous
async def test_odd_heads(head: Headers, kind: type[errors.SidecarError], words: str, tmp_path: Path) -> None:
    async def answer(caller: Caller) -> None:
        caller.session.send_response(await caller.call(), head, end_stream=True)
        await friendly(caller)

    async with odd_server(tmp_path / "s", answer) as target:
        client = connect(target)
        with pytest.raises(kind, match=words):
            await client.info()
        assert (await client.info()).network == "odd"
        await client.close()


@pytest.mark.parametrize(
    ("data", "kind", "words"),
    [
        (prefixed(b"x", compressed=1), errors.InternalError, "marked as compressed"),
        (prefixed(b"x" * 101), errors.TooLarge, r"larger than max \(101 vs. 100\)"),
        (prefixed(b"xyz")[:-1], errors.InternalError, "amid a message"),
        (prefixed(b"x") * 2, errors.NotSupported, "answered with 2 messages"),
    ],
)
@asynchronous
async def test_odd_messages(
    data: bytes, kind: type[errors.SidecarError], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "MAX_MESSAGE", 100)

    async def answer(caller: Caller) -> None:
        stream = await caller.call()
        caller.session.send_response(stream, HEAD)
        caller.session.send_data(stream, data)
        caller.session.send_trailers(stream, OK)
        await friendly(caller)

    async with odd_server(tmp_path / "s", answer) as target:
        client = connect(target)
        with pytest.raises(kind, match=words):
            await client.info()
        assert (await client.info()).network == "odd"
        await client.close()


# ---------------------------------------------------------------- going away, and falling silent


@asynchronous
async def test_a_call_outlives_goaway_and_the_next_goes_elsewhere(tmp_path: Path) -> None:
    asked, leaving = asyncio.Event(), asyncio.Event()

    async def leave(caller: Caller) -> None:
        stream = await caller.call()
        asked.set()
        caller.session.send_goaway(0, last_stream_id=stream)
        caller.flush()
        await leaving.wait()
        caller.answer_node(stream, "old")
        await caller.gone()  # the client closes what it has no use for

    async def new(caller: Caller) -> None:
        caller.answer_node(await caller.call(), "new")
        leaving.set()
        await caller.gone()

    async with odd_server(tmp_path / "s", leave, new) as target:
        client = connect(target)
        first = asyncio.create_task(client.info())
        await asked.wait()
        await client._link._channel.until_lost()
        assert (await client.info()).network == "new"
        assert (await first).network == "old"
        await client.close()


@asynchronous
async def test_a_call_that_goaway_excludes_is_made_on_another_connection(tmp_path: Path) -> None:
    async def leave(caller: Caller) -> None:
        await caller.call()
        caller.session.send_goaway(0, last_stream_id=0)
        await caller.gone()

    async with odd_server(tmp_path / "s", leave, friendly) as target:
        client = connect(target)
        assert (await client.info()).network == "odd"
        await client.close()


@asynchronous
async def test_a_server_that_says_nothing_more_is_gone(tmp_path: Path) -> None:
    async def half(caller: Caller) -> None:
        await caller.call()
        caller.writer.write_eof()
        while await caller.reader.read(65_536):
            pass

    async with odd_server(tmp_path / "s", half, friendly) as target:
        client = connect(target)
        with pytest.raises(errors.SidecarUnavailable, match="the connection was lost") as caught:
            await client.info()
        assert caught.value.reached
        assert (await client.info()).network == "odd"
        await client.close()


@asynchronous
async def test_deadlines_and_cancelling_are_told_to_a_silent_server(tmp_path: Path) -> None:
    asked = asyncio.Event()

    async def silent(caller: Caller) -> None:
        for _ in range(2):
            event = await caller.event(ngh2.RequestReceived)
            timeout = dict(event.headers).get(b"grpc-timeout")
            if timeout is None:
                asked.set()
            else:
                assert 50_000 <= int(timeout.removesuffix(b"u")) <= 50_001
            assert (await caller.event(ngh2.StreamReset)).error_code == 0x8
        await friendly(caller)

    async with odd_server(tmp_path / "s", silent) as target:
        client = connect(target)
        with pytest.raises(errors.DeadlineExceeded):
            await client.info(timeout=0.05)
        asking = asyncio.create_task(client.info())
        await asked.wait()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert (await client.info()).network == "odd"
        await client.close()


# ---------------------------------------------------------------- slow sides


@asynchronous
async def test_who_does_not_read_is_sent_no_more_than_a_window(tmp_path: Path) -> None:
    """And holds up no other call."""
    message = pubsub_pb2.SubscribeResponse(
        messages=[pubsub_pb2.TopicMessage(topic="news", data=bytes(1000))]
    ).SerializeToString()
    number = 500
    full = asyncio.Event()

    async def flood(caller: Caller) -> None:
        session = caller.session
        stream = await caller.call()
        session.send_response(stream, (*HEAD, (b"sidecar-stream", b"open")))
        session.send_data(stream, prefixed(message) * number)
        session.send_trailers(stream, OK)
        caller.flush()
        other = await caller.call()
        assert session.queued_body_size(stream) > number * len(message) - connection.WINDOW - 10_000
        caller.answer_node(other)
        full.set()
        await caller.gone()

    async with odd_server(tmp_path / "s", flood) as target:
        client = connect(target)
        async with client.subscribe("news") as news:
            assert (await client.info()).network == "odd"
            assert full.is_set()
            taken = 0
            batches = news.batches()
            while taken < number:
                taken += len(await anext(batches))
            with pytest.raises(errors.Closed):
                await anext(batches)
        await client.close()


@asynchronous
async def test_who_writes_waits_for_a_server_that_does_not_read(tmp_path: Path) -> None:
    window = 100_000
    held = asyncio.Event()

    async def slow(caller: Caller) -> None:
        session = caller.session
        stream = await caller.call()
        size = 0
        while size < window:
            size += len((await caller.event(ngh2.DataReceived)).data)
        held.set()
        assert size == window
        while size:
            session.acknowledge_received_data(size, stream)
            size = 0
            event = await caller.event(ngh2.DataReceived)
            while True:
                size += len(event.data)
                if event.end_stream:
                    caller.answer(stream, b"done")
                    await caller.gone()
                    return
                if size >= window // 2:
                    break
                event = await caller.event(ngh2.DataReceived)

    async with odd_server(tmp_path / "s", slow, settings={"INITIAL_WINDOW_SIZE": window}) as target:
        way = Http2Channel(target, None)
        call = way.stream_unary("/a.B/C")()
        written = 0

        async def write() -> None:
            nonlocal written
            for _ in range(50):
                await call.write(bytes(10_000))
                written += 10_000
            await call.done_writing()

        writing = asyncio.create_task(write())
        await held.wait()
        assert written <= window + 80_000  # what is under way, and what may wait here
        assert not writing.done()
        assert await call == b"done"
        await writing
        await way.close()


@asynchronous
async def test_a_write_that_waits_ends_with_its_call(tmp_path: Path) -> None:
    async def reset(caller: Caller) -> None:
        stream = await caller.call()
        await caller.event(ngh2.DataReceived)
        caller.session.reset_stream(stream, 0x2)
        await caller.gone()

    async with odd_server(tmp_path / "s", reset) as target:
        way = Http2Channel(target, None)
        call = way.stream_stream("/a.B/C")()
        writing = asyncio.create_task(call.write(bytes(1 << 20)))
        with pytest.raises(CallFailed) as caught:
            await call.read()
        assert caught.value.code() is Code.INTERNAL
        with pytest.raises(CallFailed):
            await writing
        with pytest.raises(UnwrittenError):
            await call.write(b"more")
        await way.close()


@asynchronous
async def test_a_write_that_waits_ends_when_its_call_is_cancelled(tmp_path: Path) -> None:
    begun = asyncio.Event()

    async def never(caller: Caller) -> None:
        await caller.call()
        begun.set()
        assert (await caller.event(ngh2.StreamReset)).error_code == 0x8
        await caller.gone()

    async with odd_server(tmp_path / "s", never) as target:
        way = Http2Channel(target, None)
        call = way.stream_stream("/a.B/C")()
        writing = asyncio.create_task(call.write(bytes(1 << 20)))
        await begun.wait()
        assert call.cancel()
        assert not call.cancel()
        for waiting in (call.read(), writing):
            with pytest.raises(asyncio.CancelledError):
                await waiting
        assert call.cancelled()
        await way.close()


@asynchronous
async def test_more_calls_than_the_server_takes_wait_their_turn(tmp_path: Path) -> None:
    async def one_at_a_time(caller: Caller) -> None:
        for _ in range(10):
            caller.answer_node(await caller.call())
            assert sum(isinstance(event, ngh2.RequestReceived) for event in caller.heard[caller._told :]) == 0
        await caller.gone()

    async with odd_server(tmp_path / "s", one_at_a_time, settings={"MAX_CONCURRENT_STREAMS": 1}) as target:
        client = connect(target)
        answers = await asyncio.gather(*(client.info() for _ in range(10)))
        assert {answer.network for answer in answers} == {"odd"}
        await client.close()
