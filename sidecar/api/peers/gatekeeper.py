"""Bans and protected peers between the node, the disk, the wall clock and those who call."""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from ...core.beat import next_beat
from ...core.classes import NamedTuple
from ...core.errors import NotFound, StorageError
from ...core.events import BansLifted, BansMade, ProtectionChanged, WallClockRead
from ...core.gate import Ban, Gate, Subject
from ...core.types import PeerId
from ...store.disk_thread import DiskThread
from ..surface import Feed

_LOOK = 1.0  # seconds between two looks at the wall clock: how late a ban ends at most

_log = logging.getLogger("sidecar.api.gatekeeper")


class Store(Protocol):
    """Where bans outlast the process. Each call raises StorageError; they come from the disk's thread."""

    def add(self, bans: Sequence[Ban]) -> None:
        """Keep bans, each in place of one of the same subject."""

    def remove(self, subjects: Sequence[Subject]) -> None:
        """Keep these bans no more."""

    def protect(self, peer: PeerId, protected: bool) -> None:
        """Keep whether a peer is protected."""

    def forget(self, now_wall: float) -> None:
        """Drop the bans that have ended; `now_wall`: seconds since 1970."""


class Banned(NamedTuple):
    """What came of a ban: the bans, the connections closed, and sentences about what else there is to know."""

    bans: tuple[Ban, ...]
    closed: int
    warnings: tuple[str, ...]


class Gatekeeper:
    """Changes the node's gate and keeps what is to outlast a restart.

    A disk that refuses does not stop a ban: it is in force for this run, and whoever called is told so.
    """

    def __init__(
        self,
        gate: Gate,
        feed: Feed,
        store: Store | None = None,
        disk: DiskThread | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """`store`: None keeps nothing. `disk`: writes to it; None: whoever calls does.

        `wall`: seconds since 1970, which bans end by.
        """
        self.gate = gate
        self._feed = feed
        self._store = store
        self._disk = disk
        self._wall = wall
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to look at the wall clock: it may be set, and a machine may sleep, so that no timer would do."""
        self._look()

    def _wait(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_at(next_beat(loop.time(), _LOOK), self._look)

    def close(self) -> None:
        """Look at the wall clock no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self.refresh()
        self._wait()

    def refresh(self) -> None:
        """End the bans whose time is over."""
        wall = self._wall()
        if self.gate.is_due(wall):
            before = self.gate.size
            self._feed(WallClockRead(wall))
            if self.gate.size < before:
                _log.info("bans that have ended: %d", before - self.gate.size)
                self._keep_soon(lambda store: store.forget(wall))
        moved = self.gate.take_moved()
        if moved:
            _log.warning(
                "the clock was set back; bans that begin anew now, for as long as each was made for: %d", len(moved)
            )
            self._keep_soon(lambda store: store.add(moved))

    # ------------------------------------------------------------ what callers ask

    def bans(self, subjects: Sequence[Subject], reason: str, seconds: float | None) -> tuple[Ban, ...]:
        """The bans of some peers and networks that begin now."""
        self.refresh()
        now = self._wall()
        return tuple(Ban(subject, reason, now, None if seconds is None else now + seconds) for subject in subjects)

    async def banned(self, bans: tuple[Ban, ...], made: BansMade) -> Banned:
        """The node lives by new bans: keep them."""
        warnings = [f"{peer} is a bootstrap peer; this node cannot join the mesh through it" for peer in made.bootstrap]
        warnings += [f"{peer} is protected, which only keeps it from being trimmed" for peer in made.protected]
        warnings += await self._keep(lambda store: store.add(bans), "the ban is in force, but not after a restart")
        return Banned(bans, made.closed, tuple(warnings))

    def allow(self, subjects: Sequence[Subject]) -> None:
        """Lift bans; `allowed` keeps that. Raises NotFound, and lifts none, when one is not banned."""
        self.refresh()
        for subject in subjects:
            if self.gate.get(subject) is None:
                refusal = self.gate.still_refuses(subject)
                raise NotFound(f"{subject} has no ban of its own" + (f"; {refusal}" if refusal else ""))
        self._feed(BansLifted(tuple(subjects)))

    async def allowed(self, subjects: Sequence[Subject]) -> tuple[str, ...]:
        """Bans are lifted: keep that; what else there is to know."""
        warnings = await self._keep(lambda store: store.remove(subjects), "the ban is lifted, but back after a restart")
        still = (self.gate.still_refuses(subject) for subject in subjects)
        return (*warnings, *(f"still refused: {refusal}" for refusal in still if refusal is not None))

    def protect(self, peer: PeerId, protected: bool) -> None:
        """Protect a peer or protect it no more; `protected` keeps that. Raises ResourceExhausted."""
        self._feed(ProtectionChanged(peer, protected))

    async def protected(self, peer: PeerId, protected: bool) -> tuple[str, ...]:
        """A peer is protected, or is no more: keep that; what else there is to know."""
        lost = "the peer is protected, but not after a restart"
        if not protected:
            lost = "the peer is not protected, but is again after a restart"
        return await self._keep(lambda store: store.protect(peer, protected), lost)

    async def _keep(self, write: Callable[[Store], None], lost: str) -> tuple[str, ...]:
        store = self._store
        if store is None:
            return ()
        if self._disk is None:
            return _written(store, write, lost)
        return await self._disk.run(lambda: _written(store, write, lost))

    def _keep_soon(self, write: Callable[[Store], None]) -> None:
        store = self._store
        if store is not None:

            def job() -> None:
                _written(store, write, "")

            if self._disk is None or not self._disk.post(job):
                job()


def _written(store: Store, write: Callable[[Store], None], lost: str) -> tuple[str, ...]:
    """What the caller has to know where the disk refuses. `lost`: what that means; empty: it is only logged."""
    try:
        write(store)
    except StorageError as error:
        _log.error("%s%s", f"{lost}: " if lost else "", error)
        return (f"{lost}: {error}",) if lost else ()
    return ()
