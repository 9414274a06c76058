"""Requests of peers on their way to the apps that serve them."""

from collections import deque
from collections.abc import Iterable

from ...core.classes import NamedTuple
from ...core.direct import RequestAnswered, RequestArrived, RequestsAnswered, RequestWithdrawn
from ...core.errors import (
    AlreadyExists,
    Closed,
    InvalidArgument,
    NotSupported,
    QueueFull,
    Refused,
    SidecarError,
    TooLarge,
)
from ...core.override import override
from ...process.spans import Span, Tracer
from ..common.bounds import Bounds
from ..common.lifetime import Lifetime
from ..common.outlet import Outlet
from ..surface import Feed

_RESPONSE_BYTES = 1 << 20  # of requests in one response, about
_WITHDRAWN = Closed("nobody waits for the answer any more")


class ToldServer(NamedTuple):
    """What an app is told next: requests, numbers of withdrawn ones, answers that could not be taken and why."""

    requests: list[RequestArrived]
    withdrawn: list[int]
    rejected: list[tuple[int, str]]


class ServeStream(Outlet):
    """One app's Serve stream: the requests that it has not answered, and what to tell it next."""

    def __init__(self, protocols: tuple[str, ...], bounds: Bounds, *, response_bytes: int = _RESPONSE_BYTES) -> None:
        """`bounds`: of unanswered requests, and of the bytes of those that the app has not taken yet.

        `response_bytes`: about how many of requests are told at once.
        """
        self._response_bytes = response_bytes
        super().__init__()
        self.protocols = protocols
        self._bounds = bounds
        self._bytes = 0
        self._open: dict[int, None] = {}
        self._requests: deque[RequestArrived] = deque()
        self._withdrawn: list[int] = []
        self._rejected: list[tuple[int, str]] = []

    def push(self, request: RequestArrived) -> bool:
        """Take a request; False when the bounds are reached."""
        if len(self._open) >= self._bounds.messages or self._bytes >= self._bounds.bytes:
            return False
        self._bytes += len(request.data)
        self._open[request.token] = None
        self._requests.append(request)
        self.ready.set()
        return True

    def withdraw(self, token: int) -> None:
        """Nobody waits for the answer any more. Bounded by the open requests."""
        if self.close(token):
            self._withdrawn.append(token)
            self.ready.set()

    def reject(self, token: int, why: str) -> None:
        """An answer could not be taken. Bounded: of what the app does not read, the first are kept."""
        if len(self._rejected) < self._bounds.messages:
            self._rejected.append((token, why))
            self.ready.set()

    def close(self, token: int) -> bool:
        """Whether this request was still open; it no longer is."""
        if token not in self._open:
            return False
        del self._open[token]
        return True

    @override
    def take(self) -> ToldServer | bytes | None:
        requests = []
        size = 0
        while self._requests and size < self._response_bytes:
            request = self._requests.popleft()
            self._bytes -= len(request.data)
            if request.token in self._open:  # else withdrawn before the app saw it
                requests.append(request)
                size += len(request.data)
        withdrawn, self._withdrawn = self._withdrawn, []
        rejected, self._rejected = self._rejected, []
        if requests or withdrawn or rejected:
            return ToldServer(requests, withdrawn, rejected)
        return self.nothing()

    def tokens(self) -> list[int]:
        """The open requests."""
        return list(self._open)


class Desk:
    """Who serves which protocol."""

    def __init__(self, feed: Feed, lifetime: Lifetime, tracer: Tracer) -> None:
        """Draining waits for the requests that apps have been given. `tracer`: of each request."""
        self._feed = feed
        self._lifetime = lifetime
        self._tracer = tracer
        self._servers: dict[str, ServeStream] = {}
        self._by_token: dict[int, tuple[ServeStream, Span]] = {}
        lifetime.await_end_of(lambda: bool(self._by_token))

    def protocols(self) -> tuple[str, ...]:
        """Those that some app serves."""
        return tuple(self._servers)

    def servers(self) -> list[ServeStream]:
        """Every open stream, once."""
        return list(dict.fromkeys(self._servers.values()))

    def add(self, server: ServeStream) -> None:
        """Raises AlreadyExists when another stream serves one of the protocols."""
        for protocol in server.protocols:
            if protocol in self._servers:
                raise AlreadyExists(f"{protocol!r} is served by another stream already")
        for protocol in server.protocols:
            self._servers[protocol] = server

    def remove(self, server: ServeStream) -> None:
        """The app is gone: whoever waits for it is told."""
        for protocol in server.protocols:
            del self._servers[protocol]
        for token in server.tokens():
            self._answer(token, NotSupported("the app that served this protocol has gone"))

    def arrived(self, request: RequestArrived) -> None:
        """A peer asks: whoever serves the protocol is to answer."""
        server = self._servers.get(request.protocol)
        span = self._tracer.serving(request.peer, request.protocol, request.trace)
        refusal: SidecarError
        if self._lifetime.refusing():
            refusal = Closed("the sidecar there is stopping")
        elif server is None:
            refusal = NotSupported(f"nobody serves {request.protocol!r}")
        elif server.push(request._replace(trace=span.context)):
            self._by_token[request.token] = server, span
            return
        else:
            refusal = QueueFull("the serving app has too many requests open")
        span.end(refusal)
        self._feed(RequestAnswered(request.token, refusal))

    def withdrawn(self, withdrawn: RequestWithdrawn) -> None:
        """Nobody waits for an answer any more."""
        server = self._forget(withdrawn.token, _WITHDRAWN)
        if server is not None:
            server.withdraw(withdrawn.token)

    def answer(self, server: ServeStream, answers: Iterable[tuple[int, bytes | SidecarError]]) -> None:
        """The app answers; a number that is not open is ignored, since it may just have been withdrawn.

        What cannot be taken as an answer is told to both sides, and costs nobody else anything.
        """
        given = [(token, answer) for token, answer in answers if server.close(token)]
        if len(given) > 1 and not any(isinstance(answer, InvalidArgument) for _, answer in given):
            try:  # what one frame brings is one input of the node
                self._feed(RequestsAnswered(tuple(RequestAnswered(*one) for one in given)))
            except TooLarge:
                pass  # nothing has happened: one by one tells which it was
            else:
                for token, answer in given:
                    self._forget(token, answer if isinstance(answer, SidecarError) else None)
                return
        for token, answer in given:
            rejected: SidecarError | None = None
            if isinstance(answer, InvalidArgument):
                rejected = answer
            else:
                try:
                    self._answer(token, answer)
                except TooLarge as error:
                    rejected = error
            if rejected is not None:
                server.reject(token, str(rejected))
                self._answer(token, Refused(f"the app there gave an answer that cannot be taken: {rejected}"))

    def _answer(self, token: int, answer: bytes | SidecarError) -> None:
        """Raises TooLarge, and then nothing has happened."""
        self._feed(RequestAnswered(token, answer))
        self._forget(token, answer if isinstance(answer, SidecarError) else None)

    def _forget(self, token: int, error: SidecarError | None) -> ServeStream | None:
        server, span = self._by_token.pop(token, (None, None))
        if span is not None:
            span.end(error)
        self._lifetime.settled()
        return server
