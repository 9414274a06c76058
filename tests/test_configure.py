"""The configuration reaches every part, and its defaults are the parts' own."""

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sidecar.api.config import ApiConfig
from sidecar.config import KEYS, Config, Key, adopted, load
from sidecar.configure import api_config, gate_lists, gossip_config, net_config, node_config, transports
from sidecar.core.buffer import FrameDecoder
from sidecar.core.errors import ResourceExhausted
from sidecar.core.gate import Gate, GateLists
from sidecar.core.gossip import GossipRouter, PeerAdded, PeerViolated, RpcsReceived, TopicJoined
from sidecar.core.identity import Identity
from sidecar.core.node import NodeConfig
from sidecar.net.config import NetConfig
from sidecar.store.swarm_key import create_psk, load_psk

# Read where they are needed, not by a part's own configuration.
ELSEWHERE = {
    "network.psk_file",
    "listen.tls_certificate",
    "listen.tls_key",
    "peers.tls_ca",
    "api.tls_certificate",
    "api.tls_key",
    "api.tls_client_ca",
    "listen.addresses",
    "listen.announce",
    "discovery.mdns",
    "state.directory",
    "state.identity_file",
    "state.max_peers",
    "gate.max_bans",
    "log.level",
    "audit.file",
    "audit.limit",
    "log.format",
    "tracing.endpoint",
    "tracing.sample",
    "log.levels",
    "log.trace_wire",
    "log.trace_limit",
    "metrics.listen",
    "metrics.topics",
}
PEER = "12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA"
ANOTHER = {
    "history.topics": "news",
    "history.backfill": "false",
    "nat.mapping": "on",
    "nat.protocols": "upnp, pcp",
    "autonat.ask": "false",
    "autonat.answer": "false",
    "autonat.private_addresses": "true",
    "network.name": "another",
    "bootstrap.peers": "/ip4/127.0.0.1/tcp/1/p2p/12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA",
    "relay.relays": f"/ip4/192.0.2.1/tcp/1/p2p/{PEER}",
    "relay.find": "true",
    "relay.server": "true",
    "relay.punch": "false",
    "discovery.dns_servers": "192.0.2.53, [2001:db8::53]:5353",
    "api.socket": "/run/other.sock",
    "api.engine": "grpcio",
    "api.mode": "0660",
    "api.require_token": "true",
    "api.tokens": "/run/secrets/tokens.json",
    "api.owner": "nobody",
    "api.group": "staff",
    "api.tcp": "127.0.0.1:0",
    "gate.allow_peers": PEER,
    "gate.deny_peers": PEER,
    "gate.allow_networks": "192.0.2.0/24",
    "gate.deny_networks": "192.0.2.0/24, ::1",
    "limits.exempt_networks": "192.0.2.0/24",
    "gate.protected_peers": PEER,
    "dht.mode": "client",
    "dht.namespaces": "interop=greatest:refuse_prefix=bad",
    "dht.max_record": "1KiB",
    "gossip.unknown_network": "accept",
    "gossip.flood_publish": "false",
    "gossip.validated_topics": "news=hold",
    "gossip.bundled_topics": "news=off, n*=known, *=always",
    "gossip.rules": str(Path(__file__).parent / "config" / "rules.toml"),
    "gossip.eager_share": "0.5",
    "gossip.flood_share": "0.4",
    "gossip.ignore_replays": "false",
    "gossip.lazy_links": "false",
    "probe.topics": "news, more news",
    "probe.share": "0.9",
    "score.enabled": "false",
    "score.slow_weight": "-1",
    "score.expected_rates": "blocks=0.1, news=20",
}
BESIDE = {"probe.objective": {"probe.topics": "news"}}  # what has to be set together with a key


def parts(config: Config) -> tuple[Any, ...]:
    return node_config(config, NodeConfig().agent, ()), net_config(config), api_config(config), gate_lists(config)


def test_the_defaults_are_those_of_the_parts() -> None:
    # By default as many processes check signatures as the machine allows; a node on its own has none.
    config = replace(Config(), gossip=replace(Config().gossip, verify_workers=0))
    assert parts(config) == (NodeConfig(), NetConfig(), ApiConfig(), GateLists())


@pytest.mark.parametrize(("processors", "workers"), [(1, 0), (2, 1), (3, 1), (8, 4), (64, 4)])
def test_half_of_the_processors_check_signatures(
    monkeypatch: pytest.MonkeyPatch, processors: int, workers: int
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(processors)))
    node, net, *_ = parts(Config())
    assert (node.gossip.verify_workers, net.verify_workers) == (workers, workers)
    told = replace(Config(), gossip=replace(Config().gossip, verify_workers=7))
    assert parts(told)[1].verify_workers == 7
    assert Config().gate.max_bans == Gate().max_bans


@pytest.mark.parametrize(
    "entry", [entry for name, entry in KEYS.items() if name not in ELSEWHERE], ids=lambda e: e.full_name
)
def test_every_key_reaches_a_part(entry: Key) -> None:
    text = ANOTHER.get(entry.full_name) or str(entry.default + 1)
    beside = BESIDE.get(entry.full_name, {})
    before, changed = load({}, beside).config, load({}, {**beside, entry.full_name: text}).config
    assert changed != before
    assert parts(changed) != parts(before)


def test_the_private_networks_key_is_read_from_its_file(tmp_path: Path) -> None:
    assert transports(Config()).psk is None
    file = tmp_path / "swarm.key"
    create_psk(file)
    config = load({}, {"network.psk_file": str(file)}).config
    assert transports(config).psk == load_psk(file)


LIVE = [entry for name, entry in KEYS.items() if entry.live and name not in ELSEWHERE]  # the others are not the node's


@pytest.mark.parametrize("entry", LIVE, ids=lambda entry: entry.full_name)
def test_a_key_that_changes_while_the_node_runs_is_none_that_its_parts_were_built_from(entry: Key) -> None:
    text = ANOTHER.get(entry.full_name) or str(entry.default + 1)
    changed = adopted(Config(), load({}, {entry.full_name: text}).config, [entry])
    before, after = node_config(Config(), "", ()), node_config(changed, "", ())
    built_from = ("gossip", "kademlia", "direct", "dht_server", "network")
    assert before != after or gate_lists(changed) != gate_lists(Config())
    assert [getattr(before, part) for part in built_from] == [getattr(after, part) for part in built_from]


def test_as_many_topics_as_configured_are_joined_announced_and_remembered() -> None:
    config = load({}, {"api.max_topics": "5000"}).config
    topics = [f"topic {number}" for number in range(5000)]
    routers = [
        GossipRouter(
            gossip_config(config),
            Identity(bytes((number,)) * 32),
            now=0.0,
            sequence=1,
            rng=random.Random(number),
            signed_record=lambda peer: None,
        )
        for number in (1, 2)
    ]
    one, other = (Identity(bytes((number,)) * 32).peer_id for number in (1, 2))
    for topic in topics:
        routers[0].handle(TopicJoined(topic), 0.0)
    with pytest.raises(ResourceExhausted, match="5000"):
        routers[0].handle(TopicJoined("one more"), 0.0)
    effects = routers[0].handle(PeerAdded(other, "/meshsub/1.2.0", True), 0.0)
    assert not any(isinstance(effect, PeerViolated) for effect in effects)
    routers[1].handle(PeerAdded(one, "/meshsub/1.2.0", False), 0.0)
    decoder = FrameDecoder(1 << 20)
    while frames := routers[0].take(other, 65_536):
        routers[1].handle(RpcsReceived(one, decoder.receive(b"".join(frames))), 0.0)
    for _ in range(1000):  # what is too much for one turn is served in the next ones
        if len(routers[1].topics()) == 5000:
            break
        deadline = routers[1].next_deadline()
        assert deadline is not None
        routers[1].handle_deadline(deadline)
    assert [view.topic for view in routers[1].topics()] == topics
