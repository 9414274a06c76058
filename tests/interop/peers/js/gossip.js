import { peerIdFromString } from '@libp2p/peer-id'
import { ACK, Tally } from './bench.js'
import { MANY_STREAMS } from './basics.js'

const SCORES_EVERY = 50 // milliseconds

export function watch ({ node, write, topics, lowest }) {
  const { pubsub } = node.services
  pubsub.addEventListener('gossipsub:message', ({ detail: { msg, propagationSource } }) => {
    const entry = topics.get(msg.topic)
    if (entry?.quiet === true) {
      entry.tally.add(msg.data)
      return
    }
    write({
      event: 'message',
      topic: msg.topic,
      data: Buffer.from(msg.data).toString('base64'),
      from: msg.type === 'signed' ? msg.from.toString() : null,
      source: propagationSource.toString()
    })
  })
  pubsub.addEventListener('subscription-change', ({ detail: { peerId, subscriptions } }) => {
    for (const { topic, subscribe } of subscriptions) {
      write({ event: 'topic_peer', topic, peer_id: peerId.toString(), joined: subscribe })
    }
  })
  tell(pubsub, 'handleIdontwant', 'received', write, (id, entries) => ({ peers: [id], entries }))
  tell(pubsub, 'sendRpcInBatch', 'sent', write, (ids, rpc) => ({ peers: [...ids], entries: rpc.control?.idontwant }))
  setInterval(() => {
    for (const [id, score] of currentScores(node)) {
      lowest.set(id, Math.min(score, lowest.get(id) ?? score))
    }
  }, SCORES_EVERY).unref()
  for (const name of ['graft', 'prune']) {
    pubsub.addEventListener(`gossipsub:${name}`, ({ detail: { peerId, topic } }) => {
      write({ event: name, topic, peer_id: peerId })
    })
  }
}

async function subscribe ({ node, topics }, { topic, quiet, ack_to: ackTo }, signal) {
  if (topics.has(topic)) {
    throw new Error(`already subscribed to ${topic}`)
  }
  const acks = ackTo == null
    ? undefined
    : await node.dialProtocol(peerIdFromString(ackTo), ACK, { signal, ...MANY_STREAMS })
  topics.set(topic, { quiet: quiet === true, tally: new Tally(acks) })
  node.services.pubsub.subscribe(topic)
}

async function unsubscribe ({ node, topics }, { topic }) {
  const entry = topics.get(topic)
  if (entry == null) {
    throw new Error(`not subscribed to ${topic}`)
  }
  topics.delete(topic)
  node.services.pubsub.unsubscribe(topic)
  await entry.tally.acks?.close()
}

async function topicPeers ({ node }, { topic }) {
  return { peers: node.services.pubsub.getSubscribers(topic).map((peerId) => peerId.toString()) }
}

async function mesh ({ node }, { topic }) {
  return { peers: node.services.pubsub.getMeshPeers(topic) }
}

async function publish ({ node }, { topic, data }) {
  await node.services.pubsub.publish(topic, Buffer.from(data, 'base64'))
}

// `calls` says of a gossip call to which peers it takes how many ids of IDONTWANT.
function tell (pubsub, name, direction, write, calls) {
  const original = pubsub[name].bind(pubsub)
  pubsub[name] = (...values) => {
    const { peers, entries } = calls(...values)
    const count = (entries ?? []).reduce((sum, entry) => sum + entry.messageIDs.length, 0)
    for (const peer of count > 0 ? peers : []) {
      write({ event: 'idontwant', peer_id: peer, direction, count })
    }
    return original(...values)
  }
}

function currentScores (node) {
  const { score, streamsOutbound } = node.services.pubsub
  return [...streamsOutbound.keys()].map((id) => [id, score.score(id)])
}

async function scores ({ node, lowest }) {
  return { scores: Object.fromEntries(currentScores(node)), lowest: Object.fromEntries(lowest) }
}

async function gossipPeers ({ node }) {
  const streams = [...node.services.pubsub.streamsOutbound]
  return { peers: Object.fromEntries(streams.map(([id, stream]) => [id, stream.protocol])) }
}

const field = (number, bytes) => Buffer.concat([Buffer.from([number << 3 | 2]), varint(bytes.length), bytes])

function varint (value) {
  const bytes = []
  for (; value > 127; value >>= 7) {
    bytes.push(value & 127 | 128)
  }
  return Buffer.from([...bytes, value])
}

// Signs a message, changes its data, and sends it to one peer on a stream of its own.
async function publishTampered ({ node }, { topic, data, peer_id: peerId }, signal) {
  const payload = Buffer.from(data, 'base64')
  const seqno = Buffer.alloc(8)
  seqno.writeBigUInt64BE(process.hrtime.bigint())
  const encode = () => Buffer.concat([
    field(1, node.peerId.toMultihash().bytes), field(2, payload), field(3, seqno), field(4, Buffer.from(topic))
  ])
  const content = Buffer.concat([Buffer.from('libp2p-pubsub:'), encode()])
  const signature = await node.components.privateKey.sign(content)
  payload[0] ^= 1
  const rpc = field(2, Buffer.concat([encode(), field(5, signature)]))
  const stream = await node.dialProtocol(peerIdFromString(peerId), '/meshsub/1.1.0', { signal, ...MANY_STREAMS })
  stream.send(Buffer.concat([varint(rpc.length), rpc]))
  await stream.close({ signal })
}

export const handlers = {
  subscribe,
  unsubscribe,
  topic_peers: topicPeers,
  mesh,
  publish,
  scores,
  gossip_peers: gossipPeers,
  publish_tampered: publishTampered
}
