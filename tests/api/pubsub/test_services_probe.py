"""Probing through the API, against a node that is a fake."""

import asyncio
from pathlib import Path

import pytest
import sidecar_client
from sidecar_client import ProbeAnswer, ProbeSummary, Signing

from sidecar.core import errors, events, probe
from tests.api.fakes import OTHER, OTHER_TEXT, asynchronous, served

WHOLE = probe.ProbeSummary(20, 1, 0.5, 2, 1, 3, 2, 4.5, 6)


@asynchronous
async def test_answers_come_as_they_are_known_and_the_summary_last(tmp_path: Path) -> None:
    async with served(tmp_path) as (node, _, _, client):
        told = client.probe("news", messages=7, interval=0.25, answers=9, size=1000, exposed=True)
        first = asyncio.ensure_future(anext(told))
        asked = await node.wait_for(probe.ProbeRequested)
        assert asked == probe.ProbeRequested(asked.op, "news", 7, 0.25, 9, 1000, True, None)
        node.on_news(probe.ProbeAnswered(asked.op, probe.ProbeAnswer(OTHER, 3, 0.125, 0.0625, True)))
        assert await first == ProbeAnswer(OTHER_TEXT, 3, 0.125, 0.0625, True)
        node.on_news(probe.ProbeAnswered(asked.op, probe.ProbeAnswer(OTHER, 4, 1.5, 0.0625, False)))
        node.on_news(events.OperationCompleted(asked.op, WHOLE))
        rest = [news async for news in told]
        assert rest == [ProbeAnswer(OTHER_TEXT, 4, 1.5, 0.0625, False), ProbeSummary(*WHOLE)]


@asynchronous
async def test_what_is_not_said_has_a_default(tmp_path: Path) -> None:
    async with served(tmp_path) as (node, _, _, client):
        told = client.probe("news", signing=Signing.STRICT_NO_SIGN)
        first = asyncio.ensure_future(anext(told))
        asked = await node.wait_for(probe.ProbeRequested)
        assert asked == probe.ProbeRequested(asked.op, "news", 20, 1.0, 32, 0, False, False)
        node.on_news(events.OperationCompleted(asked.op, WHOLE))
        assert await first == ProbeSummary(*WHOLE)


@asynchronous
async def test_who_waits_no_longer_ends_it(tmp_path: Path) -> None:
    async with served(tmp_path) as (node, _, _, client):
        told = client.probe("news")
        first = asyncio.ensure_future(anext(told))
        asked = await node.wait_for(probe.ProbeRequested)
        first.cancel()
        await told.aclose()
        assert (await node.wait_for(events.OperationCancelled)).op == asked.op


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (errors.NotFound("nobody is in it"), sidecar_client.NotFound),
        (errors.Unreachable("no peer of it"), sidecar_client.Unreachable),
        (errors.NotSupported("2 of 3 do not speak it"), sidecar_client.NotSupported),
        (errors.ResourceExhausted("4 probes"), sidecar_client.ResourceExhausted),
        (errors.TooLarge("too many bytes"), sidecar_client.TooLarge),
    ],
)
def test_what_the_node_refuses_has_its_class(
    error: errors.SidecarError, raised: type[sidecar_client.SidecarError], tmp_path: Path
) -> None:
    @asynchronous
    async def check() -> None:
        async with served(tmp_path) as (node, _, _, client):
            first = asyncio.ensure_future(anext(client.probe("news")))
            asked = await node.wait_for(probe.ProbeRequested)
            node.on_news(events.OperationCompleted(asked.op, error))
            with pytest.raises(raised, match=str(error)):
                await first

    check()


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"topic": ""}, "topic"),
        ({"messages": 10_001}, "messages"),
        ({"interval": 0.05}, "interval"),
        ({"interval": 0.0}, "interval"),
        ({"interval": 3601.0}, "interval"),
        ({"answers": 257}, "answers"),
        ({"size": (64 << 20) + 1}, "size"),
    ],
)
def test_values_beyond_their_bounds_are_refused(wrong: dict[str, object], field: str, tmp_path: Path) -> None:
    @asynchronous
    async def check() -> None:
        async with served(tmp_path) as (node, _, _, client):
            with pytest.raises(sidecar_client.InvalidArgument) as raised:
                await anext(client.probe(**{"topic": "news", **wrong}))  # type: ignore[arg-type]
            assert raised.value.field == field
            assert node.of(probe.ProbeRequested) == []

    check()


@asynchronous
async def test_a_topic_spoken_otherwise_here_is_refused(tmp_path: Path) -> None:
    async with served(tmp_path) as (_, _, _, client), client.subscribe("news"):
        with pytest.raises(sidecar_client.TopicOptionsDiffer):
            await anext(client.probe("news", signing=Signing.STRICT_NO_SIGN))
