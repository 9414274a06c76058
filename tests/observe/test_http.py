"""The server of metrics and probes against a client that writes bytes."""

import asyncio
import contextlib
import logging
from http import HTTPStatus

import pytest

from sidecar.core.errors import AddressInUse, ConfigError
from sidecar.observe.http import HttpRequest, HttpResponse, HttpServer
from tests.api.fakes import asynchronous


def page(request: HttpRequest) -> HttpResponse:
    return HttpResponse(HTTPStatus.OK, "text/x", f"{request.path} {request.accept}".encode())


def broken(request: HttpRequest) -> HttpResponse:
    raise ValueError("no page")


class Served:
    """A server with a page and a broken one, and what it answers."""

    async def __aenter__(self) -> "Served":
        self.server = HttpServer({"/page": page, "/broken": broken})
        self.address = await self.server.start("127.0.0.1", 0)
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.server.stop()

    async def until(self, connections: int) -> None:
        """Wait until the server has so many."""
        while len(self.server._tasks) != connections:  # noqa: ASYNC110 - it counts, and tells nobody
            await asyncio.sleep(0)

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        host, _, port = self.address.rpartition(":")
        return await asyncio.open_connection(host, int(port))

    async def ask(self, *pieces: bytes) -> tuple[int, dict[str, str], bytes]:
        """Status, fields and body."""
        reader, writer = await self.connect()
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        head, _, body = answer.partition(b"\r\n\r\n")
        line, *fields = head.decode().split("\r\n")
        return int(line.split()[1]), dict(field.lower().split(": ", 1) for field in fields), body


@asynchronous
async def test_a_page_is_served_however_the_request_comes() -> None:
    async with Served() as served:
        whole = b"GET /page?x=1 HTTP/1.1\r\nHost: a\r\nACCEPT:  text/y \r\n\r\n"
        for pieces in ((whole,), tuple(bytes([byte]) for byte in whole), (whole + b"trailing",)):
            status, fields, body = await served.ask(*pieces)
            assert (status, body) == (200, b"/page text/y")
            assert (fields["content-type"], fields["content-length"], fields["connection"]) == ("text/x", "12", "close")
        status, fields, body = await served.ask(b"HEAD /page HTTP/1.0\r\n\r\n")
        assert (status, fields["content-length"], body) == (200, "6", b"")


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET /nothing HTTP/1.1\r\n\r\n", 404),
        (b"POST /page HTTP/1.1\r\nContent-Length: 1\r\n\r\nx", 405),
        (b"hello\r\n\r\n", 400),
        (b"GET /page HTTP/2\r\n\r\n", 400),
        (b"GET  /page HTTP/1.1\r\n\r\n", 400),
        (b"\xff\xfe \x00 \x01\r\n\r\n", 400),
        (b"GET /page HTTP/1.1\r\nX: " + b"x" * 20_000, 431),
    ],
)
def test_what_is_no_good_request_is_refused(request_bytes: bytes, status: int) -> None:
    @asynchronous
    async def check() -> None:
        async with Served() as served:
            assert (await served.ask(request_bytes))[0] == status

    check()


@asynchronous
async def test_a_page_that_fails_is_told_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    async with Served() as served:
        status, _, body = await served.ask(b"GET /broken HTTP/1.1\r\n\r\n")
        assert (status, b"the sidecar's log has it" in body) == (500, True)
        assert [record.levelno for record in caplog.records] == [logging.ERROR]


@asynchronous
async def test_who_says_nothing_holds_up_nobody_and_is_cut_at_the_end() -> None:
    async with Served() as served:
        silent = []
        for _ in range(300):
            silent.append(await served.connect())
            silent[-1][1].write(b"GET /page HTTP/1.1\r\nX-Half: ")
        await served.until(64)
        assert (await served.ask(b"GET /page HTTP/1.1\r\n\r\n"))[0] == 200  # in the place of the oldest
        for reader, _ in silent[:236]:
            with contextlib.suppress(ConnectionResetError):
                assert await reader.read() == b""
        await served.server.stop()
        for reader, writer in silent:
            with contextlib.suppress(ConnectionResetError):
                assert await reader.read() == b""
            writer.close()
            with contextlib.suppress(ConnectionResetError):
                await writer.wait_closed()


@asynchronous
async def test_a_place_that_is_taken_is_an_error() -> None:
    async with Served() as served:
        host, _, port = served.address.rpartition(":")
        with pytest.raises(AddressInUse, match=f"{served.address} cannot be bound: the port is in use"):
            await HttpServer({}).start(host, int(port))
    with pytest.raises(
        ConfigError, match=r"203\.0\.113\.9:9464 cannot be bound"
    ):  # nobody has taken it: it is not here
        await HttpServer({}).start("203.0.113.9", 9464)
