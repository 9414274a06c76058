"""`sidecar.v1.DurableService`."""

import functools
from collections.abc import Callable
from typing import Any

from ...core.errors import NotSupported, Outdated
from ...core.types import PeerId
from ...store.durable import DurableStore, OutcomeRow
from ..common import values
from ..common.call import OPEN, Call
from ..common.outlet import MAX_BATCH, Outlet
from ..common.wakeup import Wakeup
from ..guard import caller
from ..mail import Mail
from ..service import ApiService, ServiceContext
from . import convert

_PAGE, _MAX_PAGE = 100, 1000
_DATA = 1 << 20  # bytes of payloads in a page
_EVENTS = 1000  # in one response


class DurableService(ApiService):
    """What becomes of durable messages; every method as its schema says."""

    def __init__(self, context: ServiceContext, mail: Mail | None) -> None:
        """`mail`: None where this sidecar keeps nothing."""
        self._context = context
        self._mail = mail

    async def settle(self, request: convert.SettleRequest, call: Call) -> object:
        """Settle deliveries; those that are stale."""
        values.between(len(request.settlements), 1, MAX_BATCH, "settlements")
        settlements = convert.settlements(request)
        check = _may_settle if caller.present().name else None  # who has no token may do all
        return convert.settled(await self._kept().settle(settlements, check))

    async def watch_outbox(self, request: convert.WatchOutboxRequest, call: Call) -> None:
        """Outcomes of what was sent, from a cursor on."""
        peer, protocol = _chosen(request)
        mail = self._kept()
        oldest, newest = await mail.run(lambda store: store.outbox.cursors())
        cursor = request.cursor if request.HasField("cursor") else newest
        if 0 < cursor < oldest or cursor > newest:
            raise Outdated(f"cursor {cursor} is not from {oldest} to {newest}: outcomes before are not kept")
        with mail.watching() as wakeup, self._context.lifetime.stream(watcher := _Watcher(wakeup)):
            await call.begin(OPEN)
            await call.write(convert.begins(cursor))
            while True:
                rows = await mail.run(functools.partial(_outcomes, cursor, peer, protocol))
                if rows:
                    cursor = rows[-1].cursor
                    await call.write(convert.events(rows))
                else:
                    watcher.check()
                    await wakeup.wait()

    async def list_outbox(self, request: convert.ListOutboxRequest, call: Call) -> object:
        """A page of what waits for peers."""
        peer, protocol = _chosen(request)
        most = values.bounded(request.page_size, _MAX_PAGE, "page_size") or _PAGE
        after = _read_token(request.page_token, 2)
        rows, then = await self._kept().run(lambda store: store.outbox.rows(peer, protocol, (after[0], after[1]), most))
        sizes = self._kept().sizes
        token = "" if then is None else ".".join(map(str, then))
        return convert.outbox(rows, token, sizes.outbox_messages, sizes.outbox_bytes)

    async def withdraw_outbox(self, request: convert.WithdrawOutboxRequest, call: Call) -> object:
        """Withdraw what no peer is known to have; how many."""
        _, protocol = _chosen(request)
        peer = self._context.other_peer(request.peer_id)
        count = await self._kept().run(lambda store: store.outbox.withdraw(peer, protocol))
        self._context.changed("outbox.withdrawn", peer=str(peer), protocol=protocol or "", messages=count)
        return convert.withdrawn(count)

    async def list_inbox(self, request: convert.ListInboxRequest, call: Call) -> object:
        """A page of what waits for apps, or of dead letters."""
        peer, protocol = _chosen(request)
        most = values.bounded(request.page_size, _MAX_PAGE, "page_size") or _PAGE
        (after,) = _read_token(request.page_token, 1)
        size = _DATA if request.with_data else 0
        rows, then = await self._kept().run(
            lambda store: store.inbox.rows(request.dead_letters, peer, protocol, after, most, size)
        )
        sizes = self._kept().sizes
        token = "" if then is None else str(then)
        return convert.inbox(rows, token, sizes.inbox_messages, sizes.inbox_bytes, sizes.dead_letters)

    async def retry_dead_letters(self, request: convert.RetryDeadLettersRequest, call: Call) -> object:
        """Deliver dead letters again; how many."""
        count = await self._dead_letters(request, lambda store, *which: store.inbox.retry(*which))
        self._context.changed("dead_letters.retried", protocol=request.protocol, messages=count)
        return convert.retried(count)

    async def purge_dead_letters(self, request: convert.PurgeDeadLettersRequest, call: Call) -> object:
        """Delete dead letters; how many."""
        count = await self._dead_letters(request, lambda store, *which: store.inbox.purge(*which))
        self._context.changed("dead_letters.purged", protocol=request.protocol, messages=count)
        return convert.purged(count)

    # ------------------------------------------------------------

    async def _dead_letters(self, request: Any, change: Callable[..., int]) -> int:
        protocol = values.remark(request.protocol, values.MAX_PROTOCOL, "protocol") or None
        ids = list(request.ids[: values.bounded(len(request.ids), MAX_BATCH, "ids")])

        def job(store: DurableStore) -> int:
            return change(store, ids, protocol)

        count: int = await self._kept().run(job)
        return count

    def _kept(self) -> Mail:
        """Raises NotSupported where nothing is kept."""
        if self._mail is None:
            raise NotSupported("this sidecar keeps no messages")
        return self._mail


class _Watcher(Outlet):
    """What ends a WatchOutbox call when the sidecar stops."""

    def __init__(self, wakeup: Wakeup) -> None:
        super().__init__()
        self.ready = wakeup


def _outcomes(after: int, peer: PeerId | None, protocol: str | None, store: DurableStore) -> list[OutcomeRow]:
    return store.outbox.outcomes(after, peer, protocol, _EVENTS)


def _may_settle(protocol: str) -> None:
    """Raises PermissionDenied."""
    caller.require(f"receive:{protocol}")


def _chosen(request: Any) -> tuple[PeerId | None, str | None]:
    """Of which peer and by which protocol. Raises InvalidField."""
    protocol = values.remark(request.protocol, values.MAX_PROTOCOL, "protocol") or None
    return (values.peer_id(request.peer_id) if request.peer_id else None), protocol


def _read_token(token: str, parts: int) -> tuple[int, ...]:
    """Where a page begins. Raises InvalidField."""
    if not token:
        return (0,) * parts
    found = token.split(".")
    if len(found) != parts or not all(part.isascii() and part.isdigit() and len(part) < 19 for part in found):
        raise values.invalid("page_token", "not one that a page before has given")
    return tuple(map(int, found))
