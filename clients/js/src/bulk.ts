/** Publishing and sending in bulk: batches out, receipts for ranges back. */

import type { Call } from "./call.js";
import { checkText, shown } from "./checks.js";
import { bytes } from "./convert.js";
import { Closed, InvalidArgument } from "./errors.js";
import { overBound } from "./frames.js";
import type { Link } from "./link.js";
import type { CallOptions, OutgoingMessage } from "./types.js";
import { deadline, onAbort, PATIENCE } from "./waiting.js";
import { encodeBatch, type Outgoing } from "./wire.js";

/** The tag of PublishManyRequest.messages, field 5. */
export const PUBLISH_ITEM = 0x2a;
/** The tag of SendManyRequest.messages, field 3. */
export const SEND_ITEM = 0x1a;
const MAX_REQUEST_ID = 64;
const NO_ID = Buffer.alloc(0);

/** The bytes of a request id. Throws InvalidArgument, so that one bad id does not end a batch. */
export function requestId(text: string | undefined): Buffer {
  if (!text) {
    return NO_ID;
  }
  checkText(text, "request_id");
  const encoded = Buffer.from(text);
  if (encoded.length > MAX_REQUEST_ID) {
    throw new InvalidArgument(`request id of ${encoded.length} bytes, at most ${MAX_REQUEST_ID}`, {
      field: "request_id",
    });
  }
  return encoded;
}

function outgoing(message: OutgoingMessage): Outgoing {
  if (message === null || message === undefined) {
    return { data: bytes(message), requestId: NO_ID }; // throws
  }
  return typeof message === "string" || message instanceof Uint8Array
    ? { data: bytes(message), requestId: NO_ID }
    : { data: bytes(message.data), requestId: requestId(message.requestId) };
}

/** Receipts for consecutive messages. */
interface Range {
  readonly first: number;
  readonly count: number;
}

/** A bulk call: what goes where, and how its answers are read. */
export interface Transfer<Receipts extends Range> {
  path: string;
  /** The encoded beginning of the first request. */
  head: Buffer;
  /** The tag of the requests' messages. */
  item: number;
  parse: (response: Buffer) => Receipts[];
  /** So many of a range from one on, with the number that the first of them has for the app. */
  part: (receipts: Receipts, offset: number, first: number, count: number) => Receipts;
  /** The receipt of a message that no request can hold. */
  tooLarge: (number: number, detail: string) => Receipts;
  /** Whether both say the same, and may be told as one range. */
  same: (one: Receipts, other: Receipts) => boolean;
}

/** Write all messages to a bulk call; the receipts for all of them, as few ranges as say it. */
export async function transfer<Receipts extends Range>(
  link: Link,
  bulk: Transfer<Receipts>,
  messages: Iterable<OutgoingMessage> | AsyncIterable<OutgoingMessage>,
  options: CallOptions & { onReceipts?: (receipts: Receipts) => void },
): Promise<Receipts[]> {
  const until = deadline(options);
  const { signal } = options;
  if (typeof messages !== "object" || !(Symbol.asyncIterator in messages || Symbol.iterator in messages)) {
    throw new InvalidArgument(`messages are ${shown(messages)}, and cannot be iterated over`, { field: "messages" });
  }
  const channel = await link.ready(link.reconnect ? PATIENCE : 0, until, signal);
  const call = link.stream(channel, bulk.path, until);
  const stop = onAbort(signal, (reason) => {
    call.cancel(reason);
  });
  const ledger = new Ledger(bulk, options.onReceipts);
  const writer = new Writer(link, call, bulk, ledger);
  const writing = Symbol.asyncIterator in messages ? writer.gather(messages) : writer.write(messages);
  const written = writing.catch((error: unknown) => {
    call.cancel(error as Error); // the iterable's own error; the reader throws it
  });
  try {
    for (let response = await call.read(); response !== undefined; response = await call.read()) {
      bulk.parse(response).forEach((receipts) => {
        ledger.came(receipts);
      });
    }
    if (!writer.finished) {
      throw new Closed("the sidecar ended the call before everything was written");
    }
    return ledger.all();
  } finally {
    stop();
    call.cancel(new Closed("the call is over"));
    await written;
  }
}

/** The receipts, by the numbers that the app's messages have. The sidecar numbers those that were sent to it. */
class Ledger<Receipts extends Range> {
  readonly #bulk: Transfer<Receipts>;
  readonly #told: ((receipts: Receipts) => void) | undefined;
  readonly #ranges: Receipts[] = [];
  readonly #omitted: number[] = []; // for each message that was not sent: how many had been sent before it

  constructor(bulk: Transfer<Receipts>, told: ((receipts: Receipts) => void) | undefined) {
    this.#bulk = bulk;
    this.#told = told;
  }

  /** A message is not sent, since it would end the call for all others. */
  omit(sent: number, detail: string): void {
    const number = sent + this.#omitted.length;
    this.#omitted.push(sent);
    this.#add(this.#bulk.tooLarge(number, detail));
  }

  /** Receipts by the sidecar's numbers. */
  came(receipts: Receipts): void {
    if (this.#omitted.length === 0) {
      this.#add(receipts);
      return;
    }
    for (let offset = 0; offset < receipts.count;) {
      const number = receipts.first + offset;
      const before = this.#before(number);
      const count = Math.min(receipts.count - offset, (this.#omitted[before] ?? Infinity) - number);
      this.#add(this.#bulk.part(receipts, offset, number + before, count));
      offset += count;
    }
  }

  /** How many that were not sent come before one of the sidecar's numbers. */
  #before(number: number): number {
    let [low, high] = [0, this.#omitted.length];
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#omitted[middle]! > number) {
        high = middle;
      } else {
        low = middle + 1;
      }
    }
    return low;
  }

  #add(receipts: Receipts): void {
    this.#told?.(receipts);
    this.#append(this.#ranges, receipts);
  }

  #append(ranges: Receipts[], receipts: Receipts): void {
    const last = ranges.at(-1);
    if (last !== undefined && last.first + last.count === receipts.first && this.#bulk.same(last, receipts)) {
      ranges[ranges.length - 1] = { ...last, count: last.count + receipts.count };
    } else {
      ranges.push(receipts);
    }
  }

  /** All of them by number, as few as say it. */
  all(): Receipts[] {
    const ranges: Receipts[] = [];
    for (const receipts of this.#ranges.sort((one, other) => one.first - other.first)) {
      this.#append(ranges, receipts);
    }
    return ranges;
  }
}

class Writer<Receipts extends Range> {
  readonly #link: Link;
  readonly #call: Call;
  readonly #item: number;
  readonly #ledger: Ledger<Receipts>;
  #sent = 0;
  #head: Buffer;
  #batch: Outgoing[] = [];
  #size = 0;
  finished = false;

  constructor(link: Link, call: Call, { head, item }: Transfer<Receipts>, ledger: Ledger<Receipts>) {
    this.#link = link;
    this.#call = call;
    this.#head = head;
    this.#item = item;
    this.#ledger = ledger;
  }

  /** Full batches of what is there already. */
  async write(messages: Iterable<OutgoingMessage>): Promise<void> {
    await this.#link.learn(this.#call);
    for (const given of messages) {
      const message = outgoing(given);
      if (this.#omitted(message)) {
        await new Promise((resolve) => setImmediate(resolve)); // there may be no end of these
        if (this.#call.over) {
          return;
        }
        continue;
      }
      if (!this.#fits(message) && !(await this.#flush())) {
        return; // leaving the loop closes the iterator
      }
      this.#add(message);
    }
    await this.#finish();
  }

  /** What has come while the last batch was written; reads ahead of that by one batch at most. */
  async gather(messages: AsyncIterable<OutgoingMessage>): Promise<void> {
    await this.#link.learn(this.#call);
    const iterator = messages[Symbol.asyncIterator]();
    const ended = new Promise<undefined>((resolve) => {
      this.#call.onEnd(() => {
        resolve(undefined);
      });
    });
    let flushing: Promise<boolean> | undefined;
    const flush = () => {
      flushing ??= this.#flush().finally(() => {
        flushing = undefined;
        if (this.#batch.length > 0) {
          void flush();
        }
      });
      return flushing;
    };
    let exhausted = false;
    try {
      for (;;) {
        exhausted = true; // should it fail: then it is not closed either
        const step = iterator.next();
        const result = await Promise.race([step, ended]);
        exhausted = false;
        if (result === undefined) {
          step.catch(() => undefined); // nobody waits for it any more
          return;
        }
        if (result.done) {
          exhausted = true;
          break;
        }
        const message = outgoing(result.value);
        if (this.#omitted(message)) {
          continue;
        }
        while (!this.#fits(message) && !this.#call.over) {
          await flush();
        }
        this.#add(message);
        void flush();
      }
    } finally {
      if (!exhausted) {
        // Not waited for: it may be in the middle of a step for ever. Its own errors do not hide why it is let go.
        void (async () => iterator.return?.())().catch(() => undefined);
      }
    }
    while (flushing !== undefined) {
      await flushing;
    }
    await this.#finish();
  }

  /** Whether no request can hold it; then it has its receipt. */
  #omitted(message: Outgoing): boolean {
    const { frames } = this.#link;
    const omitted = message.data.length > frames.largest;
    if (omitted) {
      this.#ledger.omit(this.#sent, overBound(message.data.length, frames));
    }
    return omitted;
  }

  #fits(message: Outgoing): boolean {
    const { frames } = this.#link;
    const count = this.#batch.length;
    return count === 0 || (this.#size + message.data.length <= frames.size && count < frames.messages);
  }

  #add(message: Outgoing): void {
    this.#batch.push(message);
    this.#size += message.data.length;
    this.#sent += 1;
  }

  async #flush(): Promise<boolean> {
    const batch = encodeBatch(this.#head, this.#item, this.#batch);
    this.#head = NO_ID;
    this.#batch = [];
    this.#size = 0;
    return await this.#call.write(batch);
  }

  async #finish(): Promise<void> {
    if (this.#batch.length > 0 || this.#head.length > 0) {
      await this.#flush();
    }
    this.#call.halfClose();
    this.finished = true;
  }
}
