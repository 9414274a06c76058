"""The disk of the state directory is full, read-only or slow, and then well again, while apps go on.

Two sidecars: an app of the sender sends durable messages, one of the receiver settles them. The fault is at the one, or
at the other. Meanwhile apps ask other things: what they are told, readiness and statistics have to tell of the fault,
and whatever needs no disk has to go on.

A full disk is a real one, a small tmpfs, which takes root. Read-only and slow ones are made below SQLite in the process
(`bench.chaos.faulty`): the kernel makes no file system read-only that has files open to be written.
"""

import asyncio
import contextlib
import errno
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

from sidecar_client import Client, Condition, Durable, SendOutcome

from bench.chaos.faulty import FaultyDisk
from bench.chaos.mesh import history
from bench.chaos.node import PATIENCE, Node
from bench.chaos.scene import Found, Plan, Scene, Skipped
from bench.chaos.traffic import Inbox, running, store, until, until_true

_DURABLE = "/chaos/disk/1"
_TOPIC = "chaos-disk"
_BANNED = "192.0.2.0/24"
_SOON = 15.0  # seconds until a disk that is well again is found to be
_PROMPT = 2.0  # seconds for what needs no disk; generous, for machines that are busy
_TMPFS = 24 << 20  # bytes: room for a log that is 8 MiB at most


class Disk(Protocol):
    """A disk that has a fault for a while."""

    program: tuple[str, ...] | None
    refuses: bool
    """Whether nothing can be stored; else it takes its time."""

    def begin(self) -> None:
        """From now on it has."""

    def end(self) -> None:
        """It is well again."""


class TmpfsFull:
    """A small tmpfs, which a file fills to the last page."""

    program: tuple[str, ...] | None = None
    refuses = True

    def __init__(self, state: Path) -> None:
        self._state = state

    @contextlib.contextmanager
    def mounted(self) -> Iterator["TmpfsFull"]:
        """Raises Skipped."""
        self._state.mkdir(mode=0o700)
        options = f"size={_TMPFS},mode=700"
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", self._state], capture_output=True, text=True
        )
        if done.returncode:
            raise Skipped(f"no tmpfs can be mounted: {done.stderr.strip()}")
        try:
            yield self
        finally:
            subprocess.run(["umount", "--lazy", self._state], check=True)

    def begin(self) -> None:
        with (self._state / "filler").open("wb", buffering=0) as filler:
            try:
                while True:
                    filler.write(bytes(4096))
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise

    def end(self) -> None:
        (self._state / "filler").unlink()


class Faulty:
    """One that is read-only, failing or slow by a layer below SQLite."""

    def __init__(self, file: Path, fault: str) -> None:
        self._disk = FaultyDisk(file)
        self._fault = fault
        self.refuses = not fault.startswith("slow")
        self.program: tuple[str, ...] | None = self._disk.program()

    def begin(self) -> None:
        self._disk.set(self._fault)

    def end(self) -> None:
        self._disk.set("")


class Told(NamedTuple):
    """What a sidecar and its apps were told while the disk had a fault, and how it went on."""

    outcomes: dict[str, int]
    answered: float  # seconds that the longest durable send took
    other: float  # seconds that the longest of the other calls took
    recovered: float  # seconds from the end of the fault until the sidecar had found it


@contextlib.asynccontextmanager
async def pair(place: Path, sick: str, disk: Disk) -> AsyncIterator[tuple[Node, Node]]:
    """A sender and a receiver; the disk is that of `sick`."""
    nodes = {}
    for name in ("sender", "receiver"):
        options = {"program": disk.program} if name == sick and disk.program else {}
        nodes[name] = Node(place / name, *history(_TOPIC), **options)
    sender, receiver = nodes["sender"], nodes["receiver"]
    await receiver.start()
    try:
        sender.flags += ["--bootstrap", receiver.address]
        await sender.start()
        try:
            yield sender, receiver
        finally:
            await sender.stop()
    finally:
        await receiver.stop()


async def play(place: Path, sick: str, disk: Disk, messages: int) -> Found:
    """`sick`: `sender` or `receiver`. `messages`: in each of three parts: before, while and after the fault."""
    faults: list[str] = []
    async with pair(place, sick, disk) as (sender, receiver):
        inbox = Inbox(receiver, _DURABLE)
        texts = [f"m-{number}" for number in range(3 * messages)]
        async with running(inbox.run()), sender.connect() as client:
            for text in texts[:messages]:
                await store(client, receiver.peer_id, _DURABLE, text)
            await until(lambda: len(inbox.settled) == messages)
            disk.begin()
            node = sender if sick == "sender" else receiver
            told = await _while_sick(client, node, receiver, disk, texts[messages : 2 * messages], inbox, faults)
            for text in texts[messages:]:  # with the same ids: what is stored already becomes no second message
                await store(client, receiver.peer_id, _DURABLE, text)
            await until(lambda: len(inbox.settled) == len(texts))
            if missing := inbox.missing(texts):
                faults.append(f"{len(missing)} of {len(texts)} messages never came, such as {missing[0]}")
            twice = [text for text, count in inbox.got.items() if count > 1 and text in inbox.settled]
            faults += inbox.faults
            if not await until_true(lambda: _is_empty(client)):
                faults.append("the outbox is never empty")
    outcomes = ", ".join(f"{count} {name}" for name, count in told.outcomes.items())
    seen = (
        f"{sick}'s: {messages} sends meanwhile: {outcomes}, the longest in {told.answered:.1f} s; other calls at most "
        f"{told.other:.2f} s; well again, known after {told.recovered:.1f} s; 0 of {len(texts)} lost"
    )
    if twice:
        seen += f", {len(twice)} delivered twice before they were settled"
    return Found(seen, faults)


async def _is_empty(client: Client) -> bool:
    return not await client.outbox()


async def _while_sick(
    client: Client, node: Node, receiver: Node, disk: Disk, texts: list[str], inbox: Inbox, faults: list[str]
) -> Told:
    """`node`: whose disk it is. `client`: the sender's."""
    sends = asyncio.ensure_future(_send_all(client, receiver.peer_id, texts))
    async with node.connect() as own:
        reason = "DiskRefuses" if disk.refuses else "DiskSlow"
        if not await until_true(lambda: _storing_is(own, reason)):
            faults.append(f"readiness of the {node.home.name} does not say {reason}")
        counts = await own.statistics()
        if not counts["durable_disk_refuses" if disk.refuses else "durable_disk_slow"]:
            faults.append("the statistics do not tell of it")
        other = await _others(own, node, disk, faults)
        if disk.refuses and not await until_true(lambda: _history_refuses(own)):
            faults.append(f"readiness of the {node.home.name} does not say that history is not kept")
        settled = len(inbox.settled)
        outcomes, answered = await sends
        own_sends = node is not receiver
        wanted = SendOutcome.NOT_STORED if own_sends and disk.refuses else SendOutcome.STORED
        if list(outcomes) != [wanted.name]:
            faults.append(f"apps are told {outcomes}, not {wanted.name} alone")
        if not own_sends and disk.refuses and len(inbox.settled) != settled:
            faults.append("messages were settled on a disk that refuses")
        if not (node.home / "log").read_text().count("durable messages"):
            faults.append("the log does not tell of it")
        disk.end()
        begun = time.monotonic()
        if not disk.refuses:
            await store(client, receiver.peer_id, _DURABLE, texts[0])  # that it is fast shows when something is written
        if not await until_true(lambda: _storing_is(own, ""), _SOON):
            faults.append(f"{_SOON:.0f} s after the end readiness still speaks of it")
        recovered = time.monotonic() - begun
        await own.publish(_TOPIC, b"x")
        if not await until_true(lambda: _history_is_kept(own), _SOON):
            faults.append("history is not kept again")
        return Told(outcomes, answered, other, recovered)


async def _send_all(client: Client, to: str, texts: list[str]) -> tuple[dict[str, int], float]:
    """How many ended in which way, and the seconds that the longest took."""
    outcomes: dict[str, int] = {}
    longest = 0.0

    async def send(text: str) -> None:
        nonlocal longest
        begun = time.monotonic()
        receipt = await client.send(
            to, _DURABLE, text.encode(), durable=Durable(), request_id=text, timeout=2 * PATIENCE
        )
        longest = max(longest, time.monotonic() - begun)
        outcomes[receipt.outcome.name] = outcomes.get(receipt.outcome.name, 0) + 1

    await asyncio.gather(*map(send, texts))
    return outcomes, longest


async def storing(client: Client) -> Condition | None:
    """The condition that tells of the disk of durable messages, where there is something to tell."""
    return next((each for each in (await client.readiness()).conditions if each.type == "Storing"), None)


async def _storing_is(client: Client, reason: str) -> bool:
    found = await storing(client)
    return (found.reason if found is not None and found.reason != "VolatileVolume" else "") == reason


async def _history_refuses(client: Client) -> bool:
    return "KeepingHistory" in [each.type for each in (await client.readiness()).conditions if not each.met]


async def _history_is_kept(client: Client) -> bool:
    return not await _history_refuses(client)


async def _others(client: Client, node: Node, disk: Disk, faults: list[str]) -> float:
    """What else apps ask for: the seconds that the longest took. What is to be kept answers with what is not."""
    longest = 0.0

    async def timed(what: str, call: Callable[[], Awaitable[object]], most: float = _PROMPT) -> object:
        nonlocal longest
        begun = time.monotonic()
        async with asyncio.timeout(PATIENCE):
            answer = await call()
        seconds = time.monotonic() - begun
        if most == _PROMPT:
            longest = max(longest, seconds)
        if seconds > most:
            faults.append(f"{what} took {seconds:.1f} s")
        return answer

    banning = asyncio.ensure_future(timed("a ban", lambda: client.ban_peer(network=_BANNED, reason="disk"), PATIENCE))
    for _ in range(20):
        await timed("a call", client.info)
        await timed("a publication", lambda: client.publish(_TOPIC, b"x"))
        await asyncio.sleep(0.05)
    peers = [peer.peer_id async for peer in client.peers(connected_only=True)]
    for peer in peers:
        await timed("a ping", lambda peer=peer: client.ping_peer(peer))  # type: ignore[misc]
    banned = await banning
    warnings = getattr(banned, "warnings", ())
    if disk.refuses and not any("not after a restart" in warning for warning in warnings):
        faults.append(f"a ban that is not kept says {warnings}")
    if not disk.refuses and warnings:
        faults.append(f"a ban is not kept by a slow disk: {warnings}")
    return longest


# ------------------------------------------------------------ the scenes


async def full(place: Path, messages: int) -> Found:
    """Both sides in turn; and a start, a kill and a start while it is full. Raises Skipped."""
    seen, faults = [], []
    for sick in ("sender", "receiver"):
        here = place / sick
        here.mkdir()
        (here / sick).mkdir()
        with TmpfsFull(here / sick / "state").mounted() as disk:
            found = await play(here, sick, disk, messages)
        seen.append(found.seen)
        faults += [f"{sick}'s: {fault}" for fault in found.faults]
    found = await started_full(place / "start")
    return Found("; ".join([*seen, found.seen]), [*faults, *found.faults])


async def started_full(place: Path) -> Found:
    """A sidecar that is killed and started while its disk is full: what there is can be read, nothing is lost."""
    faults = []
    (place / "node").mkdir(parents=True)
    with TmpfsFull(place / "node" / "state").mounted() as disk:
        node = Node(place / "node")
        await node.start()

        other = Node(place / "other")
        await other.start()
        peer = other.peer_id
        await other.stop()
        async with node.connect() as client:
            await store(client, peer, _DURABLE, "kept-0")
            await client.ban_peer(network=_BANNED)
        disk.begin()
        await node.kill()
        try:
            await node.start()
        except RuntimeError as error:
            if "make room" not in str(error) and "is full" not in str(error):
                faults.append(f"a start on a full disk ends without a remedy: {error}")
            seen = "a start on a full disk is refused, with a remedy"
        else:
            seen = "a start on a full disk succeeds"
            async with node.connect() as client:
                if [message.message_id.sequence for message in await client.outbox()] != [1]:
                    faults.append("the outbox cannot be read on a full disk")
                receipt = await client.send(peer, _DURABLE, b"kept-1", durable=Durable(), request_id="kept-1")
                if receipt.outcome is not SendOutcome.NOT_STORED:
                    faults.append(f"a full disk after a start: {receipt.outcome.name}")
            await node.stop()
        disk.end()
        await node.start()
        async with node.connect() as client:
            await store(client, peer, _DURABLE, "kept-1")
            if len(await client.outbox()) != 2:
                faults.append("a message is lost after a start on a full disk")
            if [ban.network async for ban in client.bans()] != [_BANNED]:
                faults.append("a ban is lost after a start on a full disk")
        await node.stop()
    return Found(seen, faults)


async def faulty(place: Path, fault: str, messages: int) -> Found:
    """Both sides in turn. Raises Skipped."""
    seen, faults = [], []
    for sick in ("sender", "receiver"):
        here = place / sick
        here.mkdir()
        found = await play(here, sick, Faulty(here / "disk", fault), messages)
        seen.append(found.seen)
        faults += [f"{sick}'s: {fault}" for fault in found.faults]
    return Found("; ".join(seen), faults)


async def _full(place: Path, plan: Plan) -> Found:
    # So few that SQLite's log has not been through its 2,000 pages: what it has, it would use again on a full disk.
    return await full(place, 10 if plan.short else 50)


async def _read_only(place: Path, plan: Plan) -> Found:
    return await faulty(place, "read-only", 10 if plan.short else 200)


async def _slow(place: Path, plan: Plan) -> Found:
    return await faulty(place, "slow 0.3" if plan.short else "slow 1.0", 10 if plan.short else 200)


_HELD = "apps are told, readiness and statistics tell, all else goes on, it recovers without a restart, nothing is lost"
FULL_SCENE = Scene("disk-full", f"the disk of a state directory is full, at sender or receiver: {_HELD}", _full)
READ_ONLY_SCENE = Scene("disk-read-only", f"the disk can only be read: {_HELD}", _read_only)
SLOW_SCENE = Scene(
    "disk-slow",
    "the disk takes a second for each write and each fsync: durable sends wait, no other call does; readiness and "
    "statistics tell; nothing is lost",
    _slow,
)
