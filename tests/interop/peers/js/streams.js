import { peerIdFromString } from '@libp2p/peer-id'
import { ECHO, MANY_STREAMS } from './basics.js'

const SINK = '/interop/sink/1'
const SOURCE = '/interop/source/1'
const CHUNK = Buffer.alloc(64 * 1024)

// A stream that a test drives by number, and what was read of it beyond what was asked for.
class Driven {
  constructor (stream) {
    this.stream = stream
    this.chunks = stream[Symbol.asyncIterator]()
    this.rest = Buffer.alloc(0)
  }

  async read (size) {
    let end = false
    while (this.rest.length < size && !end) {
      const { value, done } = await this.chunks.next()
      end = done === true
      if (!end) {
        this.rest = Buffer.concat([this.rest, value.subarray()])
      }
    }
    const data = this.rest.subarray(0, size)
    this.rest = this.rest.subarray(size)
    return { data, end }
  }
}

function add ({ streams }, stream) {
  const number = streams.size + 1
  streams.set(number, new Driven(stream))
  return number
}

function get ({ streams }, { stream }) {
  const driven = streams.get(stream)
  if (driven == null) {
    throw new Error(`no stream ${stream}`)
  }
  return driven
}

async function send (stream, data, signal) {
  if (!stream.send(data)) {
    await stream.onDrain({ signal })
  }
}

async function open ({ node }, peerId, protocol, signal) {
  return node.dialProtocol(peerIdFromString(peerId), protocol, { signal, ...MANY_STREAMS })
}

async function streamOpen (context, { peer_id: peerId, protocol }, signal) {
  return { stream: add(context, await open(context, peerId, protocol, signal)) }
}

const accepted = new Map() // protocol: streams that nobody asked for yet, and those who wait for one

async function streamAccept (context, { protocol }, signal) {
  if (!accepted.has(protocol)) {
    const queue = { arrived: [], waiting: [] }
    accepted.set(protocol, queue)
    await context.node.handle(protocol, (stream, connection) => {
      const entry = { stream: add(context, stream), peer_id: connection.remotePeer.toString() }
      const next = queue.waiting.shift()
      if (next == null) {
        queue.arrived.push(entry)
      } else {
        next(entry)
      }
    }, MANY_STREAMS)
  }
  const queue = accepted.get(protocol)
  if (queue.arrived.length > 0) {
    return queue.arrived.shift()
  }
  return new Promise((resolve, reject) => {
    queue.waiting.push(resolve)
    signal.addEventListener('abort', () => {
      queue.waiting = queue.waiting.filter((other) => other !== resolve)
      reject(new Error(`no stream of ${protocol} came`))
    })
  })
}

async function streamWrite (context, command, signal) {
  await send(get(context, command).stream, Buffer.from(command.data, 'base64'), signal)
}

async function streamRead (context, command) {
  try {
    const { data, end } = await get(context, command).read(command.size)
    return { data: data.toString('base64'), end }
  } catch (error) {
    if (error.name !== 'StreamResetError') {
      throw error
    }
    return { data: '', end: false, reset: true }
  }
}

async function streamCloseWrite (context, command, signal) {
  await get(context, command).stream.close({ signal })
}

async function streamReset (context, command) {
  get(context, command).stream.abort(new Error('reset by command'))
}

async function streamsReset (context, { peer_id: peerId, count }, signal) {
  const opened = []
  for (let number = 0; number < count; number++) {
    const stream = await open(context, peerId, ECHO, signal)
    await send(stream, Buffer.from('?'), signal)
    for await (const chunk of stream) { // the remote has it
      void chunk
      break
    }
    opened.push(stream)
  }
  for (const stream of opened) {
    stream.abort(new Error('reset by command'))
  }
  return { opened: opened.length }
}

async function newStreams (context, { peer_id: peerId, count }, signal) {
  const data = Buffer.alloc(100)
  const start = performance.now()
  for (let number = 0; number < count; number++) {
    const stream = await open(context, peerId, ECHO, signal)
    await send(stream, data, signal)
    await stream.close({ signal })
    await drain(stream)
  }
  return { seconds: (performance.now() - start) / 1000 }
}

async function drain (stream) {
  let size = 0
  for await (const chunk of stream) {
    size += chunk.byteLength
  }
  return size
}

async function pour (stream, size, signal) {
  for (let left = size; left > 0; left -= CHUNK.length) {
    await send(stream, left < CHUNK.length ? CHUNK.subarray(0, left) : CHUNK, signal)
  }
  await stream.close({ signal })
}

function count (size) {
  const frame = Buffer.alloc(8)
  frame.writeBigUInt64BE(BigInt(size))
  return frame
}

async function bulk (context, { peer_id: peerId, send: sent = 0, receive: wanted = 0 }, signal) {
  const start = performance.now()
  await Promise.all([
    sent > 0 && sendBulk(context, peerId, sent, signal), wanted > 0 && receiveBulk(context, peerId, wanted, signal)
  ])
  return { seconds: (performance.now() - start) / 1000, sent, received: wanted }
}

async function sendBulk (context, peerId, size, signal) {
  const stream = await open(context, peerId, SINK, signal)
  await pour(stream, size, signal)
  const { data } = await new Driven(stream).read(8)
  if (data.length !== 8 || data.readBigUInt64BE() !== BigInt(size)) {
    throw new Error(`not all of ${size} bytes arrived`)
  }
}

async function receiveBulk (context, peerId, size, signal) {
  const stream = await open(context, peerId, SOURCE, signal)
  await send(stream, count(size), signal)
  await stream.close({ signal })
  const got = await drain(stream)
  if (got !== size) {
    throw new Error(`${got} of ${size} bytes arrived`)
  }
}

export async function serve ({ node }) {
  await node.handle(SINK, async (stream) => {
    try {
      await send(stream, count(await drain(stream)))
      await stream.close()
    } catch (error) {
      stream.abort(error)
    }
  }, MANY_STREAMS)
  await node.handle(SOURCE, async (stream) => {
    try {
      const { data } = await new Driven(stream).read(8)
      await pour(stream, Number(data.readBigUInt64BE()))
    } catch (error) {
      stream.abort(error)
    }
  }, MANY_STREAMS)
}

export const handlers = {
  stream_open: streamOpen,
  stream_accept: streamAccept,
  stream_write: streamWrite,
  stream_read: streamRead,
  stream_close_write: streamCloseWrite,
  stream_reset: streamReset,
  streams_reset: streamsReset,
  new_streams: newStreams,
  bulk
}
