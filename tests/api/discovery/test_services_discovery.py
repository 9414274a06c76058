"""DiscoveryService over a real Unix socket: against a node that is a fake, and between real nodes."""

import asyncio
from pathlib import Path

import pytest
import sidecar_client

from sidecar.core import errors, events
from sidecar.core.identity import Identity
from tests.api.fakes import ADDRESS, OTHER, OTHER_TEXT, THIRD, asynchronous, served
from tests.api.test_real_nodes import three


@asynchronous
async def test_an_advertisement_lasts_as_long_as_it_is_held(tmp_path: Path) -> None:
    async with served(tmp_path) as (node, backend, _, client):
        node.answers[events.AdvertiseRequested] = (2, 3, 10.0)
        async with client.advertise("service") as advertisement:
            (asked,) = node.of(events.AdvertiseRequested)
            assert asked.name == "service"
            told = advertisement.announcements()
            first = await anext(told)
            assert (first.holders, first.asked) == (2, 3)
            assert first.next_announcement == pytest.approx(backend.epoch_ns / 1e9 + 10)
            node.on_news(events.AdvertisementAnnounced(asked.op, 20, 20, 20.0))
            assert (await anext(told)).holders == 20
            assert not node.of(events.OperationCancelled)
            await told.aclose()
        assert await node.wait_for(events.OperationCancelled) == events.OperationCancelled(asked.op)
        async with client.advertise("service", ttl=0.001) as advertisement:
            assert len([told async for told in advertisement.announcements()]) <= 1
        with pytest.raises(sidecar_client.InvalidArgument, match="name"):
            async with client.advertise(""):
                pass
        with pytest.raises(sidecar_client.InvalidArgument, match="ttl"):
            async with client.advertise("service", ttl=-1):
                pass


@asynchronous
async def test_peers_are_found_as_they_are_told(tmp_path: Path) -> None:
    async with served(tmp_path) as (node, _, _, client):
        finding = client.find_peers("service", limit=7)
        first = asyncio.ensure_future(anext(finding))
        asked = await node.wait_for(events.FindAdvertisedRequested)
        assert (asked.name, asked.limit) == ("service", 7)
        node.on_news(events.AdvertisersFound(asked.op, ((OTHER, (ADDRESS,)),)))
        assert await first == sidecar_client.FoundPeer(OTHER_TEXT, (str(ADDRESS),))
        node.on_news(events.AdvertisersFound(asked.op, ((THIRD, ()),)))
        node.on_news(events.OperationCompleted(asked.op, 3))
        assert [found async for found in finding] == [sidecar_client.FoundPeer(str(THIRD), ())]
        assert not node.of(events.OperationCancelled)


@asynchronous
async def test_records(tmp_path: Path) -> None:
    async with served(tmp_path) as (node, _, _, client):
        node.answers[events.RecordPutRequested] = events.RecordStored(2, 3)
        receipt = await client.put_record("/app/key", b"value", quorum=2)
        assert receipt == sidecar_client.RecordReceipt(2, 3)
        assert node.of(events.RecordPutRequested)[0][1:] == (b"/app/key", b"value")
        with pytest.raises(sidecar_client.NoQuorum, match="2 of 3 peers took the record, fewer than 3"):
            await client.put_record("/app/key", b"value", quorum=3)
        node.answers[events.RecordRequested] = events.RecordFound(b"value", 4, 1.5e9, OTHER, 7)
        record = await client.get_record(b"/app/key", quorum=9)
        assert record == sidecar_client.Record(b"value", 4, 1.5e9, OTHER_TEXT, 7)
        assert node.of(events.RecordRequested)[0][1:] == (b"/app/key", 9)
        node.answers[events.RecordRequested] = events.RecordFound(b"value", 1, None, None, 0)
        assert await client.get_record(b"/app/key") == sidecar_client.Record(b"value", 1, None, "", 0)
        for error, kind in (
            (errors.NotFound("none"), sidecar_client.NotFound),
            (errors.InvalidArgument("no rule"), sidecar_client.InvalidArgument),
        ):
            node.answers[events.RecordRequested] = error
            with pytest.raises(kind):
                await client.get_record(b"/app/key")
        node.answers[events.RecordPutRequested] = errors.Outdated("a better one")
        with pytest.raises(sidecar_client.Outdated):
            await client.put_record("/app/key", b"value")
        with pytest.raises(sidecar_client.InvalidArgument, match="key"):
            await client.put_record(bytes(1025), b"value")


@asynchronous
async def test_real_nodes_find_each_other_by_name_and_share_signed_records(tmp_path: Path) -> None:
    async with three(tmp_path) as clients:
        (one, me), (two, _), (three_, _) = clients
        async with one.advertise("service") as advertisement:
            assert advertisement.announcement is not None
            assert advertisement.announcement.holders == advertisement.announcement.asked > 0
            for other in (two, three_):
                (found,) = [found async for found in other.find_peers("service")]
                assert found.peer_id == me
                assert found.addresses
            assert [found async for found in one.find_peers("service")] == []
        key = f"/signed/{Identity((1).to_bytes(32, 'big')).peer_id}/name"
        receipt = await one.put_record(key, b"first", quorum=1)
        assert receipt.stored == receipt.asked > 0
        await one.put_record(key, b"and again")
        record = await three_.get_record(key, quorum=10)
        assert (record.value, record.publisher) == (b"and again", me)
        assert record.expires_at is not None
        with pytest.raises(sidecar_client.InvalidArgument, match="signs for"):
            await two.put_record(key, b"not mine")
        with pytest.raises(sidecar_client.InvalidArgument, match="no rule"):
            await two.put_record("/app/key", b"value")
        with pytest.raises(sidecar_client.NotFound):
            await two.get_record(key + "/other")
