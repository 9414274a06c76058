"""Turns `Dial` effects into connections: which addresses, in which order, how many at a time, and when not."""

import asyncio
import errno
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Collection
from time import monotonic
from typing import Protocol

from ..core.errors import (
    Closed,
    DialBackoff,
    DialTimeout,
    HandshakeError,
    InvalidArgument,
    NotSupported,
    PeerBanned,
    QueueFull,
    ResourceExhausted,
    SelfDial,
    SidecarError,
    SimultaneousOpen,
    Unreachable,
    WrongPeer,
)
from ..core.events import Dial, Resolve
from ..core.gate import Gate
from ..core.multiaddr import Multiaddr
from ..core.networks import Scope
from ..core.types import PeerId
from .concurrent_dial import Attempt, ConcurrentDial
from .config import NetConfig
from .dial_history import DialHistory
from .resolve import Resolver, Target

log = logging.getLogger(__name__)

_OWN_BOUNDS = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.EADDRNOTAVAIL)
_NO_ROUTE = (errno.ENETUNREACH, errno.EAFNOSUPPORT)


class Abortable(Protocol):
    """A connection, as far as a dial that is given up needs one."""

    def abort(self, error: SidecarError | None = None) -> None:
        """End it at once, for the error where there is one."""


class Dialer:
    """Runs dials, a bounded number at a time; each ends in a connection or in `on_failed`."""

    def __init__(
        self,
        config: NetConfig,
        own: PeerId,
        *,
        history: DialHistory,
        gate: Gate,
        connect: Callable[[Attempt], Awaitable[Abortable]],
        is_own_endpoint: Callable[[str, int], bool],
        on_failed: Callable[[int, SidecarError, tuple[Multiaddr, ...]], None],
        on_resolved: Callable[[int, tuple[Multiaddr, ...] | SidecarError], None],
    ) -> None:
        """Begin with nothing to dial.

        `own`: this node, which is not dialled.
        `history`: what is known of addresses; it learns from every attempt.
        `gate`: whom not to dial.
        `connect`: opens an attempt's socket; the attempt is told how its handshake ends. Raises OSError.
        `is_own_endpoint`: whether this node listens at an IP address and port.
        `on_failed`: a dial's number, why it came to nothing, and at which addresses that was seen.
        `on_resolved`: a lookup's number, and what is behind the name, or why nothing is.
        """
        self._config = config
        self._own = own
        self._gate = gate
        self._connect = connect
        self._is_own_endpoint = is_own_endpoint
        self._on_failed = on_failed
        self._on_resolved = on_resolved
        self._history = history
        self.held_off = 0
        """Attempts that were not made, for others had failed at the same endpoint."""
        self._strangers: dict[tuple[str, int, str], asyncio.Future[None]] = {}  # endpoints tried for one right now
        self._resolver = Resolver(config.resolve_timeout, config.dns_servers)
        self._queue: deque[Dial] = deque()
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._lookups: dict[int, asyncio.Task[None]] = {}
        self._closed = False

    @property
    def in_flight(self) -> int:
        """Dials that have begun and not ended."""
        return len(self._tasks)

    @property
    def queued(self) -> int:
        """Dials that wait for one of these to end."""
        return len(self._queue)

    def dial(self, request: Dial) -> None:
        """Begin a dial, or queue it behind those in flight."""
        if self._closed:
            self._on_failed(request.dial, Closed("the node is shutting down"), ())
        elif len(self._tasks) < self._config.max_dials:
            self._start(request)
        elif len(self._queue) < self._config.max_queued_dials:
            self._queue.append(request)
        else:
            self._on_failed(request.dial, QueueFull(f"{len(self._queue)} dials are waiting, no more are taken"), ())

    async def close(self) -> None:
        """Give up all dials, each with its DialFailed."""
        self._closed = True
        queue, self._queue = self._queue, deque()
        for request in queue:
            self._on_failed(request.dial, Closed("the node is shutting down"), ())
        tasks = [*self._tasks.values(), *self._lookups.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # ------------------------------------------------------------ names

    def resolve(self, request: Resolve) -> None:
        """Look up the name in an address; ends in `on_resolved`, unless the dialer is closed before."""
        if self._closed or request.lookup in self._lookups:
            return
        task = asyncio.get_running_loop().create_task(self._look_up(request), name=f"resolve-{request.lookup}")
        self._lookups[request.lookup] = task
        task.add_done_callback(lambda done: self._lookups.pop(request.lookup))

    async def _look_up(self, request: Resolve) -> None:
        result: tuple[Multiaddr, ...] | SidecarError
        try:
            targets = await self._resolver.resolve(request.address, None)
            result = tuple(dict.fromkeys(target.by_number(with_peer=True) for target in targets))
        except SidecarError as error:
            result = error
        except Exception as error:
            log.exception("lookup of %s: internal error", request.address)
            result = Unreachable(f"internal error: {type(error).__name__}")
        self._on_resolved(request.lookup, result)

    # ------------------------------------------------------------ one dial

    def _start(self, request: Dial) -> None:
        task = asyncio.get_running_loop().create_task(self._run(ConcurrentDial(request)), name=f"dial-{request.dial}")
        self._tasks[request.dial] = task
        task.add_done_callback(lambda done: self._finished(request.dial))

    def _finished(self, number: int) -> None:
        del self._tasks[number]
        while self._queue and len(self._tasks) < self._config.max_dials:
            self._start(self._queue.popleft())

    async def _run(self, dial: ConcurrentDial) -> None:
        limit, within = self._config.dial_timeout, dial.request.within
        if within is not None:
            limit = min(limit, within)
        try:
            async with asyncio.timeout(limit):
                await self._attempt_all(dial, await self._targets(dial))
        except TimeoutError:
            dial.failed(DialTimeout(f"not connected within {limit:g} s"))
        except asyncio.CancelledError:
            dial.give_up(Closed("the node is shutting down"))
            raise
        except Exception as error:
            log.exception("dial %d: internal error", dial.number)
            dial.give_up(Unreachable(f"internal error: {type(error).__name__}"))
        finally:
            dial.give_up()
            if not dial.won:
                log.debug("dial %d of %s failed: %s", dial.number, dial.request.peer, dial.error)
                self._on_failed(dial.number, dial.error, tuple(dial.in_vain))

    async def _targets(self, dial: ConcurrentDial) -> list[Target]:
        """The endpoints worth trying now, best first; why the others are not is told to the dial."""
        request, config = dial.request, self._config
        told = dict(request.told)
        usable: list[tuple[Multiaddr, PeerId | None]] = []
        for address in list(dict.fromkeys(request.addresses))[: config.max_addresses]:
            named = address.peer_id
            expected = named or request.peer
            if expected == self._own:
                dial.failed(SelfDial(f"{expected} is this node itself"))
            elif request.peer is not None and expected != request.peer:
                dial.failed(InvalidArgument(f"{address} is not an address of {request.peer}"))
            elif expected is not None and (refusal := self._gate.refuse_peer(expected)) is not None:
                dial.failed(refusal)
            elif address.dnsaddr is not None and (
                address.without_peer() in told or not (request.force or request.trusted or request.peer is None)
            ):
                # One answer may name a hundred addresses and further names: that is for those who choose the name.
                dial.failed(NotSupported(f"{address}: a /dnsaddr name that other peers told is not looked up"))
            else:
                usable.append((address, expected))
        if told:  # behind the others: of an endpoint that several lead to, the first one stands for all
            usable.sort(key=lambda pair: pair[0].without_peer() in told)
        targets, errors = await self._resolver.resolve_all(usable)
        for error in errors:
            dial.failed(error)
        now = monotonic()
        ready: list[Target] = []
        for target in targets:
            wait = 0.0 if request.force else self._history.wait(target, now, trusted=request.trusted)
            if self._is_own_endpoint(target.host, target.port):
                dial.failed(SelfDial(f"{target.address} is an address of this node itself"))
            elif (
                target.relay is None and (refusal := self._gate.refuse_address(target.host)) is not None
            ):  # also one that a name stood for
                dial.failed(refusal)
            elif target.scope < told.get(target.address, Scope.LOOPBACK):
                dial.failed(
                    InvalidArgument(f"{target.address}, which other peers told, leads to {target.host}: not followed")
                )
            elif wait > 0:
                dial.failed(self._back_off(target, wait))
            else:
                ready.append(target)
        return self._history.order(ready, request.known)[: 1 if request.apart else config.max_addresses]

    async def _attempt_all(self, dial: ConcurrentDial, targets: list[Target]) -> None:
        """Try one endpoint after the other, the next one when a moment has passed or one has failed (RFC 8305).

        Those behind relays when all others have failed, or later: a direct connection is worth a moment. They have a
        turn of their own then, for what hangs may hold all the others.
        """
        config, loop = self._config, asyncio.get_running_loop()
        punch = dial.request.punch is not None  # at the same moment as the other side: nothing waits for its turn
        parallel = config.max_addresses if punch else config.max_parallel_attempts
        delay = 0.0 if punch else config.attempt_delay
        direct = deque(target for target in targets if target.relay is None)
        relayed = deque(target for target in targets if target.relay is not None)
        next_direct = loop.time()
        next_relayed = next_direct + (config.relay_delay if direct else 0.0)
        running: set[asyncio.Task[None]] = set()
        behind: dict[asyncio.Task[None], PeerId | None] = {}  # of these the ones through relays, and through which
        try:
            while (direct or relayed or running) and not dial.over:
                now = loop.time()
                waits: list[float] = []
                if direct and len(running - behind.keys()) < parallel:
                    if next_direct <= now:
                        running.add(self._begin(dial, direct.popleft()))
                        next_direct = now + delay
                    waits.append(next_direct)
                through = _next_relayed(relayed, [behind[task] for task in running & behind.keys()])
                if through is not None and len(running & behind.keys()) < parallel:
                    if next_relayed <= now:
                        relayed.remove(through)
                        begun = self._begin(dial, through)
                        running.add(begun)
                        behind[begun] = _relay(through)
                        next_relayed = now + delay
                    waits.append(next_relayed)
                timeout = max(0.0, min(waits) - now) if waits and (direct or relayed) else None
                done, running = await asyncio.wait(running, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
                if done:  # one has failed: the next one at once
                    next_direct = loop.time()
                    if (not direct and not running - behind.keys()) or done & behind.keys():
                        next_relayed = next_direct
                for task in done:
                    task.result()  # attempts keep their errors to themselves: what comes out is a defect
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    def _begin(self, dial: ConcurrentDial, target: Target) -> asyncio.Task[None]:
        name = f"dial-{dial.number}-{target.host}:{target.port}"
        return asyncio.create_task(self._attempt(dial, target), name=name)

    def _back_off(self, target: Target, wait: float) -> DialBackoff:
        self.held_off += 1
        what, holder = f"{target.address} failed a moment ago", self._history.holder(target)
        if holder is not None and self._history.is_stranger(target):
            what = f"at {target.address} {holder} answers, not {target.expected}"
        return DialBackoff(f"{what}; tried again in {wait:.1f} s")

    async def _attempt(self, dial: ConcurrentDial, target: Target) -> None:
        """Try one endpoint; for peers not seen there yet one at a time, for each tells the others of it."""
        if dial.request.force or dial.request.trusted:
            await self._try(dial, target)
            return
        endpoint = target.host, target.port, target.endpoint.suffix
        while self._history.is_stranger(target) and (other := self._strangers.get(endpoint)) is not None:
            await asyncio.wait((other,))
        wait = self._history.wait(target, monotonic())
        if wait > 0:
            dial.failed(self._back_off(target, wait))
        elif not self._history.is_stranger(target):
            await self._try(dial, target)
        else:
            done = self._strangers[endpoint] = asyncio.get_running_loop().create_future()
            try:
                await self._try(dial, target)
            finally:
                del self._strangers[endpoint]
                done.set_result(None)

    async def _try(self, dial: ConcurrentDial, target: Target, *, other_port: bool = False) -> None:
        loop = asyncio.get_running_loop()
        attempt = Attempt(dial, target, loop, other_port=other_port)
        connection: Abortable | None = None
        error: SidecarError | None = Closed("another address answered first")
        # Behind a relay the way there may have to be dialled first: for this the whole dial has time.
        limit = self._config.attempt_timeout if target.relay is None else self._config.dial_timeout
        try:
            async with asyncio.timeout(limit):
                connection = await self._connect(attempt)
                error = await attempt.outcome
        except TimeoutError:
            error = DialTimeout(f"{target.address}: no answer within {limit:g} s")
        except SidecarError as failure:  # of the relay
            error = failure.with_traceback(None)
        except OSError as failure:
            what = f"{target.address}: {failure.strerror or failure}"
            own = failure.errno in _OWN_BOUNDS
            error = ResourceExhausted(what) if own else Unreachable(what, no_route=failure.errno in _NO_ROUTE)
        finally:
            if attempt.told:  # what was told outlives a time-out or cancellation in the same turn
                error = attempt.outcome.result()
            if error is None and dial.request.punch is None and not dial.request.apart:
                self._history.succeeded(target, monotonic(), attempt.answered)
            elif error is not None and connection is not None:
                connection.abort(error)
        if isinstance(error, SimultaneousOpen):
            if (
                not other_port and not dial.over
            ):  # two dials from ports listened at have met on their way: from another, they cannot
                log.debug("dial %d: %s: %s; once more, from another port", dial.number, target.address, error)
                await self._try(dial, target, other_port=True)
                return
            error = HandshakeError(f"the remote begins the handshake, though it was dialled: {error}")
        if error is not None:
            log.debug("dial %d: %s: %s", dial.number, target.address, error)
            # Where a hole was is no place to come back to.
            passing = dial.request.punch is not None or dial.request.apart
            said_nothing = isinstance(error, ResourceExhausted | PeerBanned) or dial.won or passing
            if not said_nothing:  # about the address
                dial.in_vain[target.address] = None
                self._history.failed(target, monotonic(), error.answered if isinstance(error, WrongPeer) else None)
            dial.failed(error)


def _next_relayed(waiting: Collection[Target], asked: Collection[PeerId | None]) -> Target | None:
    """What to try beside those under way: nothing through a relay that is being asked, for it would be asked twice."""
    return next((target for target in waiting if _relay(target) not in asked), None)


def _relay(target: Target) -> PeerId | None:
    return target.relay.peer_id if target.relay is not None else None
