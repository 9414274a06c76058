import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { generateKeyPairFromSeed } from '@libp2p/crypto/keys'
import { gossipsub } from '@libp2p/gossipsub'
import { identify, identifyPush } from '@libp2p/identify'
import { kadDHT, passthroughMapper } from '@libp2p/kad-dht'
import { noise } from '@libp2p/noise'
import { ping } from '@libp2p/ping'
import { tcp } from '@libp2p/tcp'
import { yamux } from '@libp2p/yamux'
import { createLibp2p } from 'libp2p'

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

export async function createNode ({ listen, network, key, dht, sign }) {
  const seed = Buffer.from(key, 'hex')
  if (seed.length !== 32) {
    throw new Error('--key takes 64 hex digits')
  }
  const services = {
    identify: withProtocolVersion(identify, `sidecar/${network}`),
    identifyPush: withProtocolVersion(identifyPush, `sidecar/${network}`),
    ping: ping(),
    pubsub: gossipsub({
      globalSignaturePolicy: sign === 'none' ? 'StrictNoSign' : 'StrictSign',
      msgIdFn: messageId,
      allowPublishToZeroTopicPeers: true,
      scoreParams: { IPColocationFactorWeight: 0 } // more than ten peers on one host would be graylisted
    })
  }
  if (dht !== 'off') {
    services.dht = kadDHT({
      protocol: `/sidecar/${network}/kad/1.0.0`,
      clientMode: dht === 'client',
      peerInfoMapper: passthroughMapper // loopback addresses are all there is
    })
  }
  return createLibp2p({
    start: false,
    privateKey: await generateKeyPairFromSeed('Ed25519', seed),
    nodeInfo: { userAgent },
    addresses: { listen: listen === '' ? [] : [listen] },
    transports: [tcp()],
    connectionEncrypters: [noise()],
    streamMuxers: [yamux()],
    connectionManager: {
      maxConnections: Infinity,
      maxIncomingPendingConnections: Infinity,
      inboundConnectionThreshold: Infinity // five a second by default, from one host
    },
    services
  })
}
