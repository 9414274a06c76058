"""Sidecars and apps are killed at random moments while durable messages are sent.

Two sidecars on loopback. An app of the first sends messages with request ids, some hundred at once, and sends again
what it was not told to be stored. An app of the second settles what it receives. Meanwhile either sidecar is killed
(SIGKILL) and started again, and either app loses its connection and all that it knew but what it had been told for
certain. A round ends when all messages are settled and the outbox is empty.
"""

import asyncio
import contextlib
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import sidecar_client
from sidecar_client import Client, Durable, DurableMessage, SendOutcome, SidecarError

from bench.chaos.node import PATIENCE, Node
from bench.chaos.scene import Found, Plan, Scene

_PROTOCOL = "/chaos/1"
_AT_ONCE = 200  # messages that the sending app has not been answered for
_VICTIMS = ("sender's sidecar", "receiver's sidecar", "sender's app", "receiver's app")


@dataclass
class Round:
    """What happened."""

    messages: int
    kills: Counter[str] = field(default_factory=Counter)
    stored: dict[int, int] = field(default_factory=dict)  # number of a message -> its sequence
    seen: list[int] = field(default_factory=list)  # sequences in the order of their first delivery
    settled: dict[int, int] = field(default_factory=dict)  # number -> sequence, once confirmed
    handled: dict[int, None] = field(default_factory=dict)  # numbers that the app began to settle
    repeated: int = 0  # deliveries of what was delivered before, and not settled
    faults: list[str] = field(default_factory=list)
    seconds: float = 0.0
    left: int = 0  # in the outbox, at the end

    @property
    def lost(self) -> int:
        return self.messages - len(self.handled)


async def _send(node: Node, to: str, found: Round, crash: asyncio.Event) -> None:
    """The sending app: until all are known to be stored."""
    while len(found.stored) < found.messages:
        crash.clear()
        with contextlib.suppress(SidecarError):
            async with node.connect() as client:
                waiting = iter([number for number in range(found.messages) if number not in found.stored])
                workers = [asyncio.create_task(_send_some(client, to, waiting, found)) for _ in range(_AT_ONCE)]
                crashed = asyncio.create_task(crash.wait())
                all_sent = asyncio.gather(*workers, return_exceptions=True)
                await asyncio.wait((all_sent, crashed), return_when=asyncio.FIRST_COMPLETED)
                crashed.cancel()
                for worker in workers:
                    worker.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await all_sent


async def _send_some(client: Client, to: str, waiting: Iterator[int], found: Round) -> None:
    for number in waiting:
        receipt = await client.send(to, _PROTOCOL, b"%d" % number, durable=Durable(), request_id=f"message-{number}")
        if receipt.outcome is not SendOutcome.STORED or receipt.message_id is None:
            continue  # the next life of the app asks again
        sequence = receipt.message_id.sequence
        if found.stored.setdefault(number, sequence) != sequence:
            found.faults.append(f"message {number} became two: {found.stored[number]} and {sequence}")


async def _receive(node: Node, found: Round, crash: asyncio.Event) -> None:
    """The receiving app: for ever."""
    while True:
        crash.clear()
        with contextlib.suppress(SidecarError):
            async with node.connect() as client, client.receive_durable(_PROTOCOL) as messages:
                reading = asyncio.create_task(_settle_all(messages, found))
                crashed = asyncio.create_task(crash.wait())
                try:
                    await asyncio.wait((reading, crashed), return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for task in (reading, crashed):
                        task.cancel()
                    await asyncio.gather(reading, crashed, return_exceptions=True)


async def _settle_all(messages: sidecar_client.DurableReceiver, found: Round) -> None:
    settling: set[asyncio.Task[None]] = set()
    async for message in messages:
        number, sequence = int(message.data), message.message_id.sequence
        if number in found.settled:
            found.faults.append(f"message {number} came again after its settlement was confirmed")
        if sequence in found.seen[-1:] or (found.seen and sequence <= found.seen[-1]):
            found.repeated += 1
        else:
            if sequence != len(found.seen) + 1:
                found.faults.append(f"sequence {sequence} came when {len(found.seen) + 1} was due")
            found.seen.append(sequence)
        task = asyncio.create_task(_settle(message, number, found))
        settling.add(task)
        task.add_done_callback(settling.discard)


async def _settle(message: DurableMessage, number: int, found: Round) -> None:
    found.handled[number] = None
    with contextlib.suppress(SidecarError):
        if await message.acknowledge():
            found.settled[number] = message.message_id.sequence


async def play(place: Path, messages: int, kills: int, rng: random.Random) -> Round:
    """One round, in a folder of its own."""
    found = Round(messages)
    receiver = Node(place / "receiver")
    await receiver.start()
    sender = Node(place / "sender", "--bootstrap", receiver.address)
    await sender.start()
    crashes = {victim: asyncio.Event() for victim in _VICTIMS}
    begun = time.monotonic()
    sending = asyncio.create_task(_send(sender, receiver.peer_id, found, crashes["sender's app"]))
    receiving = asyncio.create_task(_receive(receiver, found, crashes["receiver's app"]))
    try:
        for part in range(kills):
            goal = int(messages * (part + rng.random()) / kills)
            await _until(partial(_come, found, goal, sending), found)
            victim = rng.choice(_VICTIMS)
            found.kills[victim] += 1
            if victim == "sender's sidecar":
                await sender.kill()
                await sender.start()
            elif victim == "receiver's sidecar":
                await receiver.kill()
                await receiver.start()
            else:
                crashes[victim].set()
        await _until(lambda: sending.done() and len(found.handled) == messages, found)
        async with sender.connect() as client:
            left = await client.outbox()
            deadline = time.monotonic() + PATIENCE
            while left and time.monotonic() < deadline:
                await asyncio.sleep(0.1)
                left = await client.outbox()
            found.left = len(left)
    finally:
        sending.cancel()
        receiving.cancel()
        await asyncio.gather(sending, receiving, return_exceptions=True)
        found.seconds = time.monotonic() - begun
        await sender.stop()
        await receiver.stop()
    return found


def _come(found: Round, goal: int, sending: "asyncio.Task[None]") -> bool:
    return len(found.handled) >= goal or sending.done()


async def _until(reached: Callable[[], bool], found: Round) -> None:
    """Wait for something; give up when nothing has been settled for long."""
    last, since = -1, time.monotonic()
    while not reached():
        progress = len(found.handled) + len(found.stored)
        if progress != last:
            last, since = progress, time.monotonic()
        if time.monotonic() > since + PATIENCE:
            return
        await asyncio.sleep(0.01)


async def _play(place: Path, plan: Plan) -> Found:
    rounds = []
    for number in range(plan.rounds):
        home = place / str(number)
        home.mkdir()
        found = await play(home, plan.messages, plan.kills, random.Random(plan.seed + number))
        rounds.append(found)
        print(
            f"  round {number + 1}: {found.lost} lost, {found.left} left, {len(found.faults)} faults, "
            f"{found.repeated} repeated, {sum(found.kills.values())} kills, {found.seconds:.1f} s",
            flush=True,
        )
    kills: Counter[str] = sum((found.kills for found in rounds), Counter())
    lost, left = sum(found.lost for found in rounds), sum(found.left for found in rounds)
    seen = (
        f"{len(rounds)} rounds of {plan.messages:,} messages; "
        f"killed: {', '.join(f'{name} {kills[name]} times' for name in _VICTIMS)}; {lost} lost, {left} left in the "
        f"outbox; {sum(found.repeated for found in rounds):,} delivered again before they were settled"
    )
    faults = [fault for found in rounds for fault in found.faults]
    if lost or left:
        faults.append(f"{lost} messages were lost, and {left} were left in the outbox")
    return Found(seen, faults)


SCENE = Scene(
    "kill",
    "sidecars (SIGKILL) and apps of both sides die at random moments while durable messages are sent: none is lost, "
    "none comes again once its settlement was confirmed, order is kept",
    _play,
)
