"""Kademlia between sidecars and peers."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import sidecar_client

from sidecar.core.kademlia import KademliaConfig
from sidecar.core.kademlia.messages import MessageType, decode_answer, encode_put_value, encode_question
from tests.interop.cells import LANGUAGES, NETWORK, NotOffered, cell
from tests.interop.ours import Ours, connect, our_sidecar, pair, plain
from tests.interop.peer import TIMEOUT, Peer, PeerError, Stage, Unsupported
from tests.interop.wire import dial

KADEMLIA = f"/sidecar/{NETWORK}/kad/1.0.0"
NAMESPACES = ("--dht-namespaces", "interop=greatest:refuse_prefix=bad")  # the rule of the peers
KEY = b"/interop/motd"
TTL = 2.0  # seconds
NODES = 20
SEARCHES = 10


@asynccontextmanager
async def both_serve(language: str, home: Path, *flags: str, **options: Any) -> AsyncIterator[tuple[Ours, Peer]]:
    """A sidecar and a peer that are in each other's routing table."""
    async with pair(language, home, flags=(*NAMESPACES, *flags), dht="server", **options) as (ours, peer):
        await peer.event("dht_peer", peer_id=ours.peer_id)
        yield ours, peer


@cell("kad-dht", "FIND_NODE: we find whom only they know", quick=True)
def test_we_find_a_node_that_only_the_peer_knows(language: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with Stage() as stage, our_sidecar(tmp_path) as ours:
            peer, sought = await asyncio.gather(
                stage.start(language, "peer", network=NETWORK, dht="server"),
                stage.start(language, "sought", network=NETWORK, dht="server"),
            )
            await sought.call("connect", address=peer.address)
            await peer.event("dht_peer", peer_id=sought.peer_id)
            await connect(ours, peer, we_dial=True)
            found = await ours.client.find_peer(sought.peer_id, timeout=TIMEOUT)
            assert plain([sought.address]) <= plain(found)
            assert (await ours.client.connect_peer(sought.peer_id, timeout=TIMEOUT)).peer_id == sought.peer_id

    asyncio.run(scenario())


@cell("kad-dht", "FIND_NODE: they find whom only we know", quick=True)
def test_the_peer_finds_a_node_that_only_we_know(language: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with Stage() as stage, our_sidecar(tmp_path) as ours:
            seeker, sought = await asyncio.gather(
                stage.start(language, "seeker", network=NETWORK, dht="server"),
                stage.start(language, "sought", network=NETWORK, dht="server"),
            )
            await connect(ours, sought, we_dial=False)
            await connect(ours, seeker, we_dial=False)
            await seeker.event("dht_peer", peer_id=ours.peer_id)
            found = await seeker.call("find_peer", peer_id=sought.peer_id)
            assert plain([sought.address]) <= plain(found["addresses"])
            assert ours.peer_id in (await seeker.call("closest_peers", peer_id=sought.peer_id))["peers"]

    asyncio.run(scenario())


@asynccontextmanager
async def one_serves(language: str, home: Path, *, we_serve: bool) -> AsyncIterator[tuple[Ours, Ours, Peer, Peer]]:
    """Two sidecars and two peers, where all the others, clients, know only the one that serves.

    What a client puts is kept by the server alone beside itself, and what the other client gets is the server's answer.
    """
    async with Stage() as stage, AsyncExitStack() as ends:
        ours = [
            await ends.enter_async_context(
                our_sidecar(
                    home / str(number), *NAMESPACES, "--dht-mode", "server" if we_serve and not number else "client"
                )
            )
            for number in range(2)
        ]
        peers = [
            await stage.start(
                language, f"peer {number}", network=NETWORK, dht="client" if we_serve or number else "server"
            )
            for number in range(2)
        ]
        if we_serve:
            for peer in peers:
                await connect(ours[0], peer, we_dial=False)
                await peer.event("dht_peer", peer_id=ours[0].peer_id)
        else:
            for one in ours:
                await connect(one, peers[0], we_dial=True)
        yield ours[0], ours[1], peers[0], peers[1]


@cell("kad-dht", "PUT_VALUE and GET_VALUE at them, by us")
def test_we_put_and_get_at_them(language: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with one_serves(language, tmp_path, we_serve=False) as (putting, getting, _, _):
            receipt = await putting.client.put_record("/interop/ours", b"value of ours", quorum=1, timeout=TIMEOUT)
            assert receipt.stored == 1
            record = await getting.client.get_record("/interop/ours", timeout=TIMEOUT)
            assert (record.value, record.holders) == (b"value of ours", 1)

    asyncio.run(scenario())


@cell("kad-dht", "PUT_VALUE and GET_VALUE at us, by them")
def test_they_put_and_get_at_us(language: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with one_serves(language, tmp_path, we_serve=True) as (ours, _, putting, getting):
            await putting.call_bytes("put_value", key=b"/interop/theirs", value=b"value of theirs")
            assert (await ours.client.statistics())["dht_records"] == 1
            assert (await getting.call_bytes("get_value", key=b"/interop/theirs"))["value"] == b"value of theirs"

    asyncio.run(scenario())


@cell("kad-dht", "the better of two values wins at both sides")
def test_the_better_value_wins(language: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with both_serve(language, tmp_path) as (ours, peer):
            await ours.client.put_record("/interop/two", b"1 worse", quorum=1, timeout=TIMEOUT)
            await peer.call_bytes("put_value", key=b"/interop/two", value=b"2 better")
            assert (await ours.client.get_record("/interop/two", timeout=TIMEOUT)).value == b"2 better"
            with pytest.raises(sidecar_client.Outdated):
                await ours.client.put_record("/interop/two", b"1 worse", quorum=1, timeout=TIMEOUT)
            await ours.client.put_record("/interop/two", b"3 best", quorum=1, timeout=TIMEOUT)
            assert (await peer.call_bytes("get_value", key=b"/interop/two"))["value"] == b"3 best"

    asyncio.run(scenario())


@cell("kad-dht", "an invalid value is refused: by both before it is sent, and by them when it is")
def test_an_invalid_value_is_refused(language: str, tmp_path: Path) -> None:
    async def on_the_wire(peer: Peer) -> None:
        wire = await dial(peer)
        for value, kept in ((b"bad", False), (b"good", True)):
            with contextlib.suppress(ConnectionResetError):  # most refuse so, rust answers as if nothing had been
                await wire.ask(KADEMLIA, encode_put_value(KEY, value))
            frame = await wire.ask(KADEMLIA, encode_question(MessageType.GET_VALUE, KEY))
            record = decode_answer(frame, MessageType.GET_VALUE, KademliaConfig()).record
            assert (record is not None and record.value == value) is kept
        wire.close()

    async def scenario() -> None:
        async with both_serve(language, tmp_path) as (ours, peer):
            with pytest.raises(sidecar_client.InvalidArgument):
                await ours.client.put_record("/interop/bad", b"bad of ours", timeout=TIMEOUT)
            try:
                await peer.call_bytes("put_value", key=b"/interop/bad", value=b"bad of theirs")
            except Unsupported:
                raise
            except PeerError:
                pass  # most refuse it before it is sent; the others hear that we did
            with pytest.raises(sidecar_client.NotFound):
                await ours.client.get_record("/interop/bad", timeout=TIMEOUT)
            await on_the_wire(peer)

    asyncio.run(scenario())


@cell("kad-dht", "GET_PROVIDERS at them, by us")
def test_we_provide_and_find_at_them(language: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with (
            one_serves(language, tmp_path, we_serve=False) as (providing, finding, _, _),
            providing.client.advertise("ours"),
        ):
            found: list[str] = []
            async with asyncio.timeout(TIMEOUT):
                while not found:
                    found = [one.peer_id async for one in finding.client.find_peers("ours", timeout=TIMEOUT)]
            assert found == [providing.peer_id]

    asyncio.run(scenario())


@cell("kad-dht", "ADD_PROVIDER: provided by them, found by us")
def test_they_provide_and_we_find(language: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with both_serve(language, tmp_path) as (ours, peer):
            await peer.call("provide", name="theirs")
            found = [one.peer_id async for one in ours.client.find_peers("theirs", timeout=TIMEOUT)]
            assert found == [peer.peer_id]

    asyncio.run(scenario())


@cell("kad-dht", "ADD_PROVIDER: provided by us, found by them", quick=True)
def test_we_provide_and_they_find(language: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with both_serve(language, tmp_path) as (ours, peer), ours.client.advertise("printers"):
            async with asyncio.timeout(TIMEOUT):
                found: list[str] = []
                while ours.peer_id not in found:
                    answer = await peer.call("find_providers", name="printers", count=1)
                    found = [provider["peer_id"] for provider in answer["peers"]]

    asyncio.run(scenario())


@cell("kad-dht", "client mode respected: clients are in nobody's routing table", quick=True)
def test_client_mode(language: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with Stage() as stage, our_sidecar(tmp_path, *NAMESPACES, "--dht-mode", "client") as ours:
            server = await stage.start(language, "server", network=NETWORK, dht="server")
            client = await stage.start(language, "client", network=NETWORK, dht="client")
            for peer in (server, client):
                await connect(ours, peer, we_dial=True)
            await client.call("connect", address=server.address)
            await ours.client.put_record(KEY, b"by a client", quorum=1, timeout=TIMEOUT)  # the server takes it
            if language != "py":
                assert not {ours.peer_id, client.peer_id} & {*(await server.call("dht_peers"))["peers"]}
            (shown,) = [peer async for peer in ours.client.peers() if peer.peer_id == client.peer_id]
            assert not any("/kad/" in protocol for protocol in shown.protocols)
            assert (await client.call_bytes("get_value", key=KEY))["value"] == b"by a client"
            if language == "py":
                raise NotOffered(
                    "clients are in its routing table once they have asked it something: KadDHT._do_handle_stream in"
                    " kad_dht/kad_dht.py adds whoever sends a message"
                )

    asyncio.run(scenario())


@cell("kad-dht", "expiry: what we keep for them ends")
def test_our_expiry(language: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        ttls = ("--dht-record-ttl", str(TTL), "--dht-provider-ttl", str(TTL), "--dht-provide-interval", str(TTL / 2))
        async with both_serve(language, tmp_path, *ttls) as (ours, peer):
            await peer.call("provide", name="scanners")
            await peer.call_bytes("put_value", key=KEY, value=b"for a while")
            kept = await ours.client.statistics()
            assert (kept["dht_records"], kept["dht_providers"]) == (1, 1)
            async with asyncio.timeout(TIMEOUT):
                while True:
                    kept = await ours.client.statistics()
                    if not kept["dht_records"] and not kept["dht_providers"]:
                        break

    asyncio.run(scenario())


@cell("kad-dht", "expiry: what they keep for us ends")
def test_their_expiry(language: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with both_serve(language, tmp_path, record_ttl=int(TTL)) as (ours, peer):
            await ours.client.put_record(KEY, b"for a while", quorum=1, timeout=TIMEOUT)
            assert (await peer.call_bytes("get_value", key=KEY))["value"] == b"for a while"
            ours.process.terminate()  # it keeps the value too; another one that does not asks now
            async with our_sidecar(tmp_path / "other", *NAMESPACES) as other:
                await connect(other, peer, we_dial=True)
                async with asyncio.timeout(TIMEOUT):
                    while True:
                        try:
                            await other.client.get_record(KEY, timeout=TIMEOUT)
                        except sidecar_client.NotFound:
                            break

    asyncio.run(scenario())


@cell("kad-dht", "lookups through a mixed network of 20", each=False)
def test_mixed_network(tmp_path: Path) -> None:
    """A tree, so that nobody knows all; each search is for a node that may be five steps away."""
    seed = random.randrange(1 << 32)
    rng = random.Random(seed)
    kinds = [("ours", *LANGUAGES)[number % (1 + len(LANGUAGES))] for number in range(NODES)]

    async def start(stage: Stage, ends: AsyncExitStack, number: int) -> Ours | Peer:
        if kinds[number] == "ours":
            return await ends.enter_async_context(our_sidecar(tmp_path / str(number)))
        return await stage.start(kinds[number], f"node {number}", network=NETWORK, dht="server")

    async def scenario() -> None:
        async with AsyncExitStack() as ends:
            stage = await ends.enter_async_context(Stage())
            nodes = [await start(stage, ends, number) for number in range(NODES)]
            for number, node in enumerate(nodes[1:], 1):
                parent = nodes[(number - 1) // 2]
                if isinstance(node, Ours):
                    await node.client.connect_peer(addresses=[parent.address], timeout=TIMEOUT)
                else:
                    await node.call("connect", address=parent.address)
            for _ in range(SEARCHES):
                seeker, sought = rng.sample(nodes, 2)
                async with asyncio.timeout(2 * TIMEOUT):
                    while plain([sought.address]).isdisjoint(await search(seeker, sought.peer_id)):
                        pass

    try:
        asyncio.run(scenario())
    except BaseException as error:
        error.add_note(f"seed {seed}")
        raise


async def search(seeker: Ours | Peer, peer_id: str) -> set[str]:
    """The addresses found; none while the network has not settled."""
    try:
        if isinstance(seeker, Ours):
            return plain(await seeker.client.find_peer(peer_id, timeout=TIMEOUT))
        return plain((await seeker.call("find_peer", peer_id=peer_id))["addresses"])
    except (sidecar_client.NotFound, PeerError):
        return set()
