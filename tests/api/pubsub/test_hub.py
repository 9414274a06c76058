"""Histories, queues and what their readers are told, without a server."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sidecar_client.v1 import pubsub_pb2

from sidecar.api.common.bounds import BATCH_BYTES, Bounds
from sidecar.api.common.encode import LagReason
from sidecar.api.common.faults import SlowReader, TopicOptionsDiffer
from sidecar.api.config import ApiConfig
from sidecar.api.pubsub.hub import Policy, Subscription
from sidecar.api.pubsub.topics import Start, Topics
from sidecar.core.errors import Closed, InvalidArgument, ResourceExhausted
from sidecar.core.gossip import MessagesDelivered, TopicJoined, TopicLeft
from tests.api.fakes import asynchronous, message

MANY = Bounds(1 << 20, 1 << 30)


class Fixture:
    """Topics with everything they feed the node."""

    def __init__(self, **bounds: Any) -> None:
        self.fed: list[TopicJoined | TopicLeft] = []
        self.left = asyncio.Event()
        self.topics = Topics(replace(ApiConfig(linger=0.0), **bounds), self._feed)

    def _feed(self, fed: TopicJoined | TopicLeft) -> None:
        self.fed.append(fed)
        if isinstance(fed, TopicLeft):
            self.left.set()

    def subscribe(self, *topics: str, cursor: bytes = b"", **options: Any) -> Subscription:
        wanted: dict[str, Any] = {"policy": Policy.DROP_OLDEST, "bounds": MANY, "skip_local": False, "sign": None}
        return self.topics.subscribe(topics or ("news",), Start(cursor), **{**wanted, **options})

    def deliver(self, *datas: bytes, topic: str = "news", local: bool = False) -> None:
        self.topics.delivered(MessagesDelivered(topic, [message(data, topic, local=local) for data in datas]))


class Read:
    """Everything that a subscription gives now: payloads, and gaps as (missed, reason) where they were."""

    def __init__(self, subscription: Subscription) -> None:
        self.entries: list[Any] = []
        self.cursor = b""
        self.sizes: list[int] = []
        while batch := subscription.take():
            self.sizes.append(len(batch))
            response = pubsub_pb2.SubscribeResponse.FromString(batch)
            if response.HasField("lagged"):
                missed = response.lagged.missed if response.lagged.HasField("missed") else None
                self.entries.append((missed, LagReason(response.lagged.reason)))
            self.cursor = response.cursor or self.cursor
            for item in response.messages:
                self.entries.append(item.data)
                self.cursor = item.cursor


@asynchronous
async def test_first_response_says_where_the_stream_begins_and_history_continues_there() -> None:
    fixture = Fixture(linger=60.0)
    reader = fixture.subscribe()
    start = Read(reader)
    assert start.entries == []
    fixture.deliver(b"a", b"b")
    assert Read(reader).entries == [b"a", b"b"]
    assert Read(fixture.subscribe(cursor=start.cursor)).entries == [b"a", b"b"]
    middle = Read(fixture.subscribe(cursor=start.cursor))
    fixture.deliver(b"c")
    assert Read(fixture.subscribe(cursor=middle.cursor)).entries == [b"c"]
    fixture.topics.close()


@asynchronous
async def test_cursor_in_the_middle_of_a_batch() -> None:
    fixture = Fixture()
    reader = fixture.subscribe()
    fixture.deliver(*(b"%d" % number for number in range(5)))
    response = pubsub_pb2.SubscribeResponse.FromString(reader.take())
    for index, item in enumerate(response.messages):
        later = Read(fixture.subscribe(cursor=item.cursor)).entries
        assert later == [b"%d" % number for number in range(index + 1, 5)]


@asynchronous
async def test_topics_share_one_order() -> None:
    fixture = Fixture()
    start = Read(fixture.subscribe("a", "b")).cursor
    for number in range(4):
        fixture.deliver(b"%d" % number, topic="ab"[number % 2])
    assert Read(fixture.subscribe("b", "a", cursor=start)).entries == [b"0", b"1", b"2", b"3"]
    assert Read(fixture.subscribe("b", cursor=start)).entries == [b"1", b"3"]


@asynchronous
async def test_history_says_how_many_it_has_lost() -> None:
    fixture = Fixture(history_messages=3)
    reader = fixture.subscribe("news", "other")
    start = Read(reader).cursor
    for number in range(10):
        fixture.deliver(b"%d" % number)
        fixture.deliver(b"x", topic="other")
    reread = Read(fixture.subscribe(cursor=start))
    assert reread.entries == [(7, LagReason.HISTORY_EXCEEDED), b"7", b"8", b"9"]
    hub = fixture.topics.hub("news")
    assert hub is not None
    assert hub.history_messages == 3


@asynchronous
async def test_history_is_shared_among_topics_by_bytes() -> None:
    fixture = Fixture(history_bytes=1 << 20, history_total_bytes=8192)
    fixture.subscribe("a")
    fixture.deliver(*[bytes(1000)] * 4, topic="a")
    assert fixture.topics.hub("a").history_messages == 4  # type: ignore[union-attr]
    fixture.subscribe("b")
    assert fixture.topics.hub("a").history_messages == 0  # type: ignore[union-attr]  # its one chunk is over its share


@asynchronous
async def test_cursors_that_cannot_be_continued() -> None:
    fixture = Fixture()
    old = Read(Fixture().subscribe()).cursor
    fixture.subscribe()
    fixture.deliver(b"a")
    assert Read(fixture.subscribe(cursor=old)).entries == [(None, LagReason.RESTARTED), b"a"]
    with pytest.raises(InvalidArgument, match="8 bytes"):
        fixture.subscribe(cursor=b"12345678")
    newest = Read(fixture.subscribe()).cursor
    with pytest.raises(InvalidArgument, match="newest"):
        fixture.subscribe(cursor=newest[:15] + bytes([newest[15] + 1]))


@asynchronous
async def test_topic_left_after_linger_cannot_be_continued_unsaid() -> None:
    fixture = Fixture()
    reader = fixture.subscribe()
    cursor = Read(reader).cursor
    fixture.topics.unsubscribe(reader)
    await fixture.left.wait()
    again = Read(fixture.subscribe(cursor=cursor))
    assert again.entries == [(None, LagReason.HISTORY_EXCEEDED)]
    assert [type(fed) for fed in fixture.fed] == [TopicJoined, TopicLeft, TopicJoined]


@asynchronous
async def test_topic_stays_joined_while_somebody_reads_or_comes_back() -> None:
    fixture = Fixture(linger=60.0)
    first, second = fixture.subscribe(), fixture.subscribe()
    fixture.topics.unsubscribe(first)
    fixture.topics.unsubscribe(second)
    fixture.subscribe()
    fixture.topics.close()
    assert [type(fed) for fed in fixture.fed] == [TopicJoined]


@asynchronous
async def test_signing_and_bounds() -> None:
    fixture = Fixture(max_topics=2, max_subscriptions=3)
    fixture.subscribe("a", sign=False)
    fixture.subscribe("a")
    with pytest.raises(TopicOptionsDiffer):
        fixture.subscribe("a", sign=True)
    with pytest.raises(ResourceExhausted, match="topics"):
        fixture.subscribe("b", "c")
    assert [fed.topic for fed in fixture.fed] == ["a"]
    fixture.subscribe("b")
    with pytest.raises(ResourceExhausted, match="subscriptions"):
        fixture.subscribe("a")


@asynchronous
async def test_topics_that_linger_make_room_for_others_the_oldest_first() -> None:
    fixture = Fixture(max_topics=2, linger=60.0)
    for topic in ("a", "b", "c"):
        fixture.topics.unsubscribe(fixture.subscribe(topic))
    joined = [fed.topic for fed in fixture.fed if isinstance(fed, TopicJoined)]
    left = [fed.topic for fed in fixture.fed if isinstance(fed, TopicLeft)]
    assert (joined, left) == (["a", "b", "c"], ["a"])
    fixture.subscribe("b")
    fixture.subscribe("d")
    with pytest.raises(ResourceExhausted, match="2 topics are in use here and 1 more"):
        fixture.subscribe("e")
    fixture.topics.close()


@asynchronous
async def test_a_call_makes_room_without_the_topics_that_it_asks_for() -> None:
    """Room for the new topic is not made by leaving the oldest lingering one, to join it again without its history."""
    fixture = Fixture(max_topics=2, linger=60.0)
    reader = fixture.subscribe("a")
    cursor = Read(reader).cursor
    fixture.deliver(b"kept", topic="a")
    fixture.topics.unsubscribe(reader)
    fixture.topics.unsubscribe(fixture.subscribe("b"))
    assert Read(fixture.subscribe("c", "a", cursor=cursor)).entries[-1:] == [b"kept"]
    assert [fed.topic for fed in fixture.fed if isinstance(fed, TopicLeft)] == ["b"]
    fixture.topics.close()


@asynchronous
async def test_a_call_that_is_refused_leaves_no_topic() -> None:
    fixture = Fixture(max_topics=3, linger=60.0)
    for topic in ("a", "b"):
        fixture.topics.unsubscribe(fixture.subscribe(topic))
    fixture.subscribe("c")
    with pytest.raises(ResourceExhausted, match="2 topics are in use here and 2 more"):
        fixture.subscribe("b", "d", "e")
    assert not [fed for fed in fixture.fed if isinstance(fed, TopicLeft)]
    fixture.topics.close()


@asynchronous
async def test_own_publications_can_be_left_out() -> None:
    fixture = Fixture()
    reader, all_of_it = fixture.subscribe(skip_local=True), fixture.subscribe()
    start = Read(all_of_it).cursor
    fixture.deliver(b"mine", local=True)
    fixture.topics.delivered(MessagesDelivered("news", [message(b"m", local=True), message(b"theirs")]))
    assert Read(reader).entries == [b"theirs"]
    assert Read(fixture.subscribe(cursor=start, skip_local=True)).entries == [b"theirs"]
    assert Read(all_of_it).entries == [b"mine", b"m", b"theirs"]


@asynchronous
async def test_batches_end_at_a_mebibyte_unless_one_message_is_larger() -> None:
    fixture = Fixture()
    reader = fixture.subscribe()
    reader.take()
    fixture.deliver(*[bytes(60_000)] * 40)
    fixture.deliver(bytes(BATCH_BYTES + 1))
    read = Read(reader)
    assert len(read.entries) == 41
    assert len(read.sizes) == 4
    assert all(size <= BATCH_BYTES for size in read.sizes[:3])


@asynchronous
async def test_drop_oldest() -> None:
    fixture = Fixture()
    reader = fixture.subscribe(bounds=Bounds(3, 1 << 20))
    reader.take()
    fixture.deliver(b"0", b"1")
    fixture.deliver(b"2", b"3", b"4", b"5")
    fixture.deliver(b"6")
    assert Read(reader).entries == [(4, LagReason.SLOW_READER), b"4", b"5", b"6"]
    assert reader.missed == 4
    fixture.deliver(b"7")
    assert Read(reader).entries == [b"7"]


@asynchronous
async def test_drop_newest() -> None:
    fixture = Fixture()
    reader = fixture.subscribe(bounds=Bounds(3, 1 << 20), policy=Policy.DROP_NEWEST)
    reader.take()
    fixture.deliver(b"0", b"1")
    fixture.deliver(b"2", b"3", b"4")
    fixture.deliver(b"5")
    assert pubsub_pb2.SubscribeResponse.FromString(reader.take()).messages[2].data == b"2"
    fixture.deliver(b"6")
    assert Read(reader).entries == [(3, LagReason.SLOW_READER), b"6"]


@asynchronous
async def test_end_stream() -> None:
    fixture = Fixture()
    reader = fixture.subscribe(bounds=Bounds(2, 1 << 20), policy=Policy.END_STREAM)
    reader.take()
    fixture.deliver(b"0", b"1", b"2")
    fixture.deliver(b"3")
    response = pubsub_pb2.SubscribeResponse.FromString(reader.take())
    assert [item.data for item in response.messages] == [b"0", b"1"]
    with pytest.raises(SlowReader, match="2 messages"):
        reader.take()


@pytest.mark.parametrize("policy", [Policy.DROP_OLDEST, Policy.DROP_NEWEST])
def test_one_message_over_the_bytes_passes_alone(policy: Policy) -> None:
    async def run() -> None:
        fixture = Fixture()
        reader = fixture.subscribe(bounds=Bounds(10, 100), policy=policy)
        reader.take()
        fixture.deliver(bytes(500))
        assert Read(reader).entries == [bytes(500)]

    asyncio.run(run())


@asynchronous
async def test_what_is_queued_comes_before_the_end() -> None:
    fixture = Fixture()
    reader = fixture.subscribe()
    fixture.deliver(b"last")
    reader.end(Closed("stopping"))
    fixture.deliver(b"too late")
    assert b"last" in reader.take()
    with pytest.raises(Closed):
        reader.take()


Step = tuple[str, int]
steps = st.lists(st.tuples(st.sampled_from(["deliver", "deliver", "read"]), st.integers(1, 9)), max_size=30)


@settings(max_examples=80, deadline=None)
@given(steps, st.sampled_from([Policy.DROP_OLDEST, Policy.DROP_NEWEST]), st.integers(1, 12), st.integers(150, 3000))
def test_nothing_is_lost_untold(plan: list[Step], policy: Policy, messages: int, size: int) -> None:
    """Whatever happens: what was read and what was told as missed make up everything, in order, within the bounds."""

    async def run() -> None:
        fixture = Fixture()
        reader = fixture.subscribe(bounds=Bounds(messages, size), policy=policy)
        sent = 0
        position = 0

        def check(read: Read) -> None:
            nonlocal position
            for entry in read.entries:
                if isinstance(entry, tuple):
                    position += entry[0]
                else:
                    assert int(entry) == position
                    position += 1

        for what, count in plan:
            if what == "deliver":
                fixture.deliver(*(b"%d" % number for number in range(sent, sent + count)))
                sent += count
            else:
                read = Read(reader)
                assert sum(isinstance(entry, bytes) for entry in read.entries) <= messages
                check(read)
        check(Read(reader))
        assert position == sent

    asyncio.run(run())
