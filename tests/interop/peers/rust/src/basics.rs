//! Connections, ping, identify.

use std::time::Duration;

use libp2p::multiaddr::Protocol;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::{Multiaddr, PeerId};
use serde_json::json;
use tokio::sync::oneshot;

use crate::node::{Handle, addresses, protocols};
use crate::{Answer, Command, encode, text};

/// Dial an address that ends in `/p2p/`, and wait for the connection alone.
pub async fn dial(node: &Handle, address: &str) -> Result<PeerId, String> {
    let address: Multiaddr = address.parse().map_err(text)?;
    let Some(Protocol::P2p(peer)) = address.iter().last() else {
        return Err("the address does not end in /p2p/".into());
    };
    let connected = node
        .with(move |node| {
            let options = DialOpts::peer_id(peer).addresses(vec![address]).condition(PeerCondition::Always).build();
            let (sender, receiver) = oneshot::channel();
            node.dialled.insert(options.connection_id(), sender);
            node.swarm.dial(options).map_err(text).map(|()| receiver)
        })
        .await??;
    connected.await.map_err(text)?
}

/// Close every connection with a peer and wait until they are gone.
pub async fn close(node: &Handle, peer: PeerId) -> Result<(), String> {
    let closed = node
        .with(move |node| {
            let (sender, receiver) = oneshot::channel();
            if node.swarm.disconnect_peer_id(peer).is_ok() {
                node.close_waiters.entry(peer).or_default().push(sender);
            }
            receiver
        })
        .await?;
    let _ = closed.await; // the sender is dropped when the last connection has closed
    Ok(())
}

pub async fn connect(node: &Handle, cmd: &Command) -> Answer {
    let address: Multiaddr = cmd.text("address")?.parse().map_err(text)?;
    let known = match address.iter().last() {
        Some(Protocol::P2p(peer)) => node.with(move |node| node.swarm.is_connected(&peer).then_some(peer)).await?,
        _ => None,
    };
    let peer = match known {
        Some(peer) => peer,
        None => dial(node, cmd.text("address")?).await?,
    };
    let identified = node
        .with(move |node| {
            let (sender, receiver) = oneshot::channel();
            if !node.identified.contains_key(&peer) {
                node.identify_waiters.entry(peer).or_default().push(sender);
            }
            receiver
        })
        .await?;
    let _ = identified.await; // the sender is dropped at once when it is known already
    Ok(json!({"peer_id": peer.to_string()}))
}

pub async fn disconnect(node: &Handle, cmd: &Command) -> Answer {
    close(node, cmd.peer()?).await?;
    Ok(json!({}))
}

pub async fn peers(node: &Handle) -> Answer {
    let list = node
        .with(|node| {
            let line = |(peer, address, direction): &(PeerId, Multiaddr, &str)| {
                json!({"peer_id": peer.to_string(), "address": address.to_string(), "direction": direction})
            };
            node.connections.values().map(line).collect::<Vec<_>>()
        })
        .await?;
    Ok(json!({"peers": list}))
}

/// rust-libp2p pings by itself at an interval; this waits for the next result.
pub async fn ping(node: &Handle, cmd: &Command) -> Answer {
    let peer = cmd.peer()?;
    let result = node
        .with(move |node| {
            if !node.swarm.is_connected(&peer) {
                return Err("not connected".to_string());
            }
            let (sender, receiver) = oneshot::channel();
            node.ping_waiters.entry(peer).or_default().push(sender);
            Ok(receiver)
        })
        .await??;
    let rtt = result.await.map_err(|_| "disconnected".to_string())??;
    Ok(json!({"rtt_ms": rtt.as_secs_f64() * 1e3}))
}

pub async fn identify(node: &Handle, cmd: &Command) -> Answer {
    let peer = cmd.peer()?;
    node.with(move |node| {
        let info = node.identified.get(&peer).ok_or("not identified")?;
        Ok(json!({"protocol_version": info.protocol_version, "agent_version": info.agent_version,
            "protocols": protocols(info), "addresses": addresses(info)}))
    })
    .await?
}

pub async fn signed_record(node: &Handle, cmd: &Command) -> Answer {
    let peer = cmd.peer()?;
    node.with(move |node| {
        let info = node.identified.get(&peer).ok_or("not identified")?;
        let record = info.signed_peer_record.clone().map(|envelope| encode(&envelope.into_protobuf_encoding()));
        Ok(json!({"record": record}))
    })
    .await?
}

pub async fn listen_add(node: &Handle, cmd: &Command) -> Answer {
    let address: Multiaddr = cmd.text("address")?.parse().map_err(text)?;
    let before = node.with(|node| node.swarm.listeners().count()).await?;
    node.with(move |node| node.swarm.listen_on(address).map_err(text)).await??;
    loop {
        let listening = node
            .with(|node| {
                let id = *node.swarm.local_peer_id();
                node.swarm.listeners().map(|address| format!("{address}/p2p/{id}")).collect::<Vec<_>>()
            })
            .await?;
        if listening.len() > before {
            return Ok(json!({"addresses": listening}));
        }
        tokio::time::sleep(Duration::from_millis(10)).await; // bounded by the command's timeout
    }
}
