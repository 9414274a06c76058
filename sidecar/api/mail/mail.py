"""The two boxes as the node and the services use them."""

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, assert_never

from ...core import durable
from ...core.durable import Acknowledgement, IncomingSettled, Item, OutgoingChanged, ProtocolReceived, Trouble
from ...core.errors import AlreadyExists, QueueFull, SidecarError
from ...core.parameters import DurableConfig
from ...core.parameters.durable import ROW_OVERHEAD
from ...core.types import PeerId
from ...store.durable import Append, Appended, Delivered, DurableStore, Keeper, Settlement, Settles
from ...store.durable.inbox import Waiting
from ...store.durable.store import Changes, Sizes
from ..common.wakeup import Wakeup
from ..statistics import MailStatistics
from ..surface import Feed
from .reading import Reader

_log = logging.getLogger("sidecar.api.durable")
DISK_AGAIN = 1.0  # seconds until a disk that refused is tried again


class Mail:
    """Carries out what the node asks of the store, and tells node and apps what has changed there."""

    def __init__(self, path: Path, config: DurableConfig, feed: Feed, *, volatile: str = "") -> None:
        """`path`: the file, made when it is first needed. `volatile`: why it will not outlast much, see `volume`."""
        self.config = config
        self.volatile = volatile
        """Why what is kept will not outlast much, a sentence; empty where it does."""
        self._used = False  # in this run or one before
        self._feed = feed
        self._keeper = Keeper(path, config, self._on_changes, self._on_trouble, on_slow=self._on_trouble)
        self._told: list[Callable[[str, str], None]] = []
        self._readers: dict[str, Reader] = {}  # by protocol
        self._watchers: dict[Wakeup, None] = {}

    async def start(self) -> None:
        """Go on with what is there from runs before. Raises StorageError where the file cannot be used."""
        if not self._keeper.path.exists():
            if self.volatile:
                _log.info("durable messages would not last: %s", self.volatile)
            return
        self._use()

        def look(store: DurableStore) -> tuple[list[durable.Outgoing], list[PeerId]]:
            store.expire()
            return store.outbox.open_states(), store.inbox.unconfirmed_peers()

        streams, peers = await self._keeper.run(look)
        self._feed(OutgoingChanged(streams))
        for peer in peers:
            self._feed(IncomingSettled(peer, ()))
        sizes = self._keeper.sizes
        if sizes.outbox_messages or sizes.inbox_messages:
            _log.info("durable messages: %d wait for peers, %d for apps", sizes.outbox_messages, sizes.inbox_messages)

    async def close(self) -> None:
        """Finish what was asked of the store."""
        await self._keeper.close()

    @property
    def sizes(self) -> Sizes:
        """What is kept."""
        return self._keeper.sizes

    def tell(self, told: Callable[[str, str], None]) -> None:
        """Call this when something is wrong with the disk, with one word and a sentence; with "" when nothing is."""
        self._told.append(told)

    def _on_trouble(self, trouble: str) -> None:
        keeper = self._keeper
        if keeper.trouble:
            found = ("Damaged" if keeper.damaged else "DiskRefuses"), keeper.trouble
        elif keeper.slow:
            found = "DiskSlow", keeper.slow
        elif self.volatile and self._used:
            found = "VolatileVolume", self.volatile
        else:
            found = "", ""
        for told in self._told:
            told(*found)

    def _use(self) -> None:
        """Durable messages are wanted: now it matters what they are written to."""
        if not self._used:
            self._used = True
            if self.volatile:
                _log.warning("durable messages do not last: %s; name another place with --state", self.volatile)
                self._on_trouble("")

    def statistics(self) -> MailStatistics:
        """What is kept, and whether the disk lets us."""
        keeper = self._keeper
        return MailStatistics(
            *keeper.sizes,
            disk_refuses=int(bool(keeper.trouble)),
            disk_slow=int(bool(keeper.slow)),
            volatile=int(bool(self.volatile)),
        )

    async def run(self, job: Callable[[DurableStore], Any]) -> Any:
        """Ask the store for something. Raises what the job does, StorageError."""
        return await self._keeper.run(job)

    # ------------------------------------------------------------ sending

    async def send(self, append: Append) -> Appended:
        """Store messages; returns once they are on the disk. Raises QueueFull, StorageError."""
        self._use()
        size = sum(map(len, append.messages)) + ROW_OVERHEAD * len(append.messages)
        return await self._keeper.run(lambda store: store.outbox.append(append), size)

    @contextmanager
    def watching(self) -> Iterator[Wakeup]:
        """While somebody waits for outcomes: set when there are new ones."""
        wakeup = Wakeup()
        self._watchers[wakeup] = None
        try:
            yield wakeup
        finally:
            del self._watchers[wakeup]

    # ------------------------------------------------------------ receiving

    def protocols(self) -> tuple[str, ...]:
        """Those that some app receives as durable."""
        return tuple(self._readers)

    def add(self, reader: Reader) -> None:
        """An app receives. Raises AlreadyExists when another one receives one of the protocols."""
        for protocol in reader.protocols:
            if protocol in self._readers:
                raise AlreadyExists(f"the durable messages of {protocol!r} are received by another stream already")
        for protocol in reader.protocols:
            self._readers[protocol] = reader

    async def begin(self, reader: Reader) -> None:
        """Let it have what waits already. Raises StorageError."""
        self._use()

        def look(store: DurableStore) -> list[Waiting]:
            found: list[Waiting] = []
            for protocol in reader.protocols:
                store.inbox.receive(protocol)
                found += store.inbox.waiting(protocol)
            return sorted(found)

        reader.begin(await self._keeper.run(look))
        for protocol in reader.protocols:
            self._feed(ProtocolReceived(protocol))

    def remove(self, reader: Reader) -> None:
        """It receives no longer."""
        for protocol in reader.protocols:
            del self._readers[protocol]

    async def deliver(self, reader: Reader, chosen: Sequence[Waiting]) -> list[Delivered]:
        """Make an attempt of each. Raises StorageError."""
        ids = [waiting.id for waiting in chosen]
        try:
            delivered = await self._keeper.run(lambda store: store.inbox.deliver(ids, reader.max_deliveries))
        except SidecarError:
            reader.put_back(chosen)
            raise
        reader.delivered(chosen, delivered)
        return delivered

    async def settle(self, settlements: Sequence[Settlement], check: Callable[[str], None] | None) -> list[int]:
        """Settle deliveries; the numbers of those that are stale. Raises StorageError.

        `check`, if there is one, is asked first about each protocol among them, and raises where the caller may not.
        """
        if check is not None:
            ids = [each.id for each in settlements]
            for protocol in await self._keeper.run(lambda store: store.inbox.protocols_of(ids)):
                check(protocol)
        readers = dict.fromkeys(self._readers.values())
        stale: list[int] = []
        final: list[Settlement] = []
        for each in settlements:
            if each.settles is not Settles.DELAY:
                final.append(each)
                continue
            reader = next((reader for reader in readers if reader.has(each.id, each.attempt)), None)
            if reader is None:
                stale.append(each.id)
            else:
                reader.delay(each.id, each.delay)
        if final:
            late = await self._keeper.run(lambda store: store.inbox.settle(final))
            stale += late
            gone = set(late)
            for each in final:
                if each.id not in gone:
                    for reader in readers:
                        reader.settled(each.id)
        return stale

    # ------------------------------------------------------------ what the store says

    def _on_changes(self, changes: Changes) -> None:
        if changes.outgoing:
            self._feed(OutgoingChanged(changes.outgoing))
        for protocol, waiting in changes.arrived.items():
            reader = self._readers.get(protocol)
            if reader is not None:
                reader.arrived(waiting)
        for peer, acknowledgement in changes.settled:
            self._feed(IncomingSettled(peer, (acknowledgement,)))
        for peer, protocol in changes.conflicts:
            _log.warning(
                "[%s] durable messages by %s differ from those under the same numbers here: its sidecar was restored "
                "from a copy, or two have its key",
                peer.short(),
                protocol,
            )
        if changes.outcomes:
            for watcher in self._watchers:
                watcher.set()

    # ------------------------------------------------------------ what the node asks

    def carry_out(self, effect: durable.StoreEffect) -> None:
        """Do what the node wants of the store."""
        match effect:
            case durable.LoadOutgoing():
                self._load(effect)
            case durable.SettleOutgoing(peer, protocol, incarnation, held, settled):
                self._ask(lambda store: store.outbox.settle(peer, protocol, incarnation, held, settled))
            case durable.RenewOutgoing(peer, protocol, incarnation):
                _log.warning(
                    "[%s] it has other messages by %s under the numbers that are given out here: this sidecar "
                    "was restored from a copy, or two have its key. What is open is sent under new numbers, and may "
                    "arrive twice",
                    peer.short(),
                    protocol,
                )
                self._ask(lambda store: store.outbox.renew(peer, protocol, incarnation))
            case durable.StoreIncoming():
                self._store(effect)
            case durable.LoadUnconfirmed(peer):
                self._load_unconfirmed(peer)
            case _:
                assert_never(effect)

    def _ask(self, job: Callable[[DurableStore], None]) -> None:
        """Have something done that nobody says again: until the disk takes it."""

        def answer(result: None, error: SidecarError | None) -> None:
            if error is not None:
                asyncio.get_running_loop().call_later(DISK_AGAIN, self._ask, job)

        try:
            self._keeper.ask(job, answer)
        except SidecarError as error:  # the end
            _log.debug("not asked: %s", error)

    def _load(self, effect: durable.LoadOutgoing) -> None:
        peer, protocol, incarnation, after, size, most = effect
        loaded = partial(durable.OutgoingLoaded, peer, protocol, incarnation)

        def answer(result: tuple[int, list[Item]] | None, error: SidecarError | None) -> None:
            first, items = result if result is not None else (0, [])
            self._feed(loaded(first, items, failed=error is not None))

        try:
            self._keeper.ask(lambda store: store.outbox.load(peer, protocol, incarnation, after, size, most), answer)
        except SidecarError as error:
            answer(None, error)

    def _store(self, effect: durable.StoreIncoming) -> None:
        peer, size, batch = effect

        def store(store: DurableStore) -> tuple[Acknowledgement, bool]:
            return store.inbox.store(peer, batch), store.inbox.confirmed(peer)

        def answer(result: tuple[Acknowledgement, bool] | None, error: SidecarError | None) -> None:
            if result is None:
                busy = "it is stopping, or its disk refuses" if not isinstance(error, QueueFull) else str(error)
                told = Acknowledgement(batch.protocol, batch.incarnation, 0, trouble=Trouble.BUSY, reason=busy)
                self._feed(durable.IncomingStored(peer, size, told, confirmed=False))
            else:
                self._feed(durable.IncomingStored(peer, size, *result))

        try:
            self._keeper.ask(store, answer, size)
        except SidecarError as error:
            answer(None, error)

    def _load_unconfirmed(self, peer: PeerId) -> None:
        def answer(result: list[Acknowledgement] | None, error: SidecarError | None) -> None:
            if result is not None:
                self._feed(durable.UnconfirmedLoaded(peer, result))

        try:
            self._keeper.ask(lambda store: store.inbox.unconfirmed(peer), answer)
        except SidecarError as error:
            answer(None, error)
