"""Two nodes that the last release has set up are upgraded one after the other, each on its own state directory.

The last release comes out of this repository's history (CHANGELOG.md names it, a commit `Release X` is it) and runs
with the packages that are installed here. What it keeps has to be there afterwards: key, bans, peers, sequence numbers,
tokens. Between the two upgrades one of each speak with each other.
"""

import asyncio
import contextlib
import io
import re
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from sidecar_client import PermissionDenied, QuotaExceeded

import sidecar
from bench.chaos.mesh import connected
from bench.chaos.node import PATIENCE, Node
from bench.chaos.scene import Found, Plan, Scene, Skipped
from bench.chaos.traffic import Inbox, Listener, running, store, until, until_true

_ROOT = Path(__file__).parents[2]
_TOPIC, _DURABLE = "chaos-upgrade", "/chaos/upgrade/1"
_BANNED = "192.0.2.0/24"
_NEW = (sys.executable, "-m", "sidecar")


def last_release() -> str:
    """The version of the last release, by the changelog."""
    found = re.search(r"^## (\d+\.\d+\.\d+)", (_ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    if found is None:
        raise Skipped("the changelog names no release")
    return found[1]


def unpack(version: str, place: Path) -> tuple[str, ...]:
    """Put that release into a folder; the command that is its `python -m sidecar`. Raises Skipped, RuntimeError."""
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        found = _git("log", "--format=%H", "-1", "--grep", f"^Release {re.escape(version)}$").decode().strip()
        if found:
            with tarfile.open(fileobj=io.BytesIO(_git("archive", found, "sidecar", "clients/python/src"))) as archive:
                archive.extractall(place, filter="data")
            path = f"{place}:{place / 'clients/python/src'}"
            # -P: not what lies in the working directory.
            program = ("env", f"PYTHONPATH={path}", sys.executable, "-P", "-m", "sidecar")
            said = subprocess.run([*program, "--version"], capture_output=True, text=True)
            if said.returncode:
                raise Skipped(f"the release {version} does not run here: {said.stderr.strip()[-200:]}")
            if said.stdout.split() != ["sidecar", version]:
                raise RuntimeError(f"the release {version} says that it is {said.stdout.strip()!r}")
            return program
    raise Skipped(f"the release {version} is not in this repository's history")


def _git(*words: str) -> bytes:
    return subprocess.run(["git", "-C", str(_ROOT), *words], check=True, capture_output=True).stdout


async def play(place: Path, messages: int) -> Found:
    """`messages`: published by each node in each state."""
    version = last_release()
    old = unpack(version, place / "release")
    one, other = (Node(place / name, program=old) for name in ("one", "other"))
    faults: list[str] = []
    try:
        await one.start()
        other.flags += ["--bootstrap", one.address]
        await other.start()
        listeners = [Listener(node, _TOPIC) for node in (one, other)]
        async with running(*(listener.run() for listener in listeners)):
            published = await _publish((one, other), listeners, "old", messages, faults)
            token = await _set_up(one, old)
            other.flags.clear()  # whom they know, they remember
            for node, name in ((one, "mixed"), (other, "new")):
                before = node.peer_id
                await _upgrade(node)
                if node.peer_id != before:
                    faults.append(f"{node.home.name} has another key")
                if not await until_true(partial(connected, one, other)):
                    faults.append(f"{node.home.name} does not come back to whom it knew")
                published += await _publish((one, other), listeners, name, messages, faults)
            faults += await _kept(one, token)
            faults += await _durable(one, other, messages)
    finally:
        await other.stop()
        await one.stop()
    missing = sum(len(listener.missing(published)) for listener in listeners)
    repeated = sum(len(listener.repeated) for listener in listeners)
    return Found(
        f"from {version} to {sidecar.__version__} of the working tree: 2 nodes; of {len(published):,} publications "
        f"before, between and after the two upgrades {missing} were not delivered to both, {repeated} came again; a "
        f"ban, and a token with its scopes and its quota looked at; {messages:,} durable messages then",
        faults,
    )


async def _set_up(node: Node, program: Sequence[str]) -> Path:
    """A ban and a token, as the old release makes them; the token."""
    token = node.home / "token"
    words = ["token", "create", "--name", "app", "--allow", "node:read", "--calls", "3/h", "--out", str(token)]
    process = await asyncio.create_subprocess_exec(
        *program, *words, "--state", str(node.state), stdout=asyncio.subprocess.DEVNULL
    )
    if await process.wait():
        raise RuntimeError("the old release makes no token")
    async with node.connect() as client:
        await client.ban_peer(network=_BANNED, reason="before the upgrade")
    return token


async def _upgrade(node: Node) -> None:
    await node.terminate()
    node.program = _NEW
    await node.start()


async def _publish(
    nodes: Sequence[Node],
    listeners: Sequence[Listener],
    name: str,
    messages: int,
    faults: list[str],
) -> list[str]:
    """Both publish, and both must get it; what was published."""
    for node in nodes:
        if not await until_true(partial(_in_topic, node)):
            faults.append(f"{name}: {node.home.name} does not find the other in the topic")
            return []
    published = []
    for number, node in enumerate(nodes):
        async with node.connect() as client:
            for each in range(messages):
                published.append(f"{name}-{number}-{each}")
                await client.publish(_TOPIC, published[-1].encode(), minimum_peers=1, timeout=PATIENCE)
    for listener in listeners:
        if not await until(partial(listener.has, published)):
            faults.append(f"{name}: {len(listener.missing(published))} publications were not delivered")
        if listener.repeated:
            faults.append(f"{name}: {len(listener.repeated)} publications came again")
    return published


async def _in_topic(node: Node) -> bool:
    async with node.connect() as client:
        return any(topic.name == _TOPIC and topic.mesh_peer_ids for topic in await client.topics())


async def _kept(node: Node, token: Path) -> list[str]:
    """The ban, and the token with its scopes and its quota."""
    faults = []
    async with node.connect() as client:
        bans = {ban.network: ban.reason async for ban in client.bans()}
    if bans != {_BANNED: "before the upgrade"}:
        faults.append(f"bans are {bans}")
    async with node.connect(token) as client:  # which asks for the node's id
        try:
            await client.ban_peer(network="198.51.100.0/24")
            faults.append("a token may do what it does not allow")
        except PermissionDenied:
            pass
        with contextlib.suppress(QuotaExceeded):
            for _ in range(4):
                await client.info()
            faults.append("a token's quota is gone")
    return faults


async def _durable(one: Node, other: Node, messages: int) -> list[str]:
    """What the last release did not know works on its state directory."""
    inbox = Inbox(other, _DURABLE)
    texts = [f"message-{number}" for number in range(messages)]
    async with one.connect() as client, running(inbox.run()):
        for text in texts:
            await store(client, other.peer_id, _DURABLE, text)
        if not await until(lambda: len(inbox.settled) == messages):
            return [f"{len(inbox.missing(texts))} durable messages were not delivered"]
    return inbox.faults


async def _play(place: Path, plan: Plan) -> Found:
    return await play(place, 10 if plan.short else 500)


SCENE = Scene(
    "upgrade",
    "nodes that the last release has set up are upgraded one after the other on their state directories: key, bans, "
    "peers, sequence numbers and tokens are kept, and no publication is taken for an old one",
    _play,
)
