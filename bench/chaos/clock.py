"""The wall clocks of sidecars are set by an hour, forward and back, while they run and between two runs.

Two sidecars whose clocks can be set (`clocked.py`). What has a time to live of 30 minutes may end when the clock of
whoever holds it is set an hour ahead, what has two hours may not, and nothing may end early where it is set back. What
is over by a clock that is right again has to end.
"""

import contextlib
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import NamedTuple

from sidecar_client import Client, DurableOutcome, SidecarError

from bench.chaos.clocked import Offset
from bench.chaos.mesh import connected
from bench.chaos.node import PATIENCE, Node
from bench.chaos.scene import Found, Plan, Scene
from bench.chaos.traffic import Inbox, Listener, running, store, until, until_true

STEP = 3600.0
_SHORT, _LONG, _BRIEF = 1800.0, 7200.0, 2.0  # seconds that things are worth something
_PROTOCOL, _TOPIC = "/chaos/clock/1", "chaos-clock"
_SIDES = ("sender", "receiver")


class _Clocked(NamedTuple):
    node: Node
    clock: Offset


def _clocked(home: Path, *flags: str) -> _Clocked:
    home.mkdir()
    clock = Offset(home / "clock")
    return _Clocked(Node(home, *flags, program=clock.program()), clock)


# ---------------------------------------------------------------- durable messages


async def durable(place: Path, side: str, step: float, messages: int) -> Found:
    """The clock of one side is set while durable messages wait there, and while they flow."""
    place.mkdir()
    receiver, sender = _clocked(place / "receiver"), _clocked(place / "sender")
    faults: list[str] = []
    try:
        await receiver.node.start()
        sender.node.flags += ["--bootstrap", receiver.node.address]
        await sender.node.start()
        async with sender.node.connect() as client:
            inbox = Inbox(receiver.node, _PROTOCOL)
            async with running(inbox.run()):
                faults += await _flow(client, receiver.node, inbox, "before", messages)
            held = sender if side == "sender" else receiver
            if side == "sender":
                await receiver.node.terminate()
            await _wait_and_be_set(client, held, receiver.node, step, faults)
            if side == "sender":
                await receiver.node.start()
            async with running(inbox.run()):
                faults += await _flow(client, receiver.node, inbox, "stepped", messages)
                await held.node.kill()
                await held.node.start()
                faults += await _flow(client, receiver.node, inbox, "restarted", messages)
                held.clock.set(0.0)
                faults += await _flow(client, receiver.node, inbox, "right", messages)
                late = [text for text in ("long-0", *(["short-0"] if step < 0 else [])) if text not in inbox.settled]
                if late and not await until(lambda: all(text in inbox.settled for text in late)):
                    faults.append(f"{side} {step:+.0f} s: {', '.join(late)} did not arrive")
                faults += inbox.faults
            if not await until_true(lambda: _empty(client)):
                faults.append(f"{side} {step:+.0f} s: {len(await client.outbox())} messages stay in the outbox")
    finally:
        await sender.node.stop()
        await receiver.node.stop()
    return Found(f"{4 * messages} messages", faults)


async def _empty(client: Client) -> bool:
    return not await client.outbox()


async def _flow(client: Client, to: Node, inbox: Inbox, name: str, messages: int) -> list[str]:
    """Messages go through, whatever the clocks show."""
    texts = [f"{name}-{number}" for number in range(messages)]
    for text in texts:
        await store(client, to.peer_id, _PROTOCOL, text, _LONG)
    if not await until(lambda: all(text in inbox.settled for text in texts)):
        return [f"{len([text for text in texts if text not in inbox.settled])} of {messages} messages {name} stall"]
    return []


async def _wait_and_be_set(client: Client, held: _Clocked, to: Node, step: float, faults: list[str]) -> None:
    """Messages wait at one side, nobody takes them, and its clock is set: there, and back, and there again."""
    away = held.node is not to  # the sender holds them, and the receiver is not there
    for text, ttl in (("short-0", _SHORT), ("long-0", _LONG), ("brief-0", _BRIEF if away else _LONG)):
        await store(client, to.peer_id, _PROTOCOL, text, ttl)
    if not away and not await until_true(lambda: _all_held(client)):
        faults.append("the receiver's sidecar does not take what no app takes")
    begun = time.monotonic()
    for number, offset in enumerate((step, 0.0, step)):
        held.clock.set(offset)
        await store(client, to.peer_id, _PROTOCOL, f"look-{number}", _LONG)  # has the store look at its clock
        ended = await _ended_as_expired(client)
        allowed = {"brief-0"} if away and time.monotonic() > begun + _BRIEF - 0.5 else set()
        if step > 0:
            allowed |= {"short-0"} | ({"brief-0"} if away else set())
        for text in sorted(ended - allowed):
            faults.append(f"a clock set by {offset:+.0f} s has ended {text}")
    if away:  # by a clock that is right, its time is over
        held.clock.set(0.0)
        number = 0
        while "brief-0" not in await _ended_as_expired(client):
            if time.monotonic() > begun + PATIENCE:
                faults.append("what was worth two seconds is still there when the clock is right again")
                break
            await store(client, to.peer_id, _PROTOCOL, f"again-{(number := number + 1)}", _LONG)
        held.clock.set(step)


async def _all_held(client: Client) -> bool:
    return all(message.held for message in await client.outbox())


async def _ended_as_expired(client: Client) -> set[str]:
    """What the sender's app was told to have expired."""
    waiting = {message.request_id for message in await client.outbox()}
    sent = {"short-0", "long-0", "brief-0"}
    gone = sent - waiting
    if not gone:
        return set()
    told: set[str] = set()
    async with client.watch_outbox(cursor=0) as watch:
        async for event in watch:
            if event.outcome is DurableOutcome.EXPIRED:
                told.add(event.request_id)
            gone.discard(event.request_id)
            if not gone:
                break
    return told & sent


# ---------------------------------------------------------------- everything else


async def everything_else(place: Path, step: float, messages: int) -> Found:
    """A node's clock is set while it runs, and between two runs: topics, records, memory, the DHT, bans, tokens."""
    place.mkdir()
    other = Node(place / "other")
    third = Node(place / "third")
    set_node, clock = _clocked(place / "set")
    faults: list[str] = []
    try:
        await other.start()
        set_node.flags += ["--bootstrap", other.address]
        await set_node.start()
        listener = Listener(other, _TOPIC)
        async with running(listener.run()):
            await listener.there.wait()
            faults += await _gossip(set_node, clock, listener, step, messages)
        set_node.flags.clear()  # whom it knows, it remembers
        for moment, offset in (("with its clock set", step), ("with its clock right again", 0.0)):
            await set_node.terminate()
            clock.set(offset)
            set_node.listen = "/ip4/127.0.0.1/tcp/0"  # so that its old address is of no use
            await set_node.start()
            if not await until_true(lambda: connected(other, set_node)):
                faults.append(f"{moment}, it has forgotten whom it knew")
                continue
            faults += await _named(set_node, other, f"clock-{offset:+.0f}", moment)
        third.flags += ["--bootstrap", other.address]
        await third.start()
        async with third.connect() as client:
            if not await until_true(lambda: _connects(client, set_node.peer_id)):
                faults.append("its new address is not believed")
        faults += await _bans_and_tokens(set_node, clock, step, other.peer_id)
    finally:
        for node in (third, set_node, other):
            await node.stop()
    return Found(f"{4 * messages} publications", faults)


async def _gossip(node: Node, clock: Offset, listener: Listener, step: float, messages: int) -> list[str]:
    """What a node publishes arrives, before and after its clock is set, and after restarts."""
    expected: list[str] = []
    for moment, offset in (("before", 0.0), ("set", step), ("restarted", step), ("right", 0.0)):
        if moment in ("restarted", "right"):
            await node.kill()
            clock.set(offset)
            await node.start()
        clock.set(offset)
        texts = [f"{moment}-{number}" for number in range(messages)]
        async with node.connect() as client:
            for text in texts:
                await client.publish(_TOPIC, text.encode(), minimum_peers=1, timeout=PATIENCE)
        expected += texts
        if not await until(partial(listener.has, expected)):
            return [f"{moment}: {len(listener.missing(expected))} publications were not delivered"]
    if listener.repeated:
        return [f"{len(listener.repeated)} publications were delivered twice"]
    return []


async def _connects(client: Client, peer_id: str) -> bool:
    with contextlib.suppress(SidecarError):
        await client.connect_peer(peer_id, timeout=PATIENCE)
        return True
    return False


async def _named(node: Node, other: Node, name: str, moment: str) -> list[str]:
    """What it advertises is found."""
    async with node.connect() as client, other.connect() as asking, client.advertise(name) as advertisement:
        async for announcement in advertisement.announcements():
            if announcement.holders:
                break

        async def found() -> bool:
            return any([peer.peer_id == node.peer_id async for peer in asking.find_peers(name)])

        if not await until_true(found):
            return [f"{moment}, the name that it advertises is not found"]
    return []


async def _bans_and_tokens(node: Node, clock: Offset, step: float, other: str) -> list[str]:
    """Bans and tokens end neither early nor late by more than the clock was set."""
    faults: list[str] = []
    tokens = {name: _token(node, name, expires) for name, expires in (("brief", "5s"), ("long", "2h"))}
    made = time.monotonic()
    async with node.connect() as client:
        for name, token in tokens.items():  # the sidecar knows them before its clock is set
            if not await _accepted(node, token) and time.monotonic() < made + 4.0:
                faults.append(f"the {name} token is refused")
        await client.ban_peer(network="192.0.2.0/24", duration=_LONG)
        await client.ban_peer(network="198.51.100.0/24", duration=_BRIEF)
        clock.set(step)
        if not await _accepted(node, tokens["long"]):
            faults.append("a token of two hours is refused")

        async def over() -> bool:
            return "198.51.100.0/24" not in [ban.network async for ban in client.bans()]

        if not await until_true(over):
            faults.append("a ban of two seconds does not end")
        if "192.0.2.0/24" not in [ban.network async for ban in client.bans()]:
            faults.append("a ban of two hours has ended")
        if not await until(lambda: time.monotonic() > made + 6.0):
            faults.append("the monotonic clock stands still")
        if await _accepted(node, tokens["brief"]):
            faults.append("a token of five seconds is accepted after six")
        clock.set(0.0)
        if not await _accepted(node, tokens["long"]):
            faults.append("a token of two hours is refused once the clock is right again")
        if "192.0.2.0/24" not in [ban.network async for ban in client.bans()]:
            faults.append("a ban of two hours has ended once the clock is right again")
    return faults


def _token(node: Node, name: str, expires: str) -> Path:
    file = node.home / f"{name}.token"
    words = ["token", "create", "--name", name, "--allow", "*", "--expires", expires, "--out", str(file)]
    subprocess.run(
        [sys.executable, "-m", "sidecar", *words, "--state", str(node.state)], check=True, stdout=subprocess.DEVNULL
    )
    return file


async def _accepted(node: Node, token: Path) -> bool:
    with contextlib.suppress(SidecarError):
        async with node.connect(token) as client:
            await client.info()
            return True
    return False


async def _play(place: Path, plan: Plan) -> Found:
    messages = 20 if plan.short else 200
    parts = [
        await durable(place / f"{side}{step:+.0f}", side, step, messages) for side in _SIDES for step in (STEP, -STEP)
    ]
    parts += [await everything_else(place / f"else{step:+.0f}", step, messages) for step in (STEP, -STEP)]
    faults = [fault for part in parts for fault in part.faults]
    return Found(
        f"durable messages: {len(_SIDES) * 2} plays with {4 * messages} each, at either side, forward and back; "
        f"topics, records, names, memory of peers, bans, tokens: 2 plays with {4 * messages} publications each; "
        f"{len(faults)} things ended early, late or not at all",
        faults,
    )


SCENE = Scene(
    "clock",
    "the wall clock of either side is set by an hour, forward and back, while it runs and between two runs: nothing "
    "ends early or late by more than the holder's clock was set, nothing stalls",
    _play,
)
