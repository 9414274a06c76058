import { CID } from 'multiformats/cid'
import * as raw from 'multiformats/codecs/raw'
import { sha256 } from 'multiformats/hashes/sha2'
import { dhtOf } from './basics.js'

// The rule that ../README.md sets for the keys /interop/NAME.
export const validators = {
  interop: async (_, value) => {
    if (Buffer.from(value).subarray(0, 3).toString() === 'bad') {
      throw new Error('the value begins with bad')
    }
  }
}

export const selectors = {
  interop: (_, values) => values.reduce(
    (best, value, index) => Buffer.compare(value, values[best]) > 0 ? index : best, 0
  )
}

async function putValue ({ node }, { key, value }, signal) {
  let stored = 0
  for await (const event of dhtOf(node).put(Buffer.from(key, 'base64'), Buffer.from(value, 'base64'), { signal })) {
    if (event.name === 'PEER_RESPONSE' && event.messageName === 'PUT_VALUE') {
      stored++
    }
  }
  if (stored === 0) {
    throw new Error('no peer stored the value')
  }
}

async function getValue ({ node }, { key }, signal) {
  let value
  for await (const event of dhtOf(node).get(Buffer.from(key, 'base64'), { signal })) {
    if (event.name === 'VALUE') {
      value = event.value
    }
  }
  if (value == null) {
    throw new Error('value not found')
  }
  return { value: Buffer.from(value).toString('base64') }
}

// The key of a name, as go-libp2p's routing discovery makes it.
async function rendezvous (name) {
  return CID.createV1(raw.code, await sha256.digest(Buffer.from(name)))
}

async function provide ({ node }, { name }, signal) {
  for await (const event of dhtOf(node).provide(await rendezvous(name), { signal })) {
    void event
  }
}

async function findProviders ({ node }, { name, count = 1 }, signal) {
  const found = new Map()
  for await (const event of dhtOf(node).findProviders(await rendezvous(name), { signal })) {
    for (const { id, multiaddrs } of event.name === 'PROVIDER' ? event.providers : []) {
      found.set(id.toString(), multiaddrs.map((address) => address.toString()))
    }
    if (found.size >= count) {
      break
    }
  }
  return { peers: [...found].map(([id, addresses]) => ({ peer_id: id, addresses })) }
}

export const handlers = { put_value: putValue, get_value: getValue, provide, find_providers: findProviders }
