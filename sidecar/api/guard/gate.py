"""At the door of the API: who calls, before a request is read, and whether they may, before it is looked at."""

import asyncio
import functools
import logging
import math
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

from ...core.errors import SidecarError, StorageError
from ...process.audit import Audit
from ..common.call import Call, Handler, Metadata
from ..common.faults import PermissionDenied, QuotaExceeded, Unauthenticated
from ..statistics import GuardStatistics
from .caller import EVERYONE, Caller, Holder, introduce, present
from .methods import METHODS, Needs, messages_in, subscriptions_in
from .tokens import Token, TokenFile, split

_LOOK = 1.0  # seconds between two looks at the file while calls of tokens are open; a guess
_SCHEME = "bearer "
_REMEDY = "an app needs one of `sidecar token create`, in SIDECAR_TOKEN or SIDECAR_TOKEN_FILE"
_log = logging.getLogger(__name__)


def _boot_clock() -> float:
    """Seconds that nobody sets, and that go on while the machine sleeps where the system can tell."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


class TokenGate:
    """Tells callers apart by their tokens, and refuses what these do not allow.

    The file of tokens is looked at when a call has a token, at most so often, and every second while such a call is
    open, so that a token that is revoked or expires ends its streams as well.
    """

    def __init__(
        self,
        file: TokenFile | None,
        *,
        required: bool,
        fresh: float = 0.0,
        wall: Callable[[], float] = time.time,
        boot: Callable[[], float] = _boot_clock,
        audit: Audit | None = None,
    ) -> None:
        """Raises StorageError where the file is no use.

        `file`: of tokens; None: there are none.
        `required`: whether calls without a token are refused.
        `fresh`: seconds for which the file is taken to be as it was when it was looked at last.
        `wall`: seconds since 1970.
        `boot`: seconds of a clock that nobody sets.
        `audit`: is told which tokens come and go.
        """
        self._file = file
        self._audit = audit or Audit(None)
        self._required = required
        self._fresh = fresh
        self._looked = -math.inf  # monotonic seconds
        self._wall = wall
        self._boot = boot
        self._refused = {Unauthenticated: 0, PermissionDenied: 0, QuotaExceeded: 0}
        self._slowed = 0
        self._version = file.version() if file is not None else None
        self._met_tokens = self._version is not None  # kept when the file goes: what was revoked must not be welcome
        self._holders: dict[str, Holder] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._adopt(file.read() if file is not None else {})
        if required and not self._holders:
            _log.warning("api.require_token is set and there is no token, so no app can call: %s", _REMEDY)

    def close(self) -> None:
        """Look at the file no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def statistics(self) -> GuardStatistics:
        """Calls that were refused, and messages of streams that had to wait, since the start; tokens now."""
        return GuardStatistics(
            tokens=len(self._holders),
            refused_unauthenticated=self._refused[Unauthenticated],
            refused_permission=self._refused[PermissionDenied],
            refused_quota=self._refused[QuotaExceeded],
            slowed_by_quota=self._slowed,
        )

    # ------------------------------------------------------------ who calls

    def admit(self, metadata: Metadata) -> None:
        """Look who makes the call that this task is to answer, by what came with it, before its first message is read.

        Raises Unauthenticated, QuotaExceeded.
        """
        try:
            caller = self.identify(metadata)
            if isinstance(caller, Holder):
                caller.meter.call(time.monotonic())
        except SidecarError as error:
            self._refused[type(error)] += 1
            raise
        introduce(caller)

    def identify(self, metadata: Metadata) -> Caller:
        """Who came with this metadata. Raises Unauthenticated."""
        given = None
        for key, value in metadata:
            if key == "authorization":
                given = value
                break
        if given is None:
            if self._required:
                raise Unauthenticated(f"the call has no token: {_REMEDY}")
            return EVERYONE
        self._look_at_times()
        if not self._required and not self._met_tokens:
            return EVERYONE  # an app that has a token for elsewhere; nothing here can be confined by one
        text = given.decode(errors="replace") if isinstance(given, bytes) else given
        parts = split(text[len(_SCHEME) :]) if text[: len(_SCHEME)].lower() == _SCHEME else None
        if parts is None:
            raise Unauthenticated("the call's authorization is no `Bearer` token of a sidecar")
        if parts[0] not in self._holders:
            self._look()  # it may have been made a moment ago
        holder = self._holders.get(parts[0])
        if holder is None or not holder.token.proved_by(parts[1]):
            raise Unauthenticated("the token is not valid here: never given out, revoked, or of another sidecar")
        if holder.token.expires is not None and holder.expired(self._wall(), self._boot()):
            raise Unauthenticated(f"the token {holder.name} has expired")
        return holder

    # ------------------------------------------------------------ whether they may

    def guarded(self, method: str, handler: Handler, *, streaming: bool = False) -> Handler:
        """Wrap a service's method. `method`: as in the table of methods. `streaming`: whether either side streams."""
        needs = METHODS.get(method)
        count = messages_in(method)

        @functools.wraps(handler)
        async def guarded(request: Any, call: Call) -> Any:
            caller = present()
            if not isinstance(caller, Holder):
                return await handler(request, call)
            if needs is None:
                raise PermissionDenied(f"{method} takes no token's scope", method)
            meter = caller.meter
            self._watch()
            try:
                if isinstance(request, AsyncIterator):
                    request = self._read(request, caller, needs, count)
                else:
                    for scope in needs(request):
                        caller.require(scope)
                    if meter.measured:
                        meter.spend(count(request), request.ByteSize(), time.monotonic())
                with caller.calling(), meter.holding("open_calls", 1):
                    if not streaming:
                        return await handler(request, call)
                    topics = subscriptions_in(method, request)
                    with meter.holding("streams", 1), meter.holding("subscriptions", topics):
                        return await handler(request, call)
            except (PermissionDenied, QuotaExceeded) as error:
                self._note(error)
                raise

        return guarded

    async def _read(
        self,
        requests: AsyncIterator[Any],
        caller: Holder,
        needs: Needs,
        count: Callable[[Any], int],
    ) -> AsyncIterator[Any]:
        """A call's messages, each once it is allowed, and no faster than the quota."""
        meter = caller.meter
        async for request in requests:
            for scope in needs(request):
                caller.require(scope)
            if meter.measured:
                wait = meter.reserve(count(request), request.ByteSize(), time.monotonic())
                if wait:
                    self._slowed += 1
                    await asyncio.sleep(wait)
            yield request

    def _note(self, error: SidecarError) -> None:
        self._refused[type(error)] += 1
        _log.warning("refused a call: %s", error)

    # ------------------------------------------------------------ the file

    def _look_at_times(self) -> None:
        """Look at the file unless that was done just now.

        A system call lets go of the interpreter's lock, which gRPC's threads take, and so costs a call 30 microseconds
        where it takes two.
        """
        now = time.monotonic()
        if now - self._looked >= self._fresh:
            self._looked = now
            self._look()

    def _look(self) -> None:
        """Read the file again if it has changed. While it is no use nobody has a token: it may hold a revocation."""
        if self._file is None:
            return
        try:
            version = self._file.version()
            if version == self._version:
                return
            self._version = version
            self._met_tokens = True
            tokens = self._file.read()
        except StorageError as error:
            _log.error("%s; no token is valid until then", error)
            tokens = {}
        added = [token.name for key, token in tokens.items() if key not in self._holders]
        removed = [holder.name for key, holder in self._holders.items() if key not in tokens]
        self._adopt(tokens)
        if added or removed:
            self._audit.record("tokens.loaded", "node", added=added, removed=removed)

    def _adopt(self, tokens: dict[str, Token]) -> None:
        before = self._holders
        self._holders = {
            key: before[key] if key in before and before[key].token == token else self._holder(token)
            for key, token in tokens.items()
        }
        for key, holder in before.items():
            if self._holders.get(key) is not holder:
                holder.end(f"the token {holder.name} was revoked")

    def _holder(self, token: Token) -> Holder:
        deadline = None if token.expires is None else self._boot() + token.expires - self._wall()
        return Holder(token, time.monotonic(), deadline)

    def _watch(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_LOOK, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self.look()
        if any(holder.busy for holder in self._holders.values()):
            self._watch()

    def look(self) -> None:
        """End the calls of tokens that were revoked or have expired."""
        self._look()
        wall, boot = self._wall(), self._boot()
        for holder in self._holders.values():
            if holder.expired(wall, boot):
                holder.end(f"the token {holder.name} has expired")
