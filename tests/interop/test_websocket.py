"""WebSocket between a sidecar and a peer, plain and under TLS."""

import asyncio
from pathlib import Path
from typing import Any

from tests.interop.cells import cell
from tests.interop.ours import pair, plain
from tests.interop.peer import TIMEOUT
from tests.net.certificates import Authority


async def _talk(
    language: str, home: Path, *, we_dial: bool, address: str, flags: tuple[str, ...], **options: Any
) -> None:
    listen = ("--listen", address)
    async with pair(language, home, we_dial=we_dial, flags=(*listen, *flags), listen=address, **options) as (
        ours,
        peer,
    ):
        assert "/ws" in ours.address
        (remote,) = plain([each.remote_address async for each in ours.client.peers(connected_only=True)])
        assert remote.endswith(address.split("/tcp/0")[1])
        assert await ours.client.ping_peer(peer.peer_id, timeout=TIMEOUT) > 0
        assert (await peer.call("ping", peer_id=ours.peer_id))["rtt_ms"] > 0


@cell("WebSocket", "/ws", both_dial=True)
def test_plain(language: str, we_dial: bool, tmp_path: Path) -> None:
    asyncio.run(_talk(language, tmp_path, we_dial=we_dial, address="/ip4/127.0.0.1/tcp/0/ws", flags=()))


@cell("WebSocket", "/tls/ws, certificates verified", both_dial=True)
def test_tls(language: str, we_dial: bool, tmp_path: Path) -> None:
    authority = Authority(tmp_path / "certificates")
    certificate, key = map(str, authority.issue("127.0.0.1", "localhost"))
    flags = ("--listen-tls-certificate", certificate, "--listen-tls-key", key, "--peers-tls-ca", str(authority.path))
    options = {"tls_cert": certificate, "tls_key": key, "tls_ca": authority.path}
    address = "/ip4/127.0.0.1/tcp/0/tls/ws"
    asyncio.run(_talk(language, tmp_path / "ours", we_dial=we_dial, address=address, flags=flags, **options))
