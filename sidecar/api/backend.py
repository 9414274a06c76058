"""Between the node and the services: operations and their answers, and the node's news to whom it concerns."""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Protocol

from ..config.describe import Setting
from ..core import direct, gossip
from ..core.errors import Closed, ResourceExhausted, SidecarError
from ..core.events import (
    AdvertisementAnnounced,
    AdvertisersFound,
    Condition,
    OperationCancelled,
    OperationCompleted,
    PeerChanged,
    ReadinessChanged,
)
from ..core.histogram import Histogram
from ..process.audit import Audit
from ..process.logs import Log
from ..process.spans import NoTracer, Tracer
from .common.calls import Calls
from .common.follow import Follower
from .common.status import reason
from .common.watch import PeerWatcher, Watcher
from .config import ApiConfig
from .direct.inbox import Inbox, Receiver
from .direct.serving import Desk, Server
from .guard import caller
from .peers.gatekeeper import Gatekeeper, Store
from .pubsub.topics import Topics
from .streams.byte_streams import Acceptor, Streams
from .surface import NodeSurface

Done = Callable[[Any], None]
_ANSWERED = "ANSWERED"  # of a direct request


class Endable(Protocol):
    """A stream toward an app."""

    def end(self, error: SidecarError) -> None:
        """Deliver what is queued, then end with the error."""


class Backend:
    """The node as the services see it. Everything happens on the event loop's thread.

    Args:
        node: answers questions.
        feed: takes inputs of the node and carries out what they bring (`Runtime.feed`).
        config: the API's bounds.
        agent: what the node calls itself.
        driver_statistics: counters of the node's driver, to be shown beside the node's.
        driver_histograms: likewise.
        audit: where changes of the node are written down; None: in the log only.
        log: whose records can be watched and whose levels changed.
        tracer: of the requests that apps make and are given.
        bans: where bans outlast the process; None: nowhere.
        settings: the configuration in force.

    The driver hands every effect that is not the transport's to `on_effect`.
    """

    def __init__(
        self,
        node: NodeSurface,
        feed: Callable[[Any], None],
        config: ApiConfig,
        *,
        agent: str,
        driver_statistics: Callable[[], Mapping[str, int | float]] = dict,
        driver_histograms: Callable[[], Mapping[str, Histogram]] = dict,
        audit: Audit | None = None,
        log: Log | None = None,
        bans: Store | None = None,
        tracer: Tracer | None = None,
        settings: Callable[[], Sequence[Setting]] = list,
    ) -> None:
        self.node = node
        self.config = config
        self.agent = agent
        self.feed = feed
        self.audit = audit or Audit(None)
        self.log = log or Log()
        self.guard_statistics: Callable[[], Mapping[str, int | float]] = dict
        """Of who calls; the server's, once there is one."""
        self.gatekeeper = Gatekeeper(node.gate, feed, bans)
        self.settings = settings
        self._driver_statistics = driver_statistics
        self._driver_histograms = driver_histograms
        self.topics = Topics(config, feed)
        self.inbox = Inbox(feed)
        self.tracer = tracer or NoTracer()
        self.desk = Desk(feed, self._check_drained, self.tracer)
        self.streams = Streams(feed, self.start, config)
        self.calls = Calls(config.max_calls)
        self.receipts: Counter[direct.SendOutcome] = Counter(dict.fromkeys(direct.SendOutcome, 0))
        self.answers: Counter[str] = Counter({_ANSWERED: 0})  # or the reason why there was none
        self.started = self.now()
        self.epoch_ns = time.time_ns() - int(self.started * 1e9)
        self._unserved: Condition | None = None
        self.readiness_told: Callable[[], None] = lambda: None
        """Called where `conditions` change without the node."""
        self._draining = False
        self._drained = asyncio.Event()
        self._closing = False
        self._operations: dict[int, Done] = {}
        self._followers: dict[int, Follower] = {}
        self._streams: dict[Endable, None] = {}
        self._peer_watchers: dict[PeerWatcher, None] = {}
        self._readiness_watchers: dict[Watcher, None] = {}
        self._log_watchers: dict[Watcher, None] = {}
        self._dispatch: dict[type, Callable[[Any], None]] = {
            OperationCompleted: self._completed,
            gossip.PublishCompleted: self._completed,
            gossip.MessagesDelivered: self.topics.delivered,
            direct.SendCompleted: self._sent,
            direct.RequestCompleted: self._answered,
            direct.MessagesReceived: self.inbox.deliver,
            direct.RequestArrived: self.desk.arrived,
            direct.RequestWithdrawn: self._request_withdrawn,
            AdvertisementAnnounced: self._tell_follower,
            AdvertisersFound: self._tell_follower,
            PeerChanged: self._peer_changed,
            ReadinessChanged: self._readiness_changed,
            **self.streams.handlers(),
        }

    def on_effect(self, effect: object) -> bool:
        """Take news from the node. False for effects that are nothing to the API."""
        handler = self._dispatch.get(type(effect))
        if handler is None:
            return False
        handler(effect)
        return True

    def now(self) -> float:
        """The node's clock, which is the socket driver's."""
        return time.monotonic()

    def changed(self, action: str, **fields: Any) -> None:
        """Write down in the audit log what the call that this task answers has changed; see `Audit.record`."""
        self.audit.record(action, caller.who(), **fields)

    def statistics(self) -> dict[str, int | float]:
        """Counters and sizes of the node, its driver and the API, by name."""
        return {
            **self.node.statistics(),
            **self._driver_statistics(),
            **self.topics.statistics(),
            **self.inbox.statistics(),
            **self.streams.statistics(),
            **self.audit.statistics(),
            **self.guard_statistics(),
            "api_servers": len(self.desk.servers()),
            "api_streams": len(self._streams),
            "api_operations": len(self._operations),
            **{f"direct_receipts_{name.name.lower()}": count for name, count in self.receipts.items()},
            **{f"direct_answers_{name.lower()}": count for name, count in self.answers.items()},
        }

    def histograms(self) -> dict[str, Histogram]:
        """What the node and its driver count by size, by name."""
        return {**self.node.histograms(), **self._driver_histograms()}

    # ------------------------------------------------------------ operations

    def start(self, make: Callable[[int], object], done: Done) -> int:
        """Feed the input that `make` builds around a fresh operation number; `done` gets the effect that answers it.

        `done` may be called before this returns. Raises what the node says of misuse, and Closed when it stops.
        """
        self.check_open()
        op = self.node.new_op()
        self._operations[op] = done
        try:
            self.feed(make(op))
        except BaseException:
            self._taken_off(op)
            raise
        return op

    async def operation(
        self, make: Callable[[int], object], cancel: Callable[[int], object] | None = OperationCancelled
    ) -> Any:
        """Run an operation to its end and return the effect that answers it; when cancelled, cancel it too."""
        op, answer = self._begin(make)
        try:
            return await answer
        except asyncio.CancelledError:
            if cancel is None:
                self._taken_off(op)
            else:
                self.cancel(op, cancel)
            raise

    async def partial_operation(self, make: Callable[[int], object], cancel: Callable[[int], object]) -> Any:
        """As `operation`; but when cancelled, return what the cancelled one is answered with, if that comes at once."""
        op, answer = self._begin(make)
        try:
            return await asyncio.shield(answer)
        except asyncio.CancelledError:
            if op in self._operations:
                self.feed(cancel(op))
                self._taken_off(op)
            if answer.done():
                return answer.result()
            raise

    def _begin(self, make: Callable[[int], object]) -> tuple[int, asyncio.Future[Any]]:
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def done(effect: object) -> None:
            if not answer.done():
                answer.set_result(effect)

        return self.start(make, done), answer

    def cancel(self, op: int, cancel: Callable[[int], object]) -> None:
        """Nobody waits for an operation any more: tell the node, unless it has ended."""
        if self._taken_off(op) is not None:
            self.feed(cancel(op))

    async def ask(self, make: Callable[[int], object]) -> Any:
        """The result of an operation of the node itself; raises the error that it ends with."""
        completed: OperationCompleted = await self.operation(make)
        if isinstance(completed.result, SidecarError):
            raise completed.result
        return completed.result

    @contextmanager
    def following(self, make: Callable[[int], object], follower: Follower) -> Iterator[None]:
        """Run an operation that tells something before it ends; cancelled where it has not ended. Raises Closed."""
        with self.stream(follower):
            op = self.node.new_op()
            self._followers[op] = follower
            self._operations[op] = lambda completed: follower.complete(completed.result)
            try:
                self.feed(make(op))
                yield
            finally:
                del self._followers[op]
                if self._taken_off(op) is not None:
                    self.feed(OperationCancelled(op))

    # ------------------------------------------------------------ streams

    def refusing(self) -> bool:
        """Whether the sidecar drains: it takes nothing new on."""
        return self._draining

    def check_accepting(self) -> None:
        """Raises Closed once the sidecar drains."""
        if self._draining:
            raise _closed()

    def check_open(self) -> None:
        """Raises Closed once the sidecar stops."""
        if self._closing:
            raise _closed()

    @contextmanager
    def stream(self, stream: Endable) -> Iterator[None]:
        """While a stream is open, it is ended when the sidecar stops. Raises Closed."""
        self.check_open()
        self._streams[stream] = None
        try:
            yield
        finally:
            del self._streams[stream]

    @contextmanager
    def receiving(self, receiver: Receiver) -> Iterator[None]:
        """While an app receives. Raises ResourceExhausted."""
        _check_room(len(self.inbox.receivers()), self.config.max_receivers, "receive streams")
        with self.stream(receiver):
            self.inbox.add(receiver)
            try:
                self._tell_protocols()
                yield
            finally:
                self.inbox.remove(receiver)
                self._tell_protocols()

    @contextmanager
    def serving(self, server: Server) -> Iterator[None]:
        """While an app serves. Raises AlreadyExists, ResourceExhausted."""
        _check_room(len(self.desk.servers()), self.config.max_receivers, "serve streams")
        with self.stream(server):
            self.desk.add(server)
            try:
                self._tell_protocols()
                yield
            finally:
                self.desk.remove(server)
                self._tell_protocols()

    @contextmanager
    def accepting(self, acceptor: Acceptor) -> Iterator[None]:
        """While an app accepts byte streams. Raises AlreadyExists, ResourceExhausted, InvalidArgument."""
        _check_room(len(self.streams.acceptors()), self.config.max_receivers, "calls that accept streams")
        with self.stream(acceptor), self.streams.accepting(acceptor):
            yield

    @contextmanager
    def watching_peers(self) -> Iterator[PeerWatcher]:
        """Raises ResourceExhausted."""
        _check_room(len(self._peer_watchers), self.config.max_watchers, "watchers of peers")
        watcher = PeerWatcher(self.config.watch_queue_events)
        with self.stream(watcher):
            self._peer_watchers[watcher] = None
            try:
                yield watcher
            finally:
                del self._peer_watchers[watcher]

    @contextmanager
    def watching_log(self) -> Iterator[Watcher]:
        """Raises ResourceExhausted."""
        _check_room(len(self._log_watchers), self.config.max_watchers, "watchers of the log")
        watcher = Watcher()
        loop = asyncio.get_running_loop()

        def told() -> None:  # on any thread
            with suppress(RuntimeError):  # the loop has been closed, and with it all watching
                loop.call_soon_threadsafe(watcher.ready.set)

        with self.stream(watcher):
            self._log_watchers[watcher] = None
            self.log.journal.watch(told)
            try:
                yield watcher
            finally:
                self.log.journal.unwatch(told)
                del self._log_watchers[watcher]

    def conditions(self) -> tuple[Condition, ...]:
        """What readiness is made of: the node's conditions, and while the API is not served as configured, that."""
        conditions = tuple(self.node.conditions())
        return conditions if self._unserved is None else (*conditions, self._unserved)

    def served(self, trouble: str = "", remedy: str = "") -> None:
        """The API is served as configured, or it is not: a sentence, and what to do."""
        before = self._unserved
        if trouble:
            since = self.now() if before is None else before.since
            self._unserved = Condition("Serving", False, "SocketGone", trouble, remedy, since)
        else:
            self._unserved = None
        if before != self._unserved:
            self._readiness_changed(ReadinessChanged())
            self.readiness_told()

    @contextmanager
    def watching_readiness(self) -> Iterator[Watcher]:
        """Raises ResourceExhausted."""
        _check_room(len(self._readiness_watchers), self.config.max_watchers, "watchers of readiness")
        watcher = Watcher()
        with self.stream(watcher):
            self._readiness_watchers[watcher] = None
            try:
                yield watcher
            finally:
                del self._readiness_watchers[watcher]

    async def drain(self, timeout: float) -> None:
        """Take nothing new on, and give what is under way up to `timeout` seconds to end.

        That is: the operations of apps, so that their receipts and results go out, and the requests of peers that apps
        here have been given. Byte streams and the advertising of names, which have no end of their own, are not waited
        for.
        """
        self._draining = self.desk.draining = True
        self._check_drained()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._drained.wait(), timeout)

    def _check_drained(self) -> None:
        if not self.desk.open and all(op in self._followers for op in self._operations):
            self._drained.set()

    def _taken_off(self, op: int) -> Done | None:
        done = self._operations.pop(op, None)
        if self._draining:
            self._check_drained()
        return done

    def close(self) -> None:
        """The sidecar stops: every stream delivers what it holds, then ends with Closed; nothing new is taken on."""
        if not self._closing:
            self._closing = True
            for stream in list(self._streams):
                stream.end(_closed())
            self.topics.close()

    # ------------------------------------------------------------ the node's news

    def _completed(self, effect: Any) -> None:
        done = self._taken_off(effect.op)
        if done is not None:
            done(effect)

    def _sent(self, effect: direct.SendCompleted) -> None:
        for part in effect.outcomes:
            self.receipts[part.outcome] += part.count
        self._completed(effect)

    def _answered(self, effect: direct.RequestCompleted) -> None:
        answer = effect.answer
        self.answers[_ANSWERED if isinstance(answer, bytes) else reason(answer)] += 1
        self._completed(effect)

    def _tell_follower(self, news: Any) -> None:
        follower = self._followers.get(news.op)
        if follower is not None:
            follower.push(news)

    def _request_withdrawn(self, effect: direct.RequestWithdrawn) -> None:
        self.desk.withdrawn(effect.token)

    def _peer_changed(self, effect: PeerChanged) -> None:
        for watcher in self._peer_watchers:
            watcher.push(effect)

    def _readiness_changed(self, effect: ReadinessChanged) -> None:
        for watcher in self._readiness_watchers:
            watcher.ready.set()

    def _tell_protocols(self) -> None:
        self.feed(direct.ProtocolsChanged(self.inbox.protocols(), self.desk.protocols()))


def _closed() -> Closed:
    """A fresh one for each stream: an exception raised in many places would gather their tracebacks."""
    return Closed("the sidecar is stopping")


def _check_room(present: int, limit: int, what: str) -> None:
    if present >= limit:
        raise ResourceExhausted(f"{present} {what} are open, at most {limit}")
