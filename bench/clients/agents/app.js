/**
 * The app in JavaScript of the benchmark's rows: `node app.js SOCKET`, orders as JSON lines on standard input, each with
 * an `id` and an `op`, as of bench/app.py; each is answered by a line with the same id. It ends with its input.
 */

import { randomBytes } from "node:crypto";
import { createInterface } from "node:readline";

import { connect } from "../../../clients/js/dist/index.js";

const TOPIC = "bench";
const ACK = "/bench/ack/1";
const DIRECT = "/bench/direct/1";
const ECHO = "/bench/echo/1";
const ECHO_STREAM = "/bench/stream/echo/1";
const SINK = "/bench/sink/1";
const SOURCE = "/bench/source/1";
const WRITE_BYTES = 256 * 1024;
const STAMP = 8; // bytes at a payload's beginning: its number, or when it was sent

const client = await connect(`unix:${process.argv[2]}`, { reconnect: false });
let signing = "STRICT_SIGN";
let received = 0;
let latencies;
const held = [];

/** How many messages are on the way, at most `window`. */
const credit = {
  window: 1,
  sent: 0,
  done: 0,
  changed: () => undefined,

  get full() {
    return this.sent - this.done >= this.window;
  },

  reach(done) {
    this.done = done;
    this.changed();
  },

  async until(met) {
    while (!met()) {
      await new Promise((resolve) => {
        this.changed = resolve;
      });
    }
  },
};

function require(right, what = "another answer than expected") {
  if (!right) {
    throw new Error(what);
  }
}

/** What fails beside an order ends the app, for a measurement would wait in vain. */
function beside(work) {
  work().catch((error) => {
    process.stderr.write(`${error.stack}\n`);
    process.exit(1);
  });
}

function counted(number) {
  const data = Buffer.alloc(8);
  data.writeBigUInt64BE(BigInt(number));
  return data;
}

function percentiles(times) {
  const ordered = times.length === 0 ? [0] : times.sort((one, other) => one - other);
  const at = (part) => ordered[Math.min(ordered.length - 1, Math.floor((ordered.length * part) / 100))];
  return { p50: at(50), p99: at(99) };
}

/** So many times, `inFlight` at once. */
async function repeat(count, inFlight, once) {
  const times = [];
  let begun = 0;
  const started = performance.now();
  const work = async () => {
    while (begun < count) {
      begun += 1;
      const at = performance.now();
      await once();
      times.push(performance.now() - at);
    }
  };
  await Promise.all(Array.from({ length: inFlight }, work));
  return { seconds: (performance.now() - started) / 1000, latency_ms: percentiles(times) };
}

/** Messages with a stamp, each once `next` says so. */
async function* payloads(size, count, next) {
  const tail = randomBytes(size);
  for (let number = 0; number < count; number += 1) {
    const waiting = next(number);
    if (waiting !== undefined) {
      await waiting;
    }
    credit.sent += 1;
    const data = Buffer.from(tail);
    data.writeBigUInt64BE(latencies === undefined ? BigInt(credit.sent) : process.hrtime.bigint());
    yield data;
  }
}

async function publish(messages) {
  const done = await client.publishMany(TOPIC, messages, { signing, minimumPeers: 1 });
  require(done.every(({ outcome }) => outcome === "SENT"));
  await credit.until(() => credit.done >= credit.sent);
}

// ---------------------------------------------------------------- byte streams

/** Reads exact numbers of bytes of a stream, by its iterator: nothing is lost between two reads. */
class Reader {
  #pieces;
  #rest = Buffer.alloc(0);

  constructor(stream) {
    this.#pieces = stream[Symbol.asyncIterator]();
  }

  async #piece() {
    const { value, done } = await this.#pieces.next();
    require(!done, "the stream ended too early");
    return value;
  }

  async exactly(size) {
    while (this.#rest.length < size) {
      this.#rest = this.#rest.length === 0 ? await this.#piece() : Buffer.concat([this.#rest, await this.#piece()]);
    }
    const data = this.#rest.subarray(0, size);
    this.#rest = this.#rest.subarray(size);
    return data;
  }

  async number() {
    return Number((await this.exactly(8)).readBigUInt64BE());
  }

  async swallow(size) {
    let left = size - this.#rest.length;
    this.#rest = this.#rest.subarray(0, 0);
    while (left > 0) {
      left -= (await this.#piece()).length;
    }
    require(left === 0);
  }

  /** The other side closes first. */
  async end() {
    while (!(await this.#pieces.next()).done) {
      // what comes is nobody's
    }
  }
}

async function write(stream, data) {
  if (!stream.write(data)) {
    await new Promise((resolve) => {
      stream.once("drain", resolve);
    });
  }
}

async function writeBulk(stream, size) {
  const data = randomBytes(WRITE_BYTES);
  for (let left = size; left > 0; left -= data.length) {
    await write(stream, left < data.length ? data.subarray(0, left) : data);
  }
}

async function closed(stream) {
  await new Promise((resolve) => {
    stream.end(resolve);
  });
}

async function answerStream(stream) {
  stream.on("error", () => undefined); // the reader is told
  if (stream.protocol === ECHO_STREAM) {
    for await (const data of stream) {
      await write(stream, data);
    }
  } else {
    const reader = new Reader(stream);
    const size = await reader.number();
    if (stream.protocol === SINK) {
      await reader.swallow(size);
      await write(stream, counted(size));
    } else {
      await writeBulk(stream, size);
    }
    await reader.end();
  }
  stream.end();
}

async function echoed(stream, reader, data) {
  await write(stream, data);
  require((await reader.exactly(data.length)).equals(data));
}

// ----------------------------------------------------------------

const OPS = {
  async info() {
    const { peerId, listeningAddresses } = await client.info();
    return { peer_id: peerId, addresses: listeningAddresses };
  },

  async connect({ peer_id: peerId = "", addresses }) {
    await client.connectPeer(peerId, { addresses });
  },

  /** Subscribe, and tell the app of `ack_to` about each `every` messages; a flood's count must be a multiple. */
  async listen({ signed, ack_to: ackTo, every }) {
    const how = signed ? "STRICT_SIGN" : "STRICT_NO_SIGN";
    const subscription = await client.subscribe(TOPIC, { signing: how }).open();
    let acknowledging = false;
    let told = 0;
    const acknowledge = async () => {
      acknowledging = true;
      while (Math.floor(received / every) > told) {
        told = Math.floor(received / every);
        const { outcome } = await client.send(ackTo, ACK, counted(received));
        require(outcome === "DELIVERED", outcome);
      }
      acknowledging = false;
    };
    beside(async () => {
      for await (const batch of subscription.batches()) {
        require(batch.lagged === undefined, "lagged");
        if (latencies !== undefined) {
          const now = process.hrtime.bigint();
          for (const payload of batch.payloads()) {
            latencies.push(Number(now - payload.readBigUInt64BE()) / 1e6);
          }
        }
        received += batch.length;
        if (!acknowledging && Math.floor(received / every) > told) {
          beside(acknowledge);
        }
      }
    });
  },

  /** Be ready to flood: hear acknowledgements. */
  async join({ signed }) {
    signing = signed ? "STRICT_SIGN" : "STRICT_NO_SIGN";
    const receiver = await client.receive(ACK).open();
    beside(async () => {
      for await (const { data } of receiver) {
        credit.reach(Math.max(credit.done, Number(data.readBigUInt64BE())));
      }
    });
  },

  async flood({ size, count, window }) {
    credit.window = window;
    const next = () => (credit.full ? credit.until(() => !credit.full) : undefined);
    const started = performance.now();
    await publish(payloads(size, count, next));
    return { seconds: (performance.now() - started) / 1000 };
  },

  /** Publish at a steady rate, each message with the time at which it was sent. */
  async pace({ size, count, rate }) {
    latencies = [];
    const started = performance.now();
    const next = (number) => {
      const wait = started + (number / rate) * 1000 - performance.now();
      return wait > 0 ? new Promise((resolve) => setTimeout(resolve, wait)) : undefined;
    };
    await publish(payloads(size, count, next));
    latencies = undefined;
  },

  async watch() {
    latencies = [];
  },

  async tally() {
    return { received, latency_ms: percentiles(latencies ?? []) };
  },

  /** Receive direct messages and echo requests. */
  async answer() {
    const receiver = await client.receive(DIRECT).open();
    await client.serve(ECHO, ({ data }) => data);
    beside(async () => {
      for await (const batch of receiver.batches()) {
        received += batch.length;
      }
    });
  },

  async send_each({ peer_id: peerId, size, count }) {
    const data = randomBytes(size);
    return await repeat(count, 1, async () => {
      const { outcome } = await client.send(peerId, DIRECT, data);
      require(outcome === "DELIVERED", outcome);
    });
  },

  async send_many({ peer_id: peerId, size, count, in_flight: inFlight }) {
    const data = randomBytes(size);
    return await repeat(count, inFlight, async () => {
      const { outcome } = await client.send(peerId, DIRECT, data);
      require(outcome === "DELIVERED", outcome);
    });
  },

  async request({ peer_id: peerId, size, count, in_flight: inFlight }) {
    const data = randomBytes(size);
    return await repeat(count, inFlight, async () => {
      require((await client.request(peerId, ECHO, data)).equals(data));
    });
  },

  /** Echo, swallow and send on streams. */
  async answer_streams() {
    const acceptor = await client.acceptStreams([ECHO_STREAM, SINK, SOURCE]).open();
    beside(async () => {
      for await (const incoming of acceptor) {
        beside(async () => answerStream(await incoming.accept()));
      }
    });
  },

  /** Echoes on one stream that stays open, with at most `in_flight` on the way. */
  async echo({ peer_id: peerId, size, count, in_flight: inFlight }) {
    const data = randomBytes(size);
    const stream = await client.openStream(peerId, ECHO_STREAM);
    const reader = new Reader(stream);
    const begun = [];
    const times = [];
    let moved = () => undefined;
    const started = performance.now();
    const writing = (async () => {
      for (let sent = 0; sent < count; sent += 1) {
        while (sent - times.length >= inFlight) {
          await new Promise((resolve) => {
            moved = resolve;
          });
        }
        begun.push(performance.now());
        await write(stream, data);
      }
    })();
    for (let number = 0; number < count; number += 1) {
      require((await reader.exactly(size)).equals(data));
      times.push(performance.now() - begun[number]);
      moved();
    }
    await writing;
    const seconds = (performance.now() - started) / 1000;
    await closed(stream);
    return { seconds, latency_ms: percentiles(times) };
  },

  /** So many bytes each way at the same time, a stream each; the far end has them all when it returns. */
  async bulk({ peer_id: peerId, send, receive }) {
    const sink = async () => {
      const stream = await client.openStream(peerId, SINK);
      await write(stream, counted(send));
      await writeBulk(stream, send);
      require((await new Reader(stream).number()) === send);
      await closed(stream);
    };
    const source = async () => {
      const stream = await client.openStream(peerId, SOURCE);
      await write(stream, counted(receive));
      await new Reader(stream).swallow(receive);
      await closed(stream);
    };
    const started = performance.now();
    await Promise.all([send ? sink() : undefined, receive ? source() : undefined]);
    return { seconds: (performance.now() - started) / 1000 };
  },

  /** Echoes of 100 bytes, one after the other, each on a stream of its own. */
  async new_streams({ peer_id: peerId, count }) {
    const data = randomBytes(100);
    return await repeat(count, 1, async () => {
      const stream = await client.openStream(peerId, ECHO_STREAM);
      await echoed(stream, new Reader(stream), data);
      await closed(stream);
    });
  },

  /** Streams that stay open and idle. */
  async open_streams({ peer_id: peerId, count }) {
    for (let number = 0; number < count; number += 1) {
      const stream = await client.openStream(peerId, ECHO_STREAM);
      await echoed(stream, new Reader(stream), Buffer.from("?"));
      held.push(stream);
    }
  },

  /** Connect and disconnect, one at a time. */
  async connections({ peer_id: peerId, addresses, count }) {
    return await repeat(count, 1, async () => {
      await client.connectPeer(peerId, { addresses });
      await client.disconnectPeer(peerId);
    });
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const { id, op, ...order } = JSON.parse(line);
  let answer;
  try {
    answer = { id, ok: true, ...(await OPS[op](order)) };
  } catch (error) {
    answer = { id, ok: false, error: `${error.name}: ${error.message}` };
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
await client.close();
process.exit(0);
