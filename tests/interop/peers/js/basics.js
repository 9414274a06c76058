import { peerIdFromString } from '@libp2p/peer-id'
import { multiaddr } from '@multiformats/multiaddr'

export const ECHO = '/interop/echo/1'
export const MANY_STREAMS = { maxInboundStreams: 4096, maxOutboundStreams: 4096 }

export function watch ({ node, write, identified }) {
  node.addEventListener('connection:open', ({ detail: connection }) => {
    write({
      event: 'connected',
      peer_id: connection.remotePeer.toString(),
      address: connection.remoteAddr.toString(),
      direction: connection.direction
    })
  })
  node.addEventListener('connection:close', ({ detail: connection }) => {
    identified.delete(connection.id)
    write({ event: 'disconnected', peer_id: connection.remotePeer.toString() })
  })
  node.addEventListener('peer:identify', ({ detail }) => {
    if (!identified.has(detail.connection.id)) {
      identified.add(detail.connection.id)
      write({ event: 'identified', peer_id: detail.peerId.toString() })
      return
    }
    write({ // what comes again was pushed
      event: 'pushed',
      peer_id: detail.peerId.toString(),
      protocols: detail.protocols,
      addresses: detail.listenAddrs.map((address) => address.toString())
    })
  })
  node.services.dht?.routingTable.addEventListener('peer:add', ({ detail: peerId }) => {
    write({ event: 'dht_peer', peer_id: peerId.toString() })
  })
}

export async function echoes (stream) {
  try {
    for await (const chunk of stream) {
      if (!stream.send(chunk)) {
        await stream.onDrain()
      }
    }
    await stream.close()
  } catch (error) {
    stream.abort(error)
  }
}

export async function serve ({ node }) {
  await node.handle(ECHO, echoes, MANY_STREAMS)
}

async function protocolAdd ({ node }, { protocol }) {
  await node.handle(protocol, echoes, MANY_STREAMS)
}

async function protocolRemove ({ node }, { protocol }) {
  await node.unhandle(protocol)
}

async function listenAdd ({ node }, { address }) {
  await node.components.transportManager.listen([multiaddr(address)])
  return { addresses: node.getMultiaddrs().map((known) => known.toString()) }
}

async function signedRecord ({ node }, { peer_id: peerId }) {
  const { peerRecordEnvelope } = await node.peerStore.get(peerIdFromString(peerId))
  return { record: peerRecordEnvelope == null ? null : Buffer.from(peerRecordEnvelope).toString('base64') }
}

async function connect ({ node, identified }, { address }, signal) {
  const connection = await node.dial(multiaddr(address), { signal })
  if (!identified.has(connection.id)) {
    await new Promise((resolve, reject) => {
      const check = () => { identified.has(connection.id) && resolve() }
      node.addEventListener('peer:identify', check, { signal })
      connection.addEventListener('close', () => reject(new Error('connection closed before identify')), { signal })
      signal.addEventListener('abort', () => reject(new Error('no identify in time')))
    })
  }
  return { peer_id: connection.remotePeer.toString() }
}

async function disconnect ({ node }, { peer_id: peerId }, signal) {
  await node.hangUp(peerIdFromString(peerId), { signal })
}

async function peers ({ node }) {
  return {
    peers: node.getConnections().map((connection) => ({
      peer_id: connection.remotePeer.toString(),
      address: connection.remoteAddr.toString(),
      direction: connection.direction
    }))
  }
}

async function ping ({ node }, { peer_id: peerId }, signal) {
  const start = performance.now() // the service itself rounds to milliseconds
  await node.services.ping.ping(peerIdFromString(peerId), { signal })
  return { rtt_ms: performance.now() - start }
}

async function identify ({ node }, { peer_id: peerId }) {
  const { addresses, metadata, protocols } = await node.peerStore.get(peerIdFromString(peerId))
  const text = (key) => new TextDecoder().decode(metadata.get(key))
  return {
    protocol_version: text('ProtocolVersion'),
    agent_version: text('AgentVersion'),
    protocols,
    addresses: addresses.map((address) => address.multiaddr.toString())
  }
}

export function dhtOf (node) {
  if (node.services.dht == null) {
    throw new Error('the DHT is off')
  }
  return node.services.dht
}

async function dhtPeers ({ node }) {
  const list = []
  for (const { peerId } of dhtOf(node).routingTable.kb.toIterable()) {
    list.push(peerId.toString())
  }
  return { peers: list }
}

async function findPeer ({ node }, { peer_id: peerId }, signal) {
  for await (const event of dhtOf(node).findPeer(peerIdFromString(peerId), { signal })) {
    if (event.name === 'FINAL_PEER') {
      return { addresses: event.peer.multiaddrs.map((address) => address.toString()) }
    }
  }
  throw new Error('peer not found')
}

async function closestPeers ({ node }, { peer_id: peerId }, signal) {
  const list = []
  for await (const event of dhtOf(node).getClosestPeers(peerIdFromString(peerId).toMultihash().bytes, { signal })) {
    if (event.name === 'FINAL_PEER') {
      list.push(event.peer.id.toString())
    }
  }
  return { peers: list }
}

async function echo ({ node }, { peer_id: peerId, data }, signal) {
  const stream = await node.dialProtocol(peerIdFromString(peerId), ECHO, { signal })
  const read = (async () => { // beside the writing: both windows may be smaller than the data
    const chunks = []
    for await (const chunk of stream) {
      chunks.push(chunk.subarray())
    }
    return Buffer.concat(chunks)
  })()
  try {
    if (!stream.send(Buffer.from(data, 'base64'))) {
      await stream.onDrain({ signal })
    }
    await stream.close({ signal })
    return { data: (await read).toString('base64') }
  } catch (error) {
    stream.abort(error)
    await read.catch(() => {})
    throw error
  }
}

export const handlers = {
  connect,
  disconnect,
  peers,
  ping,
  identify,
  dht_peers: dhtPeers,
  find_peer: findPeer,
  closest_peers: closestPeers,
  echo,
  protocol_add: protocolAdd,
  protocol_remove: protocolRemove,
  listen_add: listenAdd,
  signed_record: signedRecord
}
