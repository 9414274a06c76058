import { Resolver } from 'node:dns/promises'
import { autoNATv2 } from '@libp2p/autonat-v2'
import { circuitRelayServer, circuitRelayTransport } from '@libp2p/circuit-relay-v2'
import { dcutr } from '@libp2p/dcutr'
import { mdns } from '@libp2p/mdns'
import { dns, RecordType } from '@multiformats/dns'
import { multiaddr } from '@multiformats/multiaddr'

const CIRCUIT = '/p2p-circuit'
const LOOK = 20 // milliseconds between looks at what has no event

// Asks one name server, for TXT records alone.
function nameServer (address) {
  const resolver = new Resolver()
  resolver.setServers([address])
  const ask = async (name) => {
    const records = await resolver.resolveTxt(name)
    const Answer = records.map((strings) => ({ name, type: RecordType.TXT, TTL: 1, data: strings.join('') }))
    return { Status: 0, TC: false, RD: true, RA: true, AD: false, CD: false, Question: [{ name, type: RecordType.TXT }], Answer }
  }
  return dns({ resolvers: { '.': ask } })
}

// The node's own event for this comes with every new peer, and without addresses.
function mdnsTold (write) {
  return (components) => {
    const service = mdns()(components)
    service.addEventListener('peer', ({ detail: { id, multiaddrs } }) => {
      write({ event: 'found', peer_id: id.toString(), addresses: multiaddrs.map((address) => address.toString()) })
    })
    return service
  }
}

// What the options add to the transports, the services, and the rest of a node's settings.
export function reaching (options, write) {
  const throughRelays = options.relay || options.punch
  return {
    transports: throughRelays ? [circuitRelayTransport()] : [],
    services: {
      ...(options.relay ? { relay: circuitRelayServer() } : {}),
      ...(options.punch ? { dcutr: dcutr() } : {}),
      ...(options.autonat ? { autonat: autoNATv2() } : {})
    },
    settings: {
      ...(options.mdns ? { peerDiscovery: [mdnsTold(write)] } : {}),
      ...(options.dns === '' ? {} : { dns: nameServer(options.dns) })
    }
  }
}

function pause (signal) {
  signal.throwIfAborted()
  return new Promise((resolve) => setTimeout(resolve, LOOK))
}

// js-libp2p tells where its places are as addresses that it listens at.
async function reserve ({ node }, { address }, signal) {
  await node.components.transportManager.listen([multiaddr(`${address}${CIRCUIT}`)])
  for (;;) {
    const places = node.components.transportManager.getAddrs()
      .map((place) => place.toString())
      .filter((place) => place.includes(CIRCUIT))
    if (places.length > 0) {
      return { addresses: places.map((place) => place.split(CIRCUIT)[0]) }
    }
    await pause(signal)
  }
}

// It asks servers by itself as it meets them; this waits until it holds an address for verified.
async function reachability ({ node }, { address }, signal) {
  for (;;) {
    const known = node.components.addressManager.getAddressesWithMetadata()
      .find((each) => each.multiaddr.toString() === address)
    if (known?.lastVerified != null) {
      return { reachable: known.verified }
    }
    await pause(signal)
  }
}

export const handlers = { reserve, reachability }
