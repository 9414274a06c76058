"""Topics on disk, toward apps: subscriptions that begin with what was, over restarts, full disks and retention."""

import asyncio
import random
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from sidecar_client.v1 import pubsub_pb2

from sidecar.api.common.bounds import Bounds
from sidecar.api.common.encode import LagReason
from sidecar.api.common.faults import InvalidField, TopicOptionsDiffer
from sidecar.api.config import ApiConfig
from sidecar.api.pubsub import convert, history
from sidecar.api.pubsub.history import TopicHistory
from sidecar.api.pubsub.hub import Policy, Subscription
from sidecar.api.pubsub.topics import Start, Topics
from sidecar.core import history as core
from sidecar.core.errors import StorageError
from sidecar.core.gossip import (
    GossipMessage,
    HistoryRepeated,
    HistorySeen,
    MessagesDelivered,
    TopicJoined,
    TopicLeft,
    TopicOptions,
)
from sidecar.core.gossip.bundles import inner_ids, pack
from sidecar.core.gossip.messages import BundleBytes, SignedLayout, UnsignedLayout
from sidecar.core.parameters import HistoryConfig
from sidecar.store.history import HistoryChanges, HistoryStore, database
from tests.api.fakes import ME, OTHER, asynchronous

MANY = Bounds(1 << 20, 1 << 30)
EXCEEDED, RESTARTED = LagReason.HISTORY_EXCEEDED, LagReason.RESTARTED
BEGINNING = Start(beginning=True)
SECOND = 1_000_000_000


class Clock:
    now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now

    def ns(self) -> int:
        return int(self.now * SECOND)


class Disk(HistoryStore):
    """One that refuses to take more when it is told to."""

    refuses = False

    def commit(self) -> HistoryChanges:
        if Disk.refuses:
            self.roll_back()
            raise sqlite3.OperationalError("database or disk is full")
        return super().commit()


class Run:
    """One run of what keeps topics, on a file that goes on."""

    seqno = 0

    def __init__(self, path: Path, clock: Clock, memory: int, config: HistoryConfig, pending: int) -> None:
        self.fed: list[Any] = []
        self.clock = clock
        self.history = TopicHistory(
            path / "history.db", config, self._feed, seen=120.0, wall=clock, open_store=Disk, most_pending=pending
        )
        self.config = replace(ApiConfig(linger=0.0), history_messages=memory)
        self.answered = asyncio.Event()

    def _feed(self, fed: object) -> None:
        self.fed.append(fed)
        self.answered.set()

    async def start(self) -> None:
        await self.history.start()
        self.topics = Topics(self.config, self._feed, self.history, self.clock.ns)
        self.topics.begin()

    async def subscribe(self, *topics: str, start: Start = Start(), **options: Any) -> Subscription:  # noqa: B008
        wanted: dict[str, Any] = {"policy": Policy.DROP_OLDEST, "bounds": MANY, "skip_local": False, "sign": None}
        found = await self.topics.find(topics, start)
        return self.topics.subscribe(topics, found, **{**wanted, **options})

    def messages(
        self, topic: str, datas: Sequence[bytes], *, local: bool = False
    ) -> tuple[list[GossipMessage], list[bytes]]:
        sender = ME if local else OTHER
        layout = SignedLayout(sender, topic.encode())
        messages, raws = [], []
        for data in datas:
            Run.seqno += 1
            seqno = Run.seqno.to_bytes(8, "big")
            raws.append(layout.sealed(layout.encode(data, seqno), bytes(64)))
            messages.append(GossipMessage(sender + seqno, topic, sender, Run.seqno, data, OTHER, local))
        return messages, raws

    def deliver(self, *datas: bytes, topic: str = "kept", local: bool = False) -> None:
        messages, raws = self.messages(topic, datas, local=local)
        hub = self.topics.hub(topic)
        kept = hub is not None and hub.stored is not None
        self.topics.delivered(MessagesDelivered(topic, messages, raws if kept else ()))

    def bring(self, *brought: tuple[bytes, float], topic: str = "kept") -> None:
        messages, raws = self.messages(topic, [data for data, _ in brought])
        self.topics.delivered(MessagesDelivered(topic, messages, raws, [age for _, age in brought], history=True))


class Runs:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.clock = Clock()

    @asynccontextmanager
    async def run(self, *, memory: int = 10, pending: int = 1 << 25, **config: Any) -> AsyncIterator[Run]:
        wanted = HistoryConfig(**{"topics": ("kept", "kept/*"), **config})
        run = Run(self.path, self.clock, memory, wanted, pending)
        await run.start()
        try:
            yield run
        finally:
            run.topics.close()
            await run.history.close()


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    Disk.refuses = False
    Run.seqno = 0
    return Runs(tmp_path)


class Read:
    """What a subscription gives until it has given `count` messages: payloads, and gaps as (missed, reason)."""

    def __init__(self) -> None:
        self.entries: list[Any] = []
        self.cursor = b""
        self.items: list[pubsub_pb2.TopicMessage] = []

    async def until(self, subscription: Subscription, count: int) -> "Read":
        while True:
            batch = subscription.take()
            if not batch:
                if len(self.items) >= count:
                    return self
                await subscription.ready.wait()
                continue
            response = pubsub_pb2.SubscribeResponse.FromString(batch)
            if response.HasField("lagged"):
                missed = response.lagged.missed if response.lagged.HasField("missed") else None
                self.entries.append((missed, LagReason(response.lagged.reason)))
            self.cursor = response.cursor or self.cursor
            for item in response.messages:
                self.items.append(item)
                self.entries.append(item.data)
                self.cursor = item.cursor


async def read(subscription: Subscription, count: int) -> Read:
    return await Read().until(subscription, count)


def numbers(first: int, behind: int) -> list[bytes]:
    return [b"%d" % number for number in range(first, behind)]


def on_runs(test: Callable[[Runs], Any]) -> Callable[[Runs], None]:
    def check(runs: Runs) -> None:
        asynchronous(lambda: test(runs))()

    return check


@on_runs
async def test_a_reader_goes_on_behind_its_cursor_after_a_restart(runs: Runs) -> None:
    async with runs.run() as run:
        reader = await run.subscribe("kept")
        run.deliver(*numbers(0, 100))
        before = await read(reader, 100)
        middle = before.items[41].cursor
    runs.clock.now += 60
    async with runs.run() as run:
        assert TopicJoined("kept", TopicOptions(keep=True)) in run.fed
        reader = await run.subscribe("kept", start=Start(middle))
        run.deliver(*numbers(100, 120))
        after = await read(reader, 78)
        assert after.entries == numbers(42, 120)
        assert [item.cursor for item in after.items[:58]] == [item.cursor for item in before.items[42:]]
        assert after.items[0] == before.items[42]  # receive time, id and sender as well
        run.deliver(b"live")
        assert (await read(reader, 1)).entries == [b"live"]


@on_runs
async def test_pages_follow_each_other_and_what_comes_without_gap_or_repeat(runs: Runs) -> None:
    async with runs.run(memory=50) as run:
        await run.subscribe("kept")
        count = 0
        for _ in range(40):
            run.deliver(*(b"%d " % number + bytes(500) for number in range(count, count + 50)))
            count += 50
        reader = await run.subscribe("kept", start=BEGINNING)
        found = Read()
        while count < 4000:  # what comes while pages are read
            run.deliver(*(b"%d " % number + bytes(500) for number in range(count, count + 50)))
            count += 50
            await found.until(reader, len(found.items) + 1)
        await found.until(reader, 4000)
        assert [int(data.split()[0]) for data in found.entries] == list(range(4000))
        assert run.history.statistics().pages > 3


@pytest.mark.parametrize("seed", range(4))
def test_readers_of_all_paces_get_everything_once(seed: int, runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    """Random bursts on two topics, pages of a few messages, full disks, restarts; who is slow goes back to the disk."""
    monkeypatch.setattr(history, "_PAGE", 3000)
    rng = random.Random(seed)
    log: list[tuple[str, bytes]] = []
    topics = ("kept", "kept/2")

    @asynchronous
    async def check() -> None:
        kept: list[tuple[tuple[str, ...], bytes, list[bytes]]] = [((), b"", [])]
        for _ in range(3):
            async with runs.run(memory=rng.choice((1, 20))) as run:
                for topic in topics:
                    await run.subscribe(topic)
                readers: list[tuple[tuple[str, ...], Subscription, Read, list[bytes]]] = []
                for wanted, cursor, had in [kept[0], *rng.sample(kept, min(3, len(kept)))]:
                    chosen = wanted or rng.choice((topics, topics[:1], topics[1:]))
                    start = Start(cursor) if cursor else BEGINNING
                    bounds = Bounds(rng.randint(1, 40), 1 << 20)
                    readers.append((chosen, await run.subscribe(*chosen, start=start, bounds=bounds), Read(), had))
                for step in range(60):
                    topic = rng.choice(topics)
                    datas = [b"%d %d" % (len(log), each) for each in range(rng.randint(1, 15))]
                    log.extend((topic, data) for data in datas)
                    run.deliver(*datas, topic=topic)
                    Disk.refuses = 20 < step < 25
                    _, reader, found, _ = rng.choice(readers)
                    if rng.random() < 0.5:
                        await found.until(reader, 0)  # what is there now
                    if rng.random() < 0.3:
                        await run.history._keeper.read(lambda store: None)
                Disk.refuses = False
                kept = []
                for chosen, reader, found, had in readers:
                    all_of_it = [data for topic, data in log if topic in chosen]
                    await found.until(reader, len(all_of_it) - len(had))
                    assert [*had, *found.entries] == all_of_it
                    place = rng.randint(0, len(found.items))
                    if place:
                        told = [item.data for item in found.items[:place]]
                        kept.append((chosen, found.items[place - 1].cursor, [*had, *told]))
                kept.append((chosen, b"", []))

    check()


@on_runs
async def test_a_reader_begins_at_a_time(runs: Runs) -> None:
    async with runs.run() as run:
        await run.subscribe("kept")
    stamps = []
    async with runs.run() as run:
        for number in range(40):
            run.deliver(b"%d" % number)
            stamps.append(runs.clock.ns())
            runs.clock.now += 0.5
        for place in (0, 3, 35, 39):
            reader = await run.subscribe("kept", start=Start(since=stamps[place]))
            found = await read(reader, 40 - place)
            assert found.entries == numbers(place, 40)
        again = await run.subscribe("kept", start=Start(found.items[0].cursor))
        assert (await read(again, 0)).entries == []
        late = await run.subscribe("kept", start=Start(since=stamps[-1] + SECOND))
        assert (await read(late, 0)).entries == []
        run.deliver(b"new")
        assert (await read(late, 1)).entries == [b"new"]


@on_runs
async def test_a_subscription_of_a_topic_with_history_and_one_without(runs: Runs) -> None:
    async with runs.run(memory=30) as run:
        await run.subscribe("kept", "other")
        for number in range(40):
            run.deliver(b"%d" % number, topic=("kept", "other")[number % 2])
        reader = await run.subscribe("kept", "other", start=BEGINNING)
        found = await read(reader, 40)
        assert found.entries == numbers(0, 40)
        for number in range(40, 80):
            run.deliver(b"%d" % number, topic=("kept", "other")[number % 2])
        reader = await run.subscribe("kept", "other", start=Start(found.items[19].cursor))
        reread = await read(reader, 60 - 5)
        kept = [data for data in reread.entries if isinstance(data, bytes) and int(data) % 2 == 0]
        other = [data for data in reread.entries if isinstance(data, bytes) and int(data) % 2]
        assert kept == [b"%d" % number for number in range(20, 80, 2)]
        assert other == [b"%d" % number for number in range(21, 80, 2)]
        cursor = found.items[19].cursor
    async with runs.run(memory=30) as run:
        reader = await run.subscribe("kept", "other", start=Start(cursor))
        found = await read(reader, 30)
        assert found.entries == [(None, RESTARTED), *(b"%d" % number for number in range(20, 80, 2))]


@on_runs
async def test_lagged_is_only_what_retention_has_evicted(runs: Runs) -> None:
    async with runs.run(max_age=100.0) as run:
        reader = await run.subscribe("kept")
        start = (await read(reader, 0)).cursor
        run.deliver(*numbers(0, 60))
        cursor = (await read(reader, 60)).items[9].cursor
    runs.clock.now += 60
    async with runs.run(max_age=3600.0) as run:
        assert (await read(await run.subscribe("kept", start=Start(start)), 60)).entries == numbers(0, 60)
        await run.history._keeper.run(lambda store: store._evict(store._touch(1), float(1 << 62), 30 * 200))
        found = await read(await run.subscribe("kept", start=Start(cursor)), 30)
        missed, reason = found.entries[0]
        assert reason is EXCEEDED
        assert found.entries[1:] == numbers(10 + missed, 60)
        assert missed >= 10
        beginning = await read(await run.subscribe("kept", start=BEGINNING), 60 - 10 - missed)
        assert beginning.entries == numbers(10 + missed, 60)
        since = await read(await run.subscribe("kept", start=Start(since=1)), 60 - 10 - missed)
        assert since.entries == [(None, EXCEEDED), *numbers(10 + missed, 60)]


@on_runs
async def test_own_messages_can_be_left_out(runs: Runs) -> None:
    async with runs.run() as run:
        await run.subscribe("kept")
        for number in range(40):
            run.deliver(b"%d" % number, local=number % 2 == 0)
        reader = await run.subscribe("kept", start=BEGINNING, skip_local=True)
        assert (await read(reader, 20)).entries == [b"%d" % number for number in range(1, 40, 2)]
    async with runs.run() as run:
        found = await read(await run.subscribe("kept", start=BEGINNING), 40)
        assert [item.local for item in found.items] == [number % 2 == 0 for number in range(40)]


@on_runs
async def test_bundles_and_unsigned_messages_come_back_as_they_were(runs: Runs) -> None:
    async with runs.run() as run:
        reader = await run.subscribe("kept")
        messages, _ = run.messages("kept", [b""])
        layout = SignedLayout(OTHER, b"kept")
        texts = numbers(0, 20)
        raw = layout.sealed(layout.encode(pack(texts), (500).to_bytes(8, "big")), bytes(64))
        outer = OTHER + (500).to_bytes(8, "big")
        inner = [
            GossipMessage(name, "kept", OTHER, 500 + place, text, OTHER, False)
            for place, (name, text) in enumerate(zip(inner_ids(outer, 20), texts, strict=True))
        ]
        del inner[7]
        run.topics.delivered(MessagesDelivered("kept", inner, (BundleBytes.of(raw, 20),), bundle=outer))
        before = await read(reader, 19)
        assert messages
        plain = await run.subscribe("kept/plain", sign=False)
        data = b"unsigned"
        run.topics.delivered(
            MessagesDelivered(
                "kept/plain",
                [GossipMessage(b"", "kept/plain", None, None, data, OTHER, False)],
                UnsignedLayout(b"kept/plain").encode([data]),
            )
        )
        await read(plain, 1)
    async with runs.run() as run:
        found = await read(await run.subscribe("kept", start=BEGINNING), 19)
        assert found.items == before.items
        inside = await read(await run.subscribe("kept", start=Start(before.items[4].cursor)), 14)
        assert inside.items == before.items[5:]
        with pytest.raises(TopicOptionsDiffer):
            await run.subscribe("kept/plain", sign=True)
        found = await read(await run.subscribe("kept/plain", start=BEGINNING), 1)
        assert found.entries == [b"unsigned"]


@on_runs
async def test_what_a_peer_brings_goes_to_those_that_began_before_it(runs: Runs) -> None:
    async with runs.run() as run:
        run.deliver(b"before")
        begun = await run.subscribe("kept", start=BEGINNING)
        now = await run.subscribe("kept")
        since = await run.subscribe(
            "kept", start=Start(since=(await read(begun, 1)).items[0].receive_time.ToNanoseconds())
        )
        assert (await read(since, 1)).entries == [b"before"]
        runs.clock.now += 1
        run.bring((b"old", 3600.0), (b"older", 7200.0), (b"fresh", 0.0))
        found = await read(begun, 3)
        assert [(item.data, item.history) for item in found.items] == [
            (b"old", True),
            (b"older", True),
            (b"fresh", True),
        ]
        ages = [item.receive_time.ToNanoseconds() for item in found.items]
        assert ages[2] - ages[1] == 7200 * SECOND
        assert (await read(now, 1)).entries == [b"fresh"]
        assert (await read(since, 1)).entries == [b"fresh"]
        again = await read(await run.subscribe("kept", start=BEGINNING), 4)
        assert again.items[1:] == found.items
    async with runs.run() as run:
        again = await read(await run.subscribe("kept", start=BEGINNING), 4)
        assert again.items[1:] == found.items


@on_runs
async def test_what_was_delivered_before_is_stored_where_it_is_missing(runs: Runs) -> None:
    async with runs.run() as run:
        reader = await run.subscribe("kept")
        run.deliver(b"a")
        messages, raws = run.messages("kept", [b"b"])
        run.topics.repeated(HistoryRepeated("kept", messages, raws, [5.0]))
        run.deliver(b"c")
        assert (await read(reader, 2)).entries == [b"a", b"c"]
    async with runs.run() as run:
        assert (await read(await run.subscribe("kept", start=BEGINNING), 3)).entries == [b"a", b"b", b"c"]


@on_runs
async def test_a_full_disk_stops_nobody_and_loses_nothing_that_can_wait(runs: Runs) -> None:
    told: list[str] = []
    async with runs.run() as run:
        run.history.tell(told.append)
        reader = await run.subscribe("kept")
        run.deliver(*numbers(0, 30))
        cursor = (await read(reader, 30)).items[4].cursor
        assert (await read(await run.subscribe("kept", start=Start(cursor)), 25)).entries == numbers(5, 30)
        Disk.refuses = True
        run.deliver(*numbers(30, 60))
        assert (await read(reader, 30)).entries == numbers(30, 60)
        late = await run.subscribe("kept", start=Start(cursor))  # memory has the last ten alone
        first = await read(late, 25)
        assert first.entries == numbers(5, 30)
        assert "disk is full" in told[0]
        Disk.refuses = False
        assert (await read(late, 30)).entries == numbers(30, 60)
        assert told[-1] == ""
        hub = run.topics.hub("kept")
        assert hub is not None
        assert hub.stored is not None
        assert run.history.gap(hub.stored) is None
    async with runs.run() as run:
        assert (await read(await run.subscribe("kept", start=Start(cursor)), 55)).entries == numbers(5, 60)


@on_runs
async def test_what_cannot_wait_for_the_disk_is_told(runs: Runs) -> None:
    async with runs.run(memory=3, pending=1 << 20) as run:
        reader = await run.subscribe("kept")
        run.deliver(b"first")
        cursor = (await read(reader, 1)).cursor
        assert (await read(await run.subscribe("kept", start=BEGINNING), 1)).entries == [b"first"]
        Disk.refuses = True
        big = bytes(1 << 15)
        for _ in range(40):
            run.deliver(big)
        hub = run.topics.hub("kept")
        assert hub is not None
        assert hub.stored is not None
        gap = run.history.gap(hub.stored)
        assert gap is not None
        assert gap.messages == run.history.statistics().missed > 5
        Disk.refuses = False
        run.deliver(b"last")
        found = await read(await run.subscribe("kept", start=Start(cursor)), 40 - gap.messages + 1)
        datas = [entry for entry in found.entries if isinstance(entry, bytes)]
        missed = [entry[0] for entry in found.entries if isinstance(entry, tuple)]
        assert datas[-1] == b"last"
        assert sum(missed) == 40 - datas.count(big)
        assert 0 < sum(missed) <= gap.messages  # of which memory may still have some


@on_runs
async def test_a_reader_that_began_on_disk_and_is_slow_reads_from_there(runs: Runs) -> None:
    async with runs.run() as run:
        run.deliver(*numbers(0, 5))
        slow = await run.subscribe("kept", start=BEGINNING, bounds=Bounds(20, 1 << 20))
        plain = await run.subscribe("kept", bounds=Bounds(20, 1 << 20))
        assert (await read(slow, 5)).entries == numbers(0, 5)
        for number in range(5, 205):
            run.deliver(b"%d" % number)
        assert (await read(slow, 200)).entries == numbers(5, 205)
        assert (await read(plain, 20)).entries[0] == (180, LagReason.SLOW_READER)
        run.deliver(b"on")
        assert (await read(slow, 1)).entries == [b"on"]


@on_runs
async def test_topics_are_joined_by_use_and_left_when_nobody_uses_them(runs: Runs) -> None:
    async with runs.run(max_topics=3) as run:
        run.topics.published("kept/p", None)
        run.topics.published("else", None)
        reader = await run.subscribe("kept/s")
        run.topics.unsubscribe(reader)
        await run.subscribe("kept/one too many")
        joined = [fed.topic for fed in run.fed if isinstance(fed, TopicJoined) and fed.options.keep]
        assert joined == ["kept", "kept/p", "kept/s"]
        assert not [fed for fed in run.fed if isinstance(fed, TopicLeft)]
        await run.history._keeper.run(lambda store: None)
    runs.clock.now += 6 * 86_400
    async with runs.run() as run:
        assert sorted(fed.topic for fed in run.fed) == ["kept", "kept/p", "kept/s"]
        run.topics.published("kept/p", None)
        run.history.look_for_unused()
        await run.history._keeper.read(lambda store: None)
        runs.clock.now += 2 * 86_400
        run.history.look_for_unused()
        await run.history._keeper.read(lambda store: None)
        assert [fed.topic for fed in run.fed if isinstance(fed, TopicLeft)] == ["kept/s"]
        await run.history._keeper.run(lambda store: None)
        assert run.history.known("kept/s") is None
    async with runs.run(topics=("new", "kept")) as run:
        assert sorted(fed.topic for fed in run.fed) == ["kept", "new"]


@on_runs
async def test_an_app_says_how_a_named_topic_is_signed(runs: Runs) -> None:
    async with runs.run() as run:
        await run.subscribe("kept", sign=False)
        assert run.fed[-2:] == [TopicLeft("kept"), TopicJoined("kept", TopicOptions(False, keep=True))]
        with pytest.raises(TopicOptionsDiffer):
            await run.subscribe("kept", sign=True)
        await run.history._keeper.run(lambda store: None)
    async with runs.run() as run:
        assert run.fed == [TopicJoined("kept", TopicOptions(False, keep=True))]


@on_runs
async def test_gossip_is_told_what_was_delivered_lately(runs: Runs) -> None:
    async with runs.run() as run:
        run.deliver(*numbers(0, 5))
    async with runs.run() as run:
        seen = next(fed for fed in run.fed if isinstance(fed, HistorySeen))
        assert (seen.topic, len(seen.ids), seen.ids[0]) == ("kept", 5, OTHER + (1).to_bytes(8, "big"))


@on_runs
async def test_without_patterns_there_is_no_file(runs: Runs) -> None:
    async with runs.run(topics=()) as run:
        reader = await run.subscribe("kept")
        run.deliver(b"a")
        cursor = (await read(reader, 1)).cursor
    assert not (runs.path / "history.db").exists()
    async with runs.run() as run:
        found = await read(await run.subscribe("kept", start=Start(cursor)), 0)
        assert found.entries == [(None, RESTARTED)]


def test_a_file_that_is_damaged_while_it_is_used_is_begun_anew(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "_CHECKED", 0)  # as if it were too large to be looked at as a whole

    @asynchronous
    async def check() -> None:
        async with runs.run() as run:
            run.deliver(*(bytes(3000) for _ in range(200)))
        runs.clock.now += 1000
        async with runs.run() as run:
            with (runs.path / "history.db").open("r+b") as file:
                file.seek(0, 2)
                size = file.tell() - 4096 * 16
                file.seek(4096 * 16)
                file.write(bytes(size))
            with pytest.raises(StorageError, match="malformed"):
                await read(await run.subscribe("kept", start=BEGINNING), 200)
            live = await run.subscribe("kept")
            run.deliver(b"a")
            cursor = (await read(live, 1)).cursor
            run.deliver(*numbers(0, 30))
            again = await read(await run.subscribe("kept", start=Start(cursor)), 30)
            assert again.entries == numbers(0, 30)
        assert (runs.path / "history.db.damaged").exists()

    check()


@on_runs
async def test_what_peers_ask_for_is_answered(runs: Runs) -> None:
    async with runs.run() as run:
        run.deliver(*numbers(0, 50))
        runs.clock.now += 10
        run.history.carry_out(core.LoadHistoryKeys(7, "kept", 0.0, 3e5, 1000))
        while not isinstance(run.fed[-1], core.HistoryKeysLoaded):
            run.answered.clear()
            await run.answered.wait()
        loaded = run.fed[-1]
        assert (loaded.session, len(loaded.keys), loaded.oldest, loaded.failed) == (7, 50, 3e5, False)
        run.history.carry_out(core.FindHistoryKeys(8, "kept", [loaded.keys[0], bytes(32)]))
        run.history.carry_out(core.LoadHistoryBodies(9, "kept", loaded.keys[:3], 1 << 20))
        run.history.carry_out(core.LoadHistoryKeys(10, "unknown", 0.0, 100.0, 1000))
        while not isinstance(run.fed[-1], core.HistoryKeysLoaded) or run.fed[-1].session != 10:
            run.answered.clear()
            await run.answered.wait()
        found, bodies, nothing = run.fed[-3:]
        assert (found.session, found.keys) == (8, [loaded.keys[0]])
        assert [body.key for body in bodies.bodies] == list(loaded.keys[:3])
        assert nothing == core.HistoryKeysLoaded(10, [], 100.0)


# ---------------------------------------------------------------- what a request may say


@pytest.mark.parametrize(
    "wrong",
    [
        {"cursor": b"x" * 16, "from_beginning": True},
        {"start_time": Timestamp(seconds=1), "from_beginning": True},
        {"start_time": Timestamp(seconds=-1)},
        {"start_time": Timestamp(seconds=2**62)},
        {"start_time": Timestamp(nanos=-5)},
    ],
)
def test_a_request_says_one_start_and_a_time_that_is_one(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidField) as raised:
        convert.start(pubsub_pb2.SubscribeRequest(**wrong))
    assert raised.value.field == "start_time"


def test_a_time_may_be_the_first_there_is() -> None:
    assert convert.start(pubsub_pb2.SubscribeRequest(start_time=Timestamp())).since == 1
