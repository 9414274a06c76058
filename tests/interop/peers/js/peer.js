// A js-libp2p node driven by JSON lines; ../README.md says how.
import './polyfill.js'
import { createInterface } from 'node:readline'
import { parseArgs } from 'node:util'
import * as basics from './basics.js'
import * as bench from './bench.js'
import * as gossip from './gossip.js'
import * as reach from './reach.js'
import * as records from './records.js'
import * as streams from './streams.js'
import { createNode, userAgent } from './node.js'

const { values: options } = parseArgs({
  options: {
    listen: { type: 'string', multiple: true, default: [] },
    network: { type: 'string', default: 'interop' },
    key: { type: 'string', default: '' },
    dht: { type: 'string', default: 'off' },
    sign: { type: 'string', default: 'strict' },
    'key-type': { type: 'string', default: 'ed25519' },
    psk: { type: 'string', default: '' },
    gossip: { type: 'string', default: 'latest' },
    announce: { type: 'string', default: '' },
    relay: { type: 'boolean', default: false },
    autonat: { type: 'boolean', default: false },
    punch: { type: 'boolean', default: false },
    mdns: { type: 'boolean', default: false },
    dns: { type: 'string', default: '' },
    'tls-cert': { type: 'string', default: '' },
    'tls-key': { type: 'string', default: '' },
    'tls-ca': { type: 'string', default: '' },
    'record-ttl': { type: 'string', default: '0' },
    'heartbeat-ms': { type: 'string', default: '0' },
    degree: { type: 'string', default: '0' },
    'expected-rate': { type: 'string', multiple: true, default: [] }
  }
})

const write = (line) => process.stdout.write(`${JSON.stringify(line)}\n`)

const node = await createNode(options, write).catch((error) => {
  if (!error.message.startsWith('unsupported: ')) {
    throw error
  }
  write({ event: 'unsupported', what: error.message })
  process.exit(3)
})
const context = { node, write, topics: new Map(), identified: new Set(), streams: new Map(), acked: new bench.Counter(), lowest: new Map() }
basics.watch(context)
gossip.watch(context)
await bench.serve(context)
await basics.serve(context)
await streams.serve(context)
await node.start()

const handlers = {
  ...basics.handlers,
  ...gossip.handlers,
  ...bench.handlers,
  ...reach.handlers,
  ...records.handlers,
  ...streams.handlers,
  quit: async () => {}
}

async function run (line) {
  let id = 0
  try {
    const command = JSON.parse(line)
    id = command.id
    const handle = handlers[command.op]
    if (handle == null) {
      throw new Error(`unknown op ${command.op}`)
    }
    const signal = AbortSignal.timeout((command.timeout ?? 10) * 1000)
    const answer = await handle(context, command, signal)
    write({ id, ok: true, ...answer })
    if (command.op === 'quit') {
      process.exit(0)
    }
  } catch (error) {
    const unsupported = error.message.startsWith('unsupported: ')
    write({ id, ok: false, error: unsupported ? error.message : `${error.name}: ${error.message}` })
  }
}

// js-libp2p does not own to addresses that look public until others have reached them.
const owned = node.getMultiaddrs()
const listening = node.components.transportManager.getAddrs().map((address) => address.encapsulate(`/p2p/${node.peerId}`))
write({
  event: 'ready',
  peer_id: node.peerId.toString(),
  addresses: (owned.length > 0 ? owned : listening).map((address) => address.toString()),
  agent: userAgent
})
createInterface({ input: process.stdin, crlfDelay: Infinity })
  .on('line', (line) => { void run(line) })
  .on('close', () => process.exit(0))
