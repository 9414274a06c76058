//! The protocols that every program answers, and streams that commands hold by number.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::io::{ReadHalf, WriteHalf};
use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, StreamExt};
use libp2p::swarm::Stream;
use libp2p::{PeerId, StreamProtocol};
use serde_json::json;
use tokio::sync::{Mutex, Notify, mpsc, watch};

use crate::node::Handle;
use crate::{Answer, Command, encode, text};

pub const ECHO: StreamProtocol = StreamProtocol::new("/interop/echo/1");
pub const SINK: StreamProtocol = StreamProtocol::new("/interop/sink/1");
pub const SOURCE: StreamProtocol = StreamProtocol::new("/interop/source/1");
pub const ACK: StreamProtocol = StreamProtocol::new("/interop/ack/1");
pub const CHUNK: usize = 64 << 10;

/// A stream that commands use. Dropping both halves resets it.
pub struct Held {
    reader: Mutex<Option<ReadHalf<Stream>>>,
    writer: Mutex<Option<WriteHalf<Stream>>>,
    gone: Notify,
}

#[derive(Default)]
pub struct Streams {
    next: AtomicU64,
    held: std::sync::Mutex<HashMap<u64, Arc<Held>>>,
    arriving: std::sync::Mutex<HashMap<String, Arc<Mutex<mpsc::UnboundedReceiver<(PeerId, Stream)>>>>>,
    echoed: std::sync::Mutex<HashMap<String, tokio::task::AbortHandle>>,
    /// How many messages of a flood the receiver acknowledged.
    pub acked: Acked,
}

pub struct Acked(pub watch::Sender<u64>);

impl Default for Acked {
    fn default() -> Self {
        Acked(watch::channel(0).0)
    }
}

impl Streams {
    fn hold(&self, stream: Stream) -> u64 {
        let (reader, writer) = stream.split();
        let held = Held { reader: Mutex::new(Some(reader)), writer: Mutex::new(Some(writer)), gone: Notify::new() };
        let number = self.next.fetch_add(1, Ordering::Relaxed) + 1;
        self.held.lock().unwrap().insert(number, Arc::new(held));
        number
    }

    fn get(&self, cmd: &Command) -> Result<Arc<Held>, String> {
        let number = cmd.number("stream") as u64;
        self.held.lock().unwrap().get(&number).cloned().ok_or(format!("no stream {number}"))
    }
}

/// Copy until the remote ends, in chunks that fill a good part of yamux's window.
pub async fn copy(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) -> std::io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    loop {
        let count = from.read(&mut buffer).await?;
        if count == 0 {
            return to.close().await;
        }
        to.write_all(&buffer[..count]).await?;
        to.flush().await?;
    }
}

async fn echo_back(stream: Stream) -> std::io::Result<()> {
    let (reader, writer) = stream.split();
    copy(reader, writer).await
}

async fn sink(mut stream: Stream) -> std::io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    let mut total = 0u64;
    loop {
        match stream.read(&mut buffer).await? {
            0 => break,
            count => total += count as u64,
        }
    }
    stream.write_all(&total.to_be_bytes()).await?;
    stream.close().await
}

async fn source(mut stream: Stream) -> std::io::Result<()> {
    let mut frame = [0; 8];
    stream.read_exact(&mut frame).await?;
    let mut left = u64::from_be_bytes(frame);
    let chunk = vec![0; CHUNK];
    while left > 0 {
        let count = left.min(CHUNK as u64);
        stream.write_all(&chunk[..count as usize]).await?;
        left -= count;
    }
    stream.close().await
}

async fn take_acks(mut stream: Stream, acked: watch::Sender<u64>) -> std::io::Result<()> {
    let mut frame = [0; 8];
    loop {
        stream.read_exact(&mut frame).await?;
        acked.send_replace(u64::from_be_bytes(frame));
    }
}

/// Answer the protocols of the start.
pub fn serve(node: &Handle) -> Result<(), String> {
    let mut control = node.control.clone();
    let mut echoes = control.accept(ECHO).map_err(text)?;
    let mut sinks = control.accept(SINK).map_err(text)?;
    let mut sources = control.accept(SOURCE).map_err(text)?;
    let mut acks = control.accept(ACK).map_err(text)?;
    let acked = node.streams.acked.0.clone();
    tokio::spawn(async move {
        loop {
            // A stream whose task fails is dropped, which resets it.
            tokio::select! {
                Some((_, stream)) = echoes.next() => drop(tokio::spawn(echo_back(stream))),
                Some((_, stream)) = sinks.next() => drop(tokio::spawn(sink(stream))),
                Some((_, stream)) = sources.next() => drop(tokio::spawn(source(stream))),
                Some((_, stream)) = acks.next() => drop(tokio::spawn(take_acks(stream, acked.clone()))),
                else => return,
            }
        }
    });
    Ok(())
}

pub async fn echo(node: &Handle, cmd: &Command) -> Answer {
    let data = cmd.bytes("data")?;
    let stream = node.control.clone().open_stream(cmd.peer()?, ECHO).await.map_err(text)?;
    let (mut reader, mut writer) = stream.split();
    let mut back = Vec::new();
    let write = async {
        writer.write_all(&data).await?;
        writer.close().await
    };
    let (written, read) = futures::join!(write, reader.read_to_end(&mut back));
    written.and(read).map_err(text)?;
    Ok(json!({"data": encode(&back)}))
}

fn protocol(cmd: &Command) -> Result<StreamProtocol, String> {
    StreamProtocol::try_from_owned(cmd.text("protocol")?.into()).map_err(text)
}

/// Let every connection see the changed list of protocols, and tell the peers.
async fn push(node: &Handle) -> Result<(), String> {
    node.with(|node| {
        let peers: Vec<PeerId> = node.identified.keys().copied().collect();
        node.swarm.behaviour_mut().identify.push(peers);
    })
    .await
}

pub async fn protocol_add(node: &Handle, cmd: &Command) -> Answer {
    let mut arriving = node.control.clone().accept(protocol(cmd)?).map_err(text)?;
    let task = tokio::spawn(async move {
        while let Some((_, stream)) = arriving.next().await {
            tokio::spawn(echo_back(stream));
        }
    });
    node.streams.echoed.lock().unwrap().insert(cmd.text("protocol")?.into(), task.abort_handle());
    push(node).await?;
    Ok(json!({}))
}

pub async fn protocol_remove(node: &Handle, cmd: &Command) -> Answer {
    let task = node.streams.echoed.lock().unwrap().remove(cmd.text("protocol")?);
    let task = task.ok_or("this protocol was not added")?;
    task.abort();
    while !task.is_finished() {
        tokio::time::sleep(Duration::from_millis(1)).await; // what it held is dropped then
    }
    push(node).await?;
    Ok(json!({}))
}

pub async fn open(node: &Handle, cmd: &Command) -> Answer {
    let stream = node.control.clone().open_stream(cmd.peer()?, protocol(cmd)?).await.map_err(text)?;
    Ok(json!({"stream": node.streams.hold(stream)}))
}

pub async fn accept(node: &Handle, cmd: &Command) -> Answer {
    let name = cmd.text("protocol")?;
    let queue = {
        let mut queues = node.streams.arriving.lock().unwrap();
        match queues.get(name) {
            Some(queue) => queue.clone(),
            None => {
                let mut inbound = node.control.clone().accept(protocol(cmd)?).map_err(text)?;
                let (sender, receiver) = mpsc::unbounded_channel();
                // Taken at once: libp2p-stream drops an inbound stream that nobody waits for.
                tokio::spawn(async move {
                    while let Some(arrived) = inbound.next().await {
                        let _ = sender.send(arrived);
                    }
                });
                let queue = Arc::new(Mutex::new(receiver));
                queues.insert(name.into(), queue.clone());
                queue
            }
        }
    };
    push(node).await?;
    let (peer, stream) = queue.lock().await.recv().await.ok_or("the protocol is gone")?;
    Ok(json!({"stream": node.streams.hold(stream), "peer_id": peer.to_string()}))
}

pub async fn write(node: &Handle, cmd: &Command) -> Answer {
    let data = cmd.bytes("data")?;
    let held = node.streams.get(cmd)?;
    let mut writer = held.writer.lock().await;
    let writer = writer.as_mut().ok_or("the stream was reset")?;
    let write = async {
        writer.write_all(&data).await?;
        writer.flush().await
    };
    tokio::select! {
        done = write => done.map_err(text)?,
        () = held.gone.notified() => return Err("the stream was reset".into()),
    }
    Ok(json!({}))
}

pub async fn read(node: &Handle, cmd: &Command) -> Answer {
    let held = node.streams.get(cmd)?;
    let mut reader = held.reader.lock().await;
    let reader = reader.as_mut().ok_or("the stream was reset")?;
    let mut data = vec![0; cmd.number("size")];
    let mut filled = 0;
    let (mut end, mut reset) = (false, false);
    while filled < data.len() && !end && !reset {
        tokio::select! {
            count = reader.read(&mut data[filled..]) => match count {
                Ok(0) => end = true,
                Ok(count) => filled += count,
                Err(_) => reset = true,
            },
            () = held.gone.notified() => reset = true,
        }
    }
    Ok(json!({"data": encode(&data[..filled]), "end": end, "reset": reset}))
}

pub async fn close_write(node: &Handle, cmd: &Command) -> Answer {
    let held = node.streams.get(cmd)?;
    let mut writer = held.writer.lock().await;
    writer.as_mut().ok_or("the stream was reset")?.close().await.map_err(text)?;
    Ok(json!({}))
}

/// rust-libp2p resets a stream that is dropped before it was closed.
pub async fn reset(node: &Handle, cmd: &Command) -> Answer {
    let held = node.streams.get(cmd)?;
    held.gone.notify_waiters();
    drop((held.reader.lock().await.take(), held.writer.lock().await.take()));
    Ok(json!({}))
}

pub async fn reset_many(node: &Handle, cmd: &Command) -> Answer {
    let (peer, count) = (cmd.peer()?, cmd.number("count"));
    let mut control = node.control.clone();
    let mut streams = Vec::new();
    for _ in 0..count {
        let mut stream = control.open_stream(peer, ECHO).await.map_err(text)?;
        stream.write_all(b"x").await.map_err(text)?;
        stream.flush().await.map_err(text)?;
        streams.push(stream);
    }
    Ok(json!({"opened": streams.len()}))
}
