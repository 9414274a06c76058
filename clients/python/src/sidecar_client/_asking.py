"""Requests that are fast: they travel together, over a call that stays open.

The first request goes by the unary method, which is the shortest way for a single one. All that are made meanwhile or
later go over a call to RequestMany, which the requests of the client share; what is asked while a frame is being
written goes in the next one. Where calls are not to be kept, it ends when nobody waits, and a request that is alone
goes by the unary method. So it does where the sidecar has no such call, or has just ended it.
"""

import asyncio
import contextlib
from collections import deque
from typing import TYPE_CHECKING, Any

from . import _checks, _raw, _rpc
from ._link import Link
from ._room import MOST, Room, cost_of
from .bulk import varint
from .codes import Code
from .errors import Closed, DeadlineExceeded, NotSupported, SidecarError, from_status
from .v1 import direct_pb2

if TYPE_CHECKING:
    from .v1 import direct_pb2_grpc

_MANY = "RequestMany"
_MAX_OPEN = 1000  # requests; the sidecar reads on only below 1,024, and must hear what is withdrawn
_GONE = 64  # whose callers have given up are kept in the queue, or as many as the others
_MAX_TIMEOUT = 86_400.0  # seconds; the sidecar takes no more, and we do not wait longer than asked for anyway


class _NotAskedError(Exception):
    """The call ended before the sidecar can have seen the request: it is made again, alone."""


class _Question:
    __slots__ = ("data", "future", "number", "protocol", "target", "timeout", "traceparent")

    def __init__(self, number: int, target: bytes, data: bytes, timeout: float | None, traceparent: str) -> None:
        self.number = number
        self.target = target  # peer and protocol, encoded
        self.data = data
        self.timeout = timeout
        self.traceparent = _checks.text(traceparent, "traceparent")
        self.future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def encoded(self) -> bytes:
        """As a field of a RequestManyRequest."""
        inner = b"\x08" + varint(self.number) + b"\x12" + varint(len(self.data)) + self.data
        if self.timeout is not None:
            inner += b"\x1a" + _length_and(_duration(min(self.timeout, _MAX_TIMEOUT)))
        if self.traceparent:
            inner += b"\x22" + _length_and(self.traceparent)
        return b"\x1a" + _length_and(inner)


def _length_and(encoded: bytes) -> bytes:
    return varint(len(encoded)) + encoded


def _duration(seconds: float) -> bytes:
    whole, nanoseconds = divmod(int(seconds * 1e9), 1_000_000_000)
    return b"\x08" + varint(whole) + b"\x10" + varint(nanoseconds)


def _late(timeout: float | None) -> DeadlineExceeded:
    return DeadlineExceeded(f"no answer within {timeout:g} s", code=Code.DEADLINE_EXCEEDED)


class Asking:
    """All requests of a client."""

    def __init__(self, link: Link, stub: "direct_pb2_grpc.DirectServiceAsyncStub", many: Any) -> None:
        self._link = link
        self._one: Any = stub.Request
        self._many = many
        self._alone = False  # whether one goes by the unary method
        self._followed = False  # whether one has, so that the next opens the call
        self._next = 0
        self._queue: deque[_Question] = deque()  # not written
        self._gone = 0  # of the queue, or a few more: those given up since they were last swept out
        self._room = Room()
        self._waiting: dict[int, _Question] = {}  # written and not answered
        self._framed: list[int] = []  # those in the last frame
        self._withdrawn: list[int] = []
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def ask(
        self, peer_id: str, protocol: str, data: bytes, timeout: float | None, traceparent: str = ""
    ) -> bytes:
        """Make one request. Raises SidecarError."""
        self._link.check_open()
        _checks.seconds(timeout, "timeout")
        cost = cost_of(data)
        if self._room.waiting or self._room.used + cost > MOST:
            try:
                timeout = await self._room.enter(cost, timeout)
            except TimeoutError:
                raise _late(timeout) from None
        else:
            self._room.used += cost
        try:
            return await self._ask(peer_id, protocol, data, timeout, traceparent)
        finally:
            self._room.leave(cost)

    async def _ask(self, peer_id: str, protocol: str, data: bytes, timeout: float | None, traceparent: str) -> bytes:
        # What names no peer would go to that of the request before; what is large may be refused, and all with it.
        apart = not peer_id or not protocol or len(data) > self._link.bounds.size
        if apart:
            return await self._ask_alone(peer_id, protocol, data, timeout, traceparent)
        if self._alone or self._task is not None or self._followed:
            return await self._ask_with_others(peer_id, protocol, data, timeout, traceparent)
        self._alone = True
        try:
            answer = await self._ask_alone(peer_id, protocol, data, timeout, traceparent)
        finally:
            self._alone = False
        self._followed = self._link.keeps and not self._link.lacks(_MANY)
        return answer

    async def _ask_alone(
        self, peer_id: str, protocol: str, data: bytes, timeout: float | None, traceparent: str
    ) -> bytes:
        request = _checks.request(
            direct_pb2.RequestRequest, peer_id=peer_id, protocol=protocol, data=data, traceparent=traceparent
        )
        response: direct_pb2.RequestResponse = await self._link.unary(self._one, request, timeout)
        return response.data

    async def close(self) -> None:
        """End everything under way; whoever waits gets Closed."""
        self._room.close(Closed("this client has been closed"))
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))

    def let_go(self) -> None:
        """The client is not used any more, and nobody has closed it: end the call that is kept open."""
        if self._task is not None:
            self._task.get_loop().call_soon_threadsafe(self._task.cancel)

    async def _ask_with_others(
        self, peer_id: str, protocol: str, data: bytes, timeout: float | None, traceparent: str
    ) -> bytes:
        target = _checks.request(direct_pb2.RequestManyRequest, peer_id=peer_id, protocol=protocol).SerializeToString()
        if type(data) is not bytes:
            data = bytes(memoryview(data))  # of what else holds bytes, as it is now
        question = _Question(self._next, target, data, timeout, traceparent)
        self._next += 1
        self._queue.append(question)
        self._changed.set()
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="sidecar requests")
        loop = asyncio.get_running_loop()
        begun = loop.time()
        try:
            async with asyncio.timeout(timeout):
                return await question.future
        except _NotAskedError:
            left = None if timeout is None else max(0.0, begun + timeout - loop.time())
            return await self._ask_alone(peer_id, protocol, data, left, traceparent)
        except TimeoutError:
            raise _late(timeout) from None
        finally:
            if question.future.cancelled():
                self._withdraw(question)

    def _withdraw(self, question: _Question) -> None:
        if self._waiting.pop(question.number, None) is not None:
            self._withdrawn.append(question.number)
        else:
            self._gone += 1
            if (
                self._gone > _GONE and self._gone > len(self._queue) // 2
            ):  # where the sidecar hangs, they must not pile up
                self._gone = 0
                self._queue = deque(other for other in self._queue if not other.future.done())
        self._changed.set()

    async def _run(self) -> None:
        """One call, for as long as anybody waits, or until it ends where it is kept open."""
        self._followed = False
        call = self._many()
        reader = asyncio.create_task(self._read(call), name="sidecar results")
        failure: SidecarError = Closed("this client has been closed")
        try:
            with contextlib.suppress(*_raw.ended()):
                if self._link.frames is None:
                    await self._link.learn(call)
                await self._write(call, reader)
            if not reader.done() and not self._waiting:
                return  # all is answered
            await asyncio.wait((reader,))
            failure = reader.result()
        finally:
            self._task = None
            call.cancel()
            reader.cancel()
            again = not self._link.closed
            absent = isinstance(failure, NotSupported)
            if absent:
                self._link.lacking(_MANY)
            reached = not absent and getattr(failure, "reached", True)
            for question in self._waiting.values():
                if not question.future.done():
                    question.future.set_exception(failure.again() if reached or not again else _NotAskedError())
            for question in self._queue:
                if not question.future.done():
                    question.future.set_exception(_NotAskedError() if again else failure.again())
            self._waiting.clear()
            self._queue.clear()
            self._withdrawn.clear()

    async def _write(self, call: Any, reader: "asyncio.Task[SidecarError]") -> None:
        first = True
        keeps = self._link.keeps
        reader.add_done_callback(lambda _: self._changed.set())
        while (keeps or self._queue or self._waiting or self._withdrawn) and not reader.done():
            self._changed.clear()
            frame = self._frame()
            if frame:
                try:
                    await _raw.write(call, frame, first=first)
                except _raw.UnwrittenError:
                    self._queue.extendleft(
                        self._waiting.pop(number) for number in reversed(self._framed) if number in self._waiting
                    )
                    raise
                first = False
            elif keeps or self._queue or self._waiting:
                await self._changed.wait()

    def _frame(self) -> bytes:
        """What waits, as far as it fits a frame and is for one peer and protocol."""
        parts: list[bytes] = []
        size = 0
        target = b""
        most, messages, _ = self._link.bounds
        self._framed = []
        while (
            self._queue and len(self._waiting) < _MAX_OPEN and (not parts or (size < most and len(parts) <= messages))
        ):
            question = self._queue[0]
            if question.future.done():
                self._queue.popleft()  # given up before it was written
                continue
            if parts and (question.target != target or size + len(question.data) > most):
                break
            if not parts:
                target = question.target
                parts.append(target)
            self._waiting[self._queue.popleft().number] = question
            self._framed.append(question.number)
            parts.append(question.encoded())
            size += len(parts[-1])
        if self._withdrawn:
            withdrawn, self._withdrawn = self._withdrawn, []
            parts.append(_checks.request(direct_pb2.RequestManyRequest, withdrawn=withdrawn).SerializeToString())
        return b"".join(parts)

    async def _read(self, call: Any) -> SidecarError:
        """Hand out results until the call ends; why it did."""
        try:
            while response := await call.read():
                full = len(self._waiting) >= _MAX_OPEN
                for result in response.results:
                    question = self._waiting.pop(result.id, None)
                    if question is None or question.future.done():
                        continue
                    if result.HasField("status"):
                        question.future.set_exception(from_status(result.status))
                    else:
                        question.future.set_result(result.data)
                if full or not self._waiting:
                    self._changed.set()
        except _rpc.failures() as error:
            return self._link.error(error)
        except asyncio.CancelledError:
            self._link.check_ours()
            raise
        return Closed("the sidecar ended the call of the requests")
