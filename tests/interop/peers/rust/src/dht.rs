//! Kademlia: lookups, values, providers, and the validator of values.

use std::collections::BTreeMap;
use std::time::Duration;

use libp2p::kad::store::{MemoryStore, RecordStore};
use libp2p::kad::{
    self, Event, GetClosestPeersError, GetProvidersOk, GetRecordOk, InboundRequest, QueryId, QueryResult, Quorum, Record,
};
use libp2p::{PeerId, StreamProtocol};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

use crate::node::{Handle, Node, addresses};
use crate::options::{Options, Problem};
use crate::{Answer, Command, encode, text, write_line};

type Kad = kad::Behaviour<MemoryStore>;
const OFF: &str = "the DHT is off";

pub fn behaviour(options: &Options, id: PeerId, protocol: &str) -> Result<Option<Kad>, Problem> {
    if options.dht == "off" {
        return Ok(None);
    }
    let mut config = kad::Config::new(StreamProtocol::try_from_owned(protocol.into()).map_err(text)?);
    config.set_record_filtering(kad::StoreInserts::FilterBoth);
    config.set_periodic_bootstrap_interval(None);
    if let Some(seconds) = options.record_ttl {
        config.set_record_ttl(Some(Duration::from_secs(seconds)));
        config.set_provider_record_ttl(Some(Duration::from_secs(seconds)));
        // Nothing of its own is sent again, which would outlive the time to live.
        config.set_publication_interval(None);
        config.set_replication_interval(None);
        config.set_provider_publication_interval(None);
    }
    let mut kad = Kad::with_config(id, MemoryStore::new(id), config);
    kad.set_mode(Some(if options.dht == "client" { kad::Mode::Client } else { kad::Mode::Server }));
    Ok(Some(kad))
}

fn refused(value: &[u8]) -> bool {
    value.starts_with(b"bad")
}

pub fn on_event(node: &mut Node, event: Event) {
    match event {
        Event::RoutingUpdated { peer, is_new_peer: true, .. } => {
            write_line(&json!({"event": "dht_peer", "peer_id": peer.to_string()}));
        }
        Event::OutboundQueryProgressed { id, result, step, .. } => {
            if let Some(waiter) = node.queries.get(&id) {
                let _ = waiter.send(result);
            }
            if step.last {
                node.queries.remove(&id);
            }
        }
        Event::InboundRequest { request } => {
            let Some(kad) = node.swarm.behaviour_mut().kad.as_mut() else { return };
            match request {
                InboundRequest::PutRecord { record: Some(record), .. } => keep(kad, record),
                InboundRequest::AddProvider { record: Some(record) } => {
                    if let Err(error) = kad.store_mut().add_provider(record) {
                        eprintln!("provider not kept: {error}");
                    }
                }
                _ => {}
            }
        }
        _ => {}
    }
}

/// Keep a record that the validator allows and that is not less than the one held.
fn keep(kad: &mut Kad, record: Record) {
    let store = kad.store_mut();
    let lesser = store.get(&record.key).is_some_and(|held| held.value > record.value);
    if refused(&record.value) || lesser {
        eprintln!("record refused: {:?}", record.key);
    } else if let Err(error) = store.put(record) {
        eprintln!("record not kept: {error}");
    }
}

/// Start a query on the swarm's task; its results arrive until the receiver ends.
async fn query(
    node: &Handle,
    start: impl FnOnce(&mut Kad) -> Result<QueryId, String> + Send + 'static,
) -> Result<mpsc::UnboundedReceiver<QueryResult>, String> {
    node.with(move |node| {
        let id = start(node.swarm.behaviour_mut().kad.as_mut().ok_or(OFF)?)?;
        let (sender, receiver) = mpsc::unbounded_channel();
        node.queries.insert(id, sender);
        Ok(receiver)
    })
    .await?
}

pub async fn dht_peers(node: &Handle) -> Answer {
    node.with(|node| {
        let kad = node.swarm.behaviour_mut().kad.as_mut().ok_or(OFF)?;
        let peers: Vec<String> = kad
            .kbuckets()
            .flat_map(|bucket| bucket.iter().map(|entry| entry.node.key.preimage().to_string()).collect::<Vec<_>>())
            .collect();
        Ok(json!({"peers": peers}))
    })
    .await?
}

async fn closest(node: &Handle, target: PeerId) -> Result<Vec<(PeerId, Vec<String>)>, String> {
    let mut results = query(node, move |kad| Ok(kad.get_closest_peers(target))).await?;
    let mut found = Vec::new();
    while let Some(result) = results.recv().await {
        if let QueryResult::GetClosestPeers(result) = result {
            let peers = match result {
                Ok(ok) => ok.peers,
                Err(GetClosestPeersError::Timeout { peers, .. }) => peers,
            };
            found.extend(peers.into_iter().map(|p| (p.peer_id, p.addrs.iter().map(text).collect())));
        }
    }
    Ok(found)
}

/// The addresses of a peer: as it told when connected, else by a lookup.
async fn locate(node: &Handle, target: PeerId) -> Result<Vec<String>, String> {
    if let Some(known) = node.with(move |node| node.identified.get(&target).map(addresses)).await? {
        return Ok(known);
    }
    let found = closest(node, target).await?;
    let (_, addresses) = found.into_iter().find(|(peer, _)| *peer == target).ok_or("peer not found")?;
    Ok(addresses)
}

pub async fn find_peer(node: &Handle, cmd: &Command) -> Answer {
    Ok(json!({"addresses": locate(node, cmd.peer()?).await?}))
}

pub async fn closest_peers(node: &Handle, cmd: &Command) -> Answer {
    let found = closest(node, cmd.peer()?).await?;
    Ok(json!({"peers": found.iter().map(|(peer, _)| peer.to_string()).collect::<Vec<_>>()}))
}

pub async fn put_value(node: &Handle, cmd: &Command) -> Answer {
    let record = Record::new(cmd.bytes("key")?, cmd.bytes("value")?);
    if refused(&record.value) {
        return Err("the validator refuses the value".into());
    }
    let mut results = query(node, move |kad| kad.put_record(record, Quorum::One).map_err(text)).await?;
    while let Some(result) = results.recv().await {
        if let QueryResult::PutRecord(result) = result {
            result.map_err(text)?;
        }
    }
    Ok(json!({}))
}

pub async fn get_value(node: &Handle, cmd: &Command) -> Answer {
    let key = cmd.bytes("key")?;
    let mut results = query(node, move |kad| Ok(kad.get_record(key.into()))).await?;
    let mut best: Option<Vec<u8>> = None;
    let mut failure = "not found".to_string();
    while let Some(result) = results.recv().await {
        match result {
            QueryResult::GetRecord(Ok(GetRecordOk::FoundRecord(found))) if !refused(&found.record.value) => {
                best = best.max(Some(found.record.value));
            }
            QueryResult::GetRecord(Err(error)) => failure = text(error),
            _ => {}
        }
    }
    Ok(json!({"value": encode(&best.ok_or(failure)?)}))
}

/// The key of a name: its SHA2-256 as a multihash.
fn provider_key(name: &str) -> Vec<u8> {
    let mut key = vec![0x12, 0x20];
    key.extend(Sha256::digest(name.as_bytes()));
    key
}

pub async fn provide(node: &Handle, cmd: &Command) -> Answer {
    let key = provider_key(cmd.text("name")?);
    let mut results = query(node, move |kad| kad.start_providing(key.into()).map_err(text)).await?;
    while let Some(result) = results.recv().await {
        if let QueryResult::StartProviding(result) = result {
            result.map_err(text)?;
        }
    }
    Ok(json!({}))
}

/// rust-libp2p tells the providers' ids only; their addresses are looked up.
pub async fn find_providers(node: &Handle, cmd: &Command) -> Answer {
    let key = provider_key(cmd.text("name")?);
    let count = cmd.number("count");
    let mut results = query(node, move |kad| Ok(kad.get_providers(key.into()))).await?;
    let mut found = BTreeMap::<PeerId, Vec<String>>::new();
    while let Some(result) = results.recv().await {
        if let QueryResult::GetProviders(Ok(GetProvidersOk::FoundProviders { providers, .. })) = result {
            found.extend(providers.into_iter().map(|peer| (peer, Vec::new())));
        }
    }
    for (peer, addresses) in &mut found {
        *addresses = locate(node, *peer).await.unwrap_or_default();
    }
    let line = |(peer, addresses): (PeerId, Vec<String>)| json!({"peer_id": peer.to_string(), "addresses": addresses});
    let limit = if count == 0 { usize::MAX } else { count };
    Ok(json!({"peers": found.into_iter().take(limit).map(line).collect::<Vec<Value>>()}))
}
