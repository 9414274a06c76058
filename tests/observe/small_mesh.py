"""Three real sidecars that do a bit of everything, and what they then tell of it."""

import asyncio
import contextlib
import urllib.request
from contextlib import aclosing
from pathlib import Path

import sidecar_client
from sidecar_client import Client, Signing

from tests.e2e.processes import PATIENCE, Process, running

NOBODY = "12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA"


def get(url: str, accept: str = "text/plain") -> str:
    """A page."""
    request = urllib.request.Request(url, headers={"Accept": accept})
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
        text: str = answer.read().decode()
    return text


class SmallMesh:
    """The sidecars, and where their metrics are."""

    def __init__(self, place: Path) -> None:
        self._parts = contextlib.ExitStack()
        self.sidecars: list[Process] = []
        self.pages: list[str] = []
        try:
            # However slow the machine is, the topics are there when they are looked at.
            flags = ("--metrics", "127.0.0.1:0", "--metrics-topics", "3", "--api-linger", "3600")
            rules = place / "rules.toml"
            rules.write_text('[[rule]]\nname = "size"\ntopics = ["*"]\nmax_payload = "1MiB"\n')
            flags += ("--gossip-rules", str(rules))
            bootstrap: tuple[str, ...] = ()
            for number in range(3):
                sidecar = self._parts.enter_context(running(place / str(number), *flags, *bootstrap))
                address = sidecar.line("  address").split()[-1]
                self.pages.append(sidecar.line("  metrics").split()[-1])
                self.sidecars.append(sidecar)
                bootstrap = bootstrap or ("--bootstrap", address)
            for sidecar in self.sidecars:
                sidecar.line("Ready after")
            asyncio.run(self._exercise())
        except BaseException:
            self._parts.close()
            raise

    def close(self) -> None:
        self._parts.close()

    def scraped(self, accept: str = "text/plain") -> list[str]:
        """What each tells now."""
        return [get(page, accept) for page in self.pages]

    async def _exercise(self) -> None:
        async with contextlib.AsyncExitStack() as stack, asyncio.timeout(PATIENCE):
            nodes = [
                await stack.enter_async_context(sidecar_client.connect(f"unix:{sidecar.socket}"))
                for sidecar in self.sidecars
            ]
            ids = [(await node.info()).peer_id for node in nodes]
            await _all_know_all(nodes, ids)
            await _gossip(nodes)
            await _messages(nodes, ids)
            await _discovery(nodes)
            for node in nodes:
                while not sum((await node.statistics()).histograms["event_loop_lag_seconds"].counts):
                    pass  # the first look comes a second after the start
            with contextlib.suppress(sidecar_client.SidecarError):
                await nodes[0].ping_peer(NOBODY, timeout=0.5)
            with contextlib.suppress(sidecar_client.InvalidArgument):
                await nodes[0].find_peer("no peer id")


async def _all_know_all(nodes: list[Client], ids: list[str]) -> None:
    for node, own in zip(nodes, ids, strict=True):
        for other, other_id in zip(nodes, ids, strict=True):
            if other_id != own:
                await node.connect_peer(other_id, addresses=(await other.info()).announced_addresses)


async def _gossip(nodes: list[Client]) -> None:
    topics = [("signed", Signing.STRICT_SIGN), *((f"plain-{n}", Signing.STRICT_NO_SIGN) for n in range(4))]
    async with contextlib.AsyncExitStack() as stack:
        readers = []
        for name, signing in topics:
            for node in nodes:
                reader = await stack.enter_async_context(node.subscribe(name, signing=signing))
                readers.append(reader)
        for name, signing in topics:
            for node in nodes:
                for data in (b"small", b"x" * 4000):  # the large one is told by IDONTWANT too
                    text = data + str(id(node)).encode()
                    await node.publish(name, text, signing=signing, minimum_peers=2, timeout=PATIENCE)
        for reader in readers:
            got = 0
            async for _ in reader:
                got += 1
                if got == 2 * len(nodes):
                    break


async def _messages(nodes: list[Client], ids: list[str]) -> None:
    async def answer(request: sidecar_client.Request) -> bytes:
        return request.data

    await nodes[0].send(ids[1], "/nobody/1", b"x")
    async with nodes[1].receive("/mail/1") as mail, nodes[1].serve("/echo/1", answer):
        await nodes[0].send(ids[1], "/mail/1", b"x")
        async for _ in mail:
            break
        assert await nodes[0].request(ids[1], "/echo/1", b"hello") == b"hello"
    with contextlib.suppress(sidecar_client.SidecarError):
        await nodes[0].request(ids[1], "/nobody/1", b"hello")
    async with (
        nodes[1].accept_streams("/raw/1") as accepting,
        nodes[0].open_stream(ids[1], "/raw/1") as ours,
        aclosing(aiter(accepting)) as arriving,
    ):
        await ours.write(b"bytes")
        await ours.close_write()
        async with await anext(arriving) as theirs:
            assert [data async for data in theirs] == [b"bytes"]
        assert [data async for data in ours] == []


async def _discovery(nodes: list[Client]) -> None:
    async with nodes[0].advertise("service"):
        found = [peer async for peer in nodes[1].find_peers("service", limit=1)]
        assert found
