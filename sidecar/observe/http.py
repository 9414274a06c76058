"""As much of an HTTP server as probes and scrapers need: GET and HEAD of a few paths, a connection for each."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import NamedTuple

from ..core.errors import AddressInUse

_MAX_HEAD = 8192  # bytes of a request's head; a scraper sends some 300
_MAX_LEFT = 1 << 20  # bytes of a request's body and whatever follows
_MAX_CONNECTIONS = 64
_TIMEOUT = 10.0  # seconds for a request to come and its answer to leave
_log = logging.getLogger(__name__)


class Request(NamedTuple):
    """What a page is told of a request."""

    path: str
    accept: str


class Answer(NamedTuple):
    """A page."""

    status: HTTPStatus
    content_type: str
    body: bytes


Page = Callable[[Request], Answer]


def text(status: HTTPStatus, words: str) -> Answer:
    """An answer in words."""
    return Answer(status, "text/plain; charset=utf-8", words.encode() + b"\n")


class HttpServer:
    """Serves pages that are made at once, on the running loop."""

    def __init__(self, pages: Mapping[str, Page]) -> None:
        """`pages`: by path."""
        self._pages = pages
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, host: str, port: int) -> str:
        """Listen; returns `host:port`, an IPv6 address in brackets. Raises AddressInUse."""
        shown = f"[{host}]" if ":" in host else host
        try:
            self._server = await asyncio.start_server(self._connected, host, port, limit=_MAX_HEAD)
        except OSError as error:
            raise AddressInUse(f"metrics address {shown}:{port} cannot be bound: {error.strerror}") from None
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
        try:
            async with asyncio.timeout(_TIMEOUT):
                writer.write(await self._respond(reader))
                writer.write_eof()
                await writer.drain()
                # What is left unread would make the kernel reset the connection, and the answer with it.
                left = _MAX_LEFT
                while left > 0 and (piece := await reader.read(left)):
                    left -= len(piece)
        except (TimeoutError, OSError, asyncio.CancelledError):
            pass  # a peer that is slow or gone, or our own end
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    async def _respond(self, reader: asyncio.StreamReader) -> bytes:
        if len(self._tasks) > _MAX_CONNECTIONS:
            return _encode(text(HTTPStatus.SERVICE_UNAVAILABLE, "too many connections"), head=False)
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError:
            refusal = text(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"at most {_MAX_HEAD} bytes")
            return _encode(refusal, head=False)
        except asyncio.IncompleteReadError:
            return b""
        line, *fields = head.decode("latin-1").split("\r\n")
        words = line.split(" ")
        if len(words) != 3 or not words[2].startswith("HTTP/1."):
            return _encode(text(HTTPStatus.BAD_REQUEST, "not a request of HTTP/1"), head=False)
        method, target, _ = words
        if method not in ("GET", "HEAD"):
            return _encode(text(HTTPStatus.METHOD_NOT_ALLOWED, "GET and HEAD only"), head=False)
        path = target.partition("?")[0]
        page = self._pages.get(path)
        if page is None:
            return _encode(text(HTTPStatus.NOT_FOUND, f"there are {', '.join(self._pages)}"), head=method == "HEAD")
        try:
            answer = page(Request(path, _field(fields, "accept")))
        except Exception:  # noqa: BLE001 - a request is a task boundary: the scraper is told, and the log has it
            _log.exception("internal error while making %s", path)
            answer = text(HTTPStatus.INTERNAL_SERVER_ERROR, "internal error; the sidecar's log has it")
        return _encode(answer, head=method == "HEAD")


def _field(fields: list[str], name: str) -> str:
    for field in fields:
        key, _, value = field.partition(":")
        if key.strip().lower() == name:
            return value.strip()
    return ""


def _encode(answer: Answer, *, head: bool) -> bytes:
    lines = [
        f"HTTP/1.1 {answer.status.value} {answer.status.phrase}",
        f"Content-Type: {answer.content_type}",
        f"Content-Length: {len(answer.body)}",
        "Cache-Control: no-store",
        "X-Content-Type-Options: nosniff",
        *(["Allow: GET, HEAD"] if answer.status is HTTPStatus.METHOD_NOT_ALLOWED else []),
        "Connection: close",
        "",
        "",
    ]
    return "\r\n".join(lines).encode("latin-1") + (b"" if head else answer.body)
