"""A sidecar that is told to stop: its apps, its peers, and itself when it is back."""

import asyncio
import signal
from pathlib import Path

import sidecar_client

from .processes import running, running_pair


def test_the_end_is_told_to_peers_and_a_request_in_hand_is_answered(tmp_path: Path) -> None:
    with running_pair(tmp_path) as (first, second):

        async def story() -> None:
            begun, go_on = asyncio.Event(), asyncio.Event()

            async def answer(request: sidecar_client.Request) -> bytes:
                begun.set()
                await go_on.wait()
                return b"done"

            async with (
                sidecar_client.connect(f"unix:{first.socket}") as asking,
                sidecar_client.connect(f"unix:{second.socket}") as serving,
                asking.subscribe("news"),
                serving.subscribe("news"),
                serving.serve("/work/1", answer),
            ):
                watching = asyncio.Event()
                gone = asyncio.create_task(_disconnected(asking, watching))
                await watching.wait()
                await asking.publish("news", b"meshed", minimum_peers=1, timeout=20)
                there = (await serving.info()).peer_id
                request = asyncio.create_task(asking.request(there, "/work/1", b"", timeout=20))
                await begun.wait()
                before = (await asking.statistics())["gossip_prunes_received"]
                second.popen.send_signal(signal.SIGTERM)
                async with sidecar_client.connect(f"unix:{second.socket}", reconnect=False) as late:
                    await _not_serving(late)
                go_on.set()
                assert await request == b"done"
                assert not (await gone).reason  # in order, by a go-away
                assert (await asking.statistics())["gossip_prunes_received"] == before + 1

        asyncio.run(asyncio.wait_for(story(), 60))
        assert second.ended() == 0
        assert "ERROR" not in second.log()


def test_one_that_comes_back_is_in_the_mesh_again(tmp_path: Path) -> None:
    with running_pair(tmp_path) as (first, second):

        async def story() -> None:
            async with (
                sidecar_client.connect(f"unix:{first.socket}") as here,
                sidecar_client.connect(f"unix:{second.socket}") as there,
                here.subscribe("news"),
                there.subscribe("news") as subscription,
            ):
                messages = aiter(subscription)
                await here.publish("news", b"1", minimum_peers=1, timeout=20)
                assert (await anext(messages)).data == b"1"
                assert second.terminate() == 0
                with running(second.home):
                    arriving = asyncio.ensure_future(anext(messages))  # reading is what brings a stream back
                    await here.publish("news", b"2", minimum_peers=1, timeout=20)
                    assert (await arriving).data == b"2"
                    refused = (await here.statistics())["gossip_prunes_sent"]
                    assert not refused

        asyncio.run(asyncio.wait_for(story(), 60))


async def _not_serving(client: sidecar_client.Client) -> None:
    """Wait until new calls are refused: from then on the sidecar drains."""
    while True:
        try:
            await client.topics()
        except sidecar_client.Closed:
            return


async def _disconnected(client: sidecar_client.Client, watching: asyncio.Event) -> sidecar_client.PeerEvent:
    async for event in client.watch_peers():
        if event.type is sidecar_client.PeerEventType.CURRENT:
            watching.set()
        if event.type is sidecar_client.PeerEventType.DISCONNECTED:
            return event
    raise AssertionError("the watch ended")
