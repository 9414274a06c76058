import { setTimeout as sleep } from 'node:timers/promises'
import { peerIdFromString } from '@libp2p/peer-id'
import { multiaddr } from '@multiformats/multiaddr'
import { Uint8ArrayList } from 'uint8arraylist'
import { ECHO, MANY_STREAMS } from './basics.js'

export const ACK = '/interop/ack/1'
const ACK_EVERY = 16
const HEADER = 16

// CLOCK_MONOTONIC, which all processes of the host share.
const monotonic = () => process.hrtime.bigint()

const view = (bytes) => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)

function quantiles (nanoseconds) {
  if (nanoseconds.length === 0) {
    return null
  }
  const sorted = Float64Array.from(nanoseconds).sort()
  const at = (q) => sorted[Math.floor(q * (sorted.length - 1))] / 1e6
  return { p50: at(0.5), p99: at(0.99), max: at(1) }
}

// Counts and times the messages of a quiet subscription.
export class Tally {
  constructor (acks) {
    this.acks = acks
    this.reset()
  }

  reset () {
    this.received = 0
    this.latencies = []
  }

  add (data) {
    if (data.length < HEADER) {
      return
    }
    const header = view(data)
    this.received++
    this.latencies.push(Number(monotonic() - header.getBigUint64(0)))
    if (this.acks != null && (this.received % ACK_EVERY === 0 || this.received === header.getUint32(12))) {
      const frame = Buffer.alloc(8)
      frame.writeBigUInt64BE(BigInt(this.received))
      this.acks.send(frame)
    }
  }
}

// What the receiver acknowledged, with a way to wait for more.
export class Counter {
  constructor () {
    this.value = 0
    this.waiting = null
  }

  set (value) {
    this.value = value
    if (this.waiting != null && value >= this.waiting.value) {
      this.waiting.resolve()
      this.waiting = null
    }
  }

  async waitFor (value, signal) {
    if (this.value >= value) {
      return
    }
    const { promise, resolve, reject } = Promise.withResolvers()
    this.waiting = { value, resolve }
    const fail = () => reject(new Error(`${this.value} of ${value} acknowledged in time`))
    signal.addEventListener('abort', fail)
    try {
      signal.aborted && fail()
      await promise
    } finally {
      signal.removeEventListener('abort', fail)
    }
  }
}

export async function serve ({ node, acked }) {
  await node.handle(ACK, (stream) => {
    const buffer = new Uint8ArrayList()
    stream.addEventListener('message', ({ data }) => {
      buffer.append(data)
      const whole = buffer.length - buffer.length % 8
      if (whole > 0) {
        acked.set(Number(view(buffer.subarray(whole - 8, whole)).getBigUint64(0)))
        buffer.consume(whole)
      }
    })
    stream.addEventListener('remoteCloseWrite', () => { stream.close().catch(() => {}) })
  }, MANY_STREAMS)
}

async function tally ({ topics }, { topic }) {
  const entry = topics.get(topic)
  if (entry == null) {
    throw new Error(`not subscribed to ${topic}`)
  }
  const answer = { received: entry.tally.received, latency_ms: quantiles(entry.tally.latencies) }
  entry.tally.reset()
  return answer
}

async function flood ({ node, acked }, { topic, size, count, window, rate }, signal) {
  if (size < HEADER) {
    throw new Error(`size is at least ${HEADER}`)
  }
  acked.set(0)
  const start = performance.now()
  for (let i = 0; i < count; i++) {
    if (rate > 0) {
      const ahead = start + i * 1000 / rate - performance.now()
      if (ahead > 0) {
        await sleep(ahead)
      }
    }
    if (acked.value < i + 1 - window) {
      await acked.waitFor(i + 1 - window, signal)
    }
    const data = new Uint8Array(size)
    const header = view(data)
    header.setBigUint64(0, monotonic())
    header.setUint32(8, i)
    header.setUint32(12, count)
    await node.services.pubsub.publish(topic, data)
  }
  await acked.waitFor(count, signal)
  return { seconds: (performance.now() - start) / 1000 }
}

async function echoMany ({ node }, { peer_id: peerId, size, count, in_flight: inFlight = 1 }, signal) {
  const stream = await node.dialProtocol(peerIdFromString(peerId), ECHO, { signal })
  const data = new Uint8Array(size)
  const sent = []
  const latencies = []
  let received = 0
  const start = performance.now()
  const send = () => {
    sent.push(monotonic())
    stream.send(data)
  }
  await new Promise((resolve, reject) => {
    signal.addEventListener('abort', () => reject(new Error(`${latencies.length} of ${count} answered in time`)))
    stream.addEventListener('close', () => reject(new Error('stream closed')))
    stream.addEventListener('message', ({ data: { byteLength } }) => {
      for (received += byteLength; received >= size; received -= size) {
        latencies.push(Number(monotonic() - sent[latencies.length]))
        if (sent.length < count) {
          send()
        }
      }
      if (latencies.length === count) {
        resolve()
      }
    })
    while (sent.length < Math.min(inFlight, count)) {
      send()
    }
  })
  const seconds = (performance.now() - start) / 1000
  await stream.close({ signal })
  return { seconds, latency_ms: quantiles(latencies) }
}

async function connections ({ node }, { address, count }, signal) {
  const target = multiaddr(address)
  const start = performance.now()
  for (let i = 0; i < count; i++) {
    const connection = await node.dial(target, { signal, force: true })
    await connection.close({ signal })
  }
  return { seconds: (performance.now() - start) / 1000 }
}

export const handlers = { tally, flood, echo_many: echoMany, connections }
