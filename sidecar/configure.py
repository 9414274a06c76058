"""From the one configuration to what each part is told."""

import ipaddress
import os
from dataclasses import replace

from .api.config import ApiConfig
from .config import Config
from .core.channel import ChannelLimits
from .core.direct import DirectConfig
from .core.errors import ConfigError, TooLarge
from .core.gate import GateLists
from .core.gossip import Fallback, GossipConfig, ValidationSettings
from .core.identity import Identity
from .core.kademlia import KademliaConfig
from .core.multiaddr import Multiaddr
from .core.node import NodeConfig, WorkConfig
from .core.parameters import AutonatConfig, DurableConfig, HistoryConfig, RelayConfig, ScoreConfig
from .core.parameters.bundles import Bundling
from .core.parameters.score import decay_factor
from .core.peers import KnownAddress
from .core.probe import ProbeConfig
from .core.records import check_peer_record
from .core.types import PeerId
from .net.config import NetConfig, PortMappingConfig
from .net.tls import server_context
from .net.transports import Transports
from .process.open_files import SPARE
from .store.swarm_key import load_psk

_NODE, _NET = NodeConfig(), NetConfig()  # where something is derived from a key, never less than their defaults

KnownPeers = tuple[tuple[PeerId, tuple[KnownAddress, ...]], ...]


def node_config(config: Config, agent: str, known_peers: KnownPeers) -> NodeConfig:
    """What the node machine is told; `known_peers` come from an earlier run."""
    peers, limits, timeouts = config.peers, config.limits, config.timeouts
    return NodeConfig(
        network=config.network.name,
        agent=agent,
        bootstrap=config.bootstrap.peers,
        known_peers=known_peers,
        listens=bool(config.listen.addresses),
        dht_server=config.dht.mode != "client",
        dht_adapts=config.dht.mode == "auto",
        autonat=AutonatConfig(
            ask=config.autonat.ask,
            answer=config.autonat.answer,
            servers=config.autonat.servers,
            requests_per_minute=config.autonat.requests_per_minute,
            requests_per_peer=config.autonat.requests_per_peer,
            dial_data_per_minute=config.autonat.dial_data_per_minute,
            private_addresses=config.autonat.private_addresses,
        ),
        accept_unnamed=config.gossip.unknown_network == "accept",
        target_peers=peers.target,
        target_outbound=peers.outbound,
        high_water=limits.high_water,
        low_water=limits.low_water,
        trim_grace=limits.trim_grace,
        release_after=limits.release_after,
        exempt_networks=limits.exempt_networks,
        upkeep_interval=peers.upkeep_interval,
        redial_base=peers.redial_base,
        redial_limit=peers.redial_limit,
        ping_interval=peers.ping_interval,
        ping_timeout=peers.ping_timeout,
        identify_timeout=timeouts.identify,
        # Pings, identify and queries travel on streams that are to live as long as their answers are waited for.
        stream_timeout=max(_NODE.stream_timeout, peers.ping_timeout, timeouts.identify, config.dht.query_timeout),
        max_book_peers=_peers_known(config),
        max_early_bytes=max(_NODE.max_early_bytes, 2 * config.gossip.max_message),
        max_operations=limits.operations,
        stream_buffer=config.streams.buffer,
        gossip=gossip_config(config),
        rules=config.gossip.rules.rules,
        kademlia=KademliaConfig(
            refresh_interval=config.dht.refresh_interval,
            query_timeout=config.dht.query_timeout,
            probe_timeout=max(_NODE.kademlia.probe_timeout, timeouts.dial),
            max_clients=max(_NODE.kademlia.max_clients, limits.connections),
            lookup_timeout=config.dht.lookup_timeout,
            namespaces=config.dht.namespaces,
            record_ttl=config.dht.record_ttl,
            provider_ttl=config.dht.provider_ttl,
            provide_interval=config.dht.provide_interval,
            max_value=config.dht.max_record,
            max_records=config.dht.records,
            max_record_bytes=config.dht.record_bytes,
            max_providers=config.dht.providers,
        ),
        direct=DirectConfig(
            max_message=config.direct.max_message,
            max_queued=config.direct.queue_bytes,
            max_queued_total=config.direct.queue_total,
            receipt_timeout=config.direct.receipt_timeout,
            idle_timeout=config.direct.idle_timeout,
        ),
        durable=durable_config(config),
        history=history_config(config),
        probe=ProbeConfig(
            topics=config.probe.topics,
            interval=config.probe.interval,
            size=config.probe.size,
            objective=config.probe.objective,
            share=config.probe.share,
        ),
        relay=_relay_config(config),
        work=WorkConfig(
            rate=limits.peer_work,
            burst=2 * limits.peer_work,
            excess=2 * limits.peer_work,
            relief=limits.peer_work / 5,
            patience=limits.peer_patience,
            max_peers=_peers_known(config),
        ),
    )


def history_config(config: Config) -> HistoryConfig:
    """What is kept of topics, for the node and for what keeps it."""
    history = config.history
    return HistoryConfig(
        topics=history.topics,
        max_age=history.max_age,
        max_bytes=history.max_bytes,
        max_topics=history.max_topics,
        backfill=history.backfill,
    )


def durable_config(config: Config) -> DurableConfig:
    """The bounds of durable messages, for the node and for what keeps them."""
    durable = config.durable
    return DurableConfig(
        max_message=config.direct.max_message,
        idle_timeout=config.direct.idle_timeout,
        time_to_live=durable.time_to_live,
        outbox=durable.outbox,
        outbox_per_peer=durable.outbox_per_peer,
        outbox_per_protocol=durable.outbox_per_protocol,
        outbox_per_token=durable.outbox_per_token,
        inbox=durable.inbox,
        inbox_per_peer=durable.inbox_per_peer,
        max_deliveries=durable.max_deliveries,
        dead_letters=durable.dead_letters,
        dead_letters_bytes=durable.dead_letters_bytes,
        outcomes=durable.outcomes,
        outcomes_age=durable.outcomes_age,
    )


def _relay_config(config: Config) -> RelayConfig:
    relay = config.relay
    return RelayConfig(
        relays=relay.relays,
        find=relay.find is True,
        find_unreachable=relay.find == "auto",
        reservations=relay.reservations,
        punch=relay.punch,
        max_inbound=relay.max_inbound,
        connect_timeout=max(_NODE.relay.connect_timeout, config.timeouts.dial),
        server=relay.server,
        max_reservations=relay.server_reservations,
        max_reservations_per_address=relay.server_reservations_per_address,
        max_reservations_per_network=relay.server_reservations_per_network,
        reservation_ttl=relay.server_reservation_ttl,
        max_circuits=relay.server_circuits,
        max_circuits_per_peer=relay.server_circuits_per_peer,
        circuit_duration=relay.server_duration,
        circuit_data=relay.server_data,
    )


def check_announced(config: Config, own: PeerId) -> None:
    """Raises ConfigError where an address to be announced names another peer than this node."""
    for address in config.listen.announce:
        if address.peer_id not in (None, own):
            raise ConfigError(
                f"listen.announce: {address} names another peer than this node, which is {own}; leave out /p2p/..."
            )


def check_addresses(config: Config, identity: Identity) -> list[str]:
    """What stands against the addresses of the configuration, at this node: sentences for the log.

    Raises ConfigError where peers could make nothing of what they would be told.
    """
    own, announced = identity.peer_id, config.listen.announce
    check_announced(config, own)
    try:
        check_peer_record(identity, announced)
    except TooLarge as error:
        raise ConfigError(f"listen.announce: {error}") from None
    doubts = []
    twice = [address for address in announced if address.peer_id is not None and address.without_peer() in announced]
    if twice:
        doubts.append(f"listen.announce: {twice[0]} is there a second time, without /p2p/...")
    local = [address for address in announced if _loopback(address)]
    if local:
        doubts.append(f"listen.announce: {local[0]} can be reached from this machine only")
    bootstrap = config.bootstrap.peers
    ours = [address for address in bootstrap if address.peer_id == own]
    if ours and len(ours) == len(bootstrap):
        doubts.append(
            f"bootstrap.peers: {ours[0]} is this node itself, and no other is named: it waits for others to find it"
        )
    elif ours:
        doubts.append(f"bootstrap.peers: {ours[0]} is this node itself")
    for address in bootstrap:
        endpoint = address.endpoint()
        if len(address.parts) > 1 and endpoint is None and address.dnsaddr is None and address.relay is None:
            doubts.append(f"bootstrap.peers: {address} cannot be dialled: no TCP or WebSocket address")
        elif endpoint is not None and endpoint.port == 0:
            doubts.append(f"bootstrap.peers: {address} cannot be dialled: it has port 0")
        elif endpoint is not None and endpoint.host in ("0.0.0.0", "::"):
            doubts.append(f"bootstrap.peers: {address} leads to this machine itself: name the host that is meant")
    return doubts


def _loopback(address: Multiaddr) -> bool:
    return address.ip is not None and ipaddress.ip_address(address.ip).is_loopback


def _peers_known(config: Config) -> int:
    """Of how many peers something is remembered: of all that are connected, some of before, and those of the disk."""
    return max(_NODE.max_book_peers, 4 * config.limits.connections, config.state.max_peers)


def gossip_config(config: Config) -> GossipConfig:
    """What the gossip router is told."""
    gossip = config.gossip
    return GossipConfig(
        d=gossip.degree,
        d_low=gossip.degree_low,
        d_high=gossip.degree_high,
        d_out=gossip.degree_out,
        flood_publish=gossip.flood_publish,
        flood_peers=gossip.flood_peers,
        eager_share=gossip.eager_share,
        lazy_links=gossip.lazy_links,
        heartbeat_interval=gossip.heartbeat_interval,
        idontwant_threshold=gossip.idontwant_threshold,
        seen_ttl=gossip.seen_ttl,
        ignore_replays=gossip.ignore_replays,
        flood_share=gossip.flood_share,
        seen_max=gossip.seen_max,
        max_rpc=gossip.max_message,
        dependents=gossip.dependents,
        history_max_bytes=max(_NODE.gossip.history_max_bytes, 4 * gossip.max_message),
        max_topics=config.api.max_topics,
        # Neighbours that join as many announce them all at once, and we to them.
        max_topics_per_peer=max(_NODE.gossip.max_topics_per_peer, config.api.max_topics),
        queue_max_control=max(_NODE.gossip.queue_max_control, 2 * config.api.max_topics),
        queue_max_messages=gossip.queue_messages,
        queue_max_bytes=gossip.queue_bytes,
        score=_score_config(config),
        verify_workers=_verify_workers(config),
        validation=_validation(config),
        bundled_topics=tuple((topic, Bundling(bundling)) for topic, bundling in gossip.bundled_topics),
        validated_topics={
            topic: _validation(config)._replace(fallback=Fallback(fallback))
            for topic, fallback in gossip.validated_topics
        },
    )


def _validation(config: Config) -> ValidationSettings:
    gossip = config.gossip
    return ValidationSettings(timeout=gossip.validation_timeout, max_waiting=gossip.validation_waiting)


def _score_config(config: Config) -> ScoreConfig:
    score, defaults = config.score, _NODE.gossip.score

    def decay(memory: float) -> float:
        return decay_factor(memory, defaults.decay_interval, defaults.decay_to_zero)

    return replace(
        defaults,
        enabled=score.enabled,
        gossip_threshold=score.gossip_threshold,
        publish_threshold=score.publish_threshold,
        graylist_threshold=score.graylist_threshold,
        disconnect_threshold=score.disconnect_threshold,
        accept_exchange_threshold=score.accept_exchange_threshold,
        opportunistic_graft_threshold=score.opportunistic_graft_threshold,
        retain=score.retain,
        topic_cap=score.topic_cap,
        topic=replace(
            defaults.topic,
            time_in_mesh_weight=score.time_in_mesh_weight,
            first_weight=score.first_weight,
            first_cap=score.first_cap,
            first_decay=decay(score.first_memory),
            invalid_weight=score.invalid_weight,
            invalid_decay=decay(score.invalid_memory),
        ),
        expected_rates=score.expected_rates,
        application_weight=score.application_weight,
        colocation_weight=score.colocation_weight,
        colocation_threshold=score.colocation_peers,
        colocation_exempt=config.limits.exempt_networks,
        behaviour_weight=score.behaviour_weight,
        behaviour_threshold=score.behaviour_allowance,
        behaviour_decay=decay(score.behaviour_memory),
        slow_weight=score.slow_weight,
    )


def _verify_workers(config: Config) -> int:
    told = config.gossip.verify_workers
    if told >= 0:
        return told
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(4, usable // 2)


def gate_lists(config: Config) -> GateLists:
    """Whom the configuration allows, denies and protects."""
    gate = config.gate
    return GateLists(gate.allow_peers, gate.deny_peers, gate.allow_networks, gate.deny_networks, gate.protected_peers)


def net_config(config: Config) -> NetConfig:
    """What the socket driver is told."""
    limits, timeouts = config.limits, config.timeouts
    return NetConfig(
        max_connections=limits.connections,
        reserved_outbound=limits.connections_for_dials,
        max_per_address=limits.connections_per_address,
        max_per_network=limits.connections_per_network,
        exempt_networks=limits.exempt_networks,
        max_half_open=limits.half_open,
        max_half_open_per_address=limits.half_open_per_address,
        accept_rate=float(limits.accept_rate),
        accept_burst=limits.accept_rate,
        accept_rate_per_address=float(limits.accept_rate_per_address),
        accept_rate_per_network=float(limits.accept_rate_per_network),
        backlog=min(max(_NET.backlog, limits.half_open), 65_535),
        backoff_base=config.peers.redial_base,
        backoff_max=config.peers.redial_limit,
        max_endpoints=_peers_known(config),
        dns_servers=config.discovery.dns_servers,
        dial_from_listener=config.relay.punch and bool(config.relay.relays or config.relay.find),
        verify_workers=_verify_workers(config),
        port_mapping=PortMappingConfig(
            mode=config.nat.mapping,
            protocols=config.nat.protocols,
            lifetime=config.nat.lifetime,
            announced=bool(config.listen.announce),
        ),
        write_stall_timeout=timeouts.write_stall,
        max_buffered_total=limits.total_buffer,
        dial_timeout=timeouts.dial,
        attempt_timeout=timeouts.dial_attempt,
        channel=ChannelLimits(
            handshake_timeout=timeouts.handshake,
            negotiation_timeout=timeouts.negotiation,
            max_streams=limits.streams,
            max_inbound_negotiating=max(_NET.channel.max_inbound_negotiating, limits.streams),
            max_failed_negotiations=max(_NET.channel.max_failed_negotiations, limits.streams),
            max_control=max(_NET.channel.max_control, 256 * limits.streams),
            receive_window=limits.receive_window,
            max_buffered=limits.connection_buffer,
            keep_alive_interval=timeouts.keep_alive_interval,
            keep_alive_timeout=timeouts.keep_alive,
        ),
    )


def transports(config: Config) -> Transports:
    """What connections are made of; reads the files named. Raises ConfigError."""
    file, listen = config.network.psk_file, config.listen
    if (listen.tls_certificate is None) != (listen.tls_key is None):
        raise ConfigError("listen.tls_certificate and listen.tls_key go together: one of them is missing")
    server_tls = None
    if listen.tls_certificate is not None and listen.tls_key is not None:
        server_tls = server_context(listen.tls_certificate, listen.tls_key)
    psk = load_psk(file) if file is not None else None
    return Transports(psk=psk, server_tls=server_tls, authorities=config.peers.tls_ca)


def open_files(config: Config) -> int:
    """How many files the process may want open at once: what is bounded by the configuration, and some more."""
    return config.limits.connections + (2 if config.api.tcp else 1) * config.api.max_connections + SPARE


def api_config(config: Config) -> ApiConfig:
    """What the API's server is told."""
    api = config.api
    return ApiConfig(
        engine=api.engine,
        socket=api.socket,
        socket_mode=api.mode,
        socket_owner=api.owner or None,
        socket_group=api.group or None,
        tcp=api.tcp or None,
        tls_certificate=api.tls_certificate,
        tls_key=api.tls_key,
        tls_client_ca=api.tls_client_ca,
        tokens=api.tokens,
        tokens_kept_elsewhere=api.tokens is not None,
        require_token=api.require_token,
        max_request_bytes=api.max_request,
        max_calls=api.max_calls,
        max_connections=api.max_connections,
        max_subscriptions=max(256, api.max_calls // 4),
        max_receivers=max(256, api.max_calls // 4),
        max_watchers=max(256, api.max_calls // 4),
        max_topics=api.max_topics,
        validation=_validation(config),
        history_messages=api.history_messages,
        history_bytes=api.history_bytes,
        history_total_bytes=api.history_total,
        queue_messages=api.queue_messages,
        queue_bytes=api.queue_bytes,
        linger=api.linger,
        request_timeout=api.request_timeout,
        max_streams=config.streams.max_open,
        max_unattached_streams=config.streams.max_unattached,
        attach_timeout=config.streams.attach_timeout,
        drain_timeout=config.timeouts.shutdown / 2,
    )
