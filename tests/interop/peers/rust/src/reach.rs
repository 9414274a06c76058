//! Relays, hole punching, AutoNAT v2, multicast DNS: how a node is reached and found.

use std::collections::BTreeMap;
use std::time::Duration;

use libp2p::identity::Keypair;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::NetworkBehaviour;
use libp2p::swarm::behaviour::toggle::Toggle;
use libp2p::{Multiaddr, PeerId, autonat, dcutr, mdns, relay};
use serde_json::json;

use crate::node::{Handle, Node};
use crate::options::{Options, Problem};
use crate::{Answer, Command, text, write_line};

const LOOK: Duration = Duration::from_millis(20);

#[derive(NetworkBehaviour)]
pub struct Behaviour {
    relay: Toggle<relay::Behaviour>,
    relayed: Toggle<relay::client::Behaviour>,
    dcutr: Toggle<dcutr::Behaviour>,
    dials_back: Toggle<autonat::v2::server::Behaviour>,
    asks_back: Toggle<autonat::v2::client::Behaviour>,
    mdns: Toggle<mdns::tokio::Behaviour>,
}

/// What the options ask for, and the transport that goes through relays.
pub fn behaviour(options: &Options, key: &Keypair) -> Result<(Behaviour, Option<relay::client::Transport>), Problem> {
    let id = key.public().to_peer_id();
    let (transport, relayed) = (options.relay || options.punch).then(|| relay::client::new(id)).unzip();
    let mdns = options.mdns.then(|| mdns::tokio::Behaviour::new(mdns::Config::default(), id));
    let behaviour = Behaviour {
        relay: options.relay.then(|| relay::Behaviour::new(id, relay::Config::default())).into(),
        relayed: relayed.into(),
        dcutr: options.punch.then(|| dcutr::Behaviour::new(id)).into(),
        dials_back: options.autonat.then(autonat::v2::server::Behaviour::default).into(),
        asks_back: options.autonat.then(autonat::v2::client::Behaviour::default).into(),
        mdns: mdns.transpose().map_err(text)?.into(),
    };
    Ok((behaviour, transport))
}

pub fn on_event(node: &mut Node, event: BehaviourEvent) {
    match event {
        BehaviourEvent::AsksBack(tested) => {
            if let Err(error) = &tested.result {
                eprintln!("{} was not reached: {error}", tested.tested_addr);
            }
            node.tested.insert(tested.tested_addr, tested.result.is_ok());
        }
        BehaviourEvent::Dcutr(dcutr::Event { remote_peer_id, result: Err(error) }) => {
            eprintln!("no hole to {remote_peer_id}: {error}");
        }
        BehaviourEvent::Mdns(mdns::Event::Discovered(found)) => {
            let mut peers = BTreeMap::<PeerId, Vec<String>>::new();
            for (peer, mut address) in found {
                if matches!(address.iter().last(), Some(Protocol::P2p(_))) {
                    address.pop();
                }
                peers.entry(peer).or_default().push(address.to_string());
            }
            for (peer, addresses) in peers {
                write_line(&json!({"event": "found", "peer_id": peer.to_string(), "addresses": addresses}));
            }
        }
        other => eprintln!("{other:?}"),
    }
}

/// Take a place at a relay; rust-libp2p tells where that is as addresses that it listens at.
pub async fn reserve(node: &Handle, cmd: &Command) -> Answer {
    let relay: Multiaddr = cmd.text("address")?.parse().map_err(text)?;
    let listener = node.with(move |node| node.swarm.listen_on(relay.with(Protocol::P2pCircuit)).map_err(text)).await??;
    loop {
        let (places, lost) = node
            .with(move |node| {
                let circuits = node.swarm.listeners().map(text).collect::<Vec<_>>();
                (circuits, node.closed_listeners.remove(&listener))
            })
            .await?;
        let places: Vec<String> =
            places.iter().filter_map(|address| Some(address.split_once("/p2p-circuit")?.0.to_string())).collect();
        if let Some(why) = lost {
            return Err(why);
        }
        if !places.is_empty() {
            return Ok(json!({"addresses": places}));
        }
        tokio::time::sleep(LOOK).await; // bounded by the command's timeout
    }
}

/// It asks servers by itself, about where others see it; this waits for the answer about one address.
pub async fn reachability(node: &Handle, cmd: &Command) -> Answer {
    let address: Multiaddr = cmd.text("address")?.parse().map_err(text)?;
    loop {
        let wanted = address.clone();
        if let Some(reachable) = node.with(move |node| node.tested.get(&wanted).copied()).await? {
            return Ok(json!({"reachable": reachable}));
        }
        tokio::time::sleep(LOOK).await; // bounded by the command's timeout
    }
}
