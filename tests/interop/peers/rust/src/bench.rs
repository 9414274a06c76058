//! What the benchmarks ask.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use futures::{AsyncReadExt, AsyncWriteExt};
use libp2p::gossipsub::IdentTopic;
use libp2p::swarm::Stream;
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::node::Handle;
use crate::streams::{CHUNK, ECHO, SINK, SOURCE};
use crate::{Answer, Command, basics, text};

const ACK_EVERY: u64 = 16;
const HEADER: usize = 16;

/// The clock that all processes of the host share, in nanoseconds.
fn monotonic() -> i64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec * 1_000_000_000 + now.tv_nsec
}

#[derive(Default)]
struct Tally {
    received: u64,
    latencies: Vec<i64>,
}

/// A subscription; a quiet one counts and times its messages.
pub struct Subscription {
    pub quiet: bool,
    tally: Mutex<Tally>,
    acks: Option<mpsc::UnboundedSender<u64>>,
}

impl Subscription {
    pub fn new(quiet: bool, acks: Option<Stream>) -> Self {
        let acks = acks.map(|mut stream| {
            let (sender, mut counts) = mpsc::unbounded_channel::<u64>();
            tokio::spawn(async move {
                while let Some(count) = counts.recv().await {
                    // A failure shows at the sender, whose flood ends with a timeout.
                    if stream.write_all(&count.to_be_bytes()).await.is_err() || stream.flush().await.is_err() {
                        return;
                    }
                }
                let _ = stream.close().await;
            });
            sender
        });
        Subscription { quiet, tally: Mutex::default(), acks }
    }

    pub fn add(&self, data: &[u8]) {
        let now = monotonic();
        let (Some(sent), Some(count)) = (data.get(..8), data.get(12..HEADER)) else { return };
        let mut tally = self.tally.lock().unwrap();
        tally.received += 1;
        tally.latencies.push(now - i64::from_be_bytes(sent.try_into().unwrap()));
        let last = tally.received == u64::from(u32::from_be_bytes(count.try_into().unwrap()));
        if let Some(acks) = &self.acks
            && (last || tally.received.is_multiple_of(ACK_EVERY))
        {
            let _ = acks.send(tally.received);
        }
    }
}

fn quantiles(mut nanoseconds: Vec<i64>) -> Value {
    if nanoseconds.is_empty() {
        return Value::Null;
    }
    nanoseconds.sort_unstable();
    let at = |q: f64| nanoseconds[(q * (nanoseconds.len() - 1) as f64) as usize] as f64 / 1e6;
    json!({"p50": at(0.5), "p99": at(0.99), "max": at(1.0)})
}

pub async fn tally(node: &Handle, cmd: &Command) -> Answer {
    let topic = IdentTopic::new(cmd.text("topic")?).hash();
    let subscription = node.with(move |node| node.subscriptions.get(&topic).cloned()).await?.ok_or("not subscribed")?;
    let taken = std::mem::take(&mut *subscription.tally.lock().unwrap());
    Ok(json!({"received": taken.received, "latency_ms": quantiles(taken.latencies)}))
}

pub async fn flood(node: &Handle, cmd: &Command) -> Answer {
    let topic = IdentTopic::new(cmd.text("topic")?);
    let (size, count, window) = (cmd.number("size"), cmd.number("count") as u64, cmd.number("window") as u64);
    let rate = cmd.0["rate"].as_f64().unwrap_or(0.0);
    if size < HEADER {
        return Err(format!("size is at least {HEADER}"));
    }
    let acked = &node.streams.acked.0;
    acked.send_replace(0);
    let mut changes = acked.subscribe();
    let start = Instant::now();
    for index in 0..count {
        if rate > 0.0 {
            tokio::time::sleep_until((start + Duration::from_secs_f64(index as f64 / rate)).into()).await;
        }
        changes.wait_for(|acked| *acked + window > index).await.map_err(text)?;
        let topic = topic.clone();
        node.with(move |node| {
            let mut data = vec![0; size];
            data[..8].copy_from_slice(&monotonic().to_be_bytes());
            data[8..12].copy_from_slice(&(index as u32).to_be_bytes());
            data[12..16].copy_from_slice(&(count as u32).to_be_bytes());
            node.swarm.behaviour_mut().gossip.publish(topic, data).map_err(text)
        })
        .await??;
    }
    changes.wait_for(|acked| *acked >= count).await.map_err(text)?;
    Ok(json!({"seconds": start.elapsed().as_secs_f64()}))
}

pub async fn echo_many(node: &Handle, cmd: &Command) -> Answer {
    let (size, count, in_flight) = (cmd.number("size"), cmd.number("count"), cmd.number("in_flight").max(1));
    let stream = node.control.clone().open_stream(cmd.peer()?, ECHO).await.map_err(text)?;
    let (mut reader, mut writer) = stream.split();
    let (turns, mut turn) = mpsc::channel::<()>(in_flight);
    let (sent, mut times) = mpsc::channel::<i64>(in_flight);
    let start = Instant::now();
    let write = async move {
        let data = vec![0; size];
        for _ in 0..count {
            turns.send(()).await.map_err(text)?;
            let now = monotonic();
            writer.write_all(&data).await.map_err(text)?;
            writer.flush().await.map_err(text)?;
            sent.send(now).await.map_err(text)?;
        }
        Ok::<_, String>(writer)
    };
    let read = async move {
        let mut latencies = Vec::with_capacity(count);
        let mut data = vec![0; size];
        for _ in 0..count {
            reader.read_exact(&mut data).await.map_err(text)?;
            latencies.push(monotonic() - times.recv().await.ok_or("the writer failed")?);
            turn.recv().await;
        }
        Ok::<_, String>(latencies)
    };
    let (writer, latencies) = futures::try_join!(write, read)?;
    let seconds = start.elapsed().as_secs_f64();
    let mut writer = writer;
    writer.close().await.map_err(text)?;
    Ok(json!({"seconds": seconds, "latency_ms": quantiles(latencies)}))
}

pub async fn connections(node: &Handle, cmd: &Command) -> Answer {
    let start = Instant::now();
    for _ in 0..cmd.number("count") {
        let peer = basics::dial(node, cmd.text("address")?).await?;
        basics::close(node, peer).await?;
    }
    Ok(json!({"seconds": start.elapsed().as_secs_f64()}))
}

pub async fn new_streams(node: &Handle, cmd: &Command) -> Answer {
    let (peer, count) = (cmd.peer()?, cmd.number("count"));
    let mut control = node.control.clone();
    let data = [7; 100];
    let start = Instant::now();
    for _ in 0..count {
        let mut stream = control.open_stream(peer, ECHO).await.map_err(text)?;
        stream.write_all(&data).await.map_err(text)?;
        stream.close().await.map_err(text)?;
        let mut back = Vec::with_capacity(data.len());
        stream.read_to_end(&mut back).await.map_err(text)?;
        if back != data {
            return Err(format!("{} bytes came back", back.len()));
        }
    }
    Ok(json!({"seconds": start.elapsed().as_secs_f64()}))
}

pub async fn bulk(node: &Handle, cmd: &Command) -> Answer {
    let (peer, send, receive) = (cmd.peer()?, cmd.number("send") as u64, cmd.number("receive") as u64);
    let mut control = node.control.clone();
    let mut out = control.open_stream(peer, SINK).await.map_err(text)?;
    let mut back = control.open_stream(peer, SOURCE).await.map_err(text)?;
    let start = Instant::now();
    let push = tokio::spawn(async move {
        let chunk = vec![0; CHUNK];
        let mut left = send;
        while left > 0 {
            let count = left.min(CHUNK as u64);
            out.write_all(&chunk[..count as usize]).await?;
            left -= count;
        }
        out.close().await?;
        let mut frame = [0; 8];
        out.read_exact(&mut frame).await?;
        Ok::<_, std::io::Error>(u64::from_be_bytes(frame))
    });
    let pull = tokio::spawn(async move {
        back.write_all(&receive.to_be_bytes()).await?;
        back.flush().await?;
        let (mut buffer, mut total) = (vec![0; CHUNK], 0u64);
        loop {
            match back.read(&mut buffer).await? {
                0 => break,
                count => total += count as u64,
            }
        }
        back.close().await?;
        Ok::<_, std::io::Error>(total)
    });
    let (sent, received) = (push.await.map_err(text)?.map_err(text)?, pull.await.map_err(text)?.map_err(text)?);
    Ok(json!({"seconds": start.elapsed().as_secs_f64(), "sent": sent, "received": received}))
}
