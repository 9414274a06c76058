import { peerIdFromString } from '@libp2p/peer-id'
import { ACK, Tally } from './bench.js'
import { MANY_STREAMS } from './basics.js'

export function watch ({ node, write, topics }) {
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

export const handlers = { subscribe, unsubscribe, topic_peers: topicPeers, mesh, publish }
