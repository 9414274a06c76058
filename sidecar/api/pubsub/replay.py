"""What a subscription begins with: read from disk, page by page, and at the end from memory."""

from collections.abc import Callable, Sequence
from itertools import chain

from ...core.errors import SidecarError
from ..common.encode import LagReason
from .chunk import Gap, TopicChunk
from .history import EncodedPage, TopicHistory
from .hub import TopicHub

Entries = list[TopicChunk | Gap]


class Replay:
    """All that came on some topics behind a counter, in the order in which it came."""

    def __init__(
        self,
        history: TopicHistory | None,
        hubs: Sequence[TopicHub],
        position: int,
        *,
        skip_local: bool,
        since: int = 0,
    ) -> None:
        """`position`: the counter. `since`: only what was received since then, in nanoseconds.

        What topics that are not on disk have lost by now, is not told here.
        """
        self._history = history
        self._kept = [hub for hub in hubs if hub.stored is not None] if history is not None else []
        self._others = [hub for hub in hubs if hub not in self._kept]
        self._position = position
        self._told = {hub: hub.reach for hub in self._others}  # up to where it was told what is lost
        self._skip_local = skip_local
        self._since = since

    def rest(self) -> Entries | None:
        """All of it that is left, where memory has it."""
        if any(hub.reach > self._position for hub in self._kept):
            return None
        chunks = self._wanted(chain(self._kept, self._others), None)
        return self._with_gap(chunks, 0, None)

    def read(self, answer: Callable[[Entries, SidecarError | None], None]) -> None:
        """The next page of it, and what memory has of the other topics beside it."""
        assert self._history is not None, "without it, memory has all"
        until = max(hub.reach for hub in self._kept)

        def answered(page: EncodedPage | None, error: SidecarError | None) -> None:
            if page is None:
                answer([], error)
                return
            others = self._wanted(self._others, page.through)
            chunks = sorted([*page.chunks, *others]) if others else page.chunks
            entries = self._with_gap(chunks, page.lost, page.through)
            self._position = page.through
            answer(entries, None)

        topics = tuple(hub.stored for hub in self._kept if hub.stored is not None)
        self._history.read(topics, self._position, until, answered, since=self._since, skip_local=self._skip_local)

    def back(self, position: int) -> bool:
        """Begin again behind this counter, where all topics are on disk."""
        if self._others or not self._kept:
            return False
        self._position = position
        return True

    def _wanted(self, hubs: "chain[TopicHub] | Sequence[TopicHub]", until: int | None) -> list[TopicChunk]:
        return sorted(
            chunk
            for hub in hubs
            for chunk in hub.since(self._position, until)
            if not (self._skip_local and chunk.local) and chunk.received >= self._since
        )

    def _with_gap(self, chunks: list[TopicChunk], lost: int | None, until: int | None) -> Entries:
        """Behind what is gone: so many on disk, and of the other topics what memory has let go of meanwhile."""
        for hub in self._others:
            more = hub.missed(max(self._told[hub], self._position), until, skip_local=self._skip_local)
            lost = None if lost is None or more is None else lost + more
        if lost == 0:
            return list(chunks)
        behind = chunks[0].first - 1 if chunks else until or self._position
        return [Gap(lost, LagReason.HISTORY_EXCEEDED, behind), *chunks]
