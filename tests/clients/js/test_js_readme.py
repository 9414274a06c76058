"""The README's snippets do what it says: each is run by a Node of its own, against one of two real sidecars."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import sidecar_client

from tests.clients.js.npm_tools import CLIENT
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

SNIPPETS = re.findall(r"```js\n(.*?)```", (CLIENT / "README.md").read_text(), re.DOTALL)

# What a snippet that is no whole program stands in.
FRAME = """\
import {{ connect, Lagged, Refused, SidecarUnavailable, Unreachable }} from "@p2p-sidecar/client";

const node = await connect();
const peerId = "{peer_id}";
{body}
await node.close();
"""


@pytest.fixture(scope="module")
def pair(app: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    place = tmp_path_factory.mktemp("pair")
    (place / "node_modules").symlink_to(app / "node_modules")
    with pair_of_sidecars(place) as pair:
        for number, body in enumerate(SNIPPETS):
            whole = body if "await connect()" in body else FRAME.format(peer_id=pair.second_id, body=body)
            (place / f"snippet{number}.js").write_text(whole)
        yield pair


@contextlib.asynccontextmanager
async def snippet(which: str, pair: Pair) -> AsyncIterator[Running]:
    """Run the one snippet that has this text."""
    (number,) = [number for number, text in enumerate(SNIPPETS) if which in text]
    async with running_snippet(pair, "node", str(pair.first.home.parent / f"snippet{number}.js")) as running:
        yield running


case = Cases()


@case('node.subscribe("news").open()')
async def quick_start(pair: Pair, other: sidecar_client.Client) -> None:
    async with snippet('node.subscribe("news").open()', pair) as running:
        assert (await running.line()).split()[0] in ("SENT", "NO_PEERS")
        assert await running.ended() == f"{pair.first_id} hello\n"


@case("tls://")
async def giving_up(pair: Pair, other: sidecar_client.Client) -> None:
    async with snippet("tls://", pair) as running:
        told = "no sidecar answers at tls://127.0.0.1:1 (from the argument of connect): tried "
        assert (await running.ended()).startswith(told)


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
        assert await running.line() == f"{pair.second_id} hi"


@case('"/clock/1", "now?"')
async def request(pair: Pair, other: sidecar_client.Client) -> None:
    async def answer(request: sidecar_client.Request) -> bytes:
        return b"late"

    async with other.serve("/clock/1", answer), snippet('"/clock/1", "now?"', pair) as running:
        assert await running.ended() == "late\n"


@case("await node.serve(")
async def serve(pair: Pair, other: sidecar_client.Client) -> None:
    async with snippet("await node.serve(", pair) as running:
        await answers_the_time(pair, other)
        running.process.terminate()
        assert await running.ended() == ""


@case("AbortSignal.timeout(")
async def cancelling(pair: Pair, other: sidecar_client.Client) -> None:
    cancelled = asyncio.Event()

    async def answer(request: sidecar_client.Request) -> bytes:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        return b""

    async with other.serve("/slow/1", answer), snippet("AbortSignal.timeout(", pair) as running:
        assert await running.ended() == "TimeoutError\n"
        await cancelled.wait()


@case("Promise.all(")
async def many_at_once(pair: Pair, other: sidecar_client.Client) -> None:
    async with snippet("Promise.all(", pair) as running:
        assert await running.ended() == "10000 NO_PEERS\n"


@case("node.publishMany(")
async def bulk(pair: Pair, other: sidecar_client.Client) -> None:
    async with snippet("node.publishMany(", pair) as running:
        assert await running.ended() == "[ '0 10000 NO_PEERS' ]\n"


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
        assert await running.line() == "read"


@case("requestId:")
async def once(pair: Pair, other: sidecar_client.Client) -> None:
    async with snippet("requestId:", pair) as running:
        assert (await running.ended()).strip() in ("SENT", "NO_PEERS")


@case("acceptStreams")
async def accept(pair: Pair, other: sidecar_client.Client) -> None:
    async with snippet("acceptStreams", pair):
        await echoes(pair, other, bytes(200_000))


@case("node.openStream(")
async def open_stream(pair: Pair, other: sidecar_client.Client) -> None:
    async with other.accept_streams("/echo/1") as streams, snippet("node.openStream(", pair) as running:
        async with await anext(aiter(streams)) as stream:
            await stream.write(await stream.read())
            await stream.close_write()
        assert await running.ended() == "speaking /echo/1\nhello"


@case("node.connectPeer(")
async def errors(pair: Pair, other: sidecar_client.Client) -> None:
    async with snippet("node.connectPeer(", pair) as running:
        assert re.fullmatch("not there [A-Z_]+ UNAVAILABLE\n", await running.ended())


@case("node.watchPeers()")
async def watching(pair: Pair, other: sidecar_client.Client) -> None:
    async with snippet("node.watchPeers()", pair) as running:
        wanted = ["true", f"PRESENT {pair.second_id} ", "CURRENT undefined "]
        assert [await running.line() for _ in wanted] == wanted


@case("node.banPeer(")
async def banning(pair: Pair, other: sidecar_client.Client) -> None:
    async with snippet("node.banPeer(", pair) as running:
        assert await running.line() == "0 []"
        assert re.fullmatch(r"203\.0\.113\.0/24 scans [0-9.]+ 0\n", await running.ended())


@case("node.advertise(")
async def advertise(pair: Pair, other: sidecar_client.Client) -> None:
    async with other.advertise("weather"), snippet("node.advertise(", pair) as running:
        said = await running.ended()
        assert "holders: 1" in said
        assert re.search(rf"^{pair.second_id} \[ '/ip4/127\.0\.0\.1/tcp/\d+", said, re.MULTILINE)


@case("node.probe(")
async def probing(pair: Pair, other: sidecar_client.Client) -> None:
    async with other.subscribe("news"), sidecar_client.connect(f"unix:{pair.first.socket}") as here:
        await here.publish("news", b"the topic's peer is known", minimum_peers=1)
        async with snippet("node.probe(", pair) as running:
            for number in range(5):
                assert re.fullmatch(rf"{pair.second_id} {number} \d+(\.\d+)?", await running.line())
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
