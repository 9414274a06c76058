/**
 * The JavaScript agent of the client benchmark: `node agent.js`, orders as JSON lines on standard input; ../README.md
 * has them. What is done by `stub` uses the generated code and gRPC's defaults, as an app without the client would.
 */

import { createRequire } from "node:module";
import { createInterface } from "node:readline";

import { DirectServiceDefinition } from "../../../clients/js/dist/generated/sidecar/v1/direct.js";
import { PubSubServiceDefinition, Signing } from "../../../clients/js/dist/generated/sidecar/v1/pubsub.js";
import { connect } from "../../../clients/js/dist/index.js";

const grpc = createRequire(new URL("../../../clients/js/package.json", import.meta.url))("@grpc/grpc-js");

const UNSIGNED = "STRICT_NO_SIGN";
const STAMP = 8; // bytes that make a payload differ from all others
const PROTOCOL = "/bench/1";

const clients = new Map();
const stubs = new Map();
let number = BigInt(Date.now()) * 1_000_000n;

function require(right) {
  if (!right) {
    throw new Error("another answer than expected");
  }
}

async function client(target) {
  if (!clients.has(target)) {
    clients.set(target, await connect(target, { reconnect: false }));
  }
  return clients.get(target);
}

/** The generated description of a service as grpc-js wants it. */
function described({ fullName, methods }) {
  const entries = Object.values(methods).map((method) => [
    method.name,
    {
      path: `/${fullName}/${method.name}`,
      requestStream: method.requestStream,
      responseStream: method.responseStream,
      requestSerialize: (message) => Buffer.from(method.requestType.encode(message).finish()),
      responseDeserialize: (bytes) => method.responseType.decode(bytes),
    },
  ]);
  return Object.fromEntries(entries);
}

const PubSub = grpc.makeGenericClientConstructor(described(PubSubServiceDefinition), "PubSubService");
const Direct = grpc.makeGenericClientConstructor(described(DirectServiceDefinition), "DirectService");

function stub(target) {
  if (!stubs.has(target)) {
    const credentials = grpc.credentials.createInsecure();
    stubs.set(target, { pubsub: new PubSub(target, credentials), direct: new Direct(target, credentials) });
  }
  return stubs.get(target);
}

/** Payloads that differ: on an unsigned topic the same data is one message. */
function* payloads(size, count) {
  for (let index = 0; index < count; index += 1) {
    const data = Buffer.alloc(size);
    data.writeBigUInt64BE(number);
    number += 1n;
    yield data;
  }
}

async function atOnce(many, work) {
  await Promise.all(Array.from({ length: many }, work));
}

const READ = {
  async stub(target, topic, cursor, wanted) {
    const request = { topics: [topic], cursor, signing: Signing.STRICT_NO_SIGN, policy: 0, queueMessages: 0 };
    const call = stub(target).pubsub.Subscribe({ ...request, queueBytes: 0n, skipLocal: false });
    call.on("error", () => undefined); // our own cancelling
    let seen = 0;
    let size = 0;
    for await (const response of call) {
      for (const message of response.messages) {
        size += message.data.length;
      }
      seen += response.messages.length;
      if (seen >= wanted) {
        call.cancel();
        break;
      }
    }
    require(seen >= wanted);
    return size;
  },

  async batches(target, topic, cursor, wanted) {
    const subscription = (await client(target)).subscribe(topic, { cursor, signing: UNSIGNED });
    let seen = 0;
    let size = 0;
    for await (const batch of subscription.batches()) {
      require(batch.lagged === undefined);
      for (const payload of batch.payloads()) {
        size += payload.length;
      }
      seen += batch.length;
      if (seen >= wanted) {
        break;
      }
    }
    subscription.close();
    return size;
  },

  async messages(target, topic, cursor, wanted) {
    const subscription = (await client(target)).subscribe(topic, { cursor, signing: UNSIGNED });
    let seen = 0;
    let size = 0;
    for await (const message of subscription) {
      size += message.data.length;
      seen += 1;
      if (seen >= wanted) {
        break;
      }
    }
    subscription.close();
    return size;
  },
};

const PUBLISH = {
  async stub(target, { topic, size, count, batch }) {
    const call = stub(target).pubsub.PublishMany();
    let answered = 0;
    const reading = (async () => {
      for await (const response of call) {
        for (const range of response.receipts) {
          answered += Number(range.count);
        }
      }
    })();
    const source = payloads(size, count);
    let written = 0;
    while (written < count) {
      const messages = [];
      while (messages.length < batch && written < count) {
        messages.push({ data: source.next().value, requestId: "" });
        written += 1;
      }
      const first = written === messages.length;
      const request = {
        topic: first ? topic : "",
        signing: first ? Signing.STRICT_NO_SIGN : Signing.UNSPECIFIED,
        returnMessageIds: false,
        minimumPeers: 0,
        messages,
      };
      if (!call.write(request)) {
        await new Promise((resolve) => call.once("drain", resolve));
      }
    }
    call.end();
    await reading;
    require(answered === count);
  },

  async publish_many(target, { topic, size, count }) {
    const receipts = await (await client(target)).publishMany(topic, payloads(size, count), { signing: UNSIGNED });
    const right = receipts.filter((range) => ["SENT", "NO_PEERS"].includes(range.outcome));
    require(right.reduce((sum, range) => sum + range.count, 0) === count);
  },

  async publish(target, { topic, size, count, many }) {
    const connected = await client(target);
    const source = payloads(size, count);
    await atOnce(many, async () => {
      // By hand: `for (of)` would end the generator that all share.
      for (let next = source.next(); !next.done; next = source.next()) {
        const receipt = await connected.publish(topic, next.value, { signing: UNSIGNED });
        require(receipt.outcome === "SENT" || receipt.outcome === "NO_PEERS");
      }
    });
  },
};

const OPS = {
  async subscribe({ target, via, topic, count, cursor, per_pass: perPass }) {
    const place = Buffer.from(cursor, "base64");
    const started = performance.now();
    let seen = 0;
    let bytes = 0;
    while (seen < count) {
      const wanted = Math.min(perPass || count, count - seen);
      bytes += await READ[via](target, topic, place, wanted);
      seen += wanted;
    }
    return { seconds: (performance.now() - started) / 1000, bytes };
  },

  async publish({ target, via, ...how }) {
    const started = performance.now();
    await PUBLISH[via](target, how);
    return { seconds: (performance.now() - started) / 1000 };
  },

  async request({ target, via, peer_id: peerId, size, count, many }) {
    const data = Buffer.alloc(size);
    const { direct } = stub(target);
    const connected = via === "client" ? await client(target) : undefined;
    const ask = (request) =>
      new Promise((resolve, reject) => {
        direct.Request(request, (error, response) => (error === null ? resolve(response.data) : reject(error)));
      });
    const once =
      via === "client"
        ? () => connected.request(peerId, PROTOCOL, data)
        : () => ask({ peerId, protocol: PROTOCOL, data, traceparent: "" });
    const times = [];
    let begun = 0;
    const started = performance.now();
    await atOnce(many, async () => {
      while (begun < count) {
        begun += 1;
        const at = performance.now();
        require((await once()).length === size);
        times.push(performance.now() - at);
      }
    });
    const seconds = (performance.now() - started) / 1000;
    times.sort((one, other) => one - other);
    const percentile = (part) => times[Math.floor((times.length * part) / 100)];
    return { seconds, p50_ms: percentile(50), p99_ms: percentile(99) };
  },

  async serve({ target }) {
    const connected = await client(target);
    await connected.serve(PROTOCOL, ({ data }) => data);
    return { peer_id: (await connected.info()).peerId };
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const { op, ...order } = JSON.parse(line);
  let answer;
  try {
    answer = { ok: await OPS[op](order) };
  } catch (error) {
    answer = { error: `${error.name}: ${error.message}` };
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
for (const connected of clients.values()) {
  await connected.close();
}
process.exit(0);
