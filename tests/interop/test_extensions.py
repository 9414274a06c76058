"""What is special in /meshsub/1.3.0: extensions, which each side says once, and skips where it does not know them."""

import asyncio
import os
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from sidecar_client import Subscription

from sidecar.core.gossip.messages import field
from sidecar.core.varint import encode
from sidecar.trace.reader import messages, records
from tests.interop.cells import NETWORK, SPOKEN, NotOffered, cell
from tests.interop.ours import Ours, connect, our_sidecar, pair
from tests.interop.peer import TIMEOUT, Peer, Stage
from tests.interop.wire import US, dial, signed_rpc

V13 = "/meshsub/1.3.0"
NO_EXTENSIONS = {"js": "@libp2p/gossipsub speaks /meshsub/1.2.0 at most, which it was seen to fall back to"}
TEST_EXTENSION = 6492434
UNKNOWN = 5365500  # of the numbers that are left to experiments; nobody has this one
OURS, THEIRS = 3, 2

Rpc = dict[str, Any]
Streams = dict[tuple[int, int, str], list[Rpc]]


def traced(trace: Path) -> dict[str, Streams]:
    """By peer the RPCs of each gossip stream, by connection, stream, and `out` or `in`, in order."""
    found: dict[str, Streams] = {}
    with trace.open("rb") as lines:
        for record, message in messages(records(lines)):
            if message is not None and message.kind == "gossip":
                key = record["connection"], record["stream"], record["direction"]
                found.setdefault(record["peer"], {}).setdefault(key, []).append(message.fields)
    return found


def said(streams: Streams, direction: str) -> Iterator[list[list[Rpc]]]:
    """For each stream in one direction, the extensions that each of its RPCs says."""
    for (_, _, way), rpcs in streams.items():
        if way == direction:
            yield [rpc.get("extensions", []) for rpc in rpcs]


@cell("gossip 1.3", "/meshsub/1.3.0 is agreed on; each side says its extensions first, and once", both_dial=True)
def test_extensions_are_said_first_and_once(language: str, we_dial: bool, tmp_path: Path) -> None:
    trace = tmp_path / "trace.jsonl"

    async def scenario() -> None:
        flags = ("--trace-wire", str(trace), "--api-linger", "0")
        async with pair(language, tmp_path / "home", we_dial=we_dial, flags=flags) as (ours, peer):
            await peer.call("subscribe", topic="news")
            for round_ in range(2):  # what is said later names topics, grafts and prunes
                async with ours.client.subscribe("news", skip_local=True) as subscription:
                    await peer.event("topic_peer", topic="news", peer_id=ours.peer_id, joined=True)
                    await ours.client.publish("news", b"to them", minimum_peers=1, timeout=TIMEOUT)
                    assert (await peer.message("news"))["data"] == b"to them"
                    if not round_:  # py-libp2p says nothing to whom it has pruned
                        await peer.publish("news", b"to us")
                        assert (await asyncio.wait_for(anext(aiter(subscription)), TIMEOUT)).data == b"to us"
                await peer.event("topic_peer", topic="news", peer_id=ours.peer_id, joined=False)
            spoken = (await peer.call("gossip_peers"))["peers"][ours.peer_id]
            assert spoken == SPOKEN[language]
            scores = await peer.call("scores")
            assert scores["lowest"].get(ours.peer_id, 0) >= 0
            seen = await ours.client.peer(peer.peer_id)
            assert seen.score is None or seen.score.score >= 0
        streams = traced(trace)[peer.peer_id]
        for first, *others in said(streams, "out"):
            assert first == ([{"lazy_links": True, "bundles": True}] if spoken == V13 else [])
            assert not any(others)
        theirs = list(said(streams, "in"))
        assert all(not any(others) for _, *others in theirs)
        if language in NO_EXTENSIONS:
            assert not any(first for first, *_ in theirs)
            raise NotOffered(NO_EXTENSIONS[language])
        assert [first for first, *_ in theirs] == [[{"lazy_links": False, "bundles": False}]]

    asyncio.run(scenario())


def frame(body: bytes) -> bytes:
    return encode(len(body)) + body


@cell("gossip 1.3", "extensions that they do not know are skipped; the test extension is answered", quick=True)
def test_extensions_of_ours(language: str) -> None:
    """A bare channel says that it knows lazy links, the test extension and one that nobody has, and uses all."""

    async def scenario() -> None:
        if language in NO_EXTENSIONS:
            raise NotOffered(NO_EXTENSIONS[language])
        numbers = (5365451, TEST_EXTENSION, UNKNOWN)
        say = frame(field(3, field(6, b"".join(encode(number << 3) + b"\x01" for number in numbers))))
        use = frame(b"".join(encode(number << 3 | 2) + b"\x00" for number in numbers))
        async with Stage() as stage, asyncio.timeout(TIMEOUT):
            peer = await stage.start(language, "peer")
            await peer.call("subscribe", topic="news")
            wire = await dial(peer, further=(V13,))
            await peer.event("identified", peer_id=str(US.peer_id))
            await wire.send(V13, say + use + signed_rpc(b"sound", 1, tampered=False))
            assert (await peer.message("news"))["data"] == b"sound"
            assert (await peer.call("scores"))["lowest"].get(str(US.peer_id), 0) >= 0
            theirs = await wire.told(V13, b"news")
            assert field(6, b"") in theirs or encode(TEST_EXTENSION << 3) + b"\x01" in theirs  # what they know
            if language == "go":
                await peer.event("test_extension", peer_id=str(US.peer_id))
                await wire.told(V13, encode(TEST_EXTENSION << 3 | 2) + b"\x00")
            wire.close()

    asyncio.run(scenario())


async def gather(subscription: Subscription, got: set[bytes], changed: asyncio.Event) -> None:
    async for message in subscription:
        got.add(message.data)
        changed.set()


@cell("gossip 1.3", "lazy links carry ids between sidecars, and to them nothing but messages")
def test_lazy_links_are_kept_to_those_that_know_them(language: str, tmp_path: Path) -> None:
    traces = [tmp_path / f"{number}.jsonl" for number in range(OURS)]

    async def scenario() -> None:
        async with Stage() as stage, AsyncExitStack() as ends, asyncio.TaskGroup() as tasks:
            sidecars: list[Ours] = []
            for number, trace in enumerate(traces):
                flags = ("--trace-wire", str(trace), "--peers-target", "0")
                sidecars.append(await ends.enter_async_context(our_sidecar(tmp_path / str(number), *flags)))
            theirs = [await stage.start(language, f"peer{number}", network=NETWORK) for number in range(THEIRS)]
            changed = asyncio.Event()
            got: list[set[bytes]] = [set() for _ in range(OURS + THEIRS)]
            reading: list[asyncio.Task[None]] = []
            for ours, mine in zip(sidecars, got, strict=False):
                subscription = await ends.enter_async_context(ours.client.subscribe("news", skip_local=True))
                reading.append(tasks.create_task(gather(subscription, mine, changed)))
            for peer, mine in zip(theirs, got[OURS:], strict=True):
                reading.append(tasks.create_task(gather_theirs(peer, mine, changed)))
                await peer.call("subscribe", topic="news")
            for number, ours in enumerate(sidecars):
                for other in sidecars[:number]:
                    await ours.client.connect_peer(addresses=[other.address], timeout=TIMEOUT)
                for peer in theirs:
                    await connect(ours, peer, we_dial=True)
                    await peer.event("graft", topic="news", peer_id=ours.peer_id)
            await theirs[0].call("connect", address=theirs[1].address)

            async with asyncio.timeout(4 * TIMEOUT):
                while not all([(await ours.client.statistics())["gossip_named_ids_sent"] for ours in sidecars]):
                    published = [os.urandom(300) for _ in got]
                    for data, node in zip(published, (*sidecars, *theirs), strict=True):
                        if isinstance(node, Ours):
                            await node.client.publish("news", data, minimum_peers=1, timeout=TIMEOUT)
                        else:
                            await node.publish("news", data)
                    for place, mine in enumerate(got):
                        while not mine >= {data for other, data in enumerate(published) if other != place}:
                            changed.clear()
                            await changed.wait()
            for task in reading:
                task.cancel()
        strangers = {peer.peer_id for peer in theirs}
        for trace in traces:
            named: set[str] = set()
            for peer_id, streams in traced(trace).items():
                rpcs = [rpc for (_, _, way), said_there in streams.items() if way == "out" for rpc in said_there]
                assert rpcs
                if any("named" in rpc for rpc in rpcs):
                    named.add(peer_id)
            assert named
            assert not named & strangers

    asyncio.run(scenario())


async def gather_theirs(peer: Peer, got: set[bytes], changed: asyncio.Event) -> None:
    while True:
        got.add((await peer.message("news", timeout=10 * TIMEOUT))["data"])
        changed.set()
