"""`make demo-nat`: two sidecars behind two NATs on this machine meet through a third, and then talk directly.

    home A (10.1.0.2) -- NAT A --+
                                 +-- the internet (203.0.113.0/24), with a relay at 203.0.113.1
    home B (10.2.0.2) -- NAT B --+

Each place is a network namespace. A NAT is nftables' masquerade, and lets nothing in that did not go out before. It
keeps the port that a home dials from where that is free, so it looks the same to everybody outside: what a hole needs.
It is not endpoint-independent by design: where two homes used one port, the second would get another one for each
destination.

Needs Linux, root, `ip` and `nft` (Debian: iproute2, nftables). Takes everything away when it ends.
"""

import asyncio
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import sidecar_client
from sidecar_client import Client

LIMIT = 120.0  # seconds; whatever hangs, the demo ends
PORT = 4747
TOPIC = "demo"
RELAY = "203.0.113.1"
PREFIX = f"sc{os.getpid() % 100_000}"  # of the namespaces: two of these may run on one machine
SIDES = {"A": ("10.1.0", "203.0.113.10"), "B": ("10.2.0", "203.0.113.20")}

NAT = """
table ip demo {
  chain outgoing {
    type nat hook postrouting priority srcnat; policy accept;
    oifname "wan" masquerade
  }
  chain through {
    type filter hook forward priority filter; policy drop;
    iifname "lan" accept
    ct state established,related accept
  }
  chain here {
    type filter hook input priority filter; policy drop;
    iifname "lan" accept
    ct state established,related accept
  }
}
"""


class DemoError(Exception):
    """Something that the demo shows did not happen."""


def say(text: str) -> None:
    """A line of the story."""
    print(text, flush=True)


def ip(*words: str) -> None:
    """Configure the network."""
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


def name(place: str) -> str:
    """The namespace of a place."""
    return f"{PREFIX}-{place}"


def build() -> None:
    """Make the namespaces, the wires between them, and the NATs."""
    ip("netns", "add", name("net"))
    ip("-n", name("net"), "link", "add", "bridge", "type", "bridge")
    ip("-n", name("net"), "addr", "add", f"{RELAY}/24", "dev", "bridge")
    for link in ("lo", "bridge"):
        ip("-n", name("net"), "link", "set", link, "up")
    for side, (lan, wan) in SIDES.items():
        nat, home = name(f"nat{side}"), name(f"home{side}")
        for place in (nat, home):
            ip("netns", "add", place)
            ip("-n", place, "link", "set", "lo", "up")
        ip("link", "add", "wan", "netns", nat, "type", "veth", "peer", "name", f"to{side}", "netns", name("net"))
        ip("-n", name("net"), "link", "set", f"to{side}", "master", "bridge", "up")
        ip("link", "add", "lan", "netns", nat, "type", "veth", "peer", "name", "eth0", "netns", home)
        ip("-n", nat, "addr", "add", f"{wan}/24", "dev", "wan")
        ip("-n", nat, "addr", "add", f"{lan}.1/24", "dev", "lan")
        ip("-n", home, "addr", "add", f"{lan}.2/24", "dev", "eth0")
        for place, link in ((nat, "wan"), (nat, "lan"), (home, "eth0")):
            ip("-n", place, "link", "set", link, "up")
        ip("-n", home, "route", "add", "default", "via", f"{lan}.1")
        inside = ["ip", "netns", "exec", nat]
        subprocess.run([*inside, "sysctl", "-qw", "net.ipv4.ip_forward=1"], check=True, capture_output=True, text=True)
        subprocess.run([*inside, "nft", "-f", "-"], input=NAT, check=True, capture_output=True, text=True)


def take_away() -> None:
    """Remove the namespaces; what is in them goes with them."""
    for place in ("net", *(f"{kind}{side}" for side in SIDES for kind in ("nat", "home"))):
        subprocess.run(["ip", "netns", "del", name(place)], check=False, capture_output=True)


class Node:
    """A sidecar in a namespace, and a client to look at it."""

    def __init__(self, title: str, place: str, directory: Path) -> None:
        self.title = title
        self.place = place
        self.home = directory / place
        self.home.mkdir(mode=0o700)
        self.log = directory / f"{place}.log"
        self.client: Client
        self.peer_id = ""
        self._process: asyncio.subprocess.Process | None = None

    async def start(self, stack: contextlib.AsyncExitStack, *flags: str) -> None:
        """Start it; it ends with this process at the latest."""
        words = [sys.executable, "-m", "sidecar", "run", "--until-eof", "--state", str(self.home)]
        words += ["--socket", str(self.home / "api.sock"), "--network", "demo-nat", "--log-level", "debug"]
        words += ["--listen", f"/ip4/0.0.0.0/tcp/{PORT}", *flags]
        with self.log.open("w") as log:
            self._process = await asyncio.create_subprocess_exec(
                "ip", "netns", "exec", name(self.place), *words, stdin=subprocess.PIPE, stdout=log, stderr=log
            )
        stack.push_async_callback(self._stop)
        self.client = await stack.enter_async_context(sidecar_client.connect(f"unix:{self.home}/api.sock", wait=30.0))
        self.peer_id = (await self.client.info()).peer_id

    async def _stop(self) -> None:
        process = self._process
        if process is None or process.returncode is not None:
            return
        process.terminate()
        try:
            await asyncio.wait_for(process.wait(), 10)
        except TimeoutError:
            process.kill()
            await process.wait()

    async def path_to(self, other: "Node") -> str:
        """The address of the connection's other end; empty without a connection."""
        found = [peer async for peer in self.client.peers(connected_only=True) if peer.peer_id == other.peer_id]
        return found[0].remote_address if found else ""


@asynccontextmanager
async def watched(node: Node, what: str) -> AsyncIterator[None]:
    """Name the node, and show its log, where something does not happen."""
    try:
        async with asyncio.timeout(LIMIT / 3):
            yield
    except (TimeoutError, sidecar_client.SidecarError) as error:
        raise DemoError(f"{node.title}: {what}: {error or 'not in time'}\n{node.log.read_text()[-3000:]}") from error


async def until_direct(one: Node, other: Node) -> tuple[str, bool]:
    """Wait for a connection without a relay; returns where it leads, and whether a relayed one was seen before."""
    relayed = False
    async for _ in one.client.watch_peers():
        path = await one.path_to(other)
        relayed |= "/p2p-circuit" in path
        if path and "/p2p-circuit" not in path:
            return path, relayed
    raise DemoError("the sidecar has ended")


async def until_placed(relay: Node, peer: Node) -> None:
    """Wait until the relay knows the peer at an address behind itself."""
    async for event in relay.client.watch_peers():
        if event.peer is None or event.peer.peer_id != peer.peer_id:
            continue
        if any("/p2p-circuit" in address for address in event.peer.addresses):
            return


async def hear(node: Node, stack: contextlib.AsyncExitStack) -> asyncio.Task[str]:
    """Subscribe; the task ends with the first message, or with the story."""
    ready = asyncio.Event()

    async def listen() -> str:
        async with node.client.subscribe(TOPIC, skip_local=True) as messages:
            ready.set()
            async for message in messages:
                return message.data.decode()
        raise DemoError("the subscription has ended")

    task = asyncio.create_task(listen())
    stack.callback(task.cancel)
    await ready.wait()
    return task


async def tell(directory: Path) -> None:
    """The story."""
    async with contextlib.AsyncExitStack() as stack:
        relay = Node("the relay", "net", directory)
        one, two = Node("home A", "homeA", directory), Node("home B", "homeB", directory)
        async with watched(relay, "did not start"):
            await relay.start(stack, "--relay-server", "true", "--listen-announce", f"/ip4/{RELAY}/tcp/{PORT}")
        address = f"/ip4/{RELAY}/tcp/{PORT}/p2p/{relay.peer_id}"
        say(f"A relay runs on the internet, at {RELAY}.")
        for node in (one, two):
            async with watched(node, "got no place with the relay"):
                await node.start(stack, "--relay", address, "--bootstrap", address, "--dht-mode", "client")
                await until_placed(relay, node)
            say(f"{node.title} is behind its NAT. It has dialled the relay, and has a place there.")
        heard = [await hear(node, stack) for node in (one, two)]
        circuit = f"{address}/p2p-circuit/p2p/{one.peer_id}"
        begun = time.perf_counter()
        async with watched(two, "did not reach home A"):
            reached = await two.client.connect_peer(one.peer_id, addresses=[circuit])
        say(f"home B has reached home A through the relay, {time.perf_counter() - begun:.2f} s after it asked to:")
        say(f"    {reached.remote_address}")
        async with watched(one, "no direct connection came of it"):
            path, _ = await until_direct(two, one)
        took = time.perf_counter() - begun
        say(f"Both have dialled each other at one moment, and so opened their NATs. {took:.2f} s after the start they")
        say("are connected directly, and the relay is out of it:")
        say(f"    home B sees home A at {path}")
        say(f"    home A sees home B at {await one.path_to(two)}")
        for node, other, task in ((one, two, heard[1]), (two, one, heard[0])):
            async with watched(node, "its gossip did not arrive"):
                await node.client.publish(TOPIC, f"hello from {node.title}".encode(), minimum_peers=1, timeout=20)
                say(f"{other.title} has heard by gossip: {await task!r}")
        carried = await relay.client.statistics()
        circuits = carried["relay_circuits_opened"]
        say(f"The relay carried {circuits:g} connection(s), and {carried['relay_relayed_bytes']:g} bytes in all.")


def main() -> int:
    """Build the networks, tell the story, and take everything away."""
    missing = [tool for tool in ("ip", "nft", "sysctl") if shutil.which(tool) is None]
    if sys.platform != "linux" or os.geteuid() or missing:
        lacks = f"; missing here: {', '.join(missing)}" if missing else ""
        print(f"demo-nat needs Linux, root, and the tools ip, nft and sysctl{lacks}", file=sys.stderr)
        return 1
    directory = Path(tempfile.mkdtemp(prefix="demo-nat-"))
    try:
        build()
        asyncio.run(asyncio.wait_for(tell(directory), LIMIT))
    except (DemoError, TimeoutError) as error:
        print(f"\nFAILED: {error or f'not done within {LIMIT:g} seconds'}", file=sys.stderr)
        return 1
    except subprocess.CalledProcessError as error:
        print(f"\nFAILED: {' '.join(error.cmd)}: {error.stderr.strip()}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        take_away()
        shutil.rmtree(directory, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
