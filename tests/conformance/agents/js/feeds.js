/** Streams of items, read as the runner asks for them. */

import { Batch, Lagged, Refused } from "../../../../clients/js/dist/index.js";
import { Bytes } from "./bytes.js";
import { options } from "./calls.js";
import { described, Digest, Fault, payload, plain } from "./values.js";

/** What one `read` collects. */
class Reading {
  #request;
  #until;
  #left;
  #items = [];
  #count = 0;
  #bytes = 0;
  #payloads = new Digest();
  #ids = new Digest();
  done = false;

  constructor(request) {
    this.#request = request;
    this.#left = request.count ?? Infinity;
    this.#until = request.until === undefined ? undefined : payload(request.until);
  }

  add(value) {
    if (value instanceof Batch) {
      if (value.lagged !== undefined) {
        this.#add("lagged", value.lagged);
      }
      value.messages.forEach((message) => this.#add("message", message));
    } else {
      this.#add(...value);
    }
  }

  #add(kind, value) {
    const message = kind === "message";
    if (message && this.#until?.equals(value.data)) {
      this.done = true;
    }
    this.#left -= 1;
    this.done ||= this.#left <= 0;
    const { digest } = this.#request;
    if (!(message && digest)) {
      this.#items.push({ kind, ...plain(value), ...(digest && { at: this.#count }) });
      return;
    }
    this.#count += 1;
    this.#bytes += value.data.length;
    this.#payloads.add(value.data);
    if (value.messageId !== undefined) {
      this.#ids.add(value.messageId);
    }
  }

  answer() {
    if (!this.#request.digest) {
      return { items: this.#items };
    }
    return {
      items: this.#items,
      count: this.#count,
      bytes: this.#bytes,
      digest: this.#payloads.hex(),
      ids_digest: this.#ids.hex(),
    };
  }
}

class Feed {
  /** The stream's own, given to the library. */
  abort = new AbortController();
  ended = null;

  constructor(client, request, keep) {
    this.client = client;
    this.request = request;
    this.keep = keep;
  }

  get missed() {
    return null;
  }

  async read(request) {
    const reading = new Reading(request);
    while (!reading.done && this.ended === null) {
      try {
        const { value, done } = await this.items.next();
        if (done) {
          this.ended = {};
        } else {
          reading.add(value);
        }
      } catch (error) {
        this.ended = described(error);
      }
    }
    return { ...reading.answer(), end: this.ended, missed: this.missed };
  }

  cancel() {
    this.abort.abort();
  }

  async close() {
    await this.items.return?.(); // which ends no stream
    this.abort.abort();
    this.ended ??= {};
  }

  async left() {
    // its client has told whoever reads
  }
}

/** Items of the library with their kind. */
async function* kinds(items, kind) {
  for await (const item of items) {
    yield [kind, item];
  }
}

class Messages extends Feed {
  get missed() {
    return this.stream.missed;
  }

  async open(stream) {
    this.stream = stream;
    const { via = "events" } = this.request;
    await stream.open();
    if (via === "batches") {
      this.items = stream.batches();
      return;
    }
    const items = via === "messages" ? stream[Symbol.asyncIterator]() : stream.events();
    this.items = {
      async next() {
        const { value, done } = await items.next();
        return { value: done ? undefined : [value instanceof Lagged ? "lagged" : "message", value], done };
      },
      return: () => items.return(),
    };
  }
}

class Subscribe extends Messages {
  async open() {
    const names = ["signing", "policy", "queue_messages", "queue_bytes", "skip_local", "expected_rate", "from_beginning"];
    const chosen = options(this.request, this.abort.signal, ...names);
    if (this.request.start_time_ms !== undefined) {
      chosen.startTime = this.request.start_time_ms;
    }
    if (this.request.cursor !== undefined) {
      chosen.cursor = payload(this.request.cursor);
    }
    await super.open(this.client.subscribe(this.request.topics, chosen));
  }
}

class Receive extends Messages {
  async open() {
    const chosen = options(this.request, this.abort.signal, "queue_messages");
    await super.open(this.client.receive(this.request.protocols, chosen));
  }
}

/** Its deliveries are numbered, to be settled by `settle`. */
class ReceiveDurable extends Feed {
  #delivered = [];

  async open() {
    const { protocols } = this.request;
    const stream = await this.client.receiveDurable(protocols, options(this.request, this.abort.signal, "max_open")).open();
    this.items = closing(this.#items(stream), stream);
  }

  async *#items(stream) {
    for await (const message of stream) {
      this.#delivered.push(message);
      const { peerId, protocol, data, attempt, messageId } = message;
      yield ["delivery", { delivery: this.#delivered.length - 1, peerId, protocol, data, attempt, message_id: messageId }];
    }
  }

  async settle({ delivery, reject, delay_ms: delay }) {
    const message = this.#delivered[delivery];
    if (message === undefined) {
      throw new Fault(`there is no delivery ${delivery}`);
    }
    if (reject !== undefined) {
      return await message.reject(reject);
    }
    return await (delay === undefined ? message.acknowledge() : message.delay(delay));
  }
}

class WatchOutbox extends Feed {
  async open() {
    const chosen = options(this.request, this.abort.signal, "peer_id", "protocol");
    const { from_cursor: cursor } = this.request;
    const stream = await this.client.watchOutbox({ ...chosen, ...(cursor !== undefined && { cursor }) }).open();
    this.items = closing(kinds(stream, "outcome"), stream);
  }
}

class WatchReadiness extends Feed {
  async open() {
    const stream = await this.client.watchReadiness({ signal: this.abort.signal }).open();
    this.items = closing(kinds(stream, "readiness"), stream);
  }
}

class WatchPeers extends Feed {
  async open() {
    const stream = await this.client.watchPeers({ signal: this.abort.signal }).open();
    this.items = closing(events(stream), stream);
  }
}

async function* events(stream) {
  for await (const { type, peer, reason } of stream) {
    yield ["peer", { type, peerId: peer?.peerId, reason }];
  }
}

/** An iterator whose `return` does not wait for a step that is under way. */
function closing(items, stream) {
  return { next: () => items.next(), return: async () => stream.close() };
}

class WatchEvents extends Feed {
  async open() {
    const stream = await this.client.watchEvents({ signal: this.abort.signal }).open();
    this.items = closing(records(stream), stream);
  }
}

async function* records(stream) {
  for await (const item of stream) {
    yield [item instanceof Lagged ? "lagged" : "event", item];
  }
}

class FindPeers extends Feed {
  async open() {
    const chosen = options(this.request, this.abort.signal, "limit");
    this.items = kinds(this.client.findPeers(this.request.name, chosen), "found");
  }
}

class Probe extends Feed {
  async open() {
    const chosen = options(this.request, this.abort.signal, "answers", "size", "signing", "exposed");
    if ("message_count" in this.request) {
      chosen.messages = this.request.message_count;
    }
    if ("interval_ms" in this.request) {
      chosen.interval = this.request.interval_ms;
    }
    this.items = this.#told(this.client.probe(this.request.topic, chosen));
  }

  async *#told(probe) {
    for await (const { type, delay, roundTrip, ...rest } of probe) {
      yield type === "ANSWER" ? ["answer", { ...rest, delay_ms: delay, round_trip_ms: roundTrip }] : ["summary", rest];
    }
  }
}

class Advertise extends Feed {
  async open() {
    const ttl = this.request.ttl_ms;
    const chosen = { signal: this.abort.signal, ...(ttl !== undefined && { ttl }) };
    const advertisement = await this.client.advertise(this.request.name, chosen);
    this.items = closing(kinds(advertisement.announcements(), "announcement"), advertisement);
  }
}

/** Items that handlers put and `read` takes, until it ends. */
class Queue {
  #items = [];
  #end;
  #wake = () => undefined;

  put(item) {
    this.#items.push(item);
    this.#wake();
  }

  end(error) {
    this.#end ??= { error };
    this.#wake();
  }

  async next() {
    for (;;) {
      if (this.#items.length > 0) {
        return { value: this.#items.shift(), done: false };
      }
      if (this.#end?.error !== undefined) {
        throw this.#end.error;
      }
      if (this.#end !== undefined) {
        return { value: undefined, done: true };
      }
      await new Promise((resolve) => {
        this.#wake = resolve;
      });
    }
  }
}

class Validate extends Feed {
  async open() {
    this.items = new Queue();
    const verdicts = { r: "REJECT", i: "IGNORE" };
    const judge = ({ topic, data, local }) => {
      this.items.put(["judged", { topic, data, local }]);
      return verdicts[data.toString("latin1", 0, 1)] ?? "ACCEPT";
    };
    const { topics, fallback, timeout_ms: timeout, max_waiting: maxWaiting } = this.request;
    this.validator = await this.client.validate(topics, judge, {
      fallback,
      timeout,
      maxWaiting,
      signal: this.abort.signal,
    });
    this.validator.ended.then(
      () => this.items.end(),
      (error) => this.items.end(error),
    );
  }

  async close() {
    await this.validator.close();
  }
}

class Serve extends Feed {
  #held = new Map();
  #gathered = [];
  #number = 0;

  async open() {
    const { protocols, behaviour } = this.request;
    const handlers = { echo: ({ data }) => data, hold: (asked) => this.#hold(asked) };
    const handler = handlers[behaviour] ?? ((asked) => this.#gather(asked));
    this.items = new Queue();
    const chosen = options(this.request, this.abort.signal, "concurrency");
    this.server = await this.client.serve(protocols, handler, chosen);
    this.server.ended.then(
      () => this.items.end(),
      (error) => this.items.end(error),
    );
  }

  async #hold(asked) {
    const number = this.#number;
    this.#number += 1;
    this.items.put(["request", { request: number, ...asked }]);
    try {
      return await new Promise((resolve, reject) => {
        this.#held.set(number, { resolve, reject });
        asked.signal.addEventListener("abort", () => {
          this.items.put(["withdrawn", { request: number }]);
          reject(asked.signal.reason);
        });
      });
    } finally {
      this.#held.delete(number);
    }
  }

  /** All wait for the last; each then sets free the one before it. */
  async #gather({ data }) {
    const place = this.#gathered.length;
    const returned = new Promise((resolve) => this.#gathered.push(resolve));
    if (place + 1 === this.request.behaviour.gather) {
      this.#gathered[place]();
    }
    await returned;
    this.#gathered[place - 1]?.();
    return data;
  }

  answer({ request, data, refuse, fail }) {
    const held = this.#held.get(request);
    if (held === undefined) {
      throw new Fault(`no handler waits for an answer to request ${request}`);
    }
    if (refuse !== undefined) {
      held.reject(new Refused(refuse));
    } else if (fail) {
      held.reject(new Error("the handler fails, as it was told to"));
    } else {
      held.resolve(payload(data));
    }
  }

  async close() {
    await this.server.close();
  }
}

class AcceptStreams extends Feed {
  async open() {
    const { protocols, behaviour } = this.request;
    const acceptor = await this.client.acceptStreams(protocols, { signal: this.abort.signal }).open();
    if (behaviour === "hold") {
      this.items = closing(this.#takenUp(acceptor), acceptor);
      return;
    }
    const queue = new Queue();
    this.items = { next: () => queue.next(), return: async () => acceptor.close() };
    this.#echoAll(acceptor).then(
      () => queue.end(),
      (error) => queue.end(error),
    );
  }

  async #echoAll(acceptor) {
    for await (const incoming of acceptor) {
      incoming.accept().then(
        (stream) => {
          stream.on("error", (error) => console.error("echo:", error));
          stream.pipe(stream);
        },
        (error) => console.error("echo:", error),
      );
    }
  }

  async *#takenUp(acceptor) {
    let number = 0;
    for await (const incoming of acceptor) {
      const name = `${this.request.as}.${number}`;
      number += 1;
      const abort = new AbortController();
      let stream;
      try {
        stream = await incoming.accept({ signal: abort.signal });
      } catch (error) {
        yield ["failed", { error: described(error) }];
        continue;
      }
      this.keep(name, new Bytes(stream, abort));
      yield ["stream", { stream: name, peerId: stream.peerId, protocol: stream.protocol }];
    }
  }
}

export const FEEDS = {
  subscribe: Subscribe,
  receive: Receive,
  receive_durable: ReceiveDurable,
  watch_outbox: WatchOutbox,
  watch_readiness: WatchReadiness,
  watch_peers: WatchPeers,
  watch_events: WatchEvents,
  advertise: Advertise,
  find_peers: FindPeers,
  probe: Probe,
  serve: Serve,
  validate: Validate,
  accept_streams: AcceptStreams,
};
