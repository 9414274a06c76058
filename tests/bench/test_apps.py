"""The benchmark's apps: the one in Go beside a daemon that speaks the control protocol only; all beside sidecars."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path

import pytest

from bench import apps
from bench.apps import AppSubject, Node, Recorder
from bench.clients.processes import Unavailable
from bench.ours import SidecarSubject
from bench.p2pd import Daemon
from tests.interop.build import ToolMissing
from tests.interop.peer import Peer
from tests.missing import not_there

_OK = b"\x08\x00"
_MINE, _OTHER = b"\x00\x01me", b"\x00\x01other"
_CONNECT, _OPEN, _HANDLER, _DISCONNECT, _PUBSUB = 1, 2, 3, 7, 8


def _field(number: int, value: bytes) -> bytes:
    return bytes([number << 3 | 2]) + _varint(len(value)) + value


def _varint(number: int) -> bytes:
    out = b""
    while number > 127:
        out, number = out + bytes([number & 127 | 128]), number >> 7
    return out + bytes([number])


def _read(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value, shift, at = value | (byte & 127) << shift, shift + 7, at + 1
        if byte < 128:
            return value, at


def _fields(data: bytes) -> list[tuple[int, int | bytes]]:
    found: list[tuple[int, int | bytes]] = []
    at = 0
    while at < len(data):
        tag, at = _read(data, at)
        value, at = _read(data, at)
        if tag & 7:
            found.append((tag >> 3, data[at : at + value]))
            at += value
        else:
            found.append((tag >> 3, value))
    return found


class FakeDaemon:
    """Answers one app: streams to the other peer come back to the app, whatever is published is delivered to it."""

    def __init__(self, home: Path) -> None:
        self.socket = home / "control"
        self.asked: list[object] = []
        self._handler = ""
        self._subscribers: list[asyncio.StreamWriter] = []

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        async with await asyncio.start_unix_server(self._serve, self.socket):
            yield

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                message = _fields(await self._message(reader))
                kind = message[0][1]
                body = _fields(message[1][1]) if len(message) > 1 and isinstance(message[1][1], bytes) else []
                self.asked.append((kind, *body))
                if kind == _OPEN:
                    await self._open(body, reader, writer)
                    return
                writer.write(self._delimited(self._answer(kind, body, writer)))
        writer.close()

    def _answer(self, kind: object, body: list[tuple[int, int | bytes]], writer: asyncio.StreamWriter) -> bytes:
        if kind == 0:
            return _OK + _field(4, _field(1, _MINE) + _field(2, b"\x04\x7f\x00\x00\x01"))
        if kind == _HANDLER:
            assert isinstance(body[0][1], bytes)
            self._handler = body[0][1].partition(b"/")[2].decode()
        elif kind == _DISCONNECT:
            return b"\x08\x01" + _field(2, _field(1, b"not connected"))
        elif kind == _PUBSUB:
            match body[0][1]:
                case 1:
                    return _OK + _field(7, _field(2, _OTHER))
                case 2:
                    assert isinstance(body[2][1], bytes)
                    for subscriber in self._subscribers:
                        subscriber.write(self._delimited(_field(1, _OTHER) + _field(2, body[2][1]) + _field(4, b"t")))
                case 3:
                    self._subscribers.append(writer)
        return _OK

    async def _open(
        self, body: list[tuple[int, int | bytes]], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        info = _field(1, _OTHER) + _field(2, b"") + _field(3, bytes(body[1][1]))
        back_reader, back_writer = await asyncio.open_unix_connection(f"/{self._handler}")
        back_writer.write(self._delimited(info))
        writer.write(self._delimited(_OK + _field(3, info)))
        await asyncio.gather(self._pipe(reader, back_writer), self._pipe(back_reader, writer))

    async def _pipe(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def _message(self, reader: asyncio.StreamReader) -> bytes:
        size = shift = 0
        while True:
            (byte,) = await reader.readexactly(1)
            size, shift = size | (byte & 127) << shift, shift + 7
            if byte < 128:
                return await reader.readexactly(size)

    def _delimited(self, message: bytes) -> bytes:
        return _varint(len(message)) + message


def _prepared(language: str) -> None:
    try:
        apps.prepare(language)
    except (ToolMissing, Unavailable) as error:
        not_there(error)


def test_the_app_in_go_speaks_the_control_protocol(tmp_path: Path) -> None:
    _prepared("Go")
    daemon = FakeDaemon(tmp_path)
    other = _OTHER.hex()

    async def run() -> None:
        async with daemon.serving(), contextlib.AsyncExitStack() as stack:
            app = await apps.start_app(stack, "Go", "p2pd", daemon.socket)
            assert (await app.call("info"))["peer_id"] == _MINE.hex()
            await app.call("connect", peer_id=other, addresses=["047f000001"])
            assert daemon.asked[-1] == (_CONNECT, (1, _OTHER), (2, b"\x04\x7f\x00\x00\x01"))
            with pytest.raises(Exception, match="not connected"):
                await app.call("connections", peer_id=other, addresses=[], count=1)
            with pytest.raises(Exception, match="no direct messages"):
                await app.call("request", peer_id=other, size=1, count=1, in_flight=1)
            await app.call("answer_streams")
            for in_flight in (1, 8):
                answer = await app.call("echo", peer_id=other, size=100, count=50, in_flight=in_flight)
                assert 0 < answer["latency_ms"]["p50"] <= answer["latency_ms"]["p99"] <= answer["seconds"] * 1000
            assert (await app.call("new_streams", peer_id=other, count=3))["seconds"] > 0
            assert (await app.call("bulk", peer_id=other, send=1_000_001, receive=300_000))["seconds"] > 0

    asyncio.run(run())


def test_the_app_in_go_floods_by_the_control_protocol(tmp_path: Path) -> None:
    _prepared("Go")
    daemon = FakeDaemon(tmp_path)

    async def run() -> None:
        async with daemon.serving(), contextlib.AsyncExitStack() as stack:
            app = await apps.start_app(stack, "Go", "p2pd", daemon.socket)
            await app.call("join", signed=True)
            await app.call("listen", signed=True, ack_to=_OTHER.hex(), every=8, subscribers=2)
            for count in (32, 64):
                assert (await app.call("flood", size=100, count=count, window=16))["seconds"] > 0
            assert (await app.call("tally"))["received"] == 2 * (32 + 64)
            await app.call("watch")
            await app.call("pace", size=100, count=16, rate=10_000.0)
            tally = await app.call("tally")
            assert tally["received"] == 2 * (32 + 64 + 16)
            assert 0 < tally["latency_ms"]["p50"] <= tally["latency_ms"]["p99"]

    asyncio.run(run())
    published = [asked for asked in daemon.asked if isinstance(asked, tuple) and asked[0] == _PUBSUB]
    assert len({asked[3] for asked in published if asked[1] == (1, 2)}) == 32 + 64 + 16  # all differ


class _Scripted(AppSubject):
    """Apps that answer with what they are asked to have done, in a second for each 1,000."""

    name = "scripted"
    language = "none"
    most = 32
    asks = False

    def __init__(self) -> None:
        self.orders: list[tuple[str, str, dict[str, object]]] = []
        self._received = 0
        self._lost = 0

    def lose(self, messages: int) -> "_Scripted":
        self._lost = messages
        return self

    def answer(self, who: str, op: str, given: dict[str, object]) -> dict[str, object]:
        self.orders.append((who, op, given))
        count = given.get("count", 0)
        assert isinstance(count, int)
        if op == "flood":
            self._received += count - self._lost
        return {"seconds": count / 1000, "latency_ms": {"p50": 1.0, "p99": 2.0}, "received": self._received}

    async def start_node(self, stack: contextlib.AsyncExitStack, *, signed: bool = True, alone: bool = False) -> Node:
        return _ScriptedNode(self, str(len(self.orders)))


class _ScriptedApp:
    def __init__(self, subject: _Scripted, who: str) -> None:
        self.pid = os.getpid()
        self._subject, self._who = subject, who

    async def call(self, op: str, timeout: float = 0.0, **given: object) -> dict[str, object]:
        return self._subject.answer(self._who, op, given)


class _ScriptedNode:
    ready_seconds = 0.25

    def __init__(self, subject: _Scripted, who: str) -> None:
        self._subject = subject
        self.peer_id, self.addresses = f"id {who}", ["somewhere"]
        self.app: Peer

    @property
    def pid(self) -> int:
        return self.app.pid

    async def add_app(self, stack: contextlib.AsyncExitStack, language: str = "Python") -> None:
        self.app = _ScriptedApp(self._subject, self.peer_id)  # type: ignore[assignment]


def test_a_window_is_no_larger_than_the_node_bears() -> None:
    subject = _Scripted()
    cell = asyncio.run(subject.gossip(100, True, 2.0))
    assert cell is not None
    assert cell.rate == pytest.approx(1000)
    windows = {given["window"] for _, op, given in subject.orders if op == "flood"}
    assert windows == {32}
    assert [given["every"] for _, op, given in subject.orders if op == "listen"] == [8]
    assert all(given["count"] % 32 == 0 for _, op, given in subject.orders if op == "flood")  # type: ignore[operator]


def test_lost_messages_fail_a_row() -> None:
    with pytest.raises(RuntimeError, match="31 of 32 messages received"):
        asyncio.run(_Scripted().lose(1).gossip(100, True, 2.0))


def test_a_recorder_sees_the_processes_of_what_is_measured() -> None:
    seen: list[list[str]] = []

    class Names(Recorder):
        @contextlib.contextmanager
        def recording(self, pids: Mapping[str, int]) -> Iterator[None]:
            seen.append(list(pids))
            yield

    subject = _Scripted()
    subject.recorder = Names()
    assert asyncio.run(subject.echo(100, 4, 1.0)).p99_ms == 2.0
    assert seen == [["sender", "receiver", "sender-app", "receiver-app"]]
    assert asyncio.run(subject.requests(100, 1, 1.0)) is None


@pytest.mark.slow
@pytest.mark.parametrize("language", apps.LANGUAGES)
def test_apps_measure_sidecars(language: str) -> None:
    _prepared(language)
    subject = SidecarSubject(language)

    async def run() -> None:
        async with subject.pair() as (sender, receiver):
            await subject.subscribe(sender, receiver, signed=True, every=16)
            assert await subject.flood(sender, receiver, 100, 64, 64) > 0
            await receiver.app.call("watch")
            await sender.app.call("pace", size=100, count=16, rate=1000.0)
            assert (await receiver.app.call("tally"))["received"] == 64 + 16
            await receiver.app.call("answer")
            await receiver.app.call("answer_streams")
            peer = receiver.peer_id
            for op in ("send_many", "request", "echo"):
                for in_flight in (1, 4) if op != "send_many" else (4,):
                    answer = await sender.app.call(op, peer_id=peer, size=100, count=20, in_flight=in_flight)
                    assert 0 < answer["latency_ms"]["p50"] <= answer["latency_ms"]["p99"]
            assert (await sender.app.call("send_each", peer_id=peer, size=100, count=5))["seconds"] > 0
            assert (await sender.app.call("bulk", peer_id=peer, send=1_000_001, receive=300_000))["seconds"] > 0
            assert (await sender.app.call("new_streams", peer_id=peer, count=3))["seconds"] > 0
            await sender.app.call("open_streams", peer_id=peer, count=3)

    asyncio.run(run())


def test_a_daemon_is_ended() -> None:
    async def run() -> int | None:
        process = await apps.spawn("sleep", "100", stderr=asyncio.subprocess.DEVNULL)
        await Daemon(process, Path("/nowhere")).stop()
        await Daemon(process, Path("/nowhere")).stop()  # once more does no harm
        return process.returncode

    assert asyncio.run(run()) == -9
