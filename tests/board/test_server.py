"""The dashboard's web server, attacked: what comes is refused by status or cut, and what is live needs the token."""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator
from typing import Any, NamedTuple, cast

import pytest

from sidecar.board.board import Board
from sidecar.board.server import Dashboard, new_token
from sidecar.board.snapshot import Snapshot, changes, snapshot
from sidecar.core.errors import AddressInUse
from tests.api.fakes import asynchronous

from .samples import peer, peer_id, sample

TOKEN = "t" * 43


class FakeBoard:
    """Shows what it is told to."""

    def __init__(self) -> None:
        self.snapshot: Snapshot = snapshot(sample(peers=[peer(1)]))
        self.version = 1
        self._changed = asyncio.Event()

    def show(self, shown: Snapshot) -> None:
        self.snapshot = shown
        self.version += 1
        self._changed.set()
        self._changed = asyncio.Event()

    async def newer(self, version: int, patience: float | None = None) -> int:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience):
                while self.version <= version:
                    await self._changed.wait()
        return self.version


class Reply(NamedTuple):
    status: int
    fields: dict[str, str]
    body: bytes


class Site:
    """A dashboard that listens."""

    def __init__(self, board: FakeBoard, dashboard: Dashboard, port: int) -> None:
        self.board = board
        self.dashboard = dashboard
        self.port = port

    async def send(self, data: bytes) -> Reply:
        """Write bytes, read to the end."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(data)
            with contextlib.suppress(ConnectionError):
                return parsed(await reader.read())
            return Reply(0, {}, b"")
        finally:
            writer.close()

    async def get(self, target: str, *fields: str, host: str | None = None, method: str = "GET") -> Reply:
        lines = [f"{method} {target} HTTP/1.1", f"Host: {host or f'127.0.0.1:{self.port}'}", *fields, "", ""]
        return await self.send("\r\n".join(lines).encode())

    @contextlib.asynccontextmanager
    async def feed(self, token: str = TOKEN) -> AsyncIterator[asyncio.StreamReader]:
        """The lines of `/events`."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(f"GET /events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n".encode())
        try:
            head = parsed(await reader.readuntil(b"\r\n\r\n"))
            assert head.status == 200
            yield reader
        finally:
            writer.close()


def parsed(data: bytes) -> Reply:
    head, _, body = data.partition(b"\r\n\r\n")
    line, *fields = head.decode("latin-1").split("\r\n")
    pairs = (field.split(": ", 1) for field in fields)
    return Reply(int(line.split(" ")[1]) if line else 0, {name.lower(): value for name, value in pairs}, body)


@contextlib.asynccontextmanager
async def site(**options: Any) -> AsyncIterator[Site]:
    board = FakeBoard()
    dashboard = Dashboard(cast(Board, board), TOKEN, **options)
    address = await dashboard.start(0)
    try:
        yield Site(board, dashboard, int(address.rpartition(":")[2]))
    finally:
        await dashboard.stop()


@asynchronous
async def test_the_page_and_all_that_it_names_are_served_with_a_strict_policy() -> None:
    async with site() as served:
        page = await served.get("/")
        assert page.status == 200
        for part in ("/dashboard.js", "/dashboard.css", "/icon.svg"):
            assert part in page.body.decode()
            reply = await served.get(part)
            assert (reply.status, len(reply.body)) == (200, int(reply.fields["content-length"]))
            policy = reply.fields["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
            assert (reply.fields["referrer-policy"], reply.fields["x-content-type-options"]) == (
                "no-referrer",
                "nosniff",
            )
            assert not any("access-control" in name for name in reply.fields), "no other page may read it"
        assert b"http" not in page.body.replace(b"<http", b""), "nothing from elsewhere"


@asynchronous
async def test_it_listens_on_loopback_only() -> None:
    async with site() as served:
        server = served.dashboard._http._server
        assert server is not None
        assert [each.getsockname()[0] for each in server.sockets] == ["127.0.0.1"]
        again = Dashboard(cast(Board, served.board), TOKEN)
        with pytest.raises(AddressInUse, match="dashboard address"):
            await again.start(served.port)


@pytest.mark.parametrize(
    "field",
    [
        "Authorization: Bearer " + "t" * 42,
        "Authorization: Bearer " + "t" * 44,
        "Authorization: Bearer ",
        "Authorization: Basic " + TOKEN,
        "Authorization: " + TOKEN,
        "Authorization: Bearer \xfc",
        "Cookie: token=" + TOKEN,
        "X-Nothing: 1",
    ],
)
def test_without_the_token_nothing_live_is_told(field: str) -> None:
    @asynchronous
    async def play() -> None:
        async with site() as served:
            reply = await served.get("/events", field)
            assert reply.status == 401
            assert peer_id(1).encode() not in reply.body
            assert (await served.get(f"/events?t={TOKEN}")).status == 401, "addresses end up in logs"

    play()


@pytest.mark.parametrize(
    "host",
    ["evil.example", "127.0.0.1.evil.example:80", "evil.example:5000", "localhost.evil:1", "[::2]:1", "0.0.0.0:80", " ",
     "127.0.0.1:80:80", "127.0.0.1:", "localhost:x", "user@localhost"],
)  # fmt: skip
def test_a_name_that_somebody_else_points_here_is_refused(host: str) -> None:
    @asynchronous
    async def play() -> None:
        async with site() as served:
            for target in ("/", "/events", "/dashboard.js"):
                reply = await served.get(target, f"Authorization: Bearer {TOKEN}", host=host)
                assert reply.status == 421

    play()


@asynchronous
async def test_the_names_of_loopback_are_taken_with_any_port_and_two_hosts_are_not() -> None:
    async with site() as served:
        for host in ("localhost", "localhost:9", "127.0.0.1", "[::1]:80"):
            assert (await served.get("/", host=host)).status == 200
        assert (await served.get("/", "Host: evil.example")).status == 400
        assert (await served.send(b"GET / HTTP/1.1\r\n\r\n")).status == 421


@pytest.mark.parametrize(
    "target",
    ["/../server.py", "/static/../server.py", "/%2e%2e/server.py", "/..%2f..%2fapp.py", "//etc/passwd",
     "/./dashboard.js", "/dashboard.js/", "/index.html",
     "/dashboard.js%00", "\\..\\server.py", "http://127.0.0.1/", "*"],
)  # fmt: skip
def test_there_is_no_way_to_other_files(target: str) -> None:
    @asynchronous
    async def play() -> None:
        async with site() as served:
            assert (await served.get(target)).status == 404

    play()


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 20_000 + b"\r\n\r\n", 431),
        (b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\n\r\n", 431),
        (b"x" * 100_000, 431),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n folded\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost : localhost\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\n\r\n", 400),
        (b"GET  / HTTP/1.1\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\r\n\r\n", 400),
        (b"POST /events HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello", 405),
        (b"OPTIONS /events HTTP/1.1\r\nHost: localhost\r\nOrigin: http://evil.example\r\n\r\n", 405),
        (b"TRACE / HTTP/1.1\r\nHost: localhost\r\n\r\n", 405),
    ],
)
def test_what_is_no_request_is_refused(data: bytes, status: int) -> None:
    @asynchronous
    async def play() -> None:
        async with site() as served:
            assert (await served.send(data)).status == status
            assert (await served.get("/")).status == 200

    play()


@asynchronous
async def test_who_sends_slowly_is_cut_and_others_are_served_meanwhile() -> None:
    async with site(timeout=0.2) as served:
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        writer.write(b"GET / HTT")
        assert (await served.get("/")).status == 200
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b"", "cut without an answer"
        writer.close()


@asynchronous
async def test_who_reads_slowly_is_cut_and_its_place_is_free_again() -> None:
    async with site(timeout=0.2) as served:
        deaf = socket.socket()
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.connect(("127.0.0.1", served.port))
        reader, writer = await asyncio.open_connection(sock=deaf, limit=1024)
        writer.write(f"GET /events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n\r\n".encode())
        assert b"200 OK" in await reader.readexactly(1000), "the feed has begun"
        assert served.dashboard._feeds == 1
        number = 0
        while served.dashboard._feeds:
            number += 1
            served.board.show(snapshot(sample(number, peers=[peer(n) for n in range(500 * (number % 2))])))
            await asyncio.sleep(0)
        writer.close()


@asynchronous
async def test_the_feed_begins_with_everything_and_goes_on_with_what_changes() -> None:
    async with site() as served, served.feed() as lines:
        first = json.loads(await lines.readline())
        assert first == served.board.snapshot
        new = snapshot(sample(1, peers=[peer(1), peer(2)]))
        expected = changes(served.board.snapshot, new)
        served.board.show(new)
        assert json.loads(await lines.readline()) == expected


@asynchronous
async def test_a_head_of_the_feed_has_no_body() -> None:
    async with site() as served:
        reply = await served.get("/events", f"Authorization: Bearer {TOKEN}", method="HEAD")
        assert (reply.status, reply.body) == (200, b"")


@asynchronous
async def test_only_so_many_pages_are_served_at_a_time() -> None:
    async with site() as served, contextlib.AsyncExitStack() as stack:
        for _ in range(16):
            lines = await stack.enter_async_context(served.feed())
            await lines.readline()
        assert (await served.get("/events", f"Authorization: Bearer {TOKEN}")).status == 503
        assert (await served.get("/")).status == 200


@asynchronous
async def test_stopping_ends_the_feeds() -> None:
    async with site() as served, served.feed() as lines:
        await lines.readline()
        await served.dashboard.stop()
        with contextlib.suppress(ConnectionError):
            assert await lines.read() == b""


def test_tokens_cannot_be_guessed() -> None:
    assert len({new_token() for _ in range(100)}) == 100
    assert all(len(new_token()) == 43 for _ in range(100))
