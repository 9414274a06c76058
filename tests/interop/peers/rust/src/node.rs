//! The swarm, the task that drives it, and the handle through which commands use it.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures::{AsyncRead, AsyncWrite, StreamExt};
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::{Boxed, ListenerId, OrTransport};
use libp2p::core::upgrade::Version;
use libp2p::core::{ConnectedPoint, Transport};
use libp2p::identity::Keypair;
use libp2p::kad::{self, QueryId, QueryResult, store::MemoryStore};
use libp2p::pnet::PnetConfig;
use libp2p::swarm::behaviour::toggle::Toggle;
use libp2p::swarm::{ConnectionId, NetworkBehaviour, Swarm, SwarmEvent};
use libp2p::{Multiaddr, PeerId, StreamProtocol, dns, gossipsub, identify, noise, ping, relay, tcp, websocket, yamux};
use serde_json::json;
use tokio::sync::{mpsc, oneshot};

use crate::bench::Subscription;
use crate::options::{Options, Problem, pem};
use crate::streams::Streams;
use crate::{dht, gossip, reach, streams, text, write_line};

pub const AGENT: &str = "rust-libp2p/0.57.1";
const LOOK_AT_MESH: Duration = Duration::from_millis(50);

#[derive(NetworkBehaviour)]
pub struct Behaviour {
    pub identify: identify::Behaviour,
    pub ping: ping::Behaviour,
    pub gossip: gossipsub::Behaviour,
    pub kad: Toggle<kad::Behaviour<MemoryStore>>,
    pub streams: libp2p_stream::Behaviour,
    pub reach: reach::Behaviour,
}

/// All that the swarm's task owns.
pub struct Node {
    pub swarm: Swarm<Behaviour>,
    pub keypair: Keypair,
    pub kad_protocol: String,
    pub connections: HashMap<ConnectionId, (PeerId, Multiaddr, &'static str)>,
    pub identified: HashMap<PeerId, identify::Info>,
    pub identified_connections: BTreeSet<ConnectionId>,
    pub dialled: HashMap<ConnectionId, oneshot::Sender<Result<PeerId, String>>>,
    pub identify_waiters: HashMap<PeerId, Vec<oneshot::Sender<()>>>,
    pub ping_waiters: HashMap<PeerId, Vec<oneshot::Sender<Result<Duration, String>>>>,
    pub close_waiters: HashMap<PeerId, Vec<oneshot::Sender<()>>>,
    pub queries: HashMap<QueryId, mpsc::UnboundedSender<QueryResult>>,
    pub subscriptions: HashMap<gossipsub::TopicHash, Arc<Subscription>>,
    pub mesh: BTreeSet<(String, String)>,
    pub lowest_scores: HashMap<PeerId, f64>,
    /// What servers of AutoNAT v2 said of addresses.
    pub tested: HashMap<Multiaddr, bool>,
    pub closed_listeners: HashMap<ListenerId, String>,
}

type Job = Box<dyn FnOnce(&mut Node) + Send>;

/// What commands hold: it lets them run code on the swarm's task.
#[derive(Clone)]
pub struct Handle {
    jobs: mpsc::UnboundedSender<Job>,
    pub control: libp2p_stream::Control,
    pub streams: Arc<Streams>,
}

impl Handle {
    /// Run `work` on the swarm's task and wait for what it returns.
    pub async fn with<T: Send + 'static>(&self, work: impl FnOnce(&mut Node) -> T + Send + 'static) -> Result<T, String> {
        let (done, result) = oneshot::channel();
        let job: Job = Box::new(move |node| drop(done.send(work(node))));
        self.jobs.send(job).map_err(|_| "the node has ended".to_string())?;
        result.await.map_err(|_| "the node has ended".into())
    }
}

/// yamux with room for the tests' streams: past the default of 512, opening one closes the connection.
fn many_streams() -> yamux::Config {
    let mut config = yamux::Config::default();
    config.set_max_num_streams(4_096); // the most that its window of 1 GiB a connection allows
    config
}

type Upgraded = Boxed<(PeerId, StreamMuxerBox)>;

/// Noise and yamux on top of a transport.
fn upgraded<T>(transport: T, noise: noise::Config) -> Upgraded
where
    T: Transport + Send + Unpin + 'static,
    T::Output: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    T::Error: Send + Sync + 'static,
    T::Dial: Send + 'static,
    T::ListenerUpgrade: Send + 'static,
{
    transport
        .upgrade(Version::V1Lazy)
        .authenticate(noise)
        .multiplex(many_streams())
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)))
        .boxed()
}

/// TCP, with names looked up at the name server that the options have.
fn tcp(options: &Options) -> Result<Boxed<tcp::tokio::TcpStream>, Problem> {
    let tcp = tcp::tokio::Transport::new(tcp::Config::default().nodelay(true));
    Ok(match options.resolver()? {
        Some(config) => dns::tokio::Transport::custom(tcp, config, dns::ResolverOpts::default()).boxed(),
        None => tcp.boxed(),
    })
}

fn transport(options: &Options, key: &Keypair, relayed: Option<relay::client::Transport>) -> Result<Upgraded, Problem> {
    let noise = noise::Config::new(key).map_err(text)?;
    if let Some(psk) = options.pre_shared_key()? {
        if options.listen.iter().any(|address| address.ends_with("/ws")) {
            return Err(Problem::Unsupported("a private network over WebSocket".into()));
        }
        let private = tcp(options)?.and_then(move |socket, _| PnetConfig::new(psk).handshake(socket));
        return Ok(upgraded(private, noise));
    }
    let mut web = websocket::Config::new(tcp(options)?);
    web.set_tls_config(tls(options)?);
    let direct = upgraded(OrTransport::new(web, tcp(options)?), noise.clone());
    Ok(match relayed {
        Some(relayed) => OrTransport::new(upgraded(relayed, noise), direct).map(|either, _| either.into_inner()).boxed(),
        None => direct,
    })
}

fn read_pem(path: &str) -> Result<Vec<Vec<u8>>, Problem> {
    let file = std::fs::read_to_string(path).map_err(|e| format!("{path}: {e}"))?;
    Ok(pem(&file)?)
}

fn tls(options: &Options) -> Result<websocket::tls::Config, Problem> {
    use websocket::tls::{Certificate, Config, PrivateKey};
    let mut builder = Config::builder();
    if !options.tls_cert.is_empty() {
        let key = read_pem(&options.tls_key)?.into_iter().next().ok_or("--tls-key holds no key".to_string())?;
        let chain = read_pem(&options.tls_cert)?.into_iter().map(Certificate::new);
        builder.server(PrivateKey::new(key), chain).map_err(text)?;
    }
    if !options.tls_ca.is_empty() {
        for certificate in read_pem(&options.tls_ca)? {
            builder.add_trust(&Certificate::new(certificate)).map_err(text)?;
        }
    }
    Ok(builder.finish())
}

/// Start the node and, once it listens, print the `ready` event.
pub async fn start(options: Options) -> Result<Handle, Problem> {
    let key = options.keypair()?;
    let id = key.public().to_peer_id();
    let kad_protocol = format!("/sidecar/{}/kad/1.0.0", options.network);
    let identify = identify::Config::new(format!("sidecar/{}", options.network), key.public())
        .with_agent_version(AGENT.into())
        .with_push_listen_addr_updates(true);
    let streams_behaviour = libp2p_stream::Behaviour::new();
    let control = streams_behaviour.new_control();
    let (reach, relayed) = reach::behaviour(&options, &key)?;
    let behaviour = Behaviour {
        identify: identify::Behaviour::new(identify),
        // It pings by itself alone; the `ping` op waits for the next one.
        ping: ping::Behaviour::new(ping::Config::new().with_interval(Duration::from_millis(500))),
        gossip: gossip::behaviour(&options, &key)?,
        kad: Toggle::from(dht::behaviour(&options, id, &kad_protocol)?),
        streams: streams_behaviour,
        reach,
    };
    let config = libp2p::swarm::Config::with_tokio_executor()
        .with_idle_connection_timeout(Duration::from_secs(86_400)) // the default, 10 s, cuts idle peers
        .with_max_negotiating_inbound_streams(4_096);
    let mut swarm = Swarm::new(transport(&options, &key, relayed)?, behaviour, id, config);
    for address in &options.announce {
        swarm.add_external_address(address.parse().map_err(text)?);
    }
    let mut addresses = Vec::new();
    for address in &options.listen {
        swarm.listen_on(address.parse().map_err(text)?).map_err(|e| format!("{address}: {e}"))?;
    }
    while addresses.len() < options.listen.len() {
        match swarm.select_next_some().await {
            SwarmEvent::NewListenAddr { address, .. } => {
                addresses.push(format!("{address}/p2p/{id}"));
                if options.relay {
                    swarm.add_external_address(address); // a relay gives away no others
                }
            }
            SwarmEvent::ListenerClosed { reason: Err(error), .. } => return Err(Problem::Failed(text(error))),
            _ => {}
        }
    }
    let (jobs, inbox) = mpsc::unbounded_channel();
    let handle = Handle { jobs, control, streams: Arc::default() };
    streams::serve(&handle)?;
    let node = Node {
        swarm,
        keypair: key,
        kad_protocol,
        connections: HashMap::new(),
        identified: HashMap::new(),
        identified_connections: BTreeSet::new(),
        dialled: HashMap::new(),
        identify_waiters: HashMap::new(),
        ping_waiters: HashMap::new(),
        close_waiters: HashMap::new(),
        queries: HashMap::new(),
        subscriptions: HashMap::new(),
        mesh: BTreeSet::new(),
        lowest_scores: HashMap::new(),
        tested: HashMap::new(),
        closed_listeners: HashMap::new(),
    };
    write_line(&json!({"event": "ready", "peer_id": id.to_string(), "addresses": addresses, "agent": AGENT}));
    tokio::spawn(node.drive(inbox));
    Ok(handle)
}

impl Node {
    async fn drive(mut self, mut inbox: mpsc::UnboundedReceiver<Job>) {
        let mut look = tokio::time::interval(LOOK_AT_MESH);
        loop {
            tokio::select! {
                Some(job) = inbox.recv() => job(&mut self),
                event = self.swarm.select_next_some() => self.on_event(event),
                _ = look.tick() => {
                    gossip::tell_mesh(&mut self);
                    gossip::watch_scores(&mut self);
                }
            }
        }
    }

    fn on_event(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, endpoint, .. } => {
                let direction = if endpoint.is_dialer() { "outbound" } else { "inbound" };
                let address = match endpoint {
                    ConnectedPoint::Dialer { address, .. } => address,
                    ConnectedPoint::Listener { send_back_addr, .. } => send_back_addr,
                };
                write_line(&json!({"event": "connected", "peer_id": peer_id.to_string(),
                    "direction": direction, "address": address.to_string()}));
                self.connections.insert(connection_id, (peer_id, address, direction));
                if let Some(waiter) = self.dialled.remove(&connection_id) {
                    let _ = waiter.send(Ok(peer_id));
                }
            }
            SwarmEvent::ConnectionClosed { peer_id, connection_id, num_established, .. } => {
                write_line(&json!({"event": "disconnected", "peer_id": peer_id.to_string()}));
                self.connections.remove(&connection_id);
                self.identified_connections.remove(&connection_id);
                if num_established == 0 {
                    self.identified.remove(&peer_id);
                    self.ping_waiters.remove(&peer_id);
                    self.close_waiters.remove(&peer_id);
                }
            }
            SwarmEvent::OutgoingConnectionError { connection_id, error, .. } => {
                if let Some(waiter) = self.dialled.remove(&connection_id) {
                    let _ = waiter.send(Err(text(error)));
                }
            }
            SwarmEvent::IncomingConnectionError { error, .. } => eprintln!("inbound connection: {error}"),
            SwarmEvent::Behaviour(BehaviourEvent::Identify(event)) => self.on_identify(event),
            SwarmEvent::Behaviour(BehaviourEvent::Ping(event)) => {
                for waiter in self.ping_waiters.remove(&event.peer).unwrap_or_default() {
                    let _ = waiter.send(event.result.as_ref().map(|rtt| *rtt).map_err(text));
                }
            }
            SwarmEvent::Behaviour(BehaviourEvent::Gossip(event)) => gossip::on_event(self, event),
            SwarmEvent::Behaviour(BehaviourEvent::Kad(event)) => dht::on_event(self, event),
            SwarmEvent::Behaviour(BehaviourEvent::Reach(event)) => reach::on_event(self, event),
            SwarmEvent::ListenerClosed { listener_id, reason, .. } => {
                let why = reason.err().map_or("closed".into(), text);
                self.closed_listeners.insert(listener_id, why);
            }
            _ => {}
        }
    }

    fn on_identify(&mut self, event: identify::Event) {
        match event {
            identify::Event::Received { connection_id, peer_id, info } => {
                let kad_protocol = self.kad_protocol.clone();
                if let Some(kad) = self.swarm.behaviour_mut().kad.as_mut()
                    && info.protocols.iter().any(|protocol| protocol.as_ref() == kad_protocol)
                {
                    for address in &info.listen_addrs {
                        kad.add_address(&peer_id, address.clone());
                    }
                }
                let name = peer_id.to_string();
                if self.identified_connections.insert(connection_id) {
                    write_line(&json!({"event": "identified", "peer_id": name}));
                } else {
                    write_line(&json!({"event": "pushed", "peer_id": name,
                        "protocols": protocols(&info), "addresses": addresses(&info)}));
                }
                self.identified.insert(peer_id, info);
                for waiter in self.identify_waiters.remove(&peer_id).unwrap_or_default() {
                    let _ = waiter.send(());
                }
            }
            identify::Event::Error { peer_id, error, .. } => eprintln!("identify of {peer_id}: {error}"),
            _ => {}
        }
    }
}

pub fn protocols(info: &identify::Info) -> Vec<String> {
    info.protocols.iter().map(StreamProtocol::to_string).collect()
}

pub fn addresses(info: &identify::Info) -> Vec<String> {
    info.listen_addrs.iter().map(Multiaddr::to_string).collect()
}
