//! Gossipsub: topics, mesh, scores.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::AsyncWriteExt;
use libp2p::gossipsub::{
    self, Behaviour, ConfigBuilder, Event, IdentTopic, MessageAuthenticity, MessageId, PeerScoreParams,
    PeerScoreThresholds, TopicScoreParams, ValidationMode, Version, score_parameter_decay_with_base,
};
use libp2p::identity::Keypair;
use libp2p::{PeerId, StreamProtocol};
use serde_json::{Map, json};
use sha2::{Digest, Sha256};

use crate::bench::Subscription;
use crate::node::{Handle, Node};
use crate::options::{Options, Problem};
use crate::{Answer, Command, encode, streams, text, write_line};

const QUEUE: usize = 8_192; // 5,000 by default; a flood's window fits either way

/// `from` and `seqno` as go-libp2p joins them; rust-libp2p's default writes the number in decimal digits.
fn signed_id(message: &gossipsub::Message) -> MessageId {
    let mut id = message.source.map(|source| source.to_bytes()).unwrap_or_default();
    id.extend(message.sequence_number.unwrap_or(0).to_be_bytes());
    MessageId::from(id)
}

fn unsigned_id(message: &gossipsub::Message) -> MessageId {
    MessageId::from(Sha256::digest(&message.data).to_vec())
}

const TOPIC_CAP: f64 = 20.0; // points that topics add at most
const DECAY_TO_ZERO: f64 = 0.01;

/// P1 to P4 as derived from a topic's rate; ../../README.md says how.
fn topic_scoring(rate: f64) -> TopicScoreParams {
    let forgotten_after = |seconds| {
        score_parameter_decay_with_base(Duration::from_secs(seconds), Duration::from_secs(1), DECAY_TO_ZERO)
    };
    let (slow, decay) = (forgotten_after(600), forgotten_after(60));
    let threshold = rate / 50.0 / (1.0 - decay) * decay;
    let weight = -TOPIC_CAP / (threshold * threshold);
    TopicScoreParams {
        topic_weight: 1.0,
        time_in_mesh_weight: 0.01,
        time_in_mesh_quantum: Duration::from_secs(1),
        time_in_mesh_cap: 100.0,
        first_message_deliveries_weight: 0.2,
        first_message_deliveries_decay: slow,
        first_message_deliveries_cap: 100.0,
        mesh_message_deliveries_weight: weight,
        mesh_message_deliveries_decay: decay,
        mesh_message_deliveries_cap: 4.0 * threshold,
        mesh_message_deliveries_threshold: threshold,
        mesh_message_deliveries_window: Duration::from_secs(2),
        mesh_message_deliveries_activation: Duration::from_secs(5),
        mesh_failure_penalty_weight: weight,
        mesh_failure_penalty_decay: decay,
        invalid_message_deliveries_weight: -75.0,
        invalid_message_deliveries_decay: slow,
    }
}

/// Scores that only misbehaviour lowers: many peers on one host are no offence here.
fn scoring(options: &Options) -> PeerScoreParams {
    let topics = options.expected_rates.iter().map(|(topic, rate)| (IdentTopic::new(topic).hash(), topic_scoring(*rate)));
    PeerScoreParams {
        topics: topics.collect(),
        topic_score_cap: TOPIC_CAP,
        ip_colocation_factor_weight: 0.0,
        decay_to_zero: DECAY_TO_ZERO,
        behaviour_penalty_decay: 0.999, // slow, so that a test sees what happened
        ..PeerScoreParams::default()
    }
}

/// Its largest RPC stays the default, 65,536 bytes: a message of 64 KiB does not pass.
pub fn behaviour(options: &Options, key: &Keypair) -> Result<Behaviour, Problem> {
    let mut config = ConfigBuilder::default();
    config.connection_handler_queue_len(QUEUE);
    if options.heartbeat_ms > 0 {
        config.heartbeat_interval(Duration::from_millis(options.heartbeat_ms));
    }
    if options.degree > 0 {
        config.mesh_n(options.degree).mesh_n_low(options.degree - 1).mesh_n_high(options.degree + 1).mesh_outbound_min(1);
        config.retain_scores(options.degree - 1);
    }
    match options.gossip.as_str() {
        "1.0" => drop(config.protocol_id("/meshsub/1.0.0", Version::V1_0)),
        "1.1" => drop(config.protocol_id("/meshsub/1.1.0", Version::V1_1)),
        "1.2" => {
            let why = "gossip 1.2 as the highest: libp2p-gossipsub 0.50.1 can be limited to 1.0 or to 1.1, else it offers 1.3 and below";
            return Err(Problem::Unsupported(why.into()));
        }
        _ => {}
    }
    let authenticity = if options.sign == "none" {
        config.validation_mode(ValidationMode::Anonymous).message_id_fn(unsigned_id);
        MessageAuthenticity::Anonymous
    } else {
        config.validation_mode(ValidationMode::Strict).message_id_fn(signed_id);
        MessageAuthenticity::Signed(key.clone())
    };
    let mut behaviour = Behaviour::new(authenticity, config.build().map_err(text)?).map_err(text)?;
    behaviour.with_peer_score(scoring(options), PeerScoreThresholds::default())?;
    Ok(behaviour)
}

pub fn on_event(node: &mut Node, event: Event) {
    match event {
        Event::Message { propagation_source, message, .. } => {
            let Some(subscription) = node.subscriptions.get(&message.topic) else { return };
            if subscription.quiet {
                return subscription.add(&message.data);
            }
            write_line(&json!({"event": "message", "topic": message.topic.as_str(), "data": encode(&message.data),
                "from": message.source.map(|source| source.to_string()), "source": propagation_source.to_string()}));
        }
        Event::Subscribed { peer_id, topic, .. } => tell_topic_peer(node, peer_id, &topic, true),
        Event::Unsubscribed { peer_id, topic } => tell_topic_peer(node, peer_id, &topic, false),
        Event::SlowPeer { peer_id, failed_messages } => eprintln!("{peer_id} is slow: {failed_messages:?}"),
        _ => {}
    }
}

fn tell_topic_peer(node: &Node, peer: PeerId, topic: &gossipsub::TopicHash, joined: bool) {
    if node.subscriptions.contains_key(topic) {
        write_line(&json!({"event": "topic_peer", "topic": topic.as_str(), "peer_id": peer.to_string(), "joined": joined}));
    }
}

/// Keep the lowest score of each peer.
pub fn watch_scores(node: &mut Node) {
    let gossip = &node.swarm.behaviour().gossip;
    for (peer, _) in gossip.all_peers() {
        let score = gossip.peer_score(peer).unwrap_or(0.0);
        let lowest = node.lowest_scores.entry(*peer).or_insert(score);
        *lowest = lowest.min(score);
    }
}

/// Print what changed in the meshes: rust-libp2p has no event for it, so they are looked at now and then.
pub fn tell_mesh(node: &mut Node) {
    let gossip = &node.swarm.behaviour().gossip;
    let mut now = BTreeSet::new();
    for topic in node.subscriptions.keys() {
        now.extend(gossip.mesh_peers(topic).map(|peer| (topic.to_string(), peer.to_string())));
    }
    for (event, from, to) in [("graft", &now, &node.mesh), ("prune", &node.mesh, &now)] {
        for (topic, peer) in from.difference(to) {
            write_line(&json!({"event": event, "topic": topic, "peer_id": peer}));
        }
    }
    node.mesh = now;
}

pub async fn subscribe(node: &Handle, cmd: &Command) -> Answer {
    let topic = IdentTopic::new(cmd.text("topic")?);
    let acks = match cmd.text("ack_to") {
        Ok(peer) => {
            let peer: PeerId = peer.parse().map_err(text)?;
            Some(node.control.clone().open_stream(peer, streams::ACK).await.map_err(text)?)
        }
        Err(_) => None,
    };
    let subscription = Subscription::new(cmd.flag("quiet"), acks);
    node.with(move |node| {
        if !node.swarm.behaviour_mut().gossip.subscribe(&topic).map_err(text)? {
            return Err(format!("already subscribed to {topic}"));
        }
        node.subscriptions.insert(topic.hash(), Arc::new(subscription));
        let known: Vec<PeerId> = subscribers(node, &topic.hash());
        for peer in known {
            tell_topic_peer(node, peer, &topic.hash(), true);
        }
        Ok(json!({}))
    })
    .await?
}

fn subscribers(node: &Node, topic: &gossipsub::TopicHash) -> Vec<PeerId> {
    let all = node.swarm.behaviour().gossip.all_peers();
    all.filter(|(_, topics)| topics.contains(&topic)).map(|(peer, _)| *peer).collect()
}

pub async fn unsubscribe(node: &Handle, cmd: &Command) -> Answer {
    let topic = IdentTopic::new(cmd.text("topic")?);
    node.with(move |node| {
        if !node.swarm.behaviour_mut().gossip.unsubscribe(&topic) {
            return Err(format!("not subscribed to {topic}"));
        }
        node.subscriptions.remove(&topic.hash());
        Ok(json!({}))
    })
    .await?
}

pub async fn topic_peers(node: &Handle, cmd: &Command) -> Answer {
    let topic = IdentTopic::new(cmd.text("topic")?).hash();
    let list = node.with(move |node| subscribers(node, &topic)).await?;
    Ok(json!({"peers": list.iter().map(PeerId::to_string).collect::<Vec<_>>()}))
}

pub async fn mesh(node: &Handle, cmd: &Command) -> Answer {
    let topic = IdentTopic::new(cmd.text("topic")?).hash();
    let list = node
        .with(move |node| node.swarm.behaviour().gossip.mesh_peers(&topic).map(PeerId::to_string).collect::<Vec<_>>())
        .await?;
    Ok(json!({"peers": list}))
}

pub async fn publish(node: &Handle, cmd: &Command) -> Answer {
    let topic = IdentTopic::new(cmd.text("topic")?);
    let data = cmd.bytes("data")?;
    node.with(move |node| node.swarm.behaviour_mut().gossip.publish(topic, data).map_err(text)).await??;
    Ok(json!({}))
}

pub async fn scores(node: &Handle) -> Answer {
    node.with(|node| {
        let gossip = &node.swarm.behaviour().gossip;
        let scores: Map<_, _> = gossip
            .all_peers()
            .map(|(peer, _)| (peer.to_string(), json!(gossip.peer_score(peer).unwrap_or(0.0))))
            .collect();
        let lowest: Map<_, _> = node.lowest_scores.iter().map(|(peer, score)| (peer.to_string(), json!(score))).collect();
        Ok(json!({"scores": scores, "lowest": lowest}))
    })
    .await?
}

pub async fn gossip_peers(node: &Handle) -> Answer {
    node.with(|node| {
        // The kind's type is not public, its name is.
        let protocol = |kind: String| match kind.as_str() {
            "Floodsub" => json!("/floodsub/1.0.0"),
            "Gossipsub" => json!("/meshsub/1.0.0"),
            "Gossipsubv1_1" => json!("/meshsub/1.1.0"),
            "Gossipsubv1_2" => json!("/meshsub/1.2.0"),
            "Gossipsubv1_3" => json!("/meshsub/1.3.0"),
            _ => json!(null),
        };
        let peers = node.swarm.behaviour().gossip.peer_protocol();
        Ok(json!({"peers": peers.map(|(peer, kind)| (peer.to_string(), protocol(format!("{kind:?}")))).collect::<Map<_, _>>()}))
    })
    .await?
}

/// A protobuf field of wire type 2.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    out.extend(varint(content.len()));
    out.extend(content);
    out
}

fn varint(mut value: usize) -> Vec<u8> {
    let mut out = Vec::new();
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
    out
}

/// rust-libp2p cannot be made to send a wrong signature, so the RPC is built here and goes out on a stream of its own.
pub async fn publish_tampered(node: &Handle, cmd: &Command) -> Answer {
    let (peer, topic, data) = (cmd.peer()?, cmd.text("topic")?.to_string(), cmd.bytes("data")?);
    let (key, id) = node.with(|node| (node.keypair.clone(), *node.swarm.local_peer_id())).await?;
    let message = |data: &[u8]| {
        let parts = [field(1, &id.to_bytes()), field(2, data), field(3, &1u64.to_be_bytes()), field(4, topic.as_bytes())];
        parts.concat()
    };
    let mut signed = b"libp2p-pubsub:".to_vec();
    signed.extend(message(&data));
    let signature = key.sign(&signed).map_err(text)?;
    let mut changed = data.clone();
    changed.push(b'!');
    let rpc = field(2, &[message(&changed), field(5, &signature), field(6, &key.public().encode_protobuf())].concat());
    let protocol = StreamProtocol::new("/meshsub/1.1.0");
    let mut stream = node.control.clone().open_stream(peer, protocol).await.map_err(text)?;
    stream.write_all(&[varint(rpc.len()), rpc].concat()).await.map_err(text)?;
    stream.close().await.map_err(text)?;
    Ok(json!({}))
}
