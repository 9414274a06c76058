"""NodeService and PeerService over a real Unix socket, against a node that is a fake."""

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import sidecar_client
from sidecar_client import Reachability

from sidecar.core import errors, events
from sidecar.core.multiaddr import Multiaddr
from tests.api.fakes import (
    ADDRESS,
    MAPPED,
    ME,
    ME_TEXT,
    OTHER,
    OTHER_TEXT,
    THIRD,
    asynchronous,
    peer_view,
    served,
)


@pytest.fixture
def restored_levels() -> Iterator[None]:
    names = (None, "asyncio", "grpc", "sidecar.api.server")
    before = {name: logging.getLogger(name).level for name in names}
    yield
    for name, level in before.items():
        logging.getLogger(name).setLevel(level)


@asynchronous
async def test_node(tmp_path: Path) -> None:
    async with served(tmp_path) as (node, _, _, client):
        info = await client.info()
        assert (info.peer_id, info.network, info.agent) == (ME_TEXT, "test", "sidecar/test")
        assert info.listening_addresses == info.announced_addresses == (str(ADDRESS),)
        assert info.reachability is Reachability.CONFIRMED
        (found,) = info.addresses
        assert (found.address, found.reachability) == (str(ADDRESS), Reachability.NOT_REACHABLE)
        assert (found.source, found.proofs, found.failures) == ("listening", 1, 3)
        mapping = info.port_mapping
        assert mapping is not None
        assert (mapping.state, mapping.message, mapping.remedy) == ("mapped", "mapped", "Do so.")
        assert (mapping.gateway, mapping.protocol) == ("192.168.1.1", "pcp")
        ends, lasts = mapping.ports
        assert (ends.address, ends.port, lasts.port, lasts.expire_time) == (str(MAPPED), 4747, 4748, None)
        assert ends.expire_time == pytest.approx(found.since + 595)
        assert 0 <= info.uptime < 60
        statistics = await client.statistics()
        assert (
            statistics.items() >= {"gossip_delivered": 3.0, "work_points_gossip": 0.5, "api_subscriptions": 0.0}.items()
        )
        node.met = False
        readiness = await client.readiness()
        assert not readiness.ready
        assert (readiness.conditions[0].reason, readiness.conditions[0].remedy) == ("NoAddress", "Set one.")


@asynchronous
async def test_histograms_come_with_the_statistics(tmp_path: Path) -> None:
    async with served(tmp_path) as (_, _, _, client):
        histograms = (await client.statistics()).histograms
        assert list(histograms) == ["gossip_echo_seconds", "gossip_propagation_seconds"]
        assert histograms["gossip_propagation_seconds"] == ((0.01, 0.1), (2, 0, 1), 5.015)


def record(text: str, *, level: int = logging.INFO, peer: str = "") -> logging.LogRecord:
    made = logging.LogRecord("sidecar.net", level, "", 1, text, (), None)
    made.created = 1_700_000_000.25
    made.__dict__["fields"] = {"peer": peer} if peer else {}
    return made


@asynchronous
async def test_the_log_is_watched(tmp_path: Path) -> None:
    async with served(tmp_path) as (_, backend, _, client):
        backend.log.handle(record("first", peer=OTHER_TEXT))
        backend.log.handle(record("only for the log", level=logging.DEBUG))
        watching = client.watch_events()
        first = await anext(watching)
        assert isinstance(first, sidecar_client.NodeEvent)
        assert first[1:] == ("info", "net", "first", {"peer": OTHER_TEXT})
        assert first.time == pytest.approx(1_700_000_000.25)
        await asyncio.to_thread(backend.log.handle, record("from\na thread", level=logging.WARNING))
        event = await anext(watching)
        assert isinstance(event, sidecar_client.NodeEvent)
        assert (event.severity, event.message, event.fields) == ("warning", "from\\na thread", {})
        await watching.aclose()


@asynchronous
async def test_a_slow_watcher_of_the_log_is_told_what_it_missed(tmp_path: Path) -> None:
    async with served(tmp_path) as (_, backend, _, client):
        for number in range(1200):
            backend.log.handle(record(f"line {number}"))
        watching = client.watch_events()
        seen = [await anext(watching) for _ in range(1000)]
        assert [event.message for event in seen if isinstance(event, sidecar_client.NodeEvent)] == [
            f"line {number}" for number in range(200, 1200)
        ]
        for number in range(3000):  # in one turn, so that the watcher cannot keep up
            backend.log.handle(record(f"burst {number}"))
        assert await anext(watching) == sidecar_client.Lagged(2000, sidecar_client.LagReason.SLOW_READER)
        event = await anext(watching)
        assert isinstance(event, sidecar_client.NodeEvent)
        assert event.message == "burst 2000"
        await watching.aclose()


@asynchronous
async def test_watchers_of_the_log_are_bounded(tmp_path: Path) -> None:
    async with served(tmp_path, max_watchers=1) as (_, backend, _, client):
        backend.log.handle(record("something"))
        watching = client.watch_events()
        await anext(watching)
        second = client.watch_events()
        with pytest.raises(sidecar_client.ResourceExhausted, match="watchers of the log"):
            await anext(second)
        await watching.aclose()


@asynchronous
async def test_levels_of_the_log_are_set(tmp_path: Path, restored_levels: None) -> None:
    async with served(tmp_path) as (_, _, _, client):
        assert await client.set_log_level("api.server", "debug") == ("info", {"api.server": "debug"})
        assert logging.getLogger("sidecar.api.server").isEnabledFor(logging.DEBUG)
        assert await client.set_log_level("", "error") == ("error", {"api.server": "debug"})
        assert await client.set_log_level("api.server", "") == ("error", {})
        assert not logging.getLogger("sidecar.api.server").isEnabledFor(logging.DEBUG)
        for part, level, said in (("nothing", "info", "no part"), ("api", "loud", "none of"), ("", "", "none of")):
            with pytest.raises(sidecar_client.InvalidArgument, match=said):
                await client.set_log_level(part, level)


@asynchronous
async def test_readiness_is_watched(tmp_path: Path) -> None:
    async with served(tmp_path) as (node, _, _, client):
        node.met = False
        watching = client.watch_readiness()
        assert not (await anext(watching)).ready
        node.met = True
        node.on_news(events.ReadinessChanged())
        assert (await anext(watching)).ready
        await watching.aclose()
        assert (await client.ready(timeout=5)).ready


@asynchronous
async def test_peers_page_by_page(tmp_path: Path) -> None:
    async with served(tmp_path) as (node, _, _, client):
        ids = [events.PeerId.from_public_key(bytes([number // 256, number % 256])) for number in range(1203)]
        node.views = [peer_view(peer, connected=index % 3 == 0) for index, peer in enumerate(ids)]
        assert [peer.peer_id async for peer in client.peers()] == [str(peer) for peer in sorted(ids)]
        connected = [peer async for peer in client.peers(connected_only=True)]
        assert len(connected) == 401
        assert connected[0].latency == 0.0125
        assert [p async for p in client.peers(protocol="/ipfs/ping/1.0.0")] == connected
        assert not [p async for p in client.peers(protocol="/none")]


@asynchronous
async def test_peer_operations(tmp_path: Path) -> None:
    async with served(tmp_path) as (node, _, _, client):
        far = Multiaddr.from_text("/ip4/192.0.2.1/tcp/9")
        node.answers[events.FindPeerRequested] = (ADDRESS, far)
        assert await client.find_peer(OTHER.cid()) == [str(ADDRESS), str(far)]
        node.answers[events.ConnectRequested] = peer_view()
        assert (await client.connect_peer(OTHER_TEXT)).connected
        await client.connect_peer(addresses=[f"{far}/p2p/{OTHER}"])
        await client.connect_peer(addresses=[str(far)])
        asked = [(fed.peer, fed.addresses) for fed in node.of(events.ConnectRequested)]
        assert asked == [(OTHER, ()), (OTHER, (far.with_peer(OTHER),)), (None, (far,))]
        node.answers[events.DisconnectRequested] = None
        await client.disconnect_peer(OTHER_TEXT)
        node.answers[events.PingRequested] = 0.25
        assert await client.ping_peer(OTHER_TEXT) == 0.25


@asynchronous
async def test_one_peer(tmp_path: Path) -> None:
    async with served(tmp_path) as (node, _, _, client):
        node.views = [peer_view(OTHER), peer_view(THIRD, connected=False)]
        assert [await client.peer(OTHER.cid())] == [peer async for peer in client.peers(connected_only=True)]
        assert not (await client.peer(str(THIRD))).connected
        node.views = [peer_view(THIRD)]
        with pytest.raises(sidecar_client.NotFound, match=OTHER_TEXT):
            await client.peer(OTHER_TEXT)
        with pytest.raises(sidecar_client.SelfDial):
            await client.peer(ME_TEXT)


@asynchronous
async def test_the_closest_peers(tmp_path: Path) -> None:
    async with served(tmp_path) as (node, _, _, client):
        node.answers[events.ClosestPeersRequested] = ((OTHER, (ADDRESS,)), (THIRD, ()))
        found = await client.closest_peers("/app/name")
        assert found == [
            sidecar_client.FoundPeer(OTHER_TEXT, (str(ADDRESS),)),
            sidecar_client.FoundPeer(str(THIRD), ()),
        ]
        assert await client.closest_peers(peer_id=THIRD.cid(), limit=1) == found[:1]
        assert await client.closest_peers(peer_id=ME_TEXT, limit=4_000_000_000) == found
        asked = [fed.key for fed in node.of(events.ClosestPeersRequested)]
        assert asked == [b"/app/name", bytes(THIRD), bytes(ME)]
        for wrong in ({}, {"key": b"k", "peer_id": OTHER_TEXT}, {"key": bytes(1025)}):
            with pytest.raises(sidecar_client.InvalidArgument) as caught:
                await client.closest_peers(**wrong)
            assert caught.value.field == "key"
        with pytest.raises(sidecar_client.InvalidPeerId):
            await client.closest_peers(peer_id="/app/name")
        node.answers[events.ClosestPeersRequested] = ()
        assert await client.closest_peers(b"\xff" * 1024) == []


@asynchronous
async def test_the_configuration_in_force(tmp_path: Path) -> None:
    async with served(tmp_path) as (_, _, _, client):
        assert await client.configuration() == [
            sidecar_client.ConfigurationEntry("gossip.degree", "8", "$SIDECAR_GOSSIP_DEGREE", False),
            sidecar_client.ConfigurationEntry("log.level", '"info"', "default", True),
        ]


@asynchronous
async def test_cancelling_a_call_and_its_deadline_cancel_the_operation(tmp_path: Path) -> None:
    async with served(tmp_path) as (node, _, _, client):
        call = asyncio.create_task(client.ping_peer(OTHER_TEXT))
        asked = await node.wait_for(events.PingRequested)
        call.cancel()
        assert (await node.wait_for(events.OperationCancelled)).op == asked.op
        with pytest.raises(sidecar_client.DeadlineExceeded):
            await client.ping_peer(OTHER_TEXT, timeout=0.05)
        assert (await node.wait_for(events.OperationCancelled)).op == asked.op + 1


@asynchronous
async def test_peers_are_watched(tmp_path: Path) -> None:
    async with served(tmp_path) as (node, _, _, client):
        watching = client.watch_peers()
        kind = sidecar_client.PeerEventType
        assert [(await anext(watching)).type for _ in range(2)] == [kind.PRESENT, kind.CURRENT]
        gone = errors.KeepAliveTimeout("it went silent")
        node.on_news(events.PeerChanged(events.PeerChange.CONNECTED, peer_view(THIRD)))
        node.on_news(events.PeerChanged(events.PeerChange.DISCONNECTED, peer_view(connected=False), gone))
        connected, disconnected = await anext(watching), await anext(watching)
        assert connected.peer is not None
        assert (connected.type, connected.peer.peer_id, connected.reason) == (kind.CONNECTED, str(THIRD), "")
        assert (disconnected.type, disconnected.reason) == (kind.DISCONNECTED, "it went silent")
        await watching.aclose()


@asynchronous
async def test_a_slow_watcher_of_peers_is_told_the_present_anew(tmp_path: Path) -> None:
    async with served(tmp_path, watch_queue_events=10) as (node, _, _, client):
        watching = client.watch_peers()
        kind = sidecar_client.PeerEventType
        assert [(await anext(watching)).type for _ in range(2)] == [kind.PRESENT, kind.CURRENT]
        for _ in range(11):
            node.on_news(events.PeerChanged(events.PeerChange.UPDATED, peer_view()))
        events_after = [await anext(watching) for _ in range(3)]
        assert [event.type for event in events_after] == [kind.LAGGED, kind.PRESENT, kind.CURRENT]
        node.on_news(events.PeerChanged(events.PeerChange.UPDATED, peer_view()))
        assert (await anext(watching)).type is kind.UPDATED
        await watching.aclose()
