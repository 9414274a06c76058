"""Every range of the configuration holds at both its ends: no smaller bound stands behind, or the start is refused."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from sidecar.config import KEYS, Config, Key, load
from sidecar.config.schema import value
from sidecar.configure import api_config, net_config, node_config
from sidecar.core.errors import ConfigError
from sidecar.core.parameters.score import decay_factor

from .test_configure import ELSEWHERE

RANGES = [entry for entry in KEYS.values() if entry.kind.ends is not None]

# What has to be set beside a key at one of its ends; without it the start is refused.
TOGETHER: Mapping[tuple[str, str], Mapping[str, str]] = {
    ("dht.provider_ttl", "least"): {"dht.provide_interval": "0.5"},
    ("dht.provide_interval", "greatest"): {"dht.provider_ttl": "365d"},
    ("gossip.heartbeat_interval", "greatest"): {"gossip.seen_ttl": "300"},
    ("gossip.seen_ttl", "least"): {"gossip.heartbeat_interval": "200ms"},
    ("gossip.degree", "least"): {"gossip.degree_low": "1", "gossip.degree_out": "0"},
    ("gossip.degree", "greatest"): {"gossip.degree_high": "100"},
    ("gossip.degree_low", "least"): {"gossip.degree_out": "1"},
    ("gossip.degree_low", "greatest"): {"gossip.degree": "100", "gossip.degree_high": "200"},
    ("gossip.degree_high", "least"): {"gossip.degree": "1", "gossip.degree_low": "1", "gossip.degree_out": "0"},
    ("score.gossip_threshold", "least"): {
        "score.publish_threshold": "-1e9",
        "score.graylist_threshold": "-1e10",
        "score.disconnect_threshold": "-1e12",
    },
    ("score.publish_threshold", "least"): {
        "score.graylist_threshold": "-1e10",
        "score.disconnect_threshold": "-1e12",
    },
    ("score.publish_threshold", "greatest"): {"score.gossip_threshold": "-0.001"},
    ("score.graylist_threshold", "least"): {"score.disconnect_threshold": "-1e12"},
    ("score.graylist_threshold", "greatest"): {"score.publish_threshold": "-0.001", "score.gossip_threshold": "-0.001"},
    ("score.disconnect_threshold", "greatest"): {
        "score.graylist_threshold": "-0.002",
        "score.publish_threshold": "-0.001",
        "score.gossip_threshold": "-0.001",
    },
    ("peers.target", "greatest"): {
        "limits.low_water": "10000",
        "limits.high_water": "10000",
        "limits.connections": "10000",
    },
    ("peers.redial_base", "greatest"): {"peers.redial_limit": "3600"},
    ("probe.objective", "greatest"): {"probe.topics": "news"},
    ("limits.low_water", "least"): {"peers.target": "0"},
    ("limits.low_water", "greatest"): {"limits.high_water": "100000"},
    ("limits.connections", "least"): {"limits.connections_for_dials": "0", "peers.target": "1"},
    ("limits.connections_for_dials", "greatest"): {"limits.connections": "100000"},
    ("limits.receive_window", "greatest"): {"limits.connection_buffer": "1GiB"},
    ("limits.connection_buffer", "least"): {"limits.receive_window": "256KiB"},
}

# What no setting can reach: refused with everything else as far as it goes.
NEVER = {
    ("gossip.degree_out", "greatest"): "at most half of gossip.degree, which ends at 100",
    ("limits.connections_for_dials", "greatest"): "less than limits.connections, which ends there as well",
    ("probe.size", "greatest"): "less than gossip.max_message, which ends there as well",
    ("dht.provide_interval", "greatest"): "less than dht.provider_ttl, which ends there as well",
}

# What reaches a part as what follows from it: seconds as a share, -1 as a number by the processors.
DERIVED: Mapping[str, Callable[[float], float]] = {
    **dict.fromkeys(
        ("score.first_memory", "score.invalid_memory", "score.behaviour_memory"),
        lambda seconds: decay_factor(seconds, 1.0, 0.01),
    ),
    "gossip.verify_workers": lambda workers: workers if workers >= 0 else net_config(Config()).verify_workers,
}

Bound = Callable[[Any, Any, Any], tuple[float, ...]]

# Bounds that the parts have besides: at the greatest value none of them may be reached first.
BEHIND: Mapping[str, Bound] = {
    "state.max_peers": lambda node, net, api: (node.max_book_peers,),
    "api.max_topics": lambda node, net, api: (
        node.gossip.max_topics,
        node.gossip.max_topics_per_peer,
        node.gossip.queue_max_control / 2,
    ),
    "api.max_calls": lambda node, net, api: (
        4 * api.max_subscriptions,
        4 * api.max_receivers,
        4 * api.max_watchers,
    ),
    "dht.query_timeout": lambda node, net, api: (node.stream_timeout,),
    "gossip.max_message": lambda node, net, api: (
        node.gossip.max_rpc,
        node.gossip.history_max_bytes / 4,
        node.max_early_bytes / 2,
    ),
    "peers.ping_timeout": lambda node, net, api: (node.stream_timeout,),
    "peers.redial_base": lambda node, net, api: (net.backoff_base,),
    "peers.redial_limit": lambda node, net, api: (net.backoff_max,),
    "limits.connections": lambda node, net, api: (
        node.max_book_peers / 4,
        node.work.max_peers / 4,
        node.kademlia.max_clients,
        net.max_endpoints / 4,
    ),
    "limits.streams": lambda node, net, api: (
        net.channel.max_inbound_negotiating,
        net.channel.max_failed_negotiations,
        net.channel.max_control / 256,
    ),
    "timeouts.dial": lambda node, net, api: (node.kademlia.probe_timeout,),
    "timeouts.identify": lambda node, net, api: (node.stream_timeout,),
}


def text(end: float) -> str:
    return f"{end:.15g}"


def built(config: Config) -> tuple[Any, Any, Any]:
    return node_config(config, "", ()), net_config(config), api_config(config)


def numbers(part: Any) -> dict[str, float]:
    """All numbers of a part's configuration and of those in it."""
    found: dict[str, float] = {}
    for field in dataclasses.fields(part):
        content = getattr(part, field.name)
        if dataclasses.is_dataclass(content):
            found.update({f"{field.name}.{name}": number for name, number in numbers(content).items()})
        elif isinstance(content, int | float):
            found[field.name] = content
    return found


@pytest.mark.parametrize("which", ["least", "greatest"])
@pytest.mark.parametrize("entry", RANGES, ids=lambda entry: entry.full_name)
def test_an_end_of_a_range_takes_effect_or_is_refused_with_a_sentence(entry: Key, which: str) -> None:
    assert entry.kind.ends is not None
    end = entry.kind.ends[which == "greatest"]
    flags = {entry.full_name: text(end)}
    place = (entry.full_name, which)
    if place in TOGETHER or place in NEVER:
        with pytest.raises(ConfigError, match="allowed: ") as refused:
            load({}, flags)
        assert str(refused.value).startswith("--")
        assert any(name in str(refused.value) for name in (entry.full_name, entry.name))
    if place in NEVER:
        with pytest.raises(ConfigError, match="allowed: "):
            load({}, {**flags, **TOGETHER.get(place, {})})
        return
    config = load({}, {**flags, **TOGETHER.get(place, {})}).config
    assert value(config, entry) == end
    parts = built(config)
    if entry.full_name not in ELSEWHERE:
        reached = [number for part in parts for number in numbers(part).values()]
        arrived = DERIVED.get(entry.full_name, float)(end)
        assert arrived in reached or end / 2 in reached  # half of `timeouts.shutdown` is the API's
    if entry.full_name in BEHIND and which == "greatest":
        assert min(BEHIND[entry.full_name](*parts)) >= end
    shown = entry.kind.write(end).strip('"')  # can be given to it
    assert load({}, {**TOGETHER.get(place, {}), entry.full_name: shown}).config == config


def test_the_shortest_waits_are_those_of_the_dialler_too() -> None:
    config = load({}, {"peers.redial_base": "50ms", "peers.redial_limit": "1s"}).config
    net = net_config(config)
    assert (net.backoff_base, net.backoff_max) == (0.05, 1.0)
