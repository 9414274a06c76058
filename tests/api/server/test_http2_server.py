"""The engine over real sockets: clients that stop in the middle, never read, or flood, and the end in order."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from typing import Any

import grpc
import ngh2
import pytest
import sidecar_client
import uvloop
from grpc_health.v1 import health_pb2, health_pb2_grpc
from sidecar_client.v1 import direct_pb2, node_pb2, pubsub_pb2

from sidecar.api.server.http2 import listener, protocol
from sidecar.api.server.server import ApiServer
from sidecar.api.server.strangers import MAX_STRANGERS
from sidecar.core import direct, gossip
from tests.api import fakes
from tests.api.fakes import OTHER_TEXT, asynchronous, message, served, server
from tests.api.server import frames
from tests.api.server.frames import HEAD, client, frame, greeting, prefixed, received, request
from tests.api.server.test_listening import files
from tests.net.certificates import Authority

GET_NODE = b"/sidecar.v1.NodeService/GetNode"
SUBSCRIBE = b"/sidecar.v1.PubSubService/Subscribe"


@pytest.fixture(autouse=True)
def _http2(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fakes, "ENGINE", "http2")


Metadata = tuple[tuple[bytes, bytes], ...]


class App:
    """A client that does as a test says, frame by frame."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.session = client()
        self._reader = reader
        self._writer = writer
        self.heard: list[Any] = []

    def call(
        self, path: bytes, *messages: bytes, ended: bool = True, more: tuple[tuple[bytes, bytes], ...] = ()
    ) -> int:
        """Begin a call; its stream."""
        head = [(name, path if name == b":path" else value) for name, value in HEAD]
        stream = self.session.send_request((*head, *more))
        if messages:
            self.session.send_data(stream, b"".join(map(prefixed, messages)))
        if ended:
            self.session.end_stream(stream)
        self.write(self.session.data_to_send())
        return stream

    def write(self, data: bytes) -> None:
        self._writer.write(data)

    async def read(self) -> bool:
        """What comes next; False at the end."""
        try:
            data = await self._reader.read(65_536)
        except ConnectionError:
            return False
        if not data:
            return False
        self.session.receive_data(data)
        self.heard += self.session.events()
        self.write(self.session.data_to_send())
        return True

    async def ended(self, stream: int) -> dict[bytes, bytes]:
        """Read until the stream has ended; head and trailers."""
        while not any(isinstance(event, ngh2.StreamClosed) and event.stream_id == stream for event in self.heard):
            assert await self.read(), "the connection has ended"
        head, _, after = received(self.heard, stream)
        return dict(head + after)

    async def pong(self, number: int) -> None:
        """Read until so many PINGs have been answered."""
        while sum(isinstance(event, ngh2.PingAcknowledged) for event in self.heard) < number:
            assert await self.read(), "the connection has ended"

    async def closed(self) -> None:
        """Read until the connection has ended."""
        while await self.read():
            pass


@contextlib.asynccontextmanager
async def connected(api: ApiServer) -> AsyncIterator[App]:
    reader, writer = await asyncio.open_unix_connection(str(api.socket))
    try:
        yield App(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


# ---------------------------------------------------------------- calls


@asynchronous
async def test_a_call_by_hand(tmp_path: Path) -> None:
    async with server(tmp_path / "api.sock") as (_, _, api), connected(api) as app:
        stream = app.call(GET_NODE, b"")
        assert (await app.ended(stream))[b"grpc-status"] == b"0"
        body = received(app.heard, stream)[1]
        assert node_pb2.GetNodeResponse.FromString(body[5:]).node.network == "test"
        for path in (b"/sidecar.v1.NodeService/Nothing", b"/no.Service/Nothing"):
            told = await app.ended(app.call(path, b""))
            assert (told[b"grpc-status"], path in told[b"grpc-message"]) == (b"12", True)
        told = await app.ended(app.call(GET_NODE))
        assert told[b"grpc-status"] == b"12"
        assert b"takes one request" in told[b"grpc-message"]


@asynchronous
async def test_a_deadline_ends_the_call_and_what_it_waits_for(tmp_path: Path) -> None:
    async with server(tmp_path / "api.sock") as (node, backend, api), connected(api) as app:
        asked = direct_pb2.RequestRequest(peer_id=OTHER_TEXT, protocol="/chat/1", data=b"x").SerializeToString()
        stream = app.call(b"/sidecar.v1.DirectService/Request", asked, more=((b"grpc-timeout", b"20m"),))
        assert (await app.ended(stream))[b"grpc-status"] == b"4"
        assert await node.wait_for(direct.RequestMade)
        stream = app.call(SUBSCRIBE, ended=False, more=((b"grpc-timeout", b"1n"),))  # its request never comes
        assert (await app.ended(stream))[b"grpc-status"] == b"4"
        assert backend.calls.open == 0


def _with_ping(app: App, path: bytes, request: bytes) -> int:
    """A call, and behind it in the same bytes a PING, as Go's client sends it."""
    head = [(name, path if name == b":path" else value) for name, value in HEAD]
    stream = app.session.send_request(head)
    app.session.send_data(stream, prefixed(request), end_stream=True)
    app.session.ping(b"measured")
    app.write(app.session.data_to_send())
    return stream


@pytest.mark.parametrize("patience", [30.0, 0.001])
def test_the_answer_to_a_ping_joins_that_to_a_call_or_goes_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, patience: float
) -> None:
    monkeypatch.setattr(protocol, "_PONG", patience)

    @asynchronous
    async def check() -> None:
        async with server(tmp_path / "api.sock") as (node, _, api), connected(api) as app:
            await app.ended(app.call(GET_NODE, b""))
            asked = direct_pb2.RequestRequest(peer_id=OTHER_TEXT, protocol="/chat/1", data=b"x").SerializeToString()
            stream = _with_ping(app, b"/sidecar.v1.DirectService/Request", asked)
            fed = await node.wait_for(direct.RequestMade)
            if patience < 1:
                await app.pong(1)  # nothing else is to come
                node.on_news(direct.RequestCompleted(fed.op, b"answer"))
                assert (await app.ended(stream))[b"grpc-status"] == b"0"
            else:
                node.on_news(direct.RequestCompleted(fed.op, b"answer"))
                assert (await app.ended(stream))[b"grpc-status"] == b"0"
                await app.pong(1)
            app.session.ping(b"alone...")  # no call is open that could be answered with it
            app.write(app.session.data_to_send())
            await app.pong(2)

    check()


@asynchronous
async def test_a_cancelled_call_is_given_up_and_so_is_one_whose_connection_ends(tmp_path: Path) -> None:
    async with server(tmp_path / "api.sock") as (_, backend, api):
        subscription = pubsub_pb2.SubscribeRequest(topics=["news"]).SerializeToString()
        async with connected(api) as app:
            streams = [app.call(SUBSCRIBE, subscription, ended=False) for _ in range(2)]
            while backend.calls.open < 2:
                await app.read()
            app.session.reset_stream(streams[0])
            app.write(app.session.data_to_send())
            while backend.calls.open == 2:  # noqa: ASYNC110 - nobody tells of it
                await asyncio.sleep(0)
        while backend.calls.open:  # noqa: ASYNC110
            await asyncio.sleep(0)
        counted = backend.calls.methods["PubSubService/Subscribe"]
        assert [(code.name, count) for code, count in counted.ended.items()] == [("CANCELLED", 2)]


@asynchronous
async def test_large_responses_follow_each_other_without_a_word_of_who_reads(tmp_path: Path) -> None:
    """What went out at once, for the call is alone, is not waited for."""
    async with server(tmp_path / "api.sock") as (node, _, api), connected(api) as app:
        app.session = client(INITIAL_WINDOW_SIZE=1 << 24)
        app.session.set_local_window_size(1 << 24)  # nothing is said about windows before half of it has come
        subscription = pubsub_pb2.SubscribeRequest(topics=["news"]).SerializeToString()
        stream = app.call(SUBSCRIBE, subscription)
        while not (size := len(received(app.heard, stream)[1])):  # it is in force
            assert await app.read()
        app.write = lambda data: None  # type: ignore[method-assign]
        for number in range(1, 6):
            node.on_news(gossip.MessagesDelivered("news", [message(bytes([number]) * 200_000)]))
            while size < number * 200_000:
                assert await app.read()
                size = len(received(app.heard, stream)[1])


@asynchronous
async def test_a_caller_that_does_not_read_holds_up_its_own_call_alone(tmp_path: Path) -> None:
    async with served(tmp_path, queue_bytes=1 << 20) as (node, backend, api, other), connected(api) as app:
        subscription = pubsub_pb2.SubscribeRequest(topics=["news"]).SerializeToString()
        app.call(SUBSCRIBE, subscription)
        while not backend.lifetime.streams:  # noqa: ASYNC110
            await asyncio.sleep(0)
        async with other.subscribe("news") as mine:
            reading = aiter(mine)
            for number in range(200):
                node.deliver(message(b"%d" % number + bytes(65_536)))
                assert (await anext(reading)).data.startswith(b"%d" % number)
        assert backend.statistics().flat()["api_subscribers_missed"] > 0  # for who did not read


@asynchronous
async def test_streams_that_say_nothing_are_bounded_over_all_connections(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    most = 20 + 2 * MAX_STRANGERS
    async with server(tmp_path / "api.sock", max_calls=20) as (_, _, api), connected(api) as one, connected(api) as two:
        for _ in range(most):
            one.call(GET_NODE, ended=False)
        stream = two.call(GET_NODE, b"")
        told = await two.ended(stream)
        assert told[b"grpc-status"] in (b"0", b"8")  # as the one or the other connection was read first
        while told[b"grpc-status"] == b"0":
            told = await two.ended(two.call(GET_NODE, b""))
        assert told[b"grpc-message"] == b"%d calls are open, at most that many" % most
    # They have ended with their connection, so that nothing is left to count.
    async with server(tmp_path / "api.sock") as (_, _, api), connected(api) as app:
        assert (await app.ended(app.call(GET_NODE, b"")))[b"grpc-status"] == b"0"


# ---------------------------------------------------------------- floods


@asynchronous
async def test_floods_end_their_connection_and_no_other(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with served(tmp_path) as (_, backend, api, bystander):
        resets = b"".join(
            request(number)[:-9] + frame(frames.RST_STREAM, bytes(4), stream=number) for number in range(1, 40_000, 2)
        )
        floods = [
            frame(frames.SETTINGS) * 20_000,
            frame(frames.PING, bytes(8)) * 20_000,
            frame(frames.HEADERS, frames.block(HEAD), stream=1) + frame(frames.CONTINUATION, b"", stream=1) * 1000,
            resets,
            b"GET / HTTP/1.1\r\n\r\n",
        ]
        for flood in floods:
            async with connected(api) as app:
                app.write(greeting() + flood)
                with contextlib.suppress(ngh2.NGH2Error):
                    await app.closed()
            await bystander.info()
        assert backend.calls.open == 0
    assert "Flooding was detected" in caplog.text
    assert "Too many CONTINUATION frames" in caplog.text


@asynchronous
async def test_who_floods_without_reading_is_not_read_either(tmp_path: Path) -> None:
    async with served(tmp_path) as (_, _, api, bystander):
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_UNIX) as deaf:
            deaf.setblocking(False)
            await loop.sock_connect(deaf, str(api.socket))
            await loop.sock_sendall(deaf, greeting())
            sent = 0
            stuck = False
            while not stuck:  # each of them has an answer, which nobody takes
                try:
                    async with asyncio.timeout(0.2):
                        await loop.sock_sendall(
                            deaf, b"".join(request(2 * n + 1, b"", path=GET_NODE) for n in range(sent, sent + 100))
                        )
                    sent += 100
                except (TimeoutError, ConnectionError):
                    stuck = True
                assert sent < 100_000
            await bystander.info()


# ---------------------------------------------------------------- connections


@asynchronous
async def test_who_says_nothing_is_sent_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "HANDSHAKE", 0.05)
    async with server(tmp_path / "api.sock") as (_, _, api):
        for beginning in (b"", frames.PREFACE[:10], frames.PREFACE):
            reader, writer = await asyncio.open_unix_connection(str(api.socket))
            writer.write(beginning)
            while await reader.read(1000):
                pass
            writer.close()
        async with connected(api) as app:
            assert (await app.ended(app.call(GET_NODE, b"")))[b"grpc-status"] == b"0"


@asynchronous
async def test_a_host_that_vanished_is_noticed_and_one_that_is_quiet_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "_LOOK", 0.02)
    monkeypatch.setattr(listener, "_SILENCE", 0.04)
    async with server(tmp_path / "api.sock", tcp="127.0.0.1:0") as (_, _, api):
        assert api.tcp is not None
        host, _, port = api.tcp.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        quiet = App(reader, writer)
        quiet.write(quiet.session.data_to_send())
        silent, unwritten = await asyncio.open_connection(host, int(port))
        unwritten.write(greeting())  # and no answer to any ping
        while await silent.read(1000):
            while not any(isinstance(event, ngh2.PingReceived) for event in quiet.heard):
                await quiet.read()
        unwritten.close()
        assert (await quiet.ended(quiet.call(GET_NODE, b"")))[b"grpc-status"] == b"0"
        writer.close()


@asynchronous
async def test_connections_beyond_the_bound_are_closed_and_make_room_when_they_end(tmp_path: Path) -> None:
    async with server(tmp_path / "api.sock", max_connections=16) as (_, _, api), contextlib.AsyncExitStack() as stack:
        apps = [await stack.enter_async_context(connected(api)) for _ in range(16)]
        for app in apps:
            assert (await app.ended(app.call(GET_NODE, b"")))[b"grpc-status"] == b"0"
        async with connected(api) as one_more:
            await one_more.closed()
        apps[0]._writer.close()
        while True:
            async with connected(api) as again:
                again.write(again.session.data_to_send())
                if await again.read():
                    break
            await asyncio.sleep(0)


@asynchronous
async def test_running_out_of_files_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(listener, "_BREATH", 0.01)
    accept = socket.socket.accept
    left = [OSError(24, "Too many open files")]

    def short_of_files(listening: socket.socket) -> Any:
        if left:
            raise left.pop()
        return accept(listening)

    monkeypatch.setattr(socket.socket, "accept", short_of_files)
    async with server(tmp_path / "api.sock") as (_, _, api), connected(api) as app:
        assert (await app.ended(app.call(GET_NODE, b"")))[b"grpc-status"] == b"0"
    assert "no API connections are taken for 0 s: Too many open files" in caplog.text


# ---------------------------------------------------------------- the end


@asynchronous
async def test_the_end_is_announced_and_what_is_under_way_goes_on(tmp_path: Path) -> None:
    async with server(tmp_path / "api.sock", drain_timeout=15) as (node, _, api), connected(api) as app:
        node.answers[direct.SendRequested] = None
        asked = direct_pb2.SendRequest(peer_id=OTHER_TEXT, protocol="/chat/1", data=b"x").SerializeToString()
        idle_reader, idle_writer = await asyncio.open_unix_connection(str(api.socket))
        idle_writer.write(greeting())
        await idle_reader.read(1000)
        stream = app.call(b"/sidecar.v1.DirectService/Send", asked)
        fed = await node.wait_for(direct.SendRequested)
        stopping = asyncio.create_task(api.stop())
        await asyncio.sleep(0)
        assert not stopping.done()
        outcome = (direct.OutcomeRange(0, 1, direct.SendOutcome.DELIVERED),)
        node.on_news(direct.SendCompleted(fed.op, outcome, None))
        assert (await app.ended(stream))[b"grpc-status"] == b"0"
        await app.closed()
        assert any(isinstance(event, ngh2.GoAwayReceived) and event.error_code == 0 for event in app.heard)
        await stopping
        while await idle_reader.read(1000):
            pass
        idle_writer.close()


@asynchronous
async def test_what_does_not_end_by_itself_ends_as_unavailable(tmp_path: Path) -> None:
    async with server(tmp_path / "api.sock", drain_timeout=0.05) as (_, _, api), connected(api) as app:
        reflecting = app.call(b"/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", ended=False)
        unsaid = app.call(GET_NODE, ended=False)
        assert await app.read()
        await api.stop()
        for stream in (reflecting, unsaid):
            told = await app.ended(stream)
            assert (told[b"grpc-status"], told[b"grpc-message"]) == (b"14", b"the sidecar is stopping")
        await app.closed()


@asynchronous
async def test_watching_health_ends_when_the_sidecar_does(tmp_path: Path) -> None:
    async with (
        server(tmp_path / "api.sock", drain_timeout=15) as (_, _, api),
        grpc.aio.insecure_channel(api.target) as channel,
    ):
        watching = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert (await watching.read()).status == health_pb2.HealthCheckResponse.SERVING
        stopping = asyncio.create_task(api.stop())
        assert (await watching.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        assert await watching.code() is grpc.StatusCode.UNAVAILABLE
        await stopping


# ---------------------------------------------------------------- on the loop that is used


def _on_uvloop(check: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(20):
            await check

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(bounded())


@pytest.mark.parametrize("tls", [False, True])
def test_on_uvloop(tmp_path: Path, tls: bool) -> None:
    authority = Authority(tmp_path / "ca")
    bounds = files(authority, clients=True) if tls else {"tcp": "127.0.0.1:0"}
    shown = (
        {"tls_ca": authority.path, "tls_cert": bounds["tls_certificate"], "tls_key": bounds["tls_key"]} if tls else {}
    )

    async def check() -> None:
        async with (
            server(tmp_path / "api.sock", **bounds) as (node, _, api),
            sidecar_client.connect(api.tcp, **shown) as app,
            sidecar_client.connect(api.target) as local,
        ):
            assert (await app.info()).network == "test"
            async with app.subscribe("news") as messages:
                await local.publish("news", b"one")
                node.deliver(message(bytes(1 << 20)))
                reading = aiter(messages)
                assert (await anext(reading)).data == b"one"
                assert len((await anext(reading)).data) == 1 << 20
            node.answers[direct.SendRequested] = (direct.SendOutcome.DELIVERED, None)
            receipts = await local.send_many(OTHER_TEXT, "/chat/1", [b"x" * 1000] * 5000)
            assert sum(receipt.count for receipt in receipts) == 5000

    _on_uvloop(check())
