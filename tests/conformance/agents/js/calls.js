/** The operations that are one call, or many of one kind at the same time. */

import { Digest, generated, payload, payloads, plain, shown } from "./values.js";

/** The library's options among the fields; those that are absent stay away. */
export function options(request, signal, ...names) {
  const found = { signal };
  for (const name of names) {
    if (name in request) {
      found[name.replace(/_[a-z]/g, (match) => match[1].toUpperCase())] = request[name];
    }
  }
  if ("timeout_ms" in request) {
    found.timeout = request.timeout_ms;
  }
  return found;
}

/** Make a call for each payload, all at the same time; the results by number, and outcomes and errors counted. */
async function atOnce({ seed, size, count }, one, outcome) {
  const calls = [];
  for (let number = 0; number < count; number += 1) {
    calls.push(one(generated(seed, number, size)));
  }
  const results = await Promise.allSettled(calls);
  const aborted = results.find(({ reason }) => reason?.name === "AbortError");
  if (aborted !== undefined) {
    throw aborted.reason;
  }
  const outcomes = {};
  const errors = {};
  results.forEach(({ value, reason }, number) => {
    const counts = reason === undefined ? outcomes : errors;
    const name = reason === undefined ? outcome(value, number) : reason.name;
    counts[name] = (counts[name] ?? 0) + 1;
  });
  return { results, answer: { outcomes, errors } };
}

function given(request) {
  return request.then_wait ? waiting(request) : payloads(request);
}

async function* waiting(request) {
  yield* payloads(request);
  await new Promise(() => undefined);
}

async function send(client, request, signal) {
  const chosen = options(request, signal, "request_id");
  if (request.durable) {
    chosen.durable = {};
  }
  const one = (data) => client.send(request.peer_id, request.protocol, data, chosen);
  if (request.run === undefined) {
    return plain(await one(payload(request.data)));
  }
  return (await atOnce(request.run, one, ({ outcome }) => outcome)).answer;
}

async function ask(client, request, signal) {
  const chosen = options(request, signal, "traceparent");
  const one = (data) => client.request(request.peer_id, request.protocol, data, chosen);
  const { run } = request;
  if (run === undefined) {
    return { data: shown(await one(payload(request.data))) };
  }
  const same = (data, number) => (data.equals(generated(run.seed, number, run.size)) ? "same" : "different");
  return (await atOnce(run, one, same)).answer;
}

async function publish(client, request, signal) {
  const chosen = options(request, signal, "signing", "minimum_peers", "bundling", "request_id");
  const one = (data) => client.publish(request.topic, data, chosen);
  if (request.run === undefined) {
    return plain(await one(payload(request.data)));
  }
  const { results, answer } = await atOnce(request.run, one, ({ outcome }) => outcome);
  const ids = new Digest();
  for (const { value } of results) {
    if (value !== undefined) {
      ids.add(value.messageId);
    }
  }
  return { ...answer, ids_digest: ids.hex() };
}

async function publishMany(client, request, signal) {
  const chosen = options(request, signal, "signing", "minimum_peers", "bundling", "return_message_ids");
  const receipts = await client.publishMany(request.topic, given(request), chosen);
  const ids = new Digest();
  for (const { messageIds } of receipts) {
    messageIds.forEach((id) => ids.add(id));
  }
  const shownReceipts = receipts.map(({ messageIds: _, ...rest }) => plain(rest));
  return { receipts: shownReceipts, ids_digest: request.return_message_ids ? ids.hex() : null };
}

async function peers(client, request, signal) {
  const found = [];
  for await (const peer of client.peers(options(request, signal, "connected_only", "protocol"))) {
    found.push(plain(peer));
  }
  return { peers: found };
}

async function configuration(client, request, signal) {
  return { entries: plain(await client.configuration(options(request, signal))) };
}

async function closestPeers(client, request, signal) {
  const key = request.key === undefined ? "" : payload(request.key);
  return { peers: plain(await client.closestPeers(key, options(request, signal, "peer_id", "limit"))) };
}

async function bans(client, request, signal) {
  const found = [];
  for await (const ban of client.bans(options(request, signal))) {
    found.push(plain(ban));
  }
  return { bans: found };
}

/** By operation: (client, request, signal) => answer. */
export const CALLS = {
  info: async (client, request, signal) => plain(await client.info(options(request, signal))),
  readiness: async (client, request, signal) => plain(await client.readiness(options(request, signal))),
  ready: async (client, request, signal) => plain(await client.ready(options(request, signal))),
  statistics: async (client, request, signal) => plain(await client.statistics(options(request, signal))),
  configuration,
  set_log_level: async (client, request, signal) =>
    plain(await client.setLogLevel(request.part, request.level, options(request, signal))),
  peers,
  peer: async (client, request, signal) => ({
    peer: plain(await client.peer(request.peer_id, options(request, signal))),
  }),
  closest_peers: closestPeers,
  find_peer: async (client, request, signal) => ({
    addresses: await client.findPeer(request.peer_id, options(request, signal)),
  }),
  connect_peer: async (client, request, signal) => ({
    peer: plain(await client.connectPeer(request.peer_id ?? "", options(request, signal, "addresses"))),
  }),
  disconnect_peer: async (client, request, signal) => {
    await client.disconnectPeer(request.peer_id, options(request, signal));
    return {};
  },
  ping_peer: async (client, request, signal) => ({
    latency_ms: await client.pingPeer(request.peer_id, options(request, signal)),
  }),
  ban_peer: async (client, request, signal) => {
    const chosen = { ...options(request, signal, "network", "reason"), duration: request.duration_ms };
    return plain(await client.banPeer(request.peer_id ?? "", chosen));
  },
  allow_peer: async (client, request, signal) => ({
    warnings: await client.allowPeer(request.peer_id ?? "", options(request, signal, "network")),
  }),
  bans,
  protect_peer: async (client, request, signal) => ({
    warnings: await client.protectPeer(request.peer_id, options(request, signal)),
  }),
  unprotect_peer: async (client, request, signal) => ({
    warnings: await client.unprotectPeer(request.peer_id, options(request, signal)),
  }),
  set_peer_score: async (client, request, signal) => {
    const chosen = { ...options(request, signal), duration: request.duration_ms };
    await client.setPeerScore(request.peer_id, request.score, chosen);
    return {};
  },
  send,
  send_many: async (client, request, signal) => ({
    receipts: plain(await client.sendMany(request.peer_id, request.protocol, given(request), options(request, signal))),
  }),
  request: ask,
  publish,
  publish_many: publishMany,
  rules: async (client, request, signal) => ({ rules: plain(await client.rules(options(request, signal))) }),
  set_rules: async (client, request, signal) => {
    await client.setRules(request.rules, options(request, signal));
    return {};
  },
  topics: async (client, request, signal) => ({ topics: plain(await client.topics(options(request, signal))) }),
  put_record: async (client, request, signal) => {
    const [key, value] = [payload(request.key), payload(request.value)];
    return plain(await client.putRecord(key, value, options(request, signal, "quorum")));
  },
  get_record: async (client, request, signal) =>
    plain(await client.getRecord(payload(request.key), options(request, signal, "quorum"))),
};
