"""Checks of the sidecar that runs, asked through its API."""

import time
from collections.abc import AsyncIterator, Iterator
from statistics import median

from sidecar_client import Client, NodeInfo, Reachability, Statistics

from .. import __version__
from ..config import Config
from ..core.patterns import matches
from .finding import Finding, ok, problem, skipped, warning

_CALLS = 21
_SLOW, _TOO_SLOW = 0.05, 0.5  # seconds of one small call; a guess: it takes about one millisecond
_LATE = 0.1  # seconds by which the loop may be late; a guess: below it people and protocols do not notice
_SETTLED = 300.0  # seconds after which peers should have come; a guess
_PLACES_LOST = 3  # times that a place with a relay may be lost; a guess: relays restart now and then
_ENOUGH = 3  # peers from which on none of them inbound says something


def versions(node: NodeInfo) -> Finding:
    """This command's version beside the sidecar's."""
    if node.version == __version__:
        return ok("version", f"sidecar {node.version}")
    words = f"the sidecar that runs is {node.version}, this command {__version__}"
    return warning("version", words, "restart the sidecar, or use the command of its version")


async def engine(client: Client, node: NodeInfo) -> Finding:
    """What speaks gRPC to apps, and whether it does so only because the faster engine's package is missing."""
    check = "engine"
    serving = node.api_engine
    if not serving:
        return skipped(check, "the sidecar that runs does not say what serves its API")
    wanted = [entry.value for entry in await client.configuration() if entry.name == "api.engine"]
    if wanted == ['"auto"'] and serving == "grpcio":
        words = "the API is served by grpcio: api.engine is auto, and ngh2 was not installed when the sidecar started"
        remedy = "install ngh2 beside the sidecar and restart it: a call takes a third of the CPU then"
        return warning(check, words, remedy)
    return ok(check, f"the API is served by {serving}")


async def readiness(client: Client) -> AsyncIterator[Finding]:
    """The conditions of readiness, with their own remedies."""
    for condition in (await client.readiness()).conditions:
        if condition.met and condition.remedy:
            yield warning("ready", f"{condition.type}: {condition.message}", condition.remedy)
        elif condition.met:
            yield ok("ready", f"{condition.type}: {condition.message}")
        else:
            yield problem("ready", f"{condition.type}: {condition.message}", condition.remedy)


async def latency(client: Client) -> Finding:
    """How long a small call takes."""
    times = []
    for _ in range(_CALLS):
        begun = time.perf_counter()
        await client.info()
        times.append(time.perf_counter() - begun)
    usual, worst = median(times), max(times)
    words = f"a call of the API takes {usual * 1000:.1f} ms, the slowest of {_CALLS} {worst * 1000:.1f} ms"
    remedy = "look at the CPU of the sidecar and of this machine (`top`, limits of its cgroup)"
    if usual > _TOO_SLOW:
        return problem("API latency", words, remedy)
    if usual > _SLOW:
        return warning("API latency", words, remedy)
    return ok("API latency", words)


def loop(statistics: Statistics) -> Finding:
    """How late the sidecar's event loop was, since its start."""
    check = "event loop"
    lag = statistics.histograms.get("event_loop_lag_seconds")
    if lag is None or not sum(lag.counts):
        return skipped(check, "the sidecar has not measured it yet")
    looks = sum(lag.counts)
    late = sum(
        count for bound, count in zip((*lag.upper_bounds, float("inf")), lag.counts, strict=True) if bound > _LATE
    )
    words = f"the event loop was over {_LATE * 1000:g} ms late in {late} of {looks} looks"
    if late * 100 > looks:
        remedy = "the node has more to do than its CPU allows: give it more, or less traffic"
        return warning(check, words, remedy)
    return ok(check, words)


def twins(statistics: Statistics) -> Finding:
    """Whether peers of this node were seen twice at once, from different places."""
    count = statistics.get("identity_conflicts", 0)
    if not count:
        return ok("peers", "no peer was seen in two places at once")
    remedy = "the log names it at each ('two nodes with one identity'): give one of the two a key of its own"
    return warning("peers", f"{count:.0f} times a peer was seen in two places at once", remedy)


async def inbound(client: Client, node: NodeInfo) -> Finding:
    """Whether others connect to this node at all."""
    check = "inbound"
    ways = [peer.direction.name async for peer in client.peers(connected_only=True)]
    coming = ways.count("INBOUND")
    words = f"{coming} of {len(ways)} peers have connected to this node"
    if node.reachability in (Reachability.CONFIRMED, Reachability.NOT_REACHABLE):
        return ok(check, words)  # whether they can is known better: a condition of readiness says it
    if coming or not node.listening_addresses:
        return ok(check, words)
    if len(ways) < _ENOUGH or node.uptime < _SETTLED:
        return ok(check, f"{words}, after {node.uptime:.0f} s")
    remedy = "open or map the port that it listens at, and set listen.announce to where others reach it"
    return warning(check, f"{words} in {node.uptime / 60:.0f} minutes: it may not be reachable", remedy)


def relays(statistics: Statistics, config: Config) -> Iterator[Finding]:
    """Places with relays, and whether this node turns others away as one."""
    check = "relays"
    places, wanted = statistics.get("relay_places", 0), statistics.get("relay_places_wanted", 0)
    words = f"{places:.0f} of {wanted:.0f} places with relays"
    if wanted and not places:
        reasons = _amounts(statistics, "relay_places_failed_")
        why = f"; asked in vain: {reasons}" if reasons else "; no relay was found yet"
        remedy = (
            "try a relay with `sidecar ping`, and look whether it runs with relay.server = true; where it refuses, it "
            "is full: raise relay.server_reservations there, or name another in relay.relays"
        )
        yield warning(check, words + why, remedy)
    elif wanted:
        yield ok(check, words)
    lost = statistics.get("relay_places_lost", 0)
    if lost > _PLACES_LOST:
        remedy = "look whether the relay restarts, or the network to it breaks; a second relay bridges it"
        yield warning(check, f"places with relays were lost {lost:.0f} times", remedy)
    refused = {
        status: statistics.get(f"relay_requests_refused_{status}", 0)
        for status in ("reservation_refused", "resource_limit_exceeded")
    }
    if any(refused.values()):
        words = f"this relay has turned away {refused['reservation_refused']:.0f} who wanted a place, and "
        words += f"{refused['resource_limit_exceeded']:.0f} who wanted to be connected: its bounds were reached"
        remedy = (
            "raise relay.server_reservations, ..._per_address and ..._per_network, or relay.server_circuits and "
            "..._per_peer, or run another relay"
        )
        yield warning(check, words, remedy)
    elif config.relay.server:
        held, carried = statistics.get("relay_reservations", 0), statistics.get("relay_circuits", 0)
        yield ok(check, f"as a relay: {held:.0f} places given, {carried:.0f} connections carried, nobody turned away")


def _amounts(statistics: Statistics, beginning: str) -> str:
    found = {name.removeprefix(beginning): count for name, count in statistics.items() if name.startswith(beginning)}
    return ", ".join(f"{name.replace('_', ' ')} {count:.0f}" for name, count in sorted(found.items()) if count)


def port_mapping(node: NodeInfo) -> Finding:
    """Whether the gateway of this network maps ports to the node."""
    check = "port mapping"
    mapping = node.port_mapping
    if mapping is None:
        return skipped(check, "the sidecar that runs does not say")
    # One that peers reach all the same wants for nothing.
    if mapping.remedy and node.reachability is not Reachability.CONFIRMED:
        return warning(check, mapping.message, mapping.remedy)
    return ok(check, mapping.message)


async def rules(client: Client, config: Config) -> AsyncIterator[Finding]:
    """Whether the rules of the file are those in force, and whether each has topics that it is for."""
    check = "rules"
    in_force = await client.rules()
    wanted = {rule.name for rule in config.gossip.rules.rules}
    configured = {rule.name for rule in in_force if rule.configured}
    if wanted != configured:
        words = f"the file has {_named(wanted)}, the sidecar that runs has {_named(configured)} of its file"
        yield warning(check, words, "have it read the file again: kill -HUP, or systemctl reload sidecar")
    topics = [topic.name for topic in await client.topics() if topic.subscribed]
    if not topics:
        return
    idle = [rule.name for rule in in_force if not any(matches(each, name) for each in rule.topics for name in topics)]
    if idle:
        words = f"no topic that apps here are in fits {_named(set(idle))}"
        yield warning(check, words, "look at its `topics`: a name has to fit whole, and * stands for any text")
    elif in_force:
        kept = sum(count.messages for rule in in_force for count in rule.counts)
        yield ok(check, f"{len(in_force)} in force, which have kept back {kept} messages")


def _named(names: set[str]) -> str:
    return f"the rule{'s' * (len(names) != 1)} {', '.join(sorted(names))}" if names else "no rules"
