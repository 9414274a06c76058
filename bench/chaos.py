"""Kills sidecars and apps at random moments while durable messages are sent, and tells whether what was promised held.

    python -m bench.chaos [--rounds 20] [--messages 10000] [--kills 6] [--seed 1] [--write]

Two sidecars on loopback. An app of the first sends messages with request ids, some hundred at once, and sends again
what it was not told to be stored. An app of the second settles what it receives. Meanwhile either sidecar is killed
(SIGKILL) and started again, and either app loses its connection and all that it knew but what it had been told for
certain. A round ends when all messages are settled and the outbox is empty.

It ends with 1 where a message was lost, where one came again after its settlement was confirmed, where one became two,
or where messages came in another order. `--write` puts the figures into docs/durability.md.
"""

import argparse
import asyncio
import contextlib
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import sidecar_client
from sidecar_client import Client, Durable, DurableMessage, SendOutcome, SidecarError

from bench import page
from bench.apps import end_by_input, spawn_module

_PROTOCOL = "/chaos/1"
_AT_ONCE = 200  # messages that the sending app has not been answered for
_PATIENCE = 60.0  # seconds without progress, after which a message counts as lost
_BEGIN, _END = "<!-- make chaos: begin -->", "<!-- make chaos: end -->"
_VICTIMS = ("sender's sidecar", "receiver's sidecar", "sender's app", "receiver's app")


class Node:
    """A sidecar that can be killed and started again with the same state, at the same port."""

    def __init__(self, home: Path, *flags: str) -> None:
        home.mkdir()
        (home / "config.toml").touch()
        self.socket = home / "api"
        self._options = ["--config", str(home / "config.toml"), "--state", str(home / "state"), "--log-level", "error"]
        self._options += ["--socket", str(self.socket), *flags]
        self._listen = "/ip4/127.0.0.1/tcp/0"
        self._process: asyncio.subprocess.Process
        self.peer_id = self.address = ""

    async def start(self) -> None:
        """Run it until it has said where it listens."""
        options = [*self._options, "--listen", self._listen]
        self._process = await spawn_module("sidecar", "run", "--until-eof", *options, stderr=None)
        assert self._process.stdout is not None
        async with asyncio.timeout(_PATIENCE):
            while not (line := await self._process.stdout.readline()).startswith(b"  address"):
                if not line:
                    raise RuntimeError(f"a sidecar ended, status {await self._process.wait()}")
        self.address = line.decode().split()[-1]
        self._listen, _, self.peer_id = self.address.partition("/p2p/")

    async def kill(self) -> None:
        """SIGKILL, and a start after it."""
        self._process.kill()
        await self._process.wait()
        await self.start()

    async def stop(self) -> None:
        """End it in order."""
        await end_by_input(self._process, _PATIENCE)

    def connect(self) -> Client:
        return sidecar_client.connect(f"unix:{self.socket}", wait=_PATIENCE)


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
            elif victim == "receiver's sidecar":
                await receiver.kill()
            else:
                crashes[victim].set()
        await _until(lambda: sending.done() and len(found.handled) == messages, found)
        async with sender.connect() as client:
            left = await client.outbox()
            deadline = time.monotonic() + _PATIENCE
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
        if time.monotonic() > since + _PATIENCE:
            return
        await asyncio.sleep(0.01)


def table(rounds: list[Round], command: str) -> str:
    """The figures as a part of a page."""
    kills: Counter[str] = sum((found.kills for found in rounds), Counter())
    messages = sum(found.messages for found in rounds)
    return "\n".join(
        [
            f"`{command}`: {len(rounds)} rounds of {rounds[0].messages:,} messages, "
            f"{sum(found.seconds for found in rounds):.0f} s in all.",
            "",
            "| | |",
            "|---|---|",
            f"| killed | {', '.join(f'{name} {kills[name]} times' for name in _VICTIMS)} |",
            f"| lost, of {messages:,} | {sum(found.lost for found in rounds)} |",
            f"| left in the outbox | {sum(found.left for found in rounds)} |",
            f"| came again after a confirmed settlement, became two, or came in another order | "
            f"{sum(len(found.faults) for found in rounds)} |",
            f"| delivered again before they were settled | {sum(found.repeated for found in rounds)} |",
        ]
    )


async def run(options: argparse.Namespace) -> int:
    rounds = []
    for number in range(options.rounds):
        place = Path(tempfile.mkdtemp(prefix="sidecar-chaos-"))
        try:
            found = await play(place, options.messages, options.kills, random.Random(options.seed + number))
        finally:
            shutil.rmtree(place, ignore_errors=True)
        rounds.append(found)
        print(
            f"round {number + 1}: {found.lost} lost, {found.left} left, {len(found.faults)} faults, "
            f"{found.repeated} repeated, {sum(found.kills.values())} kills, {found.seconds:.1f} s",
            flush=True,
        )
        for fault in found.faults[:5]:
            print(f"  {fault}")
    words = "python -m bench.chaos" + "".join(f" {word}" for word in sys.argv[1:] if word != "--write")
    text = table(rounds, words)
    print(f"\n{text}")
    if options.write:
        path = page.DOCS / "durability.md"
        path.write_text(page.replaced(path.read_text(), _BEGIN, _END, f"{text}\n\n{page.facts('bench.chaos')}"))
    return int(any(found.lost or found.left or found.faults for found in rounds))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--messages", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=6, help="in each round")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--write", action="store_true", help="put the figures into docs/durability.md")
    return asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    raise SystemExit(main())
