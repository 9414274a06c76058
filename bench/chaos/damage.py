"""Each file of the state directory is damaged in turn, and the sidecar started: it refuses, or begins that file anew.

What is a memory (peers, history) is moved aside and begun anew, with a line in the log. What holds decisions, or
messages that nobody else has (key, bans, tokens, durable messages), stops the start, with a remedy. What can be lived
without (sequence numbers, audit log) is told. Then the file is put back, and all is there again. At last the durable
messages are damaged under a sidecar that runs.
"""

import contextlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from sidecar_client import Client, Durable, SendOutcome, SidecarError

from bench.apps import spawn_module
from bench.chaos.disk import storing
from bench.chaos.mesh import history
from bench.chaos.node import Node
from bench.chaos.scene import Found, Plan, Scene
from bench.chaos.traffic import until_true

_DURABLE, _TOPIC = "/chaos/damage/1", "chaos-damage"
_BANNED = "192.0.2.0/24"
_LARGE = 60_000  # bytes; some of them are more than the store keeps in memory


def garbage(path: Path) -> None:
    """All of it but the first bytes."""
    content = path.read_bytes()
    kept = min(64, len(content) // 4)
    path.write_bytes(content[:kept] + b"\xa5" * (len(content) - kept))


def cut(path: Path) -> None:
    """The second half is gone."""
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


class _Case(NamedTuple):
    file: str
    damage: Callable[[Path], None]
    starts: bool
    says: str
    """What the log, or the last words, have to say."""


_CASES = (
    _Case("peers.db", garbage, True, "was begun anew"),
    _Case("peers.db", cut, True, "was begun anew"),
    _Case("history.db", garbage, True, "was begun anew"),
    _Case("bans.db", garbage, False, "put back a copy of the file"),
    _Case("bans.db", cut, False, "put back a copy of the file"),
    _Case("durable.db", garbage, False, "Bring back a copy of it"),
    _Case("durable.db", cut, False, "Bring back a copy of it"),
    _Case("identity.key", garbage, False, "put back a copy of it"),
    _Case("identity.key", cut, False, "put back a copy of it"),
    _Case("sequence", garbage, True, "sequence numbers begin at what the clock shows"),
    _Case("tokens.json", garbage, False, "put back a copy"),
    _Case("audit.log", garbage, True, ""),
)


async def play(place: Path, large: int) -> Found:
    """`large`: messages with which the file of durable messages grows before it is damaged under way."""
    faults: list[str] = []
    node, peer = Node(place / "node", *history(_TOPIC)), Node(place / "peer")
    await peer.start()
    node.flags += ["--bootstrap", peer.address]
    await node.start()
    made = await spawn_module(
        "sidecar", "token", "create", "--name", "app", "--allow", "node:read", "--state", str(node.state), stderr=None
    )
    await made.wait()
    async with node.connect() as client:
        await client.ban_peer(network=_BANNED)
        await client.publish(_TOPIC, b"kept")
        await _send(client, peer.peer_id, 5, 100)
        await until_true(lambda: _knows(client))
    await node.stop()
    own, whole = node.peer_id, place / "whole"
    shutil.copytree(node.state, whole)
    for case in _CASES:
        faults += await _play(node, case, own)
        shutil.rmtree(node.state)
        shutil.copytree(whole, node.state)
    await node.start()
    async with node.connect() as client:
        if node.peer_id != own or len(await client.outbox()) != 5:
            faults.append("with all files put back, something is missing")
        if [ban.network async for ban in client.bans()] != [_BANNED]:
            faults.append("with all files put back, the ban is missing")
    faults += await _under_way(node, peer.peer_id, large)
    await peer.stop()
    refused = sum(not case.starts for case in _CASES)
    return Found(
        f"{len(_CASES)} starts with a damaged file: {len(_CASES) - refused} went on, {refused} refused with a remedy; "
        "under a sidecar that runs: apps are told, it goes on, and refuses to start again",
        faults,
    )


async def _send(client: Client, to: str, count: int, size: int) -> None:
    for number in range(count):
        receipt = await client.send(to, _DURABLE, b"%d " % number + bytes(size), durable=Durable())
        if receipt.outcome is not SendOutcome.STORED:
            raise RuntimeError(f"a message is not stored: {receipt}")


async def _knows(client: Client) -> bool:
    return bool([peer async for peer in client.peers(connected_only=True)])


async def _play(node: Node, case: _Case, own: str) -> list[str]:
    """One damaged file; the faults."""
    name = f"{case.file} ({case.damage.__name__})"
    path = node.state / case.file
    before = path.read_bytes()
    case.damage(path)
    damaged = path.read_bytes()
    if damaged == before:
        return [f"{name} could not be damaged"]
    node.log.write_bytes(b"")
    try:
        await node.start()
    except RuntimeError as error:
        faults = [] if not case.starts else [f"{name}: it does not start: {error}"]
        if case.says not in str(error):
            faults.append(f"{name}: its end says {str(error)[-300:]}")
        if path.read_bytes()[100:] != damaged[100:]:  # SQLite touches the header
            faults.append(f"{name} was changed although the start was refused")
        return faults
    faults = []
    if not case.starts:
        faults.append(f"{name}: it starts all the same")
    if node.peer_id != own:
        faults.append(f"{name}: it is another node")
    async with node.connect() as client:
        if not (await client.info()).peer_id:
            faults.append(f"{name}: it does not answer")
    await node.stop()
    if case.says not in node.log.read_text():
        faults.append(f"{name}: the log says {node.log.read_text()[-300:]}")
    if "begun anew" in case.says and path.with_name(f"{path.name}.damaged").read_bytes()[100:] != damaged[100:]:
        faults.append(f"{name} was not moved aside as it was")
    return faults


async def _under_way(node: Node, peer: str, large: int) -> list[str]:
    """The file of durable messages is damaged while the sidecar runs."""
    faults = []
    async with node.connect() as client:
        await _send(client, peer, large, _LARGE)
        path = node.state / "durable.db"
        size = path.stat().st_size
        with path.open("r+b") as file:
            file.seek(4096)
            file.write(b"\xa5" * (size - 4096))
        with path.with_name("durable.db-wal").open("r+b") as log:
            log.truncate(0)

        async def told() -> bool:
            receipt = await client.send(peer, _DURABLE, b"x", durable=Durable())
            with contextlib.suppress(SidecarError):
                await client.withdraw(peer)
            return receipt.outcome is SendOutcome.NOT_STORED

        if not await until_true(told):
            faults.append("apps are never told that the file is damaged")
        found = await storing(client)
        if found is None or found.reason != "Damaged":
            faults.append(f"readiness says {found}")
        if not (await client.info()).peer_id:
            faults.append("it does not answer any more")
    await node.kill()
    try:
        await node.start()
    except RuntimeError as error:
        if "is damaged" not in str(error):
            faults.append(f"it starts no more, and says {str(error)[-300:]}")
    else:
        faults.append("it starts with a damaged file")
        await node.stop()
    return faults


async def _scene(place: Path, plan: Plan) -> Found:
    return await play(place, 20 if plan.short else 120)


SCENE = Scene(
    "damage",
    "each file of the state directory is damaged, garbage or cut short: a memory is moved aside and begun anew, all "
    "else refuses the start with a remedy or is told; under a sidecar that runs apps are told, and it goes on",
    _scene,
)
