"""The peers worth trying after a restart: read once at the start, written in batches."""

import asyncio
import logging
import time
from collections.abc import Callable

from ..core.errors import StorageError
from ..core.events import AddressesKnown, PeersLearned
from ..core.peers import KnownAddress, Origin
from ..core.types import KnownEndpoint, PeerId
from .directory import StateDirectory
from .disk_thread import DiskThread
from .peers import AddressRow, PeerRow, PeerStore

# Seconds that news is gathered before it is written, and what a crash loses at most. A batch costs some 0.3 ms.
_INTERVAL = 0.25
_MAX_PENDING = 4096  # peers gathered; as many as the node's address book has

_ORIGINS = {origin.value: origin for origin in Origin}

_log = logging.getLogger("sidecar.memory")


class PeerMemory:
    """Keeps learned peers on disk. A disk that refuses costs the memory, never the node: it is logged."""

    def __init__(
        self,
        state: StateDirectory,
        max_peers: int,
        disk: DiskThread,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Open the file and read it here and now: what is learned later is written by `disk`.

        `wall`: the wall clock in seconds, in which the store's ages are told; `monotonic`: that of the node.
        """
        self._disk = disk
        self._wall = wall
        self._monotonic = monotonic
        self._max_peers = max_peers
        self._pending: dict[PeerId, PeerRow] = {}
        self._failed: dict[PeerId, None] = {}
        self._endpoints: dict[tuple[str, int, str], KnownEndpoint] = {}
        self._addresses: dict[PeerId, list[AddressRow]] = {}
        self._anchors: tuple[PeerId, ...] = ()  # news
        self._timer: asyncio.TimerHandle | None = None
        self._writing: asyncio.Task[None] | None = None
        self._store = self._open(state)

    def _open(self, state: StateDirectory) -> PeerStore | None:
        if not self._max_peers:
            return None
        try:
            store = state.open_peers(max_peers=self._max_peers)
        except StorageError as error:
            _log.warning("no peers are remembered in this run: %s", error)
            return None
        if store.notice:
            _log.warning("%s", store.notice)
        return store

    def known(self) -> tuple[tuple[PeerId, tuple[KnownAddress, ...]], ...]:
        """The peers of earlier runs, the anchors of the last one first, then the most promising."""
        if self._store is None:
            return ()
        try:
            rows = self._store.load(self._max_peers, self._wall())
            anchors = dict.fromkeys(self._store.load_anchors())
            addresses = self._store.load_addresses()
        except StorageError as error:
            _log.warning("%s", error)
            return ()
        rows.sort(key=lambda row: row.peer not in anchors)
        return tuple((row.peer, self._restored(row, addresses.get(row.peer, []))) for row in rows)

    def _restored(self, row: PeerRow, kept: list[AddressRow]) -> tuple[KnownAddress, ...]:
        """A peer's addresses as the node knows them. What was in the future was a moment ago: clocks are set back."""
        now, wall = self._monotonic(), self._wall()

        def since_start(at: float | None) -> float | None:
            return None if at is None else now - max(0.0, wall - at)

        notes = {address: KnownAddress(address, Origin.MEMORY) for address in row.addresses}
        for address, origin, success, failure in kept:
            source = _ORIGINS.get(origin, Origin.MEMORY)
            notes[address] = KnownAddress(address, source, since_start(success), since_start(failure))
        return tuple(notes.values())

    def addresses_known(self, news: AddressesKnown) -> None:
        """Take note of how dials of a peer's addresses went; written as what is `learned`."""
        if self._store is None or (news.peer not in self._addresses and len(self._addresses) >= _MAX_PENDING):
            return
        ahead = self._wall() - self._monotonic()

        def by_the_clock(at: float | None) -> float | None:
            return None if at is None else at + ahead

        self._addresses[news.peer] = [
            AddressRow(note.address, note.origin.value, by_the_clock(note.succeeded_at), by_the_clock(note.failed_at))
            for note in news.known
        ]
        self._write_soon()

    def anchored(self, peers: tuple[PeerId, ...]) -> None:
        """Take note of the peers to come back to first; written as what is `learned`."""
        if self._store is not None:
            self._anchors = peers
            self._write_soon()

    def endpoints(self) -> list[KnownEndpoint]:
        """What earlier runs have learned of addresses, the most recent last."""
        if self._store is None:
            return []
        try:
            return self._store.load_endpoints()
        except StorageError as error:
            _log.warning("%s", error)
            return []

    def tried(self, endpoint: KnownEndpoint, failed: PeerId | None) -> None:
        """Take note of a dial of an address; written as what is `learned`. `failed`: who was not found there."""
        if self._store is None:
            return
        key = endpoint[:3]
        self._endpoints.pop(key, None)
        if len(self._endpoints) < _MAX_PENDING:
            self._endpoints[key] = endpoint  # the last is the most recent
        if failed is not None and len(self._failed) < _MAX_PENDING:
            self._failed[failed] = None
        self._write_soon()

    def learned(self, news: PeersLearned) -> None:
        """Take note; written a little later, together with what else comes until then."""
        if self._store is None:
            return
        now = self._wall()
        for peer, addresses in news.peers:
            before = self._pending.pop(peer, None)
            if before is not None and before.last_success is not None and not news.good:
                self._pending[peer] = before  # hearsay does not replace what has been seen to work
            elif len(self._pending) < _MAX_PENDING:
                self._pending[peer] = PeerRow(peer, addresses, now, now if news.good else None)
            if news.good:
                self._failed.pop(peer, None)
        self._write_soon()

    def _write_soon(self) -> None:
        if self._timer is None and self._writing is None:
            self._timer = asyncio.get_running_loop().call_later(_INTERVAL, self._begin_to_write)

    def _begin_to_write(self) -> None:
        self._timer = None
        self._writing = asyncio.get_running_loop().create_task(self._write_all(), name="memory of peers")

    async def _write_all(self) -> None:
        """What comes meanwhile is gathered, and is written next: a slow disk makes the batches larger."""
        await self.flush()
        self._writing = None
        if self._pending or self._failed or self._endpoints or self._addresses or self._anchors:
            self._write_soon()

    async def flush(self) -> None:
        """Write what has been gathered, in one statement of each kind."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        batch, self._pending = list(self._pending.values()), {}
        failed, self._failed = list(self._failed), {}
        endpoints, self._endpoints = list(self._endpoints.values()), {}
        anchors, self._anchors = self._anchors, ()
        addresses, self._addresses = self._addresses, {}
        store = self._store
        if store is None:
            return

        def write() -> None:
            store.save(batch)
            store.failed(failed)
            store.save_addresses(addresses)
            store.save_endpoints(endpoints)
            if anchors:
                store.save_anchors(anchors)

        try:
            await self._disk.run(write)
        except StorageError as error:
            _log.warning("%d peers and %d addresses are not remembered: %s", len(batch), len(endpoints), error)

    async def close(self) -> None:
        """Write what is left and let go of the file."""
        if self._writing is not None:
            await asyncio.wait((self._writing,))
        await self.flush()
        store, self._store = self._store, None
        if store is not None:
            try:
                await self._disk.run(store.close)
            except StorageError as error:
                _log.warning("%s", error)
