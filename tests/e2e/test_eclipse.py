"""Strangers that come first, at a real sidecar: there is a bound for one address, and it dials whom it wants."""

import asyncio
import socket
from contextlib import AsyncExitStack
from pathlib import Path
from urllib.request import urlopen

import sidecar_client

from sidecar.core.errors import SidecarError
from sidecar.core.multiaddr import Multiaddr
from sidecar.doctor.guest import visiting
from sidecar.net.transports import Transports

from .processes import PATIENCE, running

TOPIC = "news"
PASSIVE = ("--peers-target", "0")
STRANGERS = 10


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def test_strangers_who_come_first_keep_a_sidecar_from_nobody(tmp_path: Path) -> None:
    port = free_port()
    crowded = (
        "--limits-exempt-networks", "192.0.2.0/24",  # loopback counts like any other network
        "--limits-connections-per-address", "6",
        "--peers-target", "4", "--peers-outbound", "2", "--peers-upkeep-interval", "1s",
        "--bootstrap", f"/ip4/127.0.0.1/tcp/{port}",
        "--metrics", "127.0.0.1:0",
    )  # fmt: skip
    with running(tmp_path / "victim", *crowded) as victim:
        address = victim.line("  address").split()[-1]
        metrics = victim.line("  metrics").split()[-1]

        async def play() -> None:
            async with AsyncExitStack() as stack:
                node = await stack.enter_async_context(sidecar_client.connect(f"unix:{victim.socket}"))
                came = 0
                for _ in range(STRANGERS):
                    guest = await stack.enter_async_context(visiting("main", Transports(), 5.0))
                    try:
                        await guest.meet(None, (Multiaddr.from_text(address).without_peer(),))
                        came += 1
                    except SidecarError:
                        pass
                assert came == 6  # more than the target; the others are refused before their first byte is read
                seen = await asyncio.to_thread(lambda: urlopen(metrics).read().decode())
                assert 'sidecar_connections_refused_by_bound_total{bound="address"} 4.0' in seen
                # Only now there is somebody honest: the bootstrap peer, and one that it knows.
                listen = ("--listen", f"/ip4/127.0.0.1/tcp/{port}")
                first = stack.enter_context(running(tmp_path / "first", *PASSIVE, *listen))
                second = stack.enter_context(running(tmp_path / "second", *PASSIVE))
                first_address, second_address = (one.line("  address").split()[-1] for one in (first, second))
                publisher = await stack.enter_async_context(sidecar_client.connect(f"unix:{second.socket}"))
                await publisher.connect_peer(addresses=[first_address])
                honest = {one.rsplit("/", 1)[-1] for one in (first_address, second_address)}
                watching = node.watch_peers()
                while honest:
                    event = await anext(watching)
                    if event.peer is not None and event.peer.direction is sidecar_client.Direction.OUTBOUND:
                        honest.discard(event.peer.peer_id)
                await watching.aclose()
                subscription = await stack.enter_async_context(node.subscribe(TOPIC))
                await publisher.publish(TOPIC, b"heard", minimum_peers=1)
                assert (await anext(aiter(subscription))).data == b"heard"

        asyncio.run(asyncio.wait_for(play(), 2 * PATIENCE))
