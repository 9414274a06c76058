/** Publishing and sending in bulk: batches out, receipts for ranges back. */

import type { Call } from "./call.js";
import { bytes } from "./convert.js";
import { Closed, InvalidArgument } from "./errors.js";
import type { Link } from "./link.js";
import type { CallOptions, OutgoingMessage } from "./types.js";
import { deadline, onAbort, PATIENCE } from "./waiting.js";
import { encodeBatch, type Outgoing } from "./wire.js";

/** The tag of PublishManyRequest.messages, field 5. */
export const PUBLISH_ITEM = 0x2a;
/** The tag of SendManyRequest.messages, field 3. */
export const SEND_ITEM = 0x1a;
/** Bytes of payload in a request; the sidecar takes 4 MiB. */
export const BATCH_BYTES = 262_144;
/** Messages in a request. */
export const BATCH_MESSAGES = 4096;
const MAX_REQUEST_ID = 64;
const NO_ID = Buffer.alloc(0);

/** The bytes of a request id. Throws InvalidArgument, so that one bad id does not end a batch. */
export function requestId(text: string | undefined): Buffer {
  if (!text) {
    return NO_ID;
  }
  const encoded = Buffer.from(text);
  if (encoded.length > MAX_REQUEST_ID) {
    throw new InvalidArgument(`request id of ${encoded.length} bytes, at most ${MAX_REQUEST_ID}`, {
      field: "request_id",
    });
  }
  return encoded;
}

function outgoing(message: OutgoingMessage): Outgoing {
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
  /** Whether both say the same, and may be told as one range. */
  same: (one: Receipts, other: Receipts) => boolean;
}

/** Write all messages to a bulk call; the receipts for all of them, as few ranges as say it. */
export async function transfer<Receipts extends Range>(
  link: Link,
  { path, head, item, parse, same }: Transfer<Receipts>,
  messages: Iterable<OutgoingMessage> | AsyncIterable<OutgoingMessage>,
  options: CallOptions & { onReceipts?: (receipts: Receipts) => void },
): Promise<Receipts[]> {
  const until = deadline(options);
  const { signal } = options;
  const channel = await link.ready(link.reconnect ? PATIENCE : 0, until, signal);
  const call = link.stream(channel, path, until);
  const stop = onAbort(signal, (reason) => {
    call.cancel(reason);
  });
  const writer = new Writer(call, head, item);
  const writing = Symbol.asyncIterator in messages ? writer.gather(messages) : writer.write(messages);
  const written = writing.catch((error: unknown) => {
    call.cancel(error as Error); // the iterable's own error; the reader throws it
  });
  try {
    const ranges: Receipts[] = [];
    for (let response = await call.read(); response !== undefined; response = await call.read()) {
      for (const receipts of parse(response)) {
        options.onReceipts?.(receipts);
        const last = ranges.at(-1);
        if (last !== undefined && last.first + last.count === receipts.first && same(last, receipts)) {
          ranges[ranges.length - 1] = { ...last, count: last.count + receipts.count };
        } else {
          ranges.push(receipts);
        }
      }
    }
    if (!writer.finished) {
      throw new Closed("the sidecar ended the call before everything was written");
    }
    return ranges.sort((one, other) => one.first - other.first);
  } finally {
    stop();
    call.cancel(new Closed("the call is over"));
    await written;
  }
}

class Writer {
  readonly #call: Call;
  readonly #item: number;
  #head: Buffer;
  #batch: Outgoing[] = [];
  #size = 0;
  finished = false;

  constructor(call: Call, head: Buffer, item: number) {
    this.#call = call;
    this.#head = head;
    this.#item = item;
  }

  /** Full batches of what is there already. */
  async write(messages: Iterable<OutgoingMessage>): Promise<void> {
    for (const given of messages) {
      const message = outgoing(given);
      if (!this.#fits(message) && !(await this.#flush())) {
        return; // leaving the loop closes the iterator
      }
      this.#add(message);
    }
    await this.#finish();
  }

  /** What has come while the last batch was written; reads ahead of that by one batch at most. */
  async gather(messages: AsyncIterable<OutgoingMessage>): Promise<void> {
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
        const step = iterator.next();
        const result = await Promise.race([step, ended]);
        if (result === undefined) {
          step.catch(() => undefined); // nobody waits for it any more
          return;
        }
        if (result.done) {
          exhausted = true;
          break;
        }
        const message = outgoing(result.value);
        while (!this.#fits(message) && !this.#call.over) {
          await flush();
        }
        this.#add(message);
        void flush();
      }
    } finally {
      if (!exhausted) {
        iterator.return?.().catch(() => undefined); // not waited for: it may be in the middle of a step for ever
      }
    }
    while (flushing !== undefined) {
      await flushing;
    }
    await this.#finish();
  }

  #fits(message: Outgoing): boolean {
    const count = this.#batch.length;
    return count === 0 || (this.#size + message.data.length <= BATCH_BYTES && count < BATCH_MESSAGES);
  }

  #add(message: Outgoing): void {
    this.#batch.push(message);
    this.#size += message.data.length;
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
