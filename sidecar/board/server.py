"""Serves the dashboard to browsers of this machine: some static files for anybody, what is live for who has the token.

The token is in the link's fragment, which browsers send to nobody; the page sends it as a bearer token. So other
pages cannot use it (there is no cookie), nor does it get into logs or histories of addresses.
"""

import hmac
import json
import secrets
from collections.abc import AsyncGenerator
from http import HTTPStatus
from importlib import resources

from ..observe.http import HttpRequest, HttpResponse, HttpServer, Page, text
from .board import Board
from .snapshot import Snapshot, changes

HOST = "127.0.0.1"
_MAX_FEEDS = 16
_HEARTBEAT = 5.0  # seconds after which an empty line says that the dashboard is still there
_FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/dashboard.css": ("dashboard.css", "text/css; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
_SCRIPTS = "text/javascript; charset=utf-8"
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
}
# By these names a browser reaches loopback. Any other is one that somebody else's name server has pointed here, so that
# their page may read ours (DNS rebinding). The port may differ: behind `ssh -L` it does.
_NAMES = ("127.0.0.1", "localhost", "[::1]")


def new_token() -> str:
    """256 bits, as text for a link."""
    return secrets.token_urlsafe(32)


class Dashboard:
    """The web server of one board."""

    def __init__(self, board: Board, token: str, *, timeout: float = 10.0) -> None:
        self._board = board
        self._token = token.encode()
        self._feeds = 0
        pages = {path: _static(name, kind) for path, (name, kind) in _FILES.items()}
        for file in resources.files(__package__).joinpath("static").iterdir():
            if file.name.endswith(".js"):
                pages[f"/{file.name}"] = _static(file.name, _SCRIPTS)
        self._http = HttpServer(
            {**pages, "/events": self._events}, check=_check_host, headers=_HEADERS, timeout=timeout
        )

    async def start(self, port: int) -> str:
        """Listen on loopback; 0: at any free port. Returns the address. Raises AddressInUse."""
        return await self._http.start(HOST, port, "dashboard address")

    async def stop(self) -> None:
        """Cut whoever is looking."""
        await self._http.stop()

    def _events(self, request: HttpRequest) -> HttpResponse:
        """The snapshot, then what changes, each a line of JSON."""
        scheme, _, given = request.authorization.partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(given.encode(), self._token):
            return text(
                HTTPStatus.UNAUTHORIZED, "the token is missing or wrong: use the link that the dashboard printed"
            )
        if self._feeds >= _MAX_FEEDS:
            return text(HTTPStatus.SERVICE_UNAVAILABLE, f"{_MAX_FEEDS} pages are open, no more are served")
        return HttpResponse(HTTPStatus.OK, "application/x-ndjson", self._feed())

    async def _feed(self) -> AsyncGenerator[bytes, None]:
        self._feeds += 1
        try:
            shown: Snapshot = {}
            version = 0
            while True:
                newer = await self._board.newer(version, _HEARTBEAT)
                if newer > version:
                    version, new = newer, self._board.snapshot or {}
                    yield json.dumps(changes(shown, new), separators=(",", ":")).encode() + b"\n"
                    shown = new
                else:
                    yield b"\n"
        finally:
            self._feeds -= 1


def _check_host(request: HttpRequest) -> HttpResponse | None:
    name, colon, port = request.host.rpartition(":")
    if (colon and name in _NAMES and port.isdecimal()) or request.host in _NAMES:
        return None
    return text(HTTPStatus.MISDIRECTED_REQUEST, f"only for {', '.join(_NAMES)}")


def _static(name: str, kind: str) -> Page:
    answer = HttpResponse(HTTPStatus.OK, kind, resources.files(__package__).joinpath("static", name).read_bytes())
    return lambda request: answer
