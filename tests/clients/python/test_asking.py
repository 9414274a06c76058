"""Requests that are made while others are under way: they travel together, each with its own answer."""

import asyncio
from pathlib import Path

import grpc
import pytest
import sidecar_client
from sidecar_client import errors as client_errors

from sidecar.core import direct, errors
from tests.api.fakes import OTHER_TEXT, THIRD, FakeNode, asynchronous, served, server
from tests.clients.python.test_connecting import Flaky, serving
from tests.clients.python.test_joining import begin, fed, queued

pytestmark = pytest.mark.usefixtures("each_client_engine")

CHAT = "/chat/1"


def answer(node: FakeNode, made: direct.RequestMade, reply: bytes | errors.SidecarError) -> None:
    node.on_news(direct.RequestCompleted(made.op, reply))


@asynchronous
async def test_many_at_once_are_answered_in_any_order(tmp_path: Path) -> None:
    async with served(tmp_path) as (node, backend, _, client):
        peers = (OTHER_TEXT, str(THIRD))
        idle = backend.statistics().flat()["api_streams"]
        calls = begin(*(client.request(peers[n % 2], f"/p/{n % 3}", b"%d" % n) for n in range(500)))
        await fed(node, direct.RequestMade, 500)
        assert backend.statistics().flat()["api_streams"] == idle + 1
        for made in reversed(node.of(direct.RequestMade)):
            answer(node, made, b"re " + made.data + made.protocol.encode())
        assert await asyncio.gather(*calls) == [b"re %d/p/%d" % (n, n % 3) for n in range(500)]
        for made, (n, peer) in zip(
            sorted(node.of(direct.RequestMade), key=lambda made: int(made.data)), enumerate(peers * 250), strict=True
        ):
            assert (str(made.peer), made.protocol) == (peer, f"/p/{n % 3}")
        await client.close()
        while backend.statistics().flat()["api_streams"] > idle:  # the one call does not outlive the client
            await queued()


@asynchronous
async def test_each_has_its_own_error(tmp_path: Path) -> None:
    async with served(tmp_path) as (node, _, _, client):
        first = begin(client.request(OTHER_TEXT, CHAT, b"first"))
        await fed(node, direct.RequestMade, 1)
        calls = begin(
            client.request(OTHER_TEXT, CHAT, b"refused"),
            client.request("nobody", CHAT, b""),
            client.request(OTHER_TEXT, CHAT, b"full"),
            client.request(OTHER_TEXT, CHAT, b"fine"),
        )
        await fed(node, direct.RequestMade, 4)
        replies = {b"refused": errors.Refused("not you"), b"full": errors.QueueFull("full"), b"fine": b"yes"}
        for made in node.of(direct.RequestMade)[1:]:
            answer(node, made, replies[made.data])
        refused, malformed, full, fine = await asyncio.gather(*calls, return_exceptions=True)
        assert (type(refused), str(refused)) == (client_errors.Refused, "not you")
        assert isinstance(malformed, client_errors.InvalidPeerId)
        assert malformed.field == "peer_id"
        assert isinstance(full, client_errors.QueueFull)
        assert full.retry_after == 0.1
        assert fine == b"yes"
        answer(node, node.of(direct.RequestMade)[0], b"alone")
        assert await asyncio.gather(*first) == [b"alone"]


@asynchronous
async def test_cancelling_and_deadlines_withdraw_one_of_many(tmp_path: Path) -> None:
    async with served(tmp_path) as (node, backend, _, client):
        calls = begin(*(client.request(OTHER_TEXT, CHAT, b"%d" % n, timeout=20) for n in range(4)))
        await fed(node, direct.RequestMade, 4)
        made = {int(one.data): one for one in node.of(direct.RequestMade)}
        assert 10 < made[3].deadline - backend.now() <= 20
        calls[2].cancel()
        assert (await node.wait_for(direct.RequestCancelled)).op == made[2].op
        late = begin(client.request(OTHER_TEXT, CHAT, b"late", timeout=0.05))
        with pytest.raises(sidecar_client.DeadlineExceeded):
            await late[0]
        await fed(node, direct.RequestCancelled, 2)
        for number in (0, 1, 3):
            answer(node, made[number], b"yes")
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert results[:2] + results[3:] == [b"yes"] * 3
        assert isinstance(results[2], asyncio.CancelledError)


@asynchronous
async def test_a_lost_sidecar_and_a_closed_client_are_told_to_all(tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    async with server(path) as (node, _, api):
        client = sidecar_client.connect(api.target)
        await client.__aenter__()
        calls = begin(*(client.request(OTHER_TEXT, CHAT, b"") for _ in range(5)))
        await fed(node, direct.RequestMade, 5)
    for result in await asyncio.gather(*calls, return_exceptions=True):
        assert isinstance(result, client_errors.Closed | client_errors.SidecarUnavailable)
    async with server(path) as (node, _, _):
        node.answers[direct.RequestMade] = b"back"
        assert await asyncio.gather(*(client.request(OTHER_TEXT, CHAT, b"") for _ in range(5))) == [b"back"] * 5
        node.answers[direct.RequestMade] = None
        calls = begin(*(client.request(OTHER_TEXT, CHAT, b"") for _ in range(5)))
        await fed(node, direct.RequestMade, 10)
        await client.close()
        for result in await asyncio.gather(*calls, return_exceptions=True):
            assert isinstance(result, client_errors.Closed)


@asynchronous
async def test_what_could_harm_others_goes_apart(tmp_path: Path) -> None:
    async with served(tmp_path, max_request_bytes=1_000_000) as (node, _, _, client):
        node.answers[direct.RequestMade] = None
        calls = begin(client.request(OTHER_TEXT, CHAT, b"1"), client.request(OTHER_TEXT, CHAT, b"2"))
        await fed(node, direct.RequestMade, 2)
        apart = begin(
            client.request("", CHAT, b"to nobody"),
            client.request(OTHER_TEXT, "", b"for nothing"),
            client.request(OTHER_TEXT, CHAT, bytes(2_000_000)),
            client.request(OTHER_TEXT, CHAT, "text"),  # type: ignore[arg-type]
        )
        kinds = [type(result) for result in await asyncio.gather(*apart, return_exceptions=True)]
        assert kinds == [client_errors.InvalidPeerId, client_errors.InvalidArgument, client_errors.TooLarge, TypeError]
        calls += begin(client.request(OTHER_TEXT, CHAT, b"3", timeout=1e9))
        await fed(node, direct.RequestMade, 3)
        assert [made.data for made in node.of(direct.RequestMade)] == [b"1", b"2", b"3"]
        for made in node.of(direct.RequestMade):
            answer(node, made, b"yes")
        assert await asyncio.gather(*calls) == [b"yes"] * 3


@asynchronous
async def test_what_cannot_have_arrived_is_asked_again(tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    client = sidecar_client.connect(str(path))
    calls = begin(*(client.request(OTHER_TEXT, CHAT, b"%d" % n, timeout=15) for n in range(5)))
    calls += begin(client.request(OTHER_TEXT, CHAT, b"soon", timeout=0.2))
    with pytest.raises((client_errors.SidecarUnavailable, client_errors.DeadlineExceeded)):
        await calls.pop()
    node = FakeNode()
    node.answers[direct.RequestMade] = b"late"
    async with server(path, node):
        assert await asyncio.gather(*calls) == [b"late"] * 5
        assert sorted(made.data for made in node.of(direct.RequestMade)) == [b"%d" % n for n in range(5)]
        await client.close()


@asynchronous
async def test_a_sidecar_that_is_older_is_asked_one_by_one(tmp_path: Path) -> None:
    place = f"unix:{tmp_path / 'api.sock'}"
    flaky = Flaky(0, grpc.StatusCode.UNAVAILABLE)
    async with serving(place, methods=flaky.methods()), sidecar_client.connect(place) as client:
        answers = await asyncio.gather(*(client.request(OTHER_TEXT, CHAT, b"x") for _ in range(50)))
        assert answers == [b"answer"] * 50
