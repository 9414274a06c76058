import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { generateKeyPair, generateKeyPairFromSeed } from '@libp2p/crypto/keys'
import { gossipsub } from '@libp2p/gossipsub'
import { identify, identifyPush } from '@libp2p/identify'
import { kadDHT, passthroughMapper } from '@libp2p/kad-dht'
import { noise } from '@libp2p/noise'
import { ping } from '@libp2p/ping'
import { preSharedKey } from '@libp2p/pnet'
import { tcp } from '@libp2p/tcp'
import { webSockets } from '@libp2p/websockets'
import { yamux } from '@libp2p/yamux'
import { createLibp2p } from 'libp2p'
import { WebSocket } from 'ws'
import { reaching } from './reach.js'
import { selectors, validators } from './records.js'

const manifest = JSON.parse(readFileSync(new URL('package.json', import.meta.url)))
export const userAgent = `js-libp2p/${manifest.dependencies.libp2p}`

// The option `protocolPrefix` would change identify's protocol ids too, so the version is set where the service keeps it.
function withProtocolVersion (service, protocolVersion) {
  return (components) => {
    const instance = service()(components)
    instance.host.protocolVersion = protocolVersion
    return instance
  }
}

function messageId (message) {
  if (message.type === 'unsigned') {
    return createHash('sha256').update(message.data).digest()
  }
  const from = message.from.toMultihash().bytes
  const id = new Uint8Array(from.length + 8)
  id.set(from)
  new DataView(id.buffer).setBigUint64(from.length, message.sequenceNumber)
  return id
}

// Only an Ed25519 key comes from the seed.
async function privateKey (kind, seed) {
  switch (kind) {
    case 'ed25519':
      if (!/^[0-9a-f]{64}$/.test(seed)) {
        throw new Error('--key takes 64 hex digits')
      }
      return generateKeyPairFromSeed('Ed25519', Buffer.from(seed, 'hex'))
    case 'secp256k1':
      return generateKeyPair('secp256k1')
    case 'ecdsa': // peerIdFromPublicKey of @libp2p/peer-id throws UnsupportedKeyTypeError
      throw new Error('unsupported: js-libp2p makes no peer id of an ECDSA key (@libp2p/peer-id, src/index.ts)')
    case 'rsa':
      return generateKeyPair('RSA', 2048)
    default:
      throw new Error(`--key-type ${kind} is none of ed25519, secp256k1, ecdsa, rsa`)
  }
}

// Node's own WebSocket cannot be told which certificates to trust; that of `ws` can.
function trust (authority) {
  const options = { ca: readFileSync(authority) }
  globalThis.WebSocket = class extends WebSocket {
    constructor (url, protocols) {
      super(url, protocols ?? [], options)
    }
  }
}

function webSocketTransport (options) {
  if (options['tls-ca'] !== '') {
    trust(options['tls-ca'])
  }
  const certificate = options['tls-cert'] === ''
    ? {}
    : { https: { cert: readFileSync(options['tls-cert']), key: readFileSync(options['tls-key']) } }
  return webSockets(certificate)
}

const TOPIC_CAP = 20 // points that topics add at most

const DECAY_TO_ZERO = 0.01

const decay = (seconds) => DECAY_TO_ZERO ** (1 / seconds) // in each second

// P1 to P4 as derived from a topic's rate; ../README.md says how. Times are in milliseconds.
function topicScoring (rate) {
  const threshold = rate / 50 / (1 - decay(60)) * decay(60)
  const weight = -TOPIC_CAP / threshold ** 2
  return {
    topicWeight: 1,
    timeInMeshWeight: 0.01,
    timeInMeshQuantum: 1000,
    timeInMeshCap: 100,
    firstMessageDeliveriesWeight: 0.2,
    firstMessageDeliveriesDecay: decay(600),
    firstMessageDeliveriesCap: 100,
    meshMessageDeliveriesWeight: weight,
    meshMessageDeliveriesDecay: decay(60),
    meshMessageDeliveriesCap: 4 * threshold,
    meshMessageDeliveriesThreshold: threshold,
    meshMessageDeliveriesWindow: 2000,
    meshMessageDeliveriesActivation: 5000,
    meshFailurePenaltyWeight: weight,
    meshFailurePenaltyDecay: decay(60),
    invalidMessageDeliveriesWeight: -75,
    invalidMessageDeliveriesDecay: decay(600)
  }
}

function scoring (rates) {
  return {
    topics: Object.fromEntries(rates.map((text) => text.split('=')).map(([topic, rate]) => [topic, topicScoring(Number(rate))])),
    topicScoreCap: TOPIC_CAP,
    decayToZero: DECAY_TO_ZERO,
    behaviourPenaltyDecay: 0.999, // slow, so that a test sees what happened
    IPColocationFactorWeight: 0 // more than ten peers on one host would be graylisted
  }
}

function meshShape (degree) {
  return degree === 0 ? {} : { D: degree, Dlo: degree - 1, Dhi: degree + 1, Dscore: degree - 1, Dout: 1 }
}

function gossip ({ sign, gossip: version, 'heartbeat-ms': heartbeat, degree, 'expected-rate': rates }) {
  const service = gossipsub({
    globalSignaturePolicy: sign === 'none' ? 'StrictNoSign' : 'StrictSign',
    msgIdFn: messageId,
    allowPublishToZeroTopicPeers: true,
    ...(heartbeat === '0' ? {} : { heartbeatInterval: Number(heartbeat) }),
    doPX: true, // off by default, as is
    scoreThresholds: { acceptPXThreshold: 0 }, // believing others' offers: 10 by default
    scoreParams: scoring(rates),
    ...meshShape(Number(degree))
  })
  return (components) => {
    const instance = service(components)
    if (version !== 'latest') {
      // No option says which versions to offer.
      instance.protocols = instance.protocols.filter((id) => id <= `/meshsub/${version}.0`)
    }
    return instance
  }
}

export async function createNode (options, write) {
  const { listen, network, dht, announce, psk } = options
  if (options['record-ttl'] !== '0') { // PROVIDERS_VALIDITY; the option `provideValidity` is read nowhere
    throw new Error('unsupported: @libp2p/kad-dht keeps values for a constant 48 hours (src/constants.ts)')
  }
  const more = reaching(options, write)
  const services = {
    identify: withProtocolVersion(identify, `sidecar/${network}`),
    identifyPush: withProtocolVersion(identifyPush, `sidecar/${network}`),
    ping: ping(),
    pubsub: gossip(options),
    ...more.services
  }
  if (dht !== 'off') {
    services.dht = kadDHT({
      protocol: `/sidecar/${network}/kad/1.0.0`,
      clientMode: dht === 'client',
      validators,
      selectors,
      peerInfoMapper: passthroughMapper // loopback addresses are all there is
    })
  }
  return createLibp2p({
    start: false,
    privateKey: await privateKey(options['key-type'], options.key),
    nodeInfo: { userAgent },
    addresses: { listen, ...(announce === '' ? {} : { announce: [announce] }) },
    transports: [tcp(), webSocketTransport(options), ...more.transports],
    ...(psk === '' ? {} : { connectionProtector: preSharedKey({ psk: readFileSync(psk) }) }),
    connectionEncrypters: [noise()],
    streamMuxers: [yamux()],
    connectionManager: {
      maxConnections: Infinity,
      maxIncomingPendingConnections: Infinity,
      inboundConnectionThreshold: Infinity // five a second by default, from one host
    },
    services,
    ...more.settings
  })
}
