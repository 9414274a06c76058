"""Judging messages through the API, against a node that is a fake."""

import asyncio
from pathlib import Path

import grpc
import pytest
from sidecar_client import Message, PublishOutcome, ValidationFallback, Verdict
from sidecar_client.v1 import pubsub_pb2

from sidecar.api.common.bounds import Bounds
from sidecar.api.pubsub.judging import ValidateStream
from sidecar.core import errors, gossip
from sidecar.core.gossip import (
    Fallback,
    MessagesToJudge,
    ValidationSettings,
    ValidatorAdded,
    ValidatorRemoved,
    VerdictsGiven,
)
from tests.api.fakes import OTHER_TEXT, FakeNode, asynchronous, message, served

BY_LETTER = {b"a": Verdict.ACCEPT, b"r": Verdict.REJECT, b"i": Verdict.IGNORE}


def by_letter(judged: Message) -> Verdict:
    return BY_LETTER[judged.data[:1]]


def ask(node: FakeNode, validator: int, first: int, *datas: bytes, topic: str = "news") -> None:
    node.on_news(MessagesToJudge(validator, topic, first, [message(data, topic) for data in datas]))


async def given(node: FakeNode, count: int) -> list[tuple[int, int, gossip.Verdict]]:
    """The verdicts that the node was given, once they cover so many messages."""
    while True:
        found = [part for fed in node.fed if isinstance(fed, VerdictsGiven) for part in fed.verdicts]
        if sum(part[1] for part in found) >= count:
            return found
        arrived = node.arrived.setdefault(VerdictsGiven, asyncio.Event())
        arrived.clear()
        await arrived.wait()


@asynchronous
async def test_messages_are_told_and_verdicts_come_back_as_ranges(tmp_path: Path) -> None:
    seen: list[Message] = []

    def judge(judged: Message) -> Verdict:
        seen.append(judged)
        return by_letter(judged)

    async with served(tmp_path) as (node, _, _, client), client.validate(["news", "other"], judge):
        added = await node.wait_for(ValidatorAdded)
        assert added.topics == {"news": None, "other": None}
        ask(node, added.validator, 5, b"a1", b"a2", b"r3", b"i4", b"i5")
        ask(node, added.validator, 90, b"r", topic="other")
        assert await given(node, 6) == [
            (5, 2, gossip.Verdict.ACCEPT),
            (7, 1, gossip.Verdict.REJECT),
            (8, 2, gossip.Verdict.IGNORE),
            (90, 1, gossip.Verdict.REJECT),
        ]
        assert [(each.topic, each.data, each.sender) for each in seen[::5]] == [
            ("news", b"a1", OTHER_TEXT),
            ("other", b"r", OTHER_TEXT),
        ]
        assert seen[0].message_id == message(b"a1").id
        assert not seen[0].local
    removed = await node.wait_for(ValidatorRemoved)
    assert removed == ValidatorRemoved(added.validator, lost=False)


@asynchronous
async def test_settings_go_with_the_fallback(tmp_path: Path) -> None:
    usual = ValidationSettings(timeout=3.0, max_waiting=7)
    async with served(tmp_path, validation=usual) as (node, _, _, client):
        async with client.validate("news", by_letter, fallback=ValidationFallback.HOLD):
            added = await node.wait_for(ValidatorAdded)
            assert added.topics == {"news": ValidationSettings(3.0, Fallback.HOLD, 7)}
        node.fed.clear()
        node.arrived.clear()
        async with client.validate(
            "news", by_letter, fallback=ValidationFallback.ACCEPT, timeout=0.25, max_waiting=100
        ):
            added = await node.wait_for(ValidatorAdded)
            assert added.topics == {"news": ValidationSettings(0.25, Fallback.ACCEPT, 100)}


@asynchronous
async def test_an_app_that_breaks_off_is_lost(tmp_path: Path) -> None:
    async with served(tmp_path) as (node, _, _, client):
        validator = client.validate("news", by_letter)
        await validator.__aenter__()
        await node.wait_for(ValidatorAdded)
        validator._messages.close()
        assert (await node.wait_for(ValidatorRemoved)).lost


@asynchronous
async def test_what_a_handler_raises_or_returns_otherwise_is_ignored_and_coroutines_answer_later(
    tmp_path: Path,
) -> None:
    open_: asyncio.Future[Verdict] = asyncio.get_running_loop().create_future()

    async def later() -> Verdict:
        return await open_

    def judge(judged: Message) -> object:
        if judged.data == b"raises":
            raise ValueError("odd")
        return later() if judged.data == b"later" else "odd" if judged.data == b"odd" else Verdict.ACCEPT

    async with served(tmp_path) as (node, _, _, client), client.validate("news", judge):  # type: ignore[arg-type]
        added = await node.wait_for(ValidatorAdded)
        ask(node, added.validator, 1, b"later", b"raises", b"odd", b"fine")
        assert await given(node, 3) == [(2, 2, gossip.Verdict.IGNORE), (4, 1, gossip.Verdict.ACCEPT)]
        open_.set_result(Verdict.REJECT)
        assert (await given(node, 4))[-1] == (1, 1, gossip.Verdict.REJECT)


@pytest.mark.parametrize(
    ("first", "field"),
    [
        ({}, "topics"),
        ({"topics": [""]}, "topics[0]"),
        ({"topics": ["news"], "fallback": 9}, "fallback"),
        ({"topics": ["news"], "max_waiting": 5}, "fallback"),
        ({"topics": ["news"], "verdicts": [{"first": 1, "count": 0, "verdict": 1}]}, "verdicts.count"),
        ({"topics": ["news"], "verdicts": [{"first": 1, "count": 1 << 40, "verdict": 1}]}, "verdicts.count"),
        ({"topics": ["news"], "verdicts": [{"first": 1, "count": 1}]}, "verdicts.verdict"),
    ],
)
def test_what_cannot_be_is_said(first: dict[str, object], field: str, tmp_path: Path) -> None:
    @asynchronous
    async def check() -> None:
        async with served(tmp_path) as (_, _, _, client):
            call = client._pubsub.Validate(iter([pubsub_pb2.ValidateRequest(**first)]))  # type: ignore[arg-type]
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await call.read()
            assert client._link.error(raised.value).field == field  # type: ignore[attr-defined]

    check()


@asynchronous
async def test_the_receipt_says_that_a_message_was_rejected(tmp_path: Path) -> None:
    async with served(tmp_path) as (node, _, _, client):
        node.outcome = gossip.PublishOutcome.REJECTED
        assert (await client.publish("news", b"x")).outcome is PublishOutcome.REJECTED


@asynchronous
async def test_another_call_follows_when_the_sidecar_ends_one(tmp_path: Path) -> None:
    async with served(tmp_path) as (node, backend, _, client), client.validate("news", by_letter):
        added = await node.wait_for(ValidatorAdded)
        ask(node, added.validator, 1, b"a")
        await given(node, 1)
        node.arrived.clear()
        backend.pubsub.judges._streams[added.validator].end(errors.Closed("the sidecar stops"))
        again = await node.wait_for(ValidatorAdded)
        ask(node, again.validator, 2, b"r")
        assert (await given(node, 2))[-1] == (2, 1, gossip.Verdict.REJECT)


def test_what_an_app_does_not_read_is_bounded_and_consecutive_numbers_go_together() -> None:
    stream = ValidateStream(1, ("news",), Bounds(4, 1 << 20))
    for first in (1, 2, 3, 10):
        stream.push(MessagesToJudge(1, "news", first, [message(b"%d" % first)]))
    told = pubsub_pb2.ValidateResponse.FromString(stream.take() or b"")
    assert (told.first, [each.data for each in told.messages]) == (1, [b"1", b"2", b"3"])
    told = pubsub_pb2.ValidateResponse.FromString(stream.take() or b"")
    assert (told.first, [each.data for each in told.messages]) == (10, [b"10"])
    assert stream.take() == b""
    for first in range(20, 26):
        stream.push(MessagesToJudge(1, "news", first, [message(b"x")]))
    assert stream.missed == 2
    told = pubsub_pb2.ValidateResponse.FromString(stream.take() or b"")
    assert (told.first, len(told.messages)) == (22, 4)
