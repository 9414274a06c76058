"""The README's snippets do what it says: each is run by a Python of its own, against one of two real sidecars."""

import contextlib
import os
import re
import sys
import textwrap
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import sidecar_client

from tests.clients.snippets import (
    Cases,
    Pair,
    Running,
    answers_the_time,
    echoes,
    pair_of_sidecars,
    running_snippet,
    subscribed,
)

README = Path(__file__).resolve().parents[3] / "clients/python/README.md"
SNIPPETS = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)

# What a snippet that is no whole program stands in.
FRAME = """\
import asyncio
import time

import sidecar_client


async def main() -> None:
    async with sidecar_client.connect() as node:
        peer_id = {peer_id!r}
{body}


asyncio.run(main())
"""


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    with pair_of_sidecars(tmp_path_factory.mktemp("pair")) as pair:
        yield pair


@contextlib.asynccontextmanager
async def snippet(which: str, pair: Pair) -> AsyncIterator[Running]:
    """Run the one snippet that has this text."""
    (body,) = [text for text in SNIPPETS if which in text]
    if "asyncio.run" not in body:
        body = FRAME.format(peer_id=pair.second_id, body=textwrap.indent(body, " " * 8))
    paths = {name: os.environ[name] for name in ("PYTHONPATH",) if name in os.environ}
    async with running_snippet(pair, sys.executable, "-W", "error", "-c", body, environ=paths) as running:
        yield running


case = Cases()


@case('node.subscribe("news") as news')
async def quick_start(pair: Pair, other: sidecar_client.Client) -> None:
    async with snippet('node.subscribe("news") as news', pair) as running:
        assert (await running.line()).split()[0] in ("SENT", "NO_PEERS")
        assert await running.line() == f"{pair.first_id} b'hello'"
        await other.publish("news", b"to you too", minimum_peers=1)
        assert await running.line() == f"{pair.second_id} b'to you too'"


@case("tls://")
async def giving_up(pair: Pair, other: sidecar_client.Client) -> None:
    async with snippet("tls://", pair) as running:
        told = await running.ended()
        assert re.match(
            r"no sidecar answers at tls://127\.0\.0\.1:1 \(as given\): tried \d times in 0\.\d s; last: ", told
        )


@case("await node.send(")
async def send(pair: Pair, other: sidecar_client.Client) -> None:
    async with other.receive("/chat/1") as receiver, snippet("await node.send(", pair) as running:
        assert (await anext(aiter(receiver))).data == b"hi"
        assert await running.ended() == "DELIVERED \n"


@case("node.receive(")
async def receive(pair: Pair, other: sidecar_client.Client) -> None:
    async with snippet("node.receive(", pair) as running:
        while (await other.send(pair.first_id, "/chat/1", b"hi")).outcome.name == "NO_SUBSCRIBER":
            pass
        assert await running.line() == f"{pair.second_id} b'hi'"


@case("await node.request(")
async def request(pair: Pair, other: sidecar_client.Client) -> None:
    async def answer(request: sidecar_client.Request) -> bytes:
        return b"late"

    async with other.serve("/clock/1", answer), snippet("await node.request(", pair) as running:
        assert await running.ended() == "late\n"


@case("await node.serve(")
async def serve(pair: Pair, other: sidecar_client.Client) -> None:
    async with snippet("await node.serve(", pair):
        await answers_the_time(pair, other)


@case("asyncio.gather(")
async def many_at_once(pair: Pair, other: sidecar_client.Client) -> None:
    async with snippet("asyncio.gather(", pair) as running:
        assert (await running.ended()).split() == ["10000", "NO_PEERS"]


@case("node.publish_many(")
async def bulk(pair: Pair, other: sidecar_client.Client) -> None:
    async with snippet("node.publish_many(", pair) as running:
        assert await running.ended() == "[(0, 10000, 'NO_PEERS')]\n"


@case(".batches()")
async def batches(pair: Pair, other: sidecar_client.Client) -> None:
    async with snippet(".batches()", pair) as running:
        await subscribed(pair, "ticks")
        await other.publish_many("ticks", [bytes(10)] * 100, minimum_peers=1)
        while int(await running.line()) < 1000:
            pass


@case(".events()")
async def events(pair: Pair, other: sidecar_client.Client) -> None:
    async with snippet(".events()", pair) as running:
        await subscribed(pair, "news")
        await other.publish("news", b"read", minimum_peers=1)
        assert await running.line() == "b'read'"


@case("request_id=")
async def once(pair: Pair, other: sidecar_client.Client) -> None:
    async with snippet("request_id=", pair) as running:
        assert (await running.ended()).strip() in ("SENT", "NO_PEERS")


@case("accept_streams")
async def accept(pair: Pair, other: sidecar_client.Client) -> None:
    async with snippet("accept_streams", pair):
        await echoes(pair, other, b"hello")


@case("node.open_stream(")
async def open_stream(pair: Pair, other: sidecar_client.Client) -> None:
    async with other.accept_streams("/echo/1") as streams, snippet("node.open_stream(", pair) as running:
        async with await anext(aiter(streams)) as stream:
            await stream.write(await stream.read())
            await stream.close_write()
        assert await running.ended() == "speaking /echo/1\nb'hello'\n"


@case("except sidecar_client.Unreachable")
async def errors(pair: Pair, other: sidecar_client.Client) -> None:
    async with snippet("except sidecar_client.Unreachable", pair) as running:
        assert re.match("not there [A-Z_]+ StatusCode.UNAVAILABLE\n", await running.ended())


@case("node.watch_peers()")
async def watching(pair: Pair, other: sidecar_client.Client) -> None:
    async with snippet("node.watch_peers()", pair) as running:
        assert [await running.line() for _ in range(3)] == ["True", f"PRESENT {pair.second_id} ", "CURRENT None "]


@case("node.ban_peer(")
async def banning(pair: Pair, other: sidecar_client.Client) -> None:
    async with snippet("node.ban_peer(", pair) as running:
        assert await running.line() == "0 ()"
        assert re.fullmatch(r"203\.0\.113\.0/24 scans [0-9.]+ 0\n", await running.ended())


@case("node.advertise(")
async def advertise(pair: Pair, other: sidecar_client.Client) -> None:
    async with other.advertise("weather"), snippet("node.advertise(", pair) as running:
        assert (await running.line()).startswith("Announcement(holders=")
        assert re.match(rf"{pair.second_id} \('/ip4/127\.0\.0\.1/tcp/\d+'", await running.ended())


@case("node.probe(")
async def probing(pair: Pair, other: sidecar_client.Client) -> None:
    async with other.subscribe("news"), sidecar_client.connect(f"unix:{pair.first.socket}") as here:
        await here.publish("news", b"the topic's peer is known", minimum_peers=1)
        async with snippet("node.probe(", pair) as running:
            for number in range(5):
                assert re.fullmatch(rf"{pair.second_id} {number} \d\.\d{{3}} s", await running.line())
            assert await running.ended() == "5 answers of 1 peers\n"


@case("node.validate(")
async def judging(pair: Pair, other: sidecar_client.Client) -> None:
    async with snippet("node.validate(", pair) as running:
        assert await running.ended() == "REJECTED\n"


def test_every_snippet_is_run() -> None:
    case.check(SNIPPETS)


@pytest.mark.parametrize("which", case)
def test_snippet(which: str, pair: Pair) -> None:
    case.play(which, pair)


def test_the_quick_start_is_short() -> None:
    assert SNIPPETS[0].count("\n") < 15
