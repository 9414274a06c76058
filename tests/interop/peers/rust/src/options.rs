//! The command line and the identity.

use std::net::SocketAddr;

use base64::{Engine, prelude::BASE64_STANDARD};
use hickory_resolver::config::{NameServerConfig, ResolverConfig};
use libp2p::identity::Keypair;
use libp2p::pnet::PreSharedKey;
use serde_json::json;

use crate::{text, write_line};

/// Why the program does not start.
pub enum Problem {
    Unsupported(String),
    Failed(String),
}

impl Problem {
    pub fn exit<T>(self) -> T {
        match self {
            Problem::Unsupported(what) => {
                write_line(&json!({"event": "unsupported", "what": what}));
                std::process::exit(3)
            }
            Problem::Failed(why) => {
                eprintln!("{why}");
                std::process::exit(1)
            }
        }
    }
}

impl From<String> for Problem {
    fn from(why: String) -> Self {
        Problem::Failed(why)
    }
}

#[derive(Default)]
pub struct Options {
    pub listen: Vec<String>,
    pub network: String,
    pub key: String,
    pub dht: String,
    pub sign: String,
    pub key_type: String,
    pub tls_cert: String,
    pub tls_key: String,
    pub tls_ca: String,
    pub psk: String,
    pub gossip: String,
    pub record_ttl: Option<u64>,
    pub heartbeat_ms: u64,
    pub degree: usize,
    pub expected_rates: Vec<(String, f64)>,
    pub announce: Vec<String>,
    pub name_server: String,
    pub relay: bool,
    pub autonat: bool,
    pub punch: bool,
    pub mdns: bool,
}

impl Options {
    pub fn read(mut arguments: impl Iterator<Item = String>) -> Result<Self, Problem> {
        let mut options = Options {
            network: "interop".into(),
            dht: "off".into(),
            sign: "strict".into(),
            key_type: "ed25519".into(),
            gossip: "latest".into(),
            ..Options::default()
        };
        while let Some(name) = arguments.next() {
            let switch = match name.as_str() {
                "--relay" => Some(&mut options.relay),
                "--autonat" => Some(&mut options.autonat),
                "--punch" => Some(&mut options.punch),
                "--mdns" => Some(&mut options.mdns),
                _ => None,
            };
            if let Some(switch) = switch {
                *switch = true;
                continue;
            }
            let value = arguments.next().ok_or(format!("{name} takes a value"))?;
            match name.as_str() {
                "--listen" => options.listen.push(value),
                "--network" => options.network = value,
                "--key" => options.key = value,
                "--dht" => options.dht = value,
                "--sign" => options.sign = value,
                "--key-type" => options.key_type = value,
                "--tls-cert" => options.tls_cert = value,
                "--tls-key" => options.tls_key = value,
                "--tls-ca" => options.tls_ca = value,
                "--psk" => options.psk = value,
                "--gossip" => options.gossip = value,
                "--heartbeat-ms" => options.heartbeat_ms = value.parse().map_err(text)?,
                "--degree" => options.degree = value.parse().map_err(text)?,
                "--expected-rate" => {
                    let (topic, rate) = value.split_once('=').ok_or("--expected-rate takes TOPIC=RATE".to_string())?;
                    options.expected_rates.push((topic.into(), rate.parse().map_err(text)?));
                }
                "--record-ttl" => options.record_ttl = Some(value.parse().map_err(text)?),
                "--dns" => options.name_server = value,
                "--announce" => options.announce.push(value),
                _ => return Err(Problem::Unsupported(format!("the option {name}"))),
            }
        }
        Ok(options)
    }

    /// The identity; only Ed25519 and secp256k1 keys come from the seed.
    pub fn keypair(&self) -> Result<Keypair, Problem> {
        let seed = hex::decode(&self.key).map_err(text)?;
        match self.key_type.as_str() {
            "ed25519" => Ok(Keypair::ed25519_from_bytes(seed).map_err(text)?),
            "secp256k1" => {
                let secret = libp2p::identity::secp256k1::SecretKey::try_from_bytes(seed).map_err(text)?;
                Ok(libp2p::identity::secp256k1::Keypair::from(secret).into())
            }
            "ecdsa" => Ok(Keypair::generate_ecdsa()),
            "rsa" => rsa(),
            other => Err(Problem::Unsupported(format!("keys of type {other}"))),
        }
    }

    /// Where names are looked up; None: nowhere.
    pub fn resolver(&self) -> Result<Option<ResolverConfig>, Problem> {
        if self.name_server.is_empty() {
            return Ok(None);
        }
        let address: SocketAddr = self.name_server.parse().map_err(text)?;
        let mut server = NameServerConfig::udp(address.ip());
        server.connections[0].port = address.port();
        Ok(Some(ResolverConfig::from_parts(None, Vec::new(), vec![server])))
    }

    pub fn pre_shared_key(&self) -> Result<Option<PreSharedKey>, Problem> {
        if self.psk.is_empty() {
            return Ok(None);
        }
        let file = std::fs::read_to_string(&self.psk).map_err(text)?;
        Ok(Some(file.parse().map_err(|e| format!("{}: {e:?}", self.psk))?))
    }
}

/// The blocks of a PEM file, in DER.
pub fn pem(file: &str) -> Result<Vec<Vec<u8>>, String> {
    let mut blocks = Vec::new();
    let mut body: Option<String> = None;
    for line in file.lines() {
        if line.starts_with("-----BEGIN") {
            body = Some(String::new());
        } else if line.starts_with("-----END") {
            blocks.push(BASE64_STANDARD.decode(body.take().unwrap_or_default()).map_err(text)?);
        } else if let Some(body) = body.as_mut() {
            body.push_str(line.trim());
        }
    }
    Ok(blocks)
}

/// An RSA key of 2048 bits. rust-libp2p only loads them, from PKCS#8, so `openssl` makes it (in PEM: its DER is PKCS#1).
fn rsa() -> Result<Keypair, Problem> {
    let made = std::process::Command::new("openssl")
        .args(["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"])
        .stderr(std::process::Stdio::null())
        .output()
        .ok()
        .filter(|done| done.status.success())
        .ok_or(Problem::Unsupported("RSA keys: rust-libp2p loads but does not make them, and `openssl` is missing".into()))?;
    let mut blocks = pem(&String::from_utf8_lossy(&made.stdout))?;
    let der = blocks.first_mut().ok_or("openssl made no key".to_string())?;
    Ok(Keypair::rsa_from_pkcs8(der).map_err(|e| format!("openssl's RSA key: {e}"))?)
}
