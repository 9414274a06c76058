"""Durable messages of an app: stored before they are answered for, delivered until they are settled."""

import asyncio
import contextlib
from collections.abc import Sequence

from ...core.direct import SendOutcome
from ...core.errors import InvalidArgument, NotSupported, QueueFull, StorageError
from ...core.types import PeerId
from ...store.durable import Append
from ..common import values
from ..common.call import OPEN, Call
from ..common.vacated import vacated
from ..guard import caller
from ..mail import DISK_AGAIN, Mail, Reader
from ..service import ServiceContext
from . import convert
from .convert import Sent, StoredPlace

_SETTLE, _MOST_SETTLE = 30.0, 86_400.0  # seconds
_OPEN, _MOST_OPEN = 256, 65_536  # deliveries
_MOST_DELIVERIES = 100_000


class DurableMessages:
    """What DirectService does with `durable`."""

    def __init__(self, context: ServiceContext, mail: Mail | None) -> None:
        """`mail`: None where this sidecar keeps nothing."""
        self._context = context
        self._mail = mail

    async def keep(
        self, peer: PeerId, protocol: str, messages: Sequence[bytes], ids: Sequence[str], how: convert.Durable
    ) -> list[Sent]:
        """Store messages; every message's outcome, its place with the sequence as its offset."""
        if self._mail is None:
            return [Sent(SendOutcome.NOT_STORED, "this sidecar keeps no messages")] * len(messages)
        most = self._mail.config.max_time_to_live
        time_to_live = self._mail.config.time_to_live
        if how.HasField("time_to_live"):
            time_to_live = values.seconds(how.time_to_live, most, "durable.time_to_live")
        append = Append(peer, protocol, caller.present().name, messages, ids, time_to_live)
        try:
            appended = await self._mail.send(append)
        except QueueFull as error:
            return [Sent(SendOutcome.OUTBOX_FULL, str(error))] * len(messages)
        except StorageError as error:
            return [Sent(SendOutcome.NOT_STORED, str(error))] * len(messages)
        detail = f"it does not last: {self._mail.volatile}" if self._mail.volatile else ""
        sent = [
            Sent(SendOutcome.STORED, detail, StoredPlace(appended.incarnation, number)) for number in appended.sequences
        ]
        if appended.error is not None:
            outcome = SendOutcome.OUTBOX_FULL
            if isinstance(appended.error, InvalidArgument):
                outcome = SendOutcome.TOO_LARGE
            sent += [Sent(outcome, str(appended.error))] * (len(messages) - len(sent))
        return sent

    async def receive(self, protocols: tuple[str, ...], how: convert.DurableReceive, call: Call) -> None:
        """Deliver messages to an app until it goes. Raises AlreadyExists, NotSupported, StorageError."""
        mail = self._mail
        if mail is None:
            raise NotSupported("this sidecar keeps no messages")
        timeout = _SETTLE
        if how.HasField("settle_timeout"):
            timeout = values.seconds(how.settle_timeout, _MOST_SETTLE, "durable.settle_timeout")
            values.between(timeout, 1.0, _MOST_SETTLE, "durable.settle_timeout")
        reader = Reader(
            protocols,
            settle_timeout=timeout,
            max_deliveries=values.bounded(how.max_deliveries, _MOST_DELIVERIES, "durable.max_deliveries")
            or mail.config.max_deliveries,
            max_open=values.bounded(how.max_open, _MOST_OPEN, "durable.max_open") or _OPEN,
            now=self._context.now,
        )
        await vacated(protocols, mail.protocols)
        with self._context.lifetime.stream(reader):
            mail.add(reader)
            try:
                await mail.begin(reader)
                await call.begin(OPEN)
                await self._deliver(mail, reader, call)
            finally:
                mail.remove(reader)

    async def _deliver(self, mail: Mail, reader: Reader, call: Call) -> None:
        while True:
            reader.check()
            chosen = reader.choose()
            if not chosen:
                # Not `wait_for`, which before Python 3.12 loses a cancellation that comes with what it waits for: the
                # stream of an app that settles and goes would be held until its deliveries are due again.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(reader.due()):
                        await reader.ready.wait()
                continue
            try:
                delivered = await mail.deliver(reader, chosen)
            except StorageError:
                await asyncio.sleep(DISK_AGAIN)
                continue
            if delivered:
                await call.write(convert.deliveries(delivered))
