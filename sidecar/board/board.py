"""Follows one sidecar through its API, over its restarts, and keeps the newest snapshot."""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from sidecar_client import Client, Lagged, NodeEvent, NotSupported, Peer, PeerEvent, PeerEventType, SidecarError

from .sample import Gone, Sample
from .snapshot import Snapshot, snapshot

_RATE_WINDOW = 5.0  # seconds over which rates are smoothed
_RECENT = 60.0  # seconds that the recent part of histograms covers
_POINTS = 120  # of the lines that tiles draw
_EVENTS = 300
_GONE_FOR = 60.0  # seconds that a peer is shown after it is gone
_GONE = 100
_TIMEOUT = 5.0  # seconds after which a call without an answer is trouble
_PAUSE = 1.0  # seconds between tries while the sidecar is not there
_PEERS_A_SECOND = 200  # latencies are asked for so many peers a second, but at most every second sample


class Board:
    """The newest snapshot of a sidecar, and why there is no newer one.

    `connect` makes a client that does not reconnect by itself; `period`: seconds between samples.
    """

    def __init__(self, connect: Callable[[], Client], period: float = 1.0) -> None:
        self._connect = connect
        self._period = period
        self._peers: dict[str, Peer] = {}
        self._gone: dict[str, Gone] = {}
        self._events: dict[int, NodeEvent] = {}
        self._event_number = 0
        self._samples: deque[Sample] = deque()
        self._lines: dict[str, deque[float | None]] = {}
        self._times: deque[float] = deque(maxlen=_POINTS)
        self._changed = asyncio.Event()
        self.version = 0
        """Goes up with each snapshot."""
        self.snapshot: Snapshot | None = None
        """None until the first answers have come."""

    async def run(self) -> None:
        """Follow the sidecar until cancelled. Raises what the first connection fails with."""
        while True:
            try:
                async with self._connect() as client:
                    await self._follow(client)
            except (SidecarError, TimeoutError) as error:
                if self.snapshot is None:
                    raise
                self._unreachable(error)
            await asyncio.sleep(_PAUSE)

    async def newer(self, version: int, patience: float | None = None) -> int:
        """Wait for a snapshot newer than this version, at most so many seconds; returns the version there is."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience):
                while self.version <= version:
                    await self._changed.wait()
        return self.version

    # ------------------------------------------------------------ the sidecar's answers

    async def _follow(self, client: Client) -> None:
        """Until the connection is lost. Raises SidecarError."""
        self._peers.clear()
        parts = (self._watch_peers(client), self._watch_events(client), self._poll(client))
        tasks = [asyncio.create_task(part) for part in parts]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _poll(self, client: Client) -> None:
        next_latencies = 0.0
        while True:
            begun = time.monotonic()
            node = await client.info(timeout=_TIMEOUT)
            readiness = await client.readiness(timeout=_TIMEOUT)
            statistics = await client.statistics(timeout=_TIMEOUT)
            topics = await client.topics(timeout=_TIMEOUT)
            if begun >= next_latencies:
                async with asyncio.timeout(_TIMEOUT):
                    await self._latencies(client.peers(connected_only=True))
                next_latencies = begun + max(2 * self._period, len(self._peers) / _PEERS_A_SECOND)
            now = time.monotonic()
            self._gone = {name: gone for name, gone in self._gone.items() if now < gone.at + _GONE_FOR}
            self._take(
                Sample(
                    at=now,
                    node=node,
                    readiness=readiness,
                    values=statistics,
                    histograms=statistics.histograms,
                    peers=list(self._peers.values()),
                    gone=list(self._gone.values()),
                    topics=topics,
                    events=dict(self._events),
                )
            )
            await asyncio.sleep(max(0.0, begun + self._period - time.monotonic()))

    async def _latencies(self, peers: AsyncIterator[Peer]) -> None:
        """Of peers only the latency changes without an event; who is connected, events say."""
        async for peer in peers:
            known = self._peers.get(peer.peer_id)
            if known is not None and known.latency != peer.latency:
                self._peers[peer.peer_id] = replace(known, latency=peer.latency)

    async def _watch_peers(self, client: Client) -> None:
        async with aclosing(client.watch_peers()) as events:
            async for event in events:
                self._peer_event(event)

    def _peer_event(self, event: PeerEvent) -> None:
        peer = event.peer
        if peer is None:
            if event.type is not PeerEventType.CURRENT:
                self._peers.clear()
        elif event.type is PeerEventType.DISCONNECTED:
            known = self._peers.pop(peer.peer_id, peer)
            self._gone[peer.peer_id] = Gone(known, time.monotonic(), event.reason)
            while len(self._gone) > _GONE:
                del self._gone[next(iter(self._gone))]
            self._note("disconnected" + (f": {event.reason}" if event.reason else ""), peer)
        else:
            self._peers[peer.peer_id] = peer
            self._gone.pop(peer.peer_id, None)
            if event.type is PeerEventType.CONNECTED:
                self._note(f"connected, {peer.direction.name.lower()}", peer)

    async def _watch_events(self, client: Client) -> None:
        """Records of the log. A reconnection tells the newest ones again: those of before are forgotten."""
        self._events = {number: event for number, event in self._events.items() if event.part == "peers"}
        try:
            async with aclosing(client.watch_events()) as events:
                async for event in events:
                    if isinstance(event, Lagged):
                        event = NodeEvent(time.time(), "warning", "events", str(event), {})
                    self._remember(event)
        except NotSupported:
            pass  # an older sidecar

    def _note(self, text: str, peer: Peer) -> None:
        self._remember(NodeEvent(time.time(), "info", "peers", f"{peer.peer_id[-8:]} {text}", {"peer": peer.peer_id}))

    def _remember(self, event: NodeEvent) -> None:
        self._event_number += 1
        self._events[self._event_number] = event
        while len(self._events) > _EVENTS:
            del self._events[next(iter(self._events))]

    # ------------------------------------------------------------ what is shown

    def _take(self, sample: Sample) -> None:
        if self._samples and self._samples[-1].node.start_time != sample.node.start_time:
            self._samples.clear()
        # Only counters of older samples are needed.
        self._samples.append(replace(sample, peers=(), gone=(), events={}))
        while sample.at - self._samples[0].at > _RECENT:
            self._samples.popleft()
        older = [old for old in self._samples if old is not self._samples[-1]]
        before = next(
            (old for old in reversed(older) if sample.at - old.at >= _RATE_WINDOW), older[0] if older else None
        )
        shown = snapshot(sample, before, older[0] if older else None)
        totals = shown["totals"]
        for name, value in {**totals["rates"], "lost": totals["lost"], "peers": totals["peers"]}.items():
            self._lines.setdefault(name, deque(maxlen=_POINTS)).append(value)
        self._times.append(sample.at)
        shown["lines_span"] = sample.at - self._times[0]  # seconds
        shown["lines"] = {name: list(line) for name, line in self._lines.items()}
        shown["link"] = self._link(reachable=True)
        self._show(shown)

    def _unreachable(self, error: Exception) -> None:
        assert self.snapshot is not None
        trouble = str(error) or f"no answer within {_TIMEOUT:g} seconds"
        self._show({**self.snapshot, "link": self._link(reachable=False, trouble=trouble)})

    def _link(self, *, reachable: bool, trouble: str = "") -> dict[str, Any]:
        """How things are, and since when: `since` in Unix seconds, for people, `at` in monotonic ones."""
        link = self.snapshot["link"] if self.snapshot is not None else None
        if link is not None and link["reachable"] == reachable:
            return {**link, "trouble": trouble}
        return {"reachable": reachable, "trouble": trouble, "since": time.time(), "at": time.monotonic()}

    def _show(self, shown: Snapshot) -> None:
        self.snapshot = shown
        self.version += 1
        self._changed.set()
        self._changed = asyncio.Event()
