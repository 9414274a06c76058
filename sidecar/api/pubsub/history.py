"""The topics that are kept on disk: what comes goes there in batches, what was there is read in pages."""

import asyncio
import logging
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TypeAlias, TypeVar, assert_never

from ...core import history
from ...core.classes import NamedTuple
from ...core.errors import ProtocolError, SidecarError, StorageError
from ...core.gossip import HistoryRepeated, HistorySeen, MessagesDelivered
from ...core.gossip.messages import BundleBytes
from ...core.gossip.stored import StoredMessage, StoredMessages, accepted_mask
from ...core.parameters import HistoryConfig
from ...store.history import (
    FLAG_HISTORY,
    FLAG_LOCAL,
    HistoryChanges,
    HistoryKeeper,
    HistoryStore,
    Kept,
    Lost,
    StoredRow,
    StoredTopic,
    TopicSize,
)
from ...store.history.keeper import OpenStore
from ...store.history.store import EPOCH_BYTES
from ..statistics import HistoryStatistics
from ..surface import Feed
from . import encode
from .chunk import TopicChunk

_GATHER = 0.02  # seconds in which what comes joins one transaction, which costs as much as writing some 20 messages
_GATHERED = 1 << 20  # bytes after which it does not wait for that
_PENDING = 32 << 20  # bytes that wait for the disk; what comes then is not kept
_AGAIN = 1.0  # seconds until a disk that refused is tried again
_SEEN = 50_000  # messages of each topic that gossip is told of at the start, the latest
_LOOK = 600.0  # seconds between looks for topics that nobody uses; a guess
# Bytes of messages, read and encoded at once. For as long, up to 5 ms, the interpreter's lock may be the thread's.
_PAGE = 256 << 10
_READS = 4  # pages asked of the disk at once; others wait their turn
_SECOND = 1_000_000_000

_log = logging.getLogger("sidecar.history")

Found = TypeVar("Found")
PageRead: TypeAlias = "Callable[[EncodedPage | None, SidecarError | None], None]"


class EncodedPage(NamedTuple):
    """All that is kept of some topics up to the counter `through`. `lost`: how many before it are gone, if known."""

    chunks: list[TopicChunk]
    through: int
    lost: int | None


class HistoryGap(NamedTuple):
    """Messages of a topic that came and could not be kept; times in seconds since 1970."""

    messages: int
    first: float
    last: float


class _Read(NamedTuple):
    topics: tuple[StoredTopic, ...]
    after: int
    until: int
    since: int
    skip_local: bool
    answer: PageRead


class TopicHistory:
    """Keeps the messages of topics whose names the configuration has; without such, it only gives out cursors."""

    def __init__(
        self,
        path: Path,
        config: HistoryConfig,
        feed: Feed,
        *,
        seen: float,
        wall: Callable[[], float] = time.time,
        open_store: OpenStore = HistoryStore,
        most_pending: int = _PENDING,
    ) -> None:
        """`path`: the file, made where there is anything to keep. `seen`: seconds for which gossip knows a message.

        `most_pending`: bytes that wait for the disk.
        """
        self.config = config
        self.epoch = os.urandom(EPOCH_BYTES)
        """The first half of every cursor of this run."""
        self.first = 0
        """No counter up to this one is of this run."""
        self.counter: Callable[[], int] = lambda: 0
        """The greatest counter that was given out."""
        self.in_use: Callable[[], Sequence[StoredTopic]] = tuple
        """The topics that apps use now."""
        self.lapse: Callable[[list[str]], list[str]] = list
        """Leaves those of some topics that can be forgotten; returns them."""
        self._feed = feed
        self._seen = seen
        self._wall = wall
        self._keeper = HistoryKeeper(
            path, config, self._on_changes, self._on_trouble, self._given_out, wall, open_store
        )
        self._told: list[Callable[[str], None]] = []
        self._ready = False
        self._closed = False
        self._topics: dict[str, StoredTopic] = {}  # all that the file has
        self._sizes: dict[int, TopicSize] = {}
        self._gaps: dict[int, HistoryGap] = {}
        self._seen_ids: dict[str, list[bytes]] = {}
        self._most_pending = most_pending
        self._pending: list[Kept] = []
        self._pending_bytes = 0  # with those that are being written
        self._missed: dict[StoredTopic, Lost] = {}
        self._writing = 0
        self._refused: list[Kept] = []  # by the disk; it waits before `_pending`
        self._timer: asyncio.TimerHandle | None = None
        self._again: asyncio.TimerHandle | None = None
        self._look: asyncio.TimerHandle | None = None
        self._waiting: deque[_Read] = deque()
        self._reading = 0
        self._pages = 0
        self._missed_total = 0
        self._full_told = False
        self._opened: dict[StoredTopic, StoredMessages] = {}  # the thread's

    # ------------------------------------------------------------ start and end

    async def start(self) -> None:
        """Go on with what is there from runs before. A disk that refuses costs history, not the node."""
        if not self.config.topics:
            return
        self.first = int(self._wall() * 1e6)
        for attempt in (1, 2):  # a file that turns out to be damaged is begun anew at the second
            try:
                await self._keeper.read(self._begin)
                break
            except StorageError as error:
                if attempt == 2:
                    _log.error("cursors of runs before are not known: %s", error)
        self._ready = True
        self._look = asyncio.get_running_loop().call_later(_LOOK, self._look_again)
        if self._sizes:
            count, size = sum(s.messages for s in self._sizes.values()), sum(s.bytes for s in self._sizes.values())
            _log.info("topic history: %d messages of %d topics, %d bytes", count, len(self._topics), size)

    def _begin(self, store: HistoryStore) -> None:
        """In the thread, while the loop waits for it."""
        self.epoch, self.first = store.epoch, store.counter
        self._topics = {topic.name: topic for topic in store.topics()}
        self._sizes = store.sizes()
        since = int((self._wall() - self._seen) * _SECOND)
        for topic in self._topics.values():
            opened = self._messages(topic)
            rows = store.reads.recent(topic.id, since, _SEEN)
            self._seen_ids[topic.name] = [opened.id(row.raw) for row in rows]

    def _given_out(self) -> tuple[bytes, int]:
        return (self.epoch, self.counter()) if self._ready else (b"", 0)

    def at_start(self) -> list[tuple[str, bool | None]]:
        """The topics to be joined, and whether they are signed, where that is known."""
        known = [(topic.name, topic.sign) for topic in self._topics.values() if self.config.keeps(topic.name)]
        named = [name for name in self.config.topics if "*" not in name and name not in self._topics]
        return [*known, *[(name, None) for name in named]]

    def tell_seen(self) -> None:
        """Have gossip know what was delivered lately, in a run before."""
        for name, ids in self._seen_ids.items():
            if ids:
                self._feed(HistorySeen(name, ids))
        self._seen_ids.clear()

    async def close(self) -> None:
        """Write what waits, and let go of the file."""
        self._closed = True
        for timer in (self._timer, self._again, self._look):
            if timer is not None:
                timer.cancel()
        self._write()
        await self._keeper.close()

    # ------------------------------------------------------------ what is told of it

    def tell(self, told: Callable[[str], None]) -> None:
        """Call this when the disk begins to refuse, with what is wrong, and with "" when it no longer does."""
        self._told.append(told)

    def _on_trouble(self, trouble: str) -> None:
        for told in self._told:
            told(trouble)

    def _on_changes(self, changes: HistoryChanges) -> None:
        self._sizes |= changes.sizes

    def size(self, topic: StoredTopic) -> TopicSize:
        """What there is of a topic on disk."""
        return self._sizes.get(topic.id, TopicSize(0, 0, 0))

    def gap(self, topic: StoredTopic) -> HistoryGap | None:
        """What of it could not be kept in this run."""
        return self._gaps.get(topic.id)

    @property
    def trouble(self) -> str:
        """Why the disk refuses; empty where it does not."""
        return self._keeper.trouble

    def statistics(self) -> HistoryStatistics:
        """What is kept, and whether the disk lets us."""
        return HistoryStatistics(
            topics=len(self._topics),
            messages=sum(size.messages for size in self._sizes.values()),
            bytes=sum(size.bytes for size in self._sizes.values()),
            waiting_bytes=self._pending_bytes,
            missed=self._missed_total,
            pages=self._pages,
            disk_refuses=int(bool(self.trouble)),
        )

    # ------------------------------------------------------------ topics

    def adopt(self, name: str, sign: bool, kept: int, born: int) -> StoredTopic | None:
        """Keep a topic, of which nothing is known before the counter `born`; None where it is not to be kept.

        `kept`: how many are, already.
        """
        if not self._ready or not self.config.keeps(name):
            return None
        if kept >= self.config.max_topics:
            if not self._full_told:
                self._full_told = True
                _log.warning("%d topics are kept, as many as may be: %r is not", kept, name)
            return None
        topic = self._topics.get(name)
        if topic is None:
            topic = StoredTopic(1 + max((other.id for other in self._topics.values()), default=0), name, sign)
            self._topics[name] = topic
            self._ask(lambda store: store.add(topic, born))
        return topic

    def known(self, name: str) -> StoredTopic | None:
        """What a topic is known by on disk."""
        return self._topics.get(name)

    def resign(self, topic: StoredTopic, sign: bool) -> StoredTopic:
        """A topic of which nothing is there is signed, or is not, from now on."""
        changed = self._topics[topic.name] = topic._replace(sign=sign)
        self._ask(lambda store: store.sign(changed))
        return changed

    def empty(self, topic: StoredTopic) -> bool:
        """Whether nothing of it is there, or on its way."""
        return not self.size(topic).messages and not any(
            kept.topic.id == topic.id for kept in self._refused + self._pending
        )

    def _look_again(self) -> None:
        self._look = asyncio.get_running_loop().call_later(_LOOK, self._look_again)
        self.look_for_unused()

    def look_for_unused(self) -> None:
        """Note which topics are used, and forget those that nobody has used for as long as messages are kept."""
        used = [topic.id for topic in self.in_use()]

        def answer(names: list[str] | None, error: SidecarError | None) -> None:
            forgotten = self.lapse(names or [])
            for name in forgotten:
                topic = self._topics.pop(name)
                self._sizes.pop(topic.id, None)
                _log.info("%r is not kept any more: nobody has used it for %g s", name, self.config.max_age)
            if forgotten:
                self._ask(lambda store: store.forget(forgotten))

        self._keeper.ask(lambda store: store.lapsed(used), answer)

    def _ask(self, job: Callable[[HistoryStore], None]) -> None:
        """Have something done; what the disk refuses is done with the next write of the topic."""
        try:
            self._keeper.ask(job, lambda result, error: None)
        except SidecarError as error:  # the end
            _log.debug("not asked: %s", error)

    # ------------------------------------------------------------ writing

    def keep(
        self, topic: StoredTopic, first: int, delivered: MessagesDelivered | HistoryRepeated, received: int
    ) -> None:
        """Store messages with the counters from `first` on, got at this time: nanoseconds since 1970."""
        messages, raws, bundle = delivered.messages, delivered.raws, delivered.bundle
        flag = FLAG_HISTORY if delivered.received else 0
        times: int | list[int] = received
        if delivered.received:
            times = [received - int(age * _SECOND) for age in delivered.received]
        if bundle:
            local = FLAG_LOCAL if messages[0].local else 0
            ids = [message.id for message in messages]
            raw = raws[0]
            count = raw.messages if isinstance(raw, BundleBytes) else 1 + int.from_bytes(ids[-1][len(bundle) :], "big")
            mask = accepted_mask(bundle, ids, count)
            kept = Kept(topic, first, (bundle,), raws, times, flag | local, len(ids), mask)
        else:
            locals_ = {message.local for message in messages}
            flags: int | list[int]
            if len(locals_) == 1:
                flags = flag | (FLAG_LOCAL if messages[0].local else 0)
            else:
                flags = [flag | (FLAG_LOCAL if message.local else 0) for message in messages]
            kept = Kept(topic, first, [message.id for message in messages], raws, times, flags)
        self._put(kept)

    def _put(self, kept: Kept) -> None:
        size = kept.size
        if self._pending_bytes + size > self._most_pending:
            self._miss(kept)
            return
        self._pending.append(kept)
        self._pending_bytes += size
        if self._refused or self._closed:
            return
        if self._pending_bytes >= _GATHERED and not self._writing:
            self._write()
        elif self._timer is None and not self._writing:
            self._timer = asyncio.get_running_loop().call_later(_GATHER, self._write)

    def _miss(self, kept: Kept) -> None:
        """The disk is full for so long, or so slow, that this cannot wait for it."""
        count = kept.last - kept.first + 1
        local = kept.flags if isinstance(kept.flags, int) else 0
        self._missed.setdefault(kept.topic, Lost()).add(kept.first, kept.last, bool(local & FLAG_LOCAL))
        self._missed_total += count
        now = self._wall()
        gap = self._gaps.get(kept.topic.id)
        if gap is None:
            _log.error("messages on %r cannot be kept: %d bytes wait for the disk", kept.topic.name, self._most_pending)
            gap = HistoryGap(0, now, now)
        self._gaps[kept.topic.id] = HistoryGap(gap.messages + count, gap.first, now)

    def _write(self) -> None:
        """Have all that waits written."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        batches = self._refused + self._pending
        if not batches and not self._missed:
            return
        self._refused, self._pending = [], []
        missed, self._missed = self._missed, {}
        size = sum(kept.size for kept in batches)

        def answer(result: None, error: SidecarError | None) -> None:
            self._writing -= 1
            if error is None:
                self._pending_bytes -= size
                if (
                    self._pending
                    and not self._refused
                    and not self._writing
                    and self._timer is None
                    and not self._closed
                ):
                    self._timer = asyncio.get_running_loop().call_later(_GATHER, self._write)
            else:
                self._put_back(batches, missed)

        self._writing += 1
        try:
            self._keeper.ask(lambda store: store.write(batches, missed), answer)
        except SidecarError as error:
            answer(None, error)

    def _put_back(self, batches: list[Kept], missed: Mapping[StoredTopic, Lost]) -> None:
        """The disk has refused."""
        self._refused = sorted([*self._refused, *batches], key=lambda kept: kept.first)
        for topic, lost in missed.items():
            self._missed.setdefault(topic, Lost()).merge(lost)
        if self._again is None and not self._closed:
            self._again = asyncio.get_running_loop().call_later(_AGAIN, self._try_again)

    def _try_again(self) -> None:
        self._again = None
        self._write()

    # ------------------------------------------------------------ reading, for apps

    async def first_since(self, topics: Sequence[StoredTopic], since: int) -> tuple[int | None, bool]:
        """See `Reads.start`. Raises StorageError."""
        self._write_all()
        ids = [topic.id for topic in topics]
        return await self._keeper.read(lambda store: store.reads.start(ids, since))

    def read(
        self,
        topics: tuple[StoredTopic, ...],
        after: int,
        until: int,
        answer: PageRead,
        *,
        since: int = 0,
        skip_local: bool = False,
    ) -> None:
        """Read a page of what is kept of these topics behind the counter `after`; see `Reads.page`."""
        self._read_again(_Read(topics, after, until, since, skip_local, answer))

    def _read_again(self, read: _Read) -> None:
        self._waiting.append(read)
        self._read_next()

    def unwritten(self) -> int | None:
        """The counter from which on messages wait for a disk that refuses."""
        return self._refused[0].first if self._refused else None

    def _read_next(self) -> None:
        while self._waiting and self._reading < _READS:
            self._reading += 1
            self._pages += 1
            read = self._waiting.popleft()
            self._write_all()

            def answer(page: EncodedPage | None, error: SidecarError | None, read: _Read = read) -> None:
                self._reading -= 1
                self._answered(read, page, error)
                self._read_next()

            try:
                self._keeper.look(partial(self._page, read=read), answer)
            except SidecarError as error:
                answer(None, error)

    def _answered(self, read: _Read, page: EncodedPage | None, error: SidecarError | None) -> None:
        waiting = self.unwritten()
        if page is not None and waiting is not None and waiting <= page.through:
            # What waits for the disk is not lost, and so not passed over: there is no page until it is there.
            chunks = [chunk for chunk in page.chunks if chunk.last < waiting]
            page = EncodedPage(chunks, max(read.after, waiting - 1), page.lost)
            if page.through == read.after and not self._closed:
                asyncio.get_running_loop().call_later(_AGAIN, self._read_again, read)
                return
        read.answer(page, error)

    def _write_all(self) -> None:
        """What is read now is behind all that has come, on its way to the disk."""
        if not self._refused:
            self._write()

    # ------------------------------------------------------------ in the thread

    def _page(self, store: HistoryStore, *, read: _Read) -> EncodedPage:
        names = {topic.id: topic for topic in read.topics}
        page = store.reads.page(
            list(names), read.after, read.until, since=read.since, skip_local=read.skip_local, size=_PAGE
        )
        chunks: list[TopicChunk] = []
        run: list[StoredMessage] = []
        first, before = 0, StoredRow(0, 0, b"", 0, 0, None, 0)
        for row in page.rows:
            topic = names[row.topic]
            follows = (
                row.cursor == before.cursor + before.count and row[3:5] == before[3:5] and row.topic == before.topic
            )
            if not follows:
                chunks += self._chunks(names.get(before.topic), first, run, before)
                run, first = [], row.cursor
            try:
                run += self._messages(topic).open(row.raw, row.mask)
            except ProtocolError as error:  # what was stored was verified: another version's, or a disk that lies
                _log.debug("message under the cursor %d of %r: %s", row.cursor, topic.name, error)
                chunks += self._chunks(names.get(row.topic), first, run, row)
                run, first = [], row.cursor + row.count
            before = row
        chunks += self._chunks(names.get(before.topic), first, run, before)
        return EncodedPage(_behind(chunks, read.after), page.through, page.lost)

    def _chunks(
        self, topic: StoredTopic | None, first: int, messages: list[StoredMessage], row: StoredRow
    ) -> list[TopicChunk]:
        """Messages with consecutive counters, and all else as this row has it."""
        if topic is None or not messages:
            return []
        local, brought = bool(row.flags & FLAG_LOCAL), bool(row.flags & FLAG_HISTORY)
        chunks: list[TopicChunk] = []
        for count, data in encode.topic_pieces(
            topic.name, messages, epoch=self.epoch, first=first, wall_ns=row.received, local=local, history=brought
        ):
            chunks.append(TopicChunk(first, count, data, local, row.received, brought))
            first += count
        return chunks

    def _messages(self, topic: StoredTopic) -> StoredMessages:
        opened = self._opened.get(topic)
        if opened is None:
            opened = self._opened[topic] = StoredMessages(topic.name, sign=topic.sign)
        return opened

    # ------------------------------------------------------------ reading, for peers

    def carry_out(self, effect: history.StoreEffect) -> None:
        """Do what the node wants of the store."""
        topic = self._topics.get(effect.topic)
        number = 0 if topic is None else topic.id  # of which nothing is there
        now = int(self._wall() * _SECOND)
        self._write_all()
        match effect:
            case history.LoadHistoryKeys(session, _, newest, oldest, limit):
                bounds = now - int(oldest * _SECOND), now - int(newest * _SECOND)
                self._look_up(
                    lambda store: store.reads.keys(number, *bounds, limit),
                    lambda found: history.HistoryKeysLoaded(
                        session, found.keys, min(oldest, max(0.0, (now - found.oldest) / _SECOND))
                    ),
                    history.HistoryKeysLoaded(session, (), 0.0, failed=True),
                )
            case history.FindHistoryKeys(session, _, keys):
                self._look_up(
                    lambda store: store.reads.find(number, keys),
                    lambda found: history.HistoryKeysFound(session, found),
                    history.HistoryKeysFound(session, (), failed=True),
                )
            case history.LoadHistoryBodies(session, _, keys, size):
                self._look_up(
                    lambda store: store.reads.bodies(number, keys, size),
                    lambda found: history.HistoryBodiesLoaded(
                        session,
                        [
                            history.HistoryBody(body.key, body.raw, max(0.0, (now - body.received) / _SECOND))
                            for body in found[0]
                        ],
                        found[1],
                    ),
                    history.HistoryBodiesLoaded(session, (), keys, failed=True),
                )
            case _:
                assert_never(effect)

    def _look_up(
        self,
        job: Callable[[HistoryStore], Found],
        told: Callable[[Found], history.AppInput],
        failed: history.AppInput,
    ) -> None:
        def answer(found: Found | None, error: SidecarError | None) -> None:
            if not self._closed:
                self._feed(failed if found is None else told(found))

        try:
            self._keeper.look(job, answer)
        except SidecarError as error:
            answer(None, error)


def _behind(chunks: Iterable[TopicChunk], after: int) -> list[TopicChunk]:
    """Without what lies before a place within a bundle."""
    return [part for chunk in chunks for part in chunk.between(after)]
