"""Quotas: buckets on virtual time, and what calls over them end with."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
import sidecar_client
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from hypothesis import given
from hypothesis import strategies as st
from sidecar_client.v1 import common_pb2, pubsub_pb2, pubsub_pb2_grpc

from sidecar.api.common.faults import QuotaExceeded
from sidecar.api.guard import quota
from sidecar.api.guard.quota import Meter, Quotas, RateBucket
from sidecar.api.guard.tokens import TokenFile
from sidecar.core import gossip
from sidecar.core.errors import InvalidArgument
from tests.api.fakes import asynchronous, server

NOW = 1_000_000.0


def bucket(text: str, now: float = 0.0) -> RateBucket:
    rate = quota.read({"messages": text}).messages
    assert rate is not None
    return RateBucket(rate, now)


def meter(**quotas: object) -> Meter:
    return Meter("app", quota.read(quotas), 0.0)


# ---------------------------------------------------------------- as they are written


def test_quotas_are_read_as_they_are_written() -> None:
    quotas = quota.read(
        {"calls": "100/s", "messages": "6000/m", "bytes": "1MiB/s", "streams": "10", "subscriptions": 5}
    )
    assert (quotas.calls, quotas.messages, quotas.bytes) == (
        (100, 1, "100/s"),
        (6000, 60, "6000/m"),
        (2**20, 1, "1MiB/s"),
    )
    assert (quotas.streams, quotas.subscriptions) == (10, 5)
    assert quota.read(json.loads(json.dumps(quotas.described()))) == quotas
    assert quota.read({}) == Quotas()
    assert Quotas().described() == {}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("calls", "100"),
        ("calls", "-1/s"),
        ("calls", "1KiB/s"),
        ("calls", "0/s"),
        ("calls", "0.5/s"),
        ("calls", "1/d"),
        ("calls", 5),
        ("calls", "9" * 100 + "/s"),
        ("bytes", "1TiB/s"),
        ("bytes", "nan/s"),
        ("streams", "-1"),
        ("streams", "1/s"),
        ("streams", True),
        ("streams", 1.5),
        ("watts", "1/s"),
    ],
)
def test_what_is_no_quota_is_refused(name: str, value: object) -> None:
    with pytest.raises(InvalidArgument, match=name):
        quota.read({name: value})


def test_tokens_keep_their_quotas_and_those_without_read_as_before(tmp_path: Path) -> None:
    file = TokenFile(tmp_path / "tokens.json")
    limited, _ = file.create("limited", ["*"], None, NOW, quota.read({"calls": "5/h", "streams": 0}))
    free, _ = file.create("free", ["*"], None, NOW)
    assert file.read() == {limited.id: limited, free.id: free}
    document = json.loads(file.path.read_text())
    del document["tokens"][1]["quotas"]
    file.path.write_text(json.dumps(document))
    assert file.read()[free.id] == free


# ---------------------------------------------------------------- buckets


def test_a_bucket_gives_its_amount_at_once_and_then_its_rate() -> None:
    tested = bucket("10/s")
    for _ in range(10):
        assert tested.wait(1, 0.0) == 0
        assert tested.take(1, 0.0) == 0
    assert tested.wait(1, 0.0) == pytest.approx(0.1)
    assert tested.wait(1, 0.05) == pytest.approx(0.05)
    assert tested.wait(1, 0.1) == 0
    assert tested.wait(10, 1.0) == 0
    assert tested.wait(10, 1000.0) == 0
    tested.take(10, 1000.0)
    assert tested.wait(1, 1000.0) > 0  # it has never held more than its amount


def test_a_long_period_is_a_larger_bucket() -> None:
    tested = bucket("60/m")
    tested.take(60, 0.0)
    assert tested.wait(1, 0.0) == pytest.approx(1)
    assert tested.wait(60, 30.0) == pytest.approx(30)


def test_more_than_it_holds_goes_as_debt_once_it_is_full() -> None:
    tested = bucket("10/s")
    assert tested.wait(25, 0.0) == 0
    assert tested.take(25, 0.0) == pytest.approx(1.5)
    assert tested.wait(1, 1.5) == pytest.approx(0.1)
    assert tested.wait(25, 2.0) == pytest.approx(0.5)


def test_a_clock_that_stands_still_or_goes_back_gives_nothing() -> None:
    tested = bucket("10/s", now=100.0)
    tested.take(10, 100.0)
    assert tested.wait(10, 50.0) == pytest.approx(1)
    assert tested.wait(10, 100.0) == pytest.approx(1)
    assert tested.wait(10, 101.0) == pytest.approx(0)


@given(
    st.floats(1, 1e6),
    st.sampled_from("smh"),
    st.lists(st.tuples(st.floats(0, 100), st.floats(0, 1e6)), max_size=50),
)
def test_no_more_than_amount_and_rate_ever_go_through(
    amount: float, period: str, asked: list[tuple[float, float]]
) -> None:
    tested = bucket(f"{amount:.3f}/{period}")
    rate = tested.rate
    now = taken = largest = 0.0
    for pause, wanted in asked:
        now += pause
        if tested.wait(wanted, now) == 0:
            tested.take(wanted, now)
            taken += wanted
            largest = max(largest, wanted)
        bound = rate.amount + largest + now * rate.amount / rate.period
        assert taken <= bound * (1 + 1e-9) + 1e-6


# ---------------------------------------------------------------- a token's meter


def test_a_refusal_names_the_quota_and_takes_nothing() -> None:
    tested = meter(messages="10/s", bytes="100/s")
    tested.spend(5, 100, 0.0)
    with pytest.raises(QuotaExceeded, match="the token app has a quota of 100/s bytes") as caught:
        tested.spend(1, 50, 0.0)
    assert (caught.value.quota, caught.value.retry) == ("bytes", pytest.approx(0.5))
    tested.spend(5, 0, 0.0)  # the messages are there still
    with pytest.raises(QuotaExceeded) as caught:
        tested.spend(10, 1, 0.0)
    assert caught.value.quota == "messages"


def test_streams_wait_in_the_order_in_which_they_came() -> None:
    tested = meter(messages="10/s", bytes="1MiB/s")
    assert tested.reserve(10, 1, 0.0) == 0
    assert tested.reserve(10, 1, 0.0) == pytest.approx(1)
    assert tested.reserve(5, 1, 0.0) == pytest.approx(1.5)
    with pytest.raises(QuotaExceeded) as caught:  # what comes alone meanwhile
        tested.spend(1, 1, 0.0)
    assert caught.value.retry == pytest.approx(1.6)
    assert tested.reserve(5, 1, 3.0) == 0


def test_what_is_open_at_once_is_counted() -> None:
    tested = meter(streams=2, subscriptions="3")
    with tested.holding("streams", 1), tested.holding("subscriptions", 2):
        with tested.holding("streams", 1):
            with pytest.raises(QuotaExceeded) as caught, tested.holding("streams", 1):
                pass
            assert (caught.value.quota, caught.value.retry) == ("streams", None)
        with tested.holding("streams", 1):
            pass
        with pytest.raises(QuotaExceeded, match="3 subscriptions"), tested.holding("subscriptions", 2):
            pass
    with tested.holding("subscriptions", 3):
        pass


def test_without_quotas_nothing_is_measured() -> None:
    tested = meter()
    assert not tested.measured
    tested.call(0.0)
    tested.spend(10**9, 10**9, 0.0)
    assert tested.reserve(10**9, 10**9, 0.0) == 0
    with tested.holding("streams", 10**6):
        pass


# ---------------------------------------------------------------- through the API


@asynchronous
async def test_a_call_over_its_quota_says_which_and_when_to_come_back(tmp_path: Path) -> None:
    file = TokenFile(tmp_path / "tokens.json")
    quotas = quota.read({"calls": "3/h", "streams": 1, "subscriptions": 2})
    _, text = file.create("app", ["*"], None, NOW, quotas)
    _, other = file.create("other", ["*"], None, NOW, quotas)
    async with (
        server(tmp_path / "api.sock", tokens=file.path, require_token=True) as (_, backend, api),
        grpc.aio.insecure_channel(api.target) as channel,
    ):
        stub = pubsub_pb2_grpc.PubSubServiceStub(channel)
        metadata = (("authorization", f"Bearer {text}"),)

        def subscribe(*topics: str) -> "grpc.aio.UnaryStreamCall[object, object]":
            return stub.Subscribe(pubsub_pb2.SubscribeRequest(topics=topics), metadata=metadata)

        assert await refused(subscribe("a", "b", "c")) == ("subscriptions", "2", None)
        holding = subscribe("a", "b")
        await holding.initial_metadata()
        assert await refused(subscribe("a")) == ("streams", "1", None)
        name, limit, retry = await refused(stub.ListTopics(pubsub_pb2.ListTopicsRequest(), metadata=metadata))
        assert (name, limit) == ("calls", "3/h")
        assert retry is not None
        assert 0 < retry <= 1200
        holding.cancel()
        assert backend.statistics().flat()["api_refused_quota"] == 3
        async with sidecar_client.connect(api.target, token=other) as app:  # has its own
            await app.topics()
            await app.topics()
            with pytest.raises(sidecar_client.QuotaExceeded) as caught:
                await app.topics()
            assert caught.value.retry_after is not None


async def refused(call: "grpc.aio.Call") -> tuple[str, str, float | None]:
    """The quota, its limit, and the seconds to wait, that a call was refused with."""
    assert await call.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    status = Status.FromString(dict(await call.trailing_metadata())["grpc-status-details-bin"])
    info, retry, seconds = ErrorInfo(), RetryInfo(), None
    for detail in status.details:
        if detail.Unpack(retry):
            seconds = retry.retry_delay.ToNanoseconds() / 1e9
        else:
            assert detail.Unpack(info)
    assert info.reason == "QUOTA_EXCEEDED"
    return info.metadata["quota"], info.metadata["limit"], seconds


@asynchronous
async def test_single_messages_are_refused_and_bulk_ones_wait(tmp_path: Path) -> None:
    file = TokenFile(tmp_path / "tokens.json")
    _, text = file.create("app", ["*"], None, NOW, quota.read({"messages": "50/s"}))
    async with (
        server(tmp_path / "api.sock", tokens=file.path, require_token=True) as (node, backend, api),
        grpc.aio.insecure_channel(api.target) as channel,
    ):
        metadata = (("authorization", f"Bearer {text}"),)
        stub = pubsub_pb2_grpc.PubSubServiceStub(channel)
        message = pubsub_pb2.PublishRequest(topic="news", data=b"x")
        calls = [stub.Publish(message, metadata=metadata) for _ in range(200)]
        codes = [await call.code() for call in calls]
        assert codes.count(grpc.StatusCode.RESOURCE_EXHAUSTED) > 100
        assert len(node.of(gossip.Published)) == codes.count(grpc.StatusCode.OK) >= 50
        name, limit, retry = await refused(calls[codes.index(grpc.StatusCode.RESOURCE_EXHAUSTED)])
        assert (name, limit) == ("messages", "50/s")
        assert retry

        async def frames() -> AsyncIterator[pubsub_pb2.PublishManyRequest]:
            for _ in range(4):
                yield pubsub_pb2.PublishManyRequest(topic="news", messages=[common_pb2.OutgoingMessage(data=b"y")] * 10)

        receipts = [
            receipt async for response in stub.PublishMany(frames(), metadata=metadata) for receipt in response.receipts
        ]
        assert sum(receipt.count for receipt in receipts) == 40  # all, later
        assert backend.statistics().flat()["api_slowed_by_quota"] > 0


@asynchronous
async def test_a_stream_that_waits_for_its_quota_ends_with_its_token(tmp_path: Path) -> None:
    file = TokenFile(tmp_path / "tokens.json")
    _, text = file.create("app", ["*"], None, NOW, quota.read({"messages": "1/h"}))
    _, other = file.create("other", ["node:read"], None, NOW)
    async with (
        server(tmp_path / "api.sock", tokens=file.path, require_token=True) as (node, _, api),
        grpc.aio.insecure_channel(api.target) as channel,
    ):
        stub = pubsub_pb2_grpc.PubSubServiceStub(channel)
        call = stub.PublishMany(metadata=(("authorization", f"Bearer {text}"),))
        for _ in range(3):
            await call.write(pubsub_pb2.PublishManyRequest(topic="a", messages=[common_pb2.OutgoingMessage(data=b"y")]))
        assert (await call.read()).receipts
        async with sidecar_client.connect(api.target, token=other) as watching:
            while not (await watching.statistics())["api_slowed_by_quota"]:
                pass
        file.revoke("app")
        assert await call.code() is grpc.StatusCode.UNAUTHENTICATED
        assert len(node.of(gossip.Published)) == 1
