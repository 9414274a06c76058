"""Plays the attacks that a mesh has to stand against real sidecars, and tells what became of honest messages.

    python -m bench.defence [--kinds forged,huge] [--seconds 12] [--write]

Some sidecars on loopback; an app of one publishes 100 signed messages of 100 bytes a second, and apps of all others
receive them. It is measured before an attack, while it goes on, and after it. For each attack the table has the share
of honest messages that came, the times from app to app at the receiver where they were longest, the attacked sidecar's
CPU as a share of one core (with the processes that check signatures for it), by how much its memory grew at most, and
when the attackers were sent away. `--write` puts the table into docs/defence.md.

It ends with 1 where an honest message was lost or came twice, or where memory grew beyond the bound. Messages that came
in another order are told: gossip promises none where they come by several ways.
Times depend on the machine and on what else it does: they are judged in words only.
"""

import argparse
import asyncio
import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from bench import page
from bench.apps import spawn_module
from bench.measure import CpuMeter, resident_mb
from bench.sidecars import Sidecar, start_sidecar

_RATE, _SIZE = 100, 100
_QUIET = 5.0  # seconds measured before an attack, and after it
_PATIENCE = 20.0  # seconds for messages that are late
_SETTLE = 2.0
_LIMIT = 2.0  # times that the 99th percentile may grow
# What may be kept of messages on the way: 32 MiB that wait for their signatures, 32 MiB of the newest, for those who
# ask for them, and 8 MiB for each peer that reads slowly, of which there are four; and what Python needs around these.
_BOUND_MB = 128.0
_BEGIN, _END = "<!-- make attack: begin -->", "<!-- make attack: end -->"


@dataclass(frozen=True)
class Attack:
    """An attack of the table: who takes part and how."""

    kind: str  # of `bench.hostile`
    name: str
    peers: int = 1  # attackers, each connected to all that are attacked
    nodes: int = 5
    everybody: bool = False  # all sidecars are attacked, else the first
    sparse: bool = False  # honest sidecars are connected to three others, and seek nobody else
    seconds: float = 0.0  # at least
    flags: tuple[str, ...] = ()  # of all sidecars
    age: float = 0.0  # of a message that is replayed


ATTACKS = (
    Attack("forged", "invalid signatures, 8 connections", 8),
    Attack("forged-large", "large RPCs of invalid signatures, 20 connections", 20),
    Attack("valid", "valid signed messages as fast as they are read, one peer"),
    Attack("huge", "valid messages of 900 kB as fast as they are read, one peer"),
    Attack(
        "replay",
        "replays older than the seen cache",
        seconds=36.0,
        flags=("--gossip-seen-ttl", "5s"),
        age=11.0,
    ),
    Attack(
        "dht-victim",
        "DHT answers that name one victim under made-up ids, 3 peers",
        3,
        seconds=20.0,
        flags=("--limits-exempt-networks", "192.0.2.0/24"),  # loopback counts like any other network
    ),
    Attack("sybil", "30 sybils in the mesh of all of 8 nodes, forwarding nothing", 30, 8, everybody=True, sparse=True),
    Attack("stranger", "eclipse: 40 strangers come first", 40),
)


@dataclass
class Outcome:
    """What was measured of one attack."""

    attack: Attack
    sent: int = 0  # honest messages, each to every receiver
    received: int = 0
    repeated: int = 0
    disordered: int = 0
    hostile: int = 0
    before: dict[str, float] = field(default_factory=dict)
    during: dict[str, float] = field(default_factory=dict)
    after: dict[str, float] = field(default_factory=dict)
    cpu: float = 0.0
    grown_mb: float = 0.0
    away: list[float] = field(default_factory=list)  # seconds
    reasons: dict[str, int] = field(default_factory=dict)
    connections: int = 0  # of attackers
    remarks: list[str] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        """How many times the 99th percentile grew."""
        return self.during["p99"] / max(0.1, self.before["p99"])

    @property
    def faults(self) -> list[str]:
        """What must not be, in words."""
        found = []
        if self.received < self.sent:
            found.append(f"{self.sent - self.received} of {self.sent} honest messages did not come")
        if self.repeated:
            found.append(f"{self.repeated} messages came twice")
        if self.grown_mb > _BOUND_MB:
            found.append(f"memory grew by {self.grown_mb:.0f} MB, and the bound is {_BOUND_MB:.0f}")
        return found

    def row(self) -> str:
        """The line of the table."""
        if self.away:
            who = "all" if len(self.away) >= self.connections else f"{len(self.away)} of {self.connections}"
            away = f"{who}, after {min(self.away):.1f}"
            away += f" to {max(self.away):.1f} s" if max(self.away) - min(self.away) >= 0.1 else " s"
        else:
            away = "-"
        times = " | ".join(
            f"{each['p50']:.1f} / {each['p99']:.1f} ms" if each else "-"
            for each in (self.before, self.during, self.after)
        )
        share = 100.0 * self.received / self.sent
        shown = f"{share:.0f} %" if self.received == self.sent else f"{share:.2f} %"
        return (
            f"| {self.attack.name} | {shown} | {times} | {self.ratio:.1f} | {self.cpu:.0%} | {self.grown_mb:+.0f} MB | "
            f"{away} | {'; '.join(self.remarks) or '-'} |"
        )


_HEAD = (
    "| attack | delivered | before, p50 / p99 | during | after | p99 grew | CPU | memory | sent away | further |\n"
    "|---|---|---|---|---|---|---|---|---|---|"
)


class Mesh:
    """The honest sidecars: the first is attacked, the second publishes."""

    def __init__(self, sidecars: list[Sidecar]) -> None:
        self.attacked, self.sender, *self.others = sidecars
        self._known: dict[str, dict[str, Any]] = {}
        self.sent = 0

    @property
    def receivers(self) -> list[Sidecar]:
        return [self.attacked, *self.others]

    async def attend(self) -> None:
        """Have all but the publisher listen."""
        for sidecar in self.receivers:
            await sidecar.app.call("attend", signed=True)
        await self.sender.app.call("join", signed=True)

    async def publish(self, seconds: float) -> dict[str, float]:
        """Publish for so long, and wait until all has come; the times at the slowest receiver."""
        count = round(_RATE * seconds)
        for sidecar in self.receivers:
            await sidecar.app.call("attended")  # its times begin anew
        await self.sender.app.call("stream_at", timeout=120, size=_SIZE, count=count, rate=_RATE)
        self.sent += count
        until = time.monotonic() + _PATIENCE
        times: dict[str, float] = {"p50": 0.0, "p99": 0.0}
        for sidecar in self.receivers:
            best: dict[str, float] = {"p50": 0.0, "p99": 0.0}
            while True:
                told = await sidecar.app.call("attended")
                self._known[sidecar.peer_id] = told
                if told["latency_ms"]["p99"]:
                    best = {key: max(best[key], told["latency_ms"][key]) for key in best}
                if told["received"] >= self.sent or time.monotonic() > until:
                    break
                await asyncio.sleep(0.2)
            times = max(times, best, key=lambda each: each["p99"])
        return times

    def count(self, outcome: Outcome) -> None:
        """Enter what came of all that was published."""
        outcome.sent = self.sent * len(self.receivers)
        for told in self._known.values():
            outcome.received += min(told["received"], self.sent)
            outcome.repeated += told["repeated"]
            outcome.disordered += told["disordered"]
            outcome.hostile = max(outcome.hostile, told["hostile"])
        if outcome.disordered:
            outcome.remarks.append(f"{outcome.disordered} messages came in another order")
        for told in self._known.values():
            if told["lagged"]:
                outcome.remarks.append(f"an app lagged {told['lagged']} times")


@contextlib.asynccontextmanager
async def attackers(attack: Attack, outcome: Outcome, addresses: list[str], *flags: str) -> AsyncIterator[None]:
    """Attackers at work; what became of them is entered at the end."""
    arguments = [attack.kind, *addresses, "--peers", str(attack.peers), *flags]
    process = await spawn_module("bench.hostile", *arguments, stderr=subprocess.DEVNULL)
    assert process.stdout is not None
    assert process.stdin is not None
    outcome.connections = attack.peers * len(addresses)
    ready = asyncio.Event()

    async def read() -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            word, _, rest = line.decode().strip().partition(" ")
            if word == "ready":
                ready.set()
            elif word == "away":
                seconds, _, reason = rest.partition(" ")
                outcome.away.append(float(seconds))
                outcome.reasons[reason] = outcome.reasons.get(reason, 0) + 1

    reading = asyncio.create_task(read())
    try:
        await asyncio.wait_for(ready.wait(), 300)
        yield
    finally:
        process.stdin.close()
        await reading
        await process.wait()


@contextlib.asynccontextmanager
async def watched(outcome: Outcome, sidecar: Sidecar) -> AsyncIterator[None]:
    """Measures a sidecar's CPU and the most memory."""
    before = resident_mb([sidecar.pid])
    begun = time.monotonic()

    async def look() -> None:
        while True:
            outcome.grown_mb = max(outcome.grown_mb, resident_mb([sidecar.pid]) - before)
            await asyncio.sleep(0.25)

    looking = asyncio.create_task(look())
    try:
        with CpuMeter([sidecar.pid]) as meter:
            yield
        outcome.cpu = meter.seconds / (time.monotonic() - begun)
    finally:
        looking.cancel()


async def _connect(sidecars: list[Sidecar], sparse: bool) -> None:
    for index, sidecar in enumerate(sidecars):
        # Sparse: a ring with chords, in which each has three neighbours. Else all come to the first, and find the rest.
        others = [(index + 1) % len(sidecars)] + [index + len(sidecars) // 2] * (index < len(sidecars) // 2)
        for other in others if sparse else [0] * (index > 0):
            await sidecar.app.call("connect", addresses=sidecars[other].addresses)


@contextlib.asynccontextmanager
async def victim(outcome: Outcome) -> AsyncIterator[list[str]]:
    """Somebody who has nothing to do with it, at eight ports: how many connections came is remarked."""
    dials = 0

    def came(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal dials
        dials += 1
        writer.close()

    servers = [await asyncio.start_server(came, "127.0.0.1", 0) for _ in range(8)]
    begun = time.monotonic()
    ports = [server.sockets[0].getsockname()[1] for server in servers]
    yield [word for port in ports for word in ("--victim", f"/ip4/127.0.0.1/tcp/{port}")]
    rate = dials / (time.monotonic() - begun) / outcome.attack.nodes
    outcome.remarks.append(f"{dials} dials to the victim, {rate:.2f} a second from each node")
    for server in servers:
        server.close()


async def play(attack: Attack, seconds: float) -> Outcome:
    """Play one attack."""
    outcome = Outcome(attack)
    seconds = max(seconds, attack.seconds)
    if attack.kind == "stranger":
        await _eclipse(attack, outcome, seconds)
        return outcome
    async with contextlib.AsyncExitStack() as stack:
        flags = [*attack.flags, *(("--peers-target", "0") if attack.sparse else ())]
        sidecars = [await start_sidecar(stack, *flags) for _ in range(attack.nodes)]
        for sidecar in sidecars:
            await sidecar.add_app(stack)
        await _connect(sidecars, attack.sparse)
        mesh = Mesh(sidecars)
        await mesh.attend()
        await asyncio.sleep(_SETTLE)
        outcome.before = await mesh.publish(_QUIET)
        addresses = [sidecar.addresses[0] for sidecar in (sidecars if attack.everybody else sidecars[:1])]
        async with watched(outcome, mesh.attacked), contextlib.AsyncExitStack() as attacking:
            extra = ["--age", str(attack.age)] if attack.age else []
            if attack.kind == "dht-victim":
                extra += await attacking.enter_async_context(victim(outcome))
            await attacking.enter_async_context(attackers(attack, outcome, addresses, *extra))
            outcome.during = await mesh.publish(seconds)
        outcome.after = await mesh.publish(_QUIET)
        mesh.count(outcome)
        if attack.kind in ("valid", "huge"):
            outcome.remarks.append(f"{outcome.hostile} messages of the attacker delivered")
        told = await mesh.attacked.app.call("statistics")
        if attack.kind == "replay":
            outcome.remarks.append(f"{told.get('gossip_ignored_replay', 0):.0f} replays ignored at the attacked")
    return outcome


def free_port() -> int:
    """A port of loopback that nobody has now."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


async def _eclipse(attack: Attack, outcome: Outcome, seconds: float) -> None:
    """Strangers come first, before anybody honest is there. `before` is measured once they have left."""
    async with contextlib.AsyncExitStack() as stack:
        port = free_port()
        attacked = await start_sidecar(stack, "--bootstrap", f"/ip4/127.0.0.1/tcp/{port}", until=b"  address")
        await attacked.add_app(stack)
        async with contextlib.AsyncExitStack() as attacking:
            await attacking.enter_async_context(attackers(attack, outcome, attacked.addresses[:1]))
            joined = time.monotonic()
            first = await start_sidecar(stack, "--listen", f"/ip4/127.0.0.1/tcp/{port}")
            rest = [
                await start_sidecar(stack, "--bootstrap", f"/ip4/127.0.0.1/tcp/{port}") for _ in range(attack.nodes - 2)
            ]
            for sidecar in (first, *rest):
                await sidecar.add_app(stack)
            mesh = Mesh([attacked, *rest, first])
            await mesh.attend()
            await attacked.app.call("await_outbound", timeout=120)
            outcome.remarks.append(f"its first honest peer after {time.monotonic() - joined:.0f} s")
            await asyncio.sleep(2 * _SETTLE)
            async with watched(outcome, attacked):
                outcome.during = await mesh.publish(seconds)
            told = await attacked.app.call("peers")
            outcome.remarks.append(f"{told['outbound']} of {told['connected']} connections of its own choice")
        await asyncio.sleep(_SETTLE)
        outcome.before = await mesh.publish(_QUIET)
        mesh.count(outcome)


def verdict(outcomes: list[Outcome]) -> str:
    """What to think of it, in words."""
    slower = [each for each in outcomes if each.ratio > _LIMIT]
    if not slower:
        return f"The 99th percentile stayed within {_LIMIT:g} times what it was before, in all attacks."
    named = ", ".join(f"{each.attack.name} ({each.ratio:.1f})" for each in slower)
    return f"The 99th percentile grew to more than {_LIMIT:g} times what it was before in: {named}."


def replaced(document: str, text: str) -> str:
    """The page with this table between its marks. Raises ValueError where it has none."""
    return page.replaced(document, _BEGIN, _END, text)


async def run(kinds: list[str], seconds: float, *, into_page: bool) -> int:
    """Play the attacks, print the table; 1 where something must not be.

    Raises ValueError where the page is to be written, and has no place for it.
    """
    path = page.DOCS / "defence.md"
    if into_page:
        replaced(path.read_text(encoding="utf-8"), "")  # said now, not after all has been played
    lines = [_HEAD]
    print(_HEAD, flush=True)
    outcomes: list[Outcome] = []
    for attack in ATTACKS:
        if not kinds or attack.kind in kinds:
            outcomes.append(await play(attack, seconds))
            lines.append(outcomes[-1].row())
            print(lines[-1], flush=True)
            for reason, count in outcomes[-1].reasons.items():
                print(f"  {count} times: {reason}", file=sys.stderr)
    faults = [f"{each.attack.name}: {fault}" for each in outcomes for fault in each.faults]
    said = [verdict(outcomes), *(f"{fault}." for fault in faults)]
    print("\n" + "\n".join(said))
    if into_page:
        text = "\n".join([*lines, "", *said, "", page.facts("bench.defence")])
        path.write_text(replaced(path.read_text(encoding="utf-8"), text), encoding="utf-8")
    return 1 if faults else 0


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.defence", description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=12.0, help="of each attack, at least")
    parser.add_argument("--kinds", default="", help=f"only these, by commas: {', '.join(a.kind for a in ATTACKS)}")
    parser.add_argument("--write", action="store_true", help="put the table into docs/defence.md")
    arguments = parser.parse_args()
    kinds = [kind for kind in arguments.kinds.split(",") if kind]
    if unknown := set(kinds) - {attack.kind for attack in ATTACKS}:
        parser.error(f"no such attack: {', '.join(sorted(unknown))}")
    sys.exit(asyncio.run(run(kinds, arguments.seconds, into_page=arguments.write)))


if __name__ == "__main__":
    main()
