"""As much of an HTTP server as probes, scrapers and the dashboard need.

GET and HEAD of a few paths, each over a connection of its own.
"""

import asyncio
import errno
import logging
import os
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from http import HTTPStatus

from ..core.classes import NamedTuple
from ..core.errors import AddressInUse, ConfigError

_MAX_HEAD = 8192  # bytes of a request's head; a scraper sends some 300
_MAX_LEFT = 1 << 20  # bytes of a request's body and whatever follows
_MAX_CONNECTIONS = 64  # beyond them, whoever keeps a place without asking anything gives it up
_TIMEOUT = 10.0  # seconds for a request to come and its answer to leave
_log = logging.getLogger(__name__)


class HttpRequest(NamedTuple):
    """What a page is told of a request."""

    path: str
    accept: str
    host: str = ""
    authorization: str = ""


class HttpResponse(NamedTuple):
    """A page. A body in pieces goes on for as long as the asker reads; a piece that is not read in time ends it."""

    status: HTTPStatus
    content_type: str
    body: bytes | AsyncGenerator[bytes, None]


Page = Callable[[HttpRequest], HttpResponse]


def text(status: HTTPStatus, words: str) -> HttpResponse:
    """An answer in words."""
    return HttpResponse(status, "text/plain; charset=utf-8", words.encode() + b"\n")


class HttpServer:
    """Serves pages that are made at once, on the running loop."""

    def __init__(
        self,
        pages: Mapping[str, Page],
        *,
        check: Callable[[HttpRequest], HttpResponse | None] = lambda request: None,
        headers: Mapping[str, str] | None = None,
        timeout: float = _TIMEOUT,
    ) -> None:
        """Serve nothing before `start`.

        `pages`: by path.
        `check`: looks at every request first; its answer, if it has one, is the answer.
        `headers`: added to each answer.
        `timeout`: seconds for a request to come and an answer to leave, or each piece of a feed.
        """
        self._pages = pages
        self._check = check
        self._headers = dict(headers or {})
        self._timeout = timeout
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._idle: dict[asyncio.Task[None], str] = {}  # those that could go, the oldest first: by their address

    async def start(self, host: str, port: int, what: str = "metrics address") -> str:
        """Listen; returns `host:port`, an IPv6 address in brackets. AddressInUse, ConfigError: `what` names it."""
        shown = f"[{host}]" if ":" in host else host
        try:
            self._server = await asyncio.start_server(self._connected, host, port, limit=_MAX_HEAD, backlog=512)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise AddressInUse(f"{what} {shown}:{port} cannot be bound: the port is in use") from None
            because = os.strerror(error.errno) if error.errno else error  # asyncio's own words name the address again
            raise ConfigError(f"{what} {shown}:{port} cannot be bound: {because}") from None
        return f"{shown}:{self._server.sockets[0].getsockname()[1]}"

    async def stop(self) -> None:
        """Take no more, and cut what is under way."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
            tasks = list(self._tasks)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.sleep(0)  # sockets close a turn later

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        address = self._idle[task] = (writer.get_extra_info("peername") or ("",))[0]
        self._make_room()
        try:
            async with asyncio.timeout(self._timeout):
                head, answer = await self._respond(reader)
                self._idle.pop(task, None)
                writer.write(self._encode(answer, head=head))
                await writer.drain()
            if not head and not isinstance(answer.body, bytes):
                await self._feed(writer, answer.body)
            self._idle[task] = address  # it has its answer
            async with asyncio.timeout(self._timeout):
                writer.write_eof()
                await writer.drain()
                # What is left unread would make the kernel reset the connection, and the answer with it.
                left = _MAX_LEFT
                while left > 0 and (piece := await reader.read(left)):
                    left -= len(piece)
        except (OSError, EOFError, asyncio.CancelledError):
            pass  # a peer that is slow or gone, or our own end
        finally:
            self._tasks.discard(task)
            self._idle.pop(task, None)
            writer.transport.abort()

    def _make_room(self) -> None:
        """Cut connections that wait for nothing of ours, so that those who ask have room: first of who has most."""
        while len(self._tasks) > _MAX_CONNECTIONS and len(self._idle) > 1:
            held = Counter(self._idle.values())
            waiting = list(self._idle.items())[:-1]  # the newest has not had its chance yet
            task, _ = max(waiting, key=lambda entry: held[entry[1]])  # the first of equals is the oldest
            del self._idle[task]
            self._tasks.discard(task)
            task.cancel()

    async def _feed(self, writer: asyncio.StreamWriter, body: AsyncGenerator[bytes, None]) -> None:
        async with aclosing(body) as pieces:
            async for piece in pieces:
                writer.write(piece)
                async with asyncio.timeout(self._timeout):
                    await writer.drain()

    async def _respond(self, reader: asyncio.StreamReader) -> tuple[bool, HttpResponse]:
        """Whether only the head is asked for, and the answer."""
        if len(self._tasks) > _MAX_CONNECTIONS:
            return False, text(HTTPStatus.SERVICE_UNAVAILABLE, "too many connections")
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError:
            return False, text(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"at most {_MAX_HEAD} bytes")
        line, *lines = head.decode("latin-1").split("\r\n")
        words = line.split(" ")
        if len(words) != 3 or not words[2].startswith("HTTP/1."):
            return False, text(HTTPStatus.BAD_REQUEST, "not a request of HTTP/1")
        method, target, _ = words
        if method not in ("GET", "HEAD"):
            return False, text(HTTPStatus.METHOD_NOT_ALLOWED, "GET and HEAD only")
        fields = _fields(lines)
        if fields is None:
            return False, text(HTTPStatus.BAD_REQUEST, "a header field is malformed, or there twice")
        path = target.partition("?")[0]
        request = HttpRequest(path, *(fields.get(name, "") for name in ("accept", "host", "authorization")))
        return method == "HEAD", self._check(request) or self._page(request)

    def _page(self, request: HttpRequest) -> HttpResponse:
        page = self._pages.get(request.path)
        if page is None:
            return text(HTTPStatus.NOT_FOUND, f"there are {', '.join(self._pages)}")
        try:
            return page(request)
        except Exception:  # noqa: BLE001 - a request is a task boundary: the asker is told, and the log has it
            _log.exception("internal error while making %s", request.path)
            return text(HTTPStatus.INTERNAL_SERVER_ERROR, "internal error; the sidecar's log has it")

    def _encode(self, answer: HttpResponse, *, head: bool) -> bytes:
        body = answer.body if isinstance(answer.body, bytes) else None
        lines = [
            f"HTTP/1.1 {answer.status.value} {answer.status.phrase}",
            f"Content-Type: {answer.content_type}",
            *([f"Content-Length: {len(body)}"] if body is not None else []),
            "Cache-Control: no-store",
            "X-Content-Type-Options: nosniff",
            *(f"{name}: {value}" for name, value in self._headers.items()),
            *(["Allow: GET, HEAD"] if answer.status is HTTPStatus.METHOD_NOT_ALLOWED else []),
            "Connection: close",
            "",
            "",
        ]
        return "\r\n".join(lines).encode("latin-1") + (b"" if head or body is None else body)


_ONCE = ("host", "authorization")


def _fields(lines: list[str]) -> dict[str, str] | None:
    """Header fields by lower-case name, the first where one is repeated; None where one is malformed.

    Two hosts or two credentials are malformed: which one counts, others could see otherwise.
    """
    found: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        name = name.lower()
        if line and (not colon or not name or name != name.strip() or (name in found and name in _ONCE)):
            return None
        if line:
            found.setdefault(name, value.strip())
    return found
