"""Plays the ways: every pair of places, by every way, with real sidecars."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from sidecar_client import PeerPath, SidecarError

from bench.reach.gateways import daemon, gateways
from bench.reach.kinds import KINDS, SHARED, Kind, Pair, Way, must, pairs
from bench.reach.nodes import Fleet, Node, until
from bench.reach.places import Internet

_AT_ONCE = 8  # pairs that are tried at the same time, none with a node in common
_DIAL = 30.0
_KNOCK = 6.0  # seconds for an address that nobody may answer at
_MAPPING = 60.0  # seconds for a gateway to be found, and to answer
_PUNCH = 40.0  # seconds from the connection through the relay to the one without, or until it is given up


class Outcome(NamedTuple):
    """What came of a pair by a way."""

    pair: Pair
    way: Way
    connected: bool | None
    """None where it could not be tried here."""
    seconds: float
    """From the call until the connection was such as the way wants it; of the slower direction."""
    said: str = ""
    """Why not."""

    @property
    def holds(self) -> bool:
        """Whether it is as it must be: where the NATs forbid it, a connection would be wrong as well."""
        return self.connected is None or self.connected == must(self.pair, self.way)


class Meeting(NamedTuple):
    """Two nodes, the first of which dials."""

    pair: Pair
    dialler: Node
    other: Node


Try = Callable[[Fleet, Meeting], Awaitable[float | str]]
"""Plays a meeting: the seconds that it took, or why there was no such connection."""


def kinds_needed() -> list[Kind]:
    """The places of the laboratory: two of each kind, so that a kind meets itself too, and those with two homes."""
    return [kind for kind in KINDS for _ in range(2)] + list(SHARED)


def _nodes(internet: Internet) -> dict[tuple[str, int], Node]:
    nodes = {}
    for kind in KINDS:
        for number in range(2):
            host = internet.place(kind, number).homes[0]
            nodes[kind.name, number] = Node(f"{kind.title} {'AB'[number]}", host)
    for kind in SHARED:
        for number, host in enumerate(internet.place(kind).homes):
            nodes[kind.name, number] = Node(f"{kind.title}, {'AB'[number]}", host)
    return nodes


def _meetings(nodes: dict[tuple[str, int], Node], both: bool) -> list[Meeting]:
    """Who dials whom. `both`: also the other way round, by other nodes, so that nothing is left of the first time."""
    found = []
    for pair in pairs():
        found.append(Meeting(pair, nodes[pair.one.name, 0], nodes[pair.other.name, 1]))
        if both and pair.one != pair.other:
            found.append(Meeting(pair, nodes[pair.other.name, 0], nodes[pair.one.name, 1]))
    return found


async def play(internet: Internet, way: Way, home: Path, say: Callable[[str], None]) -> list[Outcome]:
    """Every pair by a way. Raises LabFailed."""
    program = daemon()
    if way is not Way.MAPPED:
        return await _play(internet, way, home, say)
    if program is None:
        say("mapped: miniupnpd is not here (make miniupnpd)")
        return [Outcome(pair, way, None, 0.0) for pair in pairs()]
    with gateways(program, [place for place in internet.places if not place.kind.public]):
        return await _play(internet, way, home, say)


async def _play(internet: Internet, way: Way, home: Path, say: Callable[[str], None]) -> list[Outcome]:
    nodes = _nodes(internet)
    settings = {
        "relay-punch": "false" if way is Way.RELAYED else "true",  # it also has nodes dial from where they listen
        "nat-mapping": "on" if way is Way.MAPPED else "off",
    }
    async with Fleet(internet, home) as fleet:
        await fleet.start(list(nodes.values()), settings, {})
        say(f"{way}: {len(nodes)} sidecars have their places with the relay")
        if way is Way.MAPPED:
            for (name, _), node in nodes.items():
                if any(kind.maps for kind in KINDS if kind.name == name):
                    await until(partial(_mapped, node), _MAPPING, f"the gateway maps no port for {node.title}")
        tries: dict[Way, Try] = {
            Way.DIRECT: _direct,
            Way.MAPPED: _direct,
            Way.PUNCHED: _punched,
            Way.RELAYED: _relayed,
        }
        results = await _all(fleet, _meetings(nodes, way is not Way.RELAYED), tries[way])
    return [_outcome(pair, way, found) for pair, found in results.items()]


async def _mapped(node: Node) -> bool:
    mapping = (await node.client.info()).port_mapping
    return mapping is not None and mapping.state == "mapped"


def _outcome(pair: Pair, way: Way, found: Sequence[float | str]) -> Outcome:
    vain = [result for result in found if isinstance(result, str)]
    times = [result for result in found if not isinstance(result, str)]
    one_is_enough = way in (Way.DIRECT, Way.MAPPED) and bool(times)
    connected = one_is_enough or not vain
    return Outcome(pair, way, connected, max(times) if connected else 0.0, "; ".join(dict.fromkeys(vain)))


async def _all(fleet: Fleet, meetings: Sequence[Meeting], attempt: Try) -> dict[Pair, list[float | str]]:
    """Play all meetings, some at a time; no node is in two of them at once."""
    results: dict[Pair, list[float | str]] = {meeting.pair: [] for meeting in meetings}
    gate = asyncio.Semaphore(_AT_ONCE)
    locks = {node.title: asyncio.Lock() for node in fleet.nodes}

    async def one(meeting: Meeting) -> None:
        first, second = sorted((meeting.dialler.title, meeting.other.title))
        async with locks[first], locks[second], gate:
            results[meeting.pair].append(await attempt(fleet, meeting))
            await fleet.part(meeting.dialler, meeting.other)

    await asyncio.gather(*(one(meeting) for meeting in meetings))
    return results


# ---------------------------------------------------------------- the ways


async def _direct(fleet: Fleet, meeting: Meeting) -> float | str:
    _, dialler, other = meeting
    announced = (await other.client.info()).announced_addresses
    addresses = [*(address for address in announced if "/p2p-circuit" not in address), *await fleet.seen(other)]
    begun = time.monotonic()
    try:
        await dialler.client.connect_peer(other.peer_id, addresses=addresses, timeout=_KNOCK)
        took = time.monotonic() - begun
        return await _proven(meeting, PeerPath.DIRECT, took)
    except SidecarError as error:
        return f"{type(error).__name__}: {error}"


async def _relayed(fleet: Fleet, meeting: Meeting) -> float | str:
    _, dialler, other = meeting
    begun = time.monotonic()
    try:
        await dialler.client.connect_peer(other.peer_id, addresses=[fleet.circuit(dialler, other)], timeout=_DIAL)
        took = time.monotonic() - begun
        return await _proven(meeting, PeerPath.RELAYED_LIMITED, took)
    except SidecarError as error:
        return f"{type(error).__name__}: {error}"


async def _punched(fleet: Fleet, meeting: Meeting) -> float | str:
    return await punch(fleet, meeting.dialler, meeting.other)


async def punch(fleet: Fleet, dialler: Node, other: Node) -> float | str:
    """Connect through the relay, and wait for a connection without it: the seconds, or why there is none."""
    said_before = other.logged()
    begun = time.monotonic()
    try:
        await dialler.client.connect_peer(other.peer_id, addresses=[fleet.circuit(dialler, other)], timeout=_DIAL)
        while True:
            ways = [await _path(dialler, other), await _path(other, dialler)]
            if ways == [PeerPath.DIRECT, PeerPath.DIRECT]:
                took = time.monotonic() - begun
                await dialler.asks(other)
                await other.asks(dialler)
                return took
            # By the log, for the counters also have those of peers that come back by themselves after a meeting.
            if other.said(said_before, "it stays relayed", dialler.peer_id):
                return "the hole was given up"
            if time.monotonic() - begun > _PUNCH:
                return f"neither direct nor given up after {_PUNCH:g} s: {ways}"
            await asyncio.sleep(0.02)
    except SidecarError as error:
        return f"{type(error).__name__}: {error}"


async def _path(node: Node, other: Node) -> PeerPath:
    peer = await node.peer(other)
    return PeerPath.UNSPECIFIED if peer is None else peer.path


async def _proven(meeting: Meeting, path: PeerPath, took: float) -> float | str:
    """The seconds, where the connection is of this kind and both apps get an answer over it."""
    _, dialler, other = meeting
    found = await _path(dialler, other)
    if found != path:
        return f"the connection is {found.name}, not {path.name}"
    await dialler.asks(other)
    await other.asks(dialler)
    return took
