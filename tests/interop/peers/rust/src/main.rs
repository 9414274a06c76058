//! A rust-libp2p node driven by JSON lines; ../README.md says how.

mod basics;
mod bench;
mod dht;
mod gossip;
mod node;
mod options;
mod reach;
mod streams;

use std::io::{BufRead, Write};
use std::sync::Arc;
use std::time::Duration;

use base64::{Engine, prelude::BASE64_STANDARD};
use libp2p::PeerId;
use serde_json::{Value, json};

use node::Handle;

pub type Answer = Result<Value, String>;

/// Any error as the text of an answer.
pub fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// Writes one JSON line on standard output; the lock of `stdout` keeps lines whole.
pub fn write_line(line: &Value) {
    let mut out = std::io::stdout().lock();
    if writeln!(out, "{line}").and_then(|()| out.flush()).is_err() {
        std::process::exit(1); // nobody reads us any more
    }
}

pub fn encode(data: &[u8]) -> String {
    BASE64_STANDARD.encode(data)
}

/// One command: every op reads its own arguments.
pub struct Command(pub Value);

impl Command {
    pub fn text(&self, name: &str) -> Result<&str, String> {
        self.0[name].as_str().ok_or(format!("{name} is missing"))
    }
    pub fn number(&self, name: &str) -> usize {
        self.0[name].as_u64().unwrap_or(0) as usize
    }
    pub fn flag(&self, name: &str) -> bool {
        self.0[name].as_bool().unwrap_or(false)
    }
    pub fn bytes(&self, name: &str) -> Result<Vec<u8>, String> {
        BASE64_STANDARD.decode(self.text(name)?).map_err(text)
    }
    pub fn peer(&self) -> Result<PeerId, String> {
        self.text("peer_id")?.parse().map_err(text)
    }
}

async fn dispatch(node: &Handle, cmd: &Command) -> Answer {
    match cmd.text("op")? {
        "connect" => basics::connect(node, cmd).await,
        "disconnect" => basics::disconnect(node, cmd).await,
        "peers" => basics::peers(node).await,
        "ping" => basics::ping(node, cmd).await,
        "identify" => basics::identify(node, cmd).await,
        "signed_record" => basics::signed_record(node, cmd).await,
        "listen_add" => basics::listen_add(node, cmd).await,
        "reserve" => reach::reserve(node, cmd).await,
        "reachability" => reach::reachability(node, cmd).await,
        "dht_peers" => dht::dht_peers(node).await,
        "find_peer" => dht::find_peer(node, cmd).await,
        "closest_peers" => dht::closest_peers(node, cmd).await,
        "put_value" => dht::put_value(node, cmd).await,
        "get_value" => dht::get_value(node, cmd).await,
        "provide" => dht::provide(node, cmd).await,
        "find_providers" => dht::find_providers(node, cmd).await,
        "subscribe" => gossip::subscribe(node, cmd).await,
        "unsubscribe" => gossip::unsubscribe(node, cmd).await,
        "topic_peers" => gossip::topic_peers(node, cmd).await,
        "mesh" => gossip::mesh(node, cmd).await,
        "publish" => gossip::publish(node, cmd).await,
        "publish_tampered" => gossip::publish_tampered(node, cmd).await,
        "scores" => gossip::scores(node).await,
        "gossip_peers" => gossip::gossip_peers(node).await,
        "echo" => streams::echo(node, cmd).await,
        "protocol_add" => streams::protocol_add(node, cmd).await,
        "protocol_remove" => streams::protocol_remove(node, cmd).await,
        "stream_open" => streams::open(node, cmd).await,
        "stream_accept" => streams::accept(node, cmd).await,
        "stream_write" => streams::write(node, cmd).await,
        "stream_read" => streams::read(node, cmd).await,
        "stream_close_write" => streams::close_write(node, cmd).await,
        "stream_reset" => streams::reset(node, cmd).await,
        "streams_reset" => streams::reset_many(node, cmd).await,
        "bulk" => bench::bulk(node, cmd).await,
        "new_streams" => bench::new_streams(node, cmd).await,
        "flood" => bench::flood(node, cmd).await,
        "tally" => bench::tally(node, cmd).await,
        "echo_many" => bench::echo_many(node, cmd).await,
        "connections" => bench::connections(node, cmd).await,
        "quit" => Ok(json!({})),
        other => Err(format!("unknown op {other}")),
    }
}

async fn run(node: Handle, line: String) {
    let cmd = match serde_json::from_str::<Value>(&line) {
        Ok(value) => Command(value),
        Err(error) => return write_line(&json!({"id": null, "ok": false, "error": text(error)})),
    };
    let seconds = cmd.0["timeout"].as_f64().unwrap_or(10.0);
    let answer = match tokio::time::timeout(Duration::from_secs_f64(seconds), dispatch(&node, &cmd)).await {
        Ok(answer) => answer,
        Err(_) => Err(format!("not done within {seconds} s")),
    };
    let mut line = match answer {
        Ok(value) => value,
        Err(error) => json!({"ok": false, "error": error}),
    };
    line["id"] = cmd.0["id"].clone();
    if line["ok"].is_null() {
        line["ok"] = json!(true);
    }
    write_line(&line);
    if cmd.0["op"] == "quit" {
        std::process::exit(0);
    }
}

#[tokio::main]
async fn main() {
    let options = options::Options::read(std::env::args().skip(1)).unwrap_or_else(|problem| problem.exit());
    let node = node::start(options).await.unwrap_or_else(|problem| problem.exit());
    let runtime = tokio::runtime::Handle::current();
    let reader = tokio::task::spawn_blocking(move || {
        let node = Arc::new(node);
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            runtime.spawn(run((*node).clone(), line));
        }
        std::process::exit(0); // the end of standard input ends the process
    });
    let _ = reader.await;
}
