"""Serving requests of other peers' apps."""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Generator, Sequence
from types import TracebackType
from typing import Any, Self

from . import _convert
from ._link import Link
from ._stream import Stream
from .errors import Refused
from .types import Request
from .v1 import direct_pb2

Handler = Callable[[Request], Awaitable[bytes]]
_log = logging.getLogger(__name__)
_MAX_REASON = 1024  # bytes of a refusal
_WAITING_BYTES = 16 << 20  # of requests that wait for a handler; as many as the sidecar itself keeps by default


class _Requests(Stream[direct_pb2.ServeResponse]):
    """The stream of requests. Answers belong to the call that brought their requests."""

    def __init__(self, link: Link, protocols: Sequence[str], serve: Callable[[Any], Any]) -> None:
        super().__init__(link, f"serving {', '.join(protocols)}")
        self._protocols = protocols
        self._serve = serve
        self.answers: _Answers | None = None

    def _open(self) -> Any:
        self.answers = _Answers(self._protocols, self._link)
        return self._serve(self.answers)

    def close(self) -> None:
        super().close()
        if self.answers is not None:
            self.answers.close()

    async def next(self) -> direct_pb2.ServeResponse:
        return await self._next()


class _Answers:
    """What one call writes: the protocols, then answers, as many at once as have come while the last was written."""

    def __init__(self, protocols: Sequence[str], link: Link) -> None:
        self._link = link
        self._first = direct_pb2.ServeRequest(protocols=protocols)
        self._waiting: deque[direct_pb2.Answer] = deque()  # bounded by the requests that the sidecar lets be open
        self._some = asyncio.Event()
        self._begun = self._over = False
        self.handlers: dict[int, asyncio.Task[None]] = {}
        """By their requests' numbers, which mean something within this call only."""

    def close(self) -> None:
        """The call has ended; gRPC's task that reads this ends too, and so do the handlers: nobody waits for them."""
        self._over = True
        self._some.set()
        for token in list(self.handlers):
            self.withdraw(token)

    def withdraw(self, token: int) -> None:
        """Nobody waits for this answer any more."""
        task = self.handlers.pop(token, None)
        if task is not None:
            task.cancel()

    def add(self, answer: direct_pb2.Answer) -> None:
        self._waiting.append(answer)
        self._some.set()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> direct_pb2.ServeRequest:
        if not self._begun:
            self._begun = True
            return self._first
        await self._some.wait()
        if self._over:
            raise StopAsyncIteration
        request = direct_pb2.ServeRequest()
        bounds = self._link.bounds
        size = 0
        while self._waiting and len(request.answers) < bounds.messages:
            size += len(self._waiting[0].data) + len(self._waiting[0].refusal)
            if size > bounds.size and request.answers:
                break
            request.answers.append(self._waiting.popleft())
        if not self._waiting:
            self._some.clear()
        return request


class Server:
    """Answers requests of some protocols with a handler. Await it to serve until cancelled, or use `async with`.

    `async with` returns once requests can arrive, and goes on serving inside the block. It outlives the sidecar's
    restarts. At most `concurrency` handlers run at once; more requests wait. The handler returns the response; raising
    `Refused` refuses with its text (at most 1,024 bytes of it). However else a handler ends, its asker is refused at
    once and the log says why: any other exception (`CancelledError` too, where something that it awaited was
    cancelled), a value that is no bytes, a response over the sidecar's bound. Others are served on. A handler whose
    asker has gone is cancelled, also when the connection to the sidecar is lost.
    """

    def __init__(
        self, link: Link, protocols: Sequence[str], handler: Handler, concurrency: int, serve: Callable[[Any], Any]
    ) -> None:
        self._link = link
        self._requests = _Requests(link, protocols, serve)
        self._handler = handler
        self._room = asyncio.Semaphore(concurrency)
        self._handlers: set[asyncio.Task[None]] = set()  # of all calls; bounded by what the sidecar lets be unanswered
        self._waiting = 0  # bytes of the requests that wait for room
        self._sizes: dict[asyncio.Task[None], int] = {}  # of each of them
        self._drained = asyncio.Event()
        self.rejected = 0
        """Answers so far that could not be taken, such as those over the bound on payloads; the log says why."""
        self._task: asyncio.Task[None] | None = None

    def __await__(self) -> Generator[Any, None, None]:
        return self._serve().__await__()

    async def __aenter__(self) -> Self:
        await self._requests.__aenter__()
        self._task = asyncio.create_task(self._serve(), name="sidecar serving")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        task, self._task = self._task, None
        if task is not None:
            failed = task.done()
            task.cancel()
            await asyncio.wait((task,))
            if failed and error is None:
                task.result()  # what ended the serving while the block ran

    async def aclose(self) -> None:
        """Stop serving, as leaving its block does."""
        await self.__aexit__(None, None, None)

    async def _serve(self) -> None:
        try:
            while True:
                response = await self._requests.next()
                answers = self._requests.answers
                assert answers is not None, "a call that gives requests has been opened"
                for token in response.withdrawn:
                    answers.withdraw(token)
                for rejected in response.rejected:
                    self.rejected += 1
                    _log.error("%s: an answer was not taken: %s", self._requests.name, rejected.reason)
                for message in response.requests:
                    self._begin(message, answers)
                while self._waiting > _WAITING_BYTES:
                    self._drained.clear()
                    await self._drained.wait()
        finally:
            self._requests.close()
            if self._handlers:
                await asyncio.wait(self._handlers)

    def _begin(self, message: direct_pb2.IncomingRequest, answers: _Answers) -> None:
        task = asyncio.create_task(self._answer(message, answers), name="sidecar request")
        self._handlers.add(task)
        answers.handlers[message.id] = task
        self._sizes[task] = len(message.data)
        self._waiting += len(message.data)
        timer = None
        if message.HasField("time_left"):  # the sidecar says so too, but is not heard while too many bytes wait
            loop = asyncio.get_running_loop()
            timer = loop.call_later(_convert.seconds(message.time_left), answers.withdraw, message.id)

        def ended(task: "asyncio.Task[None]") -> None:
            self._handlers.discard(task)
            self._started(task)  # where it was withdrawn before
            answers.handlers.pop(message.id, None)
            if timer is not None:
                timer.cancel()

        task.add_done_callback(ended)

    async def _answer(self, message: direct_pb2.IncomingRequest, answers: _Answers) -> None:
        """Run the handler. Whatever comes of it, there is an answer, unless nobody waits for one."""
        answer = direct_pb2.Answer(id=message.id)
        try:
            async with self._room:
                self._started(asyncio.current_task())
                answer.data = self._response(await self._handler(_convert.request(message)))
        except Refused as refusal:
            answer.refusal = _reason(refusal)
        except BaseException as error:
            if message.id not in answers.handlers:
                raise  # it was withdrawn, and this task cancelled
            answer.refusal = "the app failed to answer"
            if isinstance(error, SystemExit | KeyboardInterrupt):
                raise  # the whole app is to end
            # CancelledError too: what the handler awaited has been cancelled, not this task.
            _log.exception("handler for %s failed", message.protocol)
        finally:
            if message.id in answers.handlers:
                answers.add(answer)

    def _response(self, data: object) -> bytes:
        """What a handler returned, as bytes. Raises TypeError, and Refused for what gRPC would not carry."""
        if not isinstance(data, bytes):
            if not isinstance(data, bytearray | memoryview):
                raise TypeError(f"the handler returned {type(data).__name__}, not bytes")
            data = bytes(data)
        largest = self._link.bounds.largest  # gRPC there would end the call of all others
        if len(data) > largest:
            self.rejected += 1
            what = f"response of {len(data)} bytes, at most {largest}"
            _log.error("%s: an answer was not taken: %s", self._requests.name, what)
            raise Refused(f"the app there gave an answer that cannot be taken: {what}")
        return data

    def _started(self, task: "asyncio.Task[None] | None") -> None:
        """Its request waits no longer, for room was found or nobody waits for the answer."""
        size = self._sizes.pop(task, 0) if task is not None else 0
        if size:
            self._waiting -= size
            self._drained.set()


def _reason(refusal: Refused) -> str:
    """The text of a refusal, as the sidecar takes it: whatever the app put in there."""
    try:
        text = str(refusal)
    except Exception:  # noqa: BLE001 - the app's own class; the refusal counts all the same
        text = ""
    return text.encode(errors="replace")[:_MAX_REASON].decode(errors="ignore") or "the app refused"
